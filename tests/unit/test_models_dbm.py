"""The deep Boltzmann machine and its loss against a table of every state."""

import functools
import itertools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import expectax as ex
from expectax.models import (
    DBM,
    RBM,
    annealed_importance,
    dbm,
    doubled_hidden,
    doubled_visible,
    log_partition,
    stacked,
)
from expectax.objectives import mean_field_contrastive_divergence
from expectax.testing import check_mean

pytestmark = pytest.mark.usefixtures("float64")

SIZES = (4, 3, 2)


def states(num):
    return np.array(list(itertools.product([0.0, 1.0], repeat=num)))


V, H, T = map(states, SIZES)


def draws(seed, *shapes, scale=1.0):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(scale * rng.normal(size=shape)) for shape in shapes]


@pytest.fixture(scope="module")
def model():
    with jax.enable_x64(True):
        return DBM(*draws(0, (4, 3), (3, 2), (4,), (3,), (2,)))


def table(model):
    """−E of every (v, h, t), written out."""
    lower = jnp.einsum("iv,vh,jh->ij", V, model.weights, H)[:, :, None]
    upper = jnp.einsum("jh,ht,kt->jk", H, model.top_weights, T)[None]
    own = (V @ model.visible_bias)[:, None, None] + (H @ model.hidden_bias)[:, None]
    return lower + upper + own + T @ model.top_bias


def log_sum(x, axes):
    return np.log(np.exp(x).sum(axes, keepdims=True))


def test_densities_are_those_of_the_table(model):
    @jax.jit
    def ours(model):
        v, h, t = V[:, None, None], H[None, :, None], T[None, None]
        given = (model.hidden_given(v, t).log_prob(h), model.visible_given(h).log_prob(v))
        free = model.free_energy((jnp.repeat(V, 4, 0), jnp.tile(T, (16, 1))))
        return model.energy(v, h, t), free, *given, model.top_given(h).log_prob(t)

    scores = np.asarray(table(model))
    energy, free, hidden, visible, top = map(np.asarray, ours(model))
    same = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12)
    same(energy, -scores)
    same(free.reshape(16, 4), -log_sum(scores, 1)[:, 0])
    same(hidden, scores - log_sum(scores, 1))
    # v and t are independent given h: each conditional is the one with the other summed out
    over_t, over_v = log_sum(scores, 2), log_sum(scores, 0)
    same(np.broadcast_to(visible, over_t.shape), over_t - log_sum(scores, (0, 2)))
    same(np.broadcast_to(top, over_v.shape), over_v - log_sum(scores, (0, 2)))


def test_the_partition_function_of_the_folded_machine_is_the_sum_and_so_is_its_gradient(model):
    both = lambda f: jax.jit(jax.value_and_grad(f))(model)
    got, slope = both(lambda model: log_partition(model.folded))
    want, truth = both(lambda model: jax.nn.logsumexp(table(model)))
    np.testing.assert_allclose(got, want, rtol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), slope, truth)


def test_annealing_of_the_folded_machine_is_unbiased(model):
    betas, base = jnp.linspace(0, 1, 8), jnp.array([0.5, -0.5, 1.0, 0.0, 0.2, -0.3])
    run = jax.jit(annealed_importance, static_argnums=2)
    out = run(jax.random.key(0), model.folded, 100_000, betas, base)
    exact = jax.nn.logsumexp(table(model))
    relative = np.exp(np.asarray(out.log_weights - exact))
    check_mean(jnp.asarray(relative), jnp.ones(()), what="mean weight")
    assert relative.std() > 0.1
    assert abs(out.log_z - exact) < 3 * out.standard_error < 0.02


def test_chains_go_where_the_kernel_says(model):
    scores, num = np.asarray(table(model)), 200_000
    up = np.exp(scores - log_sum(scores, 1))
    down = np.exp(scores - log_sum(scores, (0, 2)))
    step = np.einsum("ahb,chd->abcd", up, down).reshape(64, 64)
    start = (jnp.broadcast_to(V[5], (num, 4)), jnp.broadcast_to(T[1], (num, 2)))
    v, t = jax.jit(DBM.gibbs, static_argnums=3)(model, jax.random.key(0), start, 2)
    # of the first two visible bits and the top: few outcomes, and all the power there is
    number = np.asarray(v[:, :2] @ np.array([8.0, 4.0]) + t @ np.array([2.0, 1.0]), int)
    truth = (step @ step)[5 * 4 + 1].reshape(4, 4, 4).sum(1).ravel()
    check_mean(jnp.asarray(np.eye(16)[number]), jnp.asarray(truth), what="law of the chain")


def bits(logits, outcomes):
    """Π Bernoulli, of every row of logits at every outcome."""
    logits, outcomes = np.asarray(logits)[:, None], np.asarray(outcomes)[None]
    return np.exp(np.sum(outcomes * logits - np.log1p(np.exp(logits)), -1))


def joint_of(q):
    return np.einsum("ij,ik->ijk", bits(q.hidden_logits, H), bits(q.top_logits, T))


def test_the_bound_is_the_enumerated_one_and_each_round_raises_it(model):
    find = jax.jit(DBM.mean_field, static_argnames=("tolerance", "most_steps"))
    scores = np.asarray(table(model))
    log_p = log_sum(scores, (1, 2)).ravel() - log_sum(scores, None).ravel()
    log_z, bounds = log_partition(model.folded), []
    for most in (0, 1, 200):
        q = find(model, jnp.asarray(V), tolerance=1e-9, most_steps=most)
        chance = joint_of(q)
        enumerated = np.sum(chance * (scores - np.log(chance)), (1, 2))
        bound = -model.variational_free_energy(V, q)
        np.testing.assert_allclose(bound, enumerated, rtol=1e-9)
        bounds.append(np.asarray(bound - log_z))
    assert q.num_steps < 200
    assert np.all(np.diff(bounds, axis=0) > -1e-12)
    assert np.all(bounds[-1] > bounds[0] + 1e-4)
    assert np.all(bounds[-1] < log_p)
    # at rest: no other q(h) q(t) nearby is better
    slope = jax.grad(lambda q: model.variational_free_energy(V, q).sum(), allow_int=True)(q)
    np.testing.assert_allclose(slope.hidden_logits, 0, atol=1e-8)
    np.testing.assert_allclose(slope.top_logits, 0, atol=1e-8)
    loose = find(model, jnp.asarray(V), tolerance=0.05, most_steps=200)
    assert 0 < loose.num_steps < q.num_steps


def test_without_weights_to_the_top_the_bound_is_exact(model):
    flat = DBM(model.weights, jnp.zeros((3, 2)), *draws(1, (4,), (3,), (2,)))
    bound = -flat.variational_free_energy(V, flat.mean_field(V)) - log_partition(flat.folded)
    scores = np.asarray(table(flat))
    log_p = log_sum(scores, (1, 2)).ravel() - log_sum(scores, None).ravel()
    np.testing.assert_allclose(bound, log_p, rtol=1e-10)


def test_the_expected_gradient_is_the_bounds(model):
    """Every state of the chains by its probability: E_q[∂E] − E_model[∂E], both enumerated."""
    data = jnp.asarray(np.random.default_rng(2).dirichlet(np.ones(16)))
    law = jax.nn.softmax(jax.nn.logsumexp(table(model), 1).ravel())
    fantasies = (jnp.repeat(V, 4, 0), jnp.tile(T, (16, 1)))

    def loss(model, fantasy):
        chains = jax.tree.map(lambda x: jnp.stack([x, x]), fantasy)  # their mean, not sum
        with mock.patch.object(DBM, "gibbs", return_value=chains):
            key = jax.random.key(0)
            each, _ = mean_field_contrastive_divergence(key, model, jnp.asarray(V), None)
        return data @ each

    total = lambda model: law @ jax.vmap(functools.partial(loss, model))(fantasies)
    chance = data[:, None, None] * joint_of(model.mean_field(V))

    def nats(model):
        return jnp.sum(chance * -table(model)) + jax.nn.logsumexp(table(model))

    got, truth = jax.jit(jax.grad(total))(model), jax.jit(jax.grad(nats))(model)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(truth), strict=True):
        assert np.abs(b).max() > 0.02
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_the_chains_go_on():
    model = DBM(*draws(0, (4, 3), (3, 2), (4,), (3,), (2,)))
    chains, key = (jnp.asarray(V[3:9]), jnp.asarray(np.tile(T, (2, 1))[:6])), jax.random.key(1)
    _, moved = mean_field_contrastive_divergence(key, model, jnp.asarray(V), chains, 2)
    for one, other in zip(moved, model.gibbs(key, chains, 2), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(moved[0], chains[0])


def machines():
    first = RBM(*draws(3, (4, 3), (4,), (3,)))
    second = RBM(*draws(4, (3, 2), (3,), (2,)))
    return first, second


def law_of_h(machine, hidden):
    """log p(h) up to a constant, h being the hidden or the visible units of a machine."""
    if hidden:
        machine = RBM(machine.weights.T, machine.hidden_bias, machine.visible_bias)
    return -np.asarray(machine.free_energy(jnp.asarray(H)))


def test_stacked_machines_are_the_geometric_mean_of_the_doubled_ones():
    first, second = machines()
    below = law_of_h(doubled_visible(first), hidden=True)
    above = law_of_h(doubled_hidden(second), hidden=False)
    whole = log_sum(np.asarray(table(stacked(first, second))), (0, 2)).ravel()
    rest = whole - (below + above) / 2
    np.testing.assert_allclose(rest, rest[0], atol=1e-12)
    assert np.ptp(below) > 0.1
    assert np.ptp(above) > 0.1


def test_what_is_doubled_is_heard_twice():
    first, second = machines()
    twice = doubled_visible(first).hidden_logits(jnp.concatenate([V, V], axis=1))
    np.testing.assert_allclose(twice, 2 * V @ first.weights + first.hidden_bias, rtol=1e-12)
    above = doubled_hidden(second)
    twice = above.visible_logits(jnp.concatenate([T, T], axis=1))
    np.testing.assert_allclose(twice, 2 * T @ second.weights.T + second.visible_bias, rtol=1e-12)
    np.testing.assert_array_equal(above.hidden_logits(H)[:, :2], second.hidden_logits(H))


def test_what_does_not_fit_is_refused(model):
    first, second = machines()
    with pytest.raises(ex.InvalidArgumentError, match="share"):
        stacked(second, first)
    with pytest.raises(ex.InvalidArgumentError, match="most_steps"):
        model.mean_field(V, most_steps=-1)


def test_a_fresh_machine_has_the_mean_of_the_data():
    mean = jnp.array([0.1, 0.5, 0.8])
    model = dbm(jax.random.key(0), mean, 2, 4, scale=1e-6)
    np.testing.assert_allclose(jax.nn.sigmoid(model.visible_logits(jnp.ones(2))), mean, rtol=1e-4)
