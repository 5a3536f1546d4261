"""`rebar-vae` and `stein-vae`: their estimators, variances at shared parameters, and deaths."""

import dataclasses
import io
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rich.console

import expectax as ex
from expectax.distributions import joint
from expectax.lab.experiments import EXPERIMENTS, _training, rebar_vae, stein_vae
from expectax.lab.experiments._layered_controls import costs_from_each_layer
from expectax.lab.experiments._shared_point import learn, variances
from expectax.lab.experiments._training_plan import Asked, Contender
from expectax.objectives import neg_elbo

from .deaths import changed_by_death, leave_copies

F1 = rebar_vae.F1(data="digits", num_latents=3, batch_size=2, steps=6, num_seeds=1)
F3 = stein_vae.F3(
    data="digits", num_latents=4, hidden=(5, 5), batch_size=3, steps=6, num_seeds=1, tuning_steps=3
)
STEP = jnp.zeros((), int)


def begun(task):
    data = task.load()

    @eqx.filter_jit  # one compilation, where operation by operation there would be hundreds
    def start(data):
        x = task.batch(jax.random.key(2), data, jnp.arange(task.batch_size) * 5)
        return task.init(jax.random.key(1), data), x

    return data, *start(data)


def stirred(tree, size=0.3):
    """Every weight moved, so that nothing is zero by its start."""
    floats, others = eqx.partition(tree, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(floats)
    keys = jax.random.split(jax.random.key(9), len(leaves))
    moved = [x + size * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return eqx.combine(jax.tree.unflatten(structure, moved), others)


def check_unbiased(task, learned, x, where, exact):
    """The gradient of the task's objective in a part of the model, held against the exact one."""
    put = lambda part: eqx.tree_at(where, learned, part)
    ours = lambda part, key: task.objective(put(part), x, key, STEP)
    report = ex.check_unbiased(
        jax.random.key(3),
        ours,
        where(learned),
        reference=jax.jit(jax.grad(lambda part: exact(put(part).model))),
        num_draws=60_000,
    )
    report.raise_unless_unbiased()


# rebar-vae


def test_with_one_layer_the_relaxed_cost_makes_rebar():
    _, learned, x = begun(F1)
    learned = eqx.tree_at(lambda t: t.estimator, learned, stirred(learned.estimator, 0.1))
    key = jax.random.key(4)

    def theirs(learned):
        model, controls = learned.model, learned.estimator.layers[0]
        temperature = jnp.exp(controls.log_temperature)
        rebar = ex.REBAR(temperature, controls.scale, controls.baseline(x))
        log_joint = lambda z: model.log_joint(x, (z,))
        return jnp.mean(
            neg_elbo(jax.random.split(key, 1)[0], model.posterior(0, x), log_joint, rebar)
        )

    ours = eqx.filter_jit(eqx.filter_grad(lambda tree: F1.objective(tree, x, key, STEP)))(learned)
    other = eqx.filter_jit(eqx.filter_grad(theirs))(learned)
    assert ours.estimator.layers[0].log_temperature != 0
    assert ours.estimator.layers[0].scale_logit != 0
    for one, two in zip(jax.tree.leaves(ours), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-4, atol=1e-4)


def test_cold_the_relaxed_cost_is_the_cost_at_the_very_draws():
    """So f and its control variate share all noise, that of the layers above included."""
    _, learned, x = begun(dataclasses.replace(F1, net="l2", estimator="relax"))
    learned = eqx.tree_at(lambda t: t.model, learned, stirred(learned.model))
    model, key = learned.model, jax.random.key(4)
    keys = jax.random.split(key, 2)
    cold = lambda controls: controls.layers[0].log_temperature
    controls = eqx.tree_at(cold, learned.estimator, jnp.log(1e-4))

    @eqx.filter_jit
    def both(model):
        c = controls.of_layer(0, model, keys, x, x).control_variate
        z = joint(model.posterior(0, x)).perturb(keys[0])
        return jnp.mean(c(z)), F1.objective(learned, x, key, STEP)

    np.testing.assert_allclose(*both(model), rtol=1e-4)


def test_a_layers_cost_holds_the_layers_above_it():
    _, learned, x = begun(dataclasses.replace(F1, net="l2"))
    model = learned.model
    upper = lambda z: model.log_conditional(1, *z) + model.log_prior(z[1])
    both = costs_from_each_layer(jax.random.key(5), model, x)
    keys = jax.random.split(jax.random.key(5), 2)
    q = joint(model.posterior(0, x))
    low = q.sample(keys[0], 1)
    q_high = joint(model.posterior(1, low[0]))
    high = q_high.sample(keys[1], 1)
    expected = q_high.log_prob(high)[0] - upper((low[0], high[0]))
    np.testing.assert_allclose(both[1], expected, rtol=1e-5)
    below = q.log_prob(low)[0] - model.log_conditional(0, x, low[0])
    np.testing.assert_allclose(both[0], below + expected, rtol=1e-5)


@pytest.mark.parametrize("module", [rebar_vae, stein_vae])
def test_the_evaluations_that_the_tables_state(module):
    """What the estimator of each contender says; RODEO's surrogate takes one more, at the mean."""
    contenders = {c.name: c for c in module.plan(Asked(data="digits")).contenders}
    if module is rebar_vae:
        contenders = {n: c for n, c in contenders.items() if n.startswith("l1-")}
    for name, contender in contenders.items():
        task = dataclasses.replace(contender.task, num_latents=3, batch_size=2)
        stated = []
        eqx.filter_eval_shape(lambda task=task, stated=stated: stated.append(evaluations(task)))
        assert [contender.evaluations] == stated, name


def evaluations(task):
    """Of f, at hard draws + elsewhere; it is traced, not run."""
    _, learned, x = begun(task)
    model, factory = learned.model, learned.estimator
    if isinstance(task, rebar_vae.F1):
        q = joint(model.posterior(0, x))
        estimator = factory.of_layer(0, model, jax.random.split(jax.random.key(0), 1), x, x)
        # the relaxed cost is f's own, which RELAX cannot know
        more = int(isinstance(estimator, ex.RELAX))
    else:
        q = joint(model.posterior(x))
        more = int(isinstance(factory, stein_vae.Surrogate))
        estimator = factory.at(model, x, task.num_samples) if more else factory(x)
    count = estimator.evaluations(q)
    return f"{count.hard} + {count.auxiliary + more}"


# stein-vae


def test_rodeos_surrogate_is_the_linear_expansion_about_the_mean_and_leaves_no_bias():
    task = dataclasses.replace(F3, estimator="discrete-stein")
    _, learned, x = begun(task)
    model = stirred(learned.model)
    surrogate = eqx.tree_at(lambda s: s.slope, learned.estimator, jnp.ones(()))
    h = surrogate.at(model, x, 2).surrogate
    mean = jax.nn.sigmoid(model.posterior(x).base_dist.logits)
    q = joint(model.posterior(x))
    f = lambda z: q.log_prob(z[None])[0] - model.log_joint(x, z)
    away = 0.1 * jax.random.normal(jax.random.key(6), mean.shape)
    slope = (f(mean + 1e-2 * away) - f(mean - 1e-2 * away)) / 2e-2
    np.testing.assert_allclose(h(mean + away), slope, rtol=1e-2, atol=1e-3)

    def exact(model):
        log_joint = lambda z: model.log_joint(x, z)
        return jnp.mean(neg_elbo(jax.random.key(0), model.posterior(x), log_joint, ex.Enumerate()))

    learned = dataclasses.replace(learned, model=model, estimator=stirred(surrogate, 0.2))
    where = lambda tree: (tree.model.encoder.layers[-1].bias, tree.model.decoder.layers[-1].bias)
    check_unbiased(task, learned, x, where, exact)


# variances at shared parameters


def test_estimators_are_compared_at_one_model_with_the_same_noise():
    data, learned, _ = begun(F3)
    names = {"one": "leave-one-out", "again": "leave-one-out"}
    there = {
        n: F3.with_estimator(jax.random.key(0), learned.model, data, e) for n, e in names.items()
    }
    found = variances(jax.random.key(1), F3, data, there, 3)
    assert found["one"] == found["again"] > 0


def test_only_the_estimator_learns_and_one_without_leaves_stays():
    loss = lambda estimator, x, _: (estimator["c"] - x) ** 2
    batch = lambda _: 3.0
    start = {"c": jnp.zeros(()), "n": 2}
    after = learn(jax.random.key(0), start, loss, batch, optax.sgd(0.25), 40)
    assert after["n"] == 2
    np.testing.assert_allclose(after["c"], 3.0, atol=1e-5)
    assert learn(jax.random.key(0), {"n": 2}, loss, batch, optax.sgd(0.25), 4) == {"n": 2}


@pytest.mark.parametrize(
    "task",
    [
        dataclasses.replace(F1, net="l2", estimator="relax"),
        dataclasses.replace(F3, estimator="double-control-variate"),
    ],
    ids=["rebar-vae", "stein-vae"],
)
def test_a_death_changes_no_bit(task, tmp_path, monkeypatch):
    contender = Contender("it", task, "")
    console = rich.console.Console(file=io.StringIO())
    leave_copies(monkeypatch, tmp_path / "cut")
    _training.train(contender, tmp_path / "it", console)
    go_on = lambda: _training.train(contender, tmp_path / "cut" / "it", console)
    assert changed_by_death(tmp_path / "it", tmp_path / "cut" / "it", go_on) == []
    rows = (tmp_path / "cut" / "it" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == list(range(7))


def test_rebars_control_variate_goes_on_from_the_run_and_all_others_begin_anew(monkeypatch):
    seen = {}

    def spy(key, task, data, candidates, num_steps):
        del key, task, data, num_steps
        seen.update(candidates)
        return {name: jnp.ones(()) for name in candidates}

    monkeypatch.setattr(rebar_vae, "variances", spy)
    monkeypatch.setattr(rebar_vae.AbstractVAETask, "finish", lambda *_: {})
    task = dataclasses.replace(F1, compared=("nvil", "rebar"))
    data, learned, _ = begun(task)
    where = lambda learned: learned.estimator.layers[0].log_temperature
    learned = eqx.tree_at(where, learned, jnp.array(-2.0))
    task.finish(jax.random.key(0), learned, data)
    assert where(seen["rebar"]) == -2.0
    assert where(seen["nvil"]) == jnp.log(0.5)
    assert seen["nvil"].model is learned.model


@pytest.mark.parametrize(
    ("name", "contender", "figure"),
    [
        ("rebar-vae", "l1-rebar", rebar_vae.GAP),
        ("stein-vae", "disarm", stein_vae.ratio_name("discrete-stein")),
    ],
)
def test_an_experiment_in_small(tmp_path, name, contender, figure):
    console = rich.console.Console(file=io.StringIO())
    EXPERIMENTS[name].run(tmp_path / "run", True, console)
    figures = json.loads((tmp_path / "run" / contender / "results.json").read_text())
    curves = json.loads((tmp_path / "run" / "curves.json").read_text())
    assert np.mean(figures["test_elbo"]) > np.mean(curves[contender]["test_elbo"], axis=0)[0] + 0.1
    assert np.isfinite(figures[figure]).all()
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    assert EXPERIMENTS[name].plan(Asked()).contenders[0].task.words(figure) in {
        row["quantity"] for row in rows
    }
