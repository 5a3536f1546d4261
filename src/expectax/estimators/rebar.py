"""The score function with the relaxed cost as control variate, and its gradient put back."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._trees import add_axis, scale
from ..distributions import Factorized
from ._base import (
    AbstractEstimator,
    Claims,
    Estimate,
    Evaluations,
    carry,
    check_baseline,
    check_positive,
    learnable,
    second_moment,
)


class REBAR(AbstractEstimator):
    """REBAR: the cost at a relaxed draw as control variate, with temperature and scale learned.

    Estimates:
        g = (f(b) − η f(σ_τ(z̃)) − c) s + η ∂/∂θ [f(σ_τ(z)) − f(σ_τ(z̃))], where z = θ + noise,
        b its hard draw, s = ∂log q(b)/∂θ, and z̃ has the law of z given b. The two may have any
        joint law; here z̃ *coincides* with z, and differs in how it depends on θ (see
        `expectax.gumbel.gumbel_residual`), which halves the relaxed evaluations.
    Needs:
        `Factorized` (Bernoulli, one-hot), and f differentiable in the draw and defined between hard
        draws.
    Claims:
        Unbiased for every τ, η, c.
    Cost:
        1 evaluation of f at the hard draw, and 1 with its gradient at a relaxed draw.
    Arguments:
        temperature: where to start τ > 0. The leaf is log τ, so that it stays positive.
        scale: η, a number or an array that broadcasts to the batch.
        baseline: c, a number or an array that broadcasts to the batch; None for none. Where f is
            nearly constant, REBAR without a baseline has the variance of the plain score function.
    Raises:
        IncompatibleError: q is not relaxable.
        InvalidArgumentError: a temperature that is not positive.
    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> def loss(logits, estimator, key):
        ...     q = dist.Bernoulli(logits=logits).to_event(1)
        ...     return ex.expect(key, q, lambda b: ((b - 0.45) ** 2).sum(-1), estimator)
        >>> both = jax.grad(loss, argnums=(0, 1))(jnp.zeros(3), ex.REBAR(), jax.random.key(0))
        >>> both[0].shape, both[1].log_temperature.shape  # model and control variate in one pass
        ((3,), ())

    Reference:
        Tucker et al. (2017), eq. 5–8. log τ, η and c minimise Σ g², the second moment of the
        gradient, per batch element. The published code always adds a baseline. The gradient of
        log τ differentiates f twice, so under an inner first-order estimator it raises.
    """

    log_temperature: Float[Array, ""]
    scale: Float[Array, "..."] = eqx.field(converter=learnable)
    baseline: Float[Array, "..."] | None = eqx.field(converter=learnable)

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=Factorized,
        differentiable=True,
        cost="1 + 1 relaxed",
        order=1,
        source="Tucker 2017",
        learns="log temperature, scale, baseline: second moment",
    )

    def __init__(
        self,
        temperature: float | Float[Array, ""] = 0.5,
        scale: float | Float[Array, "..."] = 1.0,
        baseline: float | Float[Array, "..."] | None = None,
    ):
        check_positive(self, "temperature", temperature)
        self.log_temperature = jnp.log(jnp.asarray(temperature, float))
        self.scale = scale  # type: ignore[assignment]
        self.baseline = baseline  # type: ignore[assignment]

    @property
    def temperature(self) -> Float[Array, ""]:
        """τ."""
        return jnp.exp(self.log_temperature)

    def estimate(self, key, q, f):
        perturbed = q.perturb(key)
        draw = q.harden(perturbed)
        costs, aux = f(add_axis(draw))
        frozen = jax.lax.stop_gradient(q)

        def relaxed_cost(z):
            relaxed = f.frozen(add_axis(frozen.relax(z, self.temperature)))[0]
            return jnp.sum(relaxed), relaxed

        (_, relaxed), slope = jax.value_and_grad(relaxed_cost, has_aux=True)(perturbed)
        eta = jnp.broadcast_to(check_baseline(self, self.scale, costs), relaxed.shape)
        c = check_baseline(self, self.baseline, costs)
        signal = jax.lax.stop_gradient(costs[0]) - eta * relaxed - c
        gradient = jax.tree.map(
            jnp.add,
            scale(signal, q.score(draw)),
            scale(eta, q.residual(perturbed, slope)),
        )
        value = carry(costs[0], gradient, q.logits, q.batch_ndim)
        return Estimate(value, second_moment(gradient, q.batch_ndim), aux)

    def value(self, key, q, f):
        costs, aux = f(add_axis(q.harden(q.perturb(key))))
        return costs[0], aux

    def evaluations(self, q):
        del q
        return Evaluations(hard=1, auxiliary=1)
