"""Experiments that train: contenders one after the other, each a run that survives a death.

An experiment is a plan: what is trained (a task for each contender), what was published about it,
and what is drawn. To write one: a function from `Asked` to a `Plan`, and a `TrainingExperiment`.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import rich.console

from ..._errors import complain
from ..errors import UsageError, either, unknown
from ..files import write_atomically
from ..run_folder import RunFolder
from ..task import at_least
from ._base import fresh_directory
from ._training_plan import Asked, Contender, Outcome, Plan, choices
from ._training_table import report

_NOTHING = Asked()


@dataclasses.dataclass(frozen=True)
class TrainingExperiment:
    """A published experiment that trains; `name`, `summary` and `run` are `Experiment`'s.

    Attributes:
        name: what `expectax reproduce` calls it.
        summary: one line.
        plan: what is trained, given what was asked.
        asked: by the command line.
        resume: whether the folder may hold a part of this very experiment.
        tensorboard: whether the metrics are written for TensorBoard, too.
    """

    name: str
    summary: str
    plan: Callable[[Asked], Plan]
    asked: Asked = _NOTHING
    resume: bool = False
    tensorboard: bool = False

    def run(self, run_dir: pathlib.Path, quick: bool, console: rich.console.Console) -> None:
        """Train each contender in a folder of its own, print the table, and leave it in `run_dir`.

        Arguments:
            run_dir: a folder that does not exist or is empty; to resume, one that holds a part.
            quick: a version of seconds.
            console: where progress and the table go.

        Raises:
            UsageError: `run_dir` cannot be used, or an option cannot work.
            NonFiniteError: a run broke. What was trained before stays.
        """
        asked = dataclasses.replace(self.asked, quick=quick)
        whole = self.plan(asked)
        plan = only(whole, asked.only)
        for name in ("steps", "num_seeds"):
            at_least(name, getattr(asked, name), 1)
        for contender in plan.contenders:
            contender.task.check()
        if not (self.resume and run_dir.exists()):
            fresh_directory(run_dir)
        _sign(run_dir, self.name, asked)
        plan = joined(whole, plan, run_dir)
        outcomes = {
            c.name: train(c, run_dir / c.name, console, tensorboard=self.tensorboard)
            for c in plan.contenders
        }
        report(self.name, plan, outcomes, run_dir, console)


def tailored(experiment: Any, given: Mapping[str, Any], **flags: bool) -> Any:
    """The experiment with what the command line asks of it besides the folder and --quick.

    Arguments:
        experiment: any.
        given: what changes its numbers, or where its data lie: of `Asked`.
        flags: what does not: `resume`, `tensorboard`.

    Raises:
        UsageError: it is none that trains.
    """
    if not given and not flags:
        return experiment
    if not isinstance(experiment, TrainingExperiment):
        names = ["--" + name.replace("_", "-") for name in (*given, *flags)]
        raise UsageError(
            complain(
                f"{either(names)} was asked of the experiment {experiment.name}",
                "it trains no model: it is run as it is, or with --quick",
                "drop it",
            )
        )
    return dataclasses.replace(experiment, asked=Asked(**given), **flags)


def only(plan: Plan, names: tuple[str, ...]) -> Plan:
    """The plan with these contenders, and those where they start; with all if no name is given.

    Raises:
        UsageError: no such contender.
    """
    known = [contender.name for contender in plan.contenders]
    for name in names:
        if name not in known:
            raise unknown("contender", name, known)
    asked = tuple(c for c in plan.contenders if not names or c.name in names)
    wanted = {name for contender in asked for name in (contender.name, contender.after)}
    kept = tuple(c for c in plan.contenders if c.name in wanted)
    return dataclasses.replace(plan, contenders=kept)


def joined(whole: Plan, asked: Plan, run_dir: pathlib.Path) -> Plan:
    """The plan with what is asked for, and what was trained to its end in the folder before."""
    names = {contender.name for contender in asked.contenders}
    there = lambda name: RunFolder(run_dir / name).results.exists()
    kept = tuple(c for c in whole.contenders if c.name in names or there(c.name))
    return dataclasses.replace(whole, contenders=kept)


def _sign(run_dir: pathlib.Path, name: str, asked: Asked) -> None:
    """Write what the folder is for, or see that it is for this.

    Which contenders run and where the data lies may change: neither changes a number.
    """
    plain = {"only": None, "data_dir": None}
    mine = {"experiment": name, "asked": dataclasses.asdict(asked) | plain}
    path = RunFolder(run_dir).config
    if not path.exists():
        run_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(mine, indent=1) + "\n")
    elif (theirs := json.loads(path.read_text())) != mine:
        raise UsageError(
            complain(
                f"--run-dir {run_dir} holds {theirs}",
                "it goes on as it was begun",
                "pass the same options, or another --run-dir",
            )
        )


def train(
    contender: Contender,
    path: pathlib.Path,
    console: rich.console.Console,
    *,
    tensorboard: bool = False,
) -> Outcome:
    """Train to the end, from wherever the folder's last checkpoint is; or read what is there.

    Raises:
        UsageError: the folder holds a run of something else.
    """
    from .. import show, watch
    from ..loop import Run

    folder, task = RunFolder(path), contender.task
    stored = folder.stored(type(task))
    if stored is None:
        folder.create(task)
    elif choices(stored) != choices(task):
        raise UsageError(
            complain(
                f"{path} holds another run than {contender.name}'s",
                "it was begun with other choices",
                "pass another --run-dir",
            )
        )
    if not folder.results.exists():
        with console.status(f"{contender.name}: compiling"):
            begun: Any = task
            data = begun.load_after(path.parent / contender.after) if contender.after else None
            run = Run(task, data)
        with watch.progress(console, task) as progress:
            warn = show.note_damage(console)
            run.train(folder, report=progress, warn=warn, tensorboard=tensorboard)
    results = json.loads(folder.results.read_text())
    figures = {name: np.array(x) for name, x in results.items() if name != "step"}
    return Outcome(figures, curves(folder))


def curves(folder: RunFolder) -> dict[str, np.ndarray]:
    """The points of a run: "step", "seconds", and every figure of shape (seeds, points)."""
    rows = folder.rows()
    steps = sorted({row["step"] for row in rows})
    seeds = sorted({row["seed"] for row in rows})
    clock = {row["step"]: row["seconds"] for row in folder.times()}
    found = {(row["seed"], row["step"]): row for row in rows}
    names = [name for name in rows[0] if name not in ("step", "seed", "objective")]
    each = {
        name: np.array([[found[seed, step][name] for step in steps] for seed in seeds])
        for name in names
    }
    return {"step": np.array(steps), "seconds": np.array([clock[s] for s in steps])} | each
