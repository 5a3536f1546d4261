"""The recommendation: who is left out and why, and the rankings that are certain."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import expectax as ex
from expectax.diagnostics import _recommend
from expectax.diagnostics._adam import Adam
from expectax.diagnostics._candidates import Scene, estimator_classes, set_up
from expectax.diagnostics._slope import slope_fault
from expectax.distributions import joint

PUBLIC = {
    name
    for name, value in vars(ex).items()
    if isinstance(value, type)
    and issubclass(value, ex.AbstractEstimator)
    and value is not ex.AbstractEstimator
}
TWO_BITS = dist.Bernoulli(logits=jnp.array([0.3, -1.0])).to_event(1)
TARGET = jnp.array(0.45)


def quadratic(b):
    return ((b - TARGET) ** 2).sum(-1)


@pytest.fixture
def only(monkeypatch):
    """Leave only these estimators in the library, because every one is compiled.

    The budget is the most that is spent, and here far more than is needed.
    """

    def choose(*classes):
        monkeypatch.setattr(_recommend, "estimator_classes", lambda: list(classes))

    return choose


def ask(q=TWO_BITS, f=quadratic, seconds=300.0, **options):
    return ex.recommend(jax.random.key(0), q, f, budget_seconds=seconds, **options)


def test_the_exact_one_comes_first_and_each_exclusion_has_its_reason(only, tmp_path):
    only(ex.DisARM, ex.Enumerate, ex.LeaveOneOut, ex.NVIL, ex.Pathwise, ex.StraightThrough)
    found = ask()
    names = [row.name for row in found.rows]
    assert names[0] == "Enumerate"
    assert set(names) == {"Enumerate", "DisARM(1)", "LeaveOneOut(2)"}  # nothing to grow for
    assert isinstance(found.best, ex.Enumerate)
    assert found.rows[0].variance == found.rows[0].score == 0.0
    for row in found.rows[1:]:
        assert row.variance > 0
        assert row.score == pytest.approx(row.variance * row.seconds_per_step)
    scores = [row.score for row in found.rows]
    assert scores == sorted(scores)

    reasons = dict(found.excluded)
    assert set(reasons) == {"NVIL", "Pathwise", "StraightThrough"}
    assert "`Reparameterized`" in reasons["Pathwise"]
    assert "biased (exact for linear f)" in reasons["StraightThrough"]
    assert "baseline" in reasons["NVIL"]

    lines = str(found).splitlines()
    assert lines[0].split()[0] == "estimator"
    assert [line.split()[0] for line in lines[2:5]] == names
    assert lines[5].startswith("use Enumerate: it has no variance")
    assert len(lines) == 6 + 3
    assert found.to_markdown().splitlines()[2].startswith("| Enumerate |")
    again = json.loads(json.dumps(found.to_dict()))
    assert again["rows"][0]["estimator"] == "Enumerate"
    assert again["excluded"][0]["reason"] == found.excluded[0].reason
    found.plot(tmp_path / "recommend.png")
    assert (tmp_path / "recommend.png").read_bytes().startswith(b"\x89PNG")


def test_biased_ones_are_ranked_by_mean_squared_error_when_asked_for(only):
    only(ex.LeaveOneOut, ex.StraightThrough)
    q = dist.Bernoulli(logits=jnp.array(1.0))
    f = lambda b: (b - TARGET) ** 2
    assert [row.name.partition("(")[0] for row in ask(q, f).rows][-1] == "LeaveOneOut"
    found = ask(q, f, allow_biased=True)
    (row,) = [row for row in found.rows if row.name == "StraightThrough"]
    p = float(jax.nn.sigmoid(1.0))
    g = p * (1 - p) * (1 - 2 * 0.45)
    # straight-through draws f'(b) p (1 − p), b = 1 with probability p
    variance = (2 * p * (1 - p)) ** 2 * p * (1 - p)
    bias = abs(2 * (p - 0.45) * p * (1 - p) - g)
    # in its time a busy machine makes few draws; the next formula is a factor away
    np.testing.assert_allclose(row.variance, variance, rtol=0.3)
    np.testing.assert_allclose(row.bias, bias, rtol=0.3)
    np.testing.assert_allclose(
        row.score, (row.variance + row.bias**2) * row.seconds_per_step, rtol=1e-6
    )
    others = [other for other in found.rows if other is not row]
    assert others
    assert all(other.bias is None for other in others)

    only(ex.StraightThrough)  # nothing to take its bias against
    alone = ask(q, f, allow_biased=True)
    assert "no unbiased estimator" in dict(alone.excluded)["StraightThrough"]


def test_without_time_every_estimator_is_named_and_none_is_best():
    found = ask(seconds=1e-3)
    assert {name.partition("(")[0] for name, _ in found.excluded} == PUBLIC
    reasons = dict(found.excluded)
    slow = "too dear for a budget of 0.001 s"  # where two evaluations of f take that long
    assert "not tried" in reasons["LeaveOneOut(2)"] or slow in reasons["LeaveOneOut(2)"]
    with pytest.raises(ex.InvalidArgumentError, match="budget_seconds"):
        found.best  # noqa: B018
    assert str(found).splitlines()[2].startswith("no estimator could be recommended")


@pytest.mark.parametrize(("num", "times"), [(40, "10^12"), (2000, "10^602")])
def test_a_gradient_that_evaluates_f_too_often_is_not_tried(num, times, only):
    only(ex.Enumerate)
    q = dist.Bernoulli(logits=jnp.zeros(num)).to_event(1)
    reason = dict(ask(q).excluded)["Enumerate"]
    assert f"about {times} times" in reason
    assert "too dear" in reason


def test_a_gradient_never_seen_to_move_is_no_exact_one(only):
    only(ex.DisARM, ex.Enumerate)
    q = dist.Bernoulli(logits=jnp.array([-30.0]))
    found = ask(q, lambda b: b**2)
    assert [row.name for row in found.rows] == ["Enumerate"]
    assert "zero in all" in dict(found.excluded)["DisARM(1)"]


def test_estimators_of_ones_own_are_candidates_and_learn(only):
    only()
    far = ex.ScoreFunction(baseline=9.0)
    found = ask(estimators={"far": far})
    (row,) = found.rows
    assert row.name == "far"
    assert row.learning_seconds > 0
    assert 0 < float(row.estimator.baseline) < 9.0  # the mean cost is 0.5
    assert float(far.baseline) == 9.0  # nothing of the caller's is changed
    with pytest.raises(ex.InvalidArgumentError, match="recommend was given"):
        ask(estimators=[ex.DisARM])


@pytest.mark.parametrize("seconds", [0, -1.0, float("inf"), float("nan"), "20"])
def test_a_budget_that_is_no_time_is_refused(seconds):
    with pytest.raises(ex.InvalidArgumentError, match="budget_seconds"):
        ask(seconds=seconds)


def test_a_cost_that_no_estimator_could_serve_is_refused():
    with pytest.raises(ex.InvalidArgumentError, match="one cost for each batch element"):
        ask(f=lambda b: b)


# Whether f has a slope

BITS = dist.Bernoulli(logits=jnp.linspace(-1.0, 1.0, 6)).to_event(1)
HOTS = ex.OneHotCategorical(logits=jnp.linspace(-1.0, 1.0, 12).reshape(3, 4)).to_event(1)
TABLE = jnp.array([1.0, -2.0, 0.5, 3.0])

SMOOTH = {
    "quadratic": (BITS, lambda b: b.sum(-1) ** 2),
    "wave": (BITS, lambda b: jnp.sin(3 * b.sum(-1))),
    "kink": (BITS, lambda b: jax.nn.relu(b.sum(-1) - 2.5)),
    "constant": (BITS, lambda b: 3.0 + 0 * b.sum(-1)),
    "nearly constant": (BITS, lambda b: 1000.0 + 0.1 * b.sum(-1)),
    "categories": (HOTS, lambda z: jnp.prod(z @ TABLE, axis=-1)),
    "log q": (BITS, BITS.log_prob),
    "continuous": (dist.Normal(jnp.zeros(3), 1.0).to_event(1), lambda x: (x**3).sum(-1)),
    "batch": (dist.Bernoulli(logits=jnp.zeros((3, 2))).to_event(1), lambda b: b.prod(-1)),
}
ROUGH = {
    "floor": (BITS, lambda b: jnp.floor(b.sum(-1) / 2)),
    "one floor among terms": (BITS, lambda b: jnp.floor(b.sum(-1) / 2) + 3 * b[..., 0]),
    "stopped": (BITS, lambda b: jax.lax.stop_gradient(b).sum(-1) ** 2),
    "half stopped": (BITS, lambda b: b.sum(-1) + jax.lax.stop_gradient(b).sum(-1)),
    "index": (HOTS, lambda z: TABLE[jnp.argmax(z, axis=-1)].sum(-1)),
    "whole numbers": (BITS, lambda b: (b > 0.5).sum(-1)),
    "integer draws": (dist.Categorical(logits=jnp.zeros(3)), lambda k: k**2),
    "step": (dist.Normal(0.0, 1.0), lambda x: jnp.where(x > 0, 1.0, 0.0)),
    "one of the batch": (
        dist.Bernoulli(logits=jnp.zeros((2, 4))).to_event(1),
        lambda b: jnp.stack([b[0].sum(), jnp.floor(b[1].sum() / 2)]),
    ),
}


def fault(q, f):
    setting = _recommend.Setting(jax.random.key(0), q, f)
    return slope_fault(jax.random.key(1), setting.f, setting.views)


@pytest.mark.parametrize("name", SMOOTH)
def test_a_slope_that_explains_how_f_changes_is_believed(name):
    assert fault(*SMOOTH[name]) == ""


@pytest.mark.parametrize("name", ROUGH)
def test_a_slope_that_does_not_explain_how_f_changes_is_seen(name):
    assert fault(*ROUGH[name])


def test_a_cost_without_a_slope_excludes_those_that_use_it(only):
    only(ex.DisARM, ex.MuProp, ex.REBAR, ex.GumbelSoftmax)
    found = ask(BITS, ROUGH["floor"][1], allow_biased=True)
    assert {row.name.partition("(")[0] for row in found.rows} == {"DisARM"}
    reasons = dict(found.excluded)
    assert set(reasons) == {"MuProp", "REBAR", "GumbelSoftmax"}
    assert all("not differentiable" in reason for reason in reasons.values())


# Candidates and learning


def test_a_new_estimator_is_a_candidate_by_itself():
    assert {cls.__name__ for cls in estimator_classes()} == PUBLIC

    class Another(ex.LeaveOneOut.__base__):
        claims = ex.LeaveOneOut.claims
        num_samples: int = 3

        estimate = ex.LeaveOneOut.estimate
        evaluations = ex.LeaveOneOut.evaluations

    scene = Scene(jax.random.key(0), joint(TWO_BITS), jnp.zeros(()), 1.0)
    outside = Another.__module__
    Another.__module__ = "expectax.estimators.another"
    try:
        assert Another in estimator_classes()
        candidate = set_up(Another, scene)
    finally:
        Another.__module__ = outside
    assert Another not in estimator_classes()
    assert candidate.name == "Another(3)"
    assert candidate.larger().name == "Another(12)"
    assert candidate.larger().estimator.num_samples == 12


@pytest.mark.parametrize("unit", [1.0, 1e-3])
def test_adam_finds_a_minimum_in_steps_of_the_unit(unit):
    start = Adam.start({"x": jnp.full(2, 10 * unit), "none": None}, {"x": unit, "none": None})
    slope = jax.grad(lambda tree: jnp.sum((tree["x"] / unit - jnp.array([7.0, 12.0])) ** 2))

    def step(i, adam):
        return adam.step(slope(adam.leaves), 0.05 * (1 - i / 600))

    end = jax.jit(lambda adam: jax.lax.fori_loop(0, 600, step, adam))(start)
    np.testing.assert_allclose(end.leaves["x"], unit * np.array([7.0, 12.0]), rtol=1e-3)
    once = start.step(slope(start.leaves), 0.05)
    np.testing.assert_allclose(once.leaves["x"], unit * np.array([9.95, 10.05]), rtol=1e-5)
