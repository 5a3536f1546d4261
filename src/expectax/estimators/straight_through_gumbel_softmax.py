"""Hard draws forward, relaxed draws backward."""

from typing import ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from ..distributions import Relaxable
from ._base import (
    AbstractEstimator,
    Claims,
    Estimate,
    Evaluations,
    check_positive,
    learnable,
    straight_through,
)


class StraightThroughGumbelSoftmax(AbstractEstimator):
    """Straight-through Gumbel-Softmax: f at the hard draw, its slope sent through the relaxed one.

    Estimates:
        f'(b) ∂σ_τ(z)/∂θ, b the hard draw of the same z = θ + γ.
    Needs:
        `Relaxable` (Bernoulli, one-hot), and f differentiable in the draw; f meets hard draws only.
    Claims:
        The value is unbiased, the gradient is not.
    Cost:
        1 evaluation of f.
    Arguments:
        temperature: τ > 0. A number or a traced scalar. It is not learned: its gradient is zero.
    Raises:
        IncompatibleError: q is not relaxable.
    Example:
        >>> import jax, numpyro.distributions as dist, expectax as ex
        >>> q = dist.Bernoulli(logits=0.3)
        >>> estimator = ex.StraightThroughGumbelSoftmax(temperature=0.5)
        >>> float(ex.expect(jax.random.key(0), q, lambda b: b, estimator)) in (0.0, 1.0)
        True

    Reference:
        Jang, Gu & Poole (2017), section 2.2.
    """

    temperature: Float[Array, ""] = eqx.field(converter=learnable)

    claims: ClassVar[Claims] = Claims(
        unbiased=False,
        needs=Relaxable,
        differentiable=True,
        cost="1",
        order=1,
        source="Jang 2017",
    )

    def __check_init__(self):
        check_positive(self, "temperature", self.temperature)

    def estimate(self, key, q, f):
        noise = q.noise(key, 1)
        perturbed = jax.tree.map(lambda theta, e: theta + e, q.logits, noise)
        relaxed = q.relax(perturbed, jax.lax.stop_gradient(self.temperature))
        hard = q.harden(jax.lax.stop_gradient(perturbed))
        costs, aux = f(straight_through(hard, relaxed))
        return Estimate(costs[0], aux=aux)

    def evaluations(self, q):
        del q
        return Evaluations(hard=1)
