"""Hard draws forward; backward, means of logits that agree with the draw by a gap."""

from typing import ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from .._trees import add_axis
from ..distributions import Factorized
from ._base import (
    AbstractEstimator,
    Claims,
    Estimate,
    Evaluations,
    check_positive,
    learnable,
    straight_through,
)


class GappedStraightThrough(AbstractEstimator):
    """Straight-through on logits pushed apart, so that the relaxed point agrees with the draw.

    Estimates:
        f'(b) ∂σ_τ(θ + m)/∂θ, with the shift m(b, θ) held fixed: it lifts the logit of the drawn
        category to the greatest, and lowers every other to at least the gap g below it. For bits,
        as two categories: θ + m = ± max(±θ, g), + where b = 1.
    Needs:
        `Factorized` (Bernoulli, one-hot), and f differentiable in the draw; f meets hard draws
        only.
    Claims:
        The value is unbiased, the gradient is not. No noise beyond that of the draw.
    Cost:
        1 evaluation of f.
    Arguments:
        temperature: τ > 0. A number or a traced scalar. It is not learned: its gradient is zero.
        gap: g > 0, in units of logits. A number or a traced scalar, not learned.
    Raises:
        IncompatibleError: q is not made of bits or one-hot variables.
        InvalidArgumentError: a temperature or gap that is not positive.
    Example:
        >>> import jax, numpyro.distributions as dist, expectax as ex
        >>> def loss(logit, key):
        ...     q = dist.Bernoulli(logits=logit)
        ...     return ex.expect(key, q, lambda b: b, ex.GappedStraightThrough())
        >>> round(float(jax.grad(loss)(0.0, jax.random.key(0))), 4)  # σ'(1), where ST has σ'(0)
        0.1966

    Reference:
        Fan et al. (2022), "Training discrete deep generative models via gapped straight-through
        estimator", section 4.
    """

    temperature: Float[Array, ""] = eqx.field(default=1.0, converter=learnable)  # type: ignore[assignment]
    gap: Float[Array, ""] = eqx.field(default=1.0, converter=learnable)  # type: ignore[assignment]

    claims: ClassVar[Claims] = Claims(
        unbiased=False,
        needs=Factorized,
        differentiable=True,
        cost="1",
        order=1,
        source="Fan 2022",
    )

    def __check_init__(self):
        check_positive(self, "temperature", self.temperature)
        check_positive(self, "gap", self.gap)

    def estimate(self, key, q, f):
        hard = q.sample(key, 1)
        temperature, gap = jax.lax.stop_gradient((self.temperature, self.gap))
        shifted = jax.tree.map(lambda theta, m: theta + m, add_axis(q.logits), q.gap(hard, gap))
        costs, aux = f(straight_through(hard, q.relax(shifted, temperature)))
        return Estimate(costs[0], aux=aux)

    def evaluations(self, q):
        del q
        return Evaluations(hard=1)
