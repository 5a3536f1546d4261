"""`kill -9` at any instant, then --resume: the end has the bits of a run that was not killed."""

import os
import pathlib
import random
import shutil
import subprocess
import sys
import time

import numpy as np
import orbax.checkpoint as ocp

STEPS = 1200
OPTIONS = [
    "train", "--steps", str(STEPS), "--num-latents", "6", "--batch-size", "20",
    "--estimator", "rebar", "--num-seeds", "2", "--seed", "3",
]  # fmt: skip


def begin(run_dir: pathlib.Path, compiled: pathlib.Path, *more: str) -> subprocess.Popen:
    """The command in a process of its own, with compiled programs of its own.

    A process killed while it writes an entry of JAX's cache leaves it torn, and reading a torn
    entry can hang: so each has a copy of what was compiled by one that was not killed.
    """
    cache = run_dir.parent / "cache"
    if compiled != cache:
        shutil.rmtree(cache, ignore_errors=True)
        shutil.copytree(compiled, cache)
    return subprocess.Popen(
        [sys.executable, "-m", "expectax.cli", *OPTIONS, "--run-dir", str(run_dir), *more],
        env={
            **os.environ,
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def num_rows(run_dir: pathlib.Path) -> int:
    metrics = run_dir / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def traces(run_dir: pathlib.Path) -> dict[str, bytes]:
    """Everything a run computes, as bytes."""
    found = {name: (run_dir / name).read_bytes() for name in ("metrics.jsonl", "results.json")}
    checkpointer = ocp.StandardCheckpointer()
    state = checkpointer.restore(run_dir.absolute() / "checkpoints" / str(STEPS) / "arrays")
    checkpointer.close()
    return found | {name: np.asarray(leaf).tobytes() for name, leaf in state.items()}


def test_killed_again_and_again_it_ends_as_if_never_killed(tmp_path):
    unbroken, killed = tmp_path / "first" / "run", tmp_path / "second" / "run"
    compiled = unbroken.parent / "cache"
    assert "test ELBO" in finish(begin(unbroken, compiled))
    expected = traces(unbroken)
    assert len(expected) > 30  # weights, moments, keys, data order: one entry each
    chance = random.Random(0)
    # before there is a folder; then after some more rows, at a moment within a point's time
    for rows in (None, 9, 19):
        process = begin(killed, compiled, "--resume")
        if rows is None:
            time.sleep(1.5)
        else:
            enough = num_rows(killed) + rows
            while num_rows(killed) < enough and process.poll() is None:
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.12))
        assert process.poll() is None, process.communicate()
        process.kill()
        process.communicate()
        assert not (killed / "results.json").exists()
    finish(begin(killed, compiled, "--resume"))
    found = traces(killed)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    for name in ("curves.png", "samples.png"):
        assert (killed / name).read_bytes()[:4] == b"\x89PNG"
