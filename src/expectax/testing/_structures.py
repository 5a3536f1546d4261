"""Problems over structures of greatest perturbed score, of kinds whose law is known.

Functions, so that importing costs nothing. The maximum of Gumbels with locations a is a Gumbel with
location log Σ exp a, independent of which one it is; the difference of two Gumbels is logistic. So
two sums of two Gumbels are compared by the sum of two logistics, and the best spanning tree, which
depends on the order of the scores alone, by draws without replacement.
"""

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..distributions import (
    AssignmentSolver,
    ChainSolver,
    PairwiseSolver,
    PerturbAndMAP,
    SpanningTreeSolver,
)
from ._problems import Problem
from ._sets import listed

_T, _W = np.polynomial.legendre.leggauss(48)
_NODES = 15 / 16 * (2 * _T - 4 / 3 * _T**3 + 2 / 5 * _T**5)  # flat at ±1
_WEIGHTS = 15 / 8 * (1 - _T**2) ** 2 * _W
_ALMOST = 1 - 2.0**-53  # the largest number below one


@functools.cache
def chain() -> Problem:
    """Paths through three steps of two states; one with a forbidden transition."""
    logits = np.array(
        [
            [[[0.5, -0.3], [0.2, 0.9]], [[-0.6, 0.4], [0.0, 0.7]]],
            [[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]],
            [[[0.3, -np.inf], [-0.2, 0.8]], [[0.1, -0.9], [0.6, 0.0]]],
        ]
    )
    states = list(itertools.product(range(2), repeat=3))
    hot = np.eye(2)
    draws = {
        s: np.stack([np.outer(hot[i], hot[j]) for i, j in itertools.pairwise(s)]) for s in states
    }

    def probability(x: Array, path: tuple[int, ...]) -> Array:
        i, mid, j = path
        first, second = x[..., 0, :, :], x[..., 1, :, :]
        lead = jax.nn.logsumexp(first, axis=-2) + jax.nn.logsumexp(second, axis=-1)
        ends = jax.nn.softmax(first, axis=-2)[..., i, mid] * jax.nn.softmax(second)[..., mid, j]
        return _two_logistics(lead[..., mid] - lead[..., 1 - mid]) * ends

    def plain(w: np.ndarray, path: tuple[int, ...]) -> float:
        i, mid, j = path
        lead = [w[0, :, s].sum() * w[1, s, :].sum() for s in range(2)]
        ends = w[0, i, mid] / w[0, :, mid].sum() * w[1, mid, j] / w[1, mid, :].sum()
        return _plain_two_logistics(math.log(lead[mid] / lead[1 - mid])) * ends

    make_q = lambda x: PerturbAndMAP(x, ChainSolver())
    return listed("chain", logits, make_q, draws, probability, plain, seed=61)


@functools.cache
def assignment() -> Problem:
    """Two rows to two columns."""
    logits = np.array(
        [[[0.9, -0.4], [0.2, -1.1]], [[0.0, 0.0], [0.0, 0.0]], [[0.4, 1.2], [2, 0.3]]]
    )
    draws = {0: np.eye(2), 1: np.eye(2)[::-1]}

    def probability(x: Array, which: int) -> Array:
        lead = x[..., 0, 0] + x[..., 1, 1] - x[..., 0, 1] - x[..., 1, 0]
        return _two_logistics(lead if which == 0 else -lead)

    def plain(w: np.ndarray, which: int) -> float:
        lead = math.log(w[0, 0] * w[1, 1] / (w[0, 1] * w[1, 0]))
        return _plain_two_logistics(lead if which == 0 else -lead)

    make_q = lambda x: PerturbAndMAP(x, AssignmentSolver())
    return listed("assignment", logits, make_q, draws, probability, plain, seed=62)


@functools.cache
def spanning_tree() -> Problem:
    """The trees over four nodes; one with a forbidden edge."""
    nodes = range(4)
    edges = list(itertools.combinations(nodes, 2))
    logits = np.zeros((3, 4, 4))
    logits[0][tuple(zip(*edges, strict=True))] = [0.5, -0.3, 0.8, -1.0, 0.2, 0.0]
    logits[2][tuple(zip(*edges, strict=True))] = [0.4, -np.inf, -0.7, 0.9, 0.1, -0.2]
    draws = {}
    for tree in itertools.combinations(edges, 3):
        if _kruskal(tree) == set(tree):
            draws[tree] = np.zeros((4, 4))
            draws[tree][tuple(zip(*tree, strict=True))] = 1

    def open_edges(order: tuple[tuple[int, int], ...]) -> list[np.ndarray]:
        """Before each edge of an order is taken, which ones connect two parts of what there is."""
        part, found = np.arange(4), []
        for i, j in order:
            found.append(np.triu(part[:, None] != part, 1))
            part = np.where(part == part[j], part[i], part)
        return found

    def probability(x: Array, tree: tuple[tuple[int, int], ...]) -> Array:
        """Each edge is the best of those that are open, in whatever order."""
        orders = list(itertools.permutations(tree))
        rows, columns = np.moveaxis(np.array(orders), -1, 0)
        masks = np.array([open_edges(order) for order in orders], float)
        w = jnp.exp(x)
        left = jnp.einsum("...ij,okij->...ok", w, masks)
        return jnp.sum(jnp.prod(w[..., rows, columns] / left, axis=-1), axis=-1)

    @functools.cache
    def by_tree(weights: tuple[float, ...]) -> dict[Any, float]:
        """The order of all edges, drawn without replacement, and the tree that it makes."""
        w, out = dict(zip(edges, weights, strict=True)), {}
        for order in itertools.permutations(edges):
            p = 1.0
            for place in range(6):
                left = sum(w[e] for e in order[place:])
                p *= w[order[place]] / left if left else 1.0 / (6 - place)
            tree = tuple(sorted(_kruskal(order)))
            out[tree] = out.get(tree, 0.0) + p
        return out

    def plain(w: np.ndarray, tree: tuple[tuple[int, int], ...]) -> float:
        return by_tree(tuple(w[e] for e in edges)).get(tree, 0.0)

    make_q = lambda x: PerturbAndMAP(x, SpanningTreeSolver())
    return listed("spanning_tree", logits, make_q, draws, probability, plain, seed=63)


def _kruskal(order: Any) -> set[tuple[int, int]]:
    """The edges that connect two parts when they come in this order."""
    part, kept = list(range(4)), set()
    for i, j in order:
        if part[i] != part[j]:
            kept.add((i, j))
            part = [part[i] if x == part[j] else x for x in part]
    return kept


@functools.cache
def pairwise() -> Problem:
    """Two bits that like, or dislike, to be one together."""
    logits = np.array(
        [[[0.6, -0.9], [0.0, 0.3]], [[0.0, 0.0], [0.0, 0.0]], [[-0.5, 1.4], [0.0, -0.2]]]
    )
    bits = list(itertools.product(range(2), repeat=2))
    draws = {b: np.triu(np.outer(b, b)).astype(float) for b in bits}

    def probability(x: Array, b: tuple[int, ...]) -> Array:
        """Over the noise of the first bit and of the pair; that of the second in closed form."""
        one, two, both = x[..., 0, 0], x[..., 1, 1], x[..., 0, 1]
        total = jnp.zeros(x.shape[:-2])
        for first in (False, True):  # the sign of the first's score, and of its score with the pair
            for pair in (False, True):
                u, du = _piece(-one, first)
                z = one[..., None] + _gumbel(u)
                v, dv = _piece(-both[..., None] - z, pair)
                together = z[..., None] + both[..., None, None] + _gumbel(v)
                z, du = z[..., None], du[..., None]
                # the second bit is one where z_2 > max(0, z_1) − max(0, z_1 + z_12)
                least = (z if first else 0.0) - (together if pair else 0.0)
                p_two = -jnp.expm1(-jnp.exp(two[..., None, None] - least))
                p_here = p_two if b[1] else 1 - p_two
                if b[0] == (pair if b[1] else first):
                    total = total + jnp.sum(p_here * du * dv, axis=(-2, -1))
        return total

    def plain(w: np.ndarray, b: tuple[int, ...]) -> float:
        """Over the noise of both bits; that of the pair in closed form."""
        one, two, both = np.log(w[0, 0]), np.log(w[1, 1]), np.log(w[0, 1])
        cdf = lambda x: np.exp(-np.exp(-x))
        total = 0.0
        for lo1, hi1 in ((0.0, cdf(-one)), (cdf(-one), 1.0)):
            for u, du in _plain_nodes(lo1, hi1):
                z1 = one - np.log(-np.log(u))
                cuts = sorted({0.0, cdf(-two), cdf(max(z1, 0.0) - two), 1.0})
                for lo2, hi2 in itertools.pairwise(cuts):
                    for v, dv in _plain_nodes(lo2, hi2):
                        z2 = two - np.log(-np.log(v))
                        best = max(0.0, z1, z2)
                        p_both = -np.expm1(-np.exp(both - (best - z1 - z2)))
                        alone = (int(best == z1), int(best == z2))
                        p = p_both if b == (1, 1) else (1 - p_both) * (alone == b)
                        total += du * dv * p
        return float(total)

    make_q = lambda x: PerturbAndMAP(x, PairwiseSolver())
    return listed("pairwise", logits, make_q, draws, probability, plain, seed=64)


def _gumbel(u: Array) -> Array:
    return -jnp.log(-jnp.log(u))


def _piece(cut: Array, above: bool) -> tuple[Array, Array]:
    """Nodes and weights, in the noise's probability, where the noise is above `cut`, or below."""
    at = jnp.exp(-jnp.exp(-cut))[..., None]
    low, high = (at, 1.0) if above else (0.0, at)
    half = (high - low) / 2
    return jnp.minimum(low + half * (1 + _NODES), _ALMOST), jnp.asarray(half * _WEIGHTS)


def _plain_nodes(low: float, high: float) -> list[tuple[float, float]]:
    half = (high - low) / 2
    nodes = np.minimum(low + half * (1 + _NODES), _ALMOST)
    return list(zip(nodes, half * _WEIGHTS, strict=True))


def _two_logistics(x: Array) -> Float[Array, "..."]:
    """P(L + L' < x) = e^x (e^x − 1 − x)/(e^x − 1)² for independent logistics; even about (0, ½)."""
    a = jnp.abs(x)
    small = a < 1e-2  # the quotient loses its digits; its series from 0 has the terms x/6, −x³/180
    b = jnp.where(small, 1.0, a)
    e = jnp.exp(-b)
    below = e * (b - 1 + e) / (1 - e) ** 2  # P(L + L' < −b)
    tail = jnp.where(small, 0.5 - a / 6 + a**3 / 180 - a**5 / 5040, below)
    return jnp.where(x < 0, tail, 1 - tail)


def _plain_two_logistics(x: float) -> float:
    """∫ P(L < x − y) density(y) dy by the trapezoidal rule, which is exact to rounding here."""
    y = np.linspace(-45, 45, 4001)
    density = 0.25 / np.cosh(y / 2) ** 2
    return float(np.sum(density / (1 + np.exp(y - x))) * (y[1] - y[0]))
