"""The most likely outcomes summed, one draw for the rest."""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..distributions import Enumerable, Joint
from ._base import (
    AbstractEstimator,
    Claims,
    Estimate,
    Evaluations,
    check_num_samples,
    log_probabilities,
)


class SumAndSample(AbstractEstimator):
    """Sum-and-sample: the k most likely joint outcomes exactly, the others by one draw.

    Estimates:
        Σ_{b ∈ C} ∂q(b) (f(b) − c) + q(C̄) (f(r) − c) ∂log q(r), with C the k likeliest outcomes,
        r ~ q restricted to the others, and c = Σ_C q f / Σ_C q, which is not random: a baseline
        that costs nothing, since Σ_b ∂q(b) = 0.
    Needs:
        `Enumerable`, with at most 2^20 joint outcomes: q, not f, is evaluated at each.
    Claims:
        Unbiased, at any order; without variance where C holds all outcomes. Exactly zero for a
        constant f. Never noisier than a plain draw with the same c.
    Cost:
        k + 1 evaluations of f; k where k covers all outcomes.
    Arguments:
        num_top: k ≥ 1.
    Raises:
        IncompatibleError: q cannot be enumerated.
        InvalidArgumentError: `num_top` < 1, or more than 2^20 outcomes.
    Example:
        >>> import jax, numpyro.distributions as dist, expectax as ex
        >>> def loss(logit, key):
        ...     q = dist.Bernoulli(logits=logit)
        ...     return ex.expect(key, q, lambda b: (b - 0.25) ** 2, ex.SumAndSample(2))
        >>> [round(float(jax.grad(loss)(0.0, jax.random.key(i))), 6) for i in range(3)]
        [0.125, 0.125, 0.125]

    Reference:
        Liu et al. (2019), "Rao–Blackwellized stochastic gradients for discrete distributions",
        eq. 4; the baseline is ours.
    """

    num_top: int = eqx.field(default=1, static=True)

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=Enumerable,
        differentiable=False,
        cost="k + 1",
        order=math.inf,
        source="Liu 2019",
        zero_for_constant=True,
    )

    def __check_init__(self):
        check_num_samples(self, self.num_top, 1)

    def estimate(self, key, q, f):
        index, log_mass = self._points(key, q)
        draws = q.outcome(index)
        costs, aux = f(draws)
        log_q = q.log_prob(draws)
        finite = jnp.where(jnp.isfinite(log_q), log_q, 0)
        # each point stands for its own probability, the last for that of all the rest
        weight = jnp.exp(finite - jax.lax.stop_gradient(finite) + log_mass)
        k = min(self.num_top, q.num_outcomes)
        c = _mean(jax.lax.stop_gradient(costs[:k]), jnp.exp(log_mass[:k]))
        return Estimate(jnp.sum(weight * (costs - c), axis=0) + c, aux=aux)

    def _points(
        self, key: Array, q: Joint
    ) -> tuple[Int[Array, "S *batch"], Float[Array, "S *batch"]]:
        """The numbers of the outcomes to evaluate, and the logarithm of what each stands for."""
        log_p = log_probabilities(self, q)
        total = len(log_p)
        k = min(self.num_top, total)
        top_log_p, top = jax.lax.top_k(jnp.moveaxis(log_p, 0, -1), k)
        top_log_p, top = jnp.moveaxis(top_log_p, -1, 0), jnp.moveaxis(top, -1, 0)
        if k == total:
            return top, top_log_p
        in_top = jnp.any(top[:, None] == jnp.arange(total).reshape((-1,) + (1,) * q.batch_ndim), 0)
        rest = jnp.where(in_top, -jnp.inf, log_p)
        drawn = q.choose(key, rest, 1)
        log_rest = jax.nn.logsumexp(rest, axis=0, keepdims=True)
        return jnp.concatenate([top, drawn]), jnp.concatenate([top_log_p, log_rest])

    def evaluations(self, q):
        return Evaluations(hard=min(self.num_top + 1, q.num_outcomes))


def _mean(costs: Float[Array, "S *batch"], weight: Float[Array, "S *batch"]) -> Array:
    """The weighted mean, exactly c if every cost is c."""
    differences = costs - costs[0]
    return costs[0] + jnp.sum(weight * differences, axis=0) / jnp.sum(weight, axis=0)
