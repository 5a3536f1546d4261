"""Draws that maximise perturbed scores over structures: any that a solver knows, listed if few."""

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from numpyro.distributions import Distribution, constraints

from .. import gumbel
from .._errors import IncompatibleError, InvalidArgumentError, complain, describe
from .._numerics import FLOOR, finite_logits, working_dtype
from ._base import Changeable
from ._of_logits import OfLogits, PerturbedByGumbels
from ._solvers import AbstractSolver

MOST_LISTED = 2**15
"""Structures that are tried one by one; of more, only the solver is asked."""


class Listed(Changeable):
    """`Changeable`, by the list of the structures of one variable; the draw itself is in it too."""

    num_batch_dims: eqx.AbstractVar[int]

    @property
    @abc.abstractmethod
    def _num_each(self) -> int:
        """The number of structures of one variable."""

    @abc.abstractmethod
    def _unrank(self, index: Int[Array, "N"]) -> Array:
        """The structures of these numbers."""

    @property
    def _split(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The event shape as that of the variables, and that of one."""
        event = self.event_shape
        return event[: len(event) - self.variable_ndim], event[len(event) - self.variable_ndim :]

    @property
    def num_changes(self):
        return math.prod(self._split[0]) * self._num_each

    def change(self, draw, index):
        outer, own = self._split
        number = jnp.arange(math.prod(outer)).reshape((*outer, *(1,) * len(own)))
        new = self._unrank((index % self._num_each)[None])[0].astype(draw.dtype)
        return jnp.where(number == index // self._num_each, new, draw)

    def winner(self, perturbed, draw, gains):
        outer, _ = self._split
        listed = self._unrank(jnp.arange(self._num_each))
        features = self.features(listed).reshape((self._num_each, -1))
        flat = lambda x: x.reshape((*self.batch_shape, *outer, -1))
        gains = jnp.moveaxis(gains, 0, -1).reshape((*self.batch_shape, *outer, -1))
        # no cost, however large, makes the impossible happen: as few masked entries as can be
        masked = flat(self.logits) <= -FLOOR
        weight = masked.astype(features.dtype) @ features.T
        possible = weight <= jnp.min(weight, axis=-1, keepdims=True)
        z = flat(perturbed)  # masked, what the noise alone says, in all its digits
        total = jnp.where(masked, z - flat(self.logits), z) @ features.T
        best = jnp.argmax(jnp.where(possible, total + gains.astype(z.dtype), -jnp.inf), axis=-1)
        return listed[best].reshape(draw.shape).astype(draw.dtype)


class PerturbAndMAP(Distribution):
    """The structure of greatest perturbed score: b = argmax ⟨b, θ + γ⟩ over what a solver knows.

    γ is standard Gumbel noise, one for each entry of the scores. The argmax is exact, and so are
    the draws; their law has no tractable probabilities except for simple structures (of one of n
    items it is the categorical, of sets it is `TopK`), so log-probability and mean are missing.
    What serves it asks for draws alone: `PerturbedArgmax`, `ImplicitMLE`, and `DirectArgmax` where
    the structures can be listed (up to 32768).

    Arguments:
        logits: θ, shape batch + the shape of one structure's scores, as `solver` states it; −inf
            forbids an entry, as long as any structure does without.
        solver: `PairwiseSolver()`, `ChainSolver()`, `SubsetSolver(k)`, `AssignmentSolver()`,
            `SpanningTreeSolver()`, or one of your own.

    Shapes: the trailing `solver.score_ndim` axes are the event, those before it the batch.
    `.to_event(m)` makes m batch axes part of the event: independent structures. Draws are zeros and
    ones in the dtype of the logits.

    Raises:
        InvalidArgumentError: scores of a shape that has no structure, or no solver.

    Example:
        >>> import jax, jax.numpy as jnp, expectax as ex
        >>> q = ex.PerturbAndMAP(jnp.zeros((4, 3, 3)), ex.SpanningTreeSolver())
        >>> q.batch_shape, q.event_shape
        ((4,), (3, 3))
        >>> q.sample(jax.random.key(0)).sum((-2, -1)).tolist()  # each tree has two edges
        [2.0, 2.0, 2.0, 2.0]

    Reference: Papandreou & Yuille (2011).
    """

    pytree_data_fields = ("logits", "solver")

    def __init__(
        self,
        logits: Float[Array, "..."],
        solver: AbstractSolver,
        *,
        validate_args: bool | None = None,
    ):
        if not isinstance(solver, AbstractSolver):
            raise InvalidArgumentError(
                complain(
                    f"PerturbAndMAP was given {describe(solver)} as its solver",
                    "a solver says which structures there are, and which has the greatest score",
                    "pass expectax.ChainSolver(), SpanningTreeSolver() or the like",
                )
            )
        shape = jnp.shape(logits)
        own = solver.checked(shape)
        self.logits: Any = logits
        self.solver = solver
        super().__init__(shape[: len(shape) - len(own)], own, validate_args=validate_args)

    @property
    def support(self) -> Any:
        """Arrays of zeros and ones; which of them are structures, the solver knows."""
        return constraints.independent(constraints.boolean, len(self.event_shape))

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        theta = jax.lax.stop_gradient(jnp.asarray(self.logits))
        theta = finite_logits(theta.astype(working_dtype(theta.dtype)))
        noise = gumbel.gumbel(key, (*sample_shape, *theta.shape), theta.dtype)
        return self.solver.solve(theta + noise).astype(jnp.result_type(self.logits))

    def log_prob(self, value: Any) -> Array:
        """Not known.

        Raises:
            IncompatibleError: always.
        """
        del value
        raise IncompatibleError(
            complain(
                "PerturbAndMAP was asked for a log-probability",
                "the probability that a structure wins has no tractable form",
                "use PerturbedArgmax(), ImplicitMLE() or DirectArgmax(), which need none, or the "
                "distributions that have one: TopK, Subset, PlackettLuce, OneHotCategorical",
            )
        )


class StructureView(OfLogits, PerturbedByGumbels):
    """Independent structures of greatest perturbed score; logits batch + event, of 32 bits or more.

    `dtype` is that of the draws.
    """

    logits: Float[Array, "..."]
    solver: AbstractSolver
    num_batch_dims: int = eqx.field(static=True)
    dtype: jnp.dtype = eqx.field(static=True)

    @property
    def variable_ndim(self):
        return self.solver.score_ndim

    def harden(self, perturbed):
        return self.solver.solve(perturbed).astype(self.dtype)


class ListedStructureView(StructureView, Listed):
    """`StructureView` of structures few enough to be listed."""

    @property
    def _num_each(self):
        return self.solver.num_structures(self._split[1])

    def _unrank(self, index):
        return self.solver.structure(index, self._split[1]).astype(self.dtype)


def structure_view(base: PerturbAndMAP, shape: tuple[int, ...], num_batch_dims: int) -> Any:
    """The view of structures, batch and event shape together `shape`."""
    given = jnp.asarray(base.logits)
    given = given if jnp.issubdtype(given.dtype, jnp.inexact) else given.astype(float)
    logits = finite_logits(given.astype(working_dtype(given.dtype)))
    few = base.solver.num_structures(base.event_shape) <= MOST_LISTED
    kind = ListedStructureView if few else StructureView
    return kind(
        logits=jnp.broadcast_to(logits, shape),
        solver=base.solver,
        num_batch_dims=num_batch_dims,
        dtype=given.dtype,
    )
