"""The score-function estimator, with or without a learned baseline."""

import math
from typing import ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from ..distributions import AbstractCoupling, Independent, Scored, check_coupling
from ._base import (
    AbstractEstimator,
    Claims,
    Estimate,
    Evaluations,
    check_baseline,
    check_num_samples,
    learnable,
    score_value,
    squared_error,
)


class ScoreFunction(AbstractEstimator):
    """The score function (REINFORCE, likelihood ratio), with an optional baseline.

    Estimates:
        mean_s (f(b_s) − c) ∂log q(b_s)/∂θ.
    Needs:
        `Scored`: every distribution. f need not be differentiable in the draw.
    Claims:
        Unbiased for any c, at any order.
    Cost:
        S evaluations of f.
    Arguments:
        num_samples: S ≥ 1.
        baseline: c. None; a number or array that broadcasts to the batch shape, learned; or an
            array of batch shape that the caller's network computed, which then trains through it.
            Its gradient is that of its squared error, mean_s (f(b_s) − c)².
        coupling: how the S draws depend on one another. Each alone has the law of q, so the mean is
            unbiased for every coupling. The *value* is never noisier with `Antithetic` or
            `Stratified` draws if f is monotone in every variable; of the gradient that is promised
            for one bit only (see `expectax.distributions._couplings`).
    Raises:
        InvalidArgumentError: `num_samples` < 1, a number of draws that the coupling cannot make, or
            a baseline that does not broadcast to the batch.
        IncompatibleError: a coupling, and a q whose inverse distribution function is not known.
    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> def loss(estimator, key):
        ...     q = dist.Bernoulli(logits=jnp.zeros(4))
        ...     return ex.expect(key, q, lambda b: 3.0 + 0 * b, estimator).mean()
        >>> gradient = jax.grad(loss)(ex.ScoreFunction(baseline=1.0), jax.random.key(0))
        >>> float(gradient.baseline)  # ∂(3 − c)²/∂c at c = 1
        -4.0

    Reference:
        Williams (1992); Glynn (1990). Baseline: Weaver & Tao (2001).
    """

    num_samples: int = eqx.field(default=1, static=True)
    baseline: Float[Array, "..."] | None = eqx.field(default=None, converter=learnable)
    coupling: AbstractCoupling = Independent()

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=Scored,
        differentiable=False,
        cost="S",
        order=math.inf,
        source="Williams 1992",
        learns="baseline: squared error",
    )

    def __check_init__(self):
        check_num_samples(self, self.num_samples, 1)
        check_coupling(self, self.coupling, self.num_samples, 1)

    def estimate(self, key, q, f):
        draws = self.coupling.sample(key, q, self.num_samples)
        costs, aux = f(draws)
        c = check_baseline(self, self.baseline, costs)
        value = score_value(costs, jax.lax.stop_gradient(c), q.log_prob(draws))
        return Estimate(value, squared_error(costs, c), aux)

    def evaluations(self, q):
        del q
        return Evaluations(hard=self.num_samples)
