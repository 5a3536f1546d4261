"""Antithetic draws of bits, with the augmenting noise integrated out."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from .._trees import concatenate, mean_draws, scale
from ..distributions import Binary
from ._base import AbstractEstimator, Claims, Estimate, Evaluations, carry, check_num_samples


class DisARM(AbstractEstimator):
    """DisARM (unbiased uniform gradient): antithetic pairs of draws, noise integrated out.

    Estimates:
        the mean over pairs of ½ (f(b) − f(b')) (−1)^b' 1[b ≠ b'] σ(|θ|), with b = 1[u > 1 − p] and
        b' = 1[u < p].
    Needs:
        Bernoulli variables. f need not be differentiable in the draw.
    Claims:
        Unbiased. Exactly zero for a constant f. Never noisier than `ARM`; with one bit at p = ½ it
        has no variance.
    Cost:
        2 evaluations of f per pair. All are draws of q: the value is their mean.
    Arguments:
        num_pairs: independent antithetic pairs, at least 1.
    Raises:
        IncompatibleError: q is not Bernoulli.
        InvalidArgumentError: `num_pairs` < 1.
    Example:
        >>> import jax, numpyro.distributions as dist, expectax as ex
        >>> def loss(logit, key):
        ...     q = dist.Bernoulli(logits=logit)
        ...     return ex.expect(key, q, lambda b: (b - 0.25) ** 2, ex.DisARM())
        >>> [float(jax.grad(loss)(0.0, jax.random.key(i))) for i in range(3)]  # p (1 − p) (1 − 2t)
        [0.125, 0.125, 0.125]

    Reference:
        Dong, Mnih & Tucker (2020), eq. 5; Yin et al. (2020). With b ≠ b', (−1)^b' = b − b'.
    """

    num_pairs: int = eqx.field(default=1, static=True)

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=Binary,
        differentiable=False,
        cost="2 per pair",
        order=1,
        source="Dong 2020; Yin 2020",
        zero_for_constant=True,
    )

    def __check_init__(self):
        check_num_samples(self, self.num_pairs, 1)

    def estimate(self, key, q, f):
        theta = jax.lax.stop_gradient(q.logits)
        noise = q.noise(key, self.num_pairs)  # logit(u)
        one = q.harden(jax.tree.map(jnp.add, theta, noise))
        two = q.harden(jax.tree.map(jnp.subtract, theta, noise))
        costs, aux = f(concatenate(one, two))
        difference = jax.lax.stop_gradient(costs[: self.num_pairs] - costs[self.num_pairs :])
        # b − b' is (−1)^b' 1[b ≠ b']; σ(|θ|), not σ(θ): the larger of p and 1 − p
        weight = jax.tree.map(lambda b, c, t: (b - c) * jax.nn.sigmoid(jnp.abs(t)), one, two, theta)
        gradient = mean_draws(scale(0.5 * difference, weight))
        value = carry(jnp.mean(costs, axis=0), gradient, q.logits, q.batch_ndim)
        return Estimate(value, aux=aux)

    def evaluations(self, q):
        del q
        return Evaluations(hard=2 * self.num_pairs)
