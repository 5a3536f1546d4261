"""The code of the documentation's pages runs as printed."""

import doctest
import inspect
import pathlib
import re

import pytest

import expectax as ex
from expectax import gumbel
from expectax.cli import COMMANDS
from expectax.lab.experiments import EXPERIMENTS

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]


def _blocks(page):
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.S | re.M)


def test_the_estimator_of_adding_passes_and_fails_as_the_page_says():
    from expectax.testing import ConformanceError, bits, check_estimator

    first, second = _blocks("adding.md")
    names = {}
    exec(first, names)
    quick = ["gradient_mean", "constant_cost", "evaluations", "derivative_order"]
    limited = second.replace("TwoPoint()", f"TwoPoint(), problems=PROBLEMS, checks={quick}")
    assert limited != second
    exec(limited, {**names, "PROBLEMS": [bits()]})

    def failures(code):
        broken = {}
        assert code != first
        exec(code, broken)
        try:
            check_estimator(broken["TwoPoint"](), problems=[bits()], checks=quick)
        except ConformanceError as error:
            return error.check
        return ""

    assert "gradient_mean" in failures(first.replace("0.5 * jnp.stack", "jnp.stack"))
    half = first.replace("jnp.stack([difference, -difference])", "jnp.stack([costs[0], costs[1]])")
    assert "constant_cost" in failures(half)


def test_the_page_on_softmax_runs_as_printed():
    found: list[str] = []
    page = (DOCS / "softmax.md").read_text(encoding="utf-8")
    test = doctest.DocTestParser().get_doctest(page, {}, "softmax.md", None, 0)
    outcome = doctest.DocTestRunner().run(test, out=found.append)
    assert outcome.attempted > 40
    assert outcome.failed == 0, "".join(found)


def _crooked(page):
    """The rows of tables with more or fewer cells than their heading."""
    found, columns = [], None
    for line in page.splitlines():
        row = re.sub(r"\\\|", "", line) if line.startswith("|") else None
        if row is None:
            columns = None
        elif row.count("|") != (columns := columns or row.count("|")):
            found.append(line)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_have_as_many_cells_as_headings(page):
    assert _crooked(page.read_text(encoding="utf-8")) == []


def test_a_crooked_table_is_seen():
    good = "| a | b |\n|---|---|\n| E[X \\| Y] | 1 |"
    assert _crooked(good) == []
    assert _crooked(good.replace("\\|", "|")) == ["| E[X | Y] | 1 |"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_are_there(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


RESULTS = ("Comparison", "Excluded", "LeafReport", "Moments", "Recommendation", "UnbiasedReport")
"""What a function that is in the changelog returns or raises goes without a line of its own."""
NOISE = ("argmax", "conditional_gumbel", "conditional_logistic", "gumbel", "gumbel_residual")
NOISE += ("logistic", "logistic_residual", "open_uniform")
"""What the changelog calls max-trick, conditional Gumbels and logistics."""


def _unlisted(changelog):
    listed = set(re.findall(r"[\w-]+", changelog))
    public = {
        name
        for name, value in vars(ex).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    exempt = {name for name in public if name.removesuffix("Row") in RESULTS}
    errors = {"ExpectaxError", "BiasedError", "UnderpoweredError"}
    tools = {name for name in vars(gumbel) if callable(getattr(gumbel, name))} - set(NOISE)
    return ((public - exempt - errors) | tools | set(COMMANDS) | set(EXPERIMENTS)) - listed


def test_the_changelog_has_everything_that_is_public():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert _unlisted(changelog) == set()
    assert _unlisted(changelog.replace("`ARSM`", "")) == {"ARSM"}


def test_choosing_names_what_is_right_at_any_order_and_nothing_that_is_not_there():
    page = (DOCS / "choosing.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(r"first-order estimator raises\. (.*?) are right at any", page, re.S)
    named = set(re.findall(r"`(\w+)`", sentence))
    classes = {name: x for name, x in vars(ex).items() if hasattr(x, "claims")}
    assert named == {name for name, cls in classes.items() if cls.claims.order > 1}
    for name in re.findall(r"`(?:ex\.)?([A-Z][A-Za-z]+)\b", page.partition("## Things")[0]):
        assert hasattr(ex, name), name
