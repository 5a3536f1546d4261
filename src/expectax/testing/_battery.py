"""The battery: every check on an estimator, and a report."""

import dataclasses
from collections.abc import Callable, Iterable

from .._errors import UnderpoweredError
from ..distributions import Binary, OneHot, Reparameterized, Signed
from ..estimators import AbstractEstimator
from . import _catalog, _checks, _control, _counts, _transforms
from ._gates import Gate
from ._problems import Problem
from ._trial import CHECKS, Inapplicable, Trial

del _checks, _control, _transforms  # imported for the checks that they register


class ConformanceError(AssertionError):
    """An estimator failed a named check.

    Attributes:
        check: the name of the check.
    """

    def __init__(self, check: str, message: str):
        super().__init__(f"[{check}] {message}")
        self.check = check


@dataclasses.dataclass(frozen=True)
class Result:
    """What one check said of one trial: "passed", "failed" or "inapplicable", and why."""

    check: str
    trial: str
    outcome: str
    detail: str = ""


def run_check(name: str, trial: Trial) -> Result:
    """Run one check of `CHECKS`.

    Raises:
        ConformanceError: the estimator fails it.
        UnderpoweredError: there were too few draws to tell.
    """
    with trial.precision():
        try:
            CHECKS[name].run(trial)
        except Inapplicable as reason:
            return Result(name, trial.name, "inapplicable", str(reason))
        except UnderpoweredError:
            raise
        except AssertionError as error:
            raise ConformanceError(name, str(error)) from error
    return Result(name, trial.name, "passed")


_PROBLEMS: dict[type, tuple[Callable[[], Problem], ...]] = {
    Binary: (_catalog.bits, _catalog.single),
    OneHot: (_catalog.hots,),
    Reparameterized: (_catalog.gaussian, _catalog.gamma),
    Signed: (
        *(_catalog.bits, _catalog.hots, _catalog.gaussian, _catalog.gamma),
        _counts.counts,
    ),
}


def problems_for(estimator: AbstractEstimator | type[AbstractEstimator]) -> list[Problem]:
    """The problems that an estimator must stand, by what it needs of q."""
    kind = estimator if isinstance(estimator, type) else type(estimator)
    serve = _PROBLEMS.get(kind.claims.needs, (_catalog.bits, _catalog.hots, _catalog.tree))
    return [make() for make in serve]


def check_estimator(
    estimator: AbstractEstimator | Callable[[Problem], AbstractEstimator],
    *,
    problems: Iterable[Problem] | None = None,
    checks: Iterable[str] | None = None,
    gate: Gate | None = None,
    seed: int = 0,
) -> list[Result]:
    """Put an estimator, yours or ours, through the battery.

    Checks that concern the estimator rather than the problem run on the first problem only.

    Arguments:
        estimator: an instance; or a function from a problem to one, where its leaves must fit the
            problem's shapes.
        problems: by default those that its claims oblige it to serve.
        checks: names from `CHECKS`; by default all.
        gate: z and power of the statistical checks.
        seed: of every draw.

    Returns:
        One result per check and problem; every outcome is "passed" or "inapplicable".

    Raises:
        ConformanceError: listing every check that failed.
        UnderpoweredError: a check that could not have failed.

    Example:
        >>> import expectax as ex
        >>> from expectax.testing import check_estimator
        >>> results = check_estimator(ex.Enumerate(), checks=["value_mean", "gradient_mean"])
        >>> [(r.check, r.trial, r.outcome) for r in results][0]
        ('value_mean', 'Enumerate on bits', 'passed')
    """
    is_instance = isinstance(estimator, AbstractEstimator)
    if problems is None:
        first = estimator if is_instance else estimator(_catalog.bits())
        problems = problems_for(first)
    results = []
    for i, problem in enumerate(problems):
        made = estimator if is_instance else estimator(problem)
        trial = Trial(made, problem, gate=gate, seed=seed)
        for name in CHECKS if checks is None else checks:
            if i == 0 or CHECKS[name].every_problem:
                results.append(_attempt(name, trial))
    failures = [r for r in results if r.outcome == "failed"]
    if failures:
        report = "\n\n".join(f"{r.trial}: {r.detail}" for r in failures)
        raise ConformanceError(", ".join(dict.fromkeys(r.check for r in failures)), report)
    return results


def _attempt(name: str, trial: Trial) -> Result:
    try:
        return run_check(name, trial)
    except ConformanceError as error:
        return Result(name, trial.name, "failed", str(error))
