"""Maxima, truncation, draws without replacement and relaxed sets, by rejection and enumeration."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import linear_sum_assignment

import expectax as ex
from expectax import gumbel
from expectax._numerics import FLOOR
from expectax.gumbel import _top_k as by

Z = 4.5
POWER = 0.02
LOGITS = np.log([0.1, 0.2, 0.3, 0.4]) + 0.7  # asymmetric, and not normalised
WEIGHTS = np.exp(LOGITS)
EULER = np.euler_gamma
DRAWS = 1_000_000


def gate(draws: np.ndarray, truth: np.ndarray, what: str = ""):
    """The mean over the first axis is the truth, and there were draws enough to tell."""
    draws = np.asarray(draws, np.float64)
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    assert np.all(Z * error <= POWER * np.max(np.abs(truth))), f"{what}: underpowered"
    assert np.all(np.abs(draws.mean(axis=0) - truth) <= Z * error), (what, draws.mean(0), truth)


def same_moments(ours: np.ndarray, theirs: np.ndarray):
    """Means and mean products of two samples agree within their joint error."""
    for moment in (lambda z: z, lambda z: z[:, :, None] * z[:, None, :]):
        a, b = (np.asarray(moment(np.asarray(z, np.float64))) for z in (ours, theirs))
        error = np.sqrt(a.var(axis=0) / len(a) + b.var(axis=0) / len(b))
        assert np.all(Z * error <= POWER * np.max(np.abs(b.mean(axis=0)))), "underpowered"
        assert np.all(np.abs(a.mean(axis=0) - b.mean(axis=0)) <= Z * error), (a.mean(0), b.mean(0))


def ordered_by_hand(weights, order) -> float:
    left, p = sum(weights), 1.0
    for i in order:
        p, left = p * weights[i] / left, left - weights[i]
    return p


def unordered_by_hand(weights, items) -> float:
    return sum(ordered_by_hand(weights, order) for order in itertools.permutations(items))


# Truncation, and from the maximum down


@pytest.mark.parametrize("bound", [-1.5, 0.4, np.inf])
def test_truncated_draws_have_their_law(bound):
    logits = jnp.full(300_000, 0.6)
    z = np.asarray(gumbel.truncated_gumbel(jax.random.key(0), logits, bound), np.float64)
    assert z.max() <= bound
    law = lambda x: np.exp(-np.exp(0.6 - x) + np.exp(0.6 - bound))
    assert stats.kstest(z, law).pvalue > 1e-5
    assert stats.kstest(z - 0.02, law).pvalue < 1e-5  # the test sees two hundredths


@pytest.mark.usefixtures("float64")
def test_truncated_draws_and_their_slopes_are_those_of_rejection_samples():
    free = LOGITS + np.random.default_rng(0).gumbel(size=(3_000_000, 4))
    kept = free[free.max(axis=1) < 0.9]
    many = jnp.broadcast_to(LOGITS, (len(kept), 4))
    ours = gumbel.truncated_gumbel(jax.random.key(1), many, 0.9)
    same_moments(np.asarray(ours), kept)
    # E[z] as a function of θ by quadrature; the mean of the pathwise slopes is its derivative
    v = (np.arange(20_000) + 0.5) / 20_000
    mean = lambda t: np.mean(-np.log(np.exp(-0.9) - np.log(v) * np.exp(-t)), axis=-1)
    slope = [(mean(t + 1e-5) - mean(t - 1e-5)) / 2e-5 for t in LOGITS]
    draw = lambda t: gumbel.truncated_gumbel(jax.random.key(2), t, 0.9)
    gate(jax.grad(lambda t: draw(t).sum())(many), np.array(slope), "slope")


def test_the_maximum_is_one_gumbel():
    z = gumbel.maximum(jax.random.key(3), jnp.broadcast_to(jnp.asarray(LOGITS), (300_000, 4)))
    location = np.log(WEIGHTS.sum())
    z = np.asarray(z, np.float64)
    assert stats.kstest(z, stats.gumbel_r(location).cdf).pvalue > 1e-5
    assert stats.kstest(z, stats.gumbel_r(location + 0.02).cdf).pvalue < 1e-5


@pytest.mark.usefixtures("float64")
def test_from_the_maximum_down_the_law_is_that_of_free_noise():
    many = jnp.broadcast_to(LOGITS, (DRAWS, 4))
    z = jax.jit(gumbel.top_down)(jax.random.key(4), many)
    mean = LOGITS + EULER
    gate(z, mean, "mean")
    products = np.outer(mean, mean) + np.eye(4) * np.pi**2 / 6  # independent coordinates
    gate(z[:, :, None] * z[:, None, :], products, "products")


@pytest.mark.usefixtures("float64")
def test_down_a_tree_the_leaves_have_the_law_of_free_noise():
    pairs = jnp.asarray(LOGITS).reshape(2, 2)

    def leaves(key):
        above, below = jax.random.split(key)
        nodes = gumbel.top_down(above, jax.nn.logsumexp(pairs, axis=-1))
        return gumbel.top_down(below, pairs, top=nodes).reshape(4)

    z = jax.jit(jax.vmap(leaves))(jax.random.split(jax.random.key(5), 400_000))
    mean = LOGITS + EULER
    gate(z, mean, "mean")
    gate(z[:, :, None] * z[:, None, :], np.outer(mean, mean) + np.eye(4) * np.pi**2 / 6, "products")


@pytest.mark.usefixtures("float64")
def test_moved_noise_is_noise_given_its_maximum():
    many = jnp.broadcast_to(LOGITS, (DRAWS, 4))
    top = jnp.full(DRAWS, 0.3)
    free = many + gumbel.gumbel(jax.random.key(6), many.shape, many.dtype)
    moved = gumbel.with_maximum(free, top)
    given = gumbel.top_down(jax.random.key(7), many, top)
    for z in (moved, given):
        assert bool((z.max(axis=-1) == 0.3).all())
    assert bool((moved.argsort(axis=-1) == free.argsort(axis=-1)).all())
    same_moments(np.asarray(moved), np.asarray(given))
    # a free draw is what it was, moved to the maximum that it had
    again = gumbel.with_maximum(moved, free.max(axis=-1))
    np.testing.assert_allclose(again[:1000], free[:1000], rtol=1e-9, atol=1e-9)


def test_the_extremes_stay_finite_and_in_order():
    logits = jnp.array([-jnp.inf, 0.0, FLOOR, -60.0, 60.0])
    for bound in (-50.0, 0.0, 80.0, jnp.inf):
        draw = lambda t, bound=bound: gumbel.truncated_gumbel(jax.random.key(0), t, bound)
        assert bool(jnp.isfinite(draw(logits)).all())
        slope = jax.grad(lambda t: draw(t).sum())(logits)  # noqa: B023
        assert bool(jnp.isfinite(slope).all())
        assert slope[0] == 0
    moved = gumbel.with_maximum(jnp.array([-200.0, 0.0, 150.0]), jnp.array(-170.0))
    assert moved[2] == -170.0
    assert bool(jnp.isfinite(moved).all())
    slope = jax.grad(lambda z: gumbel.with_maximum(z, jnp.zeros(())).sum())(jnp.array([1.0, 1.0]))
    assert bool(jnp.isfinite(slope).all())  # at a tie
    with pytest.raises(ex.InvalidArgumentError, match="one maximum for each batch element"):
        gumbel.with_maximum(jnp.zeros((3, 2)), jnp.zeros(2))


# Draws without replacement


def test_the_k_largest_are_draws_without_replacement():
    many = jnp.broadcast_to(jnp.asarray(LOGITS, jnp.float32), (DRAWS, 4))
    index, z = jax.jit(gumbel.top_k, static_argnums=2)(jax.random.key(8), many, 2)
    assert bool((z[:, 0] >= z[:, 1]).all())
    counts = np.bincount(np.asarray(index[:, 0] * 4 + index[:, 1]), minlength=16) / DRAWS
    orders = list(itertools.permutations(range(4), 2))
    p = np.array([ordered_by_hand(WEIGHTS, o) for o in orders])
    seen = np.array([counts[i * 4 + j] for i, j in orders])
    error = np.sqrt(p * (1 - p) / DRAWS)
    assert np.isclose(seen.sum(), 1.0)
    assert np.all(Z * error < POWER * p.max())
    assert np.all(np.abs(seen - p) <= Z * error)


def test_masked_categories_come_last():
    logits = jnp.broadcast_to(jnp.array([0.0, -jnp.inf, -5.0, 1.0]), (10_000, 4))
    index, _ = gumbel.top_k(jax.random.key(9), logits, 4)
    assert bool((index[:, 3] == 1).all())
    first = gumbel.ordered_log_prob(logits[0], jnp.array([1, 0]))
    assert first < -FLOOR / 2
    slope = jax.grad(lambda t: gumbel.ordered_log_prob(t, jnp.array([3, 0])))(logits[0])
    assert slope[1] == 0
    assert bool(jnp.isfinite(slope).all())


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.usefixtures("float64")
def test_ordered_probabilities_are_those_by_hand_and_sum_to_one(k):
    orders = np.array(list(itertools.permutations(range(4), k)))
    log_p = gumbel.ordered_log_prob(jnp.broadcast_to(LOGITS, (len(orders), 4)), jnp.array(orders))
    by_hand = [ordered_by_hand(WEIGHTS, o) for o in orders]
    np.testing.assert_allclose(jnp.exp(log_p), by_hand, rtol=1e-13)
    assert math.isclose(float(jnp.exp(log_p).sum()), 1.0, rel_tol=1e-13)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.usefixtures("float64")
def test_unordered_probabilities_are_sums_over_orders_and_sum_to_one(k):
    weights = np.array([0.3, 2.0, 1.1, 0.01, 5.0])
    logits = jnp.log(weights)
    sets = np.array(list(itertools.combinations(range(5), k)))
    many = jnp.broadcast_to(logits, (len(sets), 5))
    log_prob = jax.jit(gumbel.unordered_log_prob)
    log_p = log_prob(many, jnp.array(sets))
    by_hand = [unordered_by_hand(weights, s) for s in sets]
    np.testing.assert_allclose(jnp.exp(log_p), by_hand, rtol=1e-12)
    if k < 5:
        drawn, rest = many[np.arange(len(sets))[:, None], sets], by._log_rest(many, jnp.array(sets))
        for method in (by.unordered_by_subsets, by.unordered_by_quadrature):
            np.testing.assert_allclose(jnp.exp(jax.jit(method)(drawn, rest)), by_hand, rtol=1e-11)
    backwards = log_prob(many, jnp.array(sets[:, ::-1]))
    np.testing.assert_allclose(backwards, log_p, rtol=1e-12, atol=1e-15)


@pytest.mark.usefixtures("float64")
def test_the_quadrature_is_exact_to_eleven_digits():
    """Against the sum over subsets, to the second derivative: sets of common, rare, nearly certain
    items, and of items whose rates are fifty powers of e apart."""
    rng = np.random.default_rng(1)
    drawn = rng.normal(size=(4, 9)) + np.array([0.0, -12.0, 12.0, 0.0])[:, None]
    drawn[3] = np.linspace(-25.0, 25.0, 9)
    at = jnp.asarray(np.concatenate([drawn, np.full((4, 1), 0.3)], axis=1))
    line = jnp.asarray(rng.normal(size=10))

    def derivatives(method, t):
        f = lambda t: method(t[:-1], t[-1])
        return f(t), *jax.jvp(jax.grad(f), (t,), (line,))

    both = [
        jax.jit(jax.vmap(lambda t, method=method: derivatives(method, t)))(at)
        for method in (by.unordered_by_subsets, by.unordered_by_quadrature)
    ]
    assert float(jnp.min(both[0][0])) < -80.0  # log-probabilities: the errors are relative ones
    for exact, found in zip(*both, strict=True):
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-11)


def test_a_large_set_in_single_precision():
    rng = np.random.default_rng(2)
    logits, items = rng.normal(size=60) * 2, rng.permutation(60)[:40]
    both = jax.jit(jax.value_and_grad(lambda t: gumbel.unordered_log_prob(t, jnp.asarray(items))))
    single, slope = both(jnp.asarray(logits, jnp.float32))
    with jax.enable_x64(True):
        double, true_slope = jax.tree.map(np.asarray, both(jnp.asarray(logits)))
    assert abs(float(single) - float(double)) < 2e-5 * abs(float(double))
    np.testing.assert_allclose(slope, true_slope, atol=2e-4)
    # the probability is unchanged when a number is added to every logit
    assert abs(float(np.sum(true_slope))) < 1e-9


def test_log_probabilities_have_zero_slope_at_masked_categories():
    logits = jnp.array([0.3, -jnp.inf, 0.0, -1.0, 2.0] + [0.1] * 9)
    for items in (jnp.array([0, 3]), jnp.array([0, 2, 3, *range(4, 11)])):
        slope = jax.jit(jax.grad(gumbel.unordered_log_prob))(logits, items)
        assert slope[1] == 0
        assert bool(jnp.isfinite(slope).all())


@pytest.mark.usefixtures("float64")
def test_noise_given_the_k_largest_is_that_of_rejection_samples():
    free = LOGITS + np.random.default_rng(3).gumbel(size=(2_500_000, 4))
    order = np.argsort(-free, axis=1)[:, :2]
    kept = free[(order == [3, 2]).all(axis=1)]
    n = len(kept)
    indices = jnp.broadcast_to(jnp.array([3, 2]), (n, 2))
    many = jnp.broadcast_to(LOGITS, (n, 4))
    draw = jax.jit(gumbel.conditional_top_k)
    z = draw(jax.random.key(10), many, indices)
    assert bool((jax.lax.top_k(z, 2)[1] == indices).all())
    same_moments(np.asarray(z), kept)
    # with k = 1 it is the law of `conditional_gumbel`, and with k = 4 all are given in order
    z = draw(jax.random.key(11), many, indices[:, :1])
    same_moments(z, gumbel.conditional_gumbel(jax.random.key(12), many, indices[:, 0]))
    everything = jnp.broadcast_to(jnp.array([3, 1, 0, 2]), (100, 4))
    z = draw(jax.random.key(13), many[:100], everything)
    assert bool((jnp.argsort(-z, axis=-1) == everything).all())


@pytest.mark.parametrize("k", [0, 5, 2.0, True])
def test_a_wrong_number_of_items_is_refused(k):
    with pytest.raises(ex.InvalidArgumentError, match="whole number from 1 to 4"):
        gumbel.top_k(jax.random.key(0), jnp.zeros(4), k)
    with pytest.raises(ex.InvalidArgumentError, match="whole number from 1 to 4"):
        gumbel.relaxed_top_k(jnp.zeros(4), k, 0.5)


# Relaxed sets, sorts and permutations


def slopes_agree(f, z: np.ndarray, line: np.ndarray):
    """The derivative along a line is that by differences."""
    slope = jax.jvp(f, (jnp.asarray(z),), (jnp.asarray(line),))[1]
    differences = (f(jnp.asarray(z + 1e-6 * line)) - f(jnp.asarray(z - 1e-6 * line))) / 2e-6
    np.testing.assert_allclose(slope, differences, rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("float64")
def test_relaxed_sets_sum_to_k_and_become_the_k_largest():
    rng = np.random.default_rng(4)
    z, line = rng.normal(size=(20, 6)), rng.normal(size=(20, 6))
    hard = np.zeros((20, 6))
    np.put_along_axis(hard, np.argsort(-z, axis=1)[:, :3], 1.0, axis=1)
    for temperature in (2.0, 0.5, 0.1):
        soft = gumbel.relaxed_top_k(jnp.asarray(z), 3, temperature)
        np.testing.assert_allclose(soft.sum(axis=-1), 3.0, rtol=1e-12)
        slopes_agree(lambda z, t=temperature: gumbel.relaxed_top_k(z, 3, t), z, line)
    np.testing.assert_allclose(gumbel.relaxed_top_k(jnp.asarray(z), 3, 1e-4), hard, atol=1e-9)
    one = gumbel.relaxed_top_k(jnp.asarray(z), 1, 0.5)
    np.testing.assert_allclose(one, jax.nn.softmax(z / 0.5, axis=-1), rtol=1e-12)


@pytest.mark.parametrize("temperature", [1e-3, 0.5, 10.0])
def test_relaxed_sets_and_sorts_are_finite_in_single_precision(temperature):
    z = jnp.array([0.3, -FLOOR, 30.0, -30.0, 0.3, 0.2])
    for f in (
        lambda z: gumbel.relaxed_top_k(z, 5, temperature),
        lambda z: gumbel.soft_sort(z, temperature),
        lambda z: gumbel.sinkhorn(z[:, None] * jnp.arange(6.0) / temperature),
    ):
        value, pull = jax.vjp(f, z)
        (slope,) = pull(jnp.cos(jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape))
        assert bool(jnp.isfinite(value).all())
        assert bool(jnp.isfinite(slope).all())


@pytest.mark.usefixtures("float64")
def test_soft_sorts_have_unimodal_rows_and_become_the_sort():
    rng = np.random.default_rng(5)
    s, line = rng.normal(size=(20, 5)), rng.normal(size=(20, 5))
    order = np.argsort(-s, axis=1)
    for temperature in (3.0, 0.3):
        soft = gumbel.soft_sort(jnp.asarray(s), temperature)
        np.testing.assert_allclose(soft.sum(axis=-1), 1.0, rtol=1e-12)
        np.testing.assert_array_equal(soft.argmax(axis=-1), order)
        slopes_agree(lambda s, t=temperature: gumbel.soft_sort(s, t), s, line)
    hard = gumbel.soft_sort(jnp.asarray(s), 1e-4, k=2)
    np.testing.assert_allclose(hard, np.eye(5)[order[:, :2]], atol=1e-9)


@pytest.mark.usefixtures("float64")
def test_sinkhorn_is_doubly_stochastic_and_tends_to_the_best_matching():
    scores = np.random.default_rng(6).normal(size=(8, 4, 4))
    soft = gumbel.sinkhorn(jnp.asarray(scores), 100)
    for axis in (-1, -2):
        np.testing.assert_allclose(soft.sum(axis=axis), 1.0, rtol=1e-9)
    # of all matrices with these margins it has the form diag(u) exp(scores) diag(v)
    ratio = np.log(np.asarray(soft)) - scores
    middle = ratio - ratio.mean(-1, keepdims=True) - ratio.mean(-2, keepdims=True)
    np.testing.assert_allclose(middle + ratio.mean((-1, -2), keepdims=True), 0.0, atol=1e-9)
    best = np.stack([np.eye(4)[linear_sum_assignment(-s)[1]] for s in scores])
    found = gumbel.sinkhorn(jnp.asarray(scores) / 0.002, 3000)
    np.testing.assert_allclose(found, best, atol=1e-3)
    for wrong in (jnp.zeros((2, 3)), jnp.zeros(3)):
        with pytest.raises(ex.InvalidArgumentError, match="scores of shape"):
            gumbel.sinkhorn(wrong)
