"""The metrics of a run for TensorBoard."""

import pathlib
import shutil
from typing import Any

import numpy as np


class Board:
    """Event files that hold what the metrics hold: every seed's figures, their mean and its error.

    Arguments:
        folder: for the event files; it is emptied. A killed run leaves points in it that are taken
            again, and perhaps a torn end: what was written before is written anew.
        rows: the metrics so far.
    """

    def __init__(self, folder: pathlib.Path, rows: list[dict[str, Any]]):
        from tensorboardX import SummaryWriter  # needed by few, and half a second to import

        shutil.rmtree(folder, ignore_errors=True)
        self._writer = SummaryWriter(str(folder))
        for step in dict.fromkeys(row["step"] for row in rows):
            self.add([row for row in rows if row["step"] == step])

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Add one point: a row for each seed."""
        names = [name for name in rows[0] if name not in ("step", "seed")]
        step = rows[0]["step"]
        for name in names:
            values = [row[name] for row in rows]
            if None in values:  # no objective before the first step
                continue
            self._writer.add_scalar(name, np.mean(values), step)
            if len(values) > 1:
                error = np.std(values, ddof=1) / len(values) ** 0.5
                self._writer.add_scalar(f"{name}/standard_error", error, step)
                for row, value in zip(rows, values, strict=True):
                    self._writer.add_scalar(f"{name}/seed_{row['seed']}", value, step)
        self._writer.flush()

    def close(self) -> None:
        """End the files."""
        self._writer.close()
