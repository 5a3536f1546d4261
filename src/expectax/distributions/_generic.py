"""Views of every other NumPyro distribution, through its own `sample` and `log_prob`."""

import functools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float
from numpyro.distributions import constraints

from .._errors import IncompatibleError, complain
from .._numerics import finite_logits, softplus
from .._trees import over_batch, sum_events
from ._base import Enumerable, Invertible, Reparameterized, Scored, View
from ._inversion import inverse_cdf

Support = tuple[float, ...]


def strip(q: Any) -> Any:
    """The distribution under `to_event` and `expand`."""
    while isinstance(q, dist.Independent | dist.ExpandedDistribution):
        q = q.base_dist
    return q


def concrete_support(base: Any) -> Support | None:
    """The values one variable can take, or None where they depend on traced arrays."""
    try:
        with jax.ensure_compile_time_eval():
            values = np.asarray(base.enumerate_support(expand=False)).reshape(-1)
    except (NotImplementedError, jax.errors.ConcretizationTypeError):
        return None
    return tuple(values.tolist())


def _enumerate(view: Any, index: Array) -> Array:
    """The joint outcomes numbered `index` of a view whose variables share one support."""
    batch, event = view.batch_shape, view.event_shape
    base = len(view.support)
    powers = jnp.asarray([base**i for i in range(math.prod(event))])
    index = over_batch(index, len(batch))
    # the type of a draw: f is traced once, at a draw
    values = jnp.asarray(view.support, view.draw_dtype)[(index[..., None] // powers) % base]
    values = values.reshape((*index.shape, *event))
    return jnp.broadcast_to(values, (len(index), *batch, *event))


def _choose(view: Any, uniform: Array) -> Array:
    """The values of a support in increasing order that uniforms decide."""
    base = jax.lax.stop_gradient(strip(view.distribution))
    values = jnp.asarray(view.support, view.draw_dtype)
    column = values.reshape((-1,) + (1,) * len(base.batch_shape))
    probability = jnp.moveaxis(jnp.exp(base.log_prob(column)), 0, -1)
    return values[inverse_cdf(probability, uniform)]


def aligned(view: View) -> list[bool]:
    """For each floating leaf, whether it starts with the axes of the batch.

    Every entry of such a leaf belongs to one batch element. The leaves of views are made so; those
    of a NumPyro distribution are so if they have all the axes that they can have. A leaf of which
    nothing is known counts as shared by the batch.
    """
    floats = jax.tree.leaves(eqx.filter(view, eqx.is_inexact_array))
    if not hasattr(view, "distribution"):
        return [True] * len(floats)
    q: Any = getattr(view, "distribution")  # noqa: B009
    base, own = strip(q), set()
    for name, constraint in base.arg_constraints.items():
        x = vars(base).get(name)  # not what NumPyro computes from other parameters on demand
        try:
            most = len(q.batch_shape) + len(q.event_shape) - base.event_dim + constraint.event_dim
        except NotImplementedError:
            continue  # the constraint depends on other parameters
        if x is not None and jnp.ndim(x) == most and _starts_with(x, view.batch_shape):
            own.add(id(x))
    given = {id(x) for x in jax.tree.leaves(q)}
    return [id(x) in own or id(x) not in given for x in floats]


def _starts_with(x: Any, shape: tuple[int, ...]) -> bool:
    return jnp.shape(x)[: len(shape)] == shape


def with_fixed_support(q: Any, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """`x`, which refuses to be differentiated in where q, a NumPyro distribution, can lie.

    Where the support moves with the parameters and the density does not vanish at its ends,
    E[∂log q] is not 0, and every gradient that is made of log q alone is wrong: of Uniform(a, b),
    exactly 0 with leave-one-out. Of what is made of a law on the whole line, such as a shifted
    log-normal, the density vanishes; of others nothing is known here, and they are refused.
    """
    base = strip(q)
    if isinstance(base, dist.TransformedDistribution):
        inner: Any = strip(base.base_dist)
        if inner.support is constraints.real:
            return x
    try:
        edges = [e for e in jax.tree.leaves(base.support) if eqx.is_inexact_array(e)]
    except NotImplementedError:
        edges = []
    return _held_edges(type(base).__name__, x, edges) if edges else x


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _held_edges(name: str, x: Array, edges: list[Array]) -> Array:
    del name, edges
    return x


def _refuse_edges(name: str, primals: Any, tangents: Any) -> tuple[Array, Any]:
    if not all(isinstance(t, SymbolicZero) for t in tangents[1]):
        raise IncompatibleError(
            complain(
                f"the log-probability of {name} was differentiated in where its support ends",
                "the gradient of an expectation has a part from there, which log q does not know "
                "unless the density is 0 there",
                "pass Pathwise() to expect() or neg_multi_sample_bound() (neg_elbo() holds log q); "
                "or hold the ends fixed with jax.lax.stop_gradient",
            )
        )
    return primals[0], tangents[0]


_held_edges.defjvp(_refuse_edges, symbolic_zeros=True)


class GenericView(Scored):
    """Any distribution: scores through NumPyro's own log-probability."""

    distribution: Any  # a numpyro Distribution

    @property
    def batch_shape(self):
        return self.distribution.batch_shape

    @property
    def event_shape(self):
        return self.distribution.event_shape

    def sample(self, key, num):
        frozen = jax.lax.stop_gradient(self.distribution)
        return jax.lax.stop_gradient(frozen.sample(key, (num,)))

    def log_prob(self, value):
        return self.distribution.log_prob(value)


class ReparameterizedView(GenericView, Reparameterized, Invertible):
    """A continuous distribution whose NumPyro sampler carries the pathwise derivative."""

    def rsample(self, key, num):
        return self.distribution.rsample(key, (num,))

    @property
    def uniform_shape(self):
        return (*self.batch_shape, *self.event_shape)

    def quantile(self, uniform):
        base = strip(self.distribution)
        if base.event_dim > 0:
            raise NotImplementedError
        return base.icdf(uniform).astype(self.draw_dtype)


class EnumerableView(GenericView, Enumerable, Invertible):
    """A discrete distribution with NumPyro's `enumerate_support`, through any `to_event`."""

    support: Support = eqx.field(static=True)

    @property
    def num_outcomes(self):
        return len(self.support) ** math.prod(self.event_shape)

    def outcome(self, index):
        return _enumerate(self, index)

    @property
    def uniform_shape(self):
        return (*self.batch_shape, *self.event_shape)

    def quantile(self, uniform):
        return _choose(self, uniform)


class BinomialView(Scored):
    """Independent binomial counts with log-odds θ.

    log C(n, k) + k·θ − n·softplus(θ): its derivative at θ = 0 is k − n/2, where NumPyro's is k or
    k − n.
    """

    logits: Float[Array, "..."]
    total_count: Any
    distribution: Any
    num_batch_dims: int = eqx.field(static=True)

    def __init__(
        self,
        logits: Array,
        total_count: Any,
        distribution: dist.Distribution,
        num_batch_dims: int,
    ):
        self.logits = finite_logits(logits)
        self.total_count = total_count
        self.distribution = distribution
        self.num_batch_dims = num_batch_dims

    @property
    def batch_shape(self):
        return self.logits.shape[: self.num_batch_dims]

    @property
    def event_shape(self):
        return self.logits.shape[self.num_batch_dims :]

    def sample(self, key, num):
        frozen = jax.lax.stop_gradient(self.distribution)
        shape = (num, *self.logits.shape)
        return frozen.sample(key, (num,)).reshape(shape).astype(jnp.int32)

    def log_prob(self, value):
        n = jnp.asarray(self.total_count, self.logits.dtype)
        k = value.astype(self.logits.dtype)
        lgamma = jax.scipy.special.gammaln
        ways = lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
        terms = ways + k * self.logits - n * softplus(self.logits)
        return sum_events(terms, 1 + self.num_batch_dims)


class EnumerableBinomialView(BinomialView, Enumerable, Invertible):
    """`BinomialView` with a number of trials that is known before the program runs."""

    support: Support = eqx.field(static=True)

    def __init__(
        self,
        logits: Array,
        total_count: Any,
        distribution: dist.Distribution,
        num_batch_dims: int,
        support: Support,
    ):
        super().__init__(logits, total_count, distribution, num_batch_dims)
        self.support = support

    @property
    def num_outcomes(self):
        return len(self.support) ** math.prod(self.event_shape)

    def outcome(self, index):
        return _enumerate(self, index)

    @property
    def uniform_shape(self):
        return (*self.batch_shape, *self.event_shape)

    def quantile(self, uniform):
        return _choose(self, uniform)
