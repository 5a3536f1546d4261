"""The battery kills every mutant by the checks named for it, and by no other; the healthy live."""

import equinox as eqx
import pytest

from expectax.testing import CHECKS, ConformanceError, Trial, mutants, run_check

from .rows import ROWS, trial

# The checks that look at an estimator's numbers and calls. The rest, of transformations, is run
# on a mutant only where it is the one that must fail: it costs more than it could tell.
PANEL = (
    "value_mean",
    "gradient_mean",
    "cost_parameters",
    "finite_draws",
    "constant_cost",
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


def test_the_list_holds_the_mistakes_that_published_code_has_made():
    assert len(MUTANTS) >= 10
    assert {m.killed_by for m in MUTANTS.values()} >= {
        "gradient_mean",
        "cost_parameters",
        "key_reuse",
        "batch_elements",
        "evaluations",
        "control_gradient",
        "masked_category",
        "derivative_order",
        "differentiability",
    }
