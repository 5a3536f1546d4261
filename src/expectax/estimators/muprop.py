"""The score function with a first-order Taylor expansion of f as control variate."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._trees import add_axis, dot, first, scale
from ..distributions import Factorized
from ._base import (
    AbstractEstimator,
    Claims,
    Estimate,
    Evaluations,
    carry,
    check_baseline,
    learnable,
    second_moment,
)


class MuProp(AbstractEstimator):
    """The score function minus the Taylor expansion of f about the mean, whose gradient is known.

    Estimates:
        g = (f(b) − η h(b) − c) s + η f'(μ) ∂μ/∂θ, with μ = E[b], s = ∂log q(b)/∂θ and
        h(b) = f(μ) + f'(μ)·(b − μ).
    Needs:
        `Factorized` (Bernoulli, one-hot), and f differentiable in the draw and defined at μ.
    Claims:
        Unbiased for every η and c. Exactly zero for a constant f at η = 1, c = 0.
    Cost:
        1 evaluation of f, and 1 with its gradient at μ.
    Arguments:
        scale: η, learned. A number or an array that broadcasts to the batch.
        baseline: c, learned; None for none. With p = ½ and a quadratic f the expansion leaves a
            constant, which only a baseline removes.
    Raises:
        IncompatibleError: q is not relaxable.
    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> def loss(logits, key):  # f is linear: the estimate has no variance
        ...     q = dist.Bernoulli(logits=logits).to_event(1)
        ...     return ex.expect(key, q, lambda b: (2.0 * b).sum(-1), ex.MuProp())
        >>> jax.grad(loss)(jnp.zeros(2), jax.random.key(0)).tolist()
        [0.5, 0.5]

    Reference:
        Gu et al. (2016), eq. 4. `scale` and `baseline` minimise Σ g², the second moment of the
        gradient, per batch element.
    """

    scale: Float[Array, "..."] = eqx.field(default=1.0, converter=learnable)  # type: ignore[assignment]
    baseline: Float[Array, "..."] | None = eqx.field(default=None, converter=learnable)

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=Factorized,
        differentiable=True,
        cost="1 + 1 relaxed",
        order=1,
        source="Gu 2016",
        learns="scale, baseline: second moment",
        zero_for_constant=True,
    )

    def estimate(self, key, q, f):
        draws = q.sample(key, 1)
        costs, aux = f(draws)
        mean = jax.lax.stop_gradient(q.mean)
        at_mean, slope = jax.value_and_grad(
            lambda m: _sum_and_each(f.frozen(add_axis(m))[0]), has_aux=True
        )(mean)
        expansion = at_mean[1] + dot(
            slope, jax.tree.map(jnp.subtract, first(draws), mean), q.batch_ndim
        )
        eta = check_baseline(self, self.scale, costs)
        c = check_baseline(self, self.baseline, costs)
        signal = jax.lax.stop_gradient(costs[0]) - eta * expansion - c
        score = first(q.score(draws))
        eta = jnp.broadcast_to(eta, signal.shape)
        gradient = jax.tree.map(jnp.add, scale(signal, score), scale(eta, q.pull_mean(slope)))
        value = carry(costs[0], gradient, q.logits, q.batch_ndim)
        return Estimate(value, second_moment(gradient, q.batch_ndim), aux)

    def value(self, key, q, f):
        costs, aux = f(q.sample(key, 1))
        return costs[0], aux

    def evaluations(self, q):
        del q
        return Evaluations(hard=1, auxiliary=1)


def _sum_and_each(costs: Array) -> tuple[Array, Array]:
    return jnp.sum(costs), costs
