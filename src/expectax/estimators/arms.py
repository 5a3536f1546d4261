"""Mutually antithetic draws of bits, each the baseline of the others."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from .._copula import antithetic, debias
from .._trees import expand_to
from ..distributions import Binary
from ._base import AbstractEstimator, Claims, Estimate, Evaluations, carry, check_num_samples


class ARMS(AbstractEstimator):
    """Antithetic REINFORCE, many samples: n draws of bits that repel each other, leave-one-out.

    Estimates:
        ρ / (n − 1) Σ_i (f(b_i) − mean f) (b_i − p), for each variable, with b_1 … b_n coupled by a
        Dirichlet copula and ρ = p (1 − p) / (p − P(b_i = b_j = 1)).
    Needs:
        Bernoulli variables. f need not be differentiable in the draw.
    Claims:
        Unbiased. Exactly zero for a constant f, and unchanged when a constant is added to f. With
        two draws it is `DisARM`; with one bit it is never noisier than `LeaveOneOut`.
    Cost:
        n evaluations of f. All are draws of q: the value is their mean.
    Arguments:
        num_samples: n ≥ 2.
    Raises:
        IncompatibleError: q is not Bernoulli.
        InvalidArgumentError: `num_samples` < 2.
    Example:
        >>> import jax, numpyro.distributions as dist, expectax as ex
        >>> def loss(logit, key):
        ...     q = dist.Bernoulli(logits=logit)
        ...     return ex.expect(key, q, lambda b: (b - 0.25) ** 2, ex.ARMS(2))
        >>> [float(jax.grad(loss)(0.0, jax.random.key(i))) for i in range(3)]  # p (1 − p) (1 − 2t)
        [0.125, 0.125, 0.125]

    Reference:
        Dimitriev & Zhou (2021), "ARMS", theorem 2. We build the antithetic set for the rarer value
        of each bit, with one copula for both. It is unbiased for many variables at once because a
        pair of draws counts for a variable only where the two differ in it; the others, coupled by
        copulas of their own, are then an exchangeable pair of draws of q whatever that variable is.
    """

    num_samples: int = eqx.field(default=4, static=True)

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=Binary,
        differentiable=False,
        cost="n",
        order=1,
        source="Dimitriev & Zhou 2021",
        zero_for_constant=True,
    )

    def __check_init__(self):
        check_num_samples(self, self.num_samples, 2)

    def estimate(self, key, q, f):
        theta = jax.lax.stop_gradient(q.logits)
        draws = q.harden(antithetic(key, theta, self.num_samples))
        costs, aux = f(draws)
        held = jax.lax.stop_gradient(costs)
        relative = held - held[:1]  # of a constant f exactly zero, whatever the rounding of means
        centered = (relative - jnp.mean(relative, axis=0)) / (self.num_samples - 1)

        def direction(b, t):
            # centered costs sum to zero, so any number may be subtracted from b: with the likelier
            # value, a saturated bit that never moves has a gradient of exactly zero
            moved = b.astype(t.dtype) - (t > 0)
            return debias(t, self.num_samples) * jnp.sum(expand_to(centered, moved) * moved, axis=0)

        gradient = jax.tree.map(direction, draws, theta)
        value = carry(jnp.mean(costs, axis=0), gradient, q.logits, q.batch_ndim)
        return Estimate(value, aux=aux)

    def evaluations(self, q):
        del q
        return Evaluations(hard=self.num_samples)
