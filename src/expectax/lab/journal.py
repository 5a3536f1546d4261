"""What a run writes as it goes, in an order that survives a death at any instant.

Rows first, then the checkpoint: a checkpoint promises that the metrics up to its step are written.
What is resumed drops the rows that no checkpoint covers. Of several processes the first writes, and
the others are told what it found.
"""

import json
from collections.abc import Callable
from typing import Any, Self

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from . import devices
from .board import Board
from .checkpoint import Checkpoints, as_was, name_leaves, storable
from .files import write_atomically
from .run_folder import RunFolder


class Journal:
    """The metrics and checkpoints of one run.

    Arguments:
        folder: the run's; None in every process but the first.
        warn: called with one line for every damaged checkpoint.
        evaluations: of the cost, for a step of one seed; None if nobody knows.
        tensorboard: whether to write the metrics for TensorBoard, too.

    Attributes:
        kept: the step of the last checkpoint, None before there is one.
        seconds: what the steps so far took, in every life of the run.
        last: the last point's figures by name, a value for each seed.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        warn: Callable[[str], None],
        evaluations: int | None = None,
        *,
        tensorboard: bool = False,
    ):
        self.folder = folder
        self.kept: int | None = None
        self.seconds = 0.0
        self.last: dict[str, list[float]] = {}
        self._warn = warn
        self._tensorboard = tensorboard
        self._board: Board | None = None
        self._evaluations = evaluations
        self._checkpoints = None if folder is None else Checkpoints(folder.checkpoints)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._checkpoints is not None:
            self._checkpoints.close()
        if self._board is not None:
            self._board.close()

    def restore(self, like: PyTree) -> tuple[int, PyTree] | None:
        """Step and state of the last whole checkpoint, or None; rows after it are dropped.

        Arguments:
            like: a state with the same structure, shapes and types, of this process alone.
        """
        found = None
        if self.folder is not None and self._checkpoints is not None:
            found = self._checkpoints.restore_latest(like, self._warn)
            self.kept = None if found is None else found[0]
            self.folder.forget_after(-1 if found is None else found[0])
            times, rows = self.folder.times(), self.folder.rows()
            self.seconds = times[-1]["seconds"] if times else 0.0
            if self._tensorboard:
                self._board = Board(self.folder.tensorboard, rows)
            self._remember([row for row in rows if row["step"] == rows[-1]["step"]])
        if jax.process_count() > 1:
            found = _told(found, like)
            self.kept = None if found is None else found[0]
        return found

    def point(self, step: int, rows: list[dict[str, Any]], seconds: float) -> None:
        """Write one point of the curves, reached after `seconds` of taking steps."""
        self.seconds += seconds
        self._remember(rows)
        if self.folder is not None:
            self.folder.append(rows)
            if self._board is not None:
                self._board.add(rows)
            cost: dict[str, Any] = {"step": step, "seconds": round(self.seconds, 3)}
            if self._evaluations is not None:
                cost["evaluations"] = step * self._evaluations
            self.folder.append_time(cost)

    def keep(self, step: int, state: PyTree) -> None:
        """Keep the state as a checkpoint; it is written beside what comes next."""
        if self._checkpoints is not None:
            self._checkpoints.save(step, state)
        self.kept = step

    def finish(self, step: int, results: dict[str, list[float]]) -> None:
        """Write what the run came to."""
        if self.folder is not None:
            text = json.dumps({"step": step} | results, indent=1) + "\n"
            write_atomically(self.folder.results, text)

    def _remember(self, rows: list[dict[str, Any]]) -> None:
        names = [name for name in rows[0] if name not in ("step", "seed")] if rows else []
        self.last = {name: [row[name] for row in rows] for name in names}


def _told(found: tuple[int, PyTree] | None, like: PyTree) -> tuple[int, PyTree] | None:
    """What the first process has found, in all of them."""
    step = devices.first_decides(lambda: None if found is None else found[0])
    if step is None:
        return None
    raw = lambda tree: [np.asarray(storable(x)) for x in name_leaves(tree).values()]
    sent = b"" if found is None else b"".join(x.tobytes() for x in raw(found[1]))
    message, at, leaves = devices.tell(sent), 0, []
    for leaf, words in zip(name_leaves(like).values(), raw(like), strict=True):
        mine = np.frombuffer(message, words.dtype, words.size, at).reshape(words.shape)
        leaves.append(as_was(mine, leaf))
        at += words.nbytes
    arrays, static = eqx.partition(like, eqx.is_array)
    return step, eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), leaves), static)
