"""The training program: initial state, and many steps in one compiled loop.

Every number that a step uses is a function of the state, and the loop's length is an argument of
the compiled program, not part of it. So a run's bits depend neither on how often the host looks in
nor on where the run was cut and resumed.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..distributions import joint
from ..models import AbstractVAE
from ..objectives import hard_elbo, neg_elbo
from . import estimators
from .config import TrainConfig
from .data import Dataset

CONTROL_RATE = 10.0
"""Baselines and control variates learn this much faster than the model (Tucker et al. 2017)."""

_ORDER, _STEP, _MODEL, _FACTORY, _START = range(5)  # what a seed's keys are for


class Learned(eqx.Module):
    """What the optimiser trains."""

    model: AbstractVAE
    estimator: estimators.AbstractFactory


class SeedState(eqx.Module):
    """All that one seed's next step needs; every array gets a leading axis of seeds.

    Attributes:
        learned: model and estimator.
        optimizer: Adam's moments.
        key: the seed's key, from which every other is derived by its use and the step.
        order: this epoch's order of the training pictures.
        objective: the sum of the training objective since it was last reset.
    """

    learned: Learned
    optimizer: Any
    key: PRNGKeyArray
    order: Int[Array, "N"]
    objective: Float[Array, ""]


class TrainState(eqx.Module):
    """All seeds, and the step that they share."""

    seeds: SeedState
    step: Int[Array, ""]


class Program(eqx.Module):
    """One run's compiled parts.

    Attributes:
        config: the run.
        init: from the data to the state at step 0.
        advance: from a state, the data and a number of steps to the state that many steps on.
    """

    config: TrainConfig = eqx.field(static=True)
    init: Callable[[Dataset], TrainState]
    advance: Callable[[TrainState, Dataset, int], TrainState]


@functools.lru_cache(maxsize=4)
def program(config: TrainConfig) -> Program:
    """The training program of a run. Nothing is compiled before its parts are called.

    Asked for again, it is the same object, with what it has compiled.
    """
    optimizer = _optimizer(config)

    @eqx.filter_jit
    def init(data: Dataset) -> TrainState:
        keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
        start = each_seed(lambda key: _init_seed(config, optimizer, data, key))
        return TrainState(start(keys), jnp.zeros((), jnp.int32))

    @eqx.filter_jit
    def run(state: TrainState, data: Dataset, num_steps: Int[Array, ""]) -> TrainState:
        arrays, static = eqx.partition(state, eqx.is_array)

        def body(_: Any, arrays: Any) -> Any:
            state = eqx.combine(arrays, static)
            return eqx.filter(_step(config, optimizer, data, state), eqx.is_array)

        return eqx.combine(jax.lax.fori_loop(0, num_steps, body, arrays), static)

    return Program(config, init, lambda s, data, n: run(s, data, jnp.asarray(n, jnp.int32)))


def each_seed(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of one seed, over the leading axis of all its arguments' arrays.

    One seed goes without vmap: a batched matrix product with a batch of one is slower here.
    """

    def over(*args: Any) -> Any:
        arrays = jax.tree.leaves(eqx.filter(args, eqx.is_array))
        if arrays[0].shape[0] > 1:
            return eqx.filter_vmap(function)(*args)
        pick = lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf
        put = lambda leaf: leaf[None] if eqx.is_array(leaf) else leaf
        return jax.tree.map(put, function(*jax.tree.map(pick, args)))

    return over


def _optimizer(config: TrainConfig) -> optax.GradientTransformation:
    rates = {"model": config.learning_rate, "estimator": CONTROL_RATE * config.learning_rate}
    labels = lambda tree: Learned(  # type: ignore[arg-type]
        model=jax.tree.map(lambda _: "model", tree.model),
        estimator=jax.tree.map(lambda _: "estimator", tree.estimator),
    )
    return optax.multi_transform({name: optax.adam(r) for name, r in rates.items()}, labels)


def _init_seed(
    config: TrainConfig, optimizer: optax.GradientTransformation, data: Dataset, key: PRNGKeyArray
) -> SeedState:
    model = config.make_model(jax.random.fold_in(key, _MODEL), data.mean)
    q_key, x_key = jax.random.split(jax.random.fold_in(key, _START))
    x = data.binarize(x_key, data.train[:: max(1, len(data.train) // 200)])
    costs = -hard_elbo(q_key, model.posterior(x), lambda z: model.log_joint(x, z))
    draw = joint(model.prior()).example()
    factory = estimators.build(
        config.estimator,
        estimators.Setting(
            key=jax.random.fold_in(key, _FACTORY),
            center=data.mean,
            draw=draw,
            typical=jnp.mean(costs),
            spread=jnp.maximum(jnp.std(costs), 1e-3),
        ),
        config.estimator_options(),
    )
    learned = Learned(model, factory)
    moments = optimizer.init(eqx.filter(learned, eqx.is_inexact_array))  # type: ignore[arg-type]
    order = jnp.arange(len(data.train), dtype=jnp.int32)
    return SeedState(learned, moments, key, order, jnp.zeros(()))


def _step(
    config: TrainConfig, optimizer: optax.GradientTransformation, data: Dataset, state: TrainState
) -> TrainState:
    """One step of every seed."""
    per_epoch = len(data.train) // config.batch_size
    epoch, batch = state.step // per_epoch, state.step % per_epoch

    def shuffled(seeds: SeedState) -> Array:
        draw = lambda key: jax.random.permutation(
            jax.random.fold_in(jax.random.fold_in(key, _ORDER), epoch), seeds.order.shape[-1]
        )
        return jax.vmap(draw)(seeds.key).astype(seeds.order.dtype)

    # outside the map over seeds, where a condition would become both of its branches
    order = jax.lax.cond(batch == 0, shuffled, lambda seeds: seeds.order, state.seeds)

    def one(seed: SeedState, order: Array) -> SeedState:
        rows = jax.lax.dynamic_slice_in_dim(order, batch * config.batch_size, config.batch_size)
        key = jax.random.fold_in(jax.random.fold_in(seed.key, _STEP), state.step)
        x_key, q_key = jax.random.split(key)
        x = data.binarize(x_key, data.train[rows])
        value, gradient = eqx.filter_value_and_grad(objective)(seed.learned, x, q_key)
        updates, moments = optimizer.update(gradient, seed.optimizer)  # type: ignore[arg-type]
        learned = eqx.apply_updates(seed.learned, updates)
        return SeedState(learned, moments, seed.key, order, seed.objective + value)

    return TrainState(each_seed(one)(state.seeds, order), state.step + 1)


def objective(learned: Learned, x: Float[Array, "B P"], key: PRNGKeyArray) -> Float[Array, ""]:
    """What is minimised: an estimate of −ELBO, in nats, mean over the batch."""
    model = learned.model
    costs = neg_elbo(key, model.posterior(x), lambda z: model.log_joint(x, z), learned.estimator(x))
    return jnp.mean(costs)
