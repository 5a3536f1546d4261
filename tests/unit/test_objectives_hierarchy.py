"""The ELBO of several layers, its gradients and its bounds, against sums over every path."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import expectax as ex
from expectax.models import PixelBias, hierarchical_vae
from expectax.objectives import hierarchical_bound, hierarchical_hard_elbo, hierarchical_neg_elbo
from expectax.testing import Gate, check_mean, gather, over_keys
from expectax.testing._gates import default_scale

pytestmark = pytest.mark.usefixtures("float64")

SIZES = {2: (2, 2), 3: (2, 1, 2)}
X = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])


@functools.cache
def model_of(depth: int):
    """A small model with large, unequal weights: what is left out of a cost is missed."""
    mean = jnp.array([0.2, 0.5, 0.9])
    made = hierarchical_vae(jax.random.key(0), mean, SIZES[depth], pixel_bias=PixelBias.FIXED)
    floats, rest = eqx.partition(made, eqx.is_inexact_array)
    rng = np.random.default_rng(7)
    moved = jax.tree.map(lambda x: jnp.asarray(x + 0.8 * rng.normal(size=x.shape)), floats)
    return eqx.combine(moved, rest)


def tables(model):
    """log p(x, path) and log q(path | x) of every path, each (paths, B), by NumPyro."""
    sizes = [encoder.layers[-1].out_features for encoder in model.encoders]
    rows = jnp.array(list(itertools.product([0.0, 1.0], repeat=sum(sizes))))[:, None]
    latents = jnp.split(
        jnp.broadcast_to(rows, (len(rows), 2, sum(sizes))), np.cumsum(sizes)[:-1], -1
    )
    bits = lambda logits: dist.Bernoulli(logits=logits).to_event(1)
    log_p, log_q = bits(model.prior_logits).log_prob(latents[-1]), 0.0
    for layer, (below, z) in enumerate(zip([X, *latents[:-1]], latents, strict=True)):
        up = model.encoders[layer](2 * below - 1 if layer else below - model.center)
        down = model.decoders[layer](2 * z - 1) + (0 if layer else model.offset)
        log_q += bits(up).log_prob(z)
        log_p += bits(down).log_prob(jnp.broadcast_to(below, down.shape))
    return log_p, log_q


def exact(model):
    """−ELBO, shape (B,)."""
    held = eqx.tree_at(lambda m: (m.center, m.offset), model, replace_fn=jax.lax.stop_gradient)
    log_p, log_q = tables(held)
    return jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=0)


WEIGHTS = np.array([1.0, 0.4])


def loss(model, key, estimators):
    return jnp.sum(WEIGHTS * hierarchical_neg_elbo(key, model, X, estimators))


@functools.cache
def truth_of(depth: int):
    with jax.enable_x64(True):
        return eqx.filter_jit(eqx.filter_grad(lambda m: jnp.sum(WEIGHTS * exact(m))))(
            model_of(depth)
        )


@pytest.mark.parametrize("depth", SIZES)
def test_nested_sums_are_the_sum_over_paths_and_so_is_their_gradient(depth):
    model, key = model_of(depth), jax.random.key(0)
    value = hierarchical_neg_elbo(key, model, X, ex.Enumerate())
    assert np.allclose(value, exact(model), rtol=1e-12)
    gradient = eqx.filter_jit(eqx.filter_grad(loss))(model, key, ex.Enumerate())
    for got, want in zip(*map(jax.tree.leaves, (gradient, truth_of(depth))), strict=True):
        assert np.allclose(got, want, rtol=1e-10, atol=1e-12)
    moved = jax.tree.leaves(learned(truth_of(depth)))
    assert min(np.abs(leaf).max() for leaf in moved) > 0.02


def learned(tree):
    return tree.encoders, tree.decoders, tree.prior_logits


def scale_of(truth):
    """Each leaf's largest entry, but no less than a third of all leaves'."""
    own = default_scale(truth)
    least = max(map(float, jax.tree.leaves(own))) / 3
    return jax.tree.map(lambda x: jnp.maximum(x, least), own)


def relax(size):
    def quadratic(w, z):
        return jnp.sum(w * jax.nn.sigmoid(z) ** 2, axis=-1)

    return ex.RELAX(jax.tree_util.Partial(quadratic, 0.7 * jnp.arange(1.0, size + 1)))


CHOICES = {
    "leave one out": (ex.LeaveOneOut(2),) * 2,
    "DisARM": (ex.DisARM(),) * 2,
    "RELAX": (relax(2), relax(2)),
    "REBAR above DisARM": (ex.REBAR(0.5), ex.DisARM()),
    "three layers": (ex.LeaveOneOut(2), relax(1), ex.DisARM()),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_gradients_of_every_layer_are_unbiased(choice):
    estimators = CHOICES[choice]
    model, truth = model_of(len(estimators)), learned(truth_of(len(estimators)))
    draw = over_keys(lambda key: learned(eqx.filter_grad(loss)(model, key, estimators)))
    scale = scale_of(truth)
    moments = gather(draw, jax.random.key(0), scale=scale)
    check_mean(moments, truth, scale=scale, gate=Gate(), what=choice)


def test_a_layer_is_charged_only_for_what_depends_on_it():
    model, key = model_of(2), jax.random.key(3)
    gradient = eqx.filter_jit(eqx.filter_grad(loss))
    brighter = eqx.tree_at(lambda m: m.offset, model, model.offset + 1)
    one, two = (gradient(m, key, ex.DisARM()) for m in (model, brighter))
    assert all(map(jnp.array_equal, *map(jax.tree.leaves, (one.encoders[1], two.encoders[1]))))
    assert not jnp.array_equal(one.encoders[0].layers[0].bias, two.encoders[0].layers[0].bias)


def test_bounds_have_the_means_that_they_must():
    model, num = model_of(3), 60_000
    log_evidence = jax.nn.logsumexp(tables(model)[0], axis=0)
    evidence, elbo = np.exp(log_evidence), -exact(model)

    @jax.jit
    def draw(keys):
        likelihood = lambda key: jnp.exp(hierarchical_bound(key, model, X, 12))
        each = lambda k: (likelihood(k), hierarchical_hard_elbo(k, model, X, 3))
        return jax.lax.map(each, keys, batch_size=500)

    likelihoods, elbos = jax.device_get(draw(jax.random.split(jax.random.key(4), num)))
    # exp of the bound is unbiased for p(x), whatever the number of draws
    for drawn, truth in ((likelihoods, evidence), (elbos, elbo)):
        error = drawn.std(0) / num**0.5
        assert np.all(4.5 * error < 0.02 * np.abs(truth))  # the check has power
        assert np.all(np.abs(drawn.mean(0) - truth) < 4.5 * error)
    bound = np.log(likelihoods).mean(0)
    assert np.all((elbo + 0.02 < bound) & (bound < log_evidence - 0.001))
    still = eqx.filter_grad(lambda m: hierarchical_bound(jax.random.key(0), m, X, 2).sum())(model)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(still))


def test_as_many_estimators_as_layers():
    with pytest.raises(ex.InvalidArgumentError, match="3 estimators were given for 2 layers"):
        hierarchical_neg_elbo(jax.random.key(0), model_of(2), X, [ex.DisARM()] * 3)
