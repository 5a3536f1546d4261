"""The battery kills every mutant by the checks named for it, and by no other; the healthy live."""

import itertools

import equinox as eqx
import numpy as np
import pytest

import expectax as ex
from expectax.testing import CHECKS, ConformanceError, Trial, bits, mutants, run_check
from expectax.testing._mutants import ScaledScore
from expectax.testing._trial import assert_same

from .rows import ROWS, trial

# The checks that look at an estimator's numbers and calls. The rest, of transformations, is run
# on a mutant only where it is the one that must fail: it costs more than it could tell.
PANEL = (
    "value_mean",
    "gradient_mean",
    "cost_parameters",
    "finite_draws",
    "constant_cost",
    "added_constant",
    "masked_category",
    "evaluations",
    "value_alone",
    "batch_elements",
    "key_reuse",
    "control_gradient",
)
with Trial.precision():
    MUTANTS = {mutant.name: mutant for mutant in mutants()}


def failures(trial, checks):
    """The names of the checks that fail."""
    failed = set()
    for name in checks:
        try:
            run_check(name, trial)
        except ConformanceError as error:
            failed.add(error.check)
    return failed


def _healthy(mutant):
    """The trial of the healthy estimator: that of its row, where there is one."""
    problem = mutant.problem()
    for row in ROWS:
        if not row.larger and eqx.tree_equal(row.make(problem), mutant.healthy):
            return trial(row.name, problem.name)
    return Trial(mutant.healthy, problem)


@pytest.mark.parametrize("name", MUTANTS)
def test_exactly_the_named_checks_fail(name):
    mutant = MUTANTS[name]
    expected = {mutant.killed_by} | mutant.also
    checks = [c for c in CHECKS if c in {*PANEL, mutant.killed_by}]
    assert failures(Trial(mutant.broken, mutant.problem()), checks) == expected


@pytest.mark.parametrize("name", MUTANTS)
@pytest.mark.usefixtures("float64")
def test_the_healthy_original_passes(name):
    mutant = MUTANTS[name]
    assert failures(_healthy(mutant), [mutant.killed_by, *mutant.also]) == set()


# Each compares two programs by `assert_same`, and fails as that fails; a mutant of one would be an
# estimator that looks at how it is being run.
COMPARISONS = {
    "eager",
    "vmap",
    "grad_of_vmap",
    "scan",
    "checkpoint",
    "legacy_key",
}
PLANTED_BELOW = {"capability", "no_retrace", "nested"}


def test_every_check_has_been_seen_to_fail():
    killers = {name for m in MUTANTS.values() for name in {m.killed_by} | m.also}
    assert killers | COMPARISONS | PLANTED_BELOW == set(CHECKS)
    assert len(MUTANTS) >= 10


@pytest.mark.parametrize("off", [1e-9, np.nan])
@pytest.mark.usefixtures("float64")
def test_a_comparison_sees_a_difference(off):
    one = {"x": np.array([1.0, 2.0])}
    assert_same(one, {"x": one["x"] + 1e-14}, "rounding")
    with pytest.raises(AssertionError, match="'x'"):
        assert_same(one, {"x": one["x"] + [0, off]}, "a difference")


def _fails(check, trial):
    with pytest.raises(ConformanceError) as error:
        run_check(check, trial)
    assert error.value.check == check


def test_an_operator_that_refuses_nothing_is_seen(monkeypatch):
    monkeypatch.setattr("expectax._expect.require", lambda *_: None)
    _fails("capability", Trial(ex.DisARM(), bits()))  # which would run on one-hot variables, wrong


class Restless(ex.ScoreFunction):
    """An estimator that is another type in the eyes of `jit` at every call."""

    serial: int = eqx.field(static=True, default_factory=itertools.count().__next__)


def test_an_estimator_that_is_compiled_again_is_seen():
    trial = Trial(Restless(), bits())
    compiled = trial.one
    trial.__dict__["one"] = lambda params, _, key: compiled(params, Restless(), key)
    _fails("no_retrace", trial)


def test_a_bias_in_the_second_layer_alone_is_seen():
    class Both(ScaledScore):
        """Right on the first layer, where f has no random choices of its own; wrong with any."""

        def estimate(self, key, q, f):
            inside = "custom_jvp_call" in str(f.function)
            return ScaledScore(0.9 if inside else 1.0).estimate(key, q, f)

    with Trial.precision():
        trial = Trial(Both(1.0), bits())
    run_check("gradient_mean", trial)
    _fails("nested", trial)
