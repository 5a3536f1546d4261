"""What can be derived for one bit: the optimum, variances, and where biased estimators stop."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from ._one_bit_contenders import TEMPERATURE

Probability = Float[np.ndarray, "..."]


def optimum(target: float) -> float:
    """The least loss: the better of b = 0 and b = 1.

    Example:
        >>> round(optimum(0.45), 6)
        0.2025
    """
    return min(target**2, (1.0 - target) ** 2)


def gain(target: float) -> float:
    """f(worse bit) − f(better bit) = |1 − 2t|: what the loss is above its least, per unit of
    P(the wrong bit)."""
    return abs(1.0 - 2.0 * target)


def _leave_one_out(p: Probability, delta: float) -> Probability:
    return delta**2 * p * (1 - p) / 2


def _arm(p: Probability, delta: float) -> Probability:
    larger = np.maximum(p, 1 - p)
    return delta**2 * (2 / 3) * (1 / 8 - (larger - 0.5) ** 3)


def _disarm(p: Probability, delta: float) -> Probability:
    larger = np.maximum(p, 1 - p)
    return delta**2 * larger**2 * (1 - larger) / 2


SECOND_MOMENTS: dict[str, Callable[[Probability, float], Probability]] = {
    "LeaveOneOut(2)": _leave_one_out,
    "ARM": _arm,
    "DisARM": _disarm,
}
"""E[g²] from p and Δ = 1 − 2t, with m = max(p, 1 − p).

Two independent draws differ with probability 2 p (1 − p), and then leave-one-out gives Δ/2. An
antithetic pair differs with probability 2 (1 − m), and then DisARM gives Δ m/2, and ARM Δ |u − ½|
with |u − ½| uniform from m − ½ to ½.
"""


def variance(name: str, p: Probability, target: float) -> Probability:
    """The variance of the gradient, E[g²] − (p (1 − p) Δ)²."""
    delta = 1.0 - 2.0 * target
    return SECOND_MOMENTS[name](p, delta) - (p * (1 - p) * delta) ** 2


def resting_place(name: str, target: float, points: int = 40_000) -> float:
    """P(b = 1) where the mean gradient of a biased estimator vanishes.

    By quadrature over the uniform behind the logistic noise, and bisection in the logit.

    Arguments:
        name: of one of the contenders in `RESTS`.
        target: t.
        points: of the quadrature.
    """
    u = (np.arange(points) + 0.5) / points
    noise = np.log(u / (1 - u))
    low, high = -4.0, 4.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        if RESTS[name](middle, noise, target) > 0:
            high = middle
        else:
            low = middle
    return 1.0 / (1.0 + math.exp(-low))


def _relaxed_slope(z: Float[np.ndarray, "N"]) -> tuple[Probability, Probability]:
    relaxed = 1.0 / (1.0 + np.exp(-z / TEMPERATURE))
    return relaxed, relaxed * (1 - relaxed) / TEMPERATURE


def _gumbel_softmax(logit: float, noise: Float[np.ndarray, "N"], target: float) -> float:
    relaxed, slope = _relaxed_slope(logit + noise)
    return float(np.mean(2 * (relaxed - target) * slope))


def _straight_through_gumbel(logit: float, noise: Float[np.ndarray, "N"], target: float) -> float:
    _, slope = _relaxed_slope(logit + noise)
    return float(np.mean(2 * ((logit + noise > 0) - target) * slope))


def _straight_through(logit: float, noise: Float[np.ndarray, "N"], target: float) -> float:
    del noise  # E[2 (b − t)] p (1 − p) has its zero at p = t
    p = 1.0 / (1.0 + math.exp(-logit))
    return 2 * (p - target) * p * (1 - p)


RESTS: dict[str, Callable[[float, Float[np.ndarray, "N"], float], float]] = {
    "GumbelSoftmax": _gumbel_softmax,
    "StraightThroughGumbelSoftmax": _straight_through_gumbel,
    "StraightThrough": _straight_through,
}
"""The mean gradient, from logit, noise and t, of the estimators whose bias gives them another
minimum. `DirectArgmax` is biased, but its mean gradient (σ(θ + εΔ) − σ(θ))/ε never changes sign."""
