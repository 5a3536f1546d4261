"""The result of `compare`: a table that prints, exports and draws itself."""

import csv
import dataclasses
import os
from pathlib import Path
from typing import Any

from ._table import aligned, markdown, number

_HEADER = (
    "estimator",
    "claims",
    "bias",
    "± s.e.",
    "max |z|",
    "variance",
    "SNR",
    "evals",
    "µs/step",
    "compile s",
    "var × evals",
    "var × s",
)


@dataclasses.dataclass(frozen=True)
class ComparisonRow:
    """The figures of one estimator; None where they are not known.

    Attributes:
        name: as the caller named it.
        estimator: its class.
        unbiased: what it claims.
        reason: why it cannot serve q or f; empty if it can, and then the rest is known.
        bias: ‖mean gradient − exact gradient‖, where enumeration is tractable.
        bias_error: the size that noise alone would give to `bias`, √(variance / num_draws).
        max_z: the largest |mean − exact| / SE over the entries.
        variance: E‖g − E g‖² of one gradient.
        signal_to_noise: ‖E g‖ / √variance.
        hard_evaluations: evaluations of f at draws of q, for one gradient.
        auxiliary_evaluations: evaluations of f elsewhere, for one gradient.
        seconds_per_step: median time of one gradient inside a compiled loop.
        seconds_quartiles: the quartiles of that time.
        compile_seconds: time to trace and compile the loop.
        variance_evaluations: variance × evaluations of f: the noise at equal evaluations.
        variance_seconds: variance × seconds_per_step: the noise at equal time.
    """

    name: str
    estimator: str
    unbiased: bool
    reason: str = ""
    bias: float | None = None
    bias_error: float | None = None
    max_z: float | None = None
    variance: float | None = None
    signal_to_noise: float | None = None
    hard_evaluations: int | None = None
    auxiliary_evaluations: int | None = None
    seconds_per_step: float | None = None
    seconds_quartiles: tuple[float, float] | None = None
    compile_seconds: float | None = None
    variance_evaluations: float | None = None
    variance_seconds: float | None = None

    @property
    def cells(self) -> list[str]:
        """The row as text."""
        microseconds = None if self.seconds_per_step is None else 1e6 * self.seconds_per_step
        hard, auxiliary = self.hard_evaluations, self.auxiliary_evaluations
        evaluations = "–" if hard is None else f"{hard} + {auxiliary}" if auxiliary else str(hard)
        return [
            self.name,
            "unbiased" if self.unbiased else "biased",
            number(self.bias),
            number(self.bias_error),
            number(self.max_z),
            number(self.variance),
            number(self.signal_to_noise),
            evaluations,
            number(microseconds),
            number(self.compile_seconds),
            number(self.variance_evaluations),
            number(self.variance_seconds),
        ]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Estimators side by side; `print` it for a table.

    Attributes:
        rows: one per estimator, in the caller's order.
        num_draws: gradients drawn for each row.
        num_outcomes: joint outcomes enumerated for the exact gradient, or None.
        gradient_norm: ‖exact gradient‖, or None.
    """

    rows: tuple[ComparisonRow, ...]
    num_draws: int
    num_outcomes: int | None
    gradient_norm: float | None

    @property
    def caption(self) -> str:
        """What the figures stand on."""
        if self.num_outcomes is None:
            exact = "no exact gradient: q cannot be enumerated, or has too many outcomes"
        else:
            exact = f"exact gradient of norm {number(self.gradient_norm)} by enumeration"
            exact += f" of {self.num_outcomes} outcomes"
        return f"{self.num_draws} gradients each; {exact}"

    @property
    def notes(self) -> list[str]:
        """Why estimators are missing."""
        return [f"{row.name}: {row.reason}" for row in self.rows if row.reason]

    def __str__(self) -> str:
        table = aligned(_HEADER, [row.cells for row in self.rows])
        return "\n".join([table, self.caption, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, for JSON."""
        return dataclasses.asdict(self)

    def to_markdown(self) -> str:
        """A Markdown table, with the caption and the reasons below it."""
        table = markdown(_HEADER, [row.cells for row in self.rows])
        notes = [f"- {' '.join(note.split())}" for note in self.notes]
        return "\n".join([table, "", self.caption, *(["", *notes] if notes else [])])

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write one line per estimator, unrounded; unknown figures are empty."""
        names = [field.name for field in dataclasses.fields(ComparisonRow)]
        names.remove("seconds_quartiles")
        header = [*names, "seconds_low_quartile", "seconds_high_quartile"]
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            for row in self.rows:
                quartiles = row.seconds_quartiles or ("", "")
                writer.writerow([*(getattr(row, name) for name in names), *quartiles])

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw every figure as a panel of bars, and write the picture; the suffix is the format.

        Arguments:
            path: where to write, for example "compare.png".

        Raises:
            ImportError: without matplotlib, which `expectax[lab]` brings.
        """
        from ._plot import Bar, draw  # matplotlib only when a picture is asked for

        able = [row for row in self.rows if not row.reason]
        refused = len(self.rows) - len(able)
        title = self.caption + (f"; {refused} cannot serve this q and f" if refused else "")
        bars = [
            Bar(
                name=row.name,
                unbiased=row.unbiased,
                variance=row.variance or 0.0,
                evaluations=(row.hard_evaluations or 0) + (row.auxiliary_evaluations or 0),
                seconds_per_step=row.seconds_per_step or 0.0,
                seconds_quartiles=row.seconds_quartiles or (0.0, 0.0),
                bias=row.bias or 0.0,
                bias_error=row.bias_error or 0.0,
            )
            for row in able
        ]
        draw(bars, title, self.gradient_norm, path)
