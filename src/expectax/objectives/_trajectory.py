"""The policy gradient of sequences of choices, with the return of every position.

Axes: R rollouts of one batch element, independent of one another; B batch; T positions.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._errors import InvalidArgumentError, complain
from .._expect import weigh
from .._types import ScalarLike


def trajectory_loss(
    log_probs: Float[Array, "R *B T"],
    returns: Float[Array, "R *B T"],
    baseline: ScalarLike | Float[Array, "..."] = 0.0,
) -> Float[Array, "*B"]:
    """Minus the mean return of rollouts, whose gradient is the policy gradient.

    The gradient is −1/R Σ_r Σ_t (G_rt − c_rt) ∂log π(a_rt | a_r1 … a_r,t−1): unbiased if E[G_rt],
    given the rollout up to and with position t, is the expected total of the rewards from t on, and
    if c_rt does not depend on a_rt or on what follows.

    Arguments:
        log_probs: log π of each choice given those before it. Where a sequence has ended, 0.
        returns: G. `returns_to_go(rewards)`; or what roll-outs from each prefix gave. Taken as
            given. A reward for a prefix belongs to the position of its last choice.
        baseline: c, a number or an array that broadcasts to R, B, T. `leave_one_out(returns)`, the
            mean of the other rollouts, learns nothing. A network's output is learned: it receives
            the gradient of 1/R Σ_rt (G_rt − c_rt)², weighted by how much each batch element counts.

    Returns:
        Shape B: −1/R Σ_r G_r1. Under `jax.grad`, the policy gradient, to first order only.

    Raises:
        InvalidArgumentError: shapes that differ.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> logits = jnp.zeros((3, 4))  # of T = 3 positions
        >>> tokens = jax.random.categorical(jax.random.key(0), logits, shape=(5, 3))  # R = 5
        >>> def loss(logits):
        ...     rows = jnp.log(jax.nn.softmax(logits))
        ...     log_probs = jnp.take_along_axis(rows[None], tokens[..., None], -1)[..., 0]
        ...     returns = returns_to_go(jnp.ones((5, 3)))  # the same for every sequence
        ...     return trajectory_loss(log_probs, returns, leave_one_out(returns))
        >>> print(f"{loss(logits):.1f} {jnp.abs(jax.grad(loss)(logits)).max():.1f}")
        -3.0 0.0

    Reference: Williams (1992); Sutton et al. (2000); Yu et al. (2017), eq. 6 and 7.
    """
    if log_probs.shape != returns.shape or log_probs.ndim < 2:
        raise InvalidArgumentError(
            complain(
                f"log-probabilities have shape {log_probs.shape}, returns {returns.shape}",
                "each choice has one log-probability and one return",
                "give both the axes rollouts, batch, positions",
            )
        )
    # counts and 0/1 rewards are integers, a baseline is none
    dtype = jnp.promote_types(log_probs.dtype, returns.dtype)
    held = jax.lax.stop_gradient(returns).astype(dtype)
    c = jnp.broadcast_to(jnp.asarray(baseline, dtype), returns.shape)
    zero = log_probs - jax.lax.stop_gradient(log_probs)
    advantage = held - jax.lax.stop_gradient(c)
    over_positions = held[..., 0] + jnp.sum(advantage * zero, axis=-1)
    squared_error = jnp.sum((held - c) ** 2, axis=-1)
    return weigh(-jnp.mean(over_positions, axis=0), jnp.mean(squared_error, axis=0))


def returns_to_go(rewards: Float[Array, "*R T"]) -> Float[Array, "*R T"]:
    """G_t = r_t + r_t+1 + … + r_T, of each position. To discount, multiply r_t by γ^t before.

    Example:
        >>> import jax.numpy as jnp
        >>> returns_to_go(jnp.array([1.0, 0.0, 2.0])).tolist()
        [3.0, 2.0, 2.0]
    """
    return jnp.cumsum(rewards[..., ::-1], axis=-1)[..., ::-1]


def leave_one_out(returns: Float[Array, "R *B T"]) -> Float[Array, "R *B T"]:
    """For each rollout and position, the mean return there of the other rollouts; no gradient.

    Raises:
        InvalidArgumentError: fewer rollouts than two.

    Example:
        >>> import jax.numpy as jnp
        >>> leave_one_out(jnp.array([[1.0], [2.0], [6.0]])).tolist()
        [[4.0], [3.5], [1.5]]
    """
    num = len(returns)
    if num < 2:
        raise InvalidArgumentError(
            complain(
                f"leave_one_out was given {num} rollout",
                "a rollout's baseline is the mean of the others",
                "pass at least 2 rollouts along the first axis",
            )
        )
    # relative to the first, equal returns are subtracted exactly
    relative = returns - returns[:1]
    others = (jnp.sum(relative, axis=0) - relative) / (num - 1)
    return jax.lax.stop_gradient(others + returns[:1])
