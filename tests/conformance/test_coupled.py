"""Coupled draws: the law of the coupling, and what it buys, where the battery cannot look.

All the randomness of these estimators is a few uniforms, and the draws they decide are constant on
cells whose probabilities have closed forms. So the uniforms are replaced by one point of each cell,
and means and variances are finite sums, with no Monte Carlo.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import expectax as ex
from expectax import _copula
from expectax.testing import (
    bits,
    check_mean,
    over_keys,
    play,
    script_of_draws,
    stream,
)

from .test_variance import LOGITS, TARGETS, one_bit

pytestmark = pytest.mark.usefixtures("float64")


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x)))


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


@pytest.mark.parametrize("num", [2, 3, 4])
def test_arms_is_unbiased_summed_over_every_pattern_of_coupled_bits(num, script):
    problem = bits()
    params = jax.tree.map(jnp.asarray, problem.params)
    uniforms, chances = coupled_scenes(problem.params["q"], num, 1)
    np.testing.assert_allclose(np.sum(chances, axis=0), 1, atol=1e-12)

    def mean(params):
        def value(u):
            script["uniforms"] = u
            return problem.value(params, ex.ARMS(num), jax.random.key(0))

        return jnp.sum(chances * jax.vmap(value)(uniforms), axis=0)

    total = lambda mean: lambda params: jnp.sum(jnp.asarray(problem.weights) * mean(params))
    found = jax.jit(lambda params: (mean(params), jax.grad(total(mean))(params)))(params)
    truth = jax.jit(lambda p: (problem.exact(p), jax.grad(total(problem.exact))(p)))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), found, truth)


def one_bit_variance(gradient, chances) -> np.ndarray:
    """The exact variance of each batch element's gradient, and a check of its mean."""
    p = sigmoid(LOGITS)
    mean = p * (1 - p) * (1 - 2 * TARGETS)
    np.testing.assert_allclose(np.sum(chances * gradient, axis=0), mean, atol=1e-12)
    return np.sum(chances * (gradient - mean) ** 2, axis=0)


def arms_variance(num, script):
    problem = one_bit()
    uniforms, chances = coupled_scenes(LOGITS, num, 0)

    def gradient(u):
        script["uniforms"] = u
        params = jax.tree.map(jnp.asarray, problem.params)
        value = lambda q: problem.value({**params, "q": q}, ex.ARMS(num), jax.random.key(0))
        return jax.grad(lambda q: jnp.sum(value(q)))(params["q"])

    return one_bit_variance(np.asarray(jax.jit(jax.vmap(gradient))(uniforms)), chances)


def leave_one_out_variance(num):
    problem = one_bit()
    draws = script_of_draws(problem, num)
    params = jax.tree.map(jnp.asarray, problem.params)

    def gradient(scene):
        value = lambda q: play(scene, problem, {**params, "q": q}, ex.LeaveOneOut(num))
        return jax.grad(lambda q: jnp.sum(value(q)))(params["q"])

    return one_bit_variance(np.asarray(jax.jit(jax.vmap(gradient))(draws)), draws.probability)


def test_arms_with_two_draws_has_disarms_variance(script):
    p = sigmoid(LOGITS)
    m, delta = np.maximum(p, 1 - p), 1 - 2 * TARGETS
    disarm = delta**2 * m**2 * (1 - m) / 2 - (p * (1 - p) * delta) ** 2
    np.testing.assert_allclose(arms_variance(2, script), disarm, atol=1e-12)


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
