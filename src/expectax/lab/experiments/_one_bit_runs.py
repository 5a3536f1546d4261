"""The runs of the one-bit experiment: descent, and the variance of the gradient on the way."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree

import expectax as ex

from ..._expect import expect
from ._one_bit_contenders import TARGETS, Contender

Keys = Key[Array, "..."]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much to run.

    Attributes:
        num_runs: independent runs for every t and estimator, all at once.
        num_steps: optimiser steps, a multiple of `steps_per_block`.
        steps_per_record: how often the logit is kept.
        steps_per_block: how often the variance of the gradient is measured.
        num_draws: gradients drawn for one measurement of their variance.
        num_measured: runs in which the variance is measured.
        targets: the values of t.
    """

    num_runs: int = 1_000
    num_steps: int = 10_000
    steps_per_record: int = 50
    steps_per_block: int = 500
    num_draws: int = 4_000
    num_measured: int = 100
    targets: tuple[float, ...] = TARGETS
    seed: int = 0


FULL = Settings()
QUICK = Settings(num_runs=200, num_draws=1_000, num_measured=25)


def cost(
    logit: Float[Array, ""], estimator: ex.AbstractEstimator, target: Array, key: PRNGKeyArray
) -> Float[Array, ""]:
    """An estimate of E[(b − t)²] whose gradient the estimator gives."""
    q = dist.Bernoulli(logits=logit)
    return expect(key, q, lambda b: (b - target) ** 2, estimator)


@dataclasses.dataclass(frozen=True)
class Runs:
    """What is kept of all runs of one contender.

    Attributes:
        remaining: P(the wrong bit), axes t, run, record. Times |1 − 2t| it is loss − optimum.
        variance: of the gradient, axes t, run, block.
    """

    remaining: Float[np.ndarray, "T R N"]
    variance: Float[np.ndarray, "T M B"]


def simulate(contender: Contender, settings: Settings) -> Runs:
    """All runs of one contender, at every t, in two compiled programs.

    Every contender and every t meets the same keys. They are drawn outside the programs: most of
    the time to compile a program this small goes into its calls of the random generator.
    """
    targets = jnp.asarray(settings.targets)
    runs, measured = settings.num_runs, settings.num_measured
    blocks = settings.num_steps // settings.steps_per_block
    records = settings.steps_per_block // settings.steps_per_record
    start, walk, redraw = jax.random.split(jax.random.key(settings.seed), 3)
    steps = jax.random.split(walk, (runs, blocks, records, settings.steps_per_record))
    logits, snapshots = _descend(contender)(jax.random.split(start, runs), steps, targets)
    draws = jax.random.split(redraw, (measured, blocks + 1, settings.num_draws))
    snapshots = jax.tree.map(lambda x: x[:, :measured], snapshots)
    variance = _variances(draws, snapshots, targets)
    logits = np.asarray(logits, np.float64)
    toward_zero = np.asarray(settings.targets)[:, None, None] < 0.5
    remaining = 1.0 / (1.0 + np.exp(np.where(toward_zero, -logits, logits)))
    return Runs(remaining, np.asarray(variance, np.float64))


def _descend(contender: Contender) -> Callable[..., tuple[Array, PyTree]]:
    """The compiled program from keys (runs; and steps) and targets to logits, axes t, run, record,
    and to snapshots of all that learns, leading axes t, run, block."""
    optimizer = contender.optimizer()

    def run(start: PRNGKeyArray, steps: Keys, target: Float[Array, ""]):
        learned: Any = (jnp.zeros(()), contender.build(start, target))

        def step(state: PyTree, key: PRNGKeyArray):
            (logit, estimator), memory = state
            gradient = jax.grad(cost, argnums=(0, 1))(logit, estimator, target, key)
            updates, memory = optimizer.update(gradient, memory, (logit, estimator))
            return (optax.apply_updates((logit, estimator), updates), memory), None

        def record(state: PyTree, keys: Keys):
            return jax.lax.scan(step, state, keys)[0], state[0][0]

        def block(state: PyTree, keys: Keys):
            after, logits = jax.lax.scan(record, state, keys)
            return after, (logits, state[0])

        begin: Any = (learned, optimizer.init(learned))
        end, (logits, snapshots) = jax.lax.scan(block, begin, steps)
        last: Any = end[0]
        append = lambda history, x: jnp.append(history, x[None], axis=0)
        return append(logits.reshape(-1), last[0]), jax.tree.map(append, snapshots, last)

    return jax.jit(jax.vmap(jax.vmap(run, (0, 0, None)), (None, None, 0)))


@jax.jit
def _variances(draws: Keys, snapshots: PyTree, targets: Float[Array, "T"]) -> Float[Array, "T M B"]:
    """The variance of the logit's gradient over redrawn noise, everything that learns held."""

    def one(keys: Keys, snapshot: PyTree, target: Float[Array, ""]):
        logit, estimator = snapshot
        gradients = jax.vmap(lambda key: jax.grad(cost)(logit, estimator, target, key))(keys)
        return jnp.var(gradients, ddof=1)

    def run(draws: Keys, snapshots: PyTree, target: Float[Array, ""]):
        return jax.lax.map(lambda block: one(block[0], block[1], target), (draws, snapshots))

    return jax.vmap(jax.vmap(run, (0, 0, None)), (None, 0, 0))(draws, snapshots, targets)
