"""Paths, by Viterbi's algorithm."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ._base import AbstractSolver


class ChainSolver(AbstractSolver):
    """A path through T time steps of K states, by Viterbi's algorithm.

    Scores, shape (T − 1, K, K): of state i at time t and state j at time t + 1. `scores` makes them
    of scores of states and of transitions, and `states` reads the states from a structure.

    Example:
        >>> import jax.numpy as jnp, expectax as ex
        >>> solver = ex.ChainSolver()
        >>> scores = solver.scores(jnp.array([[1.0, 0], [0, 0], [0, 3]]), 2 * jnp.eye(2))
        >>> solver.states(solver.solve(scores)).argmax(-1).tolist()  # staying is worth 2
        [1, 1, 1]

    Reference: Viterbi (1967).
    """

    score_ndim: ClassVar[int] = 3

    def scores(
        self, states: Float[Array, "*batch T K"], transitions: Float[Array, "..."]
    ) -> Float[Array, "*batch T-1 K K"]:
        """Scores of transitions that hold those of the states too.

        Arguments:
            states: of each state at each time.
            transitions: from row to column, shape (K, K) or (T − 1, K, K), or with the batch.
        """
        later = transitions + states[..., 1:, None, :]
        return later.at[..., 0, :, :].add(states[..., 0, :, None])

    def states(
        self, structure: Float[Array, "*batch steps K K"]
    ) -> Float[Array, "*batch steps+1 K"]:
        """The states of a path, one-hot."""
        start = jnp.sum(structure[..., :1, :, :], axis=-1)
        return jnp.concatenate([start, jnp.sum(structure, axis=-2)], axis=-2)

    def fault(self, shape):
        fine = min(shape) > 0 and shape[1] == shape[2]
        return "" if fine else "each step needs a row and a column for each state"

    def solve_one(self, scores):
        def forward(best, step):
            through = best[:, None] + step
            return jnp.max(through, axis=0), jnp.argmax(through, axis=0)

        def backward(state, came_from):
            return came_from[state], state

        best, came_from = jax.lax.scan(forward, jnp.zeros_like(scores[0, 0]), scores)
        start, path = jax.lax.scan(backward, jnp.argmax(best), came_from, reverse=True)
        return _path(jnp.concatenate([start[None], path]), scores.shape[1]).astype(scores.dtype)

    def num_structures(self, shape):
        return shape[1] ** (shape[0] + 1)

    def structure(self, index, shape):
        times = shape[0] + 1
        powers = jnp.asarray([shape[1] ** t for t in range(times)])
        return _path((index[:, None] // powers) % shape[1], shape[1])


def _path(states: Int[Array, "... T"], num_states: int) -> Float[Array, "... T-1 K K"]:
    hot = jax.nn.one_hot(states, num_states)
    return hot[..., :-1, :, None] * hot[..., 1:, None, :]
