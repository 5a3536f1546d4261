"""One bit: minimise E[(b − t)²] over a single log-odds, with every estimator that can.

The loss is p (1 − t)² + (1 − p) t². For t near ½ its gradient p (1 − p) (1 − 2t) is tiny while f
itself is about ¼, so what counts is whether an estimator removes that constant.

Reference: Tucker et al. (2017), section 5.1; Grathwohl et al. (2018), section 5.1.
"""

import pathlib
from collections.abc import Sequence

import rich.console
import rich.progress

from . import _one_bit_plots
from ._base import Experiment, Row, print_table, save
from ._one_bit_contenders import CONTENDERS, LEARNING_RATE, SIMULATED_RUNS, Contender
from ._one_bit_runs import FULL, QUICK, Settings, simulate
from ._one_bit_table import rows

NAME = "one-bit"

PROTOCOL = (
    "One Bernoulli variable b with log-odds θ, from θ = 0; minimise E[(b − t)²] by Adam "
    f"{LEARNING_RATE:g}, one gradient estimate a step; control variates and baselines learn with "
    "the same Adam. The loss shown is exact, p (1 − t)² + (1 − p) t², and averaged over "
    "{num_runs} runs. f: evaluations of f for one step, at hard draws + elsewhere. Published means "
    f"are those of an independent simulation of {SIMULATED_RUNS} runs; single runs are read off "
    "the figures of Grathwohl et al. (2018); t and 1 − t are mirror images and share a published "
    "figure. The running mean (decay 0.99) begins with the first cost, so its first step has no "
    "baseline. “x % of the way”: from the loss at the start to the least loss."
)


def reproduce(run_dir: pathlib.Path, quick: bool, console: rich.console.Console) -> None:
    """Run every estimator at every t; print and save the table, and draw the pictures."""
    run(run_dir, QUICK if quick else FULL, console)


def run(
    run_dir: pathlib.Path,
    settings: Settings,
    console: rich.console.Console,
    contenders: Sequence[Contender] = CONTENDERS,
) -> list[Row]:
    """The experiment for given settings and contenders.

    Arguments:
        run_dir: an empty folder.
        settings: how much to run.
        console: for progress and the table.
        contenders: who runs.

    Returns:
        The rows of the table.
    """
    runs = {}
    with rich.progress.Progress(console=console, transient=True) as bar:
        task = bar.add_task("", total=len(contenders))
        for contender in contenders:
            bar.update(task, description=contender.name)
            runs[contender] = simulate(contender, settings)
            bar.advance(task)
    table = rows(runs, settings)
    protocol = PROTOCOL.format(num_runs=f"{settings.num_runs:,}")
    console.print(protocol, markup=False, highlight=False)
    print_table(console, NAME, table)
    curves = {
        contender.name: {
            "p_wrong_mean": kept.remaining.mean(1),
            "variance_mean": kept.variance.mean(1),
        }
        for contender, kept in runs.items()
    }
    save(run_dir, NAME, protocol, settings, table, curves)
    _one_bit_plots.draw(runs, settings, run_dir)
    console.print(f"Table, numbers and pictures are in {run_dir}")
    return table


EXPERIMENT = Experiment(
    NAME, "every estimator on one bit: loss, and variance of the gradient", reproduce
)
