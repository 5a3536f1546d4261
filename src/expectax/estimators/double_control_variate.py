"""Leave-one-out, with a linear control variate inside each cost."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._trees import dot, mean_draws, scale
from ..distributions import Factorized
from ._base import (
    AbstractEstimator,
    Claims,
    Estimate,
    Evaluations,
    carry,
    check_baseline,
    check_num_samples,
    learnable,
    second_moment,
)


class DoubleControlVariate(AbstractEstimator):
    """Leave-one-out on costs from which a linear control variate has been taken.

    Estimates:
        g = 1/S Σ_s (F_s − 1/(S−1) Σ_{r≠s} F_r) s_s + α J f̄', with s = ∂log q(b)/∂θ, μ = E[b],
        J = ∂μ/∂θ, f̄' = 1/S Σ_s f'(b_s), and F_s = f(b_s) − α h_s, where the slope of
        h_s = 1/(S−1) Σ_{r≠s} f'(b_r)·(b_s − μ) comes from the *other* draws.
    Needs:
        `Factorized` (Bernoulli, one-hot), and f differentiable in the draw.
    Claims:
        Unbiased for every α. Exactly zero for a constant f. At α = 0 it is `LeaveOneOut`; at α = 1
        it has no variance for a linear f.
    Cost:
        S evaluations of f at the hard draws, and its slope at the same S points (counted as
        auxiliary, for f's own parameters are held there).
    Arguments:
        num_samples: S ≥ 2.
        scale: α, learned. A number or an array that broadcasts to the batch. Where f bends much
            over the distance of two draws the best α is small: start at 0 if it cannot learn.
    Raises:
        IncompatibleError: q is not made of Bernoulli or one-hot variables.
        InvalidArgumentError: `num_samples` < 2, or a scale that does not broadcast to the batch.
    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> def loss(logits, key):  # f is linear: the estimate has no variance
        ...     q = dist.Bernoulli(logits=logits).to_event(1)
        ...     return ex.expect(key, q, lambda b: (2 * b).sum(-1), ex.DoubleControlVariate())
        >>> jax.grad(loss)(jnp.zeros(2), jax.random.key(0)).tolist()
        [0.5, 0.5]

    Reference:
        Titsias & Shi (2022), section 3; their α has the other sign, and they state it for bits.
        Given every draw but s, h_s is linear in b_s, so E[h_s s_s] = J f'_{−s}: that is put back.
        Given every draw but r, h_r has mean zero, so E[h_r s_s] = 0: nothing more is due, although
        h_r holds f'(b_s). `scale` minimises Σ g², per batch element.
    """

    num_samples: int = eqx.field(default=2, static=True)
    scale: Float[Array, "..."] = eqx.field(default=1.0, converter=learnable)  # type: ignore[assignment]

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=Factorized,
        differentiable=True,
        cost="S, and S slopes",
        order=1,
        source="Titsias & Shi 2022",
        learns="scale: second moment",
        zero_for_constant=True,
    )

    def __check_init__(self):
        check_num_samples(self, self.num_samples, 2)

    def estimate(self, key, q, f):
        draws = q.sample(key, self.num_samples)
        costs, aux = f(draws)
        slopes = jax.grad(lambda b: jnp.sum(f.frozen(b)))(draws)
        slopes = jax.tree.map(lambda x, theta: x.astype(theta.dtype), slopes, q.logits)
        others = jax.tree.map(self._mean_of_others, slopes)
        score = q.score(draws)  # which is b − μ
        linear = dot(others, score, 1 + q.batch_ndim)  # h_s
        alpha = check_baseline(self, self.scale, costs)
        reduced = jax.lax.stop_gradient(costs) - alpha * linear
        # Relative to the first draw, a constant f is exactly zero whatever the rounding of sums.
        reduced = reduced - reduced[:1]
        signal = reduced - self._mean_of_others(reduced)
        alpha = jnp.broadcast_to(alpha, signal.shape[1:])
        gradient = jax.tree.map(
            jnp.add,
            mean_draws(scale(signal, score)),
            scale(alpha, q.pull_mean(mean_draws(slopes))),
        )
        value = carry(jnp.mean(costs, axis=0), gradient, q.logits, q.batch_ndim)
        return Estimate(value, second_moment(gradient, q.batch_ndim), aux)

    def _mean_of_others(self, x: Float[Array, "S ..."]) -> Float[Array, "S ..."]:
        """For each draw, the mean over the other draws."""
        return (jnp.sum(x, axis=0) - x) / (self.num_samples - 1)

    def value(self, key, q, f):
        costs, aux = f(q.sample(key, self.num_samples))
        return jnp.mean(costs, axis=0), aux

    def evaluations(self, q):
        del q
        return Evaluations(hard=self.num_samples, auxiliary=self.num_samples)
