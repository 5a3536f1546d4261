"""The structured encoder: its scores, its two laws, and that it can be trained."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import expectax as ex
from expectax.distributions import joint
from expectax.models import chain_vae, structured_vae
from expectax.objectives import importance_bound, neg_elbo

MEAN = jnp.array([0.2, 0.5, 0.9, 0.4])
N = 3


def pictures():
    return ((jnp.arange(16)[:, None] >> jnp.arange(4)) & 1).astype(jnp.float32)


def stirred():
    model = structured_vae(jax.random.key(0), MEAN, N, (5,))
    floats, rest = eqx.partition(model, eqx.is_inexact_array)
    rng = np.random.default_rng(2)
    moved = jax.tree.map(lambda x: x + rng.normal(size=x.shape).astype(np.float32), floats)
    return eqx.combine(moved, rest)


def scored_by_hand(model, x):
    """The score of every setting of the bits, pair by pair: shape (batch, settings)."""
    alone = np.asarray(model.unstructured.encoder(x - model.unstructured.center))
    pairs = np.asarray(model.pairs(x - model.unstructured.center))
    settings = (np.arange(2**N)[:, None] >> np.arange(N)) & 1
    total = alone @ settings.T
    for number, (i, j) in enumerate([(0, 1), (0, 2), (1, 2)]):
        total += pairs[:, number : number + 1] * (settings[:, i] * settings[:, j])
    return total, settings


def test_scores_are_those_of_bits_and_pairs_and_gibbs_has_their_law():
    model, x = stirred(), pictures()[:6]
    total, settings = scored_by_hand(model, x)
    assert np.allclose(model.gibbs(x).logits, total, atol=1e-4)
    every = jnp.eye(2**N)
    assert jnp.array_equal(model.bits_of(every), settings)
    probability = np.exp(total - np.logaddexp.reduce(total, axis=1, keepdims=True))
    prior = np.asarray(model.unstructured.log_prior(jnp.asarray(settings, jnp.float32)))
    kl = np.sum(probability * (np.log(probability) - prior), axis=1)
    assert np.allclose(model.gibbs_kl(x), kl, atol=1e-4)
    assert model.scores(x.reshape(2, 3, 4)).shape == (2, 3, N, N)
    assert jnp.array_equal(jnp.tril(model.scores(x), -1), jnp.zeros((6, N, N)))


def test_draws_have_the_greatest_perturbed_score_and_carry_their_bits_on_the_diagonal():
    model, x = stirred(), pictures()[:5]
    views = joint(model.posterior(x))
    noise = views.noise(jax.random.key(1), 1)[0]
    drawn = model.bits(views.harden(views.logits + noise))
    perturbed = np.asarray(model.scores(x) + noise)
    settings = ((np.arange(2**N)[:, None] >> np.arange(N)) & 1).astype(float)
    outer = np.triu(settings[:, :, None] * settings[:, None, :])
    best = np.einsum("bij,kij->bk", perturbed, outer).argmax(1)
    assert jnp.array_equal(drawn, settings[best])
    structure = views.harden(views.logits + noise)
    assert np.allclose(
        model.log_joint(x, structure), model.unstructured.log_joint(x, drawn), atol=1e-6
    )


def test_it_starts_as_the_unstructured_one():
    model, x = structured_vae(jax.random.key(0), MEAN, N, (5,)), pictures()
    assert not np.any(model.pairs(x))
    settings = model.bits_of(jnp.eye(2**N))
    twin = jax.vmap(model.unstructured.posterior(x).log_prob)(
        jnp.broadcast_to(settings[:, None], (2**N, 16, N))
    )
    assert np.allclose(jax.nn.log_softmax(model.gibbs(x).logits), twin.T, atol=1e-5)


def test_the_elbo_of_the_gibbs_law_is_exact_by_enumeration_and_below_the_evidence():
    model, x = stirred(), pictures()[:6]

    def bound(model):
        log_joint = lambda s: model.unstructured.log_joint(x, model.bits_of(s))
        return neg_elbo(jax.random.key(0), model.gibbs(x), log_joint, ex.Enumerate())

    def by_hand(model):
        settings = model.bits_of(jnp.eye(2**N))
        each = lambda z: model.unstructured.log_likelihood(x, jnp.broadcast_to(z, (6, N)))
        log_q = jax.nn.log_softmax(model.gibbs(x).logits)
        return model.gibbs_kl(x) - jnp.sum(jnp.exp(log_q) * jax.vmap(each)(settings).T, axis=1)

    assert np.allclose(bound(model), by_hand(model), atol=1e-4)
    one, two = (eqx.filter_grad(lambda m, f=f: f(m).sum())(model) for f in (bound, by_hand))
    for got, want in zip(*map(jax.tree.leaves, (one, two)), strict=True):
        assert np.allclose(got, want, atol=1e-3)
    assert np.abs(two.pairs.layers[-1].bias).max() > 0.1
    log_joint = lambda s: model.unstructured.log_joint(x, model.bits_of(s))
    evidence = importance_bound(jax.random.key(1), model.gibbs(x), log_joint, 3000)
    assert np.all(-by_hand(model) < evidence + 0.05)


def test_direct_optimization_through_the_joint_argmax_trains_both_kinds_of_scores():
    """Bits that must be equal, for a cost that no single bit can see: the pairs must learn it."""
    model = structured_vae(jax.random.key(0), MEAN, 2, ())
    x = pictures()[:4]

    def loss(model, key):
        def cost(structure):  # 1 where the two bits differ, and a little for each bit
            z = model.bits(structure)
            return (z[..., 0] - z[..., 1]) ** 2 + 0.2 * z[..., 0]

        return ex.expect(key, model.posterior(x), cost, ex.DirectArgmax(1.0)).mean()

    @jax.jit
    def train(model):
        def step(model, key):
            gradient = jax.grad(loss)(model, key)
            return jax.tree.map(lambda p, g: p - 0.5 * g, model, gradient), None

        keys = jax.random.split(jax.random.key(1), 400)
        trained = jax.lax.scan(step, model, keys)[0]
        value = lambda m: jnp.mean(jax.vmap(lambda k: loss(m, k))(keys))
        return trained, value(model), value(trained)

    trained, before, after = train(model)
    assert before > 0.4
    assert after < 0.25
    assert np.all(trained.scores(x)[:, 0, 1] > 0.3)


@pytest.mark.parametrize("num", [1, 16])
def test_too_few_or_too_many_bits_are_refused(num):
    with pytest.raises(ex.InvalidArgumentError, match="2 to 15"):
        structured_vae(jax.random.key(0), MEAN, num)


def test_a_chain_draws_the_best_path_and_scores_neighbors_alone():
    model, x = chain_vae(jax.random.key(0), MEAN, N, (5,)), pictures()[:5]
    assert not np.any(model.pairs(x))  # it starts as without them
    rng = np.random.default_rng(3)
    bias = jnp.asarray(rng.normal(size=N - 1), jnp.float32)
    model = eqx.tree_at(lambda m: m.pairs.layers[-1].bias, model, bias)
    scores = model.scores(x)
    assert np.array_equal(np.flatnonzero(np.any(scores, axis=0)), [0, 1, 4, 5, 8])
    settings = ((np.arange(2**N)[:, None] >> np.arange(N)) & 1).astype(float)
    total = np.einsum("bij,ki,kj->bk", np.asarray(scores), settings, settings)
    assert np.allclose(model.gibbs(x).logits, total, atol=1e-5)
    views = joint(model.posterior(x))
    noise = views.noise(jax.random.key(1), 1)[0]
    paths = np.zeros((2**N, N - 1, 2, 2))
    for k, z in enumerate(settings.astype(int)):
        paths[k, np.arange(N - 1), z[:-1], z[1:]] = 1
    perturbed = np.einsum("btij,ktij->bk", np.asarray(noise), paths) + total
    drawn = views.harden(views.logits + noise)
    assert np.array_equal(drawn, paths[perturbed.argmax(1)])
    assert np.array_equal(model.bits(drawn), settings[perturbed.argmax(1)])
    joint_of_bits = model.unstructured.log_joint(x, model.bits(drawn))
    assert np.allclose(model.log_joint(x, drawn), joint_of_bits, atol=1e-6)
