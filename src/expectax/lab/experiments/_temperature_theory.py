"""Mean and variance of relaxed gradients on three categories, by quadrature.

A relaxed draw is y = softmax(x), x = (θ + γ)/τ. Where category k is the largest, let
s_i = x_k − x_i ≥ 0 for the other two. e^{−γ} is an exponential of rate one, so with
w_i = p_i e^{τ s_i} and w_k = p_k the density of s is 2 τ² Π w / (Σ w)³; its integral over the
quadrant is p_k. Inside a quadrant everything is smooth, the hard draw included; between them the
hard draw jumps.

With a = f' at the relaxed draw, or (straight-through) at the hard one, the gradient in the logits
is y_j (a_j − a·y) / τ.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

PROBABILITIES = np.array([0.5, 0.3, 0.2])
WEIGHTS = np.array([1.0, -0.6, 0.3])

Points = Float[np.ndarray, "N 3"]


def slope(y: Points) -> Points:
    """The slope of f(y) = (c·y)³."""
    return 3 * (y @ WEIGHTS)[..., None] ** 2 * WEIGHTS


def exact_gradient() -> Float[np.ndarray, "3"]:
    """∂E[f]/∂θ by enumeration: p_k (f_k − E[f])."""
    costs = WEIGHTS**3
    return PROBABILITIES * (costs - PROBABILITIES @ costs)


def relaxed_gradient(y: Points, hard: Points, temperature: float) -> Points:
    """Gumbel-Softmax: the slope at the relaxed draw."""
    del hard
    return _pull(slope(y), y, temperature)


def straight_through_gradient(y: Points, hard: Points, temperature: float) -> Points:
    """Straight-through Gumbel-Softmax: the slope at the hard draw."""
    return _pull(slope(hard), y, temperature)


def _pull(a: Points, y: Points, temperature: float) -> Points:
    return y * (a - np.sum(a * y, axis=-1, keepdims=True)) / temperature


Gradient = Callable[[Points, Points, float], Points]


def moments(
    gradient: Gradient, temperature: float
) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Mean and variance of a gradient at a temperature."""
    y, hard, mass = quadrature(temperature)
    g = gradient(y, hard, temperature)
    mean = mass @ g
    return mean, mass @ g**2 - mean**2


def quadrature(
    temperature: float, nodes: int = 16
) -> tuple[Points, Points, Float[np.ndarray, "N"]]:
    """Relaxed draws, their hard draws, and masses that sum to one.

    Gauss–Legendre on panels that double in width, from the finer of the two scales in s (1 of the
    softmax, 1/τ of the density) to where the density is gone.

    Arguments:
        temperature: τ.
        nodes: of the rule in each panel.
    """
    finest, last = 0.5 * min(1.0, 1.0 / temperature), 45.0 / temperature
    doublings = int(np.ceil(np.log2(last / finest)))
    edges = np.append(0.0, finest * 2.0 ** np.arange(doublings + 1))
    x, weight = np.polynomial.legendre.leggauss(nodes)
    half = np.diff(edges)[:, None] / 2
    s = (edges[:-1, None] + half * (x + 1)).ravel()
    weight = (half * weight).ravel()
    grid = np.stack(np.meshgrid(s, s, indexing="ij"), axis=-1).reshape(-1, 2)
    area = np.outer(weight, weight).ravel()
    relaxed, hard, masses = [], [], []
    for k in range(3):
        below = np.insert(grid, k, 0.0, axis=1)  # x_k − x_i
        unscaled = np.exp(-below)
        relaxed.append(unscaled / unscaled.sum(axis=1, keepdims=True))
        hard.append(np.broadcast_to(np.eye(3)[k], below.shape))
        log_w = np.log(PROBABILITIES) + temperature * below
        top = log_w.max(axis=1)
        log_sum = top + np.log(np.sum(np.exp(log_w - top[:, None]), axis=1))
        masses.append(area * 2 * temperature**2 * np.exp(log_w.sum(axis=1) - 3 * log_sum))
    return np.concatenate(relaxed), np.concatenate(hard), np.concatenate(masses)


def score_moments(num_samples: int) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Mean and variance of the score function (one draw) or leave-one-out (two), by enumeration."""
    costs, scores = WEIGHTS**3, np.eye(3) - PROBABILITIES
    if num_samples == 1:
        g, mass = costs[:, None] * scores, PROBABILITIES
    else:
        g = 0.5 * (costs[:, None] - costs)[..., None] * (scores[:, None] - scores)
        g, mass = g.reshape(-1, 3), np.outer(PROBABILITIES, PROBABILITIES).ravel()
    mean = mass @ g
    return mean, mass @ g**2 - mean**2
