"""`PlackettLuce` and `TopK`: laws, draws and relaxations, by enumeration."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import expectax as ex
from expectax import gumbel
from expectax.distributions import Averaged, Relaxable, joint

LOGITS = np.array([[0.9, -0.4, 0.2, -1.1], [0.0, 0.0, -np.inf, 0.3]])
WEIGHTS = np.exp(LOGITS)
DRAWS = 200_000
Z, POWER = 4.5, 0.02


def by_hand(weights, order) -> float:
    left, p = list(range(len(weights))), 1.0
    for i in order:
        total = sum(weights[m] for m in left)
        p *= weights[i] / total if total else 1 / len(left)
        left.remove(i)
    return p


def table(kind, k) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes (N, ...) and probabilities (N, 2) by plain loops."""
    if kind is ex.TopK:
        sets = list(itertools.combinations(range(4), k))
        hot = np.array([np.eye(4)[list(s)].sum(axis=0) for s in sets])
        orders = lambda s: itertools.permutations(s)
        return hot, np.array(
            [[sum(by_hand(w, o) for o in orders(s)) for w in WEIGHTS] for s in sets]
        )
    orders = list(itertools.permutations(range(4), k))
    matrices = np.array([np.eye(4)[list(o)] for o in orders])
    return matrices, np.array([[by_hand(w, o) for w in WEIGHTS] for o in orders])


CASES = [(ex.PlackettLuce, 4), (ex.PlackettLuce, 2), (ex.TopK, 3), (ex.TopK, 1)]


@pytest.mark.parametrize(("kind", "k"), CASES)
@pytest.mark.usefixtures("float64")
def test_the_law_is_that_by_enumeration(kind, k):
    q, (outcomes, p) = kind(jnp.asarray(LOGITS), k), table(kind, k)
    np.testing.assert_allclose(p.sum(axis=0), 1.0, rtol=1e-12)
    listed = q.enumerate_support()
    assert listed.shape == (len(outcomes), *q.batch_shape, *q.event_shape)
    assert q.enumerate_support(expand=False).shape == (len(outcomes), 1, *q.event_shape)
    assert bool(q.support(listed).all())
    ours = {x.tobytes(): i for i, x in enumerate(np.asarray(listed[:, 0]))}
    order = [ours[x.tobytes()] for x in outcomes]
    assert sorted(order) == list(range(len(outcomes)))
    log_p = np.asarray(jax.jit(q.log_prob)(listed))[order]
    np.testing.assert_allclose(np.exp(log_p), p, rtol=1e-11, atol=1e-300)
    view = joint(q).sites[0]
    numbered = view.outcome(jnp.arange(view.num_outcomes))
    np.testing.assert_array_equal(numbered, listed)
    np.testing.assert_allclose(
        jax.jit(lambda b: view.log_prob(b))(numbered)[jnp.array(order)], log_p, rtol=1e-12
    )


@pytest.mark.parametrize(("kind", "k"), CASES)
def test_draws_by_the_distribution_and_by_its_view_have_the_law(kind, k):
    q, (outcomes, p) = kind(jnp.asarray(LOGITS, jnp.float32), k), table(kind, k)
    view = joint(q).sites[0]
    keys = jax.random.split(jax.random.key(0), 2)
    perturbed = lambda key: view.harden(view.logits + view.noise(key, DRAWS))
    for program in (lambda key: q.sample(key, (DRAWS,)), perturbed):
        draws = jax.jit(program)(keys[0])
        assert (draws.shape, draws.dtype) == ((DRAWS, 2, *q.event_shape), jnp.float32)
        code = lambda x: (
            x.reshape((*x.shape[: x.ndim - q.event_dim], -1))
            @ (2.0 ** np.arange(math.prod(q.event_shape)))
        )
        seen = (code(np.asarray(draws, float))[:, None] == code(outcomes)[:, None]).mean(axis=0)
        error = np.sqrt(p * (1 - p) / DRAWS)
        assert np.all(Z * error <= POWER * np.maximum(p.max(axis=0), 0.25)), "underpowered"
        assert np.all(np.abs(seen - p) <= Z * error)
        np.testing.assert_allclose(seen.sum(axis=0), 1.0)


@pytest.mark.usefixtures("float64")
def test_orders_are_scored_as_by_indices_and_smoothly_between_them():
    rng = np.random.default_rng(0)
    logits, order = jnp.asarray(rng.normal(size=6) * 3), jnp.asarray(rng.permutation(6)[:4])
    b = jnp.eye(6)[order]
    both = lambda t: (ex.PlackettLuce(t, 4).log_prob(b), gumbel.ordered_log_prob(t, order))
    np.testing.assert_allclose(*both(logits), rtol=1e-13)
    np.testing.assert_allclose(*jax.jacrev(both)(logits), rtol=1e-11)
    # in the draw: the slope is that of the formula, at a relaxed draw and at a hard one
    q, line = ex.PlackettLuce(logits, 4, validate_args=False), jnp.asarray(rng.normal(size=(4, 6)))
    soft = gumbel.soft_sort(logits, 5.0, 4)
    slope = jax.jvp(q.log_prob, (soft,), (line,))[1]
    difference = (q.log_prob(soft + 1e-6 * line) - q.log_prob(soft - 1e-6 * line)) / 2e-6
    np.testing.assert_allclose(slope, difference, rtol=1e-6)
    assert bool(jnp.isfinite(jax.grad(q.log_prob)(b)).all())


@pytest.mark.parametrize(("kind", "k"), [(ex.PlackettLuce, 4), (ex.PlackettLuce, 2), (ex.TopK, 2)])
def test_relaxed_draws_become_hard_ones(kind, k):
    with jax.enable_x64(True):
        view = joint(kind(jnp.asarray(LOGITS), k).to_event(1)).sites[0]
        assert isinstance(view, Relaxable)
        assert not isinstance(view, Averaged)
        z = view.logits + view.noise(jax.random.key(1), 20)
        hard, soft = view.harden(z), view.relax(z, 1e-5)
        assert hard.shape == soft.shape == (20, *view.event_shape)
        np.testing.assert_array_equal(view.harden(3 * z), hard)
        np.testing.assert_allclose(soft, hard, atol=1e-9)
        total = view.relax(z, 0.7).sum(axis=-1)
        np.testing.assert_allclose(total, 1.0 if kind is ex.PlackettLuce else k, rtol=1e-12)


def test_independent_orders_and_sets():
    q = ex.PlackettLuce(jnp.asarray(LOGITS, jnp.float32), 2).to_event(1)
    assert (q.batch_shape, q.event_shape) == ((), (2, 2, 4))
    view = joint(q).sites[0]
    assert (view.event_shape, view.num_outcomes) == ((2, 2, 4), 144)
    outcomes = view.outcome(jnp.arange(144))
    p = jnp.exp(view.log_prob(outcomes))
    np.testing.assert_allclose(p, jnp.exp(q.log_prob(outcomes)), rtol=1e-5)
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-5)
    sets = joint(ex.TopK(jnp.zeros(5), 2).expand((3,)).to_event(1)).sites[0]
    assert (sets.batch_shape, sets.event_shape, sets.num_outcomes) == ((), (3, 5), 1000)
    assert sets.sample(jax.random.key(0), 7).shape == (7, 3, 5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saturated_logits_stay_finite_and_sure(dtype):
    logits = jnp.array([-jnp.inf, 90.0, -80.0, 0.0, 1000.0], dtype)
    for q in (ex.PlackettLuce(logits), ex.PlackettLuce(logits, 2), ex.TopK(logits, 3)):
        draw = q.sample(jax.random.key(0))
        assert draw.dtype == dtype
        if isinstance(q, ex.TopK):
            assert draw.tolist() == [0.0, 1.0, 0.0, 1.0, 1.0]
        else:
            assert jnp.argmax(draw, axis=-1).tolist() == [4, 1, 3, 2, 0][: q.k]
        assert float(q.log_prob(draw)) == 0.0
        slope = jax.grad(lambda t, q=q, b=draw: type(q)(t, q.k).log_prob(b))(logits)
        assert bool(jnp.isfinite(slope).all())
        assert slope[0] == 0


def test_the_perturbed_estimator_serves_orders_and_scores_of_a_matrix_are_refused():
    x = jnp.array([3.0, 1.0, 2.0])
    cost = lambda b: jnp.sum((b @ x) * jnp.array([1.0, 2.0, 4.0]), axis=-1)
    loss = lambda t, key: ex.expect(
        key, ex.PlackettLuce(t), cost, ex.StraightThroughGumbelSoftmax(0.5)
    )
    slope = jax.grad(loss)(jnp.zeros(3), jax.random.key(0))
    assert slope.shape == (3,)
    assert bool(jnp.any(slope != 0))
    view = joint(ex.PlackettLuce(jnp.zeros(3))).sites[0]
    with pytest.raises(ex.IncompatibleError, match="scores for 3 places"):
        view.harden(jnp.zeros((3, 3)))
    with pytest.raises(ex.InvalidArgumentError, match="whole number from 1 to 3"):
        ex.PlackettLuce(jnp.zeros(3), 4)
    with pytest.raises(ex.InvalidArgumentError, match="runs over the items"):
        ex.PlackettLuce(jnp.zeros(()))


def test_they_pass_through_transforms():
    for q in (ex.PlackettLuce(jnp.zeros((2, 4)), 3), ex.TopK(jnp.zeros((2, 4)), 3)):
        leaves, structure = jax.tree.flatten(q)
        again = jax.tree.unflatten(structure, leaves)
        assert (again.k, again.batch_shape, again.event_shape) == (3, (2,), q.event_shape)
        draw = jax.jit(lambda q: q.sample(jax.random.key(0)))(again)
        np.testing.assert_array_equal(draw, q.sample(jax.random.key(0)))
        one = -math.log(24 if isinstance(q, ex.PlackettLuce) else 4)
        np.testing.assert_allclose(again.log_prob(draw), one, rtol=1e-6)
        assert bool(again.support(again.support.feasible_like(draw)).all())
        for wrong in (jnp.zeros_like(draw), 0.5 * draw, jnp.ones_like(draw)):
            assert not bool(again.support(wrong).any())
