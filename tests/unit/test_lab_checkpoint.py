"""Checkpoints: bit-identical when whole, never used when not."""

import json
import os
import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from expectax.lab.checkpoint import Checkpoints, name_leaves
from expectax.lab.files import write_atomically


def state(scale: float):
    return {
        "model": eqx.nn.Linear(3, 2, key=jax.random.key(int(scale))),
        "key": jax.random.split(jax.random.key(7), 2),
        "step": jnp.asarray(int(scale), jnp.int32),
        "half": jnp.asarray([scale, jnp.inf], jnp.bfloat16),
        "nothing": None,
        "name": "static",
    }


@pytest.fixture
def kept(tmp_path):
    """A folder with whole checkpoints of steps 1, 2, 3, and what writes it."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in (1, 2, 3):
        checkpoints.save(step, state(step))
    checkpoints.wait()
    yield checkpoints
    checkpoints.close()


def same_bits(left, right) -> bool:
    raw = lambda x: np.asarray(
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    ).tobytes()
    left, right = name_leaves(left), name_leaves(right)
    return left.keys() == right.keys() and all(raw(left[n]) == raw(right[n]) for n in left)


def restored(checkpoints):
    """Step and state that are found, and the warnings."""
    lines: list[str] = []
    found = checkpoints.restore_latest(state(9), lines.append)
    return found, lines


def test_what_is_restored_has_the_same_bits_types_and_statics(kept):
    (step, found), lines = restored(kept)
    assert step == 3
    assert not lines
    assert same_bits(found, state(3))
    assert not same_bits(found, state(2))
    assert found["name"] == "static"
    assert found["nothing"] is None
    assert found["half"].dtype == jnp.bfloat16
    assert jnp.issubdtype(found["key"].dtype, jax.dtypes.prng_key)
    assert jax.tree.structure(found) == jax.tree.structure(state(3))


def test_only_the_latest_are_kept(kept):
    for step in (4, 5):
        kept.save(step, state(step))
    kept.wait()
    assert kept.steps() == [5, 4, 3]
    assert all(kept.damage(step) is None for step in kept.steps())


def files_of(checkpoints, step):
    folder = checkpoints.folder / str(step)
    return sorted(p for p in folder.rglob("*") if p.is_file())


def test_every_file_of_a_checkpoint_is_guarded_against_truncation_bit_flips_and_loss(kept):
    (before, _), _ = restored(kept)
    assert before == 3
    files = files_of(kept, 3)
    assert len(files) > 5
    for path in files:
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 0x10
        for torn in (whole[: len(whole) // 2], bytes(flipped), None):
            path.unlink()
            if torn is not None:
                path.write_bytes(torn)
            assert kept.damage(3) is not None, (path, torn)
            path.write_bytes(whole)
        assert kept.damage(3) is None


def test_the_last_whole_one_is_used_and_each_damaged_one_is_reported(kept):
    for step in (2, 3):
        path = max(files_of(kept, step), key=lambda p: p.stat().st_size)
        path.write_bytes(path.read_bytes()[:-1])
    (step, found), lines = restored(kept)
    assert step == 1
    assert same_bits(found, state(1))
    assert [line.split()[1] for line in lines] == ["3", "2"]
    kept.save(3, state(3))  # made again in place of the damaged one
    (step, found), lines = restored(kept)
    assert step == 3
    assert not lines
    assert same_bits(found, state(3))


def test_no_whole_checkpoint_is_none(kept, tmp_path):
    for step in (1, 2, 3):
        (kept.folder / str(step) / "manifest.json").write_text('{"arr')
    found, lines = restored(kept)
    assert found is None
    assert len(lines) == 3
    (kept.folder / "1" / "manifest.json").write_text(json.dumps({}))
    assert kept.damage(1) is not None
    assert restored(Checkpoints(tmp_path / "none")) == (None, [])


def test_a_stranger_among_the_files_is_seen(kept):
    (kept.folder / "3" / "arrays" / "more").write_text("")
    assert "more" in str(kept.damage(3))


@pytest.mark.parametrize("deaths", [0, 1])
def test_dying_while_writing_leaves_the_earlier_ones_whole(kept, monkeypatch, deaths):
    """Die at the first rename (of the manifest), and at the second (of the folder)."""
    replace, calls = os.replace, []

    def dying(*paths):
        if "writing-4" in str(paths[0]):
            calls.append(paths)
            if len(calls) > deaths:
                raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(os, "replace", dying)
    kept.save(4, state(4))
    with pytest.raises(KeyboardInterrupt):
        kept.wait()
    assert len(calls) == deaths + 1
    monkeypatch.undo()
    (step, found), lines = restored(kept)
    assert step == 3
    assert not lines
    assert same_bits(found, state(3))
    assert any(kept.folder.glob("writing-*"))
    kept.save(4, state(4))
    kept.wait()
    assert kept.steps() == [4, 3, 2]
    assert not any(kept.folder.glob("writing-*"))


def test_what_comes_next_does_not_wait_for_the_save_and_the_next_save_does(kept, monkeypatch):
    go, replace, order = threading.Event(), os.replace, []

    def held(*paths):
        if "writing-manifest" not in str(paths[0]):
            assert go.wait(60)
            order.append(int(str(paths[1]).rpartition("/")[2]))
        replace(*paths)

    monkeypatch.setattr(os, "replace", held)
    now = state(4)
    kept.save(4, now)
    # the save is not done, and cannot be seen, while the state goes on
    assert kept.steps() == [3, 2, 1]
    now = jax.tree.map(lambda x: x + 1 if eqx.is_inexact_array(x) else x, now)
    threading.Timer(0.05, go.set).start()
    kept.save(5, now)
    assert kept.steps()[0] in (4, 5)
    kept.wait()
    assert order == [4, 5]
    monkeypatch.undo()
    assert same_bits(kept._restore(4, state(9)), state(4))
    assert same_bits(kept._restore(5, state(9)), now)


def test_a_save_that_failed_is_not_passed_over(kept, monkeypatch):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    kept.save(4, state(4))
    with pytest.raises(OSError, match="no space"):
        kept.save(5, state(5))
    monkeypatch.undo()
    assert kept.steps() == [3, 2, 1]
    kept.save(5, state(5))
    kept.wait()
    assert kept.steps() == [5, 3, 2]


def test_text_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, "one")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "two")
    assert path.read_text() == "one"
