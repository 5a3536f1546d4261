"""What the command line prints: tables, progress, results, errors in one line."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import rich.box
import rich.progress
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .._errors import ExpectaxError
from .config import TrainConfig
from .estimators import RECIPES
from .run_folder import RunFolder

if TYPE_CHECKING:  # optax, Orbax and matplotlib come with them: too slow for --help
    from .loop import Report, Results


def one_line(error: BaseException) -> str:
    """A message of three parts as one line.

    Example:
        >>> one_line(ValueError("it is 3\\n  why: 3 is odd\\n  instead: pass 2"))
        'it is 3: 3 is odd; pass 2'
    """
    return " ".join(str(error).split()).replace(" why: ", ": ", 1).replace(" instead: ", "; ", 1)


@contextlib.contextmanager
def progress(console: Console, total: int) -> Iterator["Callable[[Report], None]"]:
    """A live bar with step rate, bound and time left; nothing where there is no terminal."""
    bar = rich.progress.Progress(
        rich.progress.TextColumn("[bold]{task.description}"),
        rich.progress.BarColumn(bar_width=None),
        rich.progress.MofNCompleteColumn(),
        _Rate(),
        rich.progress.TextColumn("{task.fields[bound]}"),
        rich.progress.TimeRemainingColumn(compact=True),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task("training", total=total, bound="")

        def report(now: "Report") -> None:
            if not bar.tasks[task].completed:  # a resumed run does not begin at zero
                bar.reset(task, total=total, completed=now.step)
            bound = f"ELBO train {now.train_elbo:.2f}, test {now.test_elbo:.2f}"
            bar.update(task, completed=now.step, bound=bound)

        yield report


class _Rate(rich.progress.ProgressColumn):
    """Steps a second."""

    def render(self, task: rich.progress.Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} steps/s", style="cyan")


def mean_and_error(values: list[float]) -> str:
    """`mean`, or `mean ± s.e.` over seeds.

    Example:
        >>> mean_and_error([1.0]), mean_and_error([1.0, 3.0])
        ('1.00', '2.00 ± 1.00')
    """
    mean = f"{np.mean(values):.2f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {np.std(values, ddof=1) / len(values) ** 0.5:.2f}"


def show_results(
    console: Console, config: TrainConfig, summary: str, folder: RunFolder, results: "Results"
) -> None:
    """The end of a run: bounds on the test set, speed, and where everything is."""
    seeds = f", {config.num_seeds} seeds (mean ± s.e.)" if config.num_seeds > 1 else ""
    console.print(
        f"[bold]{config.model} VAE, {config.estimator}[/bold]: {config.steps:,} steps of "
        f"{config.batch_size}{seeds}"
    )
    nats = "nats a picture"
    lines = {
        "data": summary,
        "test ELBO": f"{mean_and_error(results.test_elbo)} {nats}",
        f"test {results.num_samples}-sample bound": f"{mean_and_error(results.test_bound)} {nats}",
    }
    if results.steps_taken:
        rate = results.steps_taken / max(results.seconds, 1e-9)
        lines["time"] = (
            f"{results.seconds:.1f} s for {results.steps_taken:,} steps and their measurements, "
            f"{rate:,.0f} steps/s"
        )
    paths = {
        "run folder": folder.path,
        "curves": folder.curves,
        "samples": folder.samples,
        "metrics": folder.metrics,
        "checkpoints": folder.checkpoints,
    }
    show_lines(console, lines | {name: str(path) for name, path in paths.items()})


def estimator_table() -> Table:
    """The estimators with their claims and options, all read from the classes."""
    table = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, row_styles=["", "on grey11"])
    table.add_column("--estimator [dim]class[/dim]", no_wrap=True)
    for heading in ("unbiased", "needs of q", "f'", "evaluations", "order", "learns"):
        table.add_column(heading)
    table.add_column("options and defaults", no_wrap=True)
    table.add_column("source")
    for name, recipe in RECIPES.items():
        claims = recipe.estimator.claims
        honest = "yes" if claims.unbiased else f"no (exact: {claims.exact_for})"
        options = [f"--{o.replace('_', '-')} {v}" for o, v in recipe.options.items()]
        table.add_row(
            f"[bold]{name}[/bold]\n[dim]{recipe.estimator.__name__}[/dim]",
            honest if claims.unbiased or claims.exact_for else "no",
            claims.needs.__name__,
            "yes" if claims.differentiable else "–",
            claims.cost,
            "any" if claims.order > 1 else f"{claims.order:g}",
            claims.learns or "–",
            "\n".join(options) or "–",
            claims.source,
        )
    return table


LEGEND = {
    "needs of q": "Scored: any; Factorized: Bernoulli, one-hot; Binary: Bernoulli; OneHot: "
    "one-hot; Averaged: its mean is known; Solvable: a draw maximises perturbed scores; Relaxable: "
    "and can be relaxed; Enumerable: outcomes can be listed; Reparameterized: continuous",
    "f'": "whether the cost must be differentiable in the draw",
    "evaluations": "of the cost for one gradient: S draws, D variables, C categories",
    "order": "how often the value may be differentiated",
}
"""What the headings of `estimator_table` mean."""


def note_damage(console: Console) -> Callable[[str], None]:
    """A printer of warnings."""
    return lambda line: console.print(f"[yellow]warning:[/yellow] {line}", soft_wrap=True)


def show_error(console: Console, error: ExpectaxError | str) -> None:
    """One line, whatever the width of the terminal."""
    line = error if isinstance(error, str) else one_line(error)
    console.print(Text.assemble(("error: ", "bold red"), line), soft_wrap=True)


def show_lines(console: Console, lines: Mapping[str, object]) -> None:
    """Names and what they are, one a line whatever the width, so that paths can be copied."""
    width = max(map(len, lines))
    for name, what in lines.items():
        line = Text.assemble((f"{name:<{width}}  ", "cyan"), str(what))
        console.print(line, soft_wrap=True)
