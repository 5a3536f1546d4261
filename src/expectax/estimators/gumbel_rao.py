"""Straight-through Gumbel-Softmax, averaged over the noise given the draw."""

from typing import ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from .._trees import add_axis, first, mean_draws
from ..distributions import Factorized
from ._base import (
    AbstractEstimator,
    Claims,
    Estimate,
    Evaluations,
    check_num_samples,
    check_positive,
    learnable,
    straight_through,
    zero_with_gradient,
)


class GumbelRao(AbstractEstimator):
    """Gumbel-Rao: straight-through Gumbel-Softmax, Rao–Blackwellised over the noise given the draw.

    Estimates:
        f'(b) · 1/M Σ_m ∂σ_τ(θ + γ_m)/∂θ, with γ_m the noise given that it makes the hard draw b,
        held fixed in the derivative: the mean of `StraightThroughGumbelSoftmax` given b, as M → ∞.
    Needs:
        `Factorized` (Bernoulli, one-hot), and f differentiable in the draw; f meets hard draws
        only.
    Claims:
        The value is unbiased; the gradient has the bias of `StraightThroughGumbelSoftmax` at the
        same temperature, and less variance.
    Cost:
        1 evaluation of f, whatever M; M softmaxes.
    Arguments:
        temperature: τ > 0. A number or a traced scalar. It is not learned: its gradient is zero.
        num_inner: M ≥ 1 conditional noises for each draw.
    Raises:
        IncompatibleError: q is not made of bits or one-hot variables.
        InvalidArgumentError: a temperature that is not positive, or `num_inner` < 1.
    Example:
        >>> import jax, numpyro.distributions as dist, expectax as ex
        >>> q = dist.Bernoulli(logits=0.3)
        >>> estimator = ex.GumbelRao(temperature=0.5, num_inner=20)
        >>> float(ex.expect(jax.random.key(0), q, lambda b: b, estimator)) in (0.0, 1.0)
        True

    Reference:
        Paulus, Maddison & Krause (2021), eq. 9 and 10.
    """

    temperature: Float[Array, ""] = eqx.field(default=0.5, converter=learnable)  # type: ignore[assignment]
    num_inner: int = eqx.field(default=10, static=True)

    claims: ClassVar[Claims] = Claims(
        unbiased=False,
        needs=Factorized,
        differentiable=True,
        cost="1",
        order=1,
        source="Paulus 2021",
    )

    def __check_init__(self):
        check_positive(self, "temperature", self.temperature)
        check_num_samples(self, self.num_inner, 1)

    def estimate(self, key, q, f):
        draw_key, noise_key = jax.random.split(key)
        hard = q.sample(draw_key, 1)
        given = q.conditional(noise_key, first(hard), self.num_inner)
        perturbed = jax.tree.map(lambda z, zero: z + zero, given, zero_with_gradient(q.logits))
        relaxed = q.relax(perturbed, jax.lax.stop_gradient(self.temperature))
        costs, aux = f(straight_through(hard, add_axis(mean_draws(relaxed))))
        return Estimate(costs[0], aux=aux)

    def evaluations(self, q):
        del q
        return Evaluations(hard=1)
