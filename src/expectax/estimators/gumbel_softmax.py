"""Pathwise gradients through relaxed draws."""

from typing import ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from ..distributions import Relaxable
from ._base import AbstractEstimator, Claims, Estimate, Evaluations, check_positive, learnable


class GumbelSoftmax(AbstractEstimator):
    """The Gumbel-Softmax (Concrete) relaxation: f at a relaxed draw, differentiated through it.

    Estimates:
        ∂f(σ_τ(z))/∂θ, z = θ + γ, with σ_τ the softmax (or sigmoid, for bits) at temperature τ.
    Needs:
        `Relaxable` (Bernoulli, one-hot), and f differentiable in the draw and defined between hard
        draws.
    Claims:
        Biased, in value and gradient; the bias falls and the variance grows as τ → 0.
    Cost:
        1 evaluation of f, at the relaxed draw; f's own parameters get their gradient there.
    Arguments:
        temperature: τ > 0. A number or a traced scalar, so it can be annealed inside a compiled
            step. It is not learned: its gradient is zero.
    Raises:
        IncompatibleError: q is not relaxable.
    Example:
        >>> import jax, numpyro.distributions as dist, expectax as ex
        >>> q = dist.Bernoulli(logits=0.3)
        >>> b = ex.expect(jax.random.key(0), q, lambda b: b, ex.GumbelSoftmax(temperature=0.5))
        >>> 0.0 < float(b) < 1.0
        True

    Reference:
        Jang, Gu & Poole (2017); Maddison, Mnih & Teh (2017).
    """

    temperature: Float[Array, ""] = eqx.field(converter=learnable)

    claims: ClassVar[Claims] = Claims(
        unbiased=False,
        needs=Relaxable,
        differentiable=True,
        cost="1 relaxed",
        order=1,
        source="Jang 2017; Maddison 2017",
        exact_for="as temperature → 0",
    )

    def __check_init__(self):
        check_positive(self, "temperature", self.temperature)

    def estimate(self, key, q, f):
        noise = q.noise(key, 1)
        perturbed = jax.tree.map(lambda theta, e: theta + e, q.logits, noise)
        costs, aux = f(q.relax(perturbed, jax.lax.stop_gradient(self.temperature)))
        return Estimate(costs[0], aux=aux)

    def evaluations(self, q):
        del q
        return Evaluations(hard=0, auxiliary=1)
