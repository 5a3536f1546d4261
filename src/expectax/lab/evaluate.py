"""Means over many rows, and the noise of a gradient, in bounded memory; for a task's `measure`."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..diagnostics import gradient_moments
from .devices import over_devices

_AT_ONCE = 500  # rows evaluated at once
_DRAWS = 32  # gradients drawn for their variance


def mean_over_rows(
    key: PRNGKeyArray,
    rows: PyTree,
    value: Callable[[PRNGKeyArray, PyTree], PyTree],
    *,
    at_once: int = _AT_ONCE,
) -> PyTree:
    """The mean of `value(key, row)` over rows, each with a key of its own.

    `at_once` rows are held at a time, so with a `value` that streams over its draws (as
    `importance_bound` does) memory grows neither with the rows nor with the draws.

    Arguments:
        key: consumed.
        rows: arrays with one leading axis of rows.
        value: of one row: a pytree of numbers.
    """
    num = len(jax.tree.leaves(rows)[0])
    both = jax.random.split(key, num), rows
    each = jax.vmap(lambda both: value(*both))
    chunks, size = divmod(num, at_once)
    split = chunks * at_once
    parts = []
    if chunks:
        stack = lambda x: x[:split].reshape(chunks, at_once, *x.shape[1:])
        found = jax.lax.map(lambda both: each(over_devices(both)), jax.tree.map(stack, both))
        parts.append(jax.tree.map(lambda x: x.reshape(split, *x.shape[2:]), found))
    if size:
        parts.append(each(over_devices(jax.tree.map(lambda x: x[split:], both))))
    whole = parts[0] if len(parts) == 1 else jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    return jax.tree.map(lambda x: jnp.mean(x, axis=0), whole)


def gradient_variance(
    key: PRNGKeyArray,
    loss: Callable[[PyTree, PRNGKeyArray], Float[Array, ""]],
    learned: PyTree,
    where: Callable[[PyTree], PyTree] = lambda learned: learned,
    num_draws: int = _DRAWS,
) -> Float[Array, ""]:
    """The variance of the gradient, summed over the parameters of a part of what is learned.

    The noise is redrawn with everything else fixed, one gradient at a time.

    Arguments:
        key: consumed.
        loss: of what is learned and a key, at a fixed batch.
        learned: as the task has it.
        where: from it to the part.
        num_draws: how many gradients.
    """
    of_part = eqx.Partial(_of_part, loss, learned, where)
    moments = gradient_moments(key, of_part, where(learned), num_draws=num_draws, chunk_size=1)
    return moments.total_variance


def _of_part(loss: Any, learned: PyTree, where: Any, part: PyTree, key: PRNGKeyArray) -> Array:
    return loss(eqx.tree_at(where, learned, part), key)
