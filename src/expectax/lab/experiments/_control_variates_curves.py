"""The estimators of the control-variates experiment, with means and variances in closed form.

`ratio` is the variance over that of plain Monte Carlo with as many evaluations of f.

- *Gaussian pair*, f = X and h = Y standard with correlation ρ: f − c h has variance 1 − 2cρ + c²,
  least at c* = ρ. With c* from the same n draws the variance gains (n − 2)/(n − 3), and no bias,
  because E[X | Y] is linear. E[X | Y] = ρY itself has variance ρ².
- *c\\* from the same draws*, f = Y², h = Y, so that c* = 0. With d_i = h_i − h̄, ĉ = T + 2h̄ where
  T = Σd³/Σd², and f̄ − ĉh̄ = mean d² − h̄² − h̄T. As h̄ is independent of d, its mean is
  1 − 2/n. E[T²] = E Σd² · E[(Σu³)²], u = d/|d|, and E[(Σd³)²] = 6 (n − 1)(n − 2)/n gives the
  variance 2/n + 6 (n − 1)(n − 2) / (n² (n + 1)(n + 3)). Where ĉ leaves the own draw out it is
  independent of h_i, whose mean is zero: no bias.
- *Antithetic*, f(Z) and f(−Z): 1 + corr. For e^{aZ} the correlation is −e^{−a²}; for Z² it is 1.
- *Strata* of width w = 1/n on U, f = U²: a stratum around m has variance m²w²/3 + w⁴/180, and
  Σm² = n/3 − 1/(12n). Systematic, one uniform for all strata: wv + w²v², v uniform within ±½.
- *Common random numbers*, g(Z + δ) − g(Z − δ): 4δZ for g = z², a coin of chance q = 2Φ(δ) − 1 for
  g = 1[z > 0].
- *Rao–Blackwell* on bits: the score function b − p with its own bit summed out, by enumeration.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Float

import expectax as ex

from ..._expect import expect

Values = Float[np.ndarray, "R"]
Draw = Callable[[np.random.Generator, float, int], Values]
Figure = Callable[[float], float]

NUM = 10
"""Draws of the Gaussian pair."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """An estimator over a parameter.

    Attributes:
        panel: which picture it stands in.
        name: in table and picture.
        draw: (generator, parameter, replications) to estimates.
        ratio: the derived variance ratio; None where there is no closed form.
        plain: the variance of plain Monte Carlo with as many evaluations.
        points: parameters at which it is measured.
        shown: those of them in the table.
        truth: what is estimated.
        bias: the derived bias.
    """

    panel: str
    name: str
    draw: Draw
    ratio: Figure | None
    plain: Figure
    points: tuple[float, ...]
    shown: tuple[float, ...]
    truth: Figure = lambda _: 0.0
    bias: Figure = lambda _: 0.0


def pair(
    rng: np.random.Generator, rho: float, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """X and Y, standard normal with correlation ρ."""
    y, noise = rng.standard_normal((2, *shape))
    return rho * y + math.sqrt(1 - rho**2) * noise, y


def regression(f: np.ndarray, h: np.ndarray, leave_one_out: bool) -> Values:
    """mean_i (f_i − ĉ h_i), E[h] = 0, with ĉ = S_fh / S_hh from all draws or all but the own.

    Arguments:
        f, h: shape (replications, n).
        leave_one_out: whether ĉ_i leaves out draw i.
    """
    if not leave_one_out:
        d = h - h.mean(axis=1, keepdims=True)
        c = np.sum(d * f, axis=1, keepdims=True) / np.sum(d**2, axis=1, keepdims=True)
        return np.mean(f - c * h, axis=1)
    m = h.shape[1] - 1
    without = lambda x: np.sum(x, axis=1, keepdims=True) - x
    cross = without(h * f) - without(h) * without(f) / m
    square = without(h**2) - without(h) ** 2 / m
    return np.mean(f - cross / square * h, axis=1)


def _fixed(c: Figure) -> Draw:
    def draw(rng: np.random.Generator, rho: float, num: int) -> Values:
        f, h = pair(rng, rho, (num, NUM))
        return np.mean(f - c(rho) * h, axis=1)

    return draw


def _estimated(leave_one_out: bool) -> Draw:
    def draw(rng: np.random.Generator, rho: float, num: int) -> Values:
        f, h = pair(rng, rho, (num, NUM))
        return regression(f, h, leave_one_out)

    return draw


def _squares(leave_one_out: bool) -> Draw:
    def draw(rng: np.random.Generator, n: float, num: int) -> Values:
        h = rng.standard_normal((num, int(n)))
        return regression(h**2, h, leave_one_out)

    return draw


def _conditional(rng: np.random.Generator, rho: float, num: int) -> Values:
    return np.mean(rho * pair(rng, rho, (num, NUM))[1], axis=1)


def _antithetic(f: Callable[[np.ndarray, float], np.ndarray]) -> Draw:
    def draw(rng: np.random.Generator, a: float, num: int) -> Values:
        z = rng.standard_normal(num)
        return 0.5 * (f(z, a) + f(-z, a))

    return draw


def _strata(num_uniforms: Callable[[int], int]) -> Draw:
    """mean of U² with one draw in each of n strata, from n uniforms or from one."""

    def draw(rng: np.random.Generator, n: float, num: int) -> Values:
        within = rng.random((num, num_uniforms(int(n))))
        return np.mean(((np.arange(int(n)) + within) / n) ** 2, axis=1)

    return draw


def _common(g: Callable[[np.ndarray], np.ndarray]) -> Draw:
    def draw(rng: np.random.Generator, delta: float, num: int) -> Values:
        z = rng.standard_normal(num)
        return g(z + delta) - g(z - delta)

    return draw


def below(x: float) -> float:
    """Φ(x)."""
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def _coin_ratio(delta: float) -> float:
    q = 2 * below(delta) - 1
    return q * (1 - q) / _coin_plain(delta)


def _coin_plain(delta: float) -> float:
    return 2 * below(delta) * below(-delta)


LEVEL = 0.2


def bit_logits(num_bits: int) -> np.ndarray:
    """Log-odds of the bits of the Rao–Blackwell panel."""
    return np.linspace(-1.0, 1.0, num_bits)


def bit_variances(num_bits: int) -> tuple[np.ndarray, float, float]:
    """The gradient of E[(mean b − t)²], and the total variances of score and summed-out score."""
    p = 1 / (1 + np.exp(-bit_logits(num_bits)))
    b = np.array(list(itertools.product((0.0, 1.0), repeat=num_bits)))
    chance = np.prod(np.where(b == 1, p, 1 - p), axis=1)
    f = lambda b: (b.mean(axis=-1) - LEVEL) ** 2
    score = f(b)[:, None] * (b - p)
    eye = np.eye(num_bits, dtype=bool)
    one, zero = (np.where(eye, value, b[:, None]) for value in (1.0, 0.0))
    summed = p * (1 - p) * (f(one) - f(zero))
    mean = chance @ score
    total = lambda g: float(np.sum(chance @ (g - mean) ** 2))
    return mean, total(score), total(summed)


def _summed_out(rng: np.random.Generator, num_bits: float, num: int) -> Values:
    """The distance of each gradient from the exact one; by `LocalExpectation`."""
    size = int(num_bits)
    mean = jnp.asarray(bit_variances(size)[0])

    @jax.jit
    def distances(logits, keys):
        def loss(logits, key):
            q = dist.Bernoulli(logits=logits).to_event(1)
            f = lambda b: (b.mean(axis=-1) - LEVEL) ** 2
            return expect(key, q, f, ex.LocalExpectation())

        gradients = jax.vmap(jax.grad(loss), (None, 0))(logits, keys)
        return jnp.sqrt(jnp.sum((gradients - mean) ** 2, axis=-1))

    keys = jax.random.split(jax.random.key(int(rng.integers(2**31))), num)
    return np.asarray(distances(jnp.asarray(bit_logits(size)), keys), np.float64)


PAIR, SAME, ANTITHETIC, STRATA, COMMON, BLACKWELL = (
    f"Gaussian pair, {NUM} draws",
    "c* from the draws themselves, f = Y², h = Y",
    "antithetic pair",
    "strata, f = U²",
    "common random numbers, g(Z + δ) − g(Z − δ)",
    "Rao–Blackwell: score function, own bit summed out",
)
_RHO = ((0.0, 0.3, 0.5, 0.7, 0.9, 0.99), (0.3, 0.9))
_SIZES = ((5.0, 10.0, 20.0, 50.0), (5.0, 20.0))
# beyond these the square of cosh(aZ) has too heavy a tail to measure its mean
_RATES = ((0.05, 0.2, 0.3, 0.45, 0.6, 0.75), (0.3, 0.75))
_STRATA = ((1.0, 2.0, 4.0, 8.0, 16.0, 32.0), (2.0, 8.0))
_STEPS = ((0.01, 0.03, 0.1, 0.3, 1.0), (0.1, 1.0))
_BITS = ((2.0, 4.0, 8.0), (2.0, 8.0))

CURVES = (
    Curve(PAIR, "plain", _fixed(lambda _: 0.0), lambda _: 1.0, lambda _: 1 / NUM, *_RHO),
    Curve(
        PAIR,
        "difference, c = 1",
        _fixed(lambda _: 1.0),
        lambda r: 2 - 2 * r,
        lambda _: 1 / NUM,
        *_RHO,
    ),
    Curve(
        PAIR,
        "regression, c* = ρ",
        _fixed(lambda r: r),
        lambda r: 1 - r**2,
        lambda _: 1 / NUM,
        *_RHO,
    ),
    Curve(
        PAIR,
        "c* from the same draws",
        _estimated(leave_one_out=False),
        lambda r: (1 - r**2) * (NUM - 2) / (NUM - 3),
        lambda _: 1 / NUM,
        *_RHO,
    ),
    Curve(PAIR, "E[X | Y]", _conditional, lambda r: r**2, lambda _: 1 / NUM, *_RHO),
    Curve(
        SAME,
        "the same draws",
        _squares(leave_one_out=False),
        lambda n: 1 + 3 * (n - 1) * (n - 2) / (n * (n + 1) * (n + 3)),
        lambda n: 2 / n,
        *_SIZES,
        truth=lambda _: 1.0,
        bias=lambda n: -2 / n,
    ),
    Curve(
        SAME,
        "the other draws",
        _squares(leave_one_out=True),
        None,
        lambda n: 2 / n,
        *_SIZES,
        truth=lambda _: 1.0,
    ),
    Curve(
        ANTITHETIC,
        "exp(aZ)",
        _antithetic(lambda z, a: np.exp(a * z)),
        lambda a: 1 - math.exp(-(a**2)),
        lambda a: (math.exp(2 * a**2) - math.exp(a**2)) / 2,
        *_RATES,
        truth=lambda a: math.exp(a**2 / 2),
    ),
    Curve(
        ANTITHETIC,
        "(aZ)²",
        _antithetic(lambda z, a: (a * z) ** 2),
        lambda _: 2.0,
        lambda a: a**4,
        *_RATES,
        truth=lambda a: a**2,
    ),
    Curve(
        STRATA,
        "stratified",
        _strata(lambda n: n),
        lambda n: 5 / (4 * n**2) - 1 / (4 * n**4),
        lambda n: 4 / (45 * n),
        *_STRATA,
        truth=lambda _: 1 / 3,
    ),
    Curve(
        STRATA,
        "systematic",
        _strata(lambda _: 1),
        lambda n: 15 / (16 * n) + 1 / (16 * n**3),
        lambda n: 4 / (45 * n),
        *_STRATA,
        truth=lambda _: 1 / 3,
    ),
    Curve(
        COMMON,
        "g = z²",
        _common(lambda z: z**2),
        lambda d: 4 * d**2 / (1 + 2 * d**2),
        lambda d: 4 + 8 * d**2,
        *_STEPS,
    ),
    Curve(
        COMMON,
        "g a step at 0",
        _common(lambda z: 1.0 * (z > 0)),
        _coin_ratio,
        _coin_plain,
        *_STEPS,
        truth=lambda d: 2 * below(d) - 1,
    ),
    Curve(
        BLACKWELL,
        "LocalExpectation",
        _summed_out,
        lambda n: bit_variances(int(n))[2] / bit_variances(int(n))[1],
        lambda n: bit_variances(int(n))[1],
        *_BITS,
    ),
)
