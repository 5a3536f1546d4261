"""The policy gradient of a generator of 3 tokens out of 4, against the sum over all sequences."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import expectax as ex
from expectax.objectives import leave_one_out, returns_to_go, trajectory_loss

pytestmark = pytest.mark.usefixtures("float64")

SEQUENCES = np.array(list(itertools.product(range(4), repeat=3)))
RNG = np.random.default_rng(0)
PARAMS = {f"p{t}": RNG.normal(size=(4,) * (t + 1)) for t in range(3)}
REWARDS = [RNG.normal(size=(2, *(4,) * (t + 1))) for t in range(3)]
"""Of every prefix, for each of two batch elements."""


def log_probs(params):
    """log π of each token of each sequence, (64, 3)."""
    i, j, k = SEQUENCES.T
    rows = [jax.nn.log_softmax(params[f"p{t}"]) for t in range(3)]
    return jnp.stack([rows[0][i], rows[1][i, j], rows[2][i, j, k]], axis=-1)


def rewards():
    """Of each position of each sequence, (64, B, 3)."""
    i, j, k = SEQUENCES.T
    each = [REWARDS[0][:, i], REWARDS[1][:, i, j], REWARDS[2][:, i, j, k]]
    return np.stack(each, axis=-1).transpose(1, 0, 2)


def exact(params):
    """−E[Σ_t r_t], summed over the batch."""
    return -jnp.sum(jnp.exp(log_probs(params).sum(-1))[:, None] * rewards().sum(-1))


def mean_loss(params, num_rollouts, baseline_of, returns=None):
    """The mean of the loss over every set of rollouts, the same set for both batch elements."""
    returns = returns_to_go(jnp.asarray(rewards())) if returns is None else returns
    sets = np.array(list(itertools.product(range(64), repeat=num_rollouts)))

    def play(chosen):
        rows = log_probs(params)[chosen][:, None]
        rows = jnp.broadcast_to(rows, (num_rollouts, 2, 3))
        chance = jax.lax.stop_gradient(jnp.exp(rows[:, 0].sum()))
        picked = returns[chosen]
        return chance * trajectory_loss(rows, picked, baseline_of(chosen, picked)).sum()

    return jnp.sum(jax.vmap(play)(jnp.asarray(sets)))


def of_prefix(chosen, picked):
    """A baseline that sees the tokens before each position, of any kind."""
    del picked
    i, j, _ = jnp.asarray(SEQUENCES)[chosen].T
    by_position = jnp.stack([jnp.full(i.shape, 0.4), i**2 - 1.0, 0.3 * i - j], axis=-1)
    return by_position[:, None]


BASELINES = {
    "none": (1, lambda *_: 0.0),
    "of the prefix": (1, of_prefix),
    "leave one out": (2, lambda _, returns: leave_one_out(returns)),
}


@pytest.mark.parametrize("name", BASELINES)
def test_the_mean_is_the_gradient_of_the_expected_reward(name):
    num, baseline = BASELINES[name]
    both = lambda f: jax.jit(jax.value_and_grad(f))(PARAMS)
    value, got = both(lambda p: mean_loss(p, num, baseline))
    total, truth = both(exact)
    np.testing.assert_allclose(value, total, rtol=1e-10)
    for leaf in PARAMS:
        assert np.abs(truth[leaf]).max() > 0.02
        np.testing.assert_allclose(got[leaf], truth[leaf], rtol=1e-9, atol=1e-11)


def test_returns_of_the_prefixes_do_as_well_as_those_of_the_rollouts():
    """G_t may be the expectation of what follows, as roll-outs from each prefix estimate it."""
    chance = np.asarray(jnp.exp(log_probs(PARAMS)))
    reward = rewards()
    last = reward[..., 2]
    first_two = (chance[:, 2, None] * last).reshape(16, 4, 2).sum(1).repeat(4, 0) + reward[..., 1]
    weighted = (chance[:, 1:].prod(-1)[:, None] * last).reshape(4, 16, 2).sum(1)
    middle = (chance[:, 1, None] * reward[..., 1]).reshape(4, 4, 4, 2)[:, :, 0].sum(1)
    first = reward[..., 0] + (weighted + middle).repeat(16, 0)
    expected = jnp.asarray(np.stack([first, first_two, last], axis=-1))
    got = jax.jit(jax.grad(lambda p: mean_loss(p, 1, lambda *_: 0.0, expected)))(PARAMS)
    truth = jax.jit(jax.grad(exact))(PARAMS)
    for leaf in PARAMS:
        np.testing.assert_allclose(got[leaf], truth[leaf], rtol=1e-9, atol=1e-11)


def test_a_constant_reward_trains_nothing():
    returns = returns_to_go(jnp.full((64, 2, 3), 0.7))
    plain = jax.jit(jax.grad(lambda p: mean_loss(p, 1, lambda *_: 0.0, returns)))(PARAMS)
    for leaf in jax.tree.leaves(plain):
        np.testing.assert_allclose(leaf, 0, atol=1e-12)

    def loss(params):
        rows = jnp.broadcast_to(log_probs(params)[:5, None], (5, 2, 3))
        return trajectory_loss(rows, returns[:5], leave_one_out(returns[:5])).sum()

    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(PARAMS)):
        assert not np.any(leaf)  # exactly, for every draw


def test_a_learned_baseline_descends_its_squared_error_whichever_way_the_caller_goes():
    returns = jnp.asarray(RNG.normal(size=(5, 2, 3)))
    rows, weights = -jnp.ones((5, 2, 3)), jnp.array([1.0, -3.0])
    loss = lambda c: jnp.sum(weights * trajectory_loss(rows, returns, c))
    c = jnp.array([[0.1], [0.7]]) * jnp.ones(3)
    got = jax.grad(loss)(c)
    want = jnp.abs(weights)[:, None] * -2 * (returns - c).mean(0)
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_the_baseline_of_a_rollout_leaves_it_out():
    returns = jnp.asarray(RNG.normal(size=(4, 2, 3)))
    for r in range(4):
        want = np.delete(returns, r, axis=0).mean(0)
        np.testing.assert_allclose(leave_one_out(returns)[r], want, rtol=1e-12)


def test_what_cannot_work_is_refused():
    with pytest.raises(ex.InvalidArgumentError, match="at least 2"):
        leave_one_out(jnp.zeros((1, 3)))
    with pytest.raises(ex.InvalidArgumentError, match="one log-probability and one return"):
        trajectory_loss(jnp.zeros((2, 3)), jnp.zeros((2, 4)))
