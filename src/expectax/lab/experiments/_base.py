"""What a published experiment is: a name, a run, rows *published | ours ± s.e. | verdict*."""

import dataclasses
import importlib.metadata
import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import rich.console
import rich.table
from rich.markup import escape

from ..._errors import complain
from ..errors import UsageError
from ._verdicts import NOT_JUDGED, Verdict

HEADINGS = ("estimator", "f", "quantity", "published", "ours ± s.e.", "verdict")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A published experiment that can be run again.

    Attributes:
        name: what `expectax reproduce` calls it.
        summary: one line.
        reproduce: the run itself, into a folder that exists and is empty.
    """

    name: str
    summary: str
    reproduce: Callable[[pathlib.Path, bool, rich.console.Console], None]

    def run(self, run_dir: pathlib.Path, quick: bool, console: rich.console.Console) -> None:
        """Run, print the table, and leave it in `run_dir` as JSON and markdown, with pictures.

        Arguments:
            run_dir: a folder that does not exist or is empty.
            quick: a minute's version: fewer runs and steps.
            console: where progress and the table go.

        Raises:
            UsageError: `run_dir` is a file or is not empty. Nothing has been written.
        """
        self.reproduce(fresh_directory(run_dir), quick, console)


@dataclasses.dataclass(frozen=True)
class Row:
    """One number, beside the published one.

    Attributes:
        group: the part of the table it stands in.
        name: what was measured, on what (the estimator).
        quantity: which of its numbers.
        published: the published figure as it was printed, or empty.
        ours: our figure.
        standard_error: of `ours`, over runs or draws; NaN for a figure that is not a mean.
        verdict: the comparison.
        evaluations: of f, hard + relaxed, for one step.
    """

    group: str
    name: str
    quantity: str
    ours: float
    standard_error: float = math.nan
    published: str = ""
    verdict: Verdict = NOT_JUDGED
    evaluations: str = ""

    @property
    def figures(self) -> tuple[str, str, str]:
        """Quantity, published, ours ± s.e."""
        ours = with_error(self.ours, self.standard_error)
        return self.quantity, self.published or "–", ours


def with_error(value: float, error: float) -> str:
    """`value ± error`, with two digits of the error.

    Example:
        >>> with_error(0.20254741, 6.2e-7), with_error(-1.5, math.nan), with_error(0.25, 0.0)
        ('0.20254741 ± 6.2e-07', '-1.5', '0.25 ± 0')
    """
    if not math.isfinite(error):
        return f"{value:.6g}"
    if error == 0:
        return f"{value:.7g} ± 0"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.1e}"


def fresh_directory(path: pathlib.Path) -> pathlib.Path:
    """Make an empty folder, or raise before anything is written.

    Raises:
        UsageError: `path` is a file, or a folder with something in it.
    """
    if path.is_dir() and any(path.iterdir()):
        why = "it is not empty, and results there would be mixed with these or lost"
    elif path.exists() and not path.is_dir():
        why = "it is a file, and results go into a folder"
    else:
        path.mkdir(parents=True, exist_ok=True)
        return path
    raise UsageError(
        complain(
            f"the run folder {path} cannot be used", why, "pass --run-dir with a folder that is new"
        )
    )


def print_table(console: rich.console.Console, title: str, rows: Sequence[Row]) -> None:
    """Print the rows, one section for each group, and count the verdicts."""
    for group in dict.fromkeys(row.group for row in rows):
        table = rich.table.Table(
            title=escape(f"{title} — {group}"), title_justify="left", pad_edge=False
        )
        for heading in HEADINGS:
            table.add_column(heading, overflow="fold")
        last = ""
        for row in rows:
            if row.group != group:
                continue
            style = {True: "green", False: "bold red", None: "dim"}[row.verdict.holds]
            table.add_row(
                *((escape(row.name), row.evaluations) if row.name != last else ("", "")),
                *map(escape, row.figures),
                f"[{style}]{escape(row.verdict.text)}[/{style}]",
            )
            last = row.name
        console.print(table)
    console.print(summary(rows), markup=False)


def summary(rows: Sequence[Row]) -> str:
    """How many of the judged rows hold."""
    judged = [row for row in rows if row.verdict.holds is not None]
    failed = [row for row in judged if not row.verdict.holds]
    line = f"{len(judged) - len(failed)} of {len(judged)} published or derived figures reproduced"
    missed = "; ".join(f"{row.name}, {row.quantity} ({row.group})" for row in failed)
    return f"{line}. Not: {missed}." if failed else f"{line}."


def save(
    run_dir: pathlib.Path,
    experiment: str,
    protocol: str,
    settings: Any,
    rows: Sequence[Row],
    curves: Mapping[str, Any],
) -> None:
    """Write `results.json` (settings, rows), `table.md` and `curves.json` (what is plotted)."""
    record = {
        "experiment": experiment,
        "protocol": protocol,
        "settings": dataclasses.asdict(settings),
        "versions": {name: importlib.metadata.version(name) for name in ("expectax", "jax")},
        "summary": summary(rows),
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    _write_json(run_dir / "results.json", record)
    _write_json(run_dir / "curves.json", curves)
    (run_dir / "table.md").write_text(_markdown(experiment, protocol, rows), encoding="utf-8")


def _write_json(path: pathlib.Path, tree: Any) -> None:
    path.write_text(json.dumps(_jsonable(tree), indent=1), encoding="utf-8")


def _jsonable(tree: Any) -> Any:
    """Plain types; numbers that are not finite, which JSON lacks, become null."""
    if isinstance(tree, Mapping):
        return {str(key): _jsonable(value) for key, value in tree.items()}
    if hasattr(tree, "tolist"):
        return _jsonable(tree.tolist())
    if isinstance(tree, list | tuple):
        return [_jsonable(value) for value in tree]
    if isinstance(tree, float):
        return float(f"{tree:.8g}") if math.isfinite(tree) else None
    return tree


def _markdown(experiment: str, protocol: str, rows: Sequence[Row]) -> str:
    lines = [f"# {experiment}", "", protocol, "", summary(rows)]
    for group in dict.fromkeys(row.group for row in rows):
        lines += ["", f"## {group}", ""]
        lines += ["| " + " | ".join(HEADINGS) + " |", "|---" * len(HEADINGS) + "|"]
        for row in rows:
            if row.group == group:
                cells = (row.name, row.evaluations, *row.figures, row.verdict.text)
                escaped = (cell.replace("|", "\\|") for cell in cells)
                lines.append("| " + " | ".join(escaped) + " |")
    return "\n".join(lines) + "\n"
