"""The recurrent generator and its judge against equations written out, and every sequence."""

import itertools
from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import expectax as ex
from expectax.models import lstm_generator, text_cnn
from expectax.models._sequence import draw_categorical
from expectax.testing import check_mean

pytestmark = pytest.mark.usefixtures("float64")

NUM, LENGTH, WIDTH = 4, 3, 5
SEQUENCES = np.array(list(itertools.product(range(NUM), repeat=LENGTH)))
WARM = 0.6


@pytest.fixture(scope="module")
def model():
    with jax.enable_x64(True):
        return jax.jit(lambda key: lstm_generator(key, NUM, WIDTH, LENGTH, 1.0))(jax.random.key(0))


def by_hand(model, tokens, temperature=1.0):
    """log p of each position, one sequence at a time, in NumPy."""
    sigma = lambda x: 1 / (1 + np.exp(-x))
    cell = model.cell
    found = []
    for row in tokens:
        h = c = np.zeros(WIDTH)
        for before, token in zip([model.start_token, *row], row, strict=False):
            gates = cell.weight_ih @ model.embedding[before] + cell.weight_hh @ h + cell.bias
            i, f, g, o = np.split(np.asarray(gates), 4)
            c = sigma(f) * c + sigma(i) * np.tanh(g)
            h = sigma(o) * np.tanh(c)
            logits = np.asarray(model.readout.weight @ h + model.readout.bias) / temperature
            found.append(logits[token] - np.log(np.exp(logits).sum()))
    return np.reshape(found, tokens.shape)


def test_log_probabilities_are_those_of_the_equations_and_sum_to_one(model):
    log_prob = jax.jit(lambda model, x, t: model.log_prob(x, t))
    for temperature in (1.0, WARM):
        got = log_prob(model, SEQUENCES.reshape(2, 32, LENGTH), temperature)
        want = by_hand(model, SEQUENCES, temperature)
        np.testing.assert_allclose(got.reshape(-1, LENGTH), want, rtol=1e-10)
        np.testing.assert_allclose(jnp.exp(got.sum(-1)).sum(), 1, rtol=1e-12)


def test_draws_are_as_frequent_as_their_probabilities_say(model):
    chance = np.exp(by_hand(model, SEQUENCES, WARM).sum(-1))
    draw = jax.jit(lambda key, model: model.sample(key, 700_000, WARM))
    index = np.asarray(draw(jax.random.key(1), model)) @ [16, 4, 1]
    check_mean((index[:, None] == np.arange(64)).astype(float), chance)


def test_a_hard_one_hot_vector_is_its_token_and_a_relaxed_one_has_a_gradient(model):
    def hard(key, logits):
        return jax.nn.one_hot(draw_categorical(key, logits), NUM)

    key = jax.random.key(2)
    tokens = jax.jit(lambda model: model.sample(key, 20))(model)
    assert len(np.unique(tokens)) == NUM

    def last(model, choose):
        found = model.relaxed_sample(key, 20, choose)
        return jnp.sum(found[:, -1, 0]), found

    slope = jax.jit(jax.grad(last, has_aux=True), static_argnums=1)
    none, found = slope(model, hard)
    np.testing.assert_array_equal(found.argmax(-1), tokens)
    some, _ = slope(model, lambda _, logits: jax.nn.softmax(logits))
    for without, of_means in zip(jax.tree.leaves(none), jax.tree.leaves(some), strict=True):
        assert not np.any(without)
        assert np.any(of_means)


@pytest.mark.parametrize("num", [2, 7, 9])
def test_a_categorical_draw_is_one_of_those_that_can_be(num):
    logits = jnp.asarray(np.random.default_rng(num).normal(size=num)).at[0].set(-jnp.inf)
    logits = logits.at[-1].set(-jnp.inf) if num > 2 else logits
    rows = jnp.broadcast_to(logits, (200_000, num))
    got = np.asarray(jax.jit(draw_categorical)(jax.random.key(3), rows))
    check_mean((got[:, None] == np.arange(num)).astype(float), jax.nn.softmax(logits), scale=1.0)


def test_a_categorical_draw_at_the_ends_of_the_unit_interval():
    logits = jnp.array([[-jnp.inf, 0.0, 1.0, -2.0, 0.3, -jnp.inf]], jnp.float32)
    for u, want in ((0.0, 1), (1.0, 4), (0.9999999, 4)):
        fixed = mock.Mock(return_value=jnp.full(1, u, jnp.float32))
        with mock.patch("jax.random.uniform", fixed):
            assert draw_categorical(jax.random.key(0), logits).tolist() == [want]


def test_a_generator_starts_at_the_scale_asked_for():
    model = jax.jit(lambda key: lstm_generator(key, 300, 20, 6, scale=0.5))(jax.random.key(0))
    for leaf in map(np.asarray, jax.tree.leaves(model)):
        assert 0.4 < leaf.std() < 0.6
        assert abs(leaf.mean()) < 0.15


# the judge


@pytest.fixture(scope="module")
def judge():
    with jax.enable_x64(True):
        made = text_cnn(jax.random.key(1), NUM, WIDTH, widths=(1, 3), num_filters=6)
        return jax.tree.map(lambda x: x.astype(float) if eqx.is_array(x) else x, made)


def test_the_judge_computes_what_its_equations_say(judge):
    x = np.random.default_rng(0).integers(NUM, size=(2, 3, 8))
    arrays = jax.tree.map(np.asarray, judge)
    relu, sigma = lambda x: np.maximum(x, 0), lambda x: 1 / (1 + np.exp(-x))
    want = []
    for row in arrays.embedding[x.reshape(6, 8)]:
        features = []
        for layer, width in zip(arrays.convolutions, (1, 3), strict=True):
            windows = [row[t : t + width].T for t in range(8 - width + 1)]
            each = [(layer.weight * w).sum((1, 2)) + layer.bias[:, 0] for w in windows]
            features.append(np.max(each, axis=0))
        y = relu(np.concatenate(features))
        gate = sigma(arrays.gate.weight @ y + arrays.gate.bias)
        y = gate * relu(arrays.transform.weight @ y + arrays.transform.bias) + (1 - gate) * y
        want.append((arrays.readout.weight @ y + arrays.readout.bias)[0])
    got = jax.jit(lambda judge, x: judge(x))(judge, x)
    np.testing.assert_allclose(got.reshape(-1), want, rtol=1e-10)
    assert np.std(want) > 0.01
    soft = jax.jit(lambda judge, x: judge(x))(judge, np.eye(NUM)[x])
    np.testing.assert_allclose(soft, got, rtol=1e-10)


def test_the_judge_forgets_features_only_with_a_key(judge):

    @jax.jit
    def both(judge, keys):
        dropped = jax.vmap(lambda key: judge(jnp.asarray(SEQUENCES), key))(keys)
        return judge(jnp.asarray(SEQUENCES)), dropped

    whole, dropped = map(np.asarray, both(judge, jax.random.split(jax.random.key(0), 20_000)))
    assert dropped.std(0).min() > 0.01
    # dropout keeps the mean of what the last layer sees, and that layer is affine
    check_mean(dropped, whole)


def test_a_judge_without_convolutions_is_refused():
    for widths in ((), (2, 0)):
        with pytest.raises(ex.InvalidArgumentError, match="at least 1"):
            text_cnn(jax.random.key(0), 4, 3, widths=widths)
