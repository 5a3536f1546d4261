"""The experiment on restricted Boltzmann machines: coordinates, chains, schedule, a quick run."""

import dataclasses
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from expectax import cli
from expectax.lab.experiments import _rbm_task as task_of
from expectax.lab.experiments._centering import Centered, centered, smoothed
from expectax.lab.experiments._rbm_task import Machine
from expectax.lab.experiments._training_plan import Outcome

from .deaths import changed_in_small, leave_copies

PNG = b"\x89PNG\r\n\x1a\n"
SMALL = Machine(
    persistent=True, ks=(1, 3), num_hidden=4, num_chains=6, data="digits", steps=10, momentum=0.0
)


@pytest.fixture(scope="module")
def begun():
    data = SMALL.load()
    return data, SMALL.init(jax.random.key(1), data)


def test_centered_energies_are_those_of_the_machine_up_to_a_constant():
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape))
    parts = Centered(draw(4, 3), draw(4), draw(3), draw(4), draw(3))
    v, h = jnp.asarray(rng.integers(0, 2, (20, 4))), jnp.asarray(rng.integers(0, 2, (20, 3)))
    own = v @ parts.visible_bias + h @ parts.hidden_bias
    pairs = (v - parts.visible_offset) @ parts.weights * (h - parts.hidden_offset)
    rest = own + pairs.sum(-1) + parts.machine.energy(v, h)
    np.testing.assert_allclose(rest, rest[0], rtol=1e-4)
    assert np.ptp(own) > 1


def test_a_machine_begins_with_the_means_that_it_is_given():
    below, above = smoothed(jnp.array([0.0, 0.3, 1.0])), jnp.array([0.2, 0.6])
    parts = centered(jax.random.key(0), below, above)
    flat = eqx.tree_at(lambda parts: parts.weights, parts, jnp.zeros((3, 2))).machine
    np.testing.assert_allclose(jax.nn.sigmoid(flat.visible_bias), below, rtol=1e-5)
    np.testing.assert_allclose(jax.nn.sigmoid(flat.hidden_bias), above, rtol=1e-5)
    assert np.all((below > 0) & (below < 1))


def test_the_chains_of_a_step_are_those_that_settle_has_moved(begun):
    data, learned = begun
    batch = SMALL.batch(jax.random.key(2), data, jnp.arange(5))
    slope = jax.grad(
        lambda b: SMALL.objective(
            eqx.tree_at(lambda t: t.centered.visible_bias, learned, b), batch, learned.key, 0
        )
    )(learned.centered.visible_bias)
    # ∂F/∂a = −v, whatever the rest
    truth = learned.chains.astype(jnp.float32).mean(0) - batch.mean(0)
    np.testing.assert_allclose(slope, truth, atol=1e-6)
    for step, k in ((0, 1), (4, 1), (5, 3), (9, 3)):
        moved = SMALL.settle(learned, jnp.asarray(step))
        key = jax.random.fold_in(learned.key, step)
        want = learned.centered.machine.gibbs(key, learned.chains, k)
        np.testing.assert_array_equal(moved.chains, want)
        assert moved.chains.dtype == jnp.uint8
    from_data = dataclasses.replace(SMALL, persistent=False)
    assert from_data.settle(learned, jnp.asarray(0)) is learned


def test_offsets_are_held_and_weights_decay(begun):
    _, learned = begun
    task = dataclasses.replace(SMALL, weight_cost=0.1)
    optimizer = task_of_optimizer(task, learned)
    zeros = jax.tree.map(jnp.zeros_like, eqx.filter(learned, eqx.is_inexact_array))
    ones = jax.tree.map(jnp.ones_like, zeros)
    params = eqx.filter(learned, eqx.is_inexact_array)
    decay, _ = optimizer.update(zeros, optimizer.init(params), params)
    want = -task.learning_rate * 0.1 * learned.centered.weights
    np.testing.assert_allclose(decay.centered.weights, want, rtol=1e-5)
    assert not np.any(decay.centered.visible_bias)
    moves, _ = optimizer.update(ones, optimizer.init(params), params)
    assert not np.any(moves.centered.visible_offset)
    assert not np.any(moves.centered.hidden_offset)
    np.testing.assert_allclose(moves.centered.hidden_bias, -task.learning_rate, rtol=1e-5)


def task_of_optimizer(task, learned):
    from expectax.lab.task import separately

    return separately(task.optimizers(), learned)


def test_temperatures_and_shades():
    betas = np.asarray(task_of.annealing(100))
    assert betas[0] == 0
    assert betas[-1] == 1
    assert np.all(np.diff(betas) > 0)
    filters = np.array([[0.0, -2.0, 1.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(task_of.in_shades(filters), [[0.5, 0.0, 0.75], [0.5, 0.5, 0.5]])


def test_log_z_agrees_where_it_is_near_and_its_error_small():
    of = lambda **found: Outcome({name: np.array(x) for name, x in found.items()}, {})
    outcomes = {
        "a": of(
            exact_log_z=[5.0, 5.0, 5.0], log_z=[5.02, 5.04, 4.8], log_z_error=[0.01, 0.01, 0.11]
        ),
        "b": of(log_z=[5.0], log_z_error=[0.01]),
    }
    rows = task_of.beside_exact(outcomes)
    assert [row.verdict.holds for row in rows] == [True, False, False]
    assert rows[1].verdict.text == "DISAGREES: +4.0 s.e."
    assert rows[0].published == "5.000"


def test_the_quick_version_beside_the_exact_partition_function(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    leave_copies(monkeypatch, tmp_path / "cut")
    with pytest.raises(SystemExit) as stop:
        cli.main(["reproduce", "rbm", "--quick", "--run-dir", str(folder)])
    assert stop.value.code == 0
    curves = json.loads((folder / "curves.json").read_text())
    for name in ("cd-1", "pcd"):
        found = json.loads((folder / name / "results.json").read_text())
        before = np.mean(curves[name]["test_log_prob"], axis=0)[0]
        assert np.mean(found["exact_test_log_prob"]) > before + 3
        assert np.all(np.array(found["log_z_error"]) < 0.1)
        gap = np.subtract(found["log_z"], found["exact_log_z"])
        assert np.all(np.abs(gap) < 4 * np.array(found["log_z_error"]))
        assert (folder / name / "samples.png").read_bytes().startswith(PNG)
    assert (folder / "rbm.png").read_bytes().startswith(PNG)
    assert changed_in_small("rbm", "pcd", folder, tmp_path / "cut") == []
