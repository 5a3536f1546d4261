"""The training program: its bits do not depend on how the steps are cut, and it visits all data."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from expectax.lab.checkpoint import name_leaves
from expectax.lab.config import TrainConfig
from expectax.lab.data import Dataset
from expectax.lab.errors import UsageError
from expectax.lab.train import each_seed, measure, program

CONFIG = TrainConfig(
    estimator="rebar", num_latents=4, batch_size=6, learning_rate=1e-2, num_seeds=2, steps=20
)
PATTERNS = np.random.default_rng(0).integers(0, 2, (4, 12))
DATA = Dataset(
    np.tile(PATTERNS, (5, 1)).astype(np.uint8) * 255,
    PATTERNS.astype(np.uint8) * 255,
    shape=(3, 4),
    grey=True,
    summary="four patterns",
)


@pytest.fixture(scope="module")
def begun():
    run = program(CONFIG)
    return run, run.init(DATA)


def bits(state) -> dict[str, bytes]:
    raw = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    return {name: np.asarray(raw(x)).tobytes() for name, x in name_leaves(state).items()}


def test_no_step_changes_nothing_and_steps_can_be_cut_anywhere(begun):
    run, start = begun
    assert bits(run.advance(start, DATA, 0)) == bits(start)
    whole = run.advance(start, DATA, 17)
    cut = run.advance(run.advance(run.advance(start, DATA, 1), DATA, 9), DATA, 7)
    assert bits(cut) == bits(whole)
    assert int(whole.step) == 17
    moved = {name for name, x in bits(whole).items() if x != bits(start)[name]}
    still = set(bits(start)) - moved
    # keys and constants of the data stay; every weight, moment and learned leaf moves
    assert all(
        n.endswith(("key", "center", "typical", "spread")) or ".baseline" in n for n in still
    )
    assert any("log_temperature" in name for name in moved)


def test_an_epoch_is_a_permutation_and_the_next_is_another(begun):
    run, start = begun
    first = run.advance(start, DATA, 1)
    same = run.advance(start, DATA, 3)  # 20 pictures, 6 a step: 3 steps an epoch
    second = run.advance(start, DATA, 4)
    orders = [np.asarray(s.seeds.order) for s in (first, same, second)]
    for order in orders:
        assert np.array_equal(np.sort(order), np.tile(np.arange(20), (2, 1)))
    assert np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[1], orders[2])
    assert not np.array_equal(orders[0][0], orders[0][1])  # each seed has its own


def test_seeds_are_independent_and_the_first_of_two_is_as_if_alone(begun):
    run, start = begun
    alone_config = dataclasses.replace(CONFIG, num_seeds=1)
    alone = program(alone_config)
    one, two = alone.advance(alone.init(DATA), DATA, 5), run.advance(start, DATA, 5)
    first = jax.tree.map(lambda x: x[:1] if eqx.is_array(x) else x, two.seeds)
    assert bits(one.seeds) == bits(first)
    weight = two.seeds.learned.model.encoder.layers[0].weight
    assert not np.allclose(weight[0], weight[1], atol=1e-2)


def test_an_accelerator_takes_the_same_steps_of_all_seeds_at_once(begun, monkeypatch):
    run, start = begun
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    together = program(dataclasses.replace(CONFIG, steps=21))  # another task: compiled afresh
    step = lambda state: eqx.filter(together.advance(state, DATA, 1), eqx.is_array)
    lowered = jax.make_jaxpr(step)(start)
    assert "f32[2,6,12]" in str(lowered)  # both seeds' batches in one array
    one, other = run.advance(start, DATA, 4), together.advance(start, DATA, 4)
    leaves = [name_leaves(state.seeds.learned).values() for state in (one, other)]
    assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(*leaves, strict=True))
    assert np.array_equal(one.seeds.order, other.seeds.order)


def test_another_seed_is_another_run():
    weights = []
    for seed in (0, 1):
        config = dataclasses.replace(CONFIG, num_seeds=1, seed=seed)
        state = program(config).init(DATA)
        weights.append(np.asarray(state.seeds.learned.model.encoder.layers[0].weight))
    assert not np.allclose(*weights)


def test_training_learns_the_four_patterns(begun):
    run, start = begun
    before = measure(CONFIG, start, DATA)
    state = run.advance(start, DATA, 3000)
    after = measure(CONFIG, state, DATA)
    # log 4 nats tell the patterns apart: the ELBO's least upper bound is −log 4
    assert np.all(np.asarray(before["test_elbo"]) < -4)
    assert np.all(np.asarray(after["test_elbo"]) > -2.6)
    assert np.all(np.asarray(after["test_elbo"]) < -np.log(4) + 0.05)
    assert np.all(np.asarray(after["gradient_variance"]) > 0)


def test_measuring_leaves_no_trace_and_does_not_repeat_itself(begun):
    _run, start = begun
    one, again = measure(CONFIG, start, DATA), measure(CONFIG, start, DATA)
    for name in one:
        assert np.array_equal(one[name], again[name])
    later = measure(CONFIG, eqx.tree_at(lambda s: s.step, start, start.step + 1), DATA)
    assert not np.array_equal(one["test_elbo"], later["test_elbo"])


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_each_seed_is_vmap_whatever_their_number(backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    for num in (1, 3):
        x = jnp.arange(2.0 * num).reshape(num, 2)
        out = each_seed(lambda x: {"sum": x.sum(), "fixed": None})(x)
        assert np.array_equal(out["sum"], x.sum(1))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model": "deep"}, "linear, nonlinear or categorical"),
        ({"data": "cifar"}, "digits, mnist, fashion, .* or nltcs"),
        ({"estimator": "rebr"}, "rebar"),
        ({"steps": 0}, "--steps is 0"),
        ({"batch_size": -1}, "--batch-size is -1"),
        ({"learning_rate": 0.0}, "--learning-rate is 0.0"),
        ({"learning_rate": float("nan")}, "--learning-rate is nan"),
        ({"num_categories": 1, "model": "categorical"}, "--num-categories is 1"),
        ({"num_categories": 4}, "no option --num-categories"),
        ({"estimator": "arm", "num_pairs": 2}, "no option --num-pairs"),
        ({"seed": -1}, "--seed is -1"),
        ({"seed": 2**63}, "--seed is"),
        ({"prior_rate": -1.0}, "--prior-rate is -1.0"),
        ({"beta2": 1.0}, "--beta2 is 1.0"),
    ],
)
def test_a_choice_that_cannot_work_is_refused(change, complaint):
    with pytest.raises(UsageError, match=complaint):
        TrainConfig(**change).check()


def test_a_config_survives_json():
    import json
    import pathlib

    config = TrainConfig(data_dir=pathlib.Path("/data"), num_pairs=2, learning_rate=3e-4)
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert TrainConfig.from_json(TrainConfig().to_json()) == TrainConfig()
