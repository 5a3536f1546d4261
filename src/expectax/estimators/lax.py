"""The score function with a free, learned control variate of a continuous draw."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._trees import add_axis, dot, first, sum_events, sum_leaves, vary
from .._types import PRNGKey
from ..distributions import Joint, Reparameterized
from ._base import (
    AbstractEstimator,
    Claims,
    Cost,
    Estimate,
    Evaluations,
    check_baseline,
    check_control_variate,
    check_stand_in,
    learnable,
)


class LAX(AbstractEstimator):
    """LAX: a network of the continuous draw as control variate; f may be a black box.

    Estimates:
        g = (f(z) − c_φ(z) − c) ∂log q(z)/∂θ + ∂c_φ(z(θ))/∂θ, where z is a draw, held in the first
        term and a function of the parameters θ in the second.
    Needs:
        `Reparameterized`: continuous distributions. f need not be differentiable in the draw.
    Claims:
        Unbiased for every φ and c.
    Cost:
        1 evaluation of f; 1 of c_φ with its gradient, and twice that to learn φ.
    Arguments:
        control_variate: c_φ, a callable pytree (an Equinox module, `jax.tree_util.Partial`) from z,
            shape batch + event (or the pytree of them), to shape batch; differentiable. Its array
            leaves are learned; other inputs, such as the datum, enter as leaves too
            (`Partial(net, x)`), not through a closure.
        baseline: c, a number or an array that broadcasts to the batch; None for none.
    Raises:
        IncompatibleError: q is discrete, or its sampler is not differentiable.
        InvalidArgumentError: a control variate that is not callable, or not of batch shape.
    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> estimator = ex.LAX(jax.tree_util.Partial(lambda w, z: w * z**2, jnp.array(1.0)))
        >>> def loss(loc, estimator, key):
        ...     return ex.expect(key, dist.Normal(loc, 1.0), lambda z: z**2, estimator)
        >>> both = jax.grad(loss, argnums=(0, 1))(0.5, estimator, jax.random.key(0))
        >>> z = 0.5 + jax.random.normal(jax.random.key(0), (1,))  # c = f leaves the pathwise part
        >>> bool(jnp.allclose(both[0], 2 * z)), both[1].control_variate.args[0].shape
        (True, ())

    Reference:
        Grathwohl et al. (2018), eq. 5–7. φ and c minimise Σ g², the second moment of the gradient
        in the parameters that the distribution holds (loc and scale of a normal, trained or not),
        per batch element; entries that the batch shares count by the square of their sum.
    """

    control_variate: Callable[[Any], Array]
    baseline: Float[Array, "..."] | None = eqx.field(default=None, converter=learnable)

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=Reparameterized,
        differentiable=False,
        cost="1",
        order=1,
        source="Grathwohl 2018",
        learns="control variate, baseline: second moment",
    )

    def __check_init__(self):
        check_control_variate(self, "control variate", self.control_variate, "the draw")

    def estimate(self, key, q, f):
        z = first(q.rsample(key, 1))
        draw = jax.lax.stop_gradient(z)
        costs, aux = f(add_axis(draw))

        def surrogate(z):
            c = check_stand_in(self, "control variate", self.control_variate(z), q.batch_shape)
            return jnp.sum(c), c

        (_, c_z), slope = jax.value_and_grad(surrogate, has_aux=True)(draw)
        c = check_baseline(self, self.baseline, costs)
        signal = jax.lax.stop_gradient(costs[0]) - c_z.astype(costs.dtype) - c
        zero = lambda x: x - jax.lax.stop_gradient(x)
        score_part = jax.lax.stop_gradient(signal) * zero(q.log_prob(add_axis(draw))[0])
        path_part = dot(jax.lax.stop_gradient(slope), jax.tree.map(zero, z), q.batch_ndim)
        gradient = _gradient(key, q, draw, signal, slope, f)
        control = _second_moment(gradient, q)
        return Estimate(costs[0] + score_part + path_part, control, aux)

    def evaluations(self, q):
        del q
        return Evaluations(hard=1)


def _gradient(
    key: PRNGKey, q: Joint, draw: PyTree, signal: Float[Array, "*batch"], slope: PyTree, f: Cost
) -> PyTree:
    """g in the leaves of q, as a function of what `signal` and `slope` depend on."""
    leaves, close = q.opened()  # of q as it is: a number in it is no leaf, and stopped it would be
    leaves = jax.lax.stop_gradient(leaves)
    leaves = vary(leaves, f.axes)
    again = jax.random.clone(key)  # the same noise, in order to differentiate the draw
    _, pull_path = jax.vjp(lambda leaves: first(close(leaves).rsample(again, 1)), leaves)
    log_q, pull_score = jax.vjp(lambda leaves: close(leaves).log_density(add_axis(draw))[0], leaves)
    parts = pull_score(signal.astype(log_q.dtype))[0], pull_path(slope)[0]
    return jax.tree.map(jnp.add, *parts)


def _second_moment(gradient: PyTree, q: Joint) -> Float[Array, "*batch"]:
    """Σ g² of each batch element; that of a leaf that the batch shares is split evenly."""
    num = max(1, math.prod(q.batch_shape))

    def one(g, aligned):
        if aligned:
            return sum_events(g**2, q.batch_ndim)
        return jnp.broadcast_to(jnp.sum(g**2) / num, q.batch_shape)

    return sum_leaves(jax.tree.map(one, gradient, q.aligned()))
