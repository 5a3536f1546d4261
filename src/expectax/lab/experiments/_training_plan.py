"""What an experiment that trains is made of: what was asked, who contends, what they came to."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import unknown
from ..task import AbstractTask
from ._base import Row
from ._training_plot import Panel


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the command line may ask of an experiment; None leaves it to the experiment.

    Attributes:
        quick: a version of seconds, on data that comes with the installation.
        steps: optimiser steps.
        num_seeds: independent copies.
        data: a data set that the experiment knows.
        data_dir: where its files lie.
        only: the contenders that run.
    """

    quick: bool = False
    steps: int | None = None
    num_seeds: int | None = None
    data: str | None = None
    data_dir: pathlib.Path | None = None
    only: tuple[str, ...] = ()

    def choose(self, name: str, full: Any, quick: Any) -> Any:
        """What was asked for under this name; else the full or the quick version's choice."""
        asked = getattr(self, name)
        return (quick if self.quick else full) if asked is None else asked

    def one_of(self, names: tuple[str, ...], quick: str = "digits") -> str:
        """The data set: one of these, the first by default.

        Raises:
            UsageError: the experiment was not published on what was asked for.
        """
        if (data := self.choose("data", names[0], quick)) not in (*names, quick):
            raise unknown("data set of this experiment", data, [*names, quick])
        return data


@dataclasses.dataclass(frozen=True)
class Contender:
    """One line of the table.

    Attributes:
        name: of its folder too.
        task: what is trained.
        evaluations: of f for one step, at hard draws + elsewhere.
        published: figures as printed, by the names of the task's own.
        note: why the published figure is not the same experiment's; empty if it is.
        after: the contender where this one starts, which is trained before it; empty if none. The
            task then has `load_after`, which is given that one's folder.
    """

    name: str
    task: AbstractTask
    evaluations: str
    published: Mapping[str, str] = dataclasses.field(default_factory=dict)
    note: str = ""
    after: str = ""

    @property
    def per_datum(self) -> int:
        """Evaluations of f for one step and row of data, wherever, if the plan is `counted`."""
        return sum(map(int, self.evaluations.split(" + ")))


@dataclasses.dataclass(frozen=True)
class Plan:
    """An experiment, as asked for.

    Attributes:
        protocol: what is done, for the head of the table.
        contenders: in the table's order.
        figures: those of a task's `finish` that the table shows, in order.
        panels: what is drawn.
        published_steps: optimiser steps of the published runs.
        tolerance: how far from the published figure a full run may come out and still agree:
            what the published figure's own precision is.
        largest: figures of which the table shows the largest of the seeds too.
        beside: further rows, from what all contenders came to.
        counted: whether each step of a contender has its `evaluations` for each row of data: then
            a report draws curves by them, too.
    """

    protocol: str
    contenders: tuple[Contender, ...]
    figures: tuple[str, ...]
    panels: tuple[Panel, ...]
    published_steps: int
    tolerance: float
    largest: tuple[str, ...] = ()
    beside: "Callable[[Mapping[str, Outcome]], list[Row]]" = lambda _: []
    counted: bool = False


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one contender came to.

    Attributes:
        figures: by name, a value for each seed.
        curves: by name, "step", "seconds", and figures of shape (seeds, points).
    """

    figures: dict[str, np.ndarray]
    curves: dict[str, np.ndarray]

    @property
    def seconds(self) -> float:
        """The time of all steps of all seeds; measurements aside."""
        return float(self.curves["seconds"][-1])


def choices(task: AbstractTask) -> dict[str, Any]:
    """What a task is, wherever its data lies."""
    return {name: x for name, x in task.to_json().items() if name != "data_dir"}
