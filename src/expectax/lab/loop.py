"""The host's side of a run: visits, measurements, checkpoints, the end. It knows no task."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._errors import complain
from . import devices, train
from .checkpoint import name_leaves
from .errors import NonFiniteError, UsageError
from .journal import Journal
from .run_folder import RunFolder
from .task import AbstractTask
from .train import Program, TrainState, program


@dataclasses.dataclass(frozen=True)
class Report:
    """Where a run stands, for whoever watches it.

    Attributes:
        step: steps taken.
        last: the last point's figures by name, a value for each seed.
    """

    step: int
    last: dict[str, list[float]]


@dataclasses.dataclass(frozen=True)
class Results:
    """What a run came to.

    Attributes:
        figures: by name, a value for each seed.
        steps_taken: in this life of the run.
        seconds: that they and their measurements took.
        num_devices: that the batch was spread over.
        files: that were drawn.
    """

    figures: dict[str, list[float]]
    steps_taken: int
    seconds: float
    num_devices: int
    files: list[Any]


class Run:
    """One training run, made ready: data loaded, programs compiled, nothing written yet.

    Arguments:
        task: what is trained.
        data: as the task loads it; by default it does.
        visit_seconds: about how often the host looks in.
        num_devices: how many devices the batch is spread over; by default as many as divide it.

    Raises:
        UsageError: an option or a data file that cannot work.
        IncompatibleError: the estimator cannot serve the model's latents.
    """

    def __init__(
        self,
        task: AbstractTask,
        data: Any = None,
        *,
        visit_seconds: float = 0.5,
        num_devices: int | None = None,
    ):
        task.check()
        self.task = task
        self.visit_seconds = visit_seconds
        data = task.load() if data is None else data
        _check_batch(task, data)
        self.mesh = devices.mesh_for(task.batch_size, num_devices)
        self.data = devices.replicate(data, self.mesh)
        self.program: Program = program(task)
        self._visit = 1
        begun = self._spread(self.program.init, self.data)
        # no step is taken, but the whole step is traced: what cannot work raises here
        self.start: TrainState = self._advance(begun, 0)
        self.evaluations = self._spread(train.evaluations, task, self.start, self.data)

    def _spread(self, program: Callable[..., Any], *args: Any) -> Any:
        """A program's result, on the devices of the run."""
        with devices.on(self.mesh):
            return program(*args)

    def _advance(self, state: TrainState, num_steps: int) -> TrainState:
        return self._spread(self.program.advance, state, self.data, num_steps)

    def train(
        self,
        folder: RunFolder | None,
        *,
        report: Callable[[Report], None] = lambda _: None,
        warn: Callable[[str], None] = lambda _: None,
        tensorboard: bool = False,
    ) -> Results:
        """Train from the folder's last whole checkpoint, or from the start, to the end.

        Arguments:
            folder: a run's folder, with its config written; None in every process but the first.
            report: called at every visit.
            warn: called with one line for every damaged checkpoint.
            tensorboard: whether to write the metrics for TensorBoard, too.

        Raises:
            NonFiniteError: the objective or a parameter is not finite. The last checkpoint is from
                before that.
        """
        with Journal(folder, warn, self.evaluations, tensorboard=tensorboard) as journal:
            return self._train(journal, report)

    def _train(self, journal: Journal, report: Callable[[Report], None]) -> Results:
        found = journal.restore(devices.local(self.start))
        if found is None:
            first, state = 0, self.start
            journal.point(0, self._measured(state, 0, journal), 0.0)
        else:
            first, state = found[0], devices.replicate(found[1], self.mesh)
        began, step, end = time.perf_counter(), first, self.task.steps
        while step < end:
            point = min(end, step - step % self.task.every + self.task.every)
            state, seconds = self._advance_to(point, state, step, journal, report)
            journal.point(point, self._measured(state, point - step, journal), seconds)
            state, step = self._spread(train.forget_objective, state), point
            journal.keep(step, devices.local(state))
            report(Report(step, journal.last))
        return self._finish(journal, state, end - first, time.perf_counter() - began)

    def _advance_to(
        self,
        point: int,
        state: TrainState,
        step: int,
        journal: Journal,
        report: Callable[[Report], None],
    ) -> tuple[TrainState, float]:
        """Take the steps to `point`, looking in about every `visit_seconds`; and their time."""
        started = time.perf_counter()
        while step < point:
            # a clock's affair, and all processes must take the same steps
            visit = devices.first_decides(lambda step=step: min(self._visit, point - step))
            began = time.perf_counter()
            after = self._advance(state, visit)
            self._check_finite(state, after, step, visit, journal.kept)
            state, step = after, step + visit
            report(Report(step, journal.last))
            pace = visit / max(time.perf_counter() - began, 1e-6)
            self._visit = max(1, min(4 * self._visit, int(pace * self.visit_seconds)))
        return state, time.perf_counter() - started

    def _measured(self, state: TrainState, since: int, journal: Journal) -> list[dict[str, Any]]:
        """One point's rows, one for each seed; `since` steps are in the objective."""
        values = self._spread(train.measure, self.task, state, self.data)
        mine = devices.local((values, state.seeds.objective, state.step))
        values, objective, step = jax.device_get(mine)
        for name, value in values.items():
            if not np.isfinite(value).all():
                raise NonFiniteError(_stopped(int(step), f"{name} is not finite", journal.kept))
        return [
            {"step": int(step), "seed": seed}
            | {"objective": float(total) / since if since else None}
            | {name: float(value[seed]) for name, value in values.items()}
            for seed, total in enumerate(objective)
        ]

    def _check_finite(
        self, before: TrainState, after: TrainState, step: int, visit: int, kept: int | None
    ) -> None:
        """Raise if anything is not finite, naming the step and the leaf where it began.

        The steps of the visit are taken again one by one, by the same compiled program and so with
        the same bits: finding the culprit costs nothing until there is one.
        """
        if all(_finite(after).values()):
            return
        state = before
        for again in range(step + 1, step + visit + 1):
            state = self._advance(state, 1)
            bad = [name for name, finite in _finite(state).items() if not finite]
            if bad:
                raise NonFiniteError(_stopped(again, _describe(bad), kept))

    def _finish(
        self, journal: Journal, state: TrainState, steps_taken: int, seconds: float
    ) -> Results:
        figures, shown = (
            devices.local(self._spread(program, self.task, state, self.data))
            for program in (train.finish, train.pictures)
        )
        figures = {name: np.asarray(value).tolist() for name, value in figures.items()}
        files = []
        if (folder := journal.folder) is not None:
            shown = {name: np.asarray(x) for name, x in shown.items()}
            data = devices.local(self.data)
            files = self.task.draw(folder.path, data, folder.rows(), shown, figures)
        journal.finish(self.task.steps, figures)  # last: a run with results has its pictures
        num = 1 if self.mesh is None else self.mesh.size
        return Results(figures, steps_taken, seconds, num, files)


def _check_batch(task: AbstractTask, data: Any) -> None:
    if task.batch_size > task.num_rows(data):
        raise UsageError(
            complain(
                f"--batch-size is {task.batch_size}",
                f"there are {task.num_rows(data)} rows to train on",
                "pass a smaller one",
            )
        )


@eqx.filter_jit
def _all_finite(leaves: dict[str, Array]) -> dict[str, Array]:
    return {name: jnp.all(jnp.isfinite(leaf)) for name, leaf in leaves.items()}


def _finite(state: TrainState) -> dict[str, bool]:
    """Whether each leaf is finite, by name: the objective, what is learned, Adam's moments."""
    seeds = devices.local(state.seeds)
    parts = {"objective": seeds.objective} | name_leaves(seeds.learned)
    # a moment that overflows freezes its parameter without a trace in the objective
    parts |= {f"optimizer.{name}": x for name, x in name_leaves(seeds.optimizer).items()}
    floats = {n: x for n, x in parts.items() if eqx.is_inexact_array(x)}
    return {n: bool(ok) for n, ok in jax.device_get(_all_finite(floats)).items()}


def _describe(bad: list[str]) -> str:
    """The first leaf that is not finite, and how many more there are."""
    parameters = [name for name in bad if name != "objective"]
    if not parameters:
        return "objective is not finite, while every parameter still is"
    others = f", nor are {len(bad) - 1} others" if len(bad) > 1 else ""
    return f"{parameters[0]} is not finite{others}"


def _stopped(step: int, what: str, kept: int | None) -> str:
    checkpoint = f"step {kept}" if kept is not None else "none, for it was too early"
    return complain(
        f"training stopped at step {step}",
        what,
        f"pass a smaller --learning-rate, or another estimator (last checkpoint: {checkpoint})",
    )
