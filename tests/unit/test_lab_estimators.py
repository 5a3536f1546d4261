"""Estimators by name: complete, with their own options, and trained through their factories."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import expectax as ex
from expectax.distributions import Reparameterized
from expectax.lab.config import TrainConfig
from expectax.lab.errors import UsageError
from expectax.lab.estimators import RECIPES, Level, Setting, build, options_of
from expectax.lab.vae import Learned, objective
from expectax.models import linear_vae

X = jnp.asarray(np.random.default_rng(0).integers(0, 2, (6, 5)), jnp.float32)
LEARNING = [  # on the bits of the model below
    name
    for name, recipe in RECIPES.items()
    if recipe.estimator.claims.learns and recipe.estimator.claims.needs is not Reparameterized
]


def setting():
    return Setting(
        key=jax.random.key(1),
        center=X.mean(0),
        draw=jax.ShapeDtypeStruct((3,), jnp.float32),
        typical=jnp.asarray(4.0),
        spread=jnp.asarray(2.0),
    )


def test_every_estimator_has_a_name_and_every_option_a_flag():
    classes = {
        value
        for value in vars(ex).values()
        if isinstance(value, type)
        and issubclass(value, ex.AbstractEstimator)
        and value is not ex.AbstractEstimator
    }
    assert {recipe.estimator for recipe in RECIPES.values()} == classes
    flags = {field.name for field in dataclasses.fields(TrainConfig)}
    used = {option for recipe in RECIPES.values() for option in recipe.options}
    assert used <= flags
    for option in used:  # and a flag that is given reaches its estimator
        takers = [name for name, recipe in RECIPES.items() if option in recipe.options]
        chosen = TrainConfig(estimator=takers[0], **{option: "given"}).estimator_options()
        assert chosen[option] == "given"


@pytest.mark.parametrize("name", RECIPES)
def test_defaults_build_and_the_estimator_is_the_named_one(name):
    estimator = build(name, setting(), {})(X)
    assert type(estimator) is RECIPES[name].estimator


def test_options_reach_the_estimator():
    given = lambda name, **options: build(name, setting(), options)(X)
    assert given("disarm", num_pairs=3).num_pairs == 3
    assert given("leave-one-out", num_samples=4).num_samples == 4
    assert np.isclose(given("rebar", temperature=0.2, scale=0.7).temperature, 0.2)
    assert np.isclose(given("muprop", scale=0.7).scale, 0.7)
    assert np.isclose(given("direct-argmax", epsilon=0.3).epsilon, 0.3)
    assert given("rebar", baseline="none").baseline is None
    assert given("rebar", baseline="constant").baseline.shape == ()
    assert given("rebar", baseline="network").baseline.shape == (6,)
    assert given("nvil").log_sd is None
    assert np.isclose(given("nvil", normalize=True).log_sd, np.log(2.0))


def test_what_is_not_an_option_is_refused_with_what_is():
    with pytest.raises(UsageError, match=r"(?s)no option --temperature.*pass --num-pairs"):
        options_of("disarm", {"temperature": 0.5})
    with pytest.raises(UsageError, match="disarm, arm, leave-one-out"):
        options_of("disram", {})
    with pytest.raises(UsageError, match="none, constant or network"):
        build("rebar", setting(), {"baseline": "big"})
    assert options_of("disarm", {"temperature": None}) == {"num_pairs": 1}


@pytest.mark.parametrize("hidden", [None, (7,)])
def test_a_level_starts_at_the_typical_cost_and_is_trained_in_units_of_its_spread(hidden):
    level = Level(setting(), 5, hidden)
    start = level(X)
    assert np.allclose(start, 4.0)
    assert start.shape == (() if hidden is None else (6,))
    gradient = eqx.filter_grad(lambda level: jnp.sum(level(X)))(level)
    assert np.isclose(gradient.offset, 2.0 * start.size)
    assert not np.any(gradient.typical)
    assert not np.any(gradient.spread)
    assert not np.any(gradient.center)


@pytest.mark.parametrize("name", LEARNING)
def test_one_gradient_trains_the_model_and_what_the_estimator_learns(name):
    model = linear_vae(jax.random.key(2), X.mean(0), 3)
    factory = build(name, setting(), {})
    gradient = eqx.filter_jit(eqx.filter_grad(objective))(
        Learned(model, factory), X, jax.random.key(3)
    )
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient.model.encoder))
    # the level's offset for baselines and control variates, the leaves of what has its own
    level = getattr(gradient.estimator, "baseline", None) or getattr(
        gradient.estimator, "control", None
    )
    own = getattr(gradient.estimator, "estimator", None)
    if level is None:
        assert any(np.any(leaf) for leaf in jax.tree.leaves(own))
    else:
        assert isinstance(level, Level)
        assert np.any(level.offset)
        assert level.network is None or np.any(level.network.layers[-1].weight)
    for leaf in ("log_temperature", "scale"):
        if hasattr(own, leaf):
            assert np.any(getattr(own, leaf)), leaf


def test_the_baseline_of_nvil_gets_the_gradient_of_its_squared_error():
    model = linear_vae(jax.random.key(2), X.mean(0), 3)
    learned = Learned(model, build("nvil", setting(), {}))
    gradient_and_value = eqx.filter_jit(eqx.filter_value_and_grad(objective))
    mean_cost, gradient = gradient_and_value(learned, X, jax.random.key(3))
    # the mean of (cost − c)² in the offset, c = typical + spread · offset
    expected = -2 * 2.0 * (mean_cost - 4.0)
    assert np.isclose(gradient.estimator.baseline.offset, expected, rtol=1e-4)
