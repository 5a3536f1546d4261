"""The laws that the capabilities state in their docstrings, for every view that has them."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import expectax as ex
from expectax.distributions import (
    Averaged,
    Binary,
    Changeable,
    Enumerable,
    Factorized,
    Invertible,
    OneHot,
    Relaxable,
    Reparameterized,
    Scored,
    Signed,
    Solvable,
    joint,
    require,
)

Z = 4.5
POWER = 0.02
DRAWS = 300_000

BITS = np.array([[0.0, 0.9, -1.4], [0.5, 0.0, -0.2]])
PAIRS = np.array([[[0.0, 0.0, 0.7], [-1.0, 0.4, 0.0]], [[1.2, 0.0, -0.5], [0.3, 0.3, -1.0]]])
MASKED = np.array([[0.5, -np.inf, -0.6, 0.0], [0.0, 1.0, -np.inf, -np.inf]])
PROBS = np.array([[0.5, 0.7, 0.2], [0.9, 0.5, 0.35]])
SIMPLEX = np.array([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])

# name: from parameters to a distribution, and the parameters
CASES: dict[str, tuple[Any, np.ndarray]] = {
    "bits": (lambda x: dist.Bernoulli(logits=x).to_event(1), BITS),
    "bits by probs": (lambda x: dist.Bernoulli(probs=x).to_event(1), PROBS),
    "bits expanded": (lambda x: dist.Bernoulli(logits=x).expand((2, 3)).to_event(1), BITS[0]),
    "bits, batch only": (lambda x: dist.Bernoulli(logits=x), BITS),
    "one-hot": (lambda x: ex.OneHotCategorical(logits=x), PAIRS[0]),
    "one-hot by probs": (lambda x: ex.OneHotCategorical(probs=x), SIMPLEX),
    "one-hot pairs": (lambda x: ex.OneHotCategorical(logits=x).to_event(1), PAIRS),
    "one-hot masked": (lambda x: ex.OneHotCategorical(logits=x), MASKED),
    "one-hot expanded": (lambda x: ex.OneHotCategorical(logits=x).expand((2,)), PAIRS[0, 1]),
    "categorical": (lambda x: dist.Categorical(logits=x).to_event(1), PAIRS),
    "categorical by probs": (lambda x: dist.Categorical(probs=x), SIMPLEX),
    "categorical masked": (lambda x: dist.Categorical(logits=x, validate_args=False), MASKED),
    "binomial": (lambda x: dist.Binomial(2, logits=x).to_event(1), BITS[:, :2]),
    "binomial by probs": (lambda x: dist.Binomial(3, probs=x), PROBS[:, 0]),
    "binomial expanded": (lambda x: dist.Binomial(2, logits=x).expand((2, 1)), BITS[0, :1]),
    "uniform": (lambda x: dist.DiscreteUniform(1, 2).expand(x.shape).to_event(1), BITS[:, :2]),
}
# sampling is by logits, however they were given
SAMPLED = ["bits", "one-hot pairs", "one-hot masked", "categorical", "binomial expanded", "uniform"]
PERTURBED = ["bits", "bits, batch only", "one-hot", "one-hot pairs", "one-hot masked"]
PARAMETRIC = [name for name in CASES if name != "uniform"]


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@functools.cache
def view_of(name: str) -> Any:
    build, parameters = CASES[name]
    return joint(build(jnp.asarray(parameters))).sites[0]


@functools.cache
def outcomes_of(name: str) -> tuple[jax.Array, jax.Array]:
    """All outcomes, (N,) + batch + event, and their log-probabilities, (N,) + batch."""

    @eqx.filter_jit
    def enumerate_all(view):
        outcomes = view.outcome(jnp.arange(view.num_outcomes))
        return outcomes, view.log_prob(outcomes)

    with jax.ensure_compile_time_eval():  # it may be asked for first inside a compiled function
        return enumerate_all(view_of(name))


def numbers_of(name: str, draws: jax.Array) -> jax.Array:
    """Which outcome each draw is, one-hot: (S, N) + batch."""
    same = draws[:, None] == outcomes_of(name)[0][None]
    return jnp.all(same, axis=tuple(range(2 + len(view_of(name).batch_shape), same.ndim)))


def check_frequencies(name: str, draw: Any):
    """The draws of `draw(view)`, (S,) + batch + event, have the probabilities of the outcomes."""
    view = view_of(name)
    counts, example = eqx.filter_jit(
        lambda view: ((draws := draw(view)), numbers_of(name, draws).sum(axis=0))[::-1]
    )(view)
    assert example.dtype == view.draw_dtype
    assert example.shape == (DRAWS, *view.batch_shape, *view.event_shape)
    counts, probabilities = np.asarray(counts), np.exp(outcomes_of(name)[1])
    assert np.all(counts.sum(axis=0) == DRAWS)  # every draw is one of the outcomes
    error = np.sqrt(probabilities * (1 - probabilities) / DRAWS)
    assert np.all(Z * error <= POWER * probabilities.max()), "underpowered"
    assert np.all(np.abs(counts / DRAWS - probabilities) <= Z * error + 1e-12)


# Scored and Enumerable


@pytest.mark.parametrize("name", CASES)
def test_outcomes_are_all_different_and_their_probabilities_sum_to_one(name):
    view = view_of(name)
    assert isinstance(view, Enumerable)
    outcomes, log_prob = outcomes_of(name)
    assert outcomes.shape == (view.num_outcomes, *view.batch_shape, *view.event_shape)
    assert outcomes.dtype == view.draw_dtype
    assert log_prob.shape == (view.num_outcomes, *view.batch_shape)
    first = np.asarray(outcomes)[:, *([0] * len(view.batch_shape))].reshape(len(outcomes), -1)
    assert len(np.unique(first, axis=0)) == len(outcomes)
    total = np.exp(log_prob).sum(axis=0)
    np.testing.assert_allclose(total, np.ones(view.batch_shape), rtol=1e-12)


@pytest.mark.parametrize("name", SAMPLED)
def test_draws_have_the_probabilities_of_the_outcomes(name):
    check_frequencies(name, lambda view: view.sample(jax.random.key(1), DRAWS))


@pytest.mark.parametrize("name", PARAMETRIC)
def test_the_score_has_mean_zero_and_draws_carry_no_gradient(name):
    outcomes, log_prob = outcomes_of(name)
    q = jnp.exp(log_prob)
    some = jnp.arange(1.0, len(outcomes) + 1.0).reshape((-1,) + (1,) * (q.ndim - 1))

    @eqx.filter_jit
    def gradients(view):
        mean = lambda view, factor: jnp.sum(factor * q * view.log_prob(outcomes))
        drawn = lambda view: view.sample(jax.random.key(0), 4).sum().astype(float)
        own = (eqx.filter_grad(mean)(view, 1.0), eqx.filter_grad(mean)(view, some))
        return *own, eqx.filter_grad(drawn)(view)

    score, weighted, drawn = (jax.tree.leaves(tree) for tree in gradients(view_of(name)))
    for leaf in score:
        np.testing.assert_allclose(leaf, np.zeros(leaf.shape), atol=1e-12)
    assert any(np.abs(leaf).max() > 0.01 for leaf in weighted)  # it is not zero throughout
    for leaf in drawn:
        np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))


@pytest.mark.parametrize("name", CASES)
def test_log_probabilities_are_numpyros(name):
    build, parameters = CASES[name]
    outcomes, ours = outcomes_of(name)
    theirs = np.asarray(jax.jit(lambda x: build(x).log_prob(outcomes))(parameters))
    possible = np.exp(ours) > 0  # NumPyro gives −inf, the views a finite floor
    np.testing.assert_allclose(ours[possible], theirs[possible], rtol=1e-6)
    assert np.all(theirs[~possible] < -1e3)


@pytest.mark.parametrize("name", PARAMETRIC)
def test_derivatives_reach_what_was_passed_also_at_logits_of_exactly_zero(name):
    build, parameters = CASES[name]
    outcomes, at = outcomes_of(name)
    rows = np.random.default_rng(0).normal(size=parameters.shape)
    rows = rows - rows.mean(axis=-1, keepdims=True) * (name == "one-hot by probs")
    log_prob = jax.jit(lambda x: joint(build(x)).log_prob(outcomes))
    slope = jax.jvp(log_prob, (jnp.asarray(parameters),), (jnp.asarray(rows),))[1]
    step = 1e-5
    ahead, behind = log_prob(parameters + step * rows), log_prob(parameters - step * rows)
    possible = np.exp(at) > 0
    assert bool(jnp.isfinite(slope).all())
    differences = (np.asarray(ahead)[possible] - np.asarray(behind)[possible]) / (2 * step)
    np.testing.assert_allclose(slope[possible], differences, rtol=1e-6, atol=1e-8)
    assert np.abs(slope).max() > 0.1


def test_scores_at_logits_of_exactly_zero_are_half_way():
    @jax.jit
    def slopes(zero):
        bits = joint(dist.Bernoulli(logits=zero))
        counts = joint(dist.Binomial(5, logits=zero))
        slope = lambda q, x: eqx.filter_grad(lambda q: q.log_prob(x[None])[0])(q).sites[0].logits
        of_bits = jax.vmap(lambda b: slope(bits, b))(jnp.array([0.0, 1.0]))
        return of_bits, jax.vmap(lambda k: slope(counts, k))(jnp.arange(6))

    of_bits, of_counts = slopes(jnp.zeros(()))
    np.testing.assert_array_equal(of_bits, [-0.5, 0.5])
    np.testing.assert_array_equal(of_counts, np.arange(6) - 2.5)


# Relaxable


@pytest.mark.parametrize("name", PERTURBED)
def test_hardened_noise_has_the_law_of_the_draws(name):
    assert isinstance(view_of(name), Relaxable)
    assert isinstance(view_of(name), Binary) == name.startswith("bits")
    noise = lambda view: view.noise(jax.random.key(2), DRAWS)
    check_frequencies(name, lambda view: view.harden(view.logits + noise(view)))


@pytest.mark.parametrize("name", PERTURBED)
def test_score_and_mean_are_those_of_the_log_probability(name):
    view, (outcomes, log_prob) = view_of(name), outcomes_of(name)
    weights = np.random.default_rng(3).normal(size=log_prob.shape)
    spread = weights.reshape(weights.shape + (1,) * len(view.event_shape))
    q = np.exp(log_prob).reshape(spread.shape)

    @eqx.filter_jit
    def program(view):
        by_jax = eqx.filter_grad(lambda v: jnp.sum(weights * v.log_prob(outcomes)))(view).logits
        return by_jax, jnp.sum(spread * view.score(outcomes), axis=0), view.mean

    by_jax, by_score, mean = program(view)
    np.testing.assert_allclose(by_score, by_jax, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(mean, np.sum(q * outcomes, axis=0), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("name", PERTURBED)
def test_relaxed_draws_lie_inside_and_harden_as_the_temperature_falls(name):
    temperatures = (1e-3, 0.5, 10.0)

    @eqx.filter_jit
    def program(view):
        z = view.logits + view.noise(jax.random.key(3), 1000)
        return view.harden(z), [view.relax(z, jnp.asarray(t)) for t in temperatures]

    hard, relaxed = program(view_of(name))
    for soft in map(np.asarray, relaxed):
        assert np.all((soft >= 0) & (soft <= 1))
        if name.startswith("one-hot"):
            np.testing.assert_allclose(soft.sum(axis=-1), np.ones(soft.shape[:-1]), rtol=1e-12)
    near, _, far = (np.abs(soft - hard) for soft in relaxed)
    assert (near > 1e-3).mean() < 0.02  # only where two are within a few thousandths
    assert far.max() > 0.3


def brute_force_differences(view: Any, draw: np.ndarray, f: Any) -> np.ndarray:
    """f(changed) − f(draw) for each logit, by writing every change out."""
    out = np.zeros(view.logits.shape)
    for at in np.ndindex(view.event_shape):
        changed = np.array(draw)
        if isinstance(view, Binary):
            changed[(..., *at)] = 1
            other = np.array(draw)
            other[(..., *at)] = 0
            out[(..., *at)] = f(changed) - f(other)
        else:
            changed[(..., *at[:-1], slice(None))] = 0
            changed[(..., *at)] = 1
            out[(..., *at)] = f(changed) - f(np.array(draw))
    return out


@pytest.mark.parametrize("name", PERTURBED)
def test_changes_and_differences_agree_with_brute_force(name):
    view = view_of(name)

    @eqx.filter_jit
    def program(view):
        draw = view.sample(jax.random.key(4), 1)[0]
        changes = jax.vmap(lambda i: view.change(draw, i))(jnp.arange(view.num_changes))
        return draw, changes, numbers_of(name, changes)

    draw, changes, numbers = program(view)
    per_variable = np.asarray(changes != draw)
    if not isinstance(view, Binary):
        per_variable = per_variable.any(axis=-1)
    changed = per_variable.reshape(view.num_changes, np.prod(view.batch_shape, dtype=int), -1)
    np.testing.assert_array_equal(changed.sum(axis=-1), 1)  # one variable at a time
    assert np.asarray(numbers).any(axis=1).all()  # each is an outcome
    distinct = {np.asarray(change).tobytes() for change in changes}
    assert len(distinct) == view.num_changes

    axes = tuple(range(-len(view.event_shape), 0))
    table = np.random.default_rng(1).normal(size=view.event_shape)
    f = lambda b: np.exp(0.3 * np.sum(np.asarray(b) * table, axis=axes))
    deltas = np.stack([f(change) for change in changes]) - f(draw)
    arranged = view.differences(draw, jnp.asarray(deltas))
    by_hand = brute_force_differences(view, np.asarray(draw), f)
    np.testing.assert_allclose(arranged, by_hand, rtol=1e-10, atol=1e-12)


def test_masked_categories_never_win_have_no_score_and_read_zero():
    masked = np.isinf(MASKED)

    @eqx.filter_jit
    def program(view):
        z = view.logits + view.noise(jax.random.key(5), 1000)
        draws = view.harden(z)
        return z, draws, view.score(draws), view.presentable(z)

    z, draws, score, shown = (np.asarray(x) for x in program(view_of("one-hot masked")))
    assert np.isfinite(z).all()
    assert np.abs(draws[:, masked]).max() == np.abs(score[:, masked]).max() == 0.0
    np.testing.assert_array_equal(shown, np.where(masked, 0.0, z))

    q = dist.Bernoulli(logits=jnp.array([-jnp.inf, 0.3, jnp.inf]), validate_args=False)
    z, draws, score, shown = (np.asarray(x) for x in program(joint(q).sites[0]))
    np.testing.assert_array_equal(draws[:, [0, 2]], np.tile([0.0, 1.0], (1000, 1)))
    np.testing.assert_array_equal(shown, z * [0.0, 1.0, 0.0])
    np.testing.assert_array_equal(score[:, [0, 2]], np.zeros((1000, 2)))


@pytest.mark.parametrize(
    "build",
    [
        lambda x: dist.Bernoulli(logits=x),
        lambda x: ex.OneHotCategorical(logits=x),
        lambda x: dist.Categorical(logits=x),
    ],
)
def test_bfloat16_parameters_are_computed_in_single_precision(build):
    view = joint(build(jnp.zeros(100, jnp.bfloat16))).sites[0]
    assert view.logits.dtype == jnp.float32
    draws = eqx.filter_jit(lambda view: view.sample(jax.random.key(7), 20_000))(view)
    assert jax.eval_shape(view.log_prob, draws).dtype == jnp.float32
    if isinstance(view, Relaxable):
        assert draws.dtype == view.relax(view.logits, jnp.asarray(0.5)).dtype == jnp.bfloat16
    if not isinstance(view, Binary):  # with noise of eight bits the first categories win
        index = np.asarray(draws if draws.ndim == 1 else draws.argmax(axis=-1))
        assert stats.chisquare(np.bincount(index, minlength=100)).pvalue > 1e-5


# The other distributions


def test_a_distribution_without_more_is_scored_through_its_own_log_probability():
    rate = jnp.array([0.7, 2.5])
    view = joint(dist.Poisson(rate)).sites[0]
    assert not isinstance(view, Enumerable | Reparameterized)
    draws = view.sample(jax.random.key(8), 400_000)
    one = lambda rate, x: joint(dist.Poisson(rate)).log_prob(x[None])[0].sum()
    score = np.asarray(jax.jit(jax.vmap(jax.grad(one), (None, 0)))(rate, draws))
    # ∂E[x] = 1; less its mean, x is a baseline's business and the test is sharper
    centred = score * (np.asarray(draws) - np.asarray(rate))
    for values, truth in ((score, 0.0), (centred, 1.0)):
        error = values.std(axis=0) / np.sqrt(len(values))
        assert np.all(Z * error <= POWER), "underpowered"
        assert np.all(np.abs(values.mean(axis=0) - truth) <= Z * error)


@pytest.mark.parametrize(
    ("build", "parameters", "f", "truth"),
    [
        (dist.Normal, (0.5, 1.2), lambda x: x**2, (2 * 0.5, 2 * 1.2)),
        (dist.Exponential, (1.5,), lambda x: x**2, (-4 / 1.5**3,)),
    ],
)
def test_reparameterized_draws_carry_the_gradient(build, parameters, f, truth):
    def mean(parameters, key):
        view = joint(build(*parameters)).sites[0]
        assert isinstance(view, Reparameterized)
        return jnp.mean(f(view.rsample(key, 1000)))

    keys = jax.random.split(jax.random.key(9), 300)
    means = jax.jit(jax.vmap(jax.grad(mean), (None, 0)))(parameters, keys)
    for values, expected in zip(means, truth, strict=True):
        error = np.std(values) / np.sqrt(len(keys))
        assert Z * error <= POWER * abs(expected), "underpowered"
        assert abs(np.mean(values) - expected) <= Z * error


# Joint


def test_sites_are_drawn_independently_and_their_log_probabilities_add():
    q = {"a": dist.Bernoulli(logits=jnp.array([0.4, -0.3])), "b": (view_parameters(),)}
    views = joint(q)
    assert views.batch_shape == (2,)
    assert views.num_outcomes == 2 * 9
    example = views.example()
    assert example["a"].shape == (2,)
    assert example["b"][0].shape == (2, 2, 3)

    @eqx.filter_jit
    def program(views, q):
        outcomes = views.outcome(jnp.arange(18))
        by_site = q["a"].log_prob(outcomes["a"]) + q["b"][0].log_prob(outcomes["b"][0])
        noise = views.noise(jax.random.key(10), 10_000)
        return outcomes, views.log_prob(outcomes), by_site, noise

    outcomes, log_prob, by_site, noise = program(views, q)
    correlation = np.corrcoef(noise["a"][:, 0], noise["b"][0][:, 0, 0, 0])[0, 1]
    assert abs(correlation) < Z / np.sqrt(10_000)
    np.testing.assert_allclose(log_prob, by_site, rtol=1e-10)
    np.testing.assert_allclose(np.exp(log_prob).sum(axis=0), [1.0, 1.0])
    rows = np.concatenate([x.reshape(18, -1) for x in jax.tree.leaves(outcomes)], axis=1)
    assert len(np.unique(rows, axis=0)) == 18


def view_parameters() -> dist.Distribution:
    return ex.OneHotCategorical(logits=jnp.asarray(PAIRS)).to_event(1)


def test_pulling_the_mean_back_is_its_jacobian():
    views = joint(view_parameters())
    cotangent = jnp.asarray(np.random.default_rng(2).normal(size=PAIRS.shape))
    p = views.mean
    by_hand = p * (cotangent - jnp.sum(p * cotangent, axis=-1, keepdims=True))
    np.testing.assert_allclose(views.pull_mean(cotangent), by_hand, rtol=1e-10)


def test_each_site_in_turn_sees_the_others_as_they_are():
    q = (dist.Bernoulli(logits=jnp.zeros(2)), dist.Bernoulli(logits=jnp.ones(2)))
    draws = (jnp.array([0.0, 1.0]), jnp.array([1.0, 1.0]))
    seen = joint(q).each_in_turn(lambda _site, mine, put: put(mine + 10.0), draws)
    np.testing.assert_array_equal(seen[0], [[10.0, 11.0], [1.0, 1.0]])
    np.testing.assert_array_equal(seen[1], [[0.0, 1.0], [11.0, 11.0]])


@pytest.mark.parametrize(
    ("q", "parts"),
    [
        ({}, ["no distribution", "at least one random choice", "NumPyro distribution"]),
        ({"z": 3.0}, ["q['z'] is a float", "must be a NumPyro distribution", "Bernoulli"]),
        (
            (dist.Bernoulli(logits=np.zeros(2)), dist.Bernoulli(logits=np.zeros(3))),
            ["q[0]: (2,)", "drawn jointly", ".to_event(n)"],
        ),
    ],
)
def test_what_is_no_q_is_refused_in_three_parts(q, parts):
    with pytest.raises(ex.InvalidArgumentError) as caught:
        joint(q)
    for part, line in zip(parts, str(caught.value).splitlines(), strict=True):
        assert part in line


CAPABILITIES = {
    Scored: {"bits", "one-hot", "categorical", "binomial", "normal", "poisson"},
    Enumerable: {"bits", "one-hot", "categorical", "binomial"},
    Averaged: {"bits", "one-hot"},
    Solvable: {"bits", "one-hot"},
    Changeable: {"bits", "one-hot"},
    Relaxable: {"bits", "one-hot"},
    Factorized: {"bits", "one-hot"},
    Binary: {"bits"},
    OneHot: {"one-hot"},
    Reparameterized: {"normal"},
    Invertible: {"bits", "one-hot", "categorical", "binomial", "normal"},
    Signed: {"bits", "one-hot", "categorical", "binomial", "normal", "poisson"},
}


@pytest.mark.parametrize(("capability", "having"), CAPABILITIES.items())
def test_a_capability_is_required_by_what_q_can_do(capability, having):
    sites = {
        "bits": dist.Bernoulli(logits=jnp.zeros(2)),
        "one-hot": ex.OneHotCategorical(logits=jnp.zeros((2, 3))),
        "categorical": dist.Categorical(logits=jnp.zeros((2, 3))),
        "binomial": dist.Binomial(3, logits=jnp.zeros(2)),
        "normal": dist.Normal(jnp.zeros(2), 1.0),
        "poisson": dist.Poisson(jnp.ones(2)),
    }
    for name, q in sites.items():
        if name in having:
            require(joint(q), capability, ex.DisARM())
            continue
        with pytest.raises(ex.IncompatibleError, match="DisARM cannot serve") as caught:
            require(joint({"good": q, "other": q}), capability, ex.DisARM())
        assert "q['good']" in str(caught.value)
        assert len(str(caught.value).splitlines()) == 3
