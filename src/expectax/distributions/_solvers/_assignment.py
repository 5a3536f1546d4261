"""Assignments, by optax's Hungarian algorithm."""

import itertools
import math
from typing import Any, ClassVar

import jax.numpy as jnp

from ..._errors import complain
from ..._numerics import FLOOR
from ._base import ListedSolver


class AssignmentSolver(ListedSolver):
    """Rows to columns, each at most once and as many as there can be: optax's Hungarian algorithm.

    Scores, shape (n, m): of the pair of row i and column j.

    Raises:
        ImportError: optax is not installed.

    Example:
        >>> import jax.numpy as jnp, expectax as ex
        >>> ex.AssignmentSolver().solve(jnp.array([[3.0, 2.0], [2.5, 0.0]])).tolist()
        [[0.0, 1.0], [1.0, 0.0]]

    Reference: Kuhn (1955); `optax.assignment.hungarian_algorithm`.
    """

    score_ndim: ClassVar[int] = 2

    def fault(self, shape):
        return "" if min(shape) > 0 else "there is no pair to choose"

    def solve_one(self, scores):
        algorithm = _hungarian()
        # it subtracts scores from one another: −1e4 in place of −inf would cost float32 its digits,
        # so what is forbidden costs just more than every allowed pair together could gain
        allowed = scores > -0.99 * FLOOR
        high = jnp.max(jnp.where(allowed, scores, -FLOOR))
        low = jnp.min(jnp.where(allowed, scores, high))
        worst = low - 1 - min(scores.shape) * (high - low)
        rows, columns = algorithm(-jnp.where(allowed, scores, worst))
        return jnp.zeros_like(scores).at[rows, columns].set(1)

    def num_structures(self, shape):
        return math.perm(max(shape), min(shape))

    def listed(self, shape):
        n, m = shape
        for chosen in itertools.permutations(range(max(n, m)), min(n, m)):
            pairs = enumerate(chosen) if n <= m else ((i, j) for j, i in enumerate(chosen))
            yield sorted(i * m + j for i, j in pairs)


def _hungarian() -> Any:
    try:
        from optax.assignment import hungarian_algorithm
    except ModuleNotFoundError as error:
        raise ImportError(
            complain(
                "AssignmentSolver was asked to solve",
                "it calls optax's Hungarian algorithm, and optax is not installed",
                "pip install optax, or 'expectax[lab]'",
            )
        ) from error
    return hungarian_algorithm
