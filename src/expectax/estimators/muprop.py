"""The score function with a first-order Taylor expansion of f as control variate."""

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._trees import add_axis, dot, first, scale
from ..distributions import Factorized, Joint
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
        g = (f(b) − η h(b) − c) s + η ∂E[h]/∂θ, with μ = E[b], s = ∂log q(b)/∂θ and
        h(b) = f(μ) + f'(μ)·(b − μ), so that ∂E[h]/∂θ = f'(μ) ∂μ/∂θ. To second order h has also
        ½ (b − μ)ᵀ H (b − μ), H = f''(μ), and ∂E[h]/∂θ also (½ diag H_v − H_v μ_v) ∂μ_v/∂θ for the
        block H_v of each variable v: the covariance of different variables is zero.
    Needs:
        `Factorized` (Bernoulli, one-hot), and f differentiable in the draw and defined at μ.
    Claims:
        Unbiased for every η and c. Exactly zero for a constant f at η = 1, c = 0.
    Cost:
        1 evaluation of f, and 1 with its gradient at μ; to second order also a product of H with a
        vector for every logit of the event.
    Arguments:
        scale: η, learned. A number or an array that broadcasts to the batch.
        baseline: c, learned; None for none. With p = ½ and a quadratic f the expansion leaves a
            constant, which only a baseline removes.
        second_order: whether h has its quadratic term. Then f is differentiated twice, so it may
            hold no estimator that is right to first order only.
    Raises:
        IncompatibleError: q is not made of bits or one-hot variables.
    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> def loss(logits, key):  # f is linear: the estimate has no variance
        ...     q = dist.Bernoulli(logits=logits).to_event(1)
        ...     return ex.expect(key, q, lambda b: (2.0 * b).sum(-1), ex.MuProp())
        >>> jax.grad(loss)(jnp.zeros(2), jax.random.key(0)).tolist()
        [0.5, 0.5]

    Reference:
        Gu et al. (2016), eq. 4; the second order is our derivation. `scale` and `baseline` minimise
        Σ g², the second moment of the gradient, per batch element.
    """

    scale: Float[Array, "..."] = eqx.field(default=1.0, converter=learnable)  # type: ignore[assignment]
    baseline: Float[Array, "..."] | None = eqx.field(default=None, converter=learnable)

    second_order: bool = eqx.field(default=False, static=True)

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
        away = jax.tree.map(jnp.subtract, first(draws), mean)
        total = lambda m: _sum_and_each(f.frozen(add_axis(m))[0])
        slope_at = lambda m: jax.grad(total, has_aux=True)(m)
        if self.second_order:
            slope, curvature, at_mean = jax.linearize(slope_at, mean, has_aux=True)
            bend = curvature(away)
            expansion = at_mean + dot(slope, away, q.batch_ndim) + dot(bend, away, q.batch_ndim) / 2
            known = jax.tree.map(jnp.add, slope, _bend_of_mean(q, mean, curvature))
        else:
            slope, at_mean = slope_at(mean)
            expansion = at_mean + dot(slope, away, q.batch_ndim)
            known = slope
        eta = check_baseline(self, self.scale, costs)
        c = check_baseline(self, self.baseline, costs)
        signal = jax.lax.stop_gradient(costs[0]) - eta * expansion - c
        score = first(q.score(draws))
        eta = jnp.broadcast_to(eta, signal.shape)
        gradient = jax.tree.map(jnp.add, scale(signal, score), scale(eta, q.pull_mean(known)))
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


def _bend_of_mean(q: Joint, mean: PyTree, curvature: Callable[[PyTree], PyTree]) -> PyTree:
    """½ diag H_v − H_v μ_v for every variable v, from products with H, one logit at a time."""
    zeros = jax.tree.map(jnp.zeros_like, mean)

    def of_site(site, m, _, put):
        number = jnp.asarray(site.variables)

        def entry(i):
            unit = (jnp.arange(number.size) == i).reshape(number.shape).astype(m.dtype)
            row = curvature(put(jnp.broadcast_to(unit, m.shape)))
            block = number == number.reshape(-1)[i]
            return dot(row, put(jnp.where(block, unit / 2 - m, 0)), q.batch_ndim)

        return jnp.moveaxis(jax.lax.map(entry, jnp.arange(number.size)), 0, -1).reshape(m.shape)

    return q.each_in_turn(of_site, mean, zeros)
