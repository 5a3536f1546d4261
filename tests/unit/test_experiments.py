"""The parts of the published experiments: verdicts, closed forms, protocols, folders, labels."""

import io
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rich.console
from matplotlib.figure import Figure

import expectax as ex
from expectax.lab.errors import UsageError
from expectax.lab.experiments import (
    _base,
    _gaussian_runs as gaussian,
    _labels,
    _one_bit_contenders as one_bit,
    _one_bit_runs,
    _one_bit_theory as theory,
)
from expectax.lab.experiments._verdicts import (
    POWER,
    Published,
    Verdict,
    agrees,
    describes,
    mean_and_error,
    stalls,
    succeeds,
    typical,
)

RANDOM = np.random.default_rng(0)


def runs(mean: float, error: float, num: int = 400) -> np.ndarray:
    """Values with exactly this mean and standard error."""
    x = RANDOM.normal(size=num)
    x = (x - x.mean()) / x.std(ddof=1)
    return mean + error * math.sqrt(num) * x


def console() -> rich.console.Console:
    return rich.console.Console(record=True, width=120, file=io.StringIO())


# verdicts


@pytest.mark.parametrize(("off", "holds"), [(0.0, True), (2.9, True), (3.1, False), (-3.1, False)])
def test_agreement_is_three_standard_errors_of_a_figure_without_noise(off: float, holds: bool):
    verdict = agrees(runs(0.5 + off * 1e-3, 1e-3), Published("0.500000000"), scale=0.5)
    assert verdict.holds is holds
    assert ("DISAGREES" in verdict.text) is not holds


def test_the_published_noise_counts_by_its_number_of_runs():
    ours = runs(0.5 + 4e-3, 1e-3)
    assert agrees(ours, Published("0.500000000", num_runs=400.0), 0.5).holds  # √2 · 1e-3
    assert not agrees(ours, Published("0.500000000", num_runs=4e4), 0.5).holds


def test_what_rounding_hides_is_not_held_against_us_and_no_more_is_forgiven():
    assert agrees(np.full(10, 0.20345), Published("0.203"), 0.2).holds
    assert not agrees(np.full(10, 0.20355), Published("0.203"), 0.2).holds


def test_a_figure_with_too_much_noise_is_not_called_agreement():
    verdict = agrees(runs(0.5, 1.1 * POWER), Published("0.5"), scale=1.0)
    assert verdict.holds is False
    assert "underpowered" in verdict.text


def test_equal_values_have_no_error_whatever_the_rounding_of_their_mean():
    assert mean_and_error(np.full(1000, 0.1)) == (0.1, 0.0)


def test_single_runs_and_ranges_of_them():
    ours = np.linspace(-23.0, -7.0, 400)
    assert typical(ours, -10.0).holds
    assert typical(ours, -30.0, -20.0).holds
    assert not typical(ours, -4.2).holds
    assert not typical(ours, -30.0, -25.0).holds


def test_stalling_and_succeeding_exclude_each_other_and_both_can_fail():
    stuck, halfway, there = runs(0.43, 0.005), runs(0.25, 0.005), runs(0.05, 0.005)
    assert [stalls(x, 0.5).holds for x in (stuck, halfway, there)] == [True, False, False]
    assert [succeeds(x, 0.5).holds for x in (stuck, halfway, there)] == [False, False, True]
    assert describes(there, 0.5) == Verdict(None, "90.0% of the way")


# closed forms


def bernoulli_moment(name: str, p: float, delta: float) -> float:
    """E[g²] by quadrature over the uniforms, from the estimators' definitions."""
    u = (np.arange(1_000_000) + 0.5) / 1_000_000
    one, two = 1.0 * (u > 1 - p), 1.0 * (u < p)
    difference = delta * (one - two)
    if name == "ARM":
        return float(np.mean((difference * (u - 0.5)) ** 2))
    if name == "DisARM":
        return float(np.mean((0.5 * difference * np.abs(one - two) * max(p, 1 - p)) ** 2))
    pairs = [(a, b) for a in (0, 1) for b in (0, 1)]
    law = lambda bit: p if bit else 1 - p
    gradient = lambda a, b: 0.5 * delta * (a - b) * (a - b)  # ½ (f(a) − f(b)) (a − b)
    return sum(law(a) * law(b) * gradient(a, b) ** 2 for a, b in pairs)


@pytest.mark.parametrize("name", list(theory.SECOND_MOMENTS))
@pytest.mark.parametrize("p", [0.5, 0.13, 0.96])
def test_the_variances_of_one_bit_by_quadrature(name: str, p: float):
    delta = 1 - 2 * 0.45
    expected = bernoulli_moment(name, p, delta) - (p * (1 - p) * delta) ** 2
    assert float(theory.variance(name, np.asarray([p]), 0.45)[0]) == pytest.approx(
        expected, rel=1e-5, abs=1e-12
    )


@pytest.mark.parametrize("name", list(theory.RESTS))
def test_the_mean_gradient_vanishes_where_a_biased_estimator_rests(name: str):
    contender = next(c for c in one_bit.CONTENDERS if c.name == name)
    t = jnp.asarray(0.45)
    estimator = contender.build(jax.random.key(0), t)
    p = theory.resting_place(name, 0.45)
    logits = math.log(p) - math.log1p(-p) + jnp.asarray([0.0, 0.1])

    @jax.jit
    def gradients(keys):
        one = lambda logit, key: jax.grad(_one_bit_runs.cost)(logit, estimator, t, key)
        return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(logits, keys)

    at_rest, beyond = np.asarray(gradients(jax.random.split(jax.random.key(1), 200_000)))
    mean, error = mean_and_error(at_rest)
    further, _ = mean_and_error(beyond)
    assert abs(mean) <= 4 * error
    assert further > 8 * error  # the test would see a place 0.1 away


def test_straight_through_rests_at_t():
    assert theory.resting_place("StraightThrough", 0.45) == pytest.approx(0.45, abs=1e-9)


def test_the_variances_on_a_gaussian_by_quadrature():
    x, weight = np.polynomial.hermite_e.hermegauss(12)
    weight = weight / weight.sum()
    first, second = np.meshgrid(x, x, indexing="ij")
    pair_weight = np.outer(weight, weight)
    a = gaussian.SLOPE
    for mu in (-1.3, 0.0, 2.0):
        f = lambda e, mu=mu: (mu + e) ** 2
        gradients = {
            "ScoreFunction": (a * f(x) * x, weight),
            "Pathwise": (2 * a * (mu + x), weight),
            "LeaveOneOut(2)": (0.5 * a * (f(first) - f(second)) * (first - second), pair_weight),
        }
        for contender in gaussian.CONTENDERS:
            g, w = gradients[contender.name]
            mean = float(np.sum(w * g))
            assert mean == pytest.approx(2 * a * mu, abs=1e-9)
            variance = float(np.sum(w * (g - mean) ** 2))
            assert float(contender.variance(np.asarray(mu))) == pytest.approx(variance)
            if contender.noise is not None:
                constant, quadratic = contender.noise
                assert constant + quadratic * mu**2 == pytest.approx(variance)


# protocols


def test_published_figures_belong_to_contenders():
    names = {c.name for c in one_bit.CONTENDERS}
    assert len(names) == len(one_bit.CONTENDERS)
    figures = {*one_bit.SIMULATED, *one_bit.SINGLE_RUNS, *one_bit.LOG_VARIANCES, *theory.RESTS}
    claims = {name for name, _ in one_bit.STALL | one_bit.SUCCEED}
    assert figures | claims | set(theory.SECOND_MOMENTS) <= names


def test_the_running_mean_begins_with_the_first_cost():
    rule = one_bit.with_running_mean(decay=0.9)
    pair = (jnp.zeros(()), ex.ScoreFunction(baseline=0.0))
    state = rule.init(pair)
    seen = []
    for cost in (3.0, 5.0, 1.0):
        slope = -2 * (cost - pair[1].baseline)  # of the squared error
        gradient = (jnp.ones(()), ex.ScoreFunction(baseline=slope))
        updates, state = rule.update(gradient, state, pair)
        pair = optax.apply_updates(pair, updates)
        seen.append(float(pair[1].baseline))
    assert seen == pytest.approx([3.0, 0.9 * 3.0 + 0.1 * 5.0, 0.9 * 3.2 + 0.1 * 1.0])
    assert float(pair[0]) == pytest.approx(-0.03, rel=1e-4)  # Adam on a constant gradient


@pytest.mark.parametrize("with_cost", [True, False])
def test_the_target_in_the_control_variate_is_not_learned(with_cost: bool):
    t = jnp.asarray(0.45)
    estimator = ex.RELAX(one_bit.Surrogate(jax.random.key(0), t, with_cost))
    of_estimator = jax.jit(jax.grad(_one_bit_runs.cost, argnums=1))(
        jnp.asarray(0.3), estimator, t, jax.random.key(1)
    )
    gradient = of_estimator.control_variate
    assert float(gradient.target) == 0.0
    learned = [gradient.weights, gradient.biases, gradient.log_temperature]
    learned += [gradient.scale] if with_cost else []
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(learned))


# folders, tables, labels


def test_a_run_folder_with_something_in_it_is_refused_before_anything_runs(tmp_path):
    called = []
    experiment = _base.Experiment("x", "y", lambda *args: called.append(args))
    kept = tmp_path / "kept.txt"
    kept.write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        experiment.run(tmp_path, True, console())
    with pytest.raises(UsageError, match="a file"):
        experiment.run(kept, True, console())
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
    assert kept.read_text() == "mine"
    assert called == []
    experiment.run(tmp_path / "new" / "folder", True, console())
    assert called[0][0].is_dir()


ROWS = [
    _base.Row("t = 1", "good", "loss", 0.5, 0.001, "0.5", Verdict(True, "agrees"), "1 + 0"),
    _base.Row("t = 1", "bad", "loss", 0.6, 0.001, "0.5", Verdict(False, "DISAGREES"), "1 + 0"),
    _base.Row("t = 2", "new", "loss", math.nan, math.nan),
]


def test_the_table_names_what_was_not_reproduced():
    out = console()
    _base.print_table(out, "[x]", ROWS)
    text = out.export_text()
    assert "1 of 2 published or derived figures reproduced" in text
    assert "Not: bad, loss (t = 1)" in text
    assert "0.6000 ± 1.0e-03" in text


def test_results_are_json_without_nan_and_markdown(tmp_path):
    curves = {"x": {"y": np.asarray([1.0, math.inf])}}
    _base.save(tmp_path, "x", "protocol", gaussian.Settings(), ROWS, curves)
    results = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert results["rows"][1]["verdict"] == {"holds": False, "text": "DISAGREES"}
    assert results["rows"][2]["ours"] is None
    assert results["settings"]["rate"] == gaussian.Settings().rate
    assert json.loads((tmp_path / "curves.json").read_text()) == {"x": {"y": [1.0, None]}}
    assert "| bad | 1 + 0 | loss | 0.5 | 0.6000 ± 1.0e-03 | DISAGREES |" in (
        tmp_path / "table.md"
    ).read_text(encoding="utf-8")


def test_labels_keep_their_order_and_distance():
    heights = np.asarray([0.5, 0.52, 0.1, 0.51, 0.9])
    places = _labels._apart(heights, 0.1)
    assert np.array_equal(np.argsort(places), np.argsort(heights))
    assert np.diff(np.sort(places)).min() == pytest.approx(0.1)
    assert places[[2, 4]] == pytest.approx([0.1, 0.9])  # those with room stay
    assert places[[0, 1, 3]].mean() == pytest.approx(0.51)  # the crowded ones by as little as can


def test_every_labelled_line_gets_its_name():
    axes = Figure().subplots()
    axes.plot([0, 1], [1, 2], label="a")
    axes.plot([0, 1], [1, math.nan], label="b")
    axes.plot([0, 1], [0, 0], label="_not")
    _labels.label_ends(axes)
    assert {text.get_text() for text in axes.texts} == {"a", "b"}
