"""Solvers: from scores to the structure of greatest score, exact, and by JAX's transformations.

A structure is an array b of zeros and ones with the shape of its scores θ, and its score is ⟨b, θ⟩:
a set marks its members, an assignment its pairs, a tree its edges, a chain its transitions. So the
same solver serves perturbed scores, scores plus the slope of a cost, and a batch of them.
"""

import abc
import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._errors import InvalidArgumentError, complain
from ..._numerics import finite_logits

Shape = tuple[int, ...]


class AbstractSolver(eqx.Module):
    """What maximises ⟨b, θ⟩ over the structures b of one kind.

    Attributes:
        score_ndim: how many trailing axes the scores of one structure have.

    *Laws:* `solve(θ)` is one of `structure(0)` … `structure(num_structures − 1)`, and none of them
    has a greater score.
    """

    score_ndim: ClassVar[int]

    def solve(self, scores: Float[Array, "..."]) -> Float[Array, "..."]:
        """The structure of greatest score, for every leading axis of `scores`.

        A score of −inf forbids its entry, as long as any structure does without.

        Raises:
            InvalidArgumentError: scores of a shape that has no structure.
        """
        shape = self.checked(jnp.shape(scores))
        flat = finite_logits(scores).reshape((-1, *shape))
        return jax.vmap(self.solve_one)(flat).reshape(scores.shape)

    def checked(self, shape: Shape) -> Shape:
        """The trailing part of a shape that belongs to one structure, or an error."""
        own = shape[max(0, len(shape) - self.score_ndim) :]
        missing = len(own) < self.score_ndim
        fault = f"one structure has {self.score_ndim} axes" if missing else self.fault(own)
        if fault:
            name = type(self).__name__
            raise InvalidArgumentError(
                complain(
                    f"{name} was given scores of shape {shape}",
                    fault,
                    f"pass scores of the shape that help(expectax.{name}) states",
                )
            )
        return own

    @abc.abstractmethod
    def fault(self, shape: Shape) -> str:
        """What is wrong with scores of this shape, or nothing."""

    @abc.abstractmethod
    def solve_one(self, scores: Float[Array, "..."]) -> Float[Array, "..."]:
        """The structure of greatest score, of finite scores without leading axes."""

    @abc.abstractmethod
    def num_structures(self, shape: Shape) -> int:
        """How many structures there are."""

    @abc.abstractmethod
    def structure(self, index: Int[Array, "N"], shape: Shape) -> Float[Array, "N ..."]:
        """The structures of these numbers."""

    def used(self, shape: Shape) -> Bool[np.ndarray, "..."]:
        """Which scores any structure uses; the others are ignored."""
        return np.ones(shape, bool)


class ListedSolver(AbstractSolver):
    """A solver whose structures are listed in NumPy, when somebody asks for the list."""

    @abc.abstractmethod
    def listed(self, shape: Shape) -> Any:
        """Each structure as the positions of its ones, in the flattened array."""

    def structure(self, index, shape):
        ones = np.array(list(self.listed(shape)), int)
        table = np.zeros((len(ones), math.prod(shape)), np.int8)
        np.put_along_axis(table, ones, 1, axis=1)
        return jnp.asarray(table.reshape((-1, *shape)))[index].astype(float)
