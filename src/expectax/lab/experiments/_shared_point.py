"""Variances of several estimators at the same parameters of a model.

At their own parameters contenders differ by where they have come to, too. Here the model is held,
each estimator learns what it learns at that model, anew or from where it comes, and then its
gradients are drawn.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..data import Dataset
from ._vae_tasks import AbstractVAETask

if TYPE_CHECKING:
    import optax

RATE = 1e-2
"""Of Adam at the first of the steps that an estimator learns for."""


def variances(
    key: PRNGKeyArray,
    task: AbstractVAETask,
    data: Dataset,
    candidates: Mapping[str, PyTree],
    num_steps: int,
) -> dict[str, Float[Array, ""]]:
    """The variance of each candidate's gradient in the encoder, for one batch that all share.

    Arguments:
        key: consumed.
        task: whose objective and batches they are.
        data: pictures.
        candidates: by name, what is learned: a `model`, the same in all, and an `estimator`, as it
            is before its steps or trained already.
        num_steps: that each estimator learns for, on batches of training pictures, by Adam with a
            rate that falls from `RATE` to 0.
    """
    import optax

    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, num_steps))
    x_key, learn_key, draw_key = jax.random.split(key, 3)
    x = data.binarize(x_key, data.train[: task.batch_size])
    step = jnp.asarray(task.steps)
    found = {}
    for name, candidate in candidates.items():
        loss = lambda estimator, x, key, candidate=candidate: task.objective(
            eqx.tree_at(lambda tree: tree.estimator, candidate, estimator), x, key, step
        )
        batch = lambda key: _random_batch(key, task, data)
        learned = learn(learn_key, candidate.estimator, loss, batch, optimizer, num_steps)
        there = eqx.tree_at(lambda tree: tree.estimator, candidate, learned)
        found[name] = task.variance(draw_key, there, x, task.num_gradients)
    return found


def learn(
    key: PRNGKeyArray,
    estimator: PyTree,
    loss: Callable[[PyTree, PyTree, Any], Float[Array, ""]],
    batch: Callable[[Any], PyTree],
    optimizer: "optax.GradientTransformation",
    num_steps: int,
) -> PyTree:
    """The estimator after some steps, all else held. One that learns nothing is as it was.

    Arguments:
        key: consumed.
        estimator: its floating leaves are trained.
        loss: of the estimator, a batch and a key.
        batch: from a key to a batch.
        optimizer: of its leaves.
        num_steps: how many.
    """
    leaves, others = eqx.partition(estimator, eqx.is_inexact_array)
    if not jax.tree.leaves(leaves):
        return estimator

    def body(i: Array, state: tuple[PyTree, Any]) -> tuple[PyTree, Any]:
        leaves, moments = state
        batch_key, noise_key = jax.random.split(jax.random.fold_in(key, i))
        x = batch(batch_key)
        of_leaves = lambda leaves: loss(eqx.combine(leaves, others), x, noise_key)
        updates, moments = optimizer.update(jax.grad(of_leaves)(leaves), moments, leaves)
        return eqx.apply_updates(leaves, updates), moments

    leaves, _ = jax.lax.fori_loop(0, num_steps, body, (leaves, optimizer.init(leaves)))
    return eqx.combine(leaves, others)


def _random_batch(key: Any, task: AbstractVAETask, data: Dataset) -> PyTree:
    rows_key, batch_key = jax.random.split(key)
    rows = jax.random.randint(rows_key, (task.batch_size,), 0, task.num_rows(data))
    return task.batch(batch_key, data, rows)
