"""Damaged checkpoints, cut metrics, numbers that are not finite: in one process."""

import dataclasses
import json
import pathlib
import re
import shutil

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from expectax import cli
from expectax.lab import loop, task
from expectax.lab.train import program

STEPS = 24
OPTIONS = [
    "train", "--steps", str(STEPS), "--num-latents", "4", "--batch-size", "10",
    "--estimator", "relax", "--hidden", "5",
]  # fmt: skip


def run(*argv: object) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(a) for a in argv])
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert run(*OPTIONS, "--run-dir", folder) == 0
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run, as if it had died before its end was written."""
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    for name in ("results.json", "curves.png", "samples.png"):
        (folder / name).unlink()
    return folder


def traces(folder: pathlib.Path) -> dict[str, bytes]:
    found = {n: (folder / n).read_bytes() for n in ("config.json", "metrics.jsonl", "results.json")}
    checkpointer = ocp.StandardCheckpointer()
    state = checkpointer.restore(folder / "checkpoints" / str(STEPS) / "arrays")
    checkpointer.close()
    return found | {name: np.asarray(leaf).tobytes() for name, leaf in state.items()}


def largest(folder: pathlib.Path) -> pathlib.Path:
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def truncate(checkpoint: pathlib.Path) -> None:
    path = largest(checkpoint)
    path.write_bytes(path.read_bytes()[:-20])


def flip(checkpoint: pathlib.Path) -> None:
    path = largest(checkpoint)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 4
    path.write_bytes(bytes(raw))


def test_the_run_folder_has_what_it_should(finished):
    names = {p.name for p in finished.iterdir()}
    assert names == {
        "config.json", "metrics.jsonl", "times.jsonl", "results.json", "curves.png", "samples.png",
        "samples.npz", "report.html", "checkpoints",
    }  # fmt: skip
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(STEPS + 1))
    assert rows[0]["objective"] is None
    for row in rows[1:]:
        assert set(row) == {
            "step", "seed", "objective", "train_elbo", "test_elbo", "gradient_variance",
        }  # fmt: skip
        assert np.isfinite(list(row.values())).all()
    times = [json.loads(line) for line in (finished / "times.jsonl").read_text().splitlines()]
    assert [row["step"] for row in times] == list(range(STEPS + 1))
    assert [row["evaluations"] for row in times] == [10 * step for step in range(STEPS + 1)]
    seconds = [row["seconds"] for row in times]
    assert seconds == sorted(seconds)
    results = json.loads((finished / "results.json").read_text())
    assert results["step"] == STEPS
    assert results["test_elbo"][0] < results["test_bound_100"][0] < 0


@pytest.mark.parametrize("spoil", [truncate, flip, shutil.rmtree])
@pytest.mark.parametrize("how_many", [1, 3])
def test_damaged_checkpoints_are_passed_over_and_the_end_is_the_same(
    finished, copy, spoil, how_many, capsys
):
    """The last checkpoint, and all that are kept: then the run begins again."""
    for step in sorted((copy / "checkpoints").iterdir(), key=lambda p: -int(p.name))[:how_many]:
        spoil(step)
    assert run("train", "--run-dir", copy, "--resume") == 0
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == (0 if spoil is shutil.rmtree else how_many)
    assert all("is damaged" in line for line in warnings)
    assert traces(copy) == traces(finished)


def test_rows_that_no_checkpoint_covers_are_taken_again(finished, copy):
    shutil.rmtree(copy / "checkpoints" / str(STEPS))
    metrics = copy / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:-30])
    (copy / "writing-config.json").write_text("{")
    assert run("train", "--run-dir", copy, "--resume") == 0
    assert traces(copy) == traces(finished)


def test_a_finished_run_can_be_resumed_to_say_its_end_again(finished, copy, capsys):
    assert run(*OPTIONS, "--run-dir", copy, "--resume") == 0
    assert "test 100-sample bound" in capsys.readouterr().out
    assert traces(copy) == traces(finished)


def test_resuming_with_another_choice_is_refused_and_changes_nothing(copy, capsys):
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    for other in (["--estimator", "disarm"], ["--steps", "25"], ["--hidden", "6"]):
        assert run("train", "--run-dir", copy, "--resume", *other) == 2
        error = capsys.readouterr().err
        assert other[0] in error
        assert error.count("\n") == 1
    assert {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()} == before


def test_an_existing_run_is_never_overwritten(copy, capsys):
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    assert run(*OPTIONS, "--run-dir", copy) == 2
    assert "--resume" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()} == before


def test_an_overflow_stops_the_run_with_one_line_again_and_again(tmp_path, capsys):
    folder = tmp_path / "run"
    options = ["--num-latents", 4, "--batch-size", 10, "--learning-rate", 3e36]
    assert run("train", *options, "--steps", 400, "--run-dir", folder) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(r"stopped at step 2: objective is not finite", error), error
    assert not (folder / "results.json").exists()
    # it is no accident of the moment: resumed, it stops at the same place
    assert run("train", "--run-dir", folder, "--resume") == 1
    assert capsys.readouterr().err == error


def test_the_step_and_the_leaf_are_named_and_the_last_good_checkpoint_is_kept(
    finished, tmp_path, monkeypatch, capsys
):
    """A leaf goes bad at step 10, and between two of the host's visits."""

    def poisoned(config):
        real = program(config)

        def advance(state, data, num):
            state = real.advance(state, data, num)
            bad = jnp.where(state.step >= 10, jnp.nan, 0.0)
            where = lambda s: s.seeds.learned.model.prior_logits
            return eqx.tree_at(where, state, where(state) + bad)

        return dataclasses.replace(real, advance=advance)

    monkeypatch.setattr(loop, "program", poisoned)
    monkeypatch.setattr(task, "NUM_POINTS", 3)  # points at 8, 16, 24
    folder = tmp_path / "run"
    assert run(*OPTIONS, "--run-dir", folder) == 1
    error = capsys.readouterr().err
    assert "stopped at step 10: model.prior_logits is not finite;" in error
    assert "last checkpoint: step 8)" in error
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["8"]
    # what was kept is good: with the cause gone, the run ends where it would have ended
    monkeypatch.setattr(loop, "program", program)
    assert run("train", "--run-dir", folder, "--resume") == 0
    assert (folder / "results.json").read_bytes() == (finished / "results.json").read_bytes()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 8, 16, 24]
