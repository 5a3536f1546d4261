"""The published experiments from end to end, in small."""

import dataclasses
import json
import pathlib

import pytest
import rich.console

import expectax as ex
from expectax.lab.errors import UsageError
from expectax.lab.experiments import EXPERIMENTS, gaussian_mean, one_bit
from expectax.lab.experiments._base import Row
from expectax.lab.experiments._one_bit_contenders import CONTENDERS
from expectax.lab.experiments._one_bit_runs import Settings, simulate
from expectax.lab.experiments._one_bit_table import rows

PNG = b"\x89PNG\r\n\x1a\n"

SMALL = Settings(
    num_runs=100,
    num_steps=3_000,
    steps_per_record=100,
    steps_per_block=1_500,
    num_draws=2_000,
    num_measured=20,
    targets=(0.45, 0.499),
)


@pytest.fixture
def console(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("console") / "out.txt"
    with path.open("w", encoding="utf-8") as file:
        yield rich.console.Console(record=True, width=140, file=file)


def contender(name: str):
    return next(c for c in CONTENDERS if c.name == name)


def judged(table: list[Row], name: str) -> list[Row]:
    return [row for row in table if row.name == name and row.verdict.holds is not None]


def test_one_bit_agrees_with_the_independent_simulation(tmp_path: pathlib.Path, console):
    names = ("Enumerate", "LeaveOneOut(2)", "DisARM", "ScoreFunction, running mean")
    table = one_bit.run(tmp_path, SMALL, console, [contender(name) for name in names])
    assert [row for row in table if row.verdict.holds is False] == []
    assert {name: len(judged(table, name)) for name in names} == dict(
        zip(names, (2, 4, 4, 2), strict=True)
    )
    assert "12 of 12 published or derived figures reproduced" in console.export_text()
    assert (tmp_path / "unbiased.png").read_bytes().startswith(PNG)
    assert (tmp_path / "biased.png").read_bytes().startswith(PNG)
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results["rows"]) == len(table)
    curve = json.loads((tmp_path / "curves.json").read_text())["DisARM"]["p_wrong_mean"]
    assert [len(each) for each in curve] == [31, 31]


def test_one_bit_catches_an_impostor():
    """The plain score function under the name, and so beside the figures, of leave-one-out."""
    impostor = dataclasses.replace(
        contender("LeaveOneOut(2)"), build=lambda _key, _t: ex.ScoreFunction()
    )
    table = rows({impostor: simulate(impostor, SMALL)}, SMALL)
    verdicts = [row.verdict for row in table]
    assert len(verdicts) == 4
    assert all(verdict.holds is False for verdict in verdicts)
    assert all("DISAGREES" in verdict.text for verdict in verdicts)


def test_gaussian_mean_quick(tmp_path: pathlib.Path, console):
    EXPERIMENTS["gaussian-mean"].run(tmp_path / "run", True, console)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    verdicts = [row["verdict"]["holds"] for row in results["rows"]]
    assert verdicts.count(True) == 23
    assert verdicts.count(None) == 1  # the score function's own excess loss has no closed form
    assert (tmp_path / "run" / "gaussian-mean.png").read_bytes().startswith(PNG)
    with pytest.raises(UsageError, match="not empty"):
        EXPERIMENTS["gaussian-mean"].run(tmp_path / "run", True, console)


def test_gaussian_mean_catches_a_variance_that_is_off():
    settings = dataclasses.replace(gaussian_mean.QUICK, num_draws=20_000, num_runs=2_000)
    pathwise = gaussian_mean.CONTENDERS[-1]
    wrong = dataclasses.replace(pathwise, variance=lambda mu: 1.1 * pathwise.variance(mu))
    measured = gaussian_mean.measure(pathwise, settings)
    table = gaussian_mean._rows(wrong, measured, settings)
    assert [row.verdict.holds for row in table if row.quantity == "variance"] == [False] * 3
    assert [row.verdict.holds for row in table if row.quantity == "gradient"] == [True] * 3


def test_the_registry_is_what_the_command_line_reads():
    modules = pathlib.Path(one_bit.__file__).parent.glob("[!_]*.py")
    assert set(EXPERIMENTS) == {module.stem.replace("_", "-") for module in modules}
    for name, experiment in EXPERIMENTS.items():
        assert experiment.name == name
        assert experiment.summary
        assert callable(experiment.run)
