"""`kill -9` at random moments of a run of every experiment that trains, resumed after each.

A short run of one contender is left alone, another is killed again and again: each time after the
next point of its curves, within the time that a point takes; where there are fewer points than
kills, some at any moment, the start included. All that the two learned, and every
figure, must be the same bytes. It prints how often each was killed and what differed.

    python benchmarks/kills.py [--kills 10] [--steps 240] [--only dbm,rbm]

In the suite a run dies within its own process; this is the real thing, and takes some minutes for
each.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
import orbax.checkpoint as ocp

from expectax.lab.experiments import EXPERIMENTS
from expectax.lab.experiments._training import TrainingExperiment
from expectax.lab.experiments._training_plan import Asked

TRAINED = {n: e for n, e in EXPERIMENTS.items() if isinstance(e, TrainingExperiment)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10, help="of one run")
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--only", default=",".join(TRAINED), help="experiments")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    chance, sound = random.Random(options.seed), True
    for name in options.only.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            contender = TRAINED[name].plan(Asked(quick=True)).contenders[-1].name
            run = Killable(name, contender, options.steps, pathlib.Path(scratch))
            began = time.monotonic()
            kills, differing = run.compare(options.kills, chance)
            sound &= kills > 0 and not differing
            text = f"differs in {differing}" if differing else "the same bytes"
            took = time.monotonic() - began
            print(f"{name:24}{contender:34}{kills:3} kills  {text}  ({took:.0f} s)", flush=True)
    return 0 if sound else 1


class Killable:
    """An experiment's short run, as often as wanted."""

    def __init__(self, name: str, contender: str, steps: int, scratch: pathlib.Path):
        self.command = [
            sys.executable, "-m", "expectax.cli", "reproduce", name, "--quick", "--resume",
            "--only", contender, "--steps", str(steps),
        ]  # fmt: skip
        self.contender, self.scratch = contender, scratch

    def compare(self, kills: int, chance: random.Random) -> tuple[int, list[str]]:
        """How often a run was killed, and what differs from one that was not."""
        whole, cut = self.scratch / "whole", self.scratch / "cut"
        began = time.monotonic()
        self.finish(self.begin(whole, "compiled"))
        took, rows = time.monotonic() - began, self.rows(whole)
        seconds = self.seconds(whole) / rows
        done = 0
        while done < kills:
            process, before = self.begin(cut, "copy"), self.rows(cut)
            # a run of fewer points than kills is killed between them, too, and as it starts
            after = min(before + 1, (done + 1) * rows // (kills + 1))
            while self.rows(cut) < after and process.poll() is None:
                time.sleep(0.002)
            time.sleep(chance.uniform(0, seconds if after > before else took / 3))
            if process.poll() is not None or (cut / "results.json").exists():
                self.finish(process)
                break
            process.kill()
            process.wait()
            done += 1
        self.finish(self.begin(cut, "copy"))
        expected, found = self.traces(whole), self.traces(cut)
        names = sorted(expected.keys() | found.keys())
        return done, [name for name in names if expected.get(name) != found.get(name)]

    def begin(self, folder: pathlib.Path, cache: str) -> subprocess.Popen[str]:
        """The command, with a copy of what the run left alone had compiled: killed while it writes
        an entry, a process leaves it torn."""
        place = self.scratch / cache
        if cache != "compiled":
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(self.scratch / "compiled", place)
        return subprocess.Popen(
            [*self.command, "--run-dir", str(folder)],
            env={
                **os.environ,
                "JAX_COMPILATION_CACHE_DIR": str(place),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> None:
        _, err = process.communicate()
        if process.returncode:
            raise SystemExit(err)

    def lines(self, folder: pathlib.Path) -> list[str]:
        path = folder / self.contender / "times.jsonl"
        return path.read_text().splitlines() if path.exists() else []

    def rows(self, folder: pathlib.Path) -> int:
        return len(self.lines(folder))

    def seconds(self, folder: pathlib.Path) -> float:
        """Of training."""
        return json.loads(self.lines(folder)[-1])["seconds"]

    def traces(self, folder: pathlib.Path) -> dict[str, bytes]:
        """All that was learned, and every figure."""
        own = folder.absolute() / self.contender
        found = {name: (own / name).read_bytes() for name in ("metrics.jsonl", "results.json")}
        last = max((own / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
        checkpointer = ocp.StandardCheckpointer()
        state = checkpointer.restore(last / "arrays")
        checkpointer.close()
        return found | {name: np.asarray(leaf).tobytes() for name, leaf in state.items()}


if __name__ == "__main__":
    sys.exit(main())
