"""The VAEs: normalised densities, an independent twin of each term, and where they start."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import expectax as ex
from expectax.distributions import joint
from expectax.models import PixelBias, binary_vae, categorical_vae, linear_vae, nonlinear_vae

MEAN = jnp.array([0.2, 0.5, 0.9, 0.0])
MODELS = {
    "linear": lambda key: linear_vae(key, MEAN, 3),
    "nonlinear": lambda key: nonlinear_vae(key, MEAN, 3, hidden=(6, 5)),
    "categorical": lambda key: categorical_vae(key, MEAN, 2, 3, hidden=(6,)),
}


@functools.cache
def stirred(name: str):
    """The model with parameters that are not at their start."""

    @eqx.filter_jit
    def make():
        floats, rest = eqx.partition(MODELS[name](jax.random.key(0)), eqx.is_inexact_array)
        leaves, structure = jax.tree.flatten(floats)
        keys = jax.random.split(jax.random.key(1), len(leaves))
        moved = [x + 0.5 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
        return eqx.combine(jax.tree.unflatten(structure, moved), rest)

    return make()


def all_draws(model):
    views = joint(model.prior())
    return views.outcome(jnp.arange(views.num_outcomes))


def all_pictures():
    return ((jnp.arange(16)[:, None] >> jnp.arange(4)) & 1).astype(jnp.float32)


@pytest.mark.parametrize("name", MODELS)
def test_the_joint_is_a_distribution(name):
    model = stirred(name)
    z, x = all_draws(model), all_pictures()
    pair = lambda model, x, z: model.log_joint(x, z)
    table = jax.vmap(jax.vmap(pair, (None, 0, None)), (None, None, 0))
    table = np.asarray(eqx.filter_jit(table)(model, x, z))
    assert np.isclose(np.exp(table).sum(), 1.0, atol=1e-5)
    assert table.std() > 0.5  # and not the uniform one


@pytest.mark.parametrize("name", MODELS)
def test_terms_equal_numpyros_and_take_any_leading_axes(name):
    model = stirred(name)
    z = all_draws(model)[:6].reshape(2, 3, *all_draws(model).shape[1:])
    x = all_pictures()[:6].reshape(2, 3, 4)
    prior = dist.Bernoulli(logits=model.prior_logits).to_event(1)
    if name == "categorical":
        prior = ex.OneHotCategorical(logits=model.prior_logits).to_event(1)
    likelihood = dist.Bernoulli(probs=model.decode(z)).to_event(1)
    twin = prior.log_prob(z) + likelihood.log_prob(x)
    assert np.allclose(model.log_joint(x, z), twin, atol=1e-4)
    q = model.posterior(x)
    assert (q.batch_shape, q.event_shape) == ((2, 3), model.prior().event_shape)


@pytest.mark.parametrize("name", MODELS)
def test_it_starts_at_the_data_and_only_the_center_stays(name):
    model = MODELS[name](jax.random.key(0))
    start = jax.nn.sigmoid(model.decoder.layers[-1].bias)
    assert np.allclose(start, jnp.clip(MEAN, 1e-3, 1 - 1e-3), atol=1e-6)

    def loss(model):
        x = all_pictures()[:5]
        logits = jnp.sum(joint(model.posterior(x)).logits ** 2)
        return logits - model.log_joint(x, all_draws(model)[:5]).sum()

    gradient = eqx.filter_jit(eqx.filter_grad(loss))(model)
    moving = jax.tree.leaves(eqx.tree_at(lambda m: m.center, gradient, None))
    assert all(np.any(leaf) for leaf in moving)
    assert not np.any(gradient.center)


def test_the_likelihood_has_the_right_slope_at_a_logit_of_exactly_zero():
    model = linear_vae(jax.random.key(0), jnp.full(4, 0.5), 3)
    model = eqx.tree_at(lambda m: m.decoder, model, jax.tree.map(jnp.zeros_like, model.decoder))
    x = all_pictures()[5]
    gradient = eqx.filter_grad(lambda m: m.log_joint(x, jnp.ones(3)))(model)
    assert jnp.array_equal(gradient.decoder.layers[0].bias, x - 0.5)
    assert jnp.array_equal(gradient.prior_logits, jnp.full(3, 0.5))


@pytest.mark.parametrize("name", ["linear", "categorical"])
def test_draws_from_the_prior_have_its_mean(name):
    model, num = stirred(name), 30_000
    z = all_draws(model)
    exact = jnp.exp(model.log_prior(z)) @ model.decode(z)
    drawn = model.sample_prior(jax.random.key(2), num)
    error = drawn.std(0) / num**0.5
    assert jnp.all(4.5 * error < 0.02)  # the check has power
    assert jnp.all(jnp.abs(drawn.mean(0) - exact) < 4.5 * error)


@pytest.mark.parametrize("make", [binary_vae, categorical_vae])
def test_the_decoder_starts_at_the_data_by_a_bias_or_an_offset_or_not_at_all(make):
    mean = jnp.array([0.2, 0.5, 0.9995, 0.0])
    size = (2,) if make is binary_vae else (2, 3)
    kinds = {bias: make(jax.random.key(0), mean, *size, pixel_bias=bias) for bias in PixelBias}
    z = all_draws(kinds[PixelBias.NONE])[:3]
    logits = {bias: model.pixel_logits(z) for bias, model in kinds.items()}
    start = jax.scipy.special.logit(jnp.clip(mean, 0.001, 0.999))
    # the offset comes on top of the decoder's own bias, which the trained one replaces
    assert np.allclose(logits[PixelBias.FIXED] - logits[PixelBias.NONE], start, atol=1e-4)
    own = kinds[PixelBias.NONE].decoder.layers[-1].bias
    assert np.allclose(logits[PixelBias.TRAINED] - logits[PixelBias.NONE], start - own, atol=1e-4)
    assert [kinds[bias].offset is None for bias in PixelBias] == [True, False, True]

    x = all_pictures()[:3]
    loss = lambda model: model.log_joint(x, z).sum()
    gradient = eqx.filter_jit(eqx.filter_grad(loss))(kinds[PixelBias.FIXED])
    assert not np.any(gradient.offset)
    assert np.any(gradient.decoder.layers[-1].bias)


@pytest.mark.parametrize("make", [binary_vae, categorical_vae])
def test_a_uniform_prior_is_uniform_whatever_its_logits_and_has_no_gradient(make):
    size = (3,) if make is binary_vae else (2, 3)
    model = make(jax.random.key(0), MEAN, *size, uniform_prior=True)
    model = eqx.tree_at(lambda m: m.prior_logits, model, jnp.ones_like(model.prior_logits))
    z = all_draws(model)
    assert np.allclose(model.log_prior(z), -np.log(len(z)))
    assert np.allclose(model.prior().log_prob(z), -np.log(len(z)))
    gradient = eqx.filter_grad(lambda m: m.log_joint(jnp.zeros(4), z).sum())(model)
    assert not np.any(gradient.prior_logits)


def test_input_and_latents_enter_as_they_are_if_asked():
    plain = binary_vae(jax.random.key(0), MEAN, 3, demean=False, signed=False)
    x, z = all_pictures(), all_draws(plain)
    assert np.allclose(plain.posterior(x).base_dist.logits, plain.encoder(x), atol=1e-6)
    assert jnp.array_equal(plain.pixel_logits(z), plain.decoder(z))
    usual = linear_vae(jax.random.key(0), MEAN, 3)
    shifted = usual.encoder(x - MEAN)
    assert np.allclose(usual.posterior(x).base_dist.logits, shifted, atol=1e-6)
    assert jnp.array_equal(usual.pixel_logits(z), usual.decoder(2 * z - 1))


@pytest.mark.parametrize(
    ("shape", "hidden", "activation"),
    [
        ((20, 10), (512, 256), jax.nn.relu),
        ((8, 4), (512, 256), jax.nn.relu),
        ((1, 50), (300,), jax.nn.relu),
    ],
)
def test_the_published_categorical_vaes_have_their_sizes(shape, hidden, activation):
    make = lambda key: categorical_vae(
        key, jnp.full(784, 0.1), *shape, hidden, activation=activation, uniform_prior=True
    )
    model = eqx.filter_eval_shape(make, jax.random.key(0))
    widths = lambda n: [n.layers[0].in_features, *(layer.out_features for layer in n.layers)]
    code = shape[0] * shape[1]
    assert widths(model.encoder) == [784, *hidden, code]
    assert widths(model.decoder) == [code, *hidden[::-1], 784]
    assert model.encoder.activation is model.decoder.activation is activation
    both = lambda m, x: (m.encoder(x), m.posterior(x).sample(jax.random.key(1)))
    x = jax.ShapeDtypeStruct((3, 784), jnp.float32)
    logits, draw = eqx.filter_eval_shape(both, model, x)
    assert logits.shape == (3, code)
    assert draw.shape == (3, *shape)
    decoded = eqx.filter_eval_shape(lambda m, z: m.decode(z), model, draw)
    assert decoded.shape == (3, 784)


def test_a_pixel_bias_of_another_kind_is_refused():
    with pytest.raises(ex.InvalidArgumentError, match=r"PixelBias\.FIXED"):
        binary_vae(jax.random.key(0), MEAN, 3, pixel_bias="fixed")


def test_two_models_of_one_description_have_one_structure():
    one, two = (nonlinear_vae(jax.random.key(i), MEAN, 3) for i in range(2))
    assert jax.tree.structure(one) == jax.tree.structure(two)
