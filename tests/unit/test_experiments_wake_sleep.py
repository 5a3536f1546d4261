"""The wake-sleep experiment: its tiny nets summed out, two gradients' angle, gaps, and in small."""

import dataclasses
import functools
import io
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import rich.console

import expectax as ex
from expectax.distributions import joint
from expectax.lab.data import Dataset
from expectax.lab.experiments import EXPERIMENTS, _wake_sleep_exact as exactly, wake_sleep
from expectax.lab.experiments._gradient_angle import cosine_of
from expectax.lab.experiments._training_plan import Asked
from expectax.lab.experiments._wake_sleep_losses import METHODS, evaluations
from expectax.objectives import hierarchical_neg_elbo

from .deaths import changed_in_small, leave_copies

TINY = wake_sleep.BeliefNet(
    data="digits", shrink=True, sizes=(3, 2), batch_size=50, hidden_bias=0.0
)
ANGLE = np.array([0.6, 0.8])
"""Its cosine and sine."""


@pytest.fixture(scope="module")
def begun():
    """The data of a tiny net, and the net with every weight moved."""
    data = TINY.load()

    @eqx.filter_jit
    def start(key, data):
        learned = TINY.init(key, data)
        floats, others = eqx.partition(learned.model, eqx.is_inexact_array)
        leaves, structure = jax.tree.flatten(floats)
        keys = jax.random.split(jax.random.key(1), len(leaves))
        moved = [x + jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
        model = eqx.combine(jax.tree.unflatten(structure, moved), others)
        return dataclasses.replace(learned, model=model)

    return data, start(jax.random.key(0), data)


def test_digits_shrink_to_nine_blocks():
    picture = np.zeros((8, 8), np.uint8)
    picture[0] = picture[:, 7] = 1  # the border is left out
    picture[1, 1] = picture[2, 2] = 1  # half of the first block
    picture[3, 3] = 1  # a quarter of the middle one
    picture[5:7, 3:5] = 1
    rows = picture.reshape(1, 64)
    data = Dataset(rows, rows, shape=(8, 8), grey=False, summary="", binarization="threshold")
    small = exactly.shrunk(data)
    assert (small.shape, small.train.tolist()) == ((3, 3), [[1, 0, 0, 0, 0, 0, 0, 1, 0]])
    whole = TINY.load()
    assert whole.train.shape == (1438, 9)
    assert 0.2 < whole.train.mean() < 0.8


def test_the_tables_hold_every_setting_and_the_elbo_is_that_of_nested_sums(begun):
    data, learned = begun
    of = lambda model, x: jnp.mean(
        hierarchical_neg_elbo(jax.random.key(0), model, x, ex.Enumerate())
    )

    @eqx.filter_jit
    def found(model, x):
        gradients = [eqx.filter_grad(f)(model, x) for f in (of, exactly.exact_neg_elbo)]
        every = exactly.every(9)
        return [g.encoders for g in gradients], every, exactly.tables(model, every)

    gradients, every, tables = found(learned.model, data.train[:20].astype(float))
    assert len({tuple(row) for row in np.asarray(every).tolist()}) == 512
    log_p, log_q = (np.asarray(table, float) for table in tables)
    assert log_p.shape == log_q.shape == (32, 512)
    np.testing.assert_allclose(np.exp(log_p).sum(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(np.exp(log_q).sum(0), 1.0, rtol=1e-5)
    for one, other in zip(*map(jax.tree.leaves, gradients), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_the_cosine_from_draws_is_the_exact_one(begun):
    data, learned = begun
    task = dataclasses.replace(TINY, batch_size=100)

    @eqx.filter_jit
    def both(learned, data):
        exact = exactly.exact_cosine(learned.model, data.train.astype(float))
        return exact, task.cosine(jax.random.key(3), learned, data, 20, 60)

    exact, found = both(learned, data)
    assert 4.5 * found.standard_error < 0.15  # the check has power: it ranges from −1 to 1
    assert abs(found.value - exact) < 4.5 * found.standard_error
    assert abs(exact) < 0.9


NUM = 3000
many_cosines = jax.jit(jax.vmap(cosine_of))


def pairs(noise):
    """Draws of two gradients in 40 dimensions at a known angle, (NUM, groups, dimensions)."""
    rng, a, b = np.random.default_rng(0), np.eye(40)[0], 2 * np.eye(40)[:2].T @ ANGLE
    return [mean + noise * rng.normal(size=(NUM, 12, 40)) for mean in (a, b)]


def test_the_cosine_has_no_bias_of_noise_and_the_error_that_it_states():
    a, b = pairs(noise=0.25)
    found = jax.device_get(many_cosines(a, b))
    error = found.value.std() / NUM**0.5
    assert 4.5 * error < 0.02 * ANGLE[0]  # the check has power
    assert abs(found.value.mean() - ANGLE[0]) < 4.5 * error
    stated = np.sqrt(np.mean(found.standard_error**2))
    assert stated == pytest.approx(found.value.std(), rel=0.15)
    means = a.mean(1), b.mean(1)
    norms = np.linalg.norm(means[0], axis=1) * np.linalg.norm(means[1], axis=1)
    plain = np.mean(np.sum(means[0] * means[1], axis=1) / norms)
    assert ANGLE[0] - plain > 0.05  # with the noise in its norms it would be this much less


def squared_norm(draws):
    """Of the mean, without bias, of each row's draws."""
    num = draws.shape[1]
    whole = np.sum(draws.sum(1) ** 2, axis=-1) - np.sum(draws**2, axis=(1, 2))
    return whole / (num * (num - 1))


def test_where_a_norm_is_not_seen_the_cosine_is_not_known():
    a, b = (x - x.mean((0, 1)) for x in pairs(noise=5.0))  # only noise
    found = jax.tree.map(lambda x: np.asarray(x)[:300], many_cosines(a, b))
    a, b = a[:300], b[:300]
    seen = (squared_norm(a) > 0) & (squared_norm(b) > 0)
    assert 0.1 < seen.mean() < 0.5
    np.testing.assert_array_equal(found.value != 0, seen)
    assert np.abs(found.value).max() <= 1
    assert np.all(found.standard_error[~seen] == 1)
    one_less = [np.delete(x, i, axis=1) for x in (a, b) for i in range(12)]
    always = np.all([squared_norm(x) > 0 for x in one_less], axis=0)
    assert np.all(found.standard_error[~always] == 1)
    assert np.all(found.standard_error[always & seen] != 1)
    alike = np.ones((NUM, 12, 40))
    opposite = many_cosines(alike, -2 * alike)
    np.testing.assert_allclose(opposite.value, -1, rtol=1e-5)
    np.testing.assert_allclose(opposite.standard_error, 0, atol=1e-5)
    nothing = cosine_of(np.zeros((3, 2)), np.ones((3, 2)))
    assert (nothing.value, nothing.standard_error) == (0, 1)


def test_the_gap_lies_between_nothing_and_what_the_bound_lacks(begun):
    task = dataclasses.replace(TINY, sizes=(4,))

    @eqx.filter_jit
    def found(data):
        model = task.init(jax.random.key(0), data).model
        weight = lambda model: model.decoders[0].layers[0].weight
        model = eqx.tree_at(weight, model, 8 * weight(model))
        x = data.test[:40].astype(float)
        evidence = jax.nn.logsumexp(exactly.tables(model, x)[0], axis=0)
        lacks = jnp.mean(evidence) + exactly.exact_neg_elbo(model, x)
        return wake_sleep.gap_of_each(jax.random.key(1), model, x, 600), lacks

    gaps, lacks = jax.device_get(found(begun[0]))
    assert gaps.shape == (40,)
    assert 4.5 * gaps.std() / 40**0.5 < gaps.mean() < lacks
    assert gaps.mean() > 0.3 * lacks  # an untrained encoder: most of it


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_gradient(begun, method):
    """Traced, not run: what the losses are worth is tested where they are made."""
    data, learned = begun
    task = dataclasses.replace(TINY, method=method)

    def gradient(data, model):
        mine = dataclasses.replace(task.init(jax.random.key(0), data), model=model)
        x = data.train[:4].astype(float)
        of = lambda mine: task.objective(mine, x, jax.random.key(1), jnp.zeros((), int))
        return eqx.filter_value_and_grad(of)(mine)

    value, found = eqx.filter_eval_shape(gradient, data, learned.model)
    assert value.shape == ()
    assert len(jax.tree.leaves(found.model.encoders)) == 4
    assert (found.controls is not None) == (method == "nvil")


def test_the_evaluations_that_the_table_states():
    q = joint(dist.Bernoulli(logits=jnp.zeros((2, 3))).to_event(1))
    assert ex.NVIL(0.0).evaluations(q).hard == 1
    assert ex.DisARM().evaluations(q).hard == 2
    stated = {method: [evaluations(method, depth) for depth in (1, 2, 3)] for method in METHODS}
    assert stated == {
        "wake-sleep": ["1 + 1"] * 3,
        "nvil": ["1 + 0"] * 3,
        "disarm": ["2 + 0", "4 + 0", "8 + 0"],
        "vimco": ["5 + 0"] * 3,
        "reweighted": ["5 + 0"] * 3,
    }


@functools.cache
def contenders(asked: Asked):
    return {c.name: c for c in wake_sleep.plan(asked).contenders}


def test_published_figures_stand_beside_their_own_nets_alone():
    full = contenders(Asked())
    assert len(full) == len(METHODS) * 3
    assert full["wake-sleep-200"].published == {"test_elbo": "-120.8"}
    assert full["nvil-200-200"].published == {"test_elbo": "-99.8"}
    assert full["reweighted-200"].published == {"test_bound_1000": "-103"}
    assert not full["disarm-200"].published
    assert set(wake_sleep.PUBLISHED) <= set(full)
    assert not any(c.published for c in contenders(Asked(quick=True)).values())


def test_the_experiment_in_small(tmp_path, monkeypatch):
    console = rich.console.Console(file=io.StringIO())
    leave_copies(monkeypatch, tmp_path / "cut")
    EXPERIMENTS["wake-sleep"].run(tmp_path / "run", True, console)
    curves = json.loads((tmp_path / "run" / "curves.json").read_text())
    for name in contenders(Asked(quick=True)):
        found = json.loads((tmp_path / "run" / name / "results.json").read_text())
        better = np.subtract(found["test_elbo"], np.array(curves[name]["test_elbo"])[:, 0])
        assert np.all(better > 0.1), name
        assert np.all(np.subtract(found["test_bound_100"], found["test_elbo"]) > 0), name
        gap, error = (np.array(found[f"amortization_gap{end}"]) for end in ("", "_error"))
        assert np.all((gap > -4.5 * error) & (error < 0.01)), name  # five bits of nine: hardly any
    # the dreams are not the data: what the two gradients' angle does along the run
    cosines = {name: np.array(curves[name]["sleep_cosine"]) for name in curves}
    assert all(np.all(np.abs(x) <= 1 + 1e-6) for x in cosines.values())
    assert all(np.ptp(x) > 0.01 for x in cosines.values())
    assert (tmp_path / "run" / "wake-sleep.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    changed = changed_in_small("wake-sleep", "wake-sleep-5", tmp_path / "run", tmp_path / "cut")
    assert changed == []
