"""`expectax compare` and `expectax recommend`: estimators on a problem by name, tuned first."""

import contextlib
import json
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import PRNGKeyArray

from .._errors import ExpectaxError
from .._expect import expect
from ..diagnostics import Comparison, Recommendation, compare, recommend
from ..distributions import joint
from ..estimators import AbstractEstimator
from ..estimators.score_function import ScoreFunction
from .errors import unknown
from .estimators import RECIPES, AbstractFactory, Setting, build
from .problems import PROBLEMS, Problem

TUNING_RATE = 1e-2
"""Where Adam's rate begins for what the estimators learn; it falls to zero by a cosine."""

TUNING_DRAWS = 32
"""Draws in one step of that: second moments are noisy, and here they are cheap."""


def run_comparison(
    problem: str,
    estimators: list[str],
    *,
    num_draws: int,
    tuning_steps: int,
    seed: int,
) -> Comparison:
    """Compare estimators, with their default options, on a problem.

    What an estimator learns is tuned first, at the fixed q, so that a control variate is compared
    at its best and not at its start.

    Arguments:
        problem: a key of `PROBLEMS`.
        estimators: keys of `RECIPES`; none for all of them.
        num_draws: gradients drawn for each.
        tuning_steps: Adam steps for what they learn; 0 for none.
        seed: of the problem and of every draw.

    Raises:
        UsageError: an unknown name.
    """
    made, key = _make(problem, seed)
    estimators = estimators or list(RECIPES)
    for name in estimators:
        if name not in RECIPES:
            raise unknown("estimator", name, list(RECIPES))
    tuned = {
        name: _tuned(jax.random.fold_in(key, i), made, name, tuning_steps)
        for i, name in enumerate(estimators)
    }
    return compare(key, made.q, made.f, tuned, num_draws=num_draws)


def _tuned(key: PRNGKeyArray, problem: Problem, name: str, steps: int) -> AbstractEstimator:
    setting_key, build_key, tune_key = jax.random.split(key, 3)
    views = joint(problem.q)
    batch = len(views.batch_shape)
    draw = jax.tree.map(
        lambda one: jax.ShapeDtypeStruct(one.shape[batch:], one.dtype), views.example()
    )
    costs = jax.lax.stop_gradient(
        jax.vmap(lambda key: expect(key, problem.q, problem.f, ScoreFunction()))(
            jax.random.split(setting_key, 100)
        )
    )
    setting = Setting(
        key=build_key,
        center=jnp.mean(problem.x, axis=tuple(range(batch))),
        draw=draw,
        typical=jnp.mean(costs),
        spread=jnp.maximum(jnp.std(costs), 1e-6),
    )
    factory = build(name, setting, {})
    if RECIPES[name].estimator.claims.learns and steps:
        # one that cannot serve this q stays as it is: the comparison has the reason in its row
        with contextlib.suppress(ExpectaxError):
            factory = _tune(tune_key, problem, factory, steps)
    return factory(problem.x)


def _tune(
    key: PRNGKeyArray, problem: Problem, factory: AbstractFactory, steps: int
) -> AbstractFactory:
    """Adam on what the estimator's leaves minimise, q held."""
    optimizer = optax.adam(optax.cosine_decay_schedule(TUNING_RATE, steps))
    learned, fixed = eqx.partition(factory, eqx.is_inexact_array)

    def loss(learned: AbstractFactory, key: PRNGKeyArray) -> jax.Array:
        estimator = eqx.combine(learned, fixed)(problem.x)
        draw = lambda key: jnp.sum(expect(key, problem.q, problem.f, estimator))
        return jnp.mean(jax.vmap(draw)(jax.random.split(key, TUNING_DRAWS)))

    def step(carry: tuple, key: PRNGKeyArray) -> tuple[tuple, None]:
        learned, moments = carry
        gradient = eqx.filter_grad(loss)(learned, key)
        updates, moments = optimizer.update(gradient, moments)
        return (eqx.apply_updates(learned, updates), moments), None

    @jax.jit
    def run(learned: AbstractFactory, keys: jax.Array) -> AbstractFactory:
        start = (learned, optimizer.init(learned))  # type: ignore[arg-type]
        return jax.lax.scan(step, start, keys)[0][0]

    return eqx.combine(run(learned, jax.random.split(key, steps)), fixed)


def run_recommendation(
    problem: str, *, budget_seconds: float, allow_biased: bool, seed: int
) -> Recommendation:
    """Recommend an estimator for a problem.

    Arguments:
        problem: a key of `PROBLEMS`.
        budget_seconds, allow_biased: as for `expectax.recommend`.
        seed: of the problem and of every draw.

    Raises:
        UsageError: an unknown name.
    """
    made, key = _make(problem, seed)
    return recommend(key, made.q, made.f, budget_seconds=budget_seconds, allow_biased=allow_biased)


def _make(problem: str, seed: int) -> tuple[Problem, PRNGKeyArray]:
    """The problem, and a key for what is done with it."""
    if problem not in PROBLEMS:
        raise unknown("problem", problem, list(PROBLEMS))
    problem_key, key = jax.random.split(jax.random.key(seed))
    return PROBLEMS[problem](problem_key), key


def save_table(
    folder: pathlib.Path, found: Comparison | Recommendation, stem: str, draw: bool
) -> dict[str, pathlib.Path]:
    """The table as text and JSON, and its plot, in a folder."""
    paths = {"table": folder / "table.txt", "figures": folder / f"{stem}.json"}
    paths["table"].write_text(f"{found}\n", encoding="utf-8")
    paths["figures"].write_text(json.dumps(found.to_dict(), indent=1), encoding="utf-8")
    if draw:
        paths["plot"] = folder / f"{stem}.png"
        found.plot(paths["plot"])
    return paths
