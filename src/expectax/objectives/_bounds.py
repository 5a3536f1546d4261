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
from ..distributions import joint
from ._elbo import LogJoint

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
        InvalidArgumentError: `num_samples` < 1.

    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist
        >>> q = dist.Bernoulli(logits=jnp.zeros(2)).to_event(1)
        >>> one = lambda z: jnp.log(0.5) * z.sum(-1)  # Σ_z p(x, z) = (1 + ½)²
        >>> bound = importance_bound(jax.random.key(0), q, one, num_samples=100_000)
        >>> print(f"{bound:.1f} {jnp.log(2.25):.1f}")
        0.8 0.8

    Reference: Burda, Grosse & Salakhutdinov (2016), eq. 8.
    """
    return importance_weighted(key, _log_weight(q, log_joint), num_samples)


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
    return averaged(key, _log_weight(q, log_joint), num_samples)


def importance_weighted(key: PRNGKey, log_weight: LogWeight, num_samples: int) -> Array:
    """log of the mean of exp(`log_weight`) over draws, without gradient."""
    total = _stream(key, log_weight, num_samples, jnp.logaddexp, -jnp.inf)
    return total - jnp.log(num_samples)


def averaged(key: PRNGKey, log_weight: LogWeight, num_samples: int) -> Array:
    """The mean of `log_weight` over draws, without gradient."""
    return _stream(key, log_weight, num_samples, jnp.add, 0.0) / num_samples


def _log_weight(q: Any, log_joint: LogJoint) -> LogWeight:
    """log p(x, z) − log q(z) at a draw z."""
    views = joint(jax.lax.stop_gradient(q))

    def log_weight(key: Any) -> Array:
        draws = views.sample(key, 1)
        return log_joint(first(draws)) - views.log_prob(draws)[0]

    return log_weight


def _stream(
    key: PRNGKey, log_weight: LogWeight, num_samples: int, fold: Any, start: float
) -> Array:
    """Fold log-weights over draws made one after the other."""
    if num_samples < 1:
        raise InvalidArgumentError(
            complain(
                f"a bound was asked for with {num_samples} samples",
                "it is an average over draws",
                "pass num_samples of at least 1",
            )
        )

    def step(so_far: Array, key: Any) -> tuple[Array, None]:
        held = jax.lax.stop_gradient(log_weight(key)).astype(so_far.dtype)
        return fold(so_far, held), None

    shape = jax.eval_shape(log_weight, key)
    begin = jnp.full(shape.shape, start, working_dtype(shape.dtype))
    return jax.lax.scan(step, begin, jax.random.split(key, num_samples))[0]
