"""Every estimator through the battery; and every public estimator has a row."""

import inspect
import math

import jax
import numpy as np
import pytest

import expectax as ex
from expectax.testing import CHECKS, Gate, run_check

from .rows import BY_NAME, PROBLEMS, ROWS, trial

CASES = [  # a row's checks on a problem share compiled programs: they go to one worker
    pytest.param(
        row.name,
        problem,
        check,
        id=f"{row.name}-{problem}-{check}",
        marks=pytest.mark.xdist_group(f"{row.name}-{problem}"),
    )
    for row in ROWS
    for problem, checks in row.plan()
    for check in checks
    if check not in row.skip
]


@pytest.mark.parametrize(("row", "problem", "check"), CASES)
def test_battery(row, problem, check):
    result = run_check(check, trial(row, problem))
    assert trial(row, problem).comparisons <= most_comparisons(row, problem)
    if check == "finite_draws":
        # where it does not concern an estimator is written in its row, so none is left out unseen
        assert (result.outcome == "passed") == (problem in BY_NAME[row].exact), result.detail


def estimators_without_a_row(public, rows):
    """The names of the public estimators that no row makes."""
    covered = {row.kind for row in rows}
    return [
        name
        for name, thing in public.items()
        if inspect.isclass(thing)
        and issubclass(thing, ex.AbstractEstimator)
        and thing is not ex.AbstractEstimator
        and thing not in covered
    ]


def test_every_public_estimator_has_a_row():
    assert estimators_without_a_row(vars(ex), ROWS) == []


def test_an_estimator_without_a_row_is_found():
    class Forgotten(ex.DisARM):
        """A new estimator that nobody gave a row."""

    planted = {**vars(ex), "Forgotten": Forgotten}
    assert estimators_without_a_row(planted, ROWS) == ["Forgotten"]
    without = [row for row in ROWS if row.kind is not ex.REBAR]
    assert estimators_without_a_row(vars(ex), without) == ["REBAR"]


def test_every_check_of_the_battery_runs_in_some_row():
    used = {check for row in ROWS for _, checks in row.plan() for check in checks}
    assert used == set(CHECKS)


def most_comparisons(row, problem):
    """How many numbers a row can compare on a problem, by the sizes of what it estimates."""
    size = lambda tree: sum(np.size(x) for x in jax.tree.leaves(tree))
    (checks,) = (checks for name, checks in BY_NAME[row].plan() if name == problem)
    at, claims = PROBLEMS[problem](), BY_NAME[row].kind.claims
    once = lambda p: size(p.params) + math.prod(p.batch_shape)
    return (
        once(at) * ("gradient_mean" in checks)
        + size(at.params["q"]) * ("exact_for" in checks and bool(claims.exact_for))
        + size(at.params) * ("derivative_order" in checks and claims.order > 1)
        + (once(at.layers) if "nested" in checks and at.layers else 0)
    )


def test_the_comparisons_are_within_the_false_alarm_budget():
    """z was computed for so many comparisons; a suite that outgrows them must raise it."""
    cells = {(row.name, problem) for row in ROWS for problem, _ in row.plan()}
    most = sum(most_comparisons(*cell) for cell in cells)
    assert Gate().comparisons / 8 < most <= Gate().comparisons
    assert Gate().z < 4.5
