"""What is in run folders, for a report. Nothing here is written, and nothing is trusted."""

import dataclasses
import json
import math
import pathlib
import zipfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from ..._errors import complain
from ..errors import UsageError
from ..run_folder import RunFolder

SAMPLES = "samples.npz"
_OTHER = ("step", "seed")  # of a row: what is no figure


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """One training run, finished or not.

    Attributes:
        path: of its folder.
        name: what it is called beside the others.
        task: the kind of task.
        config: its choices, by name.
        machine: the versions and the machine of what computed it.
        axes: "step", and "seconds" and "evaluations" where they are known, at each point; NaN
            where one is not.
        curves: figures at each point; NaN where there is none.
        results: what it came to, a value for each seed; empty as long as it has not.
        blocks: pictures by title, each (n, height, width) in [0, 1].
    """

    path: pathlib.Path
    name: str
    task: str
    config: dict[str, Any]
    machine: dict[str, str]
    axes: dict[str, Float[np.ndarray, "points"]]
    curves: dict[str, Float[np.ndarray, "seeds points"]]
    results: dict[str, list[float]]
    blocks: dict[str, Float[np.ndarray, "n height width"]]

    @property
    def step(self) -> int:
        """Steps of the last point."""
        return int(self.axes["step"][-1])

    @property
    def num_seeds(self) -> int:
        """Independent copies."""
        return len(next(iter(self.curves.values())))

    @property
    def figures(self) -> dict[str, list[float]]:
        """What it came to, and the last point of every curve that says more."""
        last = {name: values[:, -1].tolist() for name, values in self.curves.items()}
        return {name: x for name, x in last.items() if name != "objective"} | self.results


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that belong side by side: those of one experiment, or those that were given.

    Attributes:
        name: of the experiment; "" for runs that are of none.
        runs: in order; there may be none, where an experiment trains nothing.
        record: `results.json` of the experiment; empty before it ends.
        pictures: PNG files that the experiment left.
        begun: names of runs that have no point yet.
    """

    name: str
    runs: tuple[RunRecord, ...]
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    pictures: tuple[pathlib.Path, ...] = ()
    begun: tuple[str, ...] = ()


def read_groups(paths: Sequence[pathlib.Path]) -> list[Group]:
    """What is in these folders: runs, reproductions, or folders that hold such.

    Raises:
        UsageError: a folder that is not there, holds no run, has no point yet, or is damaged.
    """
    loose: list[pathlib.Path] = []
    experiments: list[pathlib.Path] = []
    for path in paths:
        found = [path] if kind_of(_folder(path)) else [p for p in _children(path) if kind_of(p)]
        if not found:
            raise _no_run(path)
        for one in found:
            known = loose if kind_of(one) == "run" else experiments
            if one.resolve() not in [other.resolve() for other in known]:
                known.append(one)
    runs, begun = _read_runs(loose)
    if begun and not (runs or experiments):
        raise UsageError(
            complain(
                f"{begun[0]} has no point of its curves yet",
                "it was killed before its first measurement, or has just begun",
                "wait for it, or go on with it by expectax train --resume",
            )
        )
    groups = [Group("", runs, begun=tuple(str(path) for path in begun))] if runs or begun else []
    return groups + [_read_experiment(path) for path in experiments]


def kind_of(path: pathlib.Path) -> str:
    """What a folder holds: a "run", an "experiment", or neither."""
    if not path.is_dir():
        return ""
    for name in ("config.json", "results.json"):
        stored = read_json(path / name) if (path / name).exists() else {}
        for key, kind in (("task", "run"), ("experiment", "experiment")):
            if key in stored:
                return kind
    return ""


def _folder(path: pathlib.Path) -> pathlib.Path:
    if path.is_dir():
        return path
    is_file = path.exists()
    raise UsageError(
        complain(
            f"{path} is a file" if is_file else f"there is no folder {path}",
            "a report is of folders that expectax train or expectax reproduce left",
            f"pass {path.parent}" if is_file else "pass the folder of a run",
        )
    )


def _children(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(child for child in path.iterdir() if child.is_dir())


def _no_run(path: pathlib.Path) -> UsageError:
    empty = not any(path.iterdir())
    return UsageError(
        complain(
            f"{path} holds no run",
            "it is empty" if empty else "no config.json in it, or in a folder in it, names a task",
            "pass a folder that expectax train or expectax reproduce left",
        )
    )


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UsageError: it is none, or cannot be read.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(stored, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    return stored


def _damaged(path: pathlib.Path, why: str) -> UsageError:
    return UsageError(
        complain(f"{path} cannot be read", f"{why}: it was altered or cut", "leave its run out")
    )


def _read_experiment(path: pathlib.Path) -> Group:
    results = path / "results.json"
    record = read_json(results) if results.exists() else {}
    name = str(record.get("experiment") or read_json(path / "config.json").get("experiment"))
    rows = record.get("rows", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _damaged(results, "its rows are no list of JSON objects")
    if not isinstance(record.get("settings", {}), dict):
        raise _damaged(results, "the settings are no JSON object")
    order = [str(row.get("name")) for row in rows]
    rank = lambda child: order.index(child.name) if child.name in order else len(order)
    children = [child for child in _children(path) if kind_of(child) == "run"]
    runs, begun = _read_runs(sorted(children, key=rank))
    each = record.get("settings", {}).get("evaluations")
    runs = tuple(_with_evaluations(run, each) for run in runs)
    pictures = tuple(p for p in sorted(path.glob("*.png")) if not p.name.startswith("report-"))
    return Group(name, runs, record, pictures, tuple(p.name for p in begun))


def _with_evaluations(run: RunRecord, each: Any) -> RunRecord:
    """With the evaluations of f, where the experiment counts them: for a step and row of data."""
    count = number(each.get(run.name)) if isinstance(each, dict) else math.nan
    size = run.config.get("batch_size")
    if "evaluations" in run.axes or not (count > 0 and isinstance(size, int)):
        return run
    return dataclasses.replace(
        run, axes=run.axes | {"evaluations": run.axes["step"] * size * count}
    )


def _read_runs(
    paths: Sequence[pathlib.Path],
) -> tuple[tuple[RunRecord, ...], list[pathlib.Path]]:
    """The runs, and the folders of those without a point."""
    names = [path.resolve().name for path in paths]
    longer = [f"{path.resolve().parent.name}/{path.resolve().name}" for path in paths]
    if len(set(longer)) < len(longer):
        longer = [str(path) for path in paths]
    runs, begun = [], []
    for path, name, long in zip(paths, names, longer, strict=True):
        run = read_run(path, name if names.count(name) == 1 else long)
        begun += [path] if run is None else []
        runs += [] if run is None else [run]
    return tuple(runs), begun


def read_run(path: pathlib.Path, name: str) -> RunRecord | None:
    """One run, or None if it has no point yet.

    Raises:
        UsageError: it is damaged.
    """
    folder = RunFolder(path)
    stored = read_json(folder.config)
    config, machine = stored.get("config"), dict(_pairs(stored.get("versions")))
    if not isinstance(config, dict):
        raise _damaged(folder.config, "it holds no choices")
    rows = _whole_rows(folder.metrics, _OTHER)
    points = _points(rows, folder.metrics)
    if not points:
        return None
    axes, curves = points
    clock = {row["step"]: row for row in _whole_rows(folder.clock, ("step",))}
    for axis in ("seconds", "evaluations"):
        known = [number(clock.get(int(step), {}).get(axis)) for step in axes["step"]]
        if np.isfinite(known).any():  # of a run still going, the last may not be written yet
            axes[axis] = np.array(known)
    results = read_json(folder.results) if folder.results.exists() else {}
    return RunRecord(
        path, name, str(stored.get("task")), config,
        machine | dict(_pairs(stored.get("machine"))),
        axes, curves, _results(results, folder.results), read_blocks(path / SAMPLES),
    )  # fmt: skip


def _pairs(stored: Any) -> Iterable[tuple[str, str]]:
    return ((str(k), str(x)) for k, x in stored.items()) if isinstance(stored, dict) else ()


def _whole_rows(path: pathlib.Path, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """The rows of a file of lines; a last one that is being written is left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            whole = isinstance(row, dict) and all(type(row.get(key)) is int for key in keys)
        except (ValueError, RecursionError):
            whole = False
        if whole:
            rows.append(row)
        elif number < len(lines):
            raise _damaged(path, f"line {number} is no row of figures")
    return rows


def _points(
    rows: list[dict[str, Any]], path: pathlib.Path
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]] | None:
    """Axes and curves, of the points that every seed has reached."""
    seeds = sorted({row["seed"] for row in rows})
    found = {(row["seed"], row["step"]): row for row in rows}
    steps = sorted({row["step"] for row in rows})
    steps = [step for step in steps if all((seed, step) in found for seed in seeds)]
    names = dict.fromkeys(name for row in rows for name in row if name not in _OTHER)
    if not steps:
        return None
    if not names:
        raise _damaged(path, "its rows hold no figures")
    curves = {
        name: np.array([[number(found[seed, s].get(name)) for s in steps] for seed in seeds])
        for name in names
    }
    return {"step": np.array(steps, float)}, curves


def number(value: Any) -> float:
    """A figure; NaN for what is none."""
    try:
        known = isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        known = False
    return float(value) if known else math.nan


def _results(stored: dict[str, Any], path: pathlib.Path) -> dict[str, list[float]]:
    results = {name: values for name, values in stored.items() if name != "step"}
    for name, values in results.items():
        numbers = [*map(number, values)] if isinstance(values, list) else []
        if not numbers or not np.isfinite(numbers).all():
            raise _damaged(path, f"{name} is no list of numbers")
    return results


def read_blocks(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The pictures behind a sheet of samples; none if there is no file.

    Raises:
        UsageError: it is damaged.
    """
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            blocks = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise _damaged(path, str(error)) from error
    if not all(x.ndim == 3 and x.dtype == np.uint8 and x.size for x in blocks.values()):
        raise _damaged(path, "it holds something else than pictures")
    return {name: x / 255.0 for name, x in blocks.items()}
