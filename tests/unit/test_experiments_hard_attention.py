"""Hard attention trained: fields, test pictures that stay where they are, and the quick version."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from expectax import cli
from expectax.distributions import joint
from expectax.lab.experiments import _attention_task as tasks, hard_attention
from expectax.lab.experiments._fields import Field, window
from expectax.lab.experiments._training_plan import Asked, Outcome
from expectax.models import patch_mask

from .deaths import changed_in_small, leave_copies

PNG = b"\x89PNG\r\n\x1a\n"
NOTHING = jnp.zeros((1, 9), jnp.uint8)


def test_a_picture_lies_whole_anywhere_in_its_field():
    picture = np.arange(1.0, 10.0).reshape(3, 3) / 10
    x = jnp.broadcast_to(picture.reshape(-1), (600, 9))
    fields = jax.jit(Field(6).place)(jax.random.key(0), x, NOTHING).reshape(-1, 6, 6)
    places = np.array([np.argwhere(np.isclose(field, 0.1))[0] for field in np.asarray(fields)])
    for field, (i, j) in zip(fields, places, strict=True):
        want = np.zeros((6, 6))
        want[i : i + 3, j : j + 3] = picture
        np.testing.assert_allclose(field, want, rtol=1e-6)
    counts = np.bincount(places @ [4, 1], minlength=16)
    assert counts.min() > 0  # each of the 16 places, all about as often
    assert ((counts - 600 / 16) ** 2 / (600 / 16)).sum() < 45


def test_pieces_of_others_lie_around_it_and_below_what_is_brighter():
    x, others = jnp.full((300, 9), 0.5), jnp.full((4, 9), 51, jnp.uint8)
    others = others.at[2:].set(255)
    fields = jax.jit(Field(8, num_pieces=2, piece=2).place)(jax.random.key(1), x, others)
    levels = np.unique(np.round(np.asarray(fields), 6))
    np.testing.assert_allclose(levels, [0, 0.2, 0.5, 1], atol=1e-6)
    dim, bright = (np.sum(np.isclose(fields, level), axis=1) for level in (0.2, 1.0))
    own = np.sum(np.isclose(fields, 0.5), axis=1)
    assert max(dim.max(), bright.max()) == 8
    assert np.all(dim + bright <= 8)
    assert np.all(own[bright == 0] == 9)  # what is dimmer hides nothing
    assert own.min() < 9


def test_a_window_reaches_every_edge():
    x = jnp.arange(25).reshape(5, 5)
    seen = jax.vmap(lambda key: window(key, x, 3))(jax.random.split(jax.random.key(0), 200))
    assert {int(corner) for corner in seen[:, 0, 0]} == {0, 1, 2, 5, 6, 7, 10, 11, 12}


def test_test_pictures_lie_where_they_always_lie():
    task = tasks.ByMask(data="digits", field=12, steps=10, size=3, hidden=(8,))
    data = task.load()
    learned = task.init(jax.random.key(0), data)
    measure = jax.jit(lambda key: task.tested(key, learned, data, drawn=False))
    one, other = measure(jax.random.key(1)), measure(jax.random.key(2))
    assert one["test_nats"] == other["test_nats"]
    drawn = jax.jit(lambda key: task.tested(key, learned, data, drawn=True))
    one, other = drawn(jax.random.key(1)), drawn(jax.random.key(2))
    assert one["test_nats"] != other["test_nats"]
    np.testing.assert_allclose(one["shown"], 90, atol=3)
    (x, y), (again, _) = (task.batch(jax.random.key(k), data, jnp.arange(5)) for k in range(2))
    assert x.shape == (5, 144)
    assert not np.array_equal(x, again)
    np.testing.assert_allclose(x.sum(1), data.train[:5].sum(1) / 255, rtol=1e-5)
    np.testing.assert_array_equal(y, data.train_labels[:5])


def test_the_contenders_of_each_data_set():
    for data in hard_attention.DATA:
        plan = hard_attention.plan(Asked(data=data, steps=7))
        names = list(hard_attention.EVALUATIONS)[0 if data == "mnist" else 1 :]
        assert [c.name for c in plan.contenders] == names
        assert {c.task.steps for c in plan.contenders} == {7}
        published = [c.published.get("test_error") for c in plan.contenders]
        assert published == [hard_attention.PUBLISHED[data], *[None] * (len(names) - 1)]
        scales = [getattr(c.task, "num_scales", 0) for c in plan.contenders]
        assert scales == [1, 3, 3, 3, 0, 0, 0][-len(names) :]
    assert {c.task.num_pieces for c in plan.contenders} == {4}
    for contender in plan.contenders:
        contender.task.check()
        assert contender.task.field % contender.task.size == 0
    q = joint(patch_mask(jax.random.key(0), 4, 2, 10).mask_law(jnp.zeros((2, 16))))
    for name, make in tasks.ESTIMATORS.items():
        count = make().evaluations(q)
        assert hard_attention.EVALUATIONS[f"mask-{name}"] == f"{count.hard} + {count.auxiliary}"
    for name, make in tasks.GRADIENTS.items():
        assert hard_attention.EVALUATIONS[f"glimpses-{name}"] == f"{make(1).num_rollouts} + 0"


def test_equal_time_is_where_the_fastest_ends():
    curve = lambda seconds, error: {
        "step": np.array([0, 10, 20, 30]), "seconds": np.array(seconds), "error": np.array(error)
    }  # fmt: skip
    outcomes = {
        "slow": Outcome({}, curve([9.0, 19.0, 23.0, 27.0], [[90.0, 20.0, 10.0, 10.0]] * 2)),
        "fast": Outcome(
            {}, curve([0.0, 2.0, 4.0, 9.0], [[90.0, 50.0, 40.0, 30.0], [90.0, 50.0, 40.0, 32.0]])
        ),
    }
    rows = hard_attention.at_equal_time("error", "error, %")
    slow, fast = rows(outcomes)
    assert (slow.name, slow.quantity, slow.ours) == ("slow", "after 15 steps", 15.0)
    assert (fast.name, fast.quantity, fast.ours) == ("fast", "after 30 steps", 31.0)
    assert "6 seconds" in fast.group
    assert rows({"slow": outcomes["slow"]}) == []


def test_the_quick_version(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    leave_copies(monkeypatch, tmp_path / "cut")
    with pytest.raises(SystemExit) as stop:
        cli.main(["reproduce", "hard-attention", "--quick", "--run-dir", str(folder)])
    assert stop.value.code == 0
    curves = json.loads((folder / "curves.json").read_text())
    for name, worst in (("glimpses-baseline", 40), ("mask-disarm", 40)):
        found = json.loads((folder / name / "results.json").read_text())
        (error,), share = found["test_error"], found["test_error"][0] / 100
        first, *_, last = curves[name]["test_error"][0]
        assert error < worst < 70 < first
        assert abs(last - error) < 10  # the same pictures, looked at anew
        spread = 100 * math.sqrt(share * (1 - share) / 359)
        assert found["binomial_error"][0] == pytest.approx(spread, rel=1e-4)
        assert (folder / name / "looks.png").read_bytes().startswith(PNG)
    assert 2 < found["shown"][0] < 90
    assert "at equal time" in (folder / "table.md").read_text()
    assert (folder / "hard-attention.png").read_bytes().startswith(PNG)
    assert changed_in_small("hard-attention", "mask-disarm", folder, tmp_path / "cut") == []
