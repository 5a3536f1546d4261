"""How far apart two gradients point, from noisy draws of each."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

Loss = Callable[[PyTree, PRNGKeyArray], Float[Array, ""]]
"""Of what is learned and a key."""


class Cosine(NamedTuple):
    """The cosine of an angle, in [−1, 1], and its standard error, 1 where it is not known."""

    value: Float[Array, ""]
    standard_error: Float[Array, ""]


def gradient_cosine(
    key: PRNGKeyArray,
    one: Loss,
    other: Loss,
    learned: PyTree,
    where: Callable[[PyTree], PyTree],
    num_groups: int,
    per_group: int,
) -> Cosine:
    """The cosine between the means of two random gradients.

    The norm of an average of noisy gradients is that of the mean and of the noise, and so the
    cosine of two averages is too near 0. Here |E g|² is estimated without bias, by the mean of
    g_i · g_j over i ≠ j. What noise is left leads out of [−1, 1] at times, and is cut off there.
    Where it leads to |E g|² ≤ 0 the cosine is 0 ± 1: not known. Where it does so with one group
    left out, the error alone is not known, and 1.

    Arguments:
        key: consumed.
        one, other: losses; their noise is independent.
        learned: as a task has it.
        where: from it to the part in whose parameters the gradients are.
        num_groups: of draws, held at once, over which the standard error is a jackknife's.
        per_group: draws in each.
    """
    floats, held = eqx.partition(where(learned), eqx.is_inexact_array)
    flat, unravel = ravel_pytree(floats)

    def means(loss: Loss, key: PRNGKeyArray) -> Float[Array, "G N"]:
        def of_part(flat: Array, key: Any) -> Array:
            return loss(eqx.tree_at(where, learned, eqx.combine(unravel(flat), held)), key)

        add = lambda total, key: (total + jax.grad(of_part)(flat, key), None)
        group = lambda keys: jax.lax.scan(add, jnp.zeros_like(flat), keys)[0] / per_group
        return jax.lax.map(group, jax.random.split(key, (num_groups, per_group)))

    first, second = jax.random.split(key)
    return cosine_of(means(one, first), means(other, second))


def cosine_of(a: Float[Array, "G N"], b: Float[Array, "G N"]) -> Cosine:
    """The cosine between E a and E b, of G ≥ 3 independent draws of each."""
    num = len(a)
    grams = a @ a.T, b @ b.T, a @ b.T
    without = _cosine(1 - jnp.eye(num), *grams)
    spread = jnp.sum((without - jnp.mean(without)) ** 2)
    error = jnp.sqrt((num - 1) / num * spread)
    value = _cosine(jnp.ones((1, num)), *grams)[0]
    broken = jnp.where(jnp.isfinite(jnp.sum(a) + jnp.sum(b)), 0.0, jnp.nan)  # and not unknown
    known = lambda x, otherwise: jnp.where(jnp.isnan(x), otherwise, x) + broken
    return Cosine(known(value, 0.0), known(error + value - value, 1.0))


def _cosine(kept: Float[Array, "R G"], aa: Array, bb: Array, ab: Array) -> Float[Array, "R"]:
    """The cosine from the draws that each row of ones and zeros keeps; NaN if a norm is not > 0."""
    pairs = kept[:, :, None] * kept[:, None, :]
    different = pairs * (1 - jnp.eye(kept.shape[1]))
    mean = lambda gram, pairs: jnp.sum(gram * pairs, axis=(1, 2)) / jnp.sum(pairs, axis=(1, 2))
    norms = [jnp.maximum(mean(gram, different), 0) for gram in (aa, bb)]
    size = jnp.sqrt(norms[0] * norms[1])
    found = mean(ab, pairs) / jnp.where(size > 0, size, 1)
    return jnp.where(size > 0, jnp.clip(found, -1, 1), jnp.nan)
