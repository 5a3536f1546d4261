"""Sets of a given size, by the k greatest scores."""

import itertools
import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from ._base import ListedSolver


class SubsetSolver(ListedSolver):
    """The k items of greatest score, by `jax.lax.top_k`.

    Scores, shape (n,). Equal scores go to the first items.

    Arguments:
        k: how many items, 1 ≤ k ≤ n.

    Example:
        >>> import jax.numpy as jnp, expectax as ex
        >>> ex.SubsetSolver(2).solve(jnp.array([0.3, 2.0, -1.0, 0.5])).tolist()
        [0.0, 1.0, 0.0, 1.0]
    """

    k: int = eqx.field(static=True)
    score_ndim: ClassVar[int] = 1

    def fault(self, shape):
        return "" if 1 <= self.k <= shape[0] else f"it takes {self.k} of {shape[0]} items"

    def solve_one(self, scores):
        _, chosen = jax.lax.top_k(scores, self.k)
        return jnp.zeros_like(scores).at[chosen].set(1)

    def num_structures(self, shape):
        return math.comb(shape[0], self.k)

    def listed(self, shape):
        return itertools.combinations(range(shape[0]), self.k)
