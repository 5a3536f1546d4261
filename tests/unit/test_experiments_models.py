"""Experiments with models that are no plain VAE of bits: what is theirs alone, and their deaths."""

import dataclasses
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import rich.console

from expectax.distributions import joint
from expectax.lab.estimators import RECIPES
from expectax.lab.experiments import EXPERIMENTS, structured_prediction
from expectax.lab.experiments._training_plan import Asked
from expectax.lab.journal import Journal
from expectax.models import halves

PNG = b"\x89PNG\r\n\x1a\n"
SMALL = {
    "structured-prediction": ("straight-through", "test_loss"),
}
"""Of each experiment a contender, and a figure that falls when it learns."""


def console():
    return rich.console.Console(record=True, width=150, file=io.StringIO())


def traces(folder, steps):
    """Everything that must not depend on deaths: all that is learned, and every figure."""
    names = ("config.json", "metrics.jsonl", "results.json")
    found = {name: (folder / name).read_bytes() for name in names}
    checkpointer = ocp.StandardCheckpointer()
    state = checkpointer.restore(folder / "checkpoints" / str(steps) / "arrays")
    checkpointer.close()
    return found | {name: np.asarray(leaf).tobytes() for name, leaf in state.items()}


@pytest.mark.parametrize("name", SMALL)
def test_in_small_it_learns_and_a_death_changes_no_bit(tmp_path, monkeypatch, name):
    contender, figure = SMALL[name]
    asked = Asked(only=(contender,), num_seeds=2)
    experiment = dataclasses.replace(EXPERIMENTS[name], asked=asked, resume=True)
    experiment.run(tmp_path / "whole", True, console())
    curves = json.loads((tmp_path / "whole" / "curves.json").read_text())[contender]
    first, last = np.mean(curves[figure], axis=0)[[0, -1]]
    assert last < 0.95 * first
    assert (tmp_path / "whole" / f"{name}.png").read_bytes().startswith(PNG)

    keep = Journal.keep

    def dying(self, step, state):
        keep(self, step, state)
        if step >= curves["step"][-1] // 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "keep", dying)
        with pytest.raises(KeyboardInterrupt):
            experiment.run(tmp_path / "cut", True, console())
    assert not (tmp_path / "cut" / contender / "results.json").exists()
    experiment.run(tmp_path / "cut", True, console())
    whole, cut = (
        traces(tmp_path / run / contender, curves["step"][-1]) for run in ("whole", "cut")
    )
    assert whole.keys() == cut.keys()
    assert [part for part in whole if whole[part] != cut[part]] == []


# structured prediction


@pytest.fixture(scope="module")
def lower_half():
    task = structured_prediction.LowerHalf(
        estimator="score-function", data="digits", sizes=(3, 2), batch_size=4
    )
    data = task.load()
    return task, data, task.init(jax.random.key(1), data)


def test_the_evaluations_of_nested_layers_are_those_that_the_table_states(lower_half):
    _, data, learned = lower_half
    x, _ = halves(data.mean[None])
    q = joint(learned.model.conditional(0, x))
    for name, (stated, _) in structured_prediction.CONTENDERS.items():
        recipe = RECIPES[name]
        count = recipe.estimator(**{k: v for k, v in recipe.options.items() if k != "baseline"})
        each = count.evaluations(q)
        assert stated == f"{each.hard**2} + {each.auxiliary}", name


def test_guesses_are_drawn_under_the_upper_halves(lower_half):
    _, data, learned = lower_half
    found = structured_prediction.completions(jax.random.key(2), learned.model, data)
    assert set(found) == set(structured_prediction.BLOCKS)
    upper, lower = halves(found["data"])
    for name in ("first", "second", "mean"):
        above, below = halves(found[name])
        assert jnp.array_equal(above, upper)
        assert not jnp.allclose(below, lower, atol=0.1)
    assert not jnp.allclose(found["first"], found["second"], atol=1e-3)


def test_the_baseline_of_the_score_function_starts_at_the_cost_and_is_learned(lower_half):
    task, data, learned = lower_half
    x = task.batch(jax.random.key(3), data, jnp.arange(200))
    costs = structured_prediction.nll(jax.random.key(4), learned.model, data, data.train[:200], 1)
    baseline = learned.estimator.baseline
    assert jnp.allclose(baseline(x), costs, rtol=0.2)
    loss = lambda factory: task.objective(
        dataclasses.replace(learned, estimator=factory), x, jax.random.key(5), jnp.zeros((), int)
    )
    assert jax.grad(loss)(learned.estimator).baseline.offset != 0
