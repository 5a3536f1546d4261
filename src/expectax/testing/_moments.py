"""Moments of many random draws, streamed: memory for one chunk, one program for every number."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree


class Moments(eqx.Module):
    """Streamed moments of a pytree of draws.

    Attributes:
        count: number of draws.
        mean: of every leaf.
        m2: Σ (x − mean)².
        low, high: least and greatest draw.
    """

    count: Array
    mean: PyTree
    m2: PyTree
    low: PyTree
    high: PyTree

    @property
    def variance(self) -> PyTree:
        """The sample variance of one draw."""
        return jax.tree.map(lambda s: s / (self.count - 1), self.m2)

    @property
    def standard_error(self) -> PyTree:
        """Of the mean."""
        return jax.tree.map(lambda s: jnp.sqrt(s / (self.count - 1) / self.count), self.m2)

    def map(self, function: Callable[[PyTree], PyTree]) -> "Moments":
        """The same function applied to the tree of each moment."""
        parts = (self.mean, self.m2, self.low, self.high)
        return Moments(self.count, *map(function, parts))

    def __getitem__(self, name: Any) -> "Moments":
        """The moments of one branch of the tree."""
        return self.map(lambda tree: tree[name])


def moments_of(draws: PyTree) -> Moments:
    """The moments of stacked draws: every leaf with a leading axis of draws."""
    over = lambda reduce: jax.tree.map(lambda x: reduce(x, axis=0), draws)
    count = jnp.asarray(float(jax.tree.leaves(draws)[0].shape[0]))
    spread = lambda x: jnp.sum((x - jnp.mean(x, axis=0)) ** 2, axis=0)
    return Moments(count, over(jnp.mean), jax.tree.map(spread, draws), over(jnp.min), over(jnp.max))


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of two sets of draws together (Chan, Golub & LeVeque, 1983)."""
    count = a.count + b.count
    share = b.count / count
    mean = jax.tree.map(lambda x, y: x + (y - x) * share, a.mean, b.mean)
    m2 = jax.tree.map(
        lambda x, y, s, t: s + t + (y - x) ** 2 * a.count * share, a.mean, b.mean, a.m2, b.m2
    )
    low = jax.tree.map(jnp.minimum, a.low, b.low)
    return Moments(count, mean, m2, low, jax.tree.map(jnp.maximum, a.high, b.high))


def stream(
    sample: Callable[[Any], PyTree],
    key: Any,
    num_chunks: Array | int,
    chunk: int = 1024,
    start: Moments | None = None,
) -> Moments:
    """Moments of `num_chunks · chunk` draws of `sample(key)`, in the memory of one chunk.

    Arguments:
        sample: from a key to a pytree of floating arrays.
        key: consumed.
        num_chunks: may be traced, so one compiled program serves every number of draws.
        chunk: how many draws to make at once, under `jax.vmap`.
        start: moments to add to, such as `no_draws(sample)`, which is the default.
    """
    _, restore = ravel_pytree(_zeros(jax.eval_shape(sample, key)))

    def part(i):
        keys = jax.random.split(jax.random.fold_in(key, i), chunk)
        # as one vector per draw: a few large reductions compile faster than many small ones
        return moments_of(jax.vmap(lambda key: ravel_pytree(sample(key))[0])(keys))

    start = no_draws(sample) if start is None else start
    flat = start.map(lambda tree: ravel_pytree(tree)[0])
    total = jax.lax.fori_loop(0, num_chunks, lambda i, so_far: merge(so_far, part(i)), flat)
    return total.map(restore)


def no_draws(sample: Callable[[Any], PyTree]) -> Moments:
    """The moments of no draws at all of `sample(key)`: where a stream starts."""
    zeros = _zeros(jax.eval_shape(sample, jax.random.key(0)))
    full = lambda value: jax.tree.map(lambda x: np.full_like(x, value), zeros)
    count = np.zeros((), jax.tree.leaves(zeros)[0].dtype)
    return Moments(count, zeros, zeros, full(np.inf), full(-np.inf))  # type: ignore[arg-type]


def _zeros(shapes: PyTree) -> PyTree:
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
