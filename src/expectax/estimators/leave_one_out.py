"""The score function with the mean of the other draws as baseline."""

import math
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from ..distributions import Scored
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

    Estimates:
        1/S Σ_s (f(b_s) − 1/(S−1) Σ_{r≠s} f(b_r)) ∂log q(b_s)/∂θ.
    Needs:
        `Scored`: every distribution. f need not be differentiable in the draw.
    Claims:
        Unbiased, at any order. Exactly zero for a constant f, and unchanged when a constant is
        added to f.
    Cost:
        S evaluations of f.
    Arguments:
        num_samples: S ≥ 2.
    Raises:
        InvalidArgumentError: `num_samples` < 2.
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

    def estimate(self, key, q, f):
        draws = q.sample(key, self.num_samples)
        costs, aux = f(draws)
        # Relative to the first draw, a constant f is exactly zero whatever the rounding of sums.
        relative = costs - costs[:1]
        others = (jnp.sum(relative, axis=0) - relative) / (self.num_samples - 1)
        return Estimate(score_value(costs, others + costs[:1], q.log_prob(draws)), aux=aux)

    def evaluations(self, q):
        del q
        return Evaluations(hard=self.num_samples)
