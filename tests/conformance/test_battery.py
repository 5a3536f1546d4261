"""Every estimator through the battery; and every public estimator has a row."""

import inspect

import pytest

import expectax as ex
from expectax.testing import CHECKS, Gate, run_check

from .rows import BY_NAME, ROWS, trial

CASES = [
    pytest.param(row.name, problem, check, id=f"{row.name}-{problem}-{check}")
    for row in ROWS
    for problem, checks in row.plan()
    for check in checks
    if check not in row.skip
]


@pytest.mark.parametrize(("row", "problem", "check"), CASES)
def test_battery(row, problem, check):
    result = run_check(check, trial(row, problem))
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


def test_the_comparisons_are_within_the_false_alarm_budget():
    """z was computed for so many comparisons; a suite that outgrows them must raise it."""
    cells = {(row.name, problem) for row in ROWS for problem, _ in row.plan()}
    made = sum(trial(*cell).comparisons for cell in cells)
    assert made <= Gate().comparisons
    assert Gate().z < 4.5
