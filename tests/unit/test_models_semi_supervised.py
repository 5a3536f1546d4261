"""The semi-supervised VAE: its parts, and its losses and gradients against sums and quadrature."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import expectax as ex
from expectax.models import PixelBias, semi_supervised_vae
from expectax.objectives import label_loss, labelled_neg_elbo, unlabelled_neg_elbo
from expectax.testing import Gate, check_mean, gather, over_keys
from expectax.testing._gates import default_scale

pytestmark = pytest.mark.usefixtures("float64")

MEAN = jnp.array([0.2, 0.5, 0.9])
X = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
Y = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
KINDS = {"label alone": (0, True), "q(z | x, y)": (1, True), "q(z | x)": (1, False)}
NODES = np.linspace(-8, 8, 321)  # the trapezoidal rule: for analytic functions it is exact
MASS = np.exp(-0.5 * NODES**2)


def tiny(kind):
    num_style, sees = KINDS[kind]
    options = {"style_sees_label": sees, "pixel_bias": PixelBias.FIXED, "activation": jnp.tanh}
    made = semi_supervised_vae(jax.random.key(0), MEAN, 3, num_style, (3,), **options)
    floats, rest = eqx.partition(made, eqx.is_inexact_array)
    rng = np.random.default_rng(3)
    moved = jax.tree.map(lambda x: jnp.asarray(x + 0.6 * rng.normal(size=x.shape)), floats)
    return eqx.combine(moved, rest)


def labelled_by_hand(model, y):
    """−ELBO(x, y) by quadrature over the style, from the networks themselves."""
    center, offset = jax.lax.stop_gradient((model.center, model.offset))
    bits = lambda latents: (
        dist.Bernoulli(logits=model.decoder(latents) + offset).log_prob(X).sum(-1)
    )
    if model.encoder is None:
        return jnp.log(3.0) - bits(y)
    seen = X - center
    raw = model.encoder(jnp.concatenate([seen, y], -1) if model.style_sees_label else seen)
    loc, log_scale = raw[:, :1], raw[:, 1:]
    kl = 0.5 * (loc**2 + jnp.exp(2 * log_scale) - 1 - 2 * log_scale).sum(-1)
    at = lambda node: bits(jnp.concatenate([y, loc + jnp.exp(log_scale) * node], -1))
    return jnp.log(3.0) + kl - (MASS / MASS.sum()) @ jax.vmap(at)(jnp.asarray(NODES))


def unlabelled_by_hand(model):
    log_q = jax.nn.log_softmax(model.classifier(X - jax.lax.stop_gradient(model.center)))
    costs = [labelled_by_hand(model, jnp.tile(jnp.eye(3)[c], (2, 1))) for c in range(3)]
    return jnp.sum(jnp.exp(log_q) * (log_q + jnp.stack(costs, axis=1)), axis=1)


def learned(tree):
    return tree.classifier, tree.encoder, tree.decoder


def check_gradient(loss, by_hand, model, what):
    """The value's and the gradient's mean against the truth, by both gates."""
    value_and_grad = eqx.filter_value_and_grad(loss)

    def both(value, gradient):
        return {"value": value, "gradient": learned(gradient)}

    truth = both(*eqx.filter_jit(eqx.filter_value_and_grad(by_hand))(model))
    scale = default_scale(truth)
    most = max(map(float, jax.tree.leaves(scale["gradient"])))
    scale["gradient"] = jax.tree.map(lambda s: jnp.maximum(s, most / 3), scale["gradient"])
    draw = over_keys(lambda key: both(*value_and_grad(model, key)))
    moments = gather(draw, jax.random.key(0), scale=scale)
    check_mean(moments, truth, scale=scale, gate=Gate(), what=what)


@pytest.mark.parametrize("kind", KINDS)
def test_unlabelled_data_have_the_label_summed_out_exactly_or_drawn_without_bias(kind):
    model = tiny(kind)
    style = ex.Pathwise() if model.num_style else None
    by_hand = lambda m: jnp.sum(unlabelled_by_hand(m))
    for label in (ex.Enumerate(), ex.LeaveOneOut(2)):
        loss = lambda m, key, e=label: jnp.sum(unlabelled_neg_elbo(key, m, X, e, style))
        check_gradient(loss, by_hand, model, f"{kind}, {type(label).__name__}")


@pytest.mark.parametrize("kind", KINDS)
def test_labelled_data_have_the_bound_on_their_joint_probability(kind):
    model = tiny(kind)
    style = ex.Pathwise() if model.num_style else None
    loss = lambda m, key: jnp.sum(labelled_neg_elbo(key, m, X, Y, style))
    check_gradient(loss, lambda m: jnp.sum(labelled_by_hand(m, Y)), model, kind)


def test_the_label_may_be_relaxed_and_its_gradient_goes_through_the_style_too():
    """At low temperature the relaxed gradient comes near the exact one, in every part."""
    model, key = tiny("q(z | x, y)"), jax.random.key(1)

    @eqx.filter_jit
    def gradient(estimator, num):
        def loss(model):
            each = lambda key: unlabelled_neg_elbo(key, model, X, estimator, ex.Pathwise()).sum()
            return jnp.mean(jax.vmap(each)(jax.random.split(key, num)))

        return jax.tree.leaves(learned(eqx.filter_grad(loss)(model)))

    exact, relaxed = gradient(ex.Enumerate(), 4000), gradient(ex.GumbelSoftmax(0.3), 20_000)
    cosine = lambda a, b: jnp.sum(a * b) / jnp.linalg.norm(a) / jnp.linalg.norm(b)
    flat = lambda leaves: jnp.concatenate([leaf.ravel() for leaf in leaves])
    assert cosine(flat(exact), flat(relaxed)) > 0.9


def test_the_chance_of_a_wrong_label_and_its_gradient():
    model = tiny("label alone")
    exact = lambda m: jnp.sum(1 - jnp.exp(m.label_posterior(X).log_prob(Y)))
    sampled = lambda m, e: label_loss(jax.random.key(0), m, X, Y, e).sum()
    assert np.isclose(sampled(model, ex.Enumerate()), exact(model), rtol=1e-12)
    one, two = eqx.filter_grad(exact)(model), eqx.filter_grad(sampled)(model, ex.Enumerate())
    for got, want in zip(*map(jax.tree.leaves, (two, one)), strict=True):
        assert np.allclose(got, want, atol=1e-12)
    assert set(np.asarray(label_loss(jax.random.key(1), model, X, Y, ex.DirectArgmax()))) <= {0, 1}


def test_the_parts_are_distributions_of_the_right_shapes():
    model = tiny("q(z | x, y)")
    x, y = jnp.tile(X, (3, 1, 1)), jnp.tile(Y, (3, 1, 1))
    label, style = model.label_posterior(x), model.style_posterior(x, y)
    assert (label.batch_shape, label.event_shape) == ((3, 2), (3,))
    assert (style.batch_shape, style.event_shape) == ((3, 2), (1,))
    assert (model.num_classes, model.num_style) == (3, 1)
    assert np.allclose(model.log_label_prior(jnp.eye(3)), -np.log(3))
    z = jnp.array([0.3])
    every = ((np.arange(8)[:, None] >> np.arange(3)) & 1).astype(float)
    for label in np.eye(3):
        total = jnp.exp(model.log_likelihood(every, jnp.tile(label, (8, 1)), jnp.tile(z, (8, 1))))
        assert np.isclose(total.sum(), 1)
    mean = model.decode(jnp.asarray(Y), jnp.tile(z, (2, 1)))
    assert np.allclose(mean, jax.nn.sigmoid(model.decoder(np.c_[Y, [0.3, 0.3]]) + model.offset))
    assert tiny("label alone").style_posterior(X, Y) is None


def test_a_style_without_an_estimator_is_refused():
    with pytest.raises(ex.InvalidArgumentError, match="estimator"):
        labelled_neg_elbo(jax.random.key(0), tiny("q(z | x)"), X, Y)
