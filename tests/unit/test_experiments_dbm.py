"""The experiment on deep Boltzmann machines: coordinates, the stages of a run, a quick run."""

import dataclasses
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from expectax import cli
from expectax.lab.experiments._centering import centered_at
from expectax.lab.experiments._dbm_task import Deep
from expectax.models import DBM, stacked

from .deaths import changed_in_small, leave_copies

PNG = b"\x89PNG\r\n\x1a\n"
SMALL = Deep(
    num_hidden=4, num_top=3, num_chains=6, data="digits", steps=30, first_steps=10, second_steps=10
)


@pytest.fixture(scope="module")
def begun():
    data = SMALL.load()
    learned = SMALL.init(jax.random.key(1), data)
    moved = lambda x: x + 0.3 * jax.random.normal(jax.random.key(x.size), x.shape)
    weights = lambda t: (t.first.weights, t.second.weights, t.whole.coordinates.weights)
    return data, eqx.tree_at(weights, learned, replace_fn=moved)


def arrays(tree):
    return jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))


def test_centered_energies_are_those_of_the_machine_up_to_a_constant():
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    model = DBM(draw(4, 3), draw(3, 2), draw(4), draw(3), draw(2))
    mu, lam, nu = offsets = draw(4), draw(3), draw(2)
    parts = centered_at(model, offsets)
    for one, other in zip(arrays(parts.machine), arrays(model), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    v, h, t = (jnp.asarray(rng.integers(0, 2, (20, n)), jnp.float32) for n in (4, 3, 2))
    at = parts.coordinates
    own = v @ at.visible_bias + h @ at.hidden_bias + t @ at.top_bias
    below = ((v - mu) @ at.weights * (h - lam)).sum(-1)
    above = ((h - lam) @ at.top_weights * (t - nu)).sum(-1)
    rest = own + below + above + model.energy(v, h, t)
    np.testing.assert_allclose(rest, rest[0], atol=1e-4)


def test_a_part_begins_at_the_means_when_its_weights_are_doubled(begun):
    data, _ = begun
    learned = SMALL.init(jax.random.key(1), data)
    mean = learned.whole.offsets[0]
    heard = 2 * mean @ learned.first.weights + learned.first.machine.hidden_bias
    np.testing.assert_allclose(jax.nn.sigmoid(heard), SMALL.activity, rtol=1e-4)
    for one, other in zip(
        arrays(learned.whole.machine),
        arrays(stacked(learned.first.machine, learned.second.machine)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("doubled", [True, False])
def test_each_stage_trains_its_part(begun, doubled):
    data, learned = begun
    second_steps = 10 if doubled else 0
    task = dataclasses.replace(SMALL, doubled=doubled, second_steps=second_steps)
    batch = task.batch(jax.random.key(2), data, jnp.arange(5))
    loss = lambda learned, step: task.objective(learned, batch, jax.random.key(3), step)
    slope = eqx.filter_jit(eqx.filter_grad(loss))
    stages = {0: "first", 9: "first", 20: "whole"} | ({10: "second"} if doubled else {10: "whole"})
    for step, name in stages.items():
        found = slope(learned, jnp.asarray(step))
        for part in ("first", "second", "whole"):
            moves = any(np.any(x) for x in arrays(getattr(found, part)))
            assert moves == (part == name)


def test_the_parts_are_put_together_and_then_left_alone(begun):
    _, learned = begun
    settle = eqx.filter_jit(SMALL.settle)
    model = stacked(learned.first.machine, learned.second.machine)
    before, at, after = (settle(learned, jnp.asarray(step)) for step in (5, 19, 20))
    for found in (before, at):
        for one, other in zip(arrays(found.whole.machine), arrays(model), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
    assert np.any(at.whole.offsets[1] != learned.whole.offsets[1])
    assert np.array_equal(before.chains[0], learned.chains[0])
    assert not np.array_equal(at.chains[0], learned.chains[0])
    for one, other in zip(arrays(after.whole), arrays(learned.whole), strict=True):
        np.testing.assert_array_equal(one, other)
    key = jax.random.fold_in(learned.key, 20)
    want = learned.whole.machine.gibbs(key, learned.chains, SMALL.num_moves)
    for one, other in zip(after.chains, want, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_quick_version_beside_the_exact_partition_function(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    leave_copies(monkeypatch, tmp_path / "cut")
    with pytest.raises(SystemExit) as stop:
        cli.main(["reproduce", "dbm", "--quick", "--run-dir", str(folder)])
    assert stop.value.code == 0
    found = json.loads((folder / "stacked" / "results.json").read_text())
    curves = json.loads((folder / "curves.json").read_text())["stacked"]
    points = np.mean(curves["test_lower_bound"], axis=0)
    stacked_at = points[np.searchsorted(curves["step"], 400)]
    assert stacked_at > points[0] + 1  # what the parts come to, and then what the whole does
    assert np.mean(found["exact_test_lower_bound"]) > stacked_at + 0.2
    gap = np.subtract(found["log_z"], found["exact_log_z"])
    assert np.all(np.abs(gap) < 4 * np.array(found["log_z_error"]))
    assert np.all(np.array(found["log_z_error"]) < 0.1)
    assert (folder / "stacked" / "samples.png").read_bytes().startswith(PNG)
    assert (folder / "dbm.png").read_bytes().startswith(PNG)
    assert changed_in_small("dbm", "stacked", folder, tmp_path / "cut") == []
