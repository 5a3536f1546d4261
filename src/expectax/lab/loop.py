"""The host's side of a run: visits, measurements, checkpoints, the progress bar, the end."""

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._errors import complain
from . import plots
from .checkpoint import Checkpoints, name_leaves
from .config import TrainConfig
from .data import Dataset, load
from .errors import NonFiniteError, UsageError
from .estimators import RECIPES
from .evaluate import final_bounds, measure, pictures
from .files import write_atomically
from .run_folder import RunFolder
from .train import Program, TrainState, program

NUM_POINTS = 50
"""Points on the curves, besides the one before training; each leaves a checkpoint."""

BOUND_SAMPLES = 100
"""m of the bound at the end."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Where a run stands, for whoever watches it."""

    step: int
    total: int
    train_elbo: float
    test_elbo: float


@dataclasses.dataclass(frozen=True)
class Results:
    """What a run came to: means over its seeds, in nats a picture, and the seeds' own values."""

    test_elbo: list[float]
    test_bound: list[float]
    num_samples: int
    steps_taken: int
    seconds: float


class Run:
    """One training run, made ready: data loaded, programs compiled, nothing written yet.

    Arguments:
        config: the run.
        visit_seconds: about how often the host looks in.

    Raises:
        UsageError: an option or a data file that cannot work.
        IncompatibleError: the estimator cannot serve the model's latents.
    """

    def __init__(self, config: TrainConfig, visit_seconds: float = 0.5):
        config.check()
        self.config = config
        self.visit_seconds = visit_seconds
        self.data: Dataset = load(config.data, config.data_dir)
        _check_batch(config, self.data)
        self.program: Program = program(config)
        self._visit = 1
        self._kept: int | None = None
        # no step is taken, but the whole step is traced: what cannot work raises here
        self.start: TrainState = self.program.advance(self.program.init(self.data), self.data, 0)

    @property
    def every(self) -> int:
        """Steps between two points of the curves."""
        return max(1, self.config.steps // NUM_POINTS)

    def train(
        self,
        folder: RunFolder,
        *,
        report: Callable[[Report], None] = lambda _: None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> Results:
        """Train from the folder's last whole checkpoint, or from the start, to the end.

        Arguments:
            folder: a run's folder, with its config written.
            report: called at every visit.
            warn: called with one line for every damaged checkpoint.

        Raises:
            NonFiniteError: the objective or a parameter is not finite. The last checkpoint is from
                before that.
        """
        checkpoints = Checkpoints(folder.checkpoints)
        found = checkpoints.restore_latest(self.start, warn)
        first, state = found if found is not None else (0, self.start)
        self._kept = first if found is not None else None
        folder.forget_after(first if found is not None else -1)
        if found is None:
            folder.append(_rows(state, self._measure(state), 0))
        began, step = time.perf_counter(), first
        while step < self.config.steps:
            point = min(self.config.steps, step - step % self.every + self.every)
            state = self._advance_to(point, state, step, _last(folder), report)
            # rows first: a checkpoint promises that the metrics up to its step are written
            folder.append(_rows(state, self._measure(state), point - step))
            state, step = _forget_objective(state), point
            checkpoints.save(step, state)
            self._kept = step
            report(Report(step, self.config.steps, *_last(folder)))
        checkpoints.close()
        taken, seconds = self.config.steps - first, time.perf_counter() - began
        return self._finish(folder, state, taken, seconds)

    def _advance_to(
        self,
        point: int,
        state: TrainState,
        step: int,
        last: tuple[float, float],
        report: Callable[[Report], None],
    ) -> TrainState:
        """Take the steps to `point`, looking in about every `visit_seconds`."""
        while step < point:
            visit = min(self._visit, point - step)
            began = time.perf_counter()
            after = self.program.advance(state, self.data, visit)
            self._check_finite(state, after, step, visit)
            state, step = after, step + visit
            report(Report(step, self.config.steps, *last))
            pace = visit / max(time.perf_counter() - began, 1e-6)
            self._visit = max(1, min(4 * self._visit, int(pace * self.visit_seconds)))
        return state

    def _measure(self, state: TrainState) -> dict[str, Array]:
        values = measure(state, self.data, self.config.batch_size)
        for name, value in values.items():
            if not np.isfinite(value).all():
                raise NonFiniteError(_stopped(int(state.step), f"{name} is not finite", self._kept))
        return values

    def _check_finite(self, before: TrainState, after: TrainState, step: int, visit: int) -> None:
        """Raise if anything is not finite, naming the step and the leaf where it began.

        The steps of the visit are taken again one by one, by the same compiled program and so with
        the same bits: finding the culprit costs nothing until there is one.
        """
        if all(_finite(after).values()):
            return
        state = before
        for again in range(step + 1, step + visit + 1):
            state = self.program.advance(state, self.data, 1)
            bad = [name for name, finite in _finite(state).items() if not finite]
            if bad:
                raise NonFiniteError(_stopped(again, _describe(bad), self._kept))

    def _finish(
        self, folder: RunFolder, state: TrainState, steps_taken: int, seconds: float
    ) -> Results:
        elbo, bound = final_bounds(state, self.data, BOUND_SAMPLES)
        results = Results(elbo.tolist(), bound.tolist(), BOUND_SAMPLES, steps_taken, seconds)
        kept = {
            "step": self.config.steps,
            "test_elbo": results.test_elbo,
            f"test_bound_{BOUND_SAMPLES}": results.test_bound,
        }
        write_atomically(folder.results, json.dumps(kept, indent=1) + "\n")
        self._draw(folder, state, results)
        return results

    def _draw(self, folder: RunFolder, state: TrainState, results: Results) -> None:
        c = self.config
        what = f"{c.model} VAE on {c.data}, {RECIPES[c.estimator].estimator.__name__}"
        plots.draw_curves(folder.curves, folder.rows(), what)
        shown = {name: np.asarray(x) for name, x in pictures(state, self.data, 36).items()}
        blocks = {
            "Test pictures": shown["data"],
            "Their reconstructions": shown["reconstructions"],
            "Draws from the prior": shown["prior"],
        }
        bound = f"test ELBO {results.test_elbo[0]:.1f} nats".replace("-", "−")
        plots.draw_samples(folder.samples, blocks, self.data.shape, f"{what}: {bound}")


def _check_batch(config: TrainConfig, data: Dataset) -> None:
    if config.batch_size > len(data.train):
        raise UsageError(
            complain(
                f"--batch-size is {config.batch_size}",
                f"{config.data} has {len(data.train)} training pictures",
                "pass a smaller one",
            )
        )


@eqx.filter_jit
def _all_finite(leaves: dict[str, Array]) -> dict[str, Array]:
    return {name: jnp.all(jnp.isfinite(leaf)) for name, leaf in leaves.items()}


def _finite(state: TrainState) -> dict[str, bool]:
    """Whether each leaf is finite, by name: the objective, what is learned, Adam's moments."""
    parts = {"objective": state.seeds.objective} | name_leaves(state.seeds.learned)
    # a moment that overflows freezes its parameter without a trace in the objective
    parts |= {f"optimizer.{name}": x for name, x in name_leaves(state.seeds.optimizer).items()}
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


def _rows(state: TrainState, values: dict[str, Array], since: int) -> list[dict[str, Any]]:
    """The metrics' rows of one point, one for each seed; `since` steps are in the objective."""
    values = jax.device_get(values)
    objective = jax.device_get(state.seeds.objective)
    return [
        {"step": int(state.step), "seed": seed}
        | {"objective": float(total) / since if since else None}
        | {name: float(value[seed]) for name, value in values.items()}
        for seed, total in enumerate(objective)
    ]


def _last(folder: RunFolder) -> tuple[float, float]:
    """Train and test bound of the last point, means over seeds."""
    rows = folder.rows()
    if not rows:  # the file was taken away; the checkpoints do not need it
        return float("nan"), float("nan")
    rows = [row for row in rows if row["step"] == rows[-1]["step"]]
    means = [float(np.mean([row[name] for row in rows])) for name in ("train_elbo", "test_elbo")]
    return means[0], means[1]


def _forget_objective(state: TrainState) -> TrainState:
    zeros = jnp.zeros_like(state.seeds.objective)
    return eqx.tree_at(lambda s: s.seeds.objective, state, zeros)
