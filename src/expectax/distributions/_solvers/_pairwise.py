"""Bits with scores of pairs, by comparing all of their settings."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from ._base import AbstractSolver


class PairwiseSolver(AbstractSolver):
    """n ≤ 15 bits x with scores of their own and of their pairs, all 2ⁿ of them compared.

    Scores, shape (n, n): θ_ii of x_i, and θ_ij, i < j, of x_i x_j. What is below the diagonal is
    ignored. The structure has x on the diagonal and x_i x_j above it.

    Example:
        >>> import jax.numpy as jnp, expectax as ex
        >>> scores = jnp.array([[1.0, -3.0], [0.0, 2.0]])  # each alone is good, both are bad
        >>> ex.PairwiseSolver().solve(scores).tolist()
        [[0.0, 0.0], [0.0, 1.0]]
    """

    score_ndim: ClassVar[int] = 2

    def fault(self, shape):
        if shape[0] != shape[1]:
            return "each bit needs a row and a column, in the same order"
        return "" if 1 <= shape[0] <= 15 else "it compares the settings of 1 to 15 bits"

    def solve_one(self, scores):
        n = scores.shape[0]
        total = jnp.zeros(1, scores.dtype)
        for i in range(n):  # of the first i bits, every setting; doubled by the next
            gain = scores[i, i][None]
            for j in range(i):
                gain = jnp.concatenate([gain, gain + scores[j, i]])
            total = jnp.concatenate([total, total + gain])
        return self.structure(jnp.argmax(total)[None], scores.shape)[0].astype(scores.dtype)

    def num_structures(self, shape):
        return 2 ** shape[0]

    def structure(self, index, shape):
        bits = ((index[:, None] >> jnp.arange(shape[0])) & 1).astype(float)
        return jnp.triu(bits[:, :, None] * bits[:, None, :])

    def used(self, shape):
        return np.triu(np.ones(shape, bool))
