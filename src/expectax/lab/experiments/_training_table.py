"""What contenders came to, beside the published figures: table, numbers, picture."""

import dataclasses
import os
import pathlib
import platform
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import rich.console

from ._base import Row, print_table, save
from ._training_plan import Contender, Outcome, Plan, choices
from ._training_plot import draw
from ._verdicts import Published, Verdict, Z, mean_and_error


def judge(values: np.ndarray, published: str, plan: Plan, contender: Contender) -> Verdict:
    """The comparison, honest about what was not done.

    Arguments:
        values: ours, one a seed.
        published: as printed; empty for none.
        plan: the experiment.
        contender: who.
    """
    if not published:
        return Verdict(None, "")
    mean, error = mean_and_error(values)
    off, steps = mean - Published(published).value, contender.task.steps
    by = f"{off:+.2f}".replace("-", "−")
    if steps < plan.published_steps:
        done = f"{steps:,} of {plan.published_steps:,} steps"
        return Verdict(None, f"not comparable: {done} ({by})")
    if contender.note:
        return Verdict(None, f"not comparable: {contender.note} ({by})")
    if len(values) == 1:
        return Verdict(None, f"a single seed ({by})")
    if Z * error > plan.tolerance:
        return Verdict(False, f"underpowered: {Z:g} s.e. are {Z * error:.2f} ({by})")
    holds = abs(off) <= plan.tolerance
    return Verdict(holds, f"{'agrees' if holds else 'DISAGREES'} within {plan.tolerance:g}: {by}")


def rows(plan: Plan, outcomes: Mapping[str, Outcome]) -> list[Row]:
    """The table: each figure of each contender, then what a step cost."""
    table = []
    for figure in plan.figures:
        for contender in plan.contenders:
            task, values = contender.task, outcomes[contender.name].figures.get(figure)
            if values is None:
                continue
            published = contender.published.get(figure, "")
            words = task.words(figure)
            verdict = judge(values, published, plan, contender)
            unit = f", {task.unit(figure)}" if task.unit(figure) else ""
            cells = (contender.name, words, *mean_and_error_of(values), published, verdict)
            table.append(Row(f"{words}{unit}", *cells, contender.evaluations))
            if figure in plan.largest and len(values) > 1:
                cells = (contender.name, "largest of the seeds", float(values.max()))
                table.append(Row(f"{words}{unit}", *cells))
    table += plan.beside(outcomes)
    for contender in plan.contenders:
        task = contender.task
        each = outcomes[contender.name].seconds / (task.steps * task.num_seeds)
        cells = (contender.name, "ms a step and seed", 1e3 * each)
        group = "time, as the machine was: shared, measurements aside"
        table.append(Row(group, *cells, evaluations=contender.evaluations))
    return table


def mean_and_error_of(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard error over seeds; of a single seed there is no error to state."""
    return mean_and_error(values) if len(values) > 1 else (float(values[0]), float("nan"))


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is stored beside the table.

    Attributes:
        evaluations: of f, for a step and row of data, where all steps have as many.
    """

    steps: dict[str, int]
    published_steps: int
    seeds: int
    tasks: dict[str, dict[str, Any]]
    evaluations: dict[str, int]
    seconds: dict[str, float]
    machine: str


def report(
    name: str,
    plan: Plan,
    outcomes: Mapping[str, Outcome],
    run_dir: pathlib.Path,
    console: rich.console.Console,
) -> list[Row]:
    """Print and save the table, and draw the picture; returns the rows."""
    table = rows(plan, outcomes)
    tasks = {c.name: c.task for c in plan.contenders}
    first = next(iter(tasks.values()))
    settings = Settings(
        {name: task.steps for name, task in tasks.items()},
        plan.published_steps,
        first.num_seeds,
        {name: choices(task) for name, task in tasks.items()},
        {c.name: c.per_datum for c in plan.contenders if plan.counted},
        {name: outcomes[name].seconds for name in tasks},
        f"{platform.machine()}, {os.cpu_count()} cores, JAX on {jax.default_backend()}",
    )
    console.print(plan.protocol, markup=False, highlight=False)
    print_table(console, name, table)
    drawn = {c: outcomes[c].curves for c in tasks}
    save(run_dir, name, plan.protocol, settings, table, drawn)
    steps = " or ".join(f"{num:,}" for num in dict.fromkeys(settings.steps.values()))
    title = f"{name}: {steps} steps, {first.seeds}"
    draw(run_dir / f"{name}.png", title, plan.panels, drawn)
    console.print(f"Table, numbers and picture are in {run_dir}")
    return table
