"""The command line: help, lists, and refusals of one line with exit status 2."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import pytest

import expectax as ex
from expectax import cli
from expectax.diagnostics import _recommend
from expectax.lab import experiments
from expectax.lab.config import MODELS
from expectax.lab.data import DATASETS
from expectax.lab.estimators import RECIPES
from expectax.lab.problems import PROBLEMS


def run(*argv: object) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(a) for a in argv])
    return int(stop.value.code or 0)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every command runs in an empty folder, wide enough that help is not wrapped."""
    monkeypatch.setenv("EXPECTAX_OFFLINE", "1")
    monkeypatch.setenv("EXPECTAX_DATA_DIR", "nowhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def test_the_command_is_installed_and_helps_without_a_traceback():
    done = subprocess.run(
        [sys.executable, "-m", "expectax.cli", "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert not done.stderr
    for command in ("train", "list", "compare", "recommend", "reproduce", "report", "data"):
        assert command in done.stdout


def test_help_names_every_model_data_set_and_option(capsys):
    assert run("train", "--help") == 0
    text = capsys.readouterr().out
    options = {o for recipe in RECIPES.values() for o in recipe.options}
    for flag in ("run-dir", "resume", "data-dir", "binarization", "num-seeds", *options):
        assert "--" + flag.replace("_", "-") in text
    for name in (*MODELS, *DATASETS):
        assert name in text
    for command in ("compare", "recommend"):
        assert run(command, "--help") == 0
        text = capsys.readouterr().out
        for name in PROBLEMS:
            assert name in text


def test_list_shows_every_estimator_and_what_it_claims(capsys):
    assert run("list") == 0
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    for name, recipe in RECIPES.items():
        row = next(line for line in words if line[:1] == [name])
        claims = recipe.estimator.claims
        assert row[1].rstrip(";") == ("yes" if claims.unbiased else "no")
        assert claims.needs.__name__ in row
        assert any(line[:1] == [recipe.estimator.__name__] for line in words)


MISTAKES = {
    "no such command": (["trian"], ["trian", "train"]),
    "no such option": (["train", "--stesp", "3"], ["--stesp", "--steps"]),
    "not a number": (["train", "--steps", "many"], ["--steps", "many"]),
    "no value": (["train", "--steps"], ["--steps"]),
    "no such model": (["train", "--model", "deep"], ["deep", *MODELS]),
    "no such data": (["train", "--data", "cifar"], ["cifar", *DATASETS]),
    "no such binarization": (["train", "--binarization", "static"], ["--data digits", "threshold"]),
    "no such estimator": (["train", "--estimator", "disram"], ["disram", *RECIPES]),
    "another's option": (["train", "--num-pairs", 2, "--estimator", "arm"], ["--num-pairs", "arm"]),
    "a bad number": (["train", "--steps", 0], ["--steps is 0"]),
    "too large a batch": (["train", "--batch-size", 5000], ["5000", "1438"]),
    "no data": (["train", "--data", "mnist"], ["nowhere/mnist/train-images", "--data-dir"]),
    "no such folder": (
        ["train", "--data", "mnist", "--data-dir", "nowhere"],
        ["nowhere/train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a402"],
    ),
    "bits for categories": (
        ["train", "--estimator", "disarm", "--model", "categorical"],
        ["DisARM", "OneHotCategorical"],
    ),
    "continuous for bits": (["train", "--estimator", "pathwise"], ["Pathwise", "DisARM"]),
    "too much to sum": (["train", "--estimator", "enumerate"], ["Enumerate", "outcomes"]),
    "resume nothing": (["train", "--resume"], ["--run-dir"]),
    "no such problem": (["compare", "--problem", "hard"], ["hard", *PROBLEMS]),
    "compare no such": (["compare", "--estimators", "arm,disram"], ["disram", *RECIPES]),
    "compare what cannot": (
        ["compare", "--problem", "categories", "--estimators", "arm"],
        ["ARM", "OneHotCategorical"],
    ),
    "recommend for what": (["recommend", "--problem", "hard"], ["hard", *PROBLEMS]),
    "no budget": (["recommend", "--problem", "one-bit", "--budget-seconds", 0], ["budget_seconds"]),
    "reproduce what": (["reproduce"], ["NAME"]),
    "no such experiment": (["reproduce", "cold-fusion"], ["cold-fusion", "one-bit"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_status_2_and_leaves_nothing(mistake, capsys, tmp_path):
    argv, fragments = MISTAKES[mistake]
    assert run(*argv) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for fragment in fragments:
        assert str(fragment) in err
    assert not out
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command", [["train"], ["compare"], ["recommend"], ["reproduce", "one-bit"]]
)
def test_a_folder_with_something_in_it_is_left_alone(command, capsys, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("keep")
    assert run(*command, "--run-dir", "mine") == 2
    assert "mine" in capsys.readouterr().err
    assert [p.read_text() for p in (tmp_path / "mine").iterdir()] == ["keep"]


def test_compare_leaves_table_figures_and_plot(capsys, tmp_path):
    names = "disarm,rebar,pathwise"
    options = ["--num-draws", 50, "--tuning-steps", 20]
    assert run("compare", "--problem", "one-bit", "--estimators", names, *options) == 0
    out = capsys.readouterr().out
    folder = tmp_path / "runs" / "compare-one-bit-1"
    rows = json.loads((folder / "comparison.json").read_text())["rows"]
    assert [row["name"] for row in rows] == names.split(",")
    assert rows[0]["variance"] > 0
    assert rows[2]["reason"]
    for line in (folder / "table.txt").read_text().splitlines():
        assert line in out
    assert (folder / "comparison.png").read_bytes()[:4] == b"\x89PNG"
    assert str(folder.relative_to(tmp_path)) in out


def test_recommend_leaves_table_figures_and_plot(capsys, tmp_path, monkeypatch):
    few = [ex.DisARM, ex.Enumerate, ex.Pathwise]  # every one is compiled
    monkeypatch.setattr(_recommend, "estimator_classes", lambda: few)
    assert run("recommend", "--problem", "one-bit", "--budget-seconds", 300) == 0
    out = capsys.readouterr().out
    folder = tmp_path / "runs" / "recommend-one-bit-1"
    figures = json.loads((folder / "recommendation.json").read_text())
    assert [row["name"] for row in figures["rows"]] == ["Enumerate", "DisARM(1)"]
    assert [excluded["name"] for excluded in figures["excluded"]] == ["Pathwise"]
    for line in (folder / "table.txt").read_text().splitlines():
        assert line in out
    assert (folder / "recommendation.png").read_bytes()[:4] == b"\x89PNG"


def test_reproduce_hands_the_experiment_its_folder(monkeypatch, capsys):
    seen = []

    @dataclasses.dataclass
    class Fake:
        name: str = "fake"
        summary: str = "nothing"

        def run(self, run_dir, quick, console):
            seen.append((run_dir, quick))
            console.print("done")

    monkeypatch.setitem(experiments.EXPERIMENTS, "fake", Fake())
    assert run("reproduce", "fake", "--quick") == 0
    assert run("reproduce", "fake", "--run-dir", "here") == 0
    assert seen == [(pathlib.Path("runs/fake-1"), True), (pathlib.Path("here"), False)]
    assert "runs/fake-1" in capsys.readouterr().out
