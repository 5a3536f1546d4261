"""The README's Python runs as printed, given the model that it leaves to the reader."""

import importlib
import pathlib
import re

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest

import expectax as ex
from expectax.cli import COMMANDS
from expectax.diagnostics import _recommend
from expectax.lab.experiments import EXPERIMENTS

README = pathlib.Path(__file__).parents[2] / "README.md"


def _encode(params, x):
    return x @ params["encoder"]


def _log_joint(params, x, z):
    pixels = dist.Bernoulli(logits=(2 * z - 1) @ params["decoder"]).to_event(1)
    return pixels.log_prob(x) + dist.Bernoulli(logits=jnp.zeros_like(z)).to_event(1).log_prob(z)


@pytest.fixture
def names():
    one, two, three = jax.random.split(jax.random.key(0), 3)
    params = {
        "encoder": jax.random.normal(one, (6, 3)),
        "decoder": jax.random.normal(two, (3, 6)),
    }
    x = jax.random.bernoulli(three, 0.4, (5, 6)).astype(float)
    return {
        "encode": _encode,
        "log_joint": _log_joint,
        "params": params,
        "x": x,
        "key": jax.random.key(1),
    }


@pytest.mark.parametrize(
    "estimator",
    ["ex.DisARM()", "ex.REBAR()", "ex.GumbelSoftmax(temperature=0.5)", "ex.Enumerate()"],
)
def test_the_example_runs_with_each_estimator_it_names(names, estimator):
    (block,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.S | re.M)
    assert "ex.DisARM()" in block
    exec(block.replace("ex.DisARM()", estimator), names)
    assert jnp.isfinite(names["value"])
    gradient = names["grads"]["encoder"]
    assert gradient.shape == (6, 3)
    assert jnp.abs(gradient).max() > 0


def _row(name):
    (row,) = re.findall(rf"^\| {re.escape(name)} \| (.*?) \|$", README.read_text(), re.M)
    return row


def test_every_estimator_it_names_is_public_and_the_linked_page_has_them_all():
    row = _row("estimators")
    public = {
        name
        for name, value in vars(ex).items()
        if isinstance(value, type)
        and issubclass(value, ex.AbstractEstimator)
        and value is not ex.AbstractEstimator
    }
    named = set(re.findall(r"`(\w+)`", row))
    assert named <= public
    assert len(named) > 10
    (page,) = re.findall(r"\]\((.*?)\)", row)
    assert set(re.findall(r"^\| \[`(\w+)`\]", (README.parent / page).read_text(), re.M)) == public


@pytest.mark.parametrize("name", ["objectives", "models"])
def test_every_objective_and_model_it_names_is_public(name):
    package, *named = re.findall(r"`([\w.]+)`", _row(name))
    module = importlib.import_module(package)
    assert len(named) > 5
    assert not [each for each in named if not hasattr(module, each)]


def test_every_public_name_it_mentions_is_there():
    for name in re.findall(r"\bex\.(\w+)", README.read_text()):
        assert hasattr(ex, name), name


def test_the_lab_row_names_every_command_and_experiment():
    named = re.findall(r"`([a-z -]+)`", _row("[the lab](docs/lab.md)"))
    assert {name.removeprefix("expectax ") for name in named} == {*COMMANDS, *EXPERIMENTS}


def test_the_recommendation_it_prints_is_what_it_shows(monkeypatch):
    (block,) = re.findall(r"^```pycon\n(.*?)^```", README.read_text(), re.S | re.M)
    (*code, ask), printed = (
        re.findall(r"^>>> (.*)$", block, re.M),
        [line for line in block.splitlines() if not line.startswith(">>>")],
    )
    names = {"ex": ex, "jax": jax, "jnp": jnp, "dist": dist}
    exec("\n".join(code), names)
    few = [ex.DisARM, ex.LocalExpectation, ex.REBAR]  # every one is compiled
    monkeypatch.setattr(_recommend, "estimator_classes", lambda: few)
    found = eval(re.fullmatch(r"print\((.*)\)", ask)[1].replace("=60", "=300"), names)
    assert _headings(printed[0]) <= _headings(str(found).splitlines()[0])
    shown = [line.partition("  ")[0] for line in printed[2:8]]
    ours = [row.name for row in found.rows]
    assert ours == [name for name in shown if name in ours] == ["LocalExpectation", "DisARM(1)"]
    (reason,) = [line for line in printed if "REBAR" in line]
    assert dict(found.excluded)["REBAR"] == reason.partition(": ")[2]


def _headings(line: str) -> set[str]:
    """The headings of a printed table: wider cells put more than two spaces between them."""
    return set(re.split(r" {2,}", line.strip()))
