"""The restricted Boltzmann machine and contrastive divergence against tables of every state."""

import functools
import itertools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import expectax as ex
from expectax.models import RBM, _rbm as module, annealed_importance, log_partition, rbm
from expectax.objectives import contrastive_divergence, persistent_contrastive_divergence
from expectax.testing import check_mean

pytestmark = pytest.mark.usefixtures("float64")

SIZES = [(4, 3), (3, 4)]


def machine(num_visible=4, num_hidden=3, scale=1.0):
    rng = np.random.default_rng(num_visible)
    draw = lambda *shape: jnp.asarray(scale * rng.normal(size=shape))
    return RBM(draw(num_visible, num_hidden), draw(num_visible), draw(num_hidden))


def states(num):
    return np.array(list(itertools.product([0.0, 1.0], repeat=num)))


def table(model):
    """−E of every (v, h), written out."""
    v, h = states(len(model.visible_bias)), states(len(model.hidden_bias))
    pairs = jnp.einsum("iv,vh,jh->ij", v, model.weights, h)
    return pairs + (v @ model.visible_bias)[:, None] + (h @ model.hidden_bias)[None]


@pytest.mark.parametrize("sizes", SIZES)
def test_densities_are_those_of_the_table(sizes):
    model = machine(*sizes)
    v, h = map(states, sizes)

    @jax.jit
    def ours(model):
        energy = model.energy(v[:, None], h[None])
        up = model.hidden_given(v[:, None]).log_prob(h)
        down = model.visible_given(h[None]).log_prob(v[:, None])
        return energy, model.free_energy(v), up, down

    scores = np.asarray(table(model))
    energy, free, up, down = map(np.asarray, ours(model))
    log_sum = lambda x, axis: np.log(np.exp(x).sum(axis, keepdims=True))
    np.testing.assert_allclose(energy, -scores, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(free, -log_sum(scores, 1)[:, 0], rtol=1e-12)
    np.testing.assert_allclose(up, scores - log_sum(scores, 1), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(down, scores - log_sum(scores, 0), rtol=1e-10, atol=1e-12)
    conditional = np.exp(scores - log_sum(scores, 1))
    np.testing.assert_allclose(model.hidden_marginals(v), conditional @ h, rtol=1e-10)
    np.testing.assert_array_equal(model.hidden_map(v), h[conditional.argmax(1)])


@pytest.mark.parametrize("sizes", SIZES)
def test_the_partition_function_is_the_sum_and_so_is_its_gradient(sizes):
    model = machine(*sizes)
    exact = lambda model: jax.nn.logsumexp(table(model))
    both = lambda f: jax.jit(jax.value_and_grad(f))(model)
    (got, slope), (want, truth) = both(log_partition), both(exact)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), slope, truth)


def test_the_partition_function_does_not_mind_the_chunks(monkeypatch):
    model = machine(9, 8, 0.5)
    whole = log_partition(model)
    monkeypatch.setattr(module, "_CHUNK_UNITS", 3)
    np.testing.assert_allclose(log_partition(model), whole, rtol=1e-12)
    with pytest.raises(ex.InvalidArgumentError, match="annealed_importance"):
        log_partition(RBM(jnp.zeros((30, 26)), jnp.zeros(30), jnp.zeros(26)))


def kernel(model, num_steps):
    """Where block Gibbs goes from each v, exactly."""
    scores = np.asarray(table(model))
    up = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    down = np.exp(scores) / np.exp(scores).sum(0, keepdims=True)
    return np.linalg.matrix_power(up @ down.T, num_steps)


@pytest.mark.parametrize("num_steps", [1, 3])
def test_chains_go_where_the_kernel_says(num_steps):
    model, num = machine(3, 4), 400_000
    start = np.array([1.0, 0.0, 0.0])
    gibbs = jax.jit(RBM.gibbs, static_argnums=3)
    v = gibbs(model, jax.random.key(0), jnp.broadcast_to(start, (num, 3)), num_steps)
    number = (v @ np.array([4.0, 2.0, 1.0])).astype(int)
    truth = kernel(model, num_steps)[4]
    check_mean(jax.nn.one_hot(number, 8), jnp.asarray(truth), what="law of the chain")


def expected_update(model, law, num_steps):
    """The mean update of CD-k on data with this law: every fantasy, by its probability."""
    v = jnp.asarray(states(4))
    chance = law[:, None] * kernel(model, num_steps)

    def loss(model, fantasy):
        with mock.patch.object(RBM, "gibbs", return_value=jnp.broadcast_to(fantasy, v.shape)):
            return contrastive_divergence(jax.random.key(0), model, v, num_steps)

    def total(model):
        return jnp.sum(chance.T * jax.vmap(functools.partial(loss, model))(v))

    return jax.jit(jax.grad(total))(model)


def law_of(model):
    return np.exp(np.asarray(jax.nn.logsumexp(table(model), 1) - jax.nn.logsumexp(table(model))))


def average_slope(model, law):
    """∂F, averaged over a law of v."""
    mean = lambda model: jnp.sum(law * model.free_energy(jnp.asarray(states(4))))
    return jax.jit(jax.grad(mean))(model)


DATA = np.random.default_rng(2).dirichlet(np.ones(16))


@pytest.mark.parametrize("num_steps", [1, 3])
def test_the_expected_update_of_cd_is_that_of_the_kernel(num_steps):
    model = machine()
    got = expected_update(model, DATA, num_steps)
    after = average_slope(model, DATA @ kernel(model, num_steps))
    want = jax.tree.map(jnp.subtract, average_slope(model, DATA), after)
    for a, b in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        assert np.abs(b).max() > 0.02
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_where_the_model_is_the_law_of_the_data_cd_stands_still():
    model = machine()
    for leaf in jax.tree.leaves(expected_update(model, law_of(model), 1)):
        np.testing.assert_allclose(leaf, 0, atol=1e-12)


def test_many_steps_of_cd_are_maximum_likelihood_and_one_is_not():
    model = machine()
    nats = lambda m: jnp.sum(DATA * m.free_energy(jnp.asarray(states(4)))) + log_partition(m)
    truth = jax.tree.leaves(jax.jit(jax.grad(nats))(model))
    many = jax.tree.leaves(expected_update(model, DATA, 400))
    one = jax.tree.leaves(expected_update(model, DATA, 1))
    for a, b in zip(many, truth, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)
    assert max(np.abs(a - b).max() for a, b in zip(one, truth, strict=True)) > 0.05


def test_persistent_chains_go_on_and_are_what_the_data_are_compared_with():
    model = machine()
    x, chains = jnp.asarray(states(4)[:3]), jnp.asarray(states(4)[5:])
    key = jax.random.key(1)

    def loss(model):
        each, moved = persistent_contrastive_divergence(key, model, x, chains, 2)
        return each.sum(), moved

    def exact(model, moved):
        return (model.free_energy(x) - model.free_energy(moved).mean()).sum()

    (value, moved), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(model)
    np.testing.assert_array_equal(moved, model.gibbs(key, chains, 2))
    assert not np.array_equal(moved, chains)
    want, truth = jax.jit(jax.value_and_grad(exact))(model, moved)
    np.testing.assert_allclose(value, want, rtol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), gradient, truth)


def test_annealed_weights_are_unbiased_for_the_partition_function():
    """However coarse the schedule is, and from whatever base."""
    model = machine(6, 5, 0.7)
    betas, base = jnp.linspace(0, 1, 6) ** 2, jnp.linspace(-1, 1, 6)
    run = jax.jit(annealed_importance, static_argnums=2)
    out = run(jax.random.key(0), model, 400_000, betas, base)
    exact = log_partition(model)
    relative = np.exp(np.asarray(out.log_weights - exact))
    check_mean(jnp.asarray(relative), jnp.ones(()), what="mean weight")
    assert relative.std() > 0.2
    assert abs(out.log_z - exact) < 4.5 * out.standard_error < 0.02
    np.testing.assert_allclose(out.standard_error, relative.std() / 400_000**0.5, rtol=0.02)
    size = relative.sum() ** 2 / (relative**2).sum()
    np.testing.assert_allclose(out.effective_sample_size, size, rtol=1e-9)


def test_the_reported_error_is_the_spread_of_the_estimates():
    model, betas = machine(6, 5, 0.7), jnp.linspace(0, 1, 12)
    once = lambda key: annealed_importance(key, model, 200, betas)
    out = jax.jit(jax.vmap(once))(jax.random.split(jax.random.key(3), 1000))
    ratio = np.std(out.log_z, ddof=1) / np.mean(out.standard_error)
    assert abs(ratio - 1) < 4.5 / 2000**0.5
    with pytest.raises(ex.InvalidArgumentError, match="at least 2"):
        annealed_importance(jax.random.key(0), model, 1, betas)


def test_a_fresh_machine_has_the_mean_of_the_data():
    mean = jnp.array([0.1, 0.5, 0.8])
    model = rbm(jax.random.key(0), mean, 2, scale=1e-6)
    np.testing.assert_allclose(jax.nn.sigmoid(model.visible_logits(jnp.ones(2))), mean, rtol=1e-4)
