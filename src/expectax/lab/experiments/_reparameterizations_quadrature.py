"""From a density to all that is compared with it: distribution function, moments, E[f], ∂E[f]/∂θ.

All are sums over the nodes of one grid, in float64 NumPy: nothing here shares a line with the
samplers and derivatives that it judges. The rule is double-exponential (Takahasi & Mori, 1974),
which integrates heavy tails and singular ends alike.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

Params = Mapping[str, np.ndarray]
"""Every parameter by its symbol: a number, or a vector."""

Grid = tuple[Float[np.ndarray, "N ..."], Float[np.ndarray, "N"]]
"""Nodes, increasing where they are numbers, and weights."""

# at the ends of these nothing is left: |x| is 1e18, or x is 1e-18 from the end of an interval
_FINE = np.linspace(-4.0, 4.0, 2001)
_COARSE = np.linspace(-3.2, 3.2, 161)  # for each axis of a plane


def line(t: np.ndarray = _FINE) -> Grid:
    """All numbers."""
    s, slope = np.pi / 2 * np.sinh(t), np.pi / 2 * np.cosh(t)
    return np.sinh(s), (t[1] - t[0]) * slope * np.cosh(s)


def half_line(t: np.ndarray = _FINE) -> Grid:
    """Positive numbers."""
    x = np.exp(np.pi / 2 * np.sinh(t))
    return x, (t[1] - t[0]) * np.pi / 2 * np.cosh(t) * x


def kinked(center: Any) -> Grid:
    """The line in two halves, for a density with a kink at the center."""
    x, weight = half_line()
    return np.concatenate([center - x[::-1], center + x]), np.concatenate([weight[::-1], weight])


def interval(low: Any, high: Any) -> Grid:
    """Numbers from low to high."""
    x, _, weight = _unit()
    return low + (high - low) * x, (high - low) * weight


def circle(center: Any) -> Grid:
    """Angles, from center − π; equal steps are exact for what is smooth on a circle."""
    step = 2 * np.pi / 2048
    return center - np.pi + step * np.arange(2048), np.full(2048, step)


def plane() -> Grid:
    """Pairs of numbers."""
    x, weight = line(_COARSE)
    pairs = np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1)
    return pairs.reshape(-1, 2), np.outer(weight, weight).ravel()


def simplex() -> Grid:
    """Three shares (u, (1 − u) v, (1 − u)(1 − v)); their area is (1 − u) du dv."""
    u, rest, weight = _unit(_COARSE)
    parts = np.broadcast_arrays(u[:, None], np.outer(rest, u), np.outer(rest, rest))
    return np.stack(parts, axis=-1).reshape(-1, 3), np.outer(weight * rest, weight).ravel()


def _unit(t: np.ndarray = _FINE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From 0 to 1: x, and 1 − x to all its digits, and weights."""
    s = np.pi * np.sinh(t)
    x, rest = 1 / (1 + np.exp(-s)), 1 / (1 + np.exp(s))
    return x, rest, (t[1] - t[0]) * np.pi * np.cosh(t) * x * rest


def log_cost(x: Any, xp: Any) -> Any:
    """f(x) = log(1 + (x − ½)²), of arrays of the module xp: smooth, and slow in the tails.

    No law of the table is symmetric about ½, so no derivative is zero by luck.
    """
    return xp.log1p((x - 0.5) ** 2)


def vector_cost(x: Any, xp: Any) -> Any:
    """f(x) = log(1 + Σ (x − ½)²) over the last axis."""
    return xp.log1p(xp.sum((x - 0.5) ** 2, axis=-1))


def angle_cost(x: Any, xp: Any) -> Any:
    """f(sin x), which does not jump where the circle is cut."""
    return log_cost(xp.sin(x), xp)


@dataclasses.dataclass(frozen=True)
class Marginal:
    """A number made of a draw, and its law.

    Attributes:
        name: as in the table.
        of: from draws to numbers.
        law: of the numbers.
    """

    name: str
    of: Callable[[np.ndarray], np.ndarray]
    law: "Law"


@dataclasses.dataclass(frozen=True, eq=False)
class Law:
    """A law with given parameters.

    Attributes:
        name: what the table calls it.
        params: at which it is drawn.
        density: of points, for parameters; its total is 1.
        grid: for parameters, nodes over all points.
        cost: f(x, xp), for arrays of the module xp.
        moments: how many can be told from draws: a mean needs a variance, and that a fourth moment.
        labels: of the parameters' entries, in order, where they are not their symbols.
        numbers: of a law of vectors or angles, the numbers whose laws are known.
        continuous: whether it has no atoms, and so a distribution function to compare.
    """

    name: str
    params: Params
    density: Callable[[np.ndarray, Params], np.ndarray]
    grid: Callable[[Params], Grid]
    cost: Callable[[Any, Any], Any] = log_cost
    moments: int = 2
    labels: tuple[str, ...] = ()
    numbers: tuple[Marginal, ...] = ()
    continuous: bool = True

    @property
    def marginals(self) -> tuple[Marginal, ...]:
        """Numbers whose laws are compared: those listed, or the draw itself."""
        return self.numbers or (Marginal("x", np.asarray, self),)

    @property
    def entries(self) -> tuple[str, ...]:
        """The names of all scalar parameters, in the order of `gradient`."""
        if self.labels:
            return self.labels
        names = lambda k, v: [k] if v.ndim == 0 else [f"{k}{'₁₂₃₄'[i]}" for i in range(len(v))]
        return tuple(name for k, v in self.params.items() for name in names(k, v))

    def expectation(self, g: Callable[[np.ndarray], np.ndarray], params: Params) -> float:
        """E[g] at these parameters."""
        x, weight = self.grid(params)
        return float(np.sum(weight * self.density(x, params) * g(x)))

    def value(self, params: Params) -> float:
        """E[f] at these parameters."""
        return self.expectation(lambda x: self.cost(x, np), params)

    @functools.cached_property
    def mean(self) -> float:
        """Of numbers."""
        return self.expectation(lambda x: x, self.params)

    @functools.cached_property
    def variance(self) -> float:
        """Of numbers."""
        return self.expectation(lambda x: (x - self.mean) ** 2, self.params)

    @functools.cached_property
    def gradient(self) -> Float[np.ndarray, "P"]:
        """∂E[f]/∂ every entry of the parameters: central differences, right to O(h⁴)."""
        counts = {name: value.size for name, value in self.params.items()}
        return np.array([self._slope(k, i) for k, size in counts.items() for i in range(size)])

    @property
    def scales(self) -> Float[np.ndarray, "P"]:
        """For each entry of the gradient the largest of its parameter."""
        sizes = [value.size for value in self.params.values()]
        parts = np.split(np.abs(self.gradient), np.cumsum(sizes)[:-1])
        return np.concatenate([np.full(len(part), part.max()) for part in parts])

    def _slope(self, name: str, i: int, h: float = 2e-3) -> float:
        def at(step: float) -> float:
            moved = np.array(self.params[name])
            moved.flat[i] += step
            return self.value({**self.params, name: moved})

        return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)

    @functools.cached_property
    def _cumulative(self) -> Grid:
        x, weight = self.grid(self.params)
        mass = weight * self.density(x, self.params)
        return x, np.cumsum(mass) - mass / 2

    def cdf(self, x: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
        """The distribution function of numbers, to about 1e-5: the grid's steps are that fine."""
        nodes, below = self._cumulative
        return np.interp(x, nodes, below, left=0.0, right=1.0)

    def quantiles(self, *shares: float) -> Float[np.ndarray, "Q"]:
        """Of numbers: below each this share of the law lies."""
        nodes, below = self._cumulative
        return np.interp(shares, below, nodes)


def kolmogorov(distance: float, num: int) -> float:
    """The chance of a greater distance between an empirical distribution function and its own.

    The limit law, with Stephens' (1970) correction for finite `num`.
    """
    root = math.sqrt(num)
    size = (root + 0.12 + 0.11 / root) * distance
    if size < 0.25:
        return 1.0  # to all digits, where the series is slow
    terms = [(-1) ** (k - 1) * math.exp(-2 * (k * size) ** 2) for k in range(1, 40)]
    return min(1.0, 2 * math.fsum(terms))
