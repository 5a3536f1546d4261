"""Experiments with models that are no plain VAE of bits: what is theirs alone, and their deaths."""

import dataclasses
import io
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich.console

import expectax as ex
from expectax.distributions import joint
from expectax.lab.estimators import RECIPES
from expectax.lab.experiments import (
    EXPERIMENTS,
    gaussian_vae,
    structured_prediction,
    structured_vae,
)
from expectax.lab.experiments._training_plan import Asked
from expectax.models import chain_vae, gaussian_vae as make_gaussian_vae, halves
from expectax.objectives import neg_elbo

from .deaths import changed_by_death, leave_copies

PNG = b"\x89PNG\r\n\x1a\n"
SMALL = {
    "structured-prediction": ("straight-through", "test_loss"),
    "gaussian-vae": ("closed-form-kl", "test_elbo"),
    "structured-vae": ("structured", "test_bound"),
}
"""Of each experiment a contender, and a figure that nears zero when it learns."""


def console():
    return rich.console.Console(record=True, width=150, file=io.StringIO())


@pytest.mark.parametrize("name", SMALL)
def test_in_small_it_learns_and_a_death_changes_no_bit(tmp_path, monkeypatch, name):
    contender, figure = SMALL[name]
    asked = Asked(only=(contender,), num_seeds=2)
    experiment = dataclasses.replace(EXPERIMENTS[name], asked=asked, resume=True)
    leave_copies(monkeypatch, tmp_path / "cut")
    experiment.run(tmp_path / "whole", True, console())
    curves = json.loads((tmp_path / "whole" / "curves.json").read_text())[contender]
    first, last = np.mean(curves[figure], axis=0)[[0, -1]]
    assert abs(last) < 0.95 * abs(first)
    assert (tmp_path / "whole" / f"{name}.png").read_bytes().startswith(PNG)

    whole, cut = (tmp_path / run / contender for run in ("whole", "cut"))
    go_on = lambda: experiment.run(tmp_path / "cut", True, console())
    assert changed_by_death(whole, cut, go_on) == []


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
    assert eqx.filter_jit(jax.grad(loss))(learned.estimator).baseline.offset != 0


# Gaussian latents


def test_all_three_gradients_are_those_of_the_bound_by_quadrature():
    """One latent, so the expectation is an integral over a line."""
    mean = jnp.array([0.2, 0.5, 0.9, 0.4])
    model = make_gaussian_vae(jax.random.key(0), mean, 1, (3,), activation=jnp.tanh)
    x = jnp.array([[1.0, 0, 1, 0], [0, 1, 1, 1]])
    where = lambda model: model.encoder.layers[-1].bias
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()

    def exact(bias):
        moved = eqx.tree_at(where, model, bias)
        loc, log_scale = jnp.split(moved.encoder(moved.centered(x)), 2, -1)
        z = loc + jnp.exp(log_scale) * nodes[:, None, None]
        fit = jnp.einsum("k,kb->b", weights, moved.log_likelihood(x, z))
        kl = 0.5 * (loc**2 + jnp.exp(2 * log_scale) - 1) - log_scale
        return jnp.mean(kl[:, 0] - fit)

    bias = jnp.array([0.7, -0.6])
    for kl in gaussian_vae.LOSSES:
        loss = lambda bias, key, kl=kl: gaussian_vae.loss(
            kl, key, eqx.tree_at(where, model, bias), x
        )
        report = ex.check_unbiased(
            jax.random.key(1), loss, bias, reference=jax.grad(exact), num_draws=100_000
        )
        report.raise_unless_unbiased()


def test_the_rate_falls_by_stages_of_three_times_the_length():
    rate = gaussian_vae.rate(1e-3)
    epochs = np.array([0, 0.99, 1, 3.99, 4, 12, 13, 1092, 1093, 3279])
    stages = np.array([0, 0, 1, 1, 2, 2, 3, 6, 7, 7])
    found = [float(rate(round(epoch * gaussian_vae.EPOCH))) for epoch in epochs]
    np.testing.assert_allclose(found, 1e-3 * 10 ** (-stages / 7), rtol=1e-5)
    assert gaussian_vae.STEPS == 3280 * gaussian_vae.EPOCH


# bits and pairs


@pytest.fixture(scope="module")
def three_bits():
    """A chain, stirred, so that its pairs count."""
    mean = jax.random.uniform(jax.random.key(0), (6,))
    model = chain_vae(jax.random.key(1), mean, 3, (4,), uniform_prior=True)
    floats, rest = eqx.partition(model, eqx.is_inexact_array)
    rng = np.random.default_rng(2)
    moved = jax.tree.map(lambda x: x + 0.4 * rng.normal(size=x.shape).astype(np.float32), floats)
    moved = eqx.tree_at(lambda m: m.pairs.layers[-1].bias, moved, jnp.array([2.0, -3.0]))
    x = jax.random.bernoulli(jax.random.key(2), 0.4, (5, 6)).astype(jnp.float32)
    return eqx.combine(moved, rest), x


def test_the_table_holds_the_likelihood_of_every_setting(three_bits):
    model, x = three_bits
    table = structured_vae.costs_of_settings(model, x)
    drawn = jnp.broadcast_to(model.settings[:, None], (8, 5, 3))
    each = -jax.vmap(lambda z: model.unstructured.log_likelihood(x, z))(drawn)
    np.testing.assert_allclose(structured_vae.looked_up(table, drawn), each, rtol=1e-5)
    np.testing.assert_allclose(table, each.T, rtol=1e-5)


def test_the_exact_step_is_the_enumerated_elbo_and_the_bound_is_its_value(three_bits):
    model, x = three_bits
    key, step = jax.random.key(0), jnp.zeros((), int)
    cases = {
        "chain": lambda m: (m.gibbs(x), lambda s: m.unstructured.log_joint(x, m.bits_of(s))),
        "unstructured": lambda m: (
            m.unstructured.posterior(x),
            lambda z: m.unstructured.log_joint(x, z),
        ),
    }
    for encoder, parts in cases.items():
        task = structured_vae.Bits(encoder=encoder, gradient="exact", num_latents=3)
        enumerated = lambda m, parts=parts: jnp.mean(neg_elbo(key, *parts(m), ex.Enumerate()))
        ours = lambda m, task=task: task.objective(m, x, key, step)
        both = lambda m, f=ours, g=enumerated: [eqx.filter_value_and_grad(h)(m) for h in (f, g)]
        (value, found), (truth, wanted) = eqx.filter_jit(both)(model)
        np.testing.assert_allclose(value, truth, rtol=1e-5)
        learned = lambda tree: (tree.unstructured.encoder, tree.unstructured.decoder, tree.pairs)
        for one, other in zip(*map(jax.tree.leaves, map(learned, (found, wanted))), strict=True):
            np.testing.assert_allclose(one, other, atol=2e-5)
        moved = float(jnp.abs(found.pairs.layers[-1].bias).max())
        assert moved == 0 if encoder == "unstructured" else moved > 1e-3
        if encoder == "chain":
            bound = structured_vae.bounds(key, model, x[:2], x)["test_bound"]
            np.testing.assert_allclose(bound, truth, rtol=1e-5)


def test_direct_optimization_goes_the_way_of_what_it_estimates(three_bits):
    """At a small ε: the derivative of E[f] under the law of the argmax, by finite differences."""
    model, x = three_bits
    task = structured_vae.Bits(encoder="chain", num_latents=3)
    where = lambda m: m.pairs.layers[-1].bias
    keys = jax.random.split(jax.random.key(3), 4000)
    late = jnp.asarray(300_000)  # ε is at its least

    @jax.jit
    def slope(bias):
        loss = lambda bias, key: task.objective(eqx.tree_at(where, model, bias), x, key, late)
        return jnp.mean(jax.lax.map(lambda k: jax.grad(loss)(bias, k), keys, batch_size=500), 0)

    def value(bias):
        moved = eqx.tree_at(where, model, bias)
        table = structured_vae.costs_of_settings(moved, x)
        draws = moved.bits(joint(moved.posterior(x)).sample(jax.random.key(4), 20_000))
        expected = jnp.mean(structured_vae.looked_up(table, draws), axis=0)
        return jnp.mean(expected + moved.gibbs_kl(x))

    bias, value = where(model), jax.jit(value)
    apart = [0.5 * (value(bias.at[i].add(1.0)) - value(bias.at[i].add(-1.0))) for i in range(2)]
    found, wanted = np.array(slope(bias)), np.array(apart)
    cosine = found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted)
    assert cosine > 0.9


def test_bits_without_pairs_have_no_correlation(three_bits):
    model, x = three_bits
    alone = eqx.tree_at(lambda m: m.pairs.layers, model, replace_fn=lambda layers: jax.tree.map(
        jnp.zeros_like, layers))  # fmt: skip
    assert jnp.allclose(structured_vae.correlation(alone, x), 0, atol=1e-5)
    q = jax.nn.softmax(model.gibbs(x).logits)
    ones = q @ model.settings
    product = jnp.prod(jnp.where(model.settings == 1, ones[:, None], 1 - ones[:, None]), -1)
    divergence = jnp.sum(q * jnp.log(q / product), -1)
    assert jnp.max(divergence) > 1e-2
    np.testing.assert_allclose(structured_vae.correlation(model, x), divergence, atol=1e-5)
