"""docs/estimators.md says what the code claims, and a noise that can be measured again."""

import math
import pathlib
import re

import pytest

import expectax as ex
from expectax.lab.estimator_table import (
    CLAIMS,
    PROBLEMS,
    RUNS,
    Noise,
    claim_cells,
    measure,
    render,
)
from expectax.lab.show import legend
from expectax.testing import Gate

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "estimators.md"
NUMBER = r"\d+(?:\.\d+)?"
CELL = re.compile(
    rf"–|(?P<variance>{NUMBER})(?: ± {NUMBER})?(?:, bias (?:< )?(?P<bias>{NUMBER}) %)?(?: \(\d+\))?"
)
POWER = 0.1
"""The greatest allowance in units of a number: so one that is 20 % off never passes."""


def _public():
    return {
        name: value
        for name, value in vars(ex).items()
        if isinstance(value, type)
        and issubclass(value, ex.AbstractEstimator)
        and value is not ex.AbstractEstimator
    }


def _rows(page):
    """The cells of each estimator on the page, by its name."""
    lines = re.findall(r"^\| \[`(\w+)`\].*\|$", page, re.M)
    texts = re.findall(r"^\| (\[`\w+`\].*) \|$", page, re.M)
    split = [re.split(r" (?<!\\)\| ", text) for text in texts]
    return {
        name: [cell.replace("\\|", "|") for cell in cells]
        for name, cells in zip(lines, split, strict=True)
    }


ROWS = _rows(PAGE.read_text(encoding="utf-8"))


def test_every_public_estimator_has_its_claims_on_the_page():
    public = _public()
    assert set(ROWS) == set(public)
    assert {name: cells[: len(CLAIMS)] for name, cells in ROWS.items()} == {
        name: claim_cells(cls) for name, cls in public.items()
    }


def test_the_page_is_what_the_code_makes_of_its_numbers():
    noise = {name: cells[len(CLAIMS) :] for name, cells in ROWS.items()}
    page = PAGE.read_text(encoding="utf-8")
    again = "run `python -m expectax.lab.estimator_table docs/estimators.md`"
    assert render(noise) == page, again
    spoiled = page.replace("Kool 2019", "Kool 2020", 1)
    assert spoiled != page
    assert render({name: cells[len(CLAIMS) :] for name, cells in _rows(spoiled).items()}) != spoiled


def test_links_to_files_lead_somewhere():
    for cells in ROWS.values():
        (path,) = re.findall(r"\((.*)\)", cells[0])
        assert (PAGE.parent / path).is_file()


@pytest.mark.parametrize("name", _public())
def test_every_cell_is_a_dash_or_a_number_and_biased_ones_say_so(name):
    claims = _public()[name].claims
    cells = ROWS[name][len(CLAIMS) :]
    assert len(cells) == len(PROBLEMS)
    for cell in cells:
        found = CELL.fullmatch(cell)
        assert found, cell
        if cell == "–":
            continue
        assert (found["bias"] is None) == claims.unbiased
        assert math.isfinite(float(found["variance"]))
        assert (float(found["variance"]) == 0) == (claims.exact_for == "every f")


def _agrees(noise: Noise, runs: int, printed: str) -> bool:
    """Whether a measured variance is the printed one: its standard error, the page's, rounding.

    Raises:
        AssertionError: the allowance is so wide that a wrong number could pass.
    """
    page = float(printed)
    # two digits are printed: half a unit of the second
    rounding = 0.5 * 10.0 ** (math.floor(math.log10(page)) - 1)
    error = noise.variance_error * math.sqrt(1 + runs / RUNS)
    allowance = Gate().z * error + rounding
    assert allowance <= POWER * page, "underpowered"
    return abs(noise.variance - page) <= allowance


@pytest.mark.parametrize(
    ("name", "problem", "runs"),
    [
        ("ARMS", "bits", 50),
        ("CARMS", "categories", 50),
        ("Pathwise", "Gaussians", 50),
    ],
)
def test_the_noise_on_the_page_is_measured_again_from_other_draws(name, problem, runs):
    cell = ROWS[name][len(CLAIMS) + list(PROBLEMS).index(problem)]
    printed = CELL.fullmatch(cell)["variance"]
    noise = measure(getattr(ex, name), problem, seed=99, runs=runs)
    assert _agrees(noise, runs, printed)
    for wrong in (0.8, 1.2):
        assert not _agrees(noise, runs, str(wrong * float(printed)))


def test_no_variance_is_measured_where_none_is_printed():
    assert ROWS["Enumerate"][len(CLAIMS)] == "0"
    assert measure(ex.Enumerate, "bits", seed=99, runs=2).cell == "0"


def test_what_noise_explains_is_not_printed_as_known():
    assert Noise(31.0, 0.1, bias=0.5, bias_error=0.1).cell == "31, bias 50 %"
    assert Noise(31.0, 0.1, bias=0.15, bias_error=0.1).cell == "31, bias < 30 %"
    assert Noise(1e-30, 0.0).cell == "0"
    assert Noise(5.0, 0.5).cell == "5.0 ± 0.50"


def test_every_capability_that_an_estimator_needs_is_explained():
    page = PAGE.read_text(encoding="utf-8")
    for cls in _public().values():
        name = cls.claims.needs.__name__
        assert f"| `{name}` |" in page
        assert legend()[f"  {name}"].endswith(".")
