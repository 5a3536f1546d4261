"""Roll-outs of a generator of 3 tokens out of 4, against the sum over all sequences."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import expectax as ex
from expectax.models import lstm_generator
from expectax.objectives import (
    complete,
    leave_one_out,
    rollout_baseline,
    rollout_returns,
    trajectory_loss,
)
from expectax.testing import check_mean, gather, over_keys

pytestmark = pytest.mark.usefixtures("float64")

SEQUENCES = np.array(list(itertools.product(range(4), repeat=3)))
WORTH = np.array([0.5, -0.4, 0.3, -0.2])
TABLE = np.add.outer(np.add.outer(WORTH, WORTH), WORTH)
TABLE += 0.2 * np.random.default_rng(1).uniform(size=(4, 4, 4))
"""The reward of each sequence."""

NUM_SEQUENCES = 8


def reward(x):
    return jnp.asarray(TABLE)[x[..., 0], x[..., 1], x[..., 2]]


@pytest.fixture(scope="module")
def model():
    with jax.enable_x64(True):
        return jax.jit(lambda key: lstm_generator(key, 4, 2, 3, 1.0))(jax.random.key(0))


class Counter:
    """A policy without chance: each choice is a function of all before it."""

    def begin(self, shape):
        return {"sum": jnp.zeros(shape, int), "count": jnp.zeros((*shape, 1), int)}

    def advance(self, state, tokens):
        return {"sum": 3 * state["sum"] + tokens + 1, "count": state["count"] + 1}

    def draw(self, key, state):
        del key
        return (state["sum"] + 5 * state["count"][..., 0]) % 11


@pytest.mark.parametrize("length", [1, 2, 3, 6, 7])
def test_a_completion_is_the_prefix_and_what_the_policy_makes_of_it(length):
    tokens = np.random.default_rng(length).integers(11, size=(2, 3, length))
    got = jax.jit(lambda x: complete(jax.random.key(0), Counter(), x))(tokens)
    assert got.shape == (2, 3, length - 1, length)
    for batch in np.ndindex(2, 3):
        for prefix in range(1, length):
            row = list(tokens[batch][:prefix])
            while len(row) < length:
                total = 0
                for token in row:
                    total = 3 * total + token + 1
                row.append((total + 5 * len(row)) % 11)
            assert got[batch][prefix - 1].tolist() == row


@pytest.fixture(scope="module")
def values(model):
    """What the prefixes of each sequence are worth, (64, 3)."""
    with jax.enable_x64(True):
        chance = np.exp(np.asarray(jax.jit(lambda m: m.log_prob(SEQUENCES))(model)))
    chance = chance.reshape(4, 4, 4, 3)
    after_two = (chance[..., 2] * TABLE).sum(-1)
    after_one = (chance[:, :, 0, 1] * after_two).sum(-1)
    i, j, k = SEQUENCES.T
    return np.stack([after_one[i], after_two[i, j], TABLE[i, j, k]], axis=-1)


def test_returns_are_what_the_prefixes_are_worth_whatever_follows_them(model, values):
    sample = lambda key, model: rollout_returns(key, model, SEQUENCES, reward, 2)
    scale = np.ptp(values)
    moments = gather(over_keys(sample), jax.random.key(1), model, scale=scale)
    check_mean(moments, values, scale=scale)
    assert np.ptp(values[:, 0]) > 0.05


def by_state(model, x):
    """A baseline that a network might have learned, of the state before each choice."""
    states = [model.begin(x.shape[:-1])]
    for t in range(2):
        states.append(model.advance(states[-1], x[..., t]))
    return 0.5 + 0.3 * jnp.stack([h[..., 0] - c[..., 1] for h, c in states], axis=-1)


BASELINES = {
    "none": lambda *_: 0.0,
    "leave one out": lambda *seen: leave_one_out(seen[2]),
    "prefix": lambda *seen: rollout_baseline(seen[2]),
    "learned": lambda *seen: by_state(*seen[:2]),
}
"""Of the model, the sequences and their returns."""


def expected_reward(model):
    return jnp.sum(jnp.exp(model.log_prob(SEQUENCES).sum(-1)) * reward(SEQUENCES))


def test_the_mean_gradient_is_that_of_the_expected_reward(model, values):
    """Exactly: over every pair of sequences. The loss is linear in the returns, so what their mean
    is, given the sequences, can stand for them."""
    pairs = np.array(list(itertools.product(range(64), repeat=2)))

    def mean_losses(model, values):
        rows, held = model.log_prob(SEQUENCES), jax.lax.stop_gradient(model)
        chance = jax.lax.stop_gradient(jnp.exp(rows.sum(-1)))

        def play(pair):
            x, returns = jnp.asarray(SEQUENCES)[pair], values[pair]
            loss = lambda f: trajectory_loss(rows[pair], returns, f(held, x, returns))
            return {name: chance[pair].prod() * loss(f) for name, f in BASELINES.items()}

        return jax.tree.map(jnp.sum, jax.vmap(play)(pairs))

    truth = jax.jit(jax.grad(expected_reward))(model)
    found = jax.jit(jax.jacrev(mean_losses))(model, values)
    for name in BASELINES:
        for got, want in zip(jax.tree.leaves(found[name]), jax.tree.leaves(truth), strict=True):
            assert np.abs(want).max() > 1e-4
            np.testing.assert_allclose(got, -want, rtol=1e-9, atol=1e-12)


def gradients(key, model, reward):
    """The policy gradient in the readout's bias, with one roll-out from each prefix."""
    draw_key, key = jax.random.split(key)
    x = model.sample(draw_key, NUM_SEQUENCES)
    returns = rollout_returns(key, model, x, reward, 1)
    baselines = {name: f(model, x, returns) for name, f in BASELINES.items() if name != "learned"}

    def losses(bias):
        rows = eqx.tree_at(lambda m: m.readout.bias, model, bias).log_prob(x)
        return {name: trajectory_loss(rows, returns, c) for name, c in baselines.items()}

    return jax.jacrev(losses)(model.readout.bias)


def test_the_gradient_with_draws_of_sequences_and_roll_outs(model):
    truth = -np.asarray(jax.jit(jax.grad(expected_reward))(model).readout.bias)
    constant = lambda x: jnp.full(x.shape[:-1], 0.1)
    sample = lambda key, model: (gradients(key, model, reward), gradients(key, model, constant))
    scale = np.abs(truth).max()
    whole = tuple(dict.fromkeys(list(BASELINES)[:3], scale) for _ in range(2))
    moments = gather(over_keys(sample), jax.random.key(2), model, scale=whole)
    for name in whole[0]:
        check_mean(moments[0][name], truth, scale=scale, what=name)
    # a constant reward trains nothing: on average, or at every draw
    check_mean(moments[1]["none"], np.zeros(4), scale=scale)
    assert np.all(moments[1]["none"].variance > 0)
    for name in ("leave one out", "prefix"):
        assert not np.any(moments[1][name].low)
        assert not np.any(moments[1][name].high)


def test_no_gradient_goes_into_the_policy_that_rolls_out(model):
    def total(model):
        soft = lambda x: reward(x) * jnp.sum(model.embedding)
        return jnp.sum(rollout_returns(jax.random.key(0), model, SEQUENCES, soft, 1))

    for leaf in jax.tree.leaves(jax.jit(jax.grad(total))(model)):
        assert not np.any(leaf)


def test_what_cannot_work_is_refused(model):
    with pytest.raises(ex.InvalidArgumentError, match="at least 1"):
        rollout_returns(jax.random.key(0), model, SEQUENCES, reward, 0)
    with pytest.raises(ex.InvalidArgumentError, match="at least 2"):
        rollout_baseline(jnp.zeros((1, 3)))
