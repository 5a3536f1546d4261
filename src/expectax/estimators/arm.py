"""Augment-REINFORCE-merge for bits."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from .._trees import concatenate, scale
from ..distributions import Binary
from ._base import AbstractEstimator, Claims, Estimate, Evaluations, carry


class ARM(AbstractEstimator):
    """Augment-REINFORCE-merge: the difference of two antithetic draws times the shared uniform.

    Estimates:
        (f(1[u > σ(−θ)]) − f(1[u < σ(θ)])) (u − ½), u uniform.
    Needs:
        Bernoulli variables. f need not be differentiable in the draw.
    Claims:
        Unbiased. Exactly zero for a constant f. Never better than `DisARM`, which integrates u out.
    Cost:
        2 evaluations of f. Both are draws of q: the value is their mean.
    Raises:
        IncompatibleError: q is not Bernoulli.
    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> def loss(logits, key):
        ...     q = dist.Bernoulli(logits=logits).to_event(1)
        ...     return ex.expect(key, q, lambda b: 7.0 + 0 * b.sum(-1), ex.ARM())
        >>> jax.grad(loss)(jnp.zeros(2), jax.random.key(0)).tolist()
        [0.0, 0.0]

    Reference:
        Yin & Zhou (2019), theorem 1.
    """

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=Binary,
        differentiable=False,
        cost="2",
        order=1,
        source="Yin & Zhou 2019",
        zero_for_constant=True,
    )

    def estimate(self, key, q, f):
        theta = jax.lax.stop_gradient(q.logits)
        noise = q.noise(key, 1)  # logit(u): θ + noise > 0 is u > σ(−θ), θ − noise > 0 is u < σ(θ)
        one = q.harden(jax.tree.map(jnp.add, theta, noise))
        two = q.harden(jax.tree.map(jnp.subtract, theta, noise))
        costs, aux = f(concatenate(one, two))
        difference = jax.lax.stop_gradient(costs[0] - costs[1])
        gradient = scale(difference, jax.tree.map(lambda e: jax.nn.sigmoid(e[0]) - 0.5, noise))
        value = carry(jnp.mean(costs, axis=0), gradient, q.logits, q.batch_ndim)
        return Estimate(value, aux=aux)

    def evaluations(self, q):
        del q
        return Evaluations(hard=2)
