"""Bounds on log p(x) from hard draws, to evaluate with: values only, no gradient."""

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
    total = _stream(key, q, log_joint, num_samples, jnp.logaddexp, -jnp.inf)
    return total - jnp.log(num_samples)


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
    return _stream(key, q, log_joint, num_samples, jnp.add, 0.0) / num_samples


def _stream(
    key: PRNGKey, q: Any, log_joint: LogJoint, num_samples: int, fold: Any, start: float
) -> Array:
    """Fold log p(x, z) − log q(z) over draws made one after the other."""
    if num_samples < 1:
        raise InvalidArgumentError(
            complain(
                f"a bound was asked for with {num_samples} samples",
                "it is an average over draws",
                "pass num_samples of at least 1",
            )
        )
    views = joint(jax.lax.stop_gradient(q))

    def step(so_far: Array, key: Any) -> tuple[Array, None]:
        draws = views.sample(key, 1)
        log_weight = log_joint(first(draws)) - views.log_prob(draws)[0]
        held = jax.lax.stop_gradient(log_weight).astype(so_far.dtype)
        return fold(so_far, held), None

    dtype = jax.eval_shape(log_joint, views.example()).dtype
    begin = jnp.full(views.batch_shape, start, working_dtype(dtype))
    return jax.lax.scan(step, begin, jax.random.split(key, num_samples))[0]
