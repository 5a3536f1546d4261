"""What every estimator is: claims, an estimate, and the cost function it is handed.

An estimator turns draws into a number whose *derivative* is the gradient estimate. `estimate`
returns `Estimate(value, control)`:

- `value`, shape batch: its primal estimates E_q[f]; differentiated by ordinary JAX through the
  leaves of q and of f it gives the gradient estimate. Where the derivative is not that of the
  arithmetic, `carry` adds a zero that has the wanted derivative.
- `control`, shape batch: what the estimator's own leaves minimise. Only this may depend on them
  differentiably, and it may depend differentiably on nothing else.

The rule in `_expect.py` is the only custom derivative: it weights `value` by the incoming cotangent
and `control` by its absolute value.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PyTree

from .._errors import InvalidArgumentError, complain, describe
from .._numerics import FLOOR, working_dtype
from .._trees import add_axis, dot, first, size_of, vary
from .._types import PRNGKey
from ..distributions import Joint


@dataclasses.dataclass(frozen=True)
class Claims:
    """What an estimator class says of itself. Tests check each claim; errors and docs read them.

    Attributes:
        unbiased: whether the mean of the gradient estimate is the gradient, for every f.
        needs: the capability it needs of q.
        differentiable: whether f must be differentiable in the draw.
        cost: evaluations of f per gradient, in words; `evaluations` gives the numbers.
        order: how many times it may be differentiated: 1 or math.inf.
        learns: what its own leaves are and minimise, in words; empty if it learns nothing.
        exact_for: for which f a biased estimator is unbiased, or when the bias vanishes.
        zero_for_constant: whether a constant f gives exactly zero gradient.
        source: paper and equation.
    """

    unbiased: bool
    needs: type
    differentiable: bool
    cost: str
    order: float
    source: str
    learns: str = ""
    exact_for: str = ""
    zero_for_constant: bool = False


class Evaluations(eqx.Module):
    """How often one gradient evaluates f: at hard draws of q, and elsewhere."""

    hard: int
    auxiliary: int = 0


class Estimate(eqx.Module):
    """What an estimator returns; see the module's docstring."""

    value: Float[Array, "*batch"]
    control: Float[Array, "*batch"] | None = None
    aux: PyTree = None


class Cost(eqx.Module):
    """f with what it captured as leaves, over stacks of draws."""

    function: Callable[..., Any]
    has_aux: bool = eqx.field(static=True)
    axes: frozenset[str] = eqx.field(static=True)  # mesh axes over which draws vary (shard_map)

    def __call__(self, draws: PyTree) -> tuple[Float[Array, "S *batch"], PyTree]:
        """Costs at hard draws, and the auxiliary output; f's own parameters are live."""
        return self._over_draws(self.function, draws)

    def frozen(self, draws: PyTree) -> Float[Array, "S *batch"]:
        """Costs at auxiliary points: differentiable in the draws, never in f's own parameters."""
        return self._over_draws(_freeze(self.function), draws)[0]

    def slope(self, draws: PyTree) -> PyTree:
        """The slope of f in each draw of a stack, from one more evaluation, without gradient."""
        total = lambda draws: jnp.sum(self.frozen(draws))
        return jax.lax.stop_gradient(jax.grad(total)(jax.lax.stop_gradient(draws)))

    def at_outcomes(
        self, draw_of: Callable[[Int[Array, ""]], PyTree], num: int, size: int
    ) -> Float[Array, "N *batch"]:
        """Frozen costs at `num` points, made and evaluated in chunks of bounded memory.

        Arguments:
            draw_of: from the number of a point to the point, batch + event.
            num: how many points.
            size: the number of elements of one point, over the batch.
        """
        function = _freeze(self.function)
        one = lambda index: self._over_draws(function, add_axis(draw_of(index)))[0][0]
        return jax.lax.map(one, jnp.arange(num), batch_size=chunk_size(num, size))

    def _over_draws(self, function: Callable[..., Any], draws: PyTree):
        draws = vary(draws, self.axes)
        num = jax.tree.leaves(draws)[0].shape[0]
        # one draw is the common case: without vmap there is one axis less for the compiler to move
        if num == 1:  # numbers in aux become arrays, as under vmap
            out = add_axis(jax.tree.map(jnp.asarray, function(first(draws))))
        else:
            out = jax.vmap(function)(draws)
        costs, aux = out if self.has_aux else (out, None)
        # counts and truth values become the default float: float32 would lose digits under x64
        floating = jnp.issubdtype(costs.dtype, jnp.inexact)
        dtype = working_dtype(costs.dtype) if floating else jnp.result_type(float)
        return costs.astype(dtype), jax.lax.stop_gradient(aux)


def chunk_size(num: int, size: int, limit: int = 2**22) -> int:
    """How many points of `size` elements to evaluate at once: at most `limit` elements in all."""
    return max(1, min(num, limit // max(1, size)))


def _freeze(function: PyTree) -> PyTree:
    """Stop gradients into what f captured, and allow its keys to be used again.

    An inner `expect` holds a key; using it at the hard and at the relaxed draw is what makes the
    two share their noise, so that is said to the key-reuse checker.
    """

    def one(leaf):
        if not eqx.is_array(leaf):
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.clone(leaf)
        return jax.lax.stop_gradient(leaf)

    return jax.tree.map(one, function)


class AbstractEstimator(eqx.Module):
    """How to estimate the gradient of E_q[f].

    Immutable; its array leaves are what it learns, and receive, under `jax.grad`, the gradient of
    what they minimise. To add one: subclass, declare `claims`, implement `estimate` (and `value`
    if `estimate` evaluates f anywhere but at hard draws), and give it a row in the conformance
    tests.
    """

    claims: ClassVar[Claims]

    @abc.abstractmethod
    def estimate(self, key: PRNGKey, q: Joint, f: Cost) -> Estimate:
        """Value, gradient and control.

        *Law:* E[value] and the mean of its derivative are E_q[f] and its gradient, to the extent
        that `claims` says.
        """

    def value(self, key: PRNGKey, q: Joint, f: Cost) -> tuple[Float[Array, "*batch"], PyTree]:
        """The value alone, from the same draws as `estimate`, at the price of its hard draws.

        *Law:* equals `estimate(...).value` in primal, for the same key.
        """
        out = self.estimate(key, q, f)
        return out.value, out.aux

    @abc.abstractmethod
    def evaluations(self, q: Joint) -> Evaluations:
        """How often f is evaluated, per batch element, for one gradient."""


def carry(
    value: Float[Array, "*batch"], cotangent: PyTree, logits: PyTree, batch_ndim: int
) -> Float[Array, "*batch"]:
    """`value`, with derivative `cotangent` in `logits` added to its own.

    Adds Σ stop(cotangent)·(θ − stop(θ)), which is zero and whose derivative is `cotangent`.
    """
    return value + dot(jax.lax.stop_gradient(cotangent), zero_with_gradient(logits), batch_ndim)


def zero_with_gradient(tree: PyTree) -> PyTree:
    """θ − stop(θ): zero, with the derivative of θ."""
    return jax.tree.map(lambda x: x - jax.lax.stop_gradient(x), tree)


def straight_through(hard: PyTree, soft: PyTree) -> PyTree:
    """The hard draw, with the derivative of the soft one: b + (y − stop(y)) is b exactly."""
    return jax.tree.map(lambda b, y: b + (y - jax.lax.stop_gradient(y)), hard, soft)


def score_value(
    costs: Float[Array, "S *batch"],
    baseline: Float[Array, "..."],
    log_q: Float[Array, "S *batch"],
) -> Float[Array, "*batch"]:
    """mean_s [(f_s − c_s)·m_s + c_s], m_s = exp(log q_s − stop(log q_s)) = 1.

    Its value is the mean cost and its derivative, of every order, is that of the score function
    with baseline c: differentiating m gives m·∂log q, again and again. c_s must be independent of
    draw s.

    Reference: Foerster et al. (2018), "DiCE"; Mao et al. (2019) for the baseline.
    """
    magic = jnp.exp(log_q - jax.lax.stop_gradient(log_q))
    return jnp.mean((costs - baseline) * magic + baseline, axis=0)


def learnable(x: Any) -> Any:
    """A leaf to be learned: floats become arrays, so that optimisers see one type."""
    return None if x is None else jnp.asarray(x, dtype=None if hasattr(x, "dtype") else float)


def log_probabilities(estimator: "AbstractEstimator", q: Joint) -> Float[Array, "N *batch"]:
    """log q of every joint outcome, without gradient, in chunks; impossible ones read −1e4.

    Raises:
        InvalidArgumentError: for more than 2^20 outcomes.
    """
    total, name = q.num_outcomes, type(estimator).__name__
    if total > 2**20:
        raise InvalidArgumentError(
            complain(
                f"{name} was given a q with {total} joint outcomes",
                "it keeps the probability of every outcome, of 2^20 at most",
                "use LeaveOneOut(), DisARM() or another sampling estimator",
            )
        )
    frozen = jax.lax.stop_gradient(q)
    one = lambda index: frozen.log_prob(frozen.outcome(index[None]))[0]
    size = chunk_size(total, size_of(q.example()))
    return jnp.maximum(jax.lax.map(one, jnp.arange(total), batch_size=size), -FLOOR)


def second_moment(gradient: PyTree, batch_ndim: int) -> Float[Array, "*batch"]:
    """Σ g² over the variables of each batch element: what a control variate minimises."""
    return dot(gradient, gradient, batch_ndim)


def squared_error(costs: Array, baseline: Array) -> Array:
    """mean_s (f_s − c)², differentiable in c alone."""
    return jnp.mean((jax.lax.stop_gradient(costs) - baseline) ** 2, axis=0)


def check_num_samples(estimator: AbstractEstimator, given: int, least: int) -> None:
    """Raise unless a count is an integer of at least `least`."""
    if isinstance(given, int) and not isinstance(given, bool) and given >= least:
        return
    name = type(estimator).__name__
    raise InvalidArgumentError(
        complain(
            f"{name} was given a count of {given!r}",
            f"it needs a whole number of draws, at least {least}",
            f"pass {name}({least})",
        )
    )


def check_baseline(estimator: AbstractEstimator, baseline: Array | None, costs: Array) -> Array:
    """The baseline in the costs' type, or an error if it does not broadcast to the batch."""
    c = jnp.zeros((), costs.dtype) if baseline is None else baseline.astype(costs.dtype)
    batch = costs.shape[1:]
    aligned = zip(reversed(c.shape), reversed(batch), strict=False)
    if c.ndim <= len(batch) and all(mine in (1, full) for mine, full in aligned):
        return c
    raise InvalidArgumentError(
        complain(
            f"{type(estimator).__name__} was given a baseline of shape {c.shape}",
            f"it is subtracted from costs of batch shape {batch}",
            "pass a number, or an array of the batch shape",
        )
    )


def check_control_variate(estimator: AbstractEstimator, role: str, given: Any, sees: str) -> None:
    """Raise unless what stands in for f can be called."""
    if callable(given):
        return
    raise InvalidArgumentError(
        complain(
            f"{type(estimator).__name__} was given {describe(given)} as its {role}",
            f"it is called with {sees}",
            "pass a callable pytree: an Equinox module, or jax.tree_util.Partial",
        )
    )


def check_stand_in(
    estimator: AbstractEstimator, role: str, given: Any, batch_shape: tuple[int, ...]
) -> Float[Array, "*batch"]:
    """What a control variate returned, or an error if it is not of batch shape."""
    if getattr(given, "shape", None) == batch_shape:
        return given
    raise InvalidArgumentError(
        complain(
            f"the {role} of {type(estimator).__name__} returned {describe(given)}",
            f"it stands in for a cost of batch shape {batch_shape}",
            "reduce its output to one number for each batch element",
        )
    )


def check_positive(estimator: AbstractEstimator, name: str, given: Any) -> None:
    """Raise if a parameter is a known number that is not positive (a traced one is trusted)."""
    if isinstance(given, Tracer) or not hasattr(given, "__float__") or float(given) > 0:
        return
    raise InvalidArgumentError(
        complain(
            f"{type(estimator).__name__} was given {name}={float(given):g}",
            f"its {name} must be positive",
            f"pass a number above zero, such as {name}=0.5",
        )
    )
