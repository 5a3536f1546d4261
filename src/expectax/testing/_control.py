"""The check of what an estimator's own leaves receive: the gradient of what they minimise."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from .._expect import expect
from ..distributions import joint
from ..estimators import AbstractEstimator
from ._compile import quick
from ._trial import Inapplicable, Trial, check

_NUM_KEYS = 128
_STEP = 1e-4
_TOLERANCE = 1e-4


@check(every_problem=True)
def control_gradient(trial: Trial) -> None:
    """Learned leaves receive the derivative of the measured second moment, or squared error.

    By finite differences in every entry, with common random numbers, and with outer weights of
    both signs: what is learned is minimised, whether the loss is minimised or maximised. Leaves of
    an estimator that learns nothing receive zero.
    """
    if not any(eqx.is_inexact_array(x) for x in jax.tree.leaves(trial.estimator)):
        raise Inapplicable("the estimator has no leaves")
    if not (trial.problem.in_logits or _in_leaves(trial)):
        raise Inapplicable("the second moment is that of the gradient in what q holds")
    keys = jax.random.split(trial.key("control"), _NUM_KEYS)
    leaves, static = eqx.partition(trial.estimator, eqx.is_inexact_array)

    def loss(leaves, weights, key):
        value = trial.problem.value(trial.params, eqx.combine(leaves, static), key)
        return jnp.sum(weights * value)

    def received(weights):
        grads = jax.vmap(jax.grad(loss), in_axes=(None, None, 0))(leaves, weights, keys)
        return jax.tree.map(lambda g: jnp.mean(g, axis=0), grads)

    program = quick(received)
    upward, downward = program(trial.weights), program(-trial.weights)
    flat, restore = ravel_pytree(leaves)
    if trial.claims.learns:
        objective = _objective(trial, keys)
        program = quick(lambda flat: objective(eqx.combine(restore(flat), static)))
        steps = np.eye(flat.size) * _STEP
        wanted = [(program(flat + h) - program(flat - h)) / (2 * _STEP) for h in steps]
    else:
        wanted = np.zeros(flat.size)
    for given, sign in ((upward, "minimised"), (downward, "maximised")):
        _compare(given, restore(jnp.asarray(wanted)), f"{trial.name}, loss {sign}")


def _in_leaves(trial: Trial) -> bool:
    """Whether the problem's parameters are the very ones that q holds: loc and scale of a normal.

    The second moment is that of the gradient in what q holds.
    """
    held = jax.tree.leaves(joint(trial.problem.make_q(trial.params["q"])).opened()[0])
    given = jax.tree.leaves(trial.params["q"])
    return len(held) == len(given) and all(map(np.array_equal, held, given))


def _compare(received: Any, wanted: Any, what: str) -> None:
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(received), jax.tree.leaves(wanted), strict=True
    ):
        a, b = np.asarray(a), np.asarray(b)
        off = float(np.max(np.abs(a - b)))
        assert off <= _TOLERANCE * float(np.max(np.abs(b))), (
            f"{what}: the leaf{jax.tree_util.keystr(path)} receives\n  {a}\n"
            f"and finite differences of what it minimises are\n  {b}"
        )


def _objective(trial: Trial, keys: Any) -> Any:
    """What the claims say is minimised, measured without the estimator's own bookkeeping."""
    learns = trial.claims.learns
    if "second moment" in learns:
        return lambda estimator: _second_moment(trial, estimator, keys)
    assert "squared error" in learns, f"nobody checks learns={learns!r}"
    return lambda estimator: _squared_error(trial, estimator, keys)


def _second_moment(trial: Trial, estimator: AbstractEstimator, keys: Any) -> Array:
    """E Σ_b |w_b| Σ_d g_bd², g the gradient of each batch element in its own logits."""

    def one(key):
        total = lambda q: jnp.sum(trial.problem.value({**trial.params, "q": q}, estimator, key))
        grads = jax.tree.leaves(jax.grad(total)(trial.params["q"]))
        ndim = trial.weights.ndim
        squares = [jnp.sum(g**2, axis=tuple(range(ndim, g.ndim))) for g in grads]
        return jnp.sum(jnp.abs(trial.weights) * sum(squares))

    return jnp.mean(jax.vmap(one)(keys))


def _squared_error(trial: Trial, estimator: Any, keys: Any) -> Array:
    """E Σ_b |w_b| mean_s (f_s − c)², c the sum of the leaves named baseline and constant.

    A leaf named log_sd minimises log sd + e²/(2 sd²), the errors e being those of the trial's own
    baseline: it must not move when the baseline is differentiated.
    """
    baseline = lambda e: e.baseline + getattr(e, "constant", 0.0)

    def one(key):
        def cost(draw):
            f = trial.problem.cost(trial.params["f"], draw)
            return f, f

        q = trial.problem.make_q(trial.params["q"])
        costs = expect(key, q, cost, trial.estimator, has_aux=True)[1]
        objective = jnp.mean((costs - baseline(estimator)) ** 2, axis=0)
        log_sd = getattr(estimator, "log_sd", None)
        if log_sd is not None:
            error = jnp.mean((costs - baseline(trial.estimator)) ** 2, axis=0)
            objective = objective + log_sd + 0.5 * error * jnp.exp(-2 * log_sd)
        return jnp.sum(jnp.abs(trial.weights) * objective)

    return jnp.mean(jax.vmap(one)(keys))
