"""Runs that die past their middle and are gone on with: not a bit may depend on it."""

import io
import json
import shutil

import numpy as np
import orbax.checkpoint as ocp
import rich.console

from expectax.lab.experiments import EXPERIMENTS, _training
from expectax.lab.experiments._training_plan import Asked
from expectax.lab.journal import Journal
from expectax.lab.run_folder import RunFolder


def leave_copies(monkeypatch, folder):
    """From here on every run leaves a copy in `folder`, as a death past its middle leaves it.

    The copy has a checkpoint from the middle, and the rows of the point after it.
    """
    keep = Journal.keep

    def copying(self, step, state):
        steps = json.loads(self.folder.config.read_text())["config"]["steps"]
        copy = folder / self.folder.path.name
        if 2 * (self.kept or 0) >= steps and not copy.exists():
            self._checkpoints.wait()
            shutil.copytree(self.folder.path, copy)
        keep(self, step, state)

    monkeypatch.setattr(Journal, "keep", copying)


def traces(path):
    """Everything that must not depend on deaths: all that is learned, and every figure."""
    names = ("config.json", "metrics.jsonl", "results.json")
    found = {name: (path / name).read_bytes() for name in names}
    checkpointer = ocp.StandardCheckpointer()
    step = json.loads(found["results.json"])["step"]
    state = checkpointer.restore(path / "checkpoints" / str(step) / "arrays")
    checkpointer.close()
    return found | {name: np.asarray(leaf).tobytes() for name, leaf in state.items()}


def changed_by_death(whole, cut, go_on):
    """The names of what differs between a run that was left alone and one that died.

    Arguments:
        whole: the folder of the one, finished.
        cut: the folder of the other, as the death left it.
        go_on: goes on with that.
    """
    assert not (cut / "results.json").exists()
    *kept, lost = RunFolder(cut).times()
    go_on()
    times = RunFolder(cut).times()
    assert times[: len(kept)] == kept != []  # it did not begin anew
    assert times[len(kept)]["step"] == lost["step"]
    left, right = traces(whole), traces(cut)
    assert left.keys() == right.keys()
    return [name for name in left if left[name] != right[name]]


def changed_in_small(name, contender, whole, cut):
    """The same of a contender of an experiment in small.

    Arguments:
        name: the experiment's.
        contender: the one that died.
        whole: the experiment's folder, of this process: what was compiled for it serves again.
        cut: where the copies are.
    """
    (one,) = (
        c for c in EXPERIMENTS[name].plan(Asked(quick=True)).contenders if c.name == contender
    )
    console = rich.console.Console(file=io.StringIO())
    go_on = lambda: _training.train(one, cut / contender, console)
    return changed_by_death(whole / contender, cut / contender, go_on)
