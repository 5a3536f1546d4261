"""VAEs of several layers: normalised densities, independent twins, and where they start."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from expectax.models import PixelBias, binary_vae, hierarchical_vae

MEAN = jnp.array([0.2, 0.5, 0.9])
KINDS = {
    "two": lambda key: hierarchical_vae(key, MEAN, (3, 2)),
    "three": lambda key: hierarchical_vae(
        key, MEAN, (2, 3, 1), (4,), activation=jnp.tanh, signed=False, pixel_bias=PixelBias.FIXED
    ),
}


def stir(model):
    """The model with parameters that are not at their start."""
    floats, rest = eqx.partition(model, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(floats)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [x + 0.5 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return eqx.combine(jax.tree.unflatten(structure, moved), rest)


@functools.cache
def stirred(name: str):
    return eqx.filter_jit(lambda: stir(KINDS[name](jax.random.key(0))))()


def bits(num: int):
    return np.array(list(itertools.product([0.0, 1.0], repeat=num)), np.float32)


def everything(model):
    """Every picture with every setting of all layers, as rows."""
    sizes = [encoder.layers[-1].out_features for encoder in model.encoders]
    rows = bits(len(MEAN) + sum(sizes))
    x, *latents = np.split(rows, np.cumsum([len(MEAN), *sizes])[:-1], axis=1)
    return jnp.asarray(x), tuple(map(jnp.asarray, latents))


@pytest.mark.parametrize("name", KINDS)
def test_the_joint_is_a_distribution_and_equals_numpyros(name):
    model = stirred(name)
    x, latents = everything(model)
    log_joint = eqx.filter_jit(lambda model, x, z: model.log_joint(x, z))(model, x, latents)
    assert np.isclose(np.exp(log_joint).sum(), 1.0, atol=1e-5)
    below = (x, *latents[:-1])
    twin = dist.Bernoulli(logits=model.prior_logits).to_event(1).log_prob(latents[-1])
    for layer, z in enumerate(latents):
        logits = model.decoders[layer](2 * z - 1 if model.signed else z)
        if layer == 0 and model.offset is not None:
            logits = logits + model.offset
        twin += dist.Bernoulli(logits=logits).to_event(1).log_prob(below[layer])
    assert np.allclose(log_joint, twin, atol=1e-4)
    assert np.std(twin) > 0.5


@pytest.mark.parametrize("name", KINDS)
def test_posteriors_see_what_lies_below_centered_or_signed(name):
    model = stirred(name)
    x, latents = everything(model)
    rows = slice(0, 6)
    for layer, below in enumerate((x, *latents[:-1])):
        q = model.posterior(layer, below[rows].reshape(2, 3, -1))
        assert (q.batch_shape, q.event_shape) == ((2, 3), latents[layer].shape[1:])
        if layer:
            seen = 2 * below[rows] - 1 if model.signed else below[rows]
        else:
            seen = below[rows] - model.center
        logits = model.encoders[layer](seen)
        assert np.allclose(q.base_dist.logits.reshape(6, -1), logits, atol=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_draws_from_the_prior_have_its_mean(name):
    model, num = stirred(name), 30_000
    x, latents = everything(model)
    exact = jnp.exp(model.log_joint(x, latents)) @ x
    drawn = eqx.filter_jit(lambda m: m.sample_prior(jax.random.key(2), num))(model)
    error = drawn.std(0) / num**0.5
    assert jnp.all(4.5 * error < 0.02)  # the check has power
    assert jnp.all(jnp.abs(drawn.mean(0) - exact) < 4.5 * error)


def test_a_model_of_one_layer_is_the_binary_vae():
    options = {"hidden": (4,), "pixel_bias": PixelBias.FIXED, "demean": False, "signed": False}
    one = stir(binary_vae(jax.random.key(0), MEAN, 2, **options))
    many = hierarchical_vae(jax.random.key(0), MEAN, (2,), **options)
    parts = lambda m: (m.encoders[0], m.decoders[0], m.prior_logits, m.center, m.offset)
    same = (one.encoder, one.decoder, one.prior_logits, one.center, one.offset)
    many = eqx.tree_at(parts, many, same)
    x, (z,) = everything(many)
    assert np.allclose(one.log_joint(x, z), many.log_joint(x, (z,)), atol=1e-6)
    assert jnp.array_equal(one.posterior(x).base_dist.logits, many.posterior(0, x).base_dist.logits)
    assert jnp.array_equal(one.decode(z), many.decode(z))


def gradient_of_all(model, x, latents):
    """Of something that depends on everything the model knows."""

    def loss(model):
        total = -model.log_joint(x, latents).sum()
        for layer, below in enumerate((x, *latents[:-1])):
            total += jnp.sum(model.posterior(layer, below).base_dist.logits ** 2)
        return total

    return eqx.filter_jit(eqx.filter_grad(loss))(model)


@pytest.mark.parametrize("uniform", [False, True])
def test_constants_of_the_data_and_a_uniform_prior_are_never_moved(uniform):
    make = functools.partial(hierarchical_vae, pixel_bias=PixelBias.FIXED, uniform_prior=uniform)
    model = stir(make(jax.random.key(0), MEAN, (3, 2)))
    x, latents = everything(model)
    gradient = gradient_of_all(model, x[:5], tuple(z[:5] for z in latents))
    assert not np.any(gradient.center)
    assert not np.any(gradient.offset)
    assert np.any(gradient.prior_logits) != uniform
    moving = jax.tree.leaves((gradient.encoders, gradient.decoders))
    assert all(np.any(leaf) for leaf in moving)
    if uniform:
        assert np.allclose(model.log_prior(latents[-1]), -2 * np.log(2))
        assert jnp.array_equal(model.prior().base_dist.logits, jnp.zeros(2))
