"""Finite differences of the parameters, all at once, with common random numbers."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._trees import concatenate, sum_events, sum_leaves
from .._types import PRNGKey
from ..distributions import Joint, Scored
from ._base import (
    AbstractEstimator,
    Claims,
    Estimate,
    Evaluations,
    check_positive,
    learnable,
)


class FiniteDifference(AbstractEstimator):
    """Simultaneous perturbation: two draws with the same noise, the parameters shaken both ways.

    Estimates:
        (f(b⁺) − f(b⁻)) / (2h) · 1/Δ for every entry of the parameters θ, with Δ = ±1 at random for
        each, and b± the draws of q at θ ± hΔ from the same key.
    Needs:
        `Scored`: every distribution; only its sampler is used. f need not be differentiable in the
        draw.
    Claims:
        Biased by O(h²): unbiased as step → 0. With discrete draws, which the shake changes with a
        chance of O(h), the variance is O(1/h). All entries share one difference, so the variance
        also grows with their number. Exactly zero for a constant f.
    Cost:
        1 evaluation of f at the draw, and 2 beside it. It is the last resort, where no score is to
        be trusted, and a check of the others.
    Arguments:
        step: h > 0, in units of the parameters that the view of q holds: logits for bits,
            categories and binomials, else those of NumPyro's distribution, which must stay in their
            domain. A number or a traced scalar. It is not learned: its gradient is zero.
    Raises:
        InvalidArgumentError: a step that is not positive.
    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> def loss(loc, key):
        ...     f = lambda x: 3.0 * x
        ...     return ex.expect(key, dist.Normal(loc, 1.0), f, ex.FiniteDifference(0.1)).sum()
        >>> keys = jax.random.split(jax.random.key(0), 100_000)
        >>> gradients = jax.vmap(jax.grad(loss), (None, 0))(jnp.zeros(2), keys)
        >>> [f"{g:.1f}" for g in gradients.mean(axis=0)]  # the scale is moved too, and is noise
        ['3.0', '3.0']

    Reference:
        Spall (1992), eq. 2.2, with common random numbers (Glasserman & Yao, 1992).
    """

    step: Float[Array, ""] = eqx.field(default=0.5, converter=learnable)  # type: ignore[assignment]

    claims: ClassVar[Claims] = Claims(
        unbiased=False,
        needs=Scored,
        differentiable=False,
        cost="1 + 2",
        order=1,
        source="Spall 1992",
        exact_for="as step → 0",
        zero_for_constant=True,
    )

    def __check_init__(self):
        check_positive(self, "step", self.step)

    def estimate(self, key, q, f):
        key, key_of_signs = jax.random.split(key)
        costs, aux = f(q.sample(key, 1))
        step = jax.lax.stop_gradient(self.step)
        signs = _signs(key_of_signs, q)
        # the same key on purpose: the same noise, so that the draws differ by the shake alone
        draws = [_shaken(q, signs, h).sample(jax.random.clone(key), 1) for h in (step, -step)]
        ahead, behind = jax.lax.stop_gradient(f.frozen(concatenate(*draws)))
        slope = (ahead - behind) / (2 * step).astype(costs.dtype)
        value = costs[0] + slope * _along(q, signs).astype(costs.dtype)
        return Estimate(value, aux=aux)

    def value(self, key, q, f):
        costs, aux = f(q.sample(jax.random.split(key)[0], 1))
        return costs[0], aux

    def evaluations(self, q):
        del q
        return Evaluations(hard=1, auxiliary=2)


def _signs(key: PRNGKey, q: Joint) -> PyTree:
    """Δ, which is also 1/Δ: independent signs for all entries of all leaves of q."""
    leaves, structure = jax.tree.flatten(q.opened()[0])
    keys = jax.random.split(key, len(leaves))
    signs = [jax.random.rademacher(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    return structure.unflatten(signs)


def _shaken(q: Joint, signs: PyTree, step: Float[Array, ""]) -> Joint:
    """q at θ + step Δ, without gradient."""
    leaves, close = q.opened()  # of q as it is: a number in it is no leaf, and stopped it would be
    leaves = jax.lax.stop_gradient(leaves)
    return close(jax.tree.map(lambda x, sign: x + step.astype(x.dtype) * sign, leaves, signs))


def _along(q: Joint, signs: PyTree) -> Float[Array, "*batch"]:
    """Σ (θ − stop(θ)) Δ over the entries that each batch element depends on: zero, with a slope."""

    def one(x, sign, aligned):
        live = jnp.where(jnp.isfinite(x), x, 0)  # −inf − (−inf) would be NaN
        terms = (live - jax.lax.stop_gradient(live)) * sign
        return sum_events(terms, q.batch_ndim if aligned else 0)

    return sum_leaves(jax.tree.map(one, q.opened()[0], signs, q.aligned()))
