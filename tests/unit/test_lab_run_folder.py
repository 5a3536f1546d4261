"""Run folders: never reused in silence, and consistent after a death at any line."""

import json

import pytest

from expectax.lab import run_folder
from expectax.lab.config import TrainConfig
from expectax.lab.errors import UsageError
from expectax.lab.run_folder import RunFolder, claim_folder, fresh_folder, unfinished_folder

CONFIG = TrainConfig(steps=7)


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create(CONFIG)
    return folder


def test_the_config_is_there_and_is_read_back(run):
    assert run.stored(TrainConfig) == CONFIG
    stored = json.loads(run.config.read_text())
    assert stored["task"] == "TrainConfig"
    assert {"expectax", "jax", "jaxlib", "optax"} <= set(stored["versions"])
    assert "cores" in stored["machine"]["processor"]
    assert "cpu" in stored["machine"]["devices"]
    assert RunFolder(run.path / "other").stored(TrainConfig) is None
    other = type("Other", (TrainConfig,), {})
    with pytest.raises(UsageError, match="a run of TrainConfig"):
        run.stored(other)
    run.config.write_text(run.config.read_text()[:40])
    with pytest.raises(UsageError, match="cannot be read"):
        run.stored(TrainConfig)


def test_a_fresh_folder_is_free_or_is_refused(run, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="--resume"):
        fresh_folder(run.path, "x")
    (tmp_path / "stuff").mkdir()
    (tmp_path / "stuff" / "notes").write_text("mine")
    with pytest.raises(UsageError, match="not empty") as error:
        fresh_folder(tmp_path / "stuff", "x")
    assert "--resume" not in str(error.value)
    with pytest.raises(UsageError, match=r"is in .*, a file"):
        fresh_folder(tmp_path / "stuff" / "notes" / "run", "x")
    with pytest.raises(UsageError, match="is a file"):
        fresh_folder(tmp_path / "stuff" / "notes", "x")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "new" / "er"):
        assert fresh_folder(path, "x") == path
    assert not (tmp_path / "new").exists()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "x-1").mkdir(parents=True)
    assert str(fresh_folder(None, "x")) == "runs/x-2"
    # claimed, it is nobody else's: also when it was free a moment ago
    assert str(claim_folder(None, "x")) == "runs/x-2"
    assert str(claim_folder(None, "x")) == "runs/x-3"
    free = iter([tmp_path / "runs" / "x-3", tmp_path / "runs" / "x-4"])
    monkeypatch.setattr(run_folder, "fresh_folder", lambda *_: next(free))
    assert claim_folder(None, "x").name == "x-4"
    monkeypatch.undo()
    assert claim_folder(tmp_path / "empty", "x") == tmp_path / "empty"
    with pytest.raises(UsageError, match="not empty"):
        claim_folder(run.path, "x")


def test_what_can_be_resumed(run, tmp_path):
    assert unfinished_folder(run.path) == run.path
    assert unfinished_folder(tmp_path / "new") == tmp_path / "new"  # killed before it was made
    half = tmp_path / "half"
    half.mkdir()
    assert unfinished_folder(half) == half
    (half / "writing-config.json").write_text("{")  # killed while the config was written
    assert unfinished_folder(half) == half
    (half / "notes").write_text("mine")
    with pytest.raises(UsageError, match="no run to resume"):
        unfinished_folder(half)
    with pytest.raises(UsageError, match="no run to resume"):
        unfinished_folder(half / "notes")
    with pytest.raises(UsageError, match="--run-dir"):
        unfinished_folder(None)


def test_rows_after_the_checkpoint_and_a_torn_line_are_forgotten(run):
    rows = [{"step": step, "seed": seed, "x": step / 3} for step in (0, 5, 10) for seed in (0, 1)]
    run.append(rows[:2])
    run.append(rows[2:])
    assert run.rows() == rows
    whole = run.metrics.read_bytes()
    run.metrics.write_bytes(whole[:-7])
    assert run.rows() == rows[:-1]
    run.forget_after(10)
    assert run.rows() == rows[:-1]
    run.forget_after(5)
    assert run.metrics.read_bytes() == b"".join(whole.splitlines(keepends=True)[:4])
    run.append(rows[4:])
    assert run.metrics.read_bytes() == whole  # as if nothing had happened
    run.forget_after(-1)
    assert run.rows() == []


def test_the_clock_has_its_own_file_and_is_forgotten_alike(run):
    for step in (0, 5, 10):
        run.append([{"step": step, "seed": 0}])
        run.append_time({"step": step, "seconds": step / 10})
    run.forget_after(5)
    assert [row["step"] for row in run.rows()] == [0, 5]
    assert run.times() == [{"step": 0, "seconds": 0.0}, {"step": 5, "seconds": 0.5}]


def test_a_number_that_json_lacks_is_not_written(run):
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.append([{"step": 1, "x": float("nan")}])
