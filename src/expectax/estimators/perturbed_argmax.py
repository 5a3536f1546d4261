"""Through the smoothed solver: f's slope, and the Jacobian of the mean of perturbed argmaxes."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from ..distributions import Solvable
from ._base import AbstractEstimator, Claims, Estimate, Evaluations, check_num_samples


class PerturbedArgmax(AbstractEstimator):
    """Perturbed optimizers: f's slope, sent through the mean of the perturbed maximisers.

    Estimates:
        the mean over pairs of draws b = argmax⟨·, θ + γ⟩ of
        ¼ ⟨f'(b) + f'(b'), b − b'⟩ (ν(γ) − ν(γ')), ν = −(log density of γ)': 1 − exp(−γ) for Gumbel
        noise, tanh(γ/2) for logistic. Within each variable: what another decides is left out.
    Needs:
        `Solvable`: a draw is the maximiser of perturbed scores. f differentiable in the draw; it
        meets hard draws only.
    Claims:
        The value is unbiased; the gradient is exact where f is quadratic. Exactly zero for a
        constant f. No probability is needed, nor how a solver works: its outputs are enough.
    Cost:
        `num_samples` evaluations of f, and as many solves.
    Arguments:
        num_samples: draws, at least 2.
    Raises:
        IncompatibleError: q is not solvable.
        InvalidArgumentError: `num_samples` < 2.
    Example:
        >>> import jax, jax.numpy as jnp, expectax as ex
        >>> def loss(logits, key):
        ...     f = lambda b: b @ jnp.array([0.0, 1.0, 5.0])
        ...     return ex.expect(key, ex.OneHotCategorical(logits=logits), f, estimator)
        >>> estimator = ex.PerturbedArgmax(10_000)
        >>> gradient = jax.grad(loss)(jnp.zeros(3), jax.random.key(0))
        >>> [round(float(g), 1) for g in gradient]  # −2/3, −1/3, 1
        [-0.7, -0.3, 1.0]

    Reference:
        Berthet et al. (2020), proposition 3.1, E[b ν(γ)ᵀ] = ∂E[b]/∂θ. They take the slope of f at
        the mean of the draws, and so the derivative of f(E[b]). Here f is evaluated at hard draws,
        and the slope is the mean of a pair's: f(b) − f(b') = ½ ⟨f'(b) + f'(b'), b − b'⟩ is exact
        for quadratic f, and with it this is the leave-one-out score function of the noise.
    """

    num_samples: int = eqx.field(default=2, static=True)

    claims: ClassVar[Claims] = Claims(
        unbiased=False,
        needs=Solvable,
        differentiable=True,
        cost="S",
        order=1,
        source="Berthet 2020",
        exact_for="quadratic f",
        zero_for_constant=True,
    )

    def __check_init__(self):
        check_num_samples(self, self.num_samples, 2)

    def estimate(self, key, q, f):
        theta = jax.lax.stop_gradient(q.logits)
        noise = q.noise(key, self.num_samples)
        draws = q.harden(jax.tree.map(jnp.add, theta, noise))
        # ⟨ν, θ − stop(θ)⟩ is zero; its derivative in θ is ν
        zero = jax.tree.map(jnp.subtract, q.logits, theta)
        along = q.contract(_center(q.noise_score(noise)), zero)
        costs, aux = f(jax.tree.map(self._attach, draws, _center(draws), along))
        return Estimate(jnp.mean(costs, axis=0), aux=aux)

    def _attach(self, draw, away, along):
        """b_s, with the derivative of Σ_t (b_s − b_t) (a_s − a_t) / 2 (S − 1), a = `along`."""
        product = away * along  # of centered factors: Σ_t is S times this, and its mean
        factor = self.num_samples / (2 * (self.num_samples - 1))
        return draw + (factor * (product + jnp.mean(product, axis=0))).astype(draw.dtype)

    def evaluations(self, q):
        del q
        return Evaluations(hard=self.num_samples)


def _center(tree):
    return jax.tree.map(lambda x: x - jnp.mean(x, axis=0), tree)
