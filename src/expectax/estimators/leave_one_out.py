"""The score function with the mean of the other draws as baseline."""

import math
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from ..distributions import AbstractCoupling, Independent, Scored, check_coupling
from ._base import (
    AbstractEstimator,
    Claims,
    Estimate,
    Evaluations,
    check_num_samples,
    score_value,
)


class LeaveOneOut(AbstractEstimator):
    """The score function with, for each draw, the mean cost of the *other* draws as baseline.

    Where draws are coupled, the others are those that are independent of this one.

    Estimates:
        1/S Σ_s (f(b_s) − 1/(S−1) Σ_{r≠s} f(b_r)) ∂log q(b_s)/∂θ; for draws coupled in groups of n,
        1/S Σ_s (f(b_s) − 1/(S−n) Σ_{r∉group(s)} f(b_r)) ∂log q(b_s)/∂θ. A baseline c leaves the
        mean alone if E[c ∂log q(b_s)] = 0, which holds when c is independent of b_s. Costs of the
        same group are not: in an antithetic pair one draw decides the other, and subtracting its
        cost would bias. Groups are independent of one another.
    Needs:
        `Scored`: every distribution. f need not be differentiable in the draw.
    Claims:
        Unbiased, at any order. Exactly zero for a constant f, and unchanged when a constant is
        added to f.
    Cost:
        S evaluations of f.
    Arguments:
        num_samples: S ≥ 2; with a coupling, a multiple of its group's size n, and S ≥ 2n.
        coupling: how the draws of a group depend on one another. As for `ScoreFunction`, the value
            is never noisier for a monotone f, while the gradient may be.
    Raises:
        InvalidArgumentError: `num_samples` < 2, or draws that do not make two whole groups.
        IncompatibleError: a coupling, and a q whose inverse distribution function is not known.
    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> def loss(logits, key):
        ...     q = dist.Bernoulli(logits=logits).to_event(1)
        ...     return ex.expect(key, q, lambda b: 7.0 + 0 * b.sum(-1), ex.LeaveOneOut(4))
        >>> jax.grad(loss)(jnp.zeros(2), jax.random.key(0)).tolist()
        [0.0, 0.0]

    Reference:
        Kool, van Hoof & Welling (2019); Mnih & Rezende (2016). The own draw is excluded: with it,
        the gradient would shrink by (S − 1)/S.
    """

    num_samples: int = eqx.field(default=2, static=True)
    coupling: AbstractCoupling = Independent()

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=Scored,
        differentiable=False,
        cost="S",
        order=math.inf,
        source="Kool 2019",
        zero_for_constant=True,
    )

    def __check_init__(self):
        check_num_samples(self, self.num_samples, 2)
        check_coupling(self, self.coupling, self.num_samples, 2)

    def estimate(self, key, q, f):
        draws = self.coupling.sample(key, q, self.num_samples, 2)
        costs, aux = f(draws)
        # Relative to the first draw, a constant f is exactly zero whatever the rounding of sums.
        relative = costs - costs[:1]
        size = self.coupling.size(self.num_samples, 2)
        groups = jnp.sum(relative.reshape((-1, size, *relative.shape[1:])), axis=1)
        own = jnp.repeat(groups, size, axis=0)
        others = (jnp.sum(relative, axis=0) - own) / (self.num_samples - size)
        return Estimate(score_value(costs, others + costs[:1], q.log_prob(draws)), aux=aux)

    def evaluations(self, q):
        del q
        return Evaluations(hard=self.num_samples)
