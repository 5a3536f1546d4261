"""Coupled draws: the law of the coupling, and what it buys, where the battery cannot look.

All the randomness of these estimators is a few uniforms, and the draws they decide are constant on
cells whose probabilities have closed forms. So the uniforms are replaced by one point of each cell,
and means and variances are finite sums, with no Monte Carlo.
"""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import expectax as ex
from expectax import _copula, gumbel
from expectax.testing import (
    Script,
    Trial,
    bits,
    check_mean,
    hots,
    over_keys,
    play,
    run_check,
    script_of_draws,
    stream,
)
from expectax.testing._problems import Site, discrete

from .test_variance import LOGITS, TARGETS, one_bit

pytestmark = pytest.mark.usefixtures("float64")


def sigmoid(x):
    return np.exp(-np.logaddexp(0, -np.asarray(x)))


def mixed_pattern_cells(s: float, num: int):
    """Every pattern of `num` coupled bits of the rarer side: (probability, a point d in it).

    By inclusion and exclusion from P(d_i > a for i in a set of k) = max(0, 1 − k a)^(n−1).
    """
    a = 1 - s ** (1 / (num - 1))
    all_of = lambda k: max(0.0, 1 - k * a) ** (num - 1) if k else 1.0
    for pattern in itertools.product([0, 1], repeat=num):
        k = sum(pattern)
        zeros = num - k
        chance = sum((-1) ** j * math.comb(zeros, j) * all_of(k + j) for j in range(zeros + 1))
        if k == 0:
            d = np.full(num, 1 / num)
        else:
            small = min(a, max(0.0, 1 - k * a) / max(zeros, 1)) / 2
            d = np.where(np.array(pattern) == 1, (1 - zeros * small) / k, small)
        possible = chance > 1e-15 and np.array_equal(d > a, np.array(pattern) == 1)
        assert possible or abs(chance) < 1e-14
        yield (chance if possible else 0.0), d


def coupled_scenes(logits: np.ndarray, num: int, event_ndim: int):
    """Uniforms for every joint pattern of an event's bits, (scenes, n) + batch + event; chances."""
    batch = logits.shape[: logits.ndim - event_ndim]
    cells = {  # per variable: (patterns,), (patterns, n)
        at: [np.array(x) for x in zip(*mixed_pattern_cells(s, num), strict=True)]
        for at, s in np.ndenumerate(sigmoid(-np.abs(logits)))
    }
    variables = list(np.ndindex(*logits.shape[len(batch) :]))
    which = list(itertools.product(range(2**num), repeat=len(variables)))
    uniforms = np.empty((len(which), num, *logits.shape))
    chances = np.ones((len(which), *batch))
    for element in np.ndindex(*batch):
        for v, at in enumerate(variables):
            chance, d = cells[(*element, *at)]
            index = [w[v] for w in which]
            uniforms[(slice(None), slice(None), *element, *at)] = np.exp(-d[index])
            chances[(slice(None), *element)] *= chance[index]
    return jnp.asarray(uniforms), jnp.asarray(chances)


@pytest.fixture
def script(monkeypatch):
    """A dict whose "uniforms" are what the copula is given."""
    held = {}
    monkeypatch.setattr(_copula, "open_uniform", lambda *_: held["uniforms"])
    return held


def assert_exact(problem, estimator, script, scenes, chances):
    """The mean over scenes of value and gradients, in q and in f, is the truth."""
    params = jax.tree.map(jnp.asarray, problem.params)
    np.testing.assert_allclose(np.sum(chances, axis=0), 1, atol=1e-12)

    def mean(params):
        def value(uniforms):
            script["uniforms"] = uniforms
            return problem.value(params, estimator, jax.random.key(0))

        return jnp.sum(chances * jax.vmap(value)(scenes), axis=0)

    total = lambda mean: lambda params: jnp.sum(jnp.asarray(problem.weights) * mean(params))
    found = jax.jit(lambda params: (mean(params), jax.grad(total(mean))(params)))(params)
    truth = jax.jit(lambda p: (problem.exact(p), jax.grad(total(problem.exact))(p)))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), found, truth)


def gradients(problem, estimator, script, scenes):
    """The gradient in q's parameters of every batch element, in every scene."""
    params = jax.tree.map(jnp.asarray, problem.params)

    def gradient(uniforms):
        script["uniforms"] = uniforms
        value = lambda q: problem.value({**params, "q": q}, estimator, jax.random.key(0))
        return jax.grad(lambda q: jnp.sum(value(q)))(params["q"])

    return np.asarray(jax.jit(jax.vmap(gradient))(scenes))


@pytest.mark.parametrize("num", [2, 3, 4])
def test_arms_is_unbiased_summed_over_every_pattern_of_coupled_bits(num, script):
    scenes = coupled_scenes(bits().params["q"], num, 1)
    assert_exact(bits(), ex.ARMS(num), script, *scenes)


def one_bit_variance(gradient, chances) -> np.ndarray:
    """The exact variance of each batch element's gradient, and a check of its mean."""
    p = sigmoid(LOGITS)
    mean = p * (1 - p) * (1 - 2 * TARGETS)
    np.testing.assert_allclose(np.sum(chances * gradient, axis=0), mean, atol=1e-12)
    return np.sum(chances * (gradient - mean) ** 2, axis=0)


def arms_variance(num, script):
    uniforms, chances = coupled_scenes(LOGITS, num, 0)
    return one_bit_variance(gradients(one_bit(), ex.ARMS(num), script, uniforms), chances)


def leave_one_out_variance(num):
    problem = one_bit()
    draws = script_of_draws(problem, num)
    params = jax.tree.map(jnp.asarray, problem.params)

    def gradient(scene):
        value = lambda q: play(scene, problem, {**params, "q": q}, ex.LeaveOneOut(num))
        return jax.grad(lambda q: jnp.sum(value(q)))(params["q"])

    return one_bit_variance(np.asarray(jax.jit(jax.vmap(gradient))(draws)), draws.probability)


def closed_form(name: str) -> np.ndarray:
    """The variance of one bit's gradient, as in `test_variance`."""
    p = sigmoid(LOGITS)
    m, delta = np.maximum(p, 1 - p), 1 - 2 * TARGETS
    square = {"DisARM": m**2 * (1 - m) / 2, "ARM": 2 / 3 * (1 / 8 - (m - 0.5) ** 3)}[name]
    return delta**2 * square - (p * (1 - p) * delta) ** 2


def test_arms_with_two_draws_has_disarms_variance(script):
    np.testing.assert_allclose(arms_variance(2, script), closed_form("DisARM"), atol=1e-12)


@pytest.mark.parametrize("num", [2, 3, 4])
def test_arms_is_never_noisier_than_leave_one_out_with_as_many_draws(num, script):
    coupled, independent = arms_variance(num, script), leave_one_out_variance(num)
    assert (coupled < 0.95 * independent).all()  # p from 0.08 to 0.92: not a tie


def test_the_variance_of_arms_from_real_draws_is_that_of_the_sum(script, monkeypatch):
    truth = arms_variance(4, script)
    monkeypatch.undo()
    problem, p = one_bit(), sigmoid(LOGITS)
    params = jax.tree.map(jnp.asarray, problem.params)
    mean = p * (1 - p) * (1 - 2 * TARGETS)

    def sample(key):
        value = lambda q: problem.value({**params, "q": q}, ex.ARMS(4), key)
        return (jax.grad(lambda q: jnp.sum(value(q)))(params["q"]) - mean) ** 2

    moments = stream(over_keys(sample), jax.random.key(0), 50)
    check_mean(moments, truth, scale=np.max(truth), what="variance of ARMS")


ODDS = np.array([-9.2, -2.0, -0.3, 0.0, 0.7, 3.0])


@pytest.mark.parametrize("num", [2, 3, 5])
def test_two_coupled_bits_are_both_one_as_often_as_the_closed_form_says(num):
    p = sigmoid(ODDS)
    s = np.minimum(p, 1 - p)
    rarer_both = np.asarray(_copula.both_given_one(jnp.asarray(ODDS), num)) * s
    np.testing.assert_allclose(rarer_both, [both_by_quadrature(x, num) for x in s], atol=1e-13)
    # both one where one is the rarer value; else 1 − 2 P(zero) + P(both zero)
    both = np.where(ODDS > 0, 2 * p - 1 + rarer_both, rarer_both)

    def sample(key):
        b = (_copula.antithetic(key, jnp.asarray(ODDS), num) > 0).astype(float)
        return {"one": b, "both": b[0] * b[1], "others": b[-1] * b[num // 2 - 1]}

    moments = stream(over_keys(sample), jax.random.key(num), 25)
    truth = {"one": np.broadcast_to(p, (num, len(p))), "both": both, "others": both}
    check_mean(moments, truth, scale={k: np.float64(0.5) for k in truth}, what="coupled bits")


def both_by_quadrature(s: float, num: int) -> float:
    """P(d_1 > a, d_2 > a) from the density (n−1)(n−2)(1−x−y)^(n−3) of two Dirichlet shares."""
    a = 1 - s ** (1 / (num - 1))
    if 2 * a >= 1:
        return 0.0
    if num == 2:
        return 1 - 2 * a  # u > a and 1 − u > a
    x, w = np.polynomial.legendre.leggauss(12)
    x, w = (x + 1) / 2, w / 2
    total, side = 0.0, 1 - 2 * a
    for t, wt in zip(x, w, strict=True):  # first share a + side t, second a + side (1 − t) r
        rest = side * (1 - t) * (1 - x)
        inner = np.sum(w * (num - 1) * (num - 2) * rest ** (num - 3))
        total += wt * side * side * (1 - t) * inner
    return total


@pytest.mark.parametrize("num", [2, 3, 8])
def test_the_debias_factor_is_finite_and_right_at_every_probability(num):
    odds = np.array([0.0, 0.5, 2.0, -math.log(1e-4 / (1 - 1e-4)), 20.0, 90.0, 1e4])
    s = np.exp(-np.logaddexp(0, odds))
    both = np.maximum(0, 2 * s ** (1 / (num - 1)) - 1) ** (num - 1)
    truth = np.ones_like(s)  # where s is 0
    truth[:-1] = ((1 - s) * s / np.where(s > both, s - both, 1))[:-1]
    for sign in (1, -1):
        found = np.asarray(_copula.debias(jnp.asarray(sign * odds, jnp.float32), num))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, truth, rtol=3e-6)


# Categories, through stick-breaking bits


def stick_logits(logits: np.ndarray, *, descending: bool) -> np.ndarray:
    """The log-odds of the bits of a stick, by sums of sorted probabilities."""
    theta = np.sort(np.where(np.isinf(logits), -1e4, logits), axis=-1)
    theta = theta[..., ::-1] if descending else theta
    rest = np.logaddexp.accumulate(theta[..., ::-1], axis=-1)[..., ::-1]
    return theta[..., :-1] - rest[..., 1:]


def coupled_category_scenes(logits: np.ndarray, num: int, event_ndim: int):
    """As `coupled_scenes`, for the bits of sticks with the rarest category first."""
    return coupled_scenes(stick_logits(logits, descending=False), num, event_ndim)


def antithetic_pair_scenes(logits: np.ndarray, event_ndim: int):
    """Logistic noise for every joint cell of a pair's stick bits, (scenes, 1) + ...; chances.

    The bits 1[φ + ε > 0] and 1[φ − ε > 0] differ where |ε| > |φ|.
    """
    phi = stick_logits(logits, descending=True)
    batch = phi.shape[: phi.ndim - event_ndim]
    differ = sigmoid(-np.abs(phi))
    noise = np.stack([np.abs(phi) + 1, 0 * phi, -np.abs(phi) - 1])
    mass = np.stack([differ, 1 - 2 * differ, differ])
    variables = list(np.ndindex(*phi.shape[len(batch) :]))
    which = np.array(list(itertools.product(range(3), repeat=len(variables))))
    scenes, chances = np.empty((len(which), 1, *phi.shape)), np.ones((len(which), *batch))
    for v, at in enumerate(variables):
        where = (..., *at)
        scenes[(slice(None), 0, *where)] = noise[where][which[:, v]]
        chances *= mass[where][which[:, v]]
    return jnp.asarray(scenes), jnp.asarray(chances)


@pytest.fixture
def logistic_script(monkeypatch):
    """A dict whose "uniforms" are the logistic noise that the estimator is given."""
    held = {}
    monkeypatch.setattr(gumbel, "logistic", lambda *_: held["uniforms"])
    return held


def test_coupled_categorical_is_unbiased_summed_over_every_cell_of_noise(logistic_script):
    scenes = antithetic_pair_scenes(hots().params["q"], 2)
    assert_exact(hots(), ex.CoupledCategorical(), logistic_script, *scenes)


@pytest.mark.parametrize("num", [2, 3])
def test_carms_is_unbiased_summed_over_every_pattern_of_coupled_bits(num, script):
    scenes = coupled_category_scenes(hots().params["q"], num, 2)
    assert_exact(hots(), ex.CARMS(num), script, *scenes)


def one_hot_bit():
    """`one_bit` as a category of two, with logits (0, θ)."""
    logits = np.stack([0 * LOGITS, LOGITS], axis=-1)
    return dataclasses.replace(
        discrete("one bit", Site("hot", "logits", (2,)), logits, 0),
        params={"q": logits, "f": {"target": TARGETS}},
        cost=lambda f, b: (b[..., 1] - f["target"]) ** 2,
        weights=np.ones(len(LOGITS)),
    )


def test_coupled_categorical_on_two_categories_has_disarms_variance(logistic_script):
    scenes, chances = antithetic_pair_scenes(one_hot_bit().params["q"], 1)
    found = gradients(one_hot_bit(), ex.CoupledCategorical(), logistic_script, scenes)
    np.testing.assert_array_equal(found[..., 0], -found[..., 1])
    variance = one_bit_variance(found[..., 1], chances)
    np.testing.assert_allclose(variance, closed_form("DisARM"), atol=1e-12)


def test_carms_on_two_categories_has_the_variance_of_arms(script):
    scenes, chances = coupled_category_scenes(one_hot_bit().params["q"], 3, 1)
    found = gradients(one_hot_bit(), ex.CARMS(3), script, scenes)
    np.testing.assert_allclose(found[..., 0], -found[..., 1], atol=1e-15)
    variance = one_bit_variance(found[..., 1], chances)
    np.testing.assert_allclose(variance, arms_variance(3, script), atol=1e-12)


def one_category():
    """One variable of four categories, a batch of laws and costs; a gradient known exactly."""
    rng = np.random.default_rng(5)
    logits, costs = rng.normal(size=(2, 6, 4))
    logits[0], logits[1, 0] = 0.0, 3.0
    problem = dataclasses.replace(
        discrete("one category", Site("hot", "logits", (4,)), logits, 0),
        params={"q": logits, "f": {"costs": costs}},
        cost=lambda f, b: jnp.sum(f["costs"] * b, axis=-1),
        weights=np.ones(len(logits)),
    )
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return problem, p * (costs - np.sum(p * costs, axis=-1, keepdims=True))


def total_variance(gradient, chances, mean) -> np.ndarray:
    """Σ over categories, for each batch element; and a check of the mean."""
    chances = np.asarray(chances)[..., None]
    np.testing.assert_allclose(np.sum(chances * gradient, axis=0), mean, atol=1e-12)
    return np.sum(chances * (gradient - mean) ** 2, axis=(0, -1))


def test_coupled_categories_are_less_noisy_than_independent_ones(script, monkeypatch):
    problem, mean = one_category()
    logits = problem.params["q"]
    params = jax.tree.map(jnp.asarray, problem.params)
    independent, coupled = {}, {}
    for num in (2, 3):
        draws = script_of_draws(problem, num)
        value = lambda q, d, n=num: jnp.sum(play(d, problem, {**params, "q": q}, ex.LeaveOneOut(n)))
        found = jax.jit(jax.vmap(lambda d: jax.grad(value)(params["q"], d)))(draws)  # noqa: B023
        independent[num] = total_variance(found, draws.probability, mean)
        scenes, chances = coupled_category_scenes(logits, num, 1)
        found = gradients(problem, ex.CARMS(num), script, scenes)
        coupled[num] = total_variance(found, chances, mean)
    monkeypatch.setattr(gumbel, "logistic", lambda *_: script["uniforms"])
    scenes, chances = antithetic_pair_scenes(logits, 1)
    found = gradients(problem, ex.CoupledCategorical(), script, scenes)
    pairs = total_variance(found, chances, mean)
    for num in (2, 3):
        assert (coupled[num] < independent[num]).all()
    assert (pairs < independent[2]).all()


def test_arsm_on_two_categories_has_arms_variance():
    """π is (u, 1 − u): polynomials of u between the cuts at p and 1 − p."""
    problem, p = one_hot_bit(), sigmoid(LOGITS)
    params = jax.tree.map(jnp.asarray, problem.params)
    x, w = np.polynomial.legendre.leggauss(4)
    edges = np.sort([0 * p, p, 1 - p, 1 + 0 * p], axis=0)
    width = np.diff(edges, axis=0)[:, None]
    u = (edges[:-1, None] + width * (x[:, None] + 1) / 2).reshape(-1, len(p))
    chances = (width * w[:, None] / 2).reshape(-1, len(p))
    noise = -np.log(np.stack([u, 1 - u], axis=-1))[:, None]

    def gradient(scene):
        value = lambda q: play(scene, problem, {**params, "q": q}, ex.ARSM())
        return jax.grad(lambda q: jnp.sum(value(q)))(params["q"])

    scenes = Script(None, jnp.asarray(noise), jnp.asarray(chances))
    found = np.asarray(jax.jit(jax.vmap(gradient))(scenes))
    np.testing.assert_allclose(found[..., 0], -found[..., 1], atol=1e-15)
    variance = one_bit_variance(found[..., 1], chances)
    np.testing.assert_allclose(variance, closed_form("ARM"), atol=1e-12)


@pytest.mark.parametrize("estimator", [ex.CoupledCategorical(), ex.CARMS(3), ex.ARSM()])
def test_sites_may_have_different_numbers_of_categories(estimator):
    """A cost of three sites, of one, two and three categories; the first cannot be otherwise."""
    sites = {name: Site("hot", "logits", (c,)) for name, c in (("x", 1), ("y", 2), ("z", 3))}
    logits = {"x": np.zeros((2, 1)), "y": np.array([[0.6, -0.2], [0.0, 0.9]]),
              "z": np.array([[0.5, -0.9, 0.3], [-0.4, 0.2, 0.8]])}  # fmt: skip
    trial = Trial(estimator, discrete("three sites", sites, logits, 8))
    run_check("gradient_mean", trial)
    run_check("evaluations", trial)
    moments = trial.moments("own")[0]
    assert np.all(np.asarray(moments.low["q"]["x"]) == 0)
    assert np.all(np.asarray(moments.high["q"]["x"]) == 0)
