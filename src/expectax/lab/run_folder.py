"""The folder of one run: what lies where, and how it is kept consistent with the checkpoints."""

import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
from typing import Any, TypeVar

import jax

from .._errors import complain
from .errors import UsageError
from .files import TEMPORARY, write_atomically
from .task import AbstractTask

RUNS = pathlib.Path("runs")
"""Where runs lie that were given no folder."""


_Task = TypeVar("_Task", bound=AbstractTask)


class RunFolder:
    """`config.json`, `metrics.jsonl`, `times.jsonl`, `checkpoints/`, `results.json`, and pictures.

    The clock has a file of its own: everything else in the folder but the pictures has the same
    bits however often the run was killed.

    Arguments:
        path: the folder.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.config = path / "config.json"
        self.metrics = path / "metrics.jsonl"
        self.clock = path / "times.jsonl"
        self.tensorboard = path / "tensorboard"
        self.results = path / "results.json"
        self.checkpoints = path / "checkpoints"

    def create(self, task: AbstractTask) -> None:
        """Make the folder, if need be, and write the config: a folder with a config is a run.

        The file holds every choice, and the versions and the machine of what computed it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        names = ("expectax", "jax", "jaxlib", "equinox", "numpyro", "optax")
        versions = {name: importlib.metadata.version(name) for name in names}
        kind = type(task).__name__
        stored = {"task": kind, "config": task.to_json(), "versions": versions}
        stored["machine"] = machine()
        write_atomically(self.config, json.dumps(stored, indent=1) + "\n")

    def stored(self, kind: type[_Task]) -> _Task | None:
        """The task of the run that is here, or None if none was begun.

        Raises:
            UsageError: there is a config that cannot be read, or of another kind of task.
        """
        if not self.config.exists():
            return None
        try:
            stored = json.loads(self.config.read_text())
            if stored["task"] != kind.__name__:
                raise ValueError(f"it is a run of {stored['task']}")
            return kind.from_json(stored["config"])
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                complain(
                    f"{self.config} cannot be read",
                    f"{error}: it was altered, or is of another version",
                    "train into another --run-dir",
                )
            ) from error

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Add rows to the metrics; they are on disk when this returns."""
        _append(self.metrics, rows)

    def append_time(self, row: dict[str, Any]) -> None:
        """Add a row, of a step and the seconds and evaluations to it, to the times."""
        _append(self.clock, [row])

    def rows(self) -> list[dict[str, Any]]:
        """All whole rows of the metrics. A last line that was torn is left out."""
        return _rows(self.metrics)

    def times(self) -> list[dict[str, Any]]:
        """All whole rows of the times."""
        return _rows(self.clock)

    def forget_after(self, step: int) -> None:
        """Drop rows of steps that the resumed run is going to take again."""
        for path in (self.metrics, self.clock):
            kept = [row for row in _rows(path) if row["step"] <= step]
            if path.exists():
                write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))


def machine() -> dict[str, str]:
    """What kind of machine this is; nothing that tells one of a kind from another."""
    kinds = [device.device_kind for device in jax.devices()]
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "devices": ", ".join(f"{kinds.count(kind)} × {kind}" for kind in sorted(set(kinds))),
    }


def _append(path: pathlib.Path, rows: list[dict[str, Any]]) -> None:
    with open(path, "a") as file:
        file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())


def _rows(path: pathlib.Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def fresh_folder(path: pathlib.Path | None, stem: str) -> pathlib.Path:
    """A folder for a new run: `path`, or the first free `runs/<stem>-<n>`. It is not made yet.

    Raises:
        UsageError: `path` holds something already, or is no folder.
    """
    if path is None:
        numbered = (RUNS / f"{stem}-{n}" for n in itertools.count(1))
        return next(folder for folder in numbered if not folder.exists())
    for place in (path, *path.parents):
        if place.exists() and not place.is_dir():
            where = f"--run-dir {path} is " + ("a file" if place == path else f"in {place}, a file")
            raise UsageError(complain(where, "a run is a folder", "pass another --run-dir"))
    if path.is_dir() and any(path.iterdir()):
        is_run = RunFolder(path).config.exists()
        raise UsageError(
            complain(
                f"--run-dir {path} is not empty",
                "nothing is ever overwritten",
                ("pass --resume to go on with the run in it, or " if is_run else "pass ")
                + "another --run-dir",
            )
        )
    return path


def claim_folder(path: pathlib.Path | None, stem: str) -> pathlib.Path:
    """`fresh_folder`, made: another process that wants a folder of this stem gets the next.

    Raises:
        UsageError: as `fresh_folder`.
    """
    while True:
        folder = fresh_folder(path, stem)
        try:
            folder.mkdir(parents=True, exist_ok=path is not None)
        except FileExistsError:
            continue
        return folder


def unfinished_folder(path: pathlib.Path | None) -> pathlib.Path:
    """A folder to resume in: one that holds a run, or nothing (killed before it began).

    Raises:
        UsageError: no folder was given, or it holds something that is no run.
    """
    if path is None:
        raise UsageError(
            complain(
                "--resume was given without --run-dir", "it goes on with one run",
                f"pass --run-dir {RUNS}/NAME",
            )
        )  # fmt: skip
    if RunFolder(path).config.exists() or not path.exists():
        return path
    # a run that was killed while its config was being written leaves that and nothing else
    unwritten = f"{TEMPORARY}{RunFolder(path).config.name}"
    if path.is_dir() and all(p.name == unwritten for p in path.iterdir()):
        return path
    raise UsageError(
        complain(
            f"--run-dir {path} holds no run to resume",
            "there is no config.json in it",
            "pass the folder of a run, or drop --resume",
        )
    )
