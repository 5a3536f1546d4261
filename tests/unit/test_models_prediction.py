"""Structured prediction: the parts, and the loss and its gradients against sums over every path."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import expectax as ex
from expectax.models import PixelBias, halves, structured_prediction
from expectax.objectives import prediction_bound, prediction_loss
from expectax.testing import Gate, check_mean, gather, over_keys
from expectax.testing._gates import default_scale

pytestmark = pytest.mark.usefixtures("float64")

SIZES = (2, 2)
PICTURES = np.array([[1.0, 0.0, 1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0, 1.0, 0.0]])
WEIGHTS = np.array([1.0, 0.4])


def tiny(**options):
    mean = jnp.array([0.2, 0.5, 0.9, 0.4, 0.6, 0.1])
    options = {"pixel_bias": PixelBias.FIXED, **options}
    made = structured_prediction(jax.random.key(0), *halves(mean), SIZES, **options)
    floats, rest = eqx.partition(made, eqx.is_inexact_array)
    rng = np.random.default_rng(5)
    moved = jax.tree.map(lambda x: jnp.asarray(x + 0.8 * rng.normal(size=x.shape)), floats)
    return eqx.combine(moved, rest)


def tables(model):
    """log p(path | x) and log p(y | path) of every path, each (paths, B), by NumPyro."""
    x, y = halves(PICTURES)
    rows = jnp.array(list(itertools.product([0.0, 1.0], repeat=4)))[:, None]
    z1, z2 = jnp.split(jnp.broadcast_to(rows, (16, 2, 4)), 2, -1)
    bits = lambda logits: dist.Bernoulli(logits=logits).to_event(1)
    center, offset = jax.lax.stop_gradient((model.center, model.offset))
    log_z = bits(model.networks[0](x - center)).log_prob(z1)
    log_z += bits(model.networks[1](2 * z1 - 1)).log_prob(z2)
    out = model.decoder(2 * z2 - 1) + offset
    return log_z, bits(out).log_prob(jnp.broadcast_to(y, out.shape))


def exact(model):
    log_z, log_y = tables(model)
    return -jnp.sum(jnp.exp(log_z) * log_y, axis=0)


def loss(model, key, estimators):
    return jnp.sum(WEIGHTS * prediction_loss(key, model, *halves(PICTURES), estimators))


def test_nested_sums_are_the_sum_over_paths_and_sampled_gradients_are_unbiased():
    model, key = tiny(), jax.random.key(0)
    truth = eqx.filter_jit(eqx.filter_grad(lambda m: jnp.sum(WEIGHTS * exact(m))))(model)
    value, gradient = eqx.filter_jit(eqx.filter_value_and_grad(loss))(model, key, ex.Enumerate())
    assert np.isclose(value, WEIGHTS @ exact(model), rtol=1e-12)
    for got, want in zip(*map(jax.tree.leaves, (gradient, truth)), strict=True):
        assert np.allclose(got, want, rtol=1e-10, atol=1e-12)
    learned = lambda tree: (tree.networks, tree.decoder)
    truth = learned(truth)
    assert min(np.abs(leaf).max() for leaf in jax.tree.leaves(truth)) > 0.01
    layers = (ex.LeaveOneOut(2), ex.DisARM())
    draw = over_keys(lambda key: learned(eqx.filter_grad(loss)(model, key, layers)))
    scale = default_scale(truth)
    most = max(map(float, jax.tree.leaves(scale)))
    scale = jax.tree.map(lambda s: jnp.maximum(s, most / 3), scale)
    moments = gather(draw, key, scale=scale)
    check_mean(moments, truth, scale=scale, gate=Gate(), what="prediction")


def test_the_bound_of_many_samples_is_unbiased_for_the_likelihood_and_rises():
    model, num = tiny(), 20_000
    x, y = halves(PICTURES)
    log_z, log_y = tables(model)
    truth = jnp.exp(jax.nn.logsumexp(log_z + log_y, axis=0))

    @jax.jit
    def draw(keys):
        each = lambda key: [prediction_bound(key, model, x, y, m) for m in (1, 12)]
        return jax.lax.map(each, keys, batch_size=500)

    one, many = map(np.asarray, draw(jax.random.split(jax.random.key(2), num)))
    likelihood = np.exp(many)
    error = likelihood.std(0) / num**0.5
    assert np.all(4.5 * error < 0.02 * truth)  # the check has power
    assert np.all(np.abs(likelihood.mean(0) - truth) < 4.5 * error)
    assert np.all(np.abs(one.mean(0) + exact(model)) < 4.5 * one.std(0) / num**0.5)
    assert np.all(one.mean(0) + 0.02 < many.mean(0))
    assert np.all(many.mean(0) < np.log(truth))


def test_guesses_have_the_conditional_mean_and_differ():
    model, num = tiny(), 30_000
    x, _ = halves(PICTURES)
    log_z, _ = tables(model)
    rows = jnp.array(list(itertools.product([0.0, 1.0], repeat=4)))[:, 2:]
    want = jnp.exp(log_z).T @ jax.nn.sigmoid(model.output_logits(rows))
    guesses = eqx.filter_jit(lambda m: m.predict(jax.random.key(3), x, num))(model)
    error = guesses.std(0) / num**0.5
    assert guesses.shape == (num, 2, 3)
    assert np.all(4.5 * error < 0.02)  # the check has power
    assert np.all(error > 0)
    assert np.all(np.abs(guesses.mean(0) - want) < 4.5 * error)


def test_sizes_and_the_halves_of_a_digit():
    picture = jnp.arange(784).reshape(28, 28)
    upper, lower = halves(picture.reshape(-1))
    assert jnp.array_equal(upper.reshape(14, 28), picture[:14])
    assert jnp.array_equal(lower.reshape(14, 28), picture[14:])
    model = structured_prediction(jax.random.key(0), upper / 784, lower / 784)
    layers = [*model.networks, model.decoder]
    sizes = [(n.layers[0].in_features, n.layers[-1].out_features) for n in layers]
    assert sizes == [(392, 200), (200, 200), (200, 392)]
