"""Bounds on log p(x) from hard draws, to evaluate with: values only, no gradient."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._errors import InvalidArgumentError, complain
from .._numerics import working_dtype
from .._trees import first
from .._types import PRNGKey
from ._elbo import LogJoint, joint_of, law_of

LogWeight = Callable[[Any], Float[Array, "*batch"]]
"""From a key, which draws z, to log p(x, z) − log q(z), shape batch, in nats."""


def importance_bound(
    key: PRNGKey, q: Any, log_joint: LogJoint, num_samples: int
) -> Float[Array, "*batch"]:
    """The m-sample importance-weighted bound, log (1/m) Σ_i p(x, z_i) / q(z_i), z_i ~ q.

    In expectation it lies between the ELBO (m = 1) and log p(x), and rises with m: a figure is
    worth little without its m. Draws are made one at a time, so memory does not grow with m.

    Arguments:
        key: consumed.
        q: q(z | x), a NumPyro distribution or a pytree of them, with batch shape.
        log_joint: log p(x, z) of a draw z, shape batch + event, to shape batch.
        num_samples: m ≥ 1.

    Returns:
        Shape batch, in nats. Without gradient.

    Raises:
        IncompatibleError: q has no log-probability.
        InvalidArgumentError: `num_samples` < 1, or a `log_joint` of another shape.

    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist
        >>> q = dist.Bernoulli(logits=jnp.zeros(2)).to_event(1)
        >>> one = lambda z: jnp.log(0.5) * z.sum(-1)  # Σ_z p(x, z) = (1 + ½)²
        >>> bound = importance_bound(jax.random.key(0), q, one, num_samples=100_000)
        >>> print(f"{bound:.1f} {jnp.log(2.25):.1f}")
        0.8 0.8

    Reference: Burda, Grosse & Salakhutdinov (2016), eq. 8.
    """
    return importance_weighted(key, _log_weight(q, log_joint, "importance_bound"), num_samples)


def hard_elbo(
    key: PRNGKey, q: Any, log_joint: LogJoint, num_samples: int = 1
) -> Float[Array, "*batch"]:
    """The ELBO as the mean of log p(x, z) − log q(z) over hard draws, in nats, without gradient.

    Arguments as those of `importance_bound`. It is the same bound for every m; more draws make it
    less noisy.

    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist
        >>> q = dist.Bernoulli(logits=jnp.zeros(2)).to_event(1)
        >>> print(f"{hard_elbo(jax.random.key(0), q, lambda z: 0 * z.sum(-1)):.4f}")
        1.3863
    """
    return averaged(key, _log_weight(q, log_joint, "hard_elbo"), num_samples)


def importance_weighted(key: PRNGKey, log_weight: LogWeight, num_samples: int) -> Array:
    """log of the mean of exp(`log_weight`) over draws, without gradient."""

    def add(carry: tuple[Array, Array, Array], log_w: Array) -> tuple[Array, Array, Array]:
        largest, total, lost = carry
        now = jnp.maximum(largest, log_w)
        kept = _exp_difference(largest, now)
        return now, *_compensated(total * kept, lost * kept, _exp_difference(log_w, now))

    begin = lambda zero: (jnp.full_like(zero, jnp.finfo(zero.dtype).min), zero, zero)
    largest, total, _ = _stream(key, log_weight, num_samples, add, begin)
    return largest + jnp.log(total) - jnp.log(num_samples)


def averaged(key: PRNGKey, log_weight: LogWeight, num_samples: int) -> Array:
    """The mean of `log_weight` over draws, without gradient."""
    add = lambda carry, log_w: _compensated(carry[0], carry[1], log_w)
    total, _ = _stream(key, log_weight, num_samples, add, lambda zero: (zero, zero))
    return total / num_samples


def _log_weight(q: Any, log_joint: LogJoint, who: str) -> LogWeight:
    """log p(x, z) − log q(z) at a draw z."""
    views = law_of(jax.lax.stop_gradient(q), who)

    def log_weight(key: Any) -> Array:
        draws = views.sample(key, 1)
        return joint_of(log_joint, first(draws), views) - views.log_prob(draws)[0]

    return log_weight


def _compensated(total: Array, lost: Array, x: Array) -> tuple[Array, Array]:
    """total + x, and what rounding lost of it (Kahan, 1965): else many draws add up to drift."""
    x = x - lost
    new = total + x
    return new, jnp.where(jnp.isfinite(new), (new - total) - x, 0.0)


def _exp_difference(x: Array, larger: Array) -> Array:
    """exp(x − larger), 1 where they are equal, be they infinite."""
    return jnp.where(x == larger, 1.0, jnp.exp(x - larger))


def _stream(key: PRNGKey, log_weight: LogWeight, num_samples: int, add: Any, begin: Any) -> Any:
    """Add up log-weights of draws made one after the other, from what `begin` makes of zeros."""
    if num_samples < 1:
        raise InvalidArgumentError(
            complain(
                f"a bound was asked for with {num_samples} samples",
                "it is an average over draws",
                "pass num_samples of at least 1",
            )
        )

    shape = jax.eval_shape(log_weight, key)
    dtype = working_dtype(shape.dtype)

    def step(so_far: Any, key: Any) -> tuple[Any, None]:
        return add(so_far, jax.lax.stop_gradient(log_weight(key)).astype(dtype)), None

    start = begin(jnp.zeros(shape.shape, dtype))
    return jax.lax.scan(step, start, jax.random.split(key, num_samples))[0]
