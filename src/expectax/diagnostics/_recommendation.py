"""The result of `recommend`: a ranked table that prints, exports and draws itself."""

import dataclasses
import os
from typing import Any, NamedTuple

from .._errors import InvalidArgumentError, complain
from ..estimators import AbstractEstimator
from ._table import aligned, markdown, number

_HEADER = (
    "estimator",
    "var × s",
    "× best",
    "variance",
    "bias",
    "evals",
    "µs/step",
    "draws",
    "compile s",
    "learning s",
)


class Excluded(NamedTuple):
    """An estimator that is not ranked, and why."""

    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class RecommendationRow:
    """The figures of one estimator.

    Attributes:
        name: its class, with its number of draws where it has one.
        estimator: the instance, with what it has learned.
        score: variance × seconds per step; for a biased one mean squared error × seconds.
        variance: E‖g − E g‖² of one gradient; 0 where it is no more than rounding.
        bias: ‖E g − gradient‖ of a biased one, beyond what noise explains; None for an unbiased.
        seconds_per_step: median time of one gradient, and of learning, in a compiled loop.
        seconds_quartiles: the quartiles of that time.
        hard_evaluations: evaluations of f at draws of q, for one gradient.
        auxiliary_evaluations: evaluations of f elsewhere, for one gradient.
        num_draws: gradients drawn for the variance.
        compile_seconds: time to trace and compile.
        learning_seconds: time spent on what it learns.
    """

    name: str
    estimator: AbstractEstimator
    score: float
    variance: float
    bias: float | None
    seconds_per_step: float
    seconds_quartiles: tuple[float, float]
    hard_evaluations: int
    auxiliary_evaluations: int
    num_draws: int
    compile_seconds: float
    learning_seconds: float

    @property
    def evaluations(self) -> str:
        """Evaluations of f as text: at draws, and elsewhere."""
        hard, auxiliary = self.hard_evaluations, self.auxiliary_evaluations
        return f"{hard} + {auxiliary}" if auxiliary else str(hard)


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """Estimators ranked by variance × time on one q and f; `print` it for a table.

    Attributes:
        rows: those that were tried, the best first.
        excluded: (name, reason) of the others.
        budget_seconds: what was allowed.
        seconds: what was spent.
        compile_seconds: how much of it until all were compiled, and on compiling later ones.
    """

    rows: tuple[RecommendationRow, ...]
    excluded: tuple[Excluded, ...]
    budget_seconds: float
    seconds: float
    compile_seconds: float

    @property
    def best(self) -> AbstractEstimator:
        """The estimator to use, with what it has learned.

        Raises:
            InvalidArgumentError: none could be tried.
        """
        if self.rows:
            return self.rows[0].estimator
        raise InvalidArgumentError(
            complain(
                "the best estimator was asked of a recommendation without one",
                "; ".join(f"{name}: {reason}" for name, reason in self.excluded),
                "pass a larger budget_seconds, allow_biased=True, or estimators=[...]",
            )
        )

    @property
    def caption(self) -> str:
        """What came out, and what it took."""
        took = (
            f"{self.seconds:.1f} s of {self.budget_seconds:g}, "
            f"{self.compile_seconds:.1f} of them compiling"
        )
        if not self.rows:
            return f"no estimator could be recommended; {took}"
        first, *others = self.rows
        verdict = f"use {first.name}"
        if first.score == 0 and others:
            ratio = first.seconds_per_step / others[0].seconds_per_step
            verdict += f": it has no variance (at {number(ratio, 2)} times the time of the next)"
        elif others:
            ratio = others[0].score / first.score
            much = f"{number(ratio, 2)} times better than" if ratio >= 1.05 else "about as good as"
            verdict += f": {much} the next"
        return f"{verdict}; {took}"

    def _cells(self) -> list[list[str]]:
        best = self.rows[0].score if self.rows else 0.0
        return [
            [
                row.name,
                number(row.score),
                number(row.score / best if best else 1.0 if row.score == 0 else None, 2),
                number(row.variance),
                number(row.bias),
                row.evaluations,
                number(1e6 * row.seconds_per_step),
                str(row.num_draws),
                number(row.compile_seconds, 2),
                number(row.learning_seconds, 2),
            ]
            for row in self.rows
        ]

    @property
    def notes(self) -> list[str]:
        """Why the others are missing: a line for each reason."""
        names: dict[str, list[str]] = {}
        for name, reason in self.excluded:
            names.setdefault(reason, []).append(name)
        return [f"{', '.join(found)}: {reason}" for reason, found in names.items()]

    def __str__(self) -> str:
        return "\n".join([aligned(_HEADER, self._cells()), self.caption, *self.notes])

    def to_markdown(self) -> str:
        """A Markdown table, with the caption and the reasons below it."""
        table = markdown(_HEADER, self._cells())
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([table, "", self.caption, *(["", *notes] if notes else [])])

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, for JSON; estimators by their class."""
        fields = [f.name for f in dataclasses.fields(RecommendationRow)]
        rows = []
        for row in self.rows:
            figures = {name: getattr(row, name) for name in fields}
            figures["estimator"] = type(row.estimator).__name__
            figures["seconds_quartiles"] = list(row.seconds_quartiles)
            rows.append(figures)
        return {
            "rows": rows,
            "excluded": [excluded._asdict() for excluded in self.excluded],
            "budget_seconds": self.budget_seconds,
            "seconds": self.seconds,
            "compile_seconds": self.compile_seconds,
        }

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw variance, time and their product, and write the picture; the suffix is the format.

        Arguments:
            path: where to write, for example "recommend.png".

        Raises:
            ImportError: without matplotlib, which `expectax[lab]` brings.
        """
        from ._plot import Bar, draw  # matplotlib only when a picture is asked for

        bars = [
            Bar(
                name=row.name,
                unbiased=row.estimator.claims.unbiased,
                variance=row.variance,
                evaluations=row.hard_evaluations + row.auxiliary_evaluations,
                seconds_per_step=row.seconds_per_step,
                seconds_quartiles=row.seconds_quartiles,
            )
            for row in self.rows
        ]
        draw(bars, self.caption, None, path)
