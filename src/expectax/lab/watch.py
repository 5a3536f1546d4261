"""What the command line shows of a run: a live bar, and the end."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import rich.progress
from rich.console import Console
from rich.text import Text

from .run_folder import RunFolder
from .show import show_lines
from .task import AbstractTask

if TYPE_CHECKING:  # optax, Orbax and matplotlib come with them: too slow for --help
    from .loop import Report, Results


@contextlib.contextmanager
def progress(console: Console, task: AbstractTask) -> Iterator["Callable[[Report], None]"]:
    """A live bar with step rate, figures and time left; nothing where there is no terminal."""
    bar = rich.progress.Progress(
        rich.progress.TextColumn("[bold]{task.description}"),
        rich.progress.BarColumn(bar_width=None),
        rich.progress.MofNCompleteColumn(),
        _Rate(),
        rich.progress.TextColumn("{task.fields[figures]}"),
        rich.progress.TimeRemainingColumn(compact=True),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with bar:
        row = bar.add_task("training", total=task.steps, figures="")

        def report(now: "Report") -> None:
            if not bar.tasks[row].completed:  # a resumed run does not begin at zero
                bar.reset(row, total=task.steps, completed=now.step)
            shown = [name for name in task.headline if name in now.last]
            figures = [f"{task.words(name)} {mean_and_error(now.last[name])}" for name in shown]
            bar.update(row, completed=now.step, figures=", ".join(figures))

        yield report


class _Rate(rich.progress.ProgressColumn):
    """Steps a second."""

    def render(self, task: rich.progress.Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} steps/s", style="cyan")


def mean_and_error(values: list[float], digits: int = 2) -> str:
    """`mean`, or `mean ± s.e.` over seeds.

    Example:
        >>> mean_and_error([1.0]), mean_and_error([1.0, 3.0])
        ('1.00', '2.00 ± 1.00')
    """
    mean = f"{np.mean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {np.std(values, ddof=1) / len(values) ** 0.5:.{digits}f}"


def show_results(
    console: Console, task: AbstractTask, summary: str, folder: RunFolder, results: "Results"
) -> None:
    """The end of a run: its figures, speed, and where everything is."""
    seeds = f", {task.seeds} (mean ± s.e.)" if task.num_seeds > 1 else ""
    console.print(
        f"[bold]{task.title}[/bold]: {task.steps:,} steps of {task.batch_size}{seeds}",
        highlight=False,
    )
    lines = {"data": summary}
    for name, values in results.figures.items():
        unit = f" {task.unit(name)}" if task.unit(name) else ""
        lines[task.words(name)] = f"{mean_and_error(values)}{unit}"
    if results.steps_taken:
        rate = results.steps_taken / max(results.seconds, 1e-9)
        lines["time"] = (
            f"{results.seconds:.1f} s for {results.steps_taken:,} steps and their measurements, "
            f"{rate:,.0f} steps/s"
        )
    if results.num_devices > 1:
        lines["devices"] = f"{results.num_devices}, the batch spread over them"
    lines["run folder"] = str(folder.path)
    lines |= {path.stem: str(path) for path in results.files}
    lines |= {"metrics": str(folder.metrics), "checkpoints": str(folder.checkpoints)}
    show_lines(console, lines)
