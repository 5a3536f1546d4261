"""Moments, the test for bias, and the comparison: right, able to fail, and honest about power."""

import csv
import dataclasses
import functools
import json
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import expectax as ex
from expectax.diagnostics import _compare, _moments, _unbiased
from expectax.diagnostics._table import aligned, markdown

PARAMS = {"logits": jnp.array([0.0, 0.8, -1.2]), "target": jnp.array([0.2, 0.35, 0.6])}


def bits_loss(params, key, estimator):
    q = dist.Bernoulli(logits=params["logits"]).to_event(1)
    cost = lambda b: jnp.sum((b - params["target"]) ** 2) ** 2
    return ex.expect(key, q, cost, estimator)


def loss_of(estimator):
    return functools.partial(bits_loss, estimator=estimator)


@jax.jit
def exact(params):
    return jax.grad(bits_loss)(params, jax.random.key(0), ex.Enumerate())


# A loss whose gradient is simple noise: cheap to compile, with known moments.


def noisy_loss(params, key, bias=0.0):
    """Gradient 1 + bias + N(0, 1) in every entry of `x`."""
    noise = jax.random.normal(key, params["x"].shape)
    return jnp.sum(params["x"] * (1.0 + bias + noise))


def off_by(bias):
    """The same with a bias, which is an argument of the program: it is compiled once for all."""
    return eqx.Partial(noisy_loss, bias=jnp.asarray(bias))


def ones(params):
    return {"x": jnp.ones_like(params["x"])}


NOISY = {"x": jnp.zeros(3)}


# Moments


@pytest.mark.parametrize("chunk_size", [None, 1, 7])
def test_moments_are_those_of_the_gradients_whatever_the_chunks(chunk_size):
    key, num = jax.random.key(0), 101
    params = {"x": jnp.arange(3.0), "scalar": 0.5, "held": jnp.arange(2), "none": None}
    loss = lambda p, key: jnp.sum(jnp.exp(p["x"] * jax.random.normal(key, (3,)))) * p["scalar"]
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(num))
    one = lambda x, s, key: loss({"x": x, "scalar": s}, key)
    draws = jax.vmap(jax.grad(one, (0, 1)), (None, None, 0))(params["x"], 0.5, keys)

    moments = ex.gradient_moments(key, loss, params, num_draws=num, chunk_size=chunk_size)
    assert moments.num_draws == num
    assert moments.mean["held"] is None
    assert moments.mean["none"] is None
    for name, values in zip(("x", "scalar"), draws, strict=True):
        values = np.asarray(values, np.float64)
        variance = values.var(axis=0, ddof=1)
        np.testing.assert_allclose(moments.mean[name], values.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(moments.variance[name], variance, rtol=1e-5)
        np.testing.assert_allclose(moments.standard_error[name], np.sqrt(variance / num), rtol=1e-5)


def test_a_small_variance_about_a_large_mean_is_not_lost():
    # E g² − (E g)² in single precision would leave nothing of it
    loss = lambda p, key: p["x"].sum() * 1e4 + noisy_loss(p, key)
    moments = ex.gradient_moments(jax.random.key(1), loss, NOISY, num_draws=20_000)
    error = np.sqrt(2.0 / 20_000)
    assert np.all(np.abs(np.asarray(moments.variance["x"]) - 1.0) < 4.5 * error + 0.01)


def test_bfloat16_gradients_are_accumulated_in_single_precision():
    params = {"x": jnp.zeros(3, jnp.bfloat16)}
    moments = ex.gradient_moments(jax.random.key(2), noisy_loss, params, num_draws=20_000)
    assert moments.mean["x"].dtype == jnp.float32
    assert np.all(np.abs(np.asarray(moments.mean["x"]) - 1.0) < 4.5 / np.sqrt(20_000))


def test_more_draws_cost_no_more_memory_and_no_new_program():
    traces = []

    def loss(x, key):
        traces.append(None)
        return jnp.sum((x - jax.random.normal(key, x.shape)) ** 2)

    # the number of draws is an argument of the program, so one program serves any number
    small = jnp.zeros(3)
    ex.gradient_moments(jax.random.key(3), loss, small, num_draws=2000)
    before = len(traces)
    ex.gradient_moments(jax.random.key(4), loss, small, num_draws=50_000)
    assert len(traces) == before + 1  # the check of the loss, abstractly; nothing is compiled

    params, num_draws = jnp.zeros(1_000_000), jnp.asarray(100_000)
    assert _moments.chunk_of(1_000_000, 100_000) <= 4
    lowered = _moments._stream.lower(jax.random.key(0), loss, params, None, num_draws, 4)
    analysis = lowered.compile().compiled.memory_analysis()
    if analysis is None:
        pytest.skip("this backend does not say how much memory a program needs")
    one_gradient = 4 * 1_000_000
    held = analysis.temp_size_in_bytes + analysis.output_size_in_bytes
    assert 2 * one_gradient <= held <= 40 * one_gradient  # not 100,000


def test_totals_and_signal_to_noise():
    variance = {"a": jnp.array([1.0, 3.0]), "b": jnp.array(5.0)}
    mean = {"a": jnp.array([3.0, 0.0]), "b": jnp.array(-4.0)}
    moments = ex.Moments(mean, variance, None, 10)
    assert moments.total_variance == 9.0
    np.testing.assert_allclose(moments.squared_norm, 25.0 - 0.9, rtol=1e-6)
    np.testing.assert_allclose(moments.signal_to_noise, np.sqrt(24.1 / 9.0), rtol=1e-6)
    zero = jax.tree.map(jnp.zeros_like, variance)
    assert ex.Moments(mean, zero, zero, 10).signal_to_noise == jnp.inf
    assert ex.Moments(zero, zero, zero, 10).signal_to_noise == 0.0
    assert ex.Moments(zero, variance, zero, 10).signal_to_noise == 0.0


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda f: f(noisy_loss, NOISY, num_draws=1), ["num_draws=1", "at least 2", "num_draws="]),
        (lambda f: f(noisy_loss, NOISY, num_draws=2.0), ["num_draws=2.0", "whole", "num_draws="]),
        (
            lambda f: f(noisy_loss, NOISY, num_draws=9, chunk_size=0),
            ["chunk_size=0", "at least 1", "chunk_size=1"],
        ),
        (
            lambda f: f(lambda p, _: p["x"], NOISY, num_draws=9),
            ["array of shape (3,)", "real scalar", ".mean()"],
        ),
        (
            lambda f: f(lambda p, _: (p["x"].sum(), 1), NOISY, num_draws=9),
            ["tuple", "real scalar", "auxiliary"],
        ),
        (lambda f: f(noisy_loss, 3, num_draws=9), ["no floating leaf", "derivative", "pytree"]),
        (
            lambda f: f(noisy_loss, {"x": jnp.zeros(2, complex)}, num_draws=9),
            ["complex leaves", "real floating", "pytree"],
        ),
    ],
)
def test_wrong_arguments_of_moments_are_refused_in_three_parts(call, parts):
    with pytest.raises(ex.InvalidArgumentError) as caught:
        call(functools.partial(ex.gradient_moments, jax.random.key(0)))
    for part, line in zip(parts, str(caught.value).splitlines(), strict=True):
        assert part in line


# The test for bias


def verdict_of(loss, params=NOISY, reference=ones, **options):
    return ex.check_unbiased(jax.random.key(5), loss, params, reference=reference, **options)


def test_the_three_verdicts():
    enough = verdict_of(off_by(0.0))
    assert enough.verdict == "unbiased"
    assert enough.leaves[0].resolution <= enough.power
    enough.raise_unless_unbiased()

    # a bias of five per cent is seen with power, whichever its sign
    for bias in (0.05, -0.05):
        report = verdict_of(off_by(bias))
        assert report.verdict == "biased"
        with pytest.raises(ex.BiasedError, match=r"biased[\s\S]*\['x'\][\s\S]*instead:"):
            report.raise_unless_unbiased()

    # with few draws neither the biased nor the unbiased is called unbiased
    for bias in (0.0, 0.05):
        report = verdict_of(off_by(bias), num_draws=500)
        assert report.verdict == "underpowered"
        with pytest.raises(ex.UnderpoweredError, match="num_draws="):
            report.raise_unless_unbiased()
    assert 0.5 < report.num_draws_needed / (4.5 / 0.02) ** 2 < 2.0


def test_resolution_is_z_standard_errors_relative_to_the_scale():
    report = verdict_of(off_by(0.0), num_draws=2000, z_max=5.0, scale=2.0)
    (leaf,) = report.leaves
    assert leaf.scale == 2.0
    np.testing.assert_allclose(leaf.resolution, 5.0 / np.sqrt(2000) / 2.0, rtol=0.1)


def test_z_scores_are_standard_normal():
    params = {"x": jnp.zeros(20_000)}
    moments = ex.gradient_moments(jax.random.key(6), noisy_loss, params, num_draws=400)
    z = (np.asarray(moments.mean["x"]) - 1.0) / np.asarray(moments.standard_error["x"])
    assert stats.kstest(z, stats.norm.cdf).pvalue > 1e-4
    (leaf,) = verdict_of(noisy_loss, params, num_draws=400).leaves
    assert 3.3 < leaf.max_z < 5.5  # the largest of twenty thousand


@pytest.mark.parametrize("num_entries", [1, 1000, 1_000_000])
def test_the_threshold_grows_with_the_number_of_entries(num_entries):
    mean = {"x": np.zeros(num_entries)}
    z = _unbiased.threshold(ex.Moments(mean, mean, mean, 10), None)
    assert z >= 4.5
    assert 2 * stats.norm.sf(z) * num_entries <= 1.0001e-4
    assert _unbiased.threshold(ex.Moments(mean, mean, mean, 10), 3.0) == 3.0


def test_estimators_against_enumeration_and_against_one_another():
    unbiased, straight = loss_of(ex.DisARM()), loss_of(ex.StraightThrough())
    report = verdict_of(unbiased, PARAMS, exact, num_draws=300_000)
    assert [leaf.path for leaf in report.leaves] == ["['logits']", "['target']"]
    assert report.verdict == "unbiased", str(report)
    assert verdict_of(straight, PARAMS, exact).leaves[0].verdict == "biased"

    # another loss: a two-sample test, with the noise of both
    other = lambda params, key: bits_loss(params, key, ex.LeaveOneOut(4))
    two = verdict_of(unbiased, PARAMS, other, num_draws=300_000)
    assert two.verdict == "unbiased", str(two)
    assert two.leaves[0].resolution > report.leaves[0].resolution
    assert verdict_of(straight, PARAMS, other).leaves[0].verdict == "biased"

    # moments that were measured before
    measured = ex.gradient_moments(jax.random.key(9), other, PARAMS, num_draws=300_000)
    same = verdict_of(unbiased, PARAMS, measured, num_draws=300_000)
    assert same.verdict == "unbiased", str(same)


def test_a_gradient_without_noise_is_judged_by_its_rounding():
    sure = lambda params, _: jnp.sum(jnp.sin(params["x"] + 0.3))
    params = {"x": jnp.arange(5.0)}
    right = lambda p: {"x": np.cos(np.asarray(p["x"], np.float64) + 0.3)}
    report = verdict_of(sure, params, right, num_draws=10)
    assert report.verdict == "unbiased", str(report)
    assert report.leaves[0].resolution < 1e-5
    shrunk = lambda p: {"x": 0.999 * right(p)["x"]}
    assert verdict_of(sure, params, shrunk, num_draws=10).verdict == "biased"


def test_a_leaf_with_zero_gradient_is_judged_on_the_scale_of_the_whole():
    loss = lambda p, key: noisy_loss(p, key) + jnp.sum(p["y"] * jax.random.normal(key, (2,)))
    params = {**NOISY, "y": jnp.zeros(2)}
    truth = lambda p: {**ones(p), "y": jnp.zeros(2)}
    report = verdict_of(loss, params, truth)
    assert report.leaves[1].scale == 1.0
    assert report.verdict == "unbiased"

    # all zero: nothing to compare the noise with, unless the caller says
    noise = off_by(-1.0)
    zero = lambda _: {"x": jnp.zeros(3)}
    assert verdict_of(noise, NOISY, zero).verdict == "underpowered"
    assert verdict_of(noise, NOISY, zero, scale=1.0).verdict == "unbiased"
    assert verdict_of(lambda p, _: 0.0 * p["x"].sum(), NOISY, zero).verdict == "unbiased"
    assert verdict_of(lambda p, _: 1e-9 * p["x"].sum(), NOISY, zero).verdict == "biased"


def test_what_is_not_finite_is_biased():
    for bad in (jnp.nan, jnp.inf):
        report = verdict_of(off_by(bad), num_draws=100)
        assert report.verdict == "biased"
        assert report.leaves[0].max_z == np.inf
    nowhere = lambda _: {"x": jnp.full(3, jnp.nan)}
    report = verdict_of(off_by(0.0), reference=nowhere, num_draws=100)
    assert report.verdict == "biased"


def test_the_report_names_the_worst_entry_and_prints_as_a_table():
    spoiled = lambda p, key: noisy_loss(p, key) + 0.1 * p["x"][1, 0]
    report = verdict_of(spoiled, {"x": jnp.zeros((2, 3))})
    (leaf,) = report.leaves
    assert leaf.worst_index == (1, 0)
    assert leaf.size == 6
    assert abs(leaf.mean - 1.1) < 0.02
    assert leaf.reference == 1.0
    header, _, row, summary = str(report).splitlines()
    assert header.split()[0] == "leaf"
    assert row.split()[0] == "['x']"
    assert row.endswith("biased")
    assert summary.startswith("biased (100000 draws")


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        (3.0, ["float", "a function or `Moments`", "gradient_moments"]),
        (lambda _: {"x": jnp.zeros(2)}, ["(2,)", "(3,)", "every floating leaf"]),
        (lambda _: jnp.zeros(3), ["(3,)", "'x': (3,)", "every floating leaf"]),
    ],
)
def test_wrong_references_are_refused_in_three_parts(reference, parts):
    with pytest.raises(ex.InvalidArgumentError) as caught:
        verdict_of(noisy_loss, reference=reference, num_draws=10)
    for part, line in zip(parts, str(caught.value).splitlines(), strict=True):
        assert part in line


# The comparison


@pytest.fixture(scope="module")
def comparison() -> ex.Comparison:
    """One bit at p = σ(1), f = (b − .45)²: the closed forms of the variances are known."""
    target = jnp.array(0.45)
    estimators = {
        "exact": ex.Enumerate(),
        "two": ex.LeaveOneOut(2),
        "DisARM": ex.DisARM(),
        "straight": ex.StraightThrough(),
        "continuous": ex.Pathwise(),
    }
    q = dist.Bernoulli(logits=jnp.array(1.0))
    return ex.compare(
        jax.random.key(7), q, lambda b: (b - target) ** 2, estimators, num_draws=100_000, num_runs=3
    )


def test_figures_of_the_comparison_match_the_closed_forms(comparison):
    rows = {row.name: row for row in comparison.rows}
    p = float(jax.nn.sigmoid(1.0))
    delta, m = 1 - 2 * 0.45, max(p, 1 - p)
    g = p * (1 - p) * delta
    assert comparison.num_outcomes == 2
    np.testing.assert_allclose(comparison.gradient_norm, g, rtol=1e-5)

    variances = {
        "two": delta**2 * p * (1 - p) / 2 - g**2,
        "DisARM": delta**2 * m**2 * (1 - m) / 2 - g**2,
    }
    for name, variance in variances.items():
        row = rows[name]
        # both are a two-point law, whose fourth moment follows: Var s² = (μ4 − σ⁴)/n
        size = {"two": delta / 2, "DisARM": delta * m / 2}[name]
        chance = g / size
        fourth = chance * (size - g) ** 4 + (1 - chance) * g**4
        error = np.sqrt((fourth - variance**2) / 100_000)
        assert 4.5 * error <= 0.05 * variance, "underpowered"
        assert abs(row.variance - variance) <= 4.5 * error
        assert row.max_z < 4.5
        assert row.bias < 4.5 * row.bias_error
        np.testing.assert_allclose(row.signal_to_noise, g / np.sqrt(variance), rtol=0.05)
        assert (row.hard_evaluations, row.auxiliary_evaluations) == (2, 0)

    exact_row = rows["exact"]
    assert (exact_row.variance, exact_row.bias) == (0.0, 0.0)
    assert exact_row.signal_to_noise == np.inf
    # straight-through: f'(b) p (1 − p), whose mean is 2 (p − t) p (1 − p)
    np.testing.assert_allclose(
        rows["straight"].bias, abs(2 * (p - 0.45) * p * (1 - p) - g), rtol=0.05
    )
    assert rows["straight"].max_z > 4.5
    assert not rows["straight"].unbiased


def test_the_comparison_times_what_it_can_and_says_why_it_cannot(comparison):
    for row in comparison.rows[:-1]:
        assert row.reason == ""
        low, high = row.seconds_quartiles
        assert 0 < low <= row.seconds_per_step <= high
        assert row.compile_seconds > 0
        assert row.variance_seconds == row.variance * row.seconds_per_step
        evaluations = row.hard_evaluations + row.auxiliary_evaluations
        assert row.variance_evaluations == row.variance * evaluations
    refused = comparison.rows[-1]
    assert refused.reason.startswith("Pathwise cannot serve Bernoulli")
    for field in dataclasses.fields(refused)[4:]:
        assert getattr(refused, field.name) is None


def test_the_comparison_prints_and_exports_every_row(comparison, tmp_path):
    lines = str(comparison).splitlines()
    assert lines[0].split()[:3] == ["estimator", "claims", "bias"]
    assert [line.split()[0] for line in lines[2:7]] == [row.name for row in comparison.rows]
    assert "by enumeration of 2 outcomes" in lines[7]
    assert lines[8].startswith("continuous: Pathwise cannot serve")

    table = comparison.to_markdown().splitlines()
    assert table[0].startswith("| estimator | claims |")
    assert {line.count("|") - line.count("\\|") for line in table[:7]} == {13}

    again = json.loads(json.dumps(comparison.to_dict()))
    assert [row["name"] for row in again["rows"]] == [row.name for row in comparison.rows]
    assert again["rows"][1]["variance"] == comparison.rows[1].variance

    comparison.to_csv(tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    assert float(rows[1]["variance"]) == comparison.rows[1].variance
    assert float(rows[1]["seconds_low_quartile"]) == comparison.rows[1].seconds_quartiles[0]
    assert rows[4]["variance"] == ""
    assert rows[4]["reason"] == comparison.rows[4].reason


def test_the_comparison_draws_itself(comparison, tmp_path, monkeypatch):
    comparison.plot(tmp_path / "compare.png")
    comparison.plot(str(tmp_path / "compare.svg"))
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")
    picture = (tmp_path / "compare.svg").read_text()
    assert "<svg" in picture
    for panel in ("bias / gradient", "variance", "variance × evaluations", "variance × seconds"):
        assert f"<!-- {panel}" in picture
    nothing = dataclasses.replace(comparison, rows=comparison.rows[-1:], gradient_norm=None)
    nothing.plot(tmp_path / "none.png")

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"expectax\[lab\]"):
        comparison.plot(tmp_path / "no.png")
    assert not (tmp_path / "no.png").exists()


def test_trees_names_and_parameters_that_are_plain_numbers():
    q = {
        "n": dist.Categorical(logits=jnp.array([[0.0, 0.5], [1.0, 0.0]])),
        "c": ex.OneHotCategorical(probs=jnp.array([[0.2, 0.8], [0.5, 0.5]])),
    }
    weights = jnp.array([1.0, -2.0])
    cost = lambda z: (1 + z["n"]) * (z["c"] @ weights)
    result = ex.compare(jax.random.key(8), q, cost, [ex.LeaveOneOut(2)], num_draws=2000, num_runs=2)
    assert result.num_outcomes == 4
    assert result.rows[0].name == "LeaveOneOut"
    assert result.rows[0].max_z < 4.5
    assert result.rows[0].bias < 0.2 * result.gradient_norm

    few = ex.compare(
        jax.random.PRNGKey(0),
        dist.Normal(0.5, 1.0),
        lambda x: x**2,
        {3: ex.Pathwise(num_samples=3), "all": ex.Enumerate()},
        num_draws=200,
        num_runs=2,
    )
    assert [row.name for row in few.rows] == ["3", "all"]
    assert few.num_outcomes is None
    assert few.rows[0].bias is None
    assert few.rows[0].hard_evaluations == 3
    assert few.rows[1].reason
    assert "no exact gradient" in few.caption


def test_estimators_in_a_list_are_told_apart():
    listed = [ex.LeaveOneOut(2), ex.LeaveOneOut(3), ex.DisARM(), ex.LeaveOneOut(3)]
    assert list(_compare.name_all(listed, "compare")) == [
        "LeaveOneOut(num_samples=2)",
        "LeaveOneOut(num_samples=3) #1",
        "DisARM",
        "LeaveOneOut(num_samples=3) #2",
    ]


def test_integer_parameters_stay_known_to_the_program():
    # a traced number of trials could not be enumerated
    q = dist.Binomial(2, logits=jnp.array([0.0, 0.5]))
    settings = {"num_draws": 2, "num_runs": 2}
    exact_only = ex.compare(jax.random.key(0), q, lambda k: k**2.0, [ex.Enumerate()], **settings)
    assert exact_only.rows[0].hard_evaluations == 3
    assert exact_only.rows[0].max_z < 4.5
    p = jax.nn.sigmoid(jnp.array([0.0, 0.5]))  # E k² = 2p + 2p²
    expected = jnp.linalg.norm((2 + 4 * p) * p * (1 - p))
    np.testing.assert_allclose(exact_only.gradient_norm, expected, rtol=1e-5)
    limited = ex.compare(
        jax.random.key(0), q, lambda k: k**2.0, [ex.Enumerate()], max_outcomes=2, **settings
    )
    assert limited.rows[0].bias is None


@pytest.mark.parametrize("estimators", [[], {}, ex.DisARM(), [ex.DisARM], {"a": 3}, "DisARM"])
def test_what_are_no_estimators_is_refused(estimators):
    with pytest.raises(ex.InvalidArgumentError, match="instances of Expectax estimators"):
        ex.compare(jax.random.key(0), dist.Bernoulli(logits=0.0), lambda b: b, estimators)


def test_a_cost_that_no_estimator_could_serve_is_an_error_and_not_a_row():
    q = dist.Bernoulli(logits=jnp.zeros(3))
    with pytest.raises(ex.InvalidArgumentError, match="one cost for each batch element"):
        ex.compare(jax.random.key(0), q, lambda b: b.sum(), [ex.DisARM()])


def test_results_are_immutable(comparison):
    moments = ex.Moments(jnp.zeros(2), jnp.ones(2), jnp.ones(2), 3)
    for thing in (moments, comparison, comparison.rows[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            thing.num_draws = 4
    assert isinstance(moments, eqx.Module)


def test_tables_align_and_escape():
    text = aligned(["name", "x"], [["a", "1.5"], ["longer", "22"]])
    assert {len(line) for line in text.splitlines()} == {11}
    assert text.splitlines()[2] == "a       1.5"
    assert markdown(["|z|"], [["a|b"]]) == "| \\|z\\| |\n| --- |\n| a\\|b |"
