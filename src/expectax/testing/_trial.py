"""One estimator on one problem, and the compiled programs that the checks share."""

import dataclasses
import functools
import zlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ..distributions import joint
from ..estimators import AbstractEstimator, Evaluations
from ._compile import quick
from ._gates import Gate, batch_scale, default_scale, gather
from ._moments import Moments, over_keys, stream
from ._problems import Layers, Params, Problem

_FEWEST = 2**17  # draws, so that a variable with p = 1e-4 is seen about a dozen times


class Inapplicable(Exception):
    """A check does not concern this trial; the message says why."""


class Trial:
    """One estimator on one problem.

    Everything is computed in float64, whatever the session's default: enter `trial.precision()`
    around direct use of its methods.

    Arguments:
        estimator: an instance; its floating leaves are cast to float64.
        problem: see `expectax.testing.bits` and its neighbors.
        gate: z and power of the statistical checks.
        seed: of every draw.
    """

    def __init__(
        self,
        estimator: AbstractEstimator,
        problem: Problem | Layers,
        *,
        gate: Gate | None = None,
        seed: int = 0,
    ):
        self.problem: Any = problem
        self.gate = gate or Gate()
        self.comparisons = 0
        self.traces = 0
        self._seed = seed
        self._moments: dict[str, Moments] = {}
        with self.precision():
            self.estimator = cast(
                estimator, jnp.float64, jnp.asarray
            )  # leaves that learn are JAX's
            self.params = cast(problem.params, jnp.float64)
            self.weights = np.asarray(problem.weights, np.float64)

    @staticmethod
    def precision() -> Any:
        """The context in which a trial computes: float64."""
        return jax.enable_x64(True)

    @property
    def name(self) -> str:
        """For reports."""
        return f"{type(self.estimator).__name__} on {self.problem.name}"

    @property
    def claims(self) -> Any:
        """The estimator's claims."""
        return type(self.estimator).claims

    @property
    def evaluations(self) -> Evaluations:
        """What the estimator says it will evaluate."""
        return self.estimator.evaluations(joint(self.problem.make_q(self.params["q"])))

    def key(self, name: str) -> Any:
        """A key of this name: the same in every run."""
        return jax.random.fold_in(jax.random.key(self._seed), zlib.crc32(name.encode()) >> 1)

    def loss(self, params: Params, estimator: AbstractEstimator, key: Any) -> tuple[Array, Array]:
        """The weighted sum over the batch, and the value of each batch element."""
        self.traces += 1
        value = self.problem.value(params, estimator, key)
        return jnp.sum(self.weights.astype(value.dtype) * value), value

    def draw(self, params: Params, estimator: AbstractEstimator, key: Any) -> dict[str, PyTree]:
        """One draw of {"value", "q", "f"}: the value, and the gradient of the loss."""
        gradient = jax.value_and_grad(self.loss, has_aux=True)
        (_, value), grads = gradient(params, estimator, key)
        return {"value": value, **grads}

    @functools.cached_property
    def one(self) -> Callable[..., dict[str, PyTree]]:
        """`draw`, compiled."""
        return quick(self.draw)

    @functools.cached_property
    def truth(self) -> dict[str, PyTree]:
        """What the mean of a draw should be."""
        return self.exact(self.params)

    def exact(self, params: Params) -> dict[str, PyTree]:
        """Value and gradient by the problem's oracle."""
        return jax.device_get(_oracle(self.problem)(params))

    def scale(self, truth: dict[str, PyTree]) -> dict[str, PyTree]:
        """What 2 % is of: for q, the gradient of each batch element; else each leaf's largest."""
        return {
            "value": default_scale(truth["value"]),
            "q": batch_scale(truth["q"], len(self.problem.batch_shape)),
            "f": default_scale(truth["f"]),
        }

    @functools.cached_property
    def _program(self) -> Callable[..., Moments]:
        return over_keys(lambda key, params, estimator: self.draw(params, estimator, key))

    def few(self, name: str, params: Params) -> Moments:
        """The moments of some thousand draws, by the program that makes the many."""
        return stream(self._program, self.key(name), 1, params, self.estimator)

    def moments(
        self,
        name: str,
        params: Params | None = None,
        estimator: AbstractEstimator | None = None,
    ) -> tuple[Moments, dict[str, PyTree], dict[str, PyTree]]:
        """Moments of as many draws as Gate B needs, the truth, and its scale.

        Arguments:
            name: of these parameters; the same name gives the same draws, made once.
            params, estimator: in place of the trial's own.
        """
        at: Params = self.params if params is None else cast(params, jnp.float64)
        estimator = self.estimator if estimator is None else estimator
        truth = self.exact(at)
        scale = self.scale(truth)
        if name not in self._moments:
            self._moments[name] = gather(
                self._program,
                self.key(name),
                at,
                estimator,
                scale=scale,
                gate=self.gate,
                fewest=_FEWEST,
            )
        return self._moments[name], truth, scale

    def count(self, tree: PyTree) -> None:
        """Book the comparisons of a statistical check on the false-alarm budget."""
        self.comparisons += sum(leaf.size for leaf in jax.tree.leaves(tree))


@dataclasses.dataclass(frozen=True)
class Check:
    """One named check.

    Attributes:
        name: what reports and mutants call it.
        run: raises AssertionError if the trial fails it, Inapplicable if it does not concern it.
        every_problem: whether it is worth repeating on each problem of an estimator.
    """

    name: str
    run: Callable[[Trial], None]
    every_problem: bool = False


CHECKS: dict[str, Check] = {}
"""Every check of the battery, by name, in the order in which they run."""


def check(*, every_problem: bool = False) -> Callable[..., Any]:
    """Register a function under its own name as a check."""

    def register(run: Callable[[Trial], None]) -> Callable[[Trial], None]:
        CHECKS[run.__name__] = Check(run.__name__, run, every_problem)
        return run

    return register


@functools.cache
def _oracle(problem: Problem | Layers) -> Callable[[Params], dict[str, PyTree]]:
    """Value and gradient of the loss by the problem's oracle, compiled once for all trials."""

    def loss(params):
        value = problem.exact(params)
        return jnp.sum(problem.weights * value), value

    def both(params):
        (_, value), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return {"value": value, **grads}

    return quick(both)


def cast(tree: PyTree, dtype: Any, asarray: Any = np.asarray) -> PyTree:
    """Every floating leaf as an array of this type: by default NumPy's, which compiles nothing."""
    is_float = lambda x: eqx.is_array_like(x) and jnp.issubdtype(jnp.result_type(x), jnp.inexact)
    return jax.tree.map(lambda x: asarray(x, dtype) if is_float(x) else x, tree)


def assert_same(left: PyTree, right: PyTree, what: str, tolerance: float = 1e-11) -> None:
    """Assert that two trees hold the same numbers up to float64 rounding.

    `tolerance` is relative to the largest entry of each leaf: programs compiled differently sum in
    different orders.
    """
    left, right = jax.device_get((left, right))  # NumPy compiles nothing
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(left), jax.tree.leaves(right), strict=True
    ):
        # infinite logits are equal to themselves, and are no size to measure the others by
        with np.errstate(invalid="ignore"):
            worst = float(np.max(np.where(a == b, 0, np.abs(a - b)), initial=0.0))
        size = float(np.max(np.where(np.isfinite(b), np.abs(b), 0), initial=0.0))
        assert worst <= tolerance * max(size, 1.0), (
            f"{what}: {jax.tree_util.keystr(path)} differs by {worst:.3g} beside {size:.3g}\n"
            f"  one:   {a}\n  other: {b}"
        )
