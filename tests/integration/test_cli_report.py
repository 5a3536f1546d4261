"""`expectax report`: where it writes, and what it refuses."""

import json

import pytest

from expectax import cli
from expectax.lab.config import TrainConfig
from expectax.lab.run_folder import RunFolder


def run(*argv: object) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main(["report", *map(str, argv)])
    return int(stop.value.code or 0)


@pytest.fixture(autouse=True)
def two_runs(tmp_path, monkeypatch):
    """An empty folder but for two runs of one point."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("one", "two"):
        folder = RunFolder(tmp_path / name)
        folder.create(TrainConfig(estimator="arm"))
        folder.append([{"step": 0, "seed": 0, "train_elbo": -3.0}])


def test_the_page_of_one_run_goes_into_its_folder_again_and_again(tmp_path, capsys):
    for _ in range(2):
        assert run("one") == 0
        out = capsys.readouterr().out
        assert "one/report.html" in out
        assert "one/report-train-elbo.png" in out
    page = (tmp_path / "one" / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "0 of 40,000" in page
    assert not (tmp_path / "runs").exists()


def test_the_page_of_several_runs_has_a_folder_of_its_own(tmp_path, capsys):
    assert run("one", "two") == 0
    assert "runs/report-1/report.html" in capsys.readouterr().out
    assert run("one", "two", "--run-dir", "mine") == 0
    assert {p.name for p in (tmp_path / "mine").iterdir()} == {
        "report.html", "report-train-elbo.png",
    }  # fmt: skip
    assert run("one", "two", "--run-dir", "mine") == 2
    assert "not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "no run"),
        (["three"], "three"),
        (["one/config.json"], "is a file"),
        (["one", "two/metrics.jsonl"], "is a file"),
    ],
)
def test_a_mistake_is_one_line_with_status_2_and_leaves_nothing(argv, words, tmp_path, capsys):
    assert run(*argv) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err
    assert not out
    assert {p.name for p in tmp_path.iterdir()} == {"one", "two"}


def test_a_run_that_has_just_begun_is_told(tmp_path, capsys):
    RunFolder(tmp_path / "new").create(TrainConfig())
    assert run("new") == 2
    assert "no point" in capsys.readouterr().err
    stored = json.loads((tmp_path / "new" / "config.json").read_text())
    assert stored["machine"]["python"]
