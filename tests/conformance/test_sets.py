"""Estimators on distributions over sets and orders, by the checks of the battery."""

import functools

import jax
import numpy as np
import pytest

import expectax as ex
from expectax.testing import Trial, _sets as sets, run_check

MEANS = ("value_mean", "gradient_mean", "cost_parameters")
EXACT = ("finite_draws", "masked_category")
RELAXED = ("gradient_mean", "exact_for", "masked_category", "dtypes")  # the bias is claimed
PROBLEMS = {make.__name__: make for make in (sets.subset, sets.top_set, sets.permutation)}
ROWS = {
    ("Enumerate", "subset"): (ex.Enumerate(), (*EXACT, "derivative_order", "dtypes")),
    ("LeaveOneOut", "subset"): (ex.LeaveOneOut(2), (*MEANS, *EXACT, "dtypes", "eager", "vmap")),
    ("ScoreFunction", "subset"): (ex.ScoreFunction(), (*MEANS, *EXACT)),
    ("UnorderedSet", "subset"): (ex.UnorderedSet(2), EXACT),
    ("SumAndSample", "permutation"): (ex.SumAndSample(2), EXACT),
    ("NVIL", "subset"): (ex.NVIL(0.3), EXACT),
    ("StraightThrough", "subset"): (ex.StraightThrough(), (*MEANS, *EXACT, "dtypes")),
    ("Enumerate", "top_set"): (ex.Enumerate(), (*EXACT, "derivative_order", "dtypes")),
    ("LeaveOneOut", "top_set"): (ex.LeaveOneOut(2), (*EXACT, "dtypes")),
    ("GumbelSoftmax", "top_set"): (ex.GumbelSoftmax(0.8), RELAXED),
    ("Enumerate", "permutation"): (ex.Enumerate(), (*EXACT, "derivative_order", "dtypes")),
    ("LeaveOneOut", "permutation"): (ex.LeaveOneOut(2), (*EXACT, "dtypes")),
    ("ScoreFunction", "permutation"): (ex.ScoreFunction(), EXACT),
    ("GumbelSoftmax", "permutation"): (ex.GumbelSoftmax(0.5), RELAXED),
    ("StraightThroughGumbelSoftmax", "permutation"): (
        ex.StraightThroughGumbelSoftmax(0.5),
        (*MEANS, "masked_category", "dtypes"),
    ),
}


@functools.lru_cache(maxsize=2)
def trial(row):
    with Trial.precision():
        return Trial(ROWS[row][0], PROBLEMS[row[1]]())


@pytest.mark.parametrize(
    ("row", "check"),
    [
        pytest.param(
            row, check, id="-".join((*row, check)), marks=pytest.mark.xdist_group(str(row))
        )
        for row, (_, checks) in ROWS.items()
        for check in checks
    ],
)
def test_sets(row, check):
    assert run_check(check, trial(row)).outcome == "passed"


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_oracle_is_right_by_another_road(name):
    problem = PROBLEMS[name]()
    with jax.enable_x64(True):
        exact = np.asarray(problem.exact(problem.params))
        total = np.asarray(problem.probabilities(problem.params["q"]).sum(axis=0))
    np.testing.assert_allclose(exact, problem.reference(problem.params), rtol=1e-12)
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)
