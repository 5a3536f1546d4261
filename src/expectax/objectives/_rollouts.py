"""Monte-Carlo roll-outs: what the choices so far are worth, by letting a policy finish.

Axes: B batch (any number of leading axes), T positions, N roll-outs from each prefix.
"""

from collections.abc import Callable
from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._errors import InvalidArgumentError, complain
from .._types import PRNGKey
from ._trajectory import leave_one_out

Reward = Callable[[Int[Array, "*S T"]], Float[Array, "*S"]]
"""From whole sequences, with any leading axes, to what they are worth."""


class Policy(Protocol):
    """A law of sequences, one choice after the other, with a state that knows those before.

    Every leaf of the state has the batch axes in front.
    """

    def begin(self, shape: tuple[int, ...]) -> Any:
        """The state before the first choice, for a batch of this shape."""
        ...

    def advance(self, state: Any, tokens: Any) -> Any:
        """The state after one more choice."""
        ...

    def draw(self, key: Any, state: Any) -> Int[Array, "*B"]:
        """The next choice. The key is consumed."""
        ...


def rollout_returns(
    key: PRNGKey,
    policy: Policy,
    tokens: Int[Array, "*B T"],
    reward: Reward,
    num_rollouts: int,
) -> Float[Array, "*B T"]:
    """The return of each position: the mean reward of N completions of the prefix up to there.

    G_t = 1/N Σ_n R(x_1 … x_t, completion n), and G_T = R(x): returns for `trajectory_loss`, without
    gradient. They are those of the sequence's own law where `policy` is that law; an older copy of
    it, which changes less from step to step, gives the returns under that copy.

    Arguments:
        key: consumed.
        policy: who completes, such as `expectax.models.LSTMGenerator`.
        tokens: sequences.
        reward: of whole sequences.
        num_rollouts: N ≥ 1. One is completed after the other, so memory does not grow with N.

    Raises:
        InvalidArgumentError: fewer roll-outs than one.

    Example:
        >>> import jax
        >>> from expectax.models import lstm_generator
        >>> model = lstm_generator(jax.random.key(0), num_tokens=4, width=3, length=5)
        >>> x = model.sample(jax.random.key(1), 6)
        >>> zeros = lambda x: (x == 0).mean(-1)
        >>> rollout_returns(jax.random.key(2), model, x, zeros, num_rollouts=8).shape
        (6, 5)

    Reference: Yu et al. (2017), "SeqGAN", eq. 3 and 4.
    """
    if num_rollouts < 1:
        raise InvalidArgumentError(
            complain(
                f"rollout_returns was asked for {num_rollouts} roll-outs",
                "a prefix is worth the mean reward of its completions",
                "pass num_rollouts of at least 1",
            )
        )
    floating = eqx.is_inexact_array
    held = jax.tree.map(lambda x: jax.lax.stop_gradient(x) if floating(x) else x, policy)
    after = _after_each_token(held, tokens)

    def once(key: Any) -> Array:
        return reward(_completed(key, held, tokens, after))

    returns = jnp.mean(jax.lax.map(once, jax.random.split(key, num_rollouts)), axis=0)
    own = reward(tokens)[..., None]
    return jax.lax.stop_gradient(jnp.concatenate([returns, own], axis=-1))


def complete(key: PRNGKey, policy: Policy, tokens: Int[Array, "*B T"]) -> Int[Array, "*B T-1 T"]:
    """Each sequence's prefixes of 1, 2 … T − 1 tokens, each completed by the policy once.

    Arguments as those of `rollout_returns`. The policy's states along the sequence are computed
    once, and each completion goes on from its own: the work of T/2 sequences for T − 1 prefixes.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from expectax.models import lstm_generator
        >>> model = lstm_generator(jax.random.key(0), num_tokens=4, width=3, length=5)
        >>> done = complete(jax.random.key(1), model, jnp.array([3, 1, 2, 3, 0]))
        >>> done.shape, done[2, :3].tolist()
        ((4, 5), [3, 1, 2])
    """
    return _completed(key, policy, tokens, _after_each_token(policy, tokens))


def _after_each_token(policy: Policy, tokens: Int[Array, "*B T"]) -> Any:
    """The policy's states after 1 … T − 1 tokens, along a leading axis."""

    def step(state: Any, token: Array) -> tuple[Any, Any]:
        state = policy.advance(state, token)
        return state, state

    first = jnp.moveaxis(tokens, -1, 0)[:-1]
    return jax.lax.scan(step, policy.begin(tokens.shape[:-1]), first)[1]


def _completed(
    key: PRNGKey, policy: Policy, tokens: Int[Array, "*B T"], after: Any
) -> Int[Array, "*B T-1 T"]:
    """`complete`, given the states after each token.

    A prefix of t tokens needs T − t steps, and one of T − t tokens needs t. They share a lane: when
    the first is whole the other begins, so T//2 lanes of T steps complete all prefixes.
    """
    num = tokens.shape[-1]
    short = np.arange(1, num // 2 + 1)  # of each lane's first prefix; the second has num − short
    steps = np.arange(num)[:, None]
    prefix = np.where(steps < num - short, short, num - short)
    begins = (steps == 0) | (steps == num - short)

    def step(state: Any, inputs: tuple[Array, Array, Array]) -> tuple[Any, Array]:
        key, prefix, begins = inputs

        def fresh(after: Array, state: Array) -> Array:
            return jnp.where(begins.reshape(-1, *[1] * (state.ndim - 1)), after[prefix - 1], state)

        state = jax.tree.map(fresh, after, state)
        token = policy.draw(key, state)
        return policy.advance(state, token), token

    lanes = jax.tree.map(lambda x: jnp.zeros((len(short), *x.shape[1:]), x.dtype), after)
    keys = jax.random.split(key, num)
    _, drawn = jax.lax.scan(step, lanes, (keys, jnp.asarray(prefix), jnp.asarray(begins)))
    # where the token of each prefix and position was drawn
    given, position = np.arange(1, num)[:, None], np.arange(num)
    lane = np.minimum(given, num - given) - 1
    when = np.where(given <= num // 2, position - given, position)
    found = jnp.moveaxis(drawn[np.maximum(when, 0), lane], (0, 1), (-2, -1))
    return jnp.where(position < given, tokens[..., None, :], found)


def rollout_baseline(returns: Float[Array, "R *B T"]) -> Float[Array, "R *B T"]:
    """For each position, what the prefix before it was worth: G_t−1; no gradient.

    It is the mean reward of the roll-outs from that very prefix, the rollout's own continuation
    left out, so it costs nothing more and does not depend on the choice at t or later. Before the
    first position stands the mean return there of the other rollouts.

    Arguments:
        returns: of `rollout_returns`, rollouts that are independent of one another along the first
            axis, at least 2.

    Raises:
        InvalidArgumentError: fewer rollouts than two.

    Example:
        >>> import jax.numpy as jnp
        >>> rollout_baseline(jnp.array([[1.0, 2.0, 3.0], [5.0, 6.0, 7.0]])).tolist()
        [[5.0, 1.0, 2.0], [1.0, 5.0, 6.0]]
    """
    first = leave_one_out(returns[..., :1])
    return jax.lax.stop_gradient(jnp.concatenate([first, returns[..., :-1]], axis=-1))
