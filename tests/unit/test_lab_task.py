"""A task is all that a run needs to know: one that is no VAE trains, resumes and is drawn."""

import dataclasses
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from expectax.lab.config import TrainConfig
from expectax.lab.loop import Run
from expectax.lab.run_folder import RunFolder
from expectax.lab.task import AbstractTask, separately
from expectax.lab.train import program
from expectax.lab.vae import Learned


@dataclasses.dataclass(frozen=True)
class Lines(AbstractTask):
    """A straight line through points; the intercept by another optimiser, a tail that averages."""

    steps: int = 60
    batch_size: int = 8
    seed: int = 0
    num_seeds: int = 2
    rate: float = 0.3
    shapes: tuple[int, ...] = (1, 2)

    def load(self):
        x = jnp.linspace(-1, 1, 40)
        return {"x": x, "y": 2 * x + 1}

    def num_rows(self, data):
        return len(data["x"])

    def batch(self, key, data, rows):
        noise = 0.01 * jax.random.normal(key, rows.shape)
        return data["x"][rows], data["y"][rows] + noise

    def init(self, key, data):
        del data
        slope = jax.random.normal(key)
        return {"slope": slope, "more": {"intercept": jnp.zeros(())}, "average": slope}

    def objective(self, learned, batch, key, step):
        del key
        x, y = batch
        kept = jnp.where(step < 50, 1.0, 0.0)  # a schedule: nothing is learned at the end
        error = learned["slope"] * x + learned["more"]["intercept"] - y
        return kept * jnp.mean(error**2)

    def optimizers(self):
        return {
            "": optax.sgd(self.rate),
            "more.intercept": optax.adam(self.rate / 10),
            "average": optax.set_to_zero(),
        }

    def settle(self, learned, step):
        average = learned["average"] + 0.2 * (learned["slope"] - learned["average"])
        return learned | {"average": jnp.where(step < 1, learned["average"], average)}

    def measure(self, key, learned, data):
        del key
        error = learned["slope"] * data["x"] + learned["more"]["intercept"] - data["y"]
        return {"error": jnp.mean(error**2)}

    def pictures(self, key, learned, data):
        del key, data
        return {"slope": learned["slope"]}

    def draw(self, folder, data, rows, pictures, results):
        path = folder / "line.txt"
        path.write_text(f"{len(data['x'])} {len(rows)} {pictures['slope']:.3f} {len(results)}")
        return [path]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("task") / "run")
    folder.create(Lines())
    return folder, Run(Lines()).train(folder)


def test_a_task_of_its_own_trains_and_leaves_a_whole_folder(trained):
    folder, results = trained
    assert len(results.figures["error"]) == 2
    assert all(0 < error < 0.1 for error in results.figures["error"])
    rows = folder.rows()
    assert {row["seed"] for row in rows} == {0, 1}
    assert set(rows[0]) == {"step", "seed", "objective", "error"}
    assert rows[0]["error"] > 0.5
    assert rows[-1]["objective"] == 0.0  # the objective saw the step
    assert results.files == [folder.path / "line.txt"]
    assert folder.results.exists()


def test_a_run_that_dies_while_it_draws_draws_when_it_is_resumed(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no room")

    folder = RunFolder(tmp_path)
    folder.create(Lines(steps=4))
    run = Run(Lines(steps=4))
    with monkeypatch.context() as patch:
        patch.setattr(Lines, "draw", fail)
        with pytest.raises(OSError, match="no room"):
            run.train(folder)
    assert not folder.results.exists()
    assert run.train(folder).steps_taken == 0
    assert folder.results.exists()
    assert (tmp_path / "line.txt").exists()


def test_a_task_survives_json(trained):
    folder, _ = trained
    assert folder.stored(Lines) == Lines()
    stored = json.loads(folder.config.read_text())["config"]
    assert Lines.from_json({k: v for k, v in stored.items() if k != "rate"}) == Lines()


def test_settling_comes_after_the_optimisers_which_leave_its_part_alone():
    task = Lines(num_seeds=1)
    run, data = program(task), task.load()
    start = run.init(data)
    average = lambda state: np.asarray(state.seeds.learned["average"])
    slope = lambda state: np.asarray(state.seeds.learned["slope"])
    one, two = run.advance(start, data, 1), run.advance(start, data, 2)
    assert np.array_equal(average(one), average(start))
    assert not np.allclose(slope(one), slope(start))
    assert np.allclose(average(two), average(one) + 0.2 * (slope(two) - average(one)))


def test_each_part_has_the_optimiser_of_its_longest_name():
    learned = {"a": [jnp.ones(2), jnp.ones(1)], "ab": jnp.ones(3), "n": 3}
    parts = {"": optax.sgd(1.0), "a": optax.sgd(2.0), "a.1": optax.sgd(3.0)}
    optimizer = separately(parts, learned)
    floats = eqx.filter(learned, eqx.is_inexact_array)
    updates, _ = optimizer.update(floats, optimizer.init(floats))
    assert [float(x.ravel()[0]) for x in jax.tree.leaves(updates)] == [-2.0, -3.0, -1.0]
    with pytest.raises(ValueError, match=r"given for a\.2"):
        separately({"": optax.sgd(1.0), "a.2": optax.sgd(1.0)}, learned)
    with pytest.raises(ValueError, match="no optimiser trains ab"):
        separately({"a": optax.sgd(1.0)}, learned)


def test_the_protocols_rates_are_those_of_the_first_step():
    """Adam's first step is its rate, whatever the gradient; plain descent's is rate × gradient."""
    config = TrainConfig(
        estimator="rebar", num_latents=4, learning_rate=1e-3, prior_rate=0.05, beta2=0.99999
    )
    run, data = program(config), config.load()
    start = run.init(data)
    after = run.advance(start, data, 1)
    moved = jax.tree.map(
        lambda a, b: float(jnp.max(jnp.abs(a - b))),
        *(eqx.filter(s.seeds.learned, eqx.is_inexact_array) for s in (after, start)),
    )
    assert isinstance(after.seeds.learned, Learned)
    assert moved.model.encoder.layers[0].weight == pytest.approx(1e-3, rel=1e-2)
    assert moved.estimator.estimator.log_temperature == pytest.approx(1e-2, rel=1e-2)
    # the prior starts at ½ and q(z) near it: a gradient within ±½
    assert 1e-4 < moved.model.prior_logits < 0.025
