"""Moments of many random draws, streamed: memory for one chunk, one program for every number."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from ._compile import lightly

CHUNK = 8192
"""How many draws are made at once."""


class Moments(eqx.Module):
    """Streamed moments of a pytree of draws.

    Attributes:
        count: number of draws.
        mean: of every leaf.
        m2: Σ (x − mean)².
        low, high: least and greatest draw.
    """

    count: Array | np.ndarray
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
    low = jax.tree.map(np.minimum, a.low, b.low)
    return Moments(count, mean, m2, low, jax.tree.map(np.maximum, a.high, b.high))


def over_keys(sample: Callable[..., PyTree]) -> Callable[..., Moments]:
    """The compiled program that `stream` runs: the moments of one chunk of draws.

    Arguments:
        sample: from a key, and further arguments, to a pytree of floating arrays.

    Returns:
        The same function of an array of keys, and the further arguments, to `Moments`.
    """

    def program(keys: Array, *arguments: Any) -> Moments:
        flat = lambda key: ravel_pytree(sample(key, *arguments))[0]
        _, restore = ravel_pytree(_zeros(jax.eval_shape(sample, keys[0], *arguments)))
        # one vector per draw: a few large reductions compile faster than many small ones
        return moments_of(jax.vmap(flat)(keys)).map(restore)

    return lightly(program)


def stream(
    program: Callable[..., Moments],
    key: Any,
    num_chunks: int,
    *arguments: Any,
    chunk: int = CHUNK,
    start: Moments | None = None,
) -> Moments:
    """Moments of `num_chunks · chunk` draws, in the memory of one chunk.

    The loop is Python's: the program that it calls is small, and compiles in half the time.

    Arguments:
        program: `over_keys(sample)`.
        key: consumed.
        num_chunks: how many chunks of `chunk` draws.
        arguments: passed on to `sample`.
        start: moments to add to.

    Example:
        >>> import jax
        >>> from expectax.testing import over_keys, stream
        >>> moments = stream(over_keys(jax.random.uniform), jax.random.key(0), 4)
        >>> int(moments.count), round(float(moments.mean), 1)
        (32768, 0.5)
    """
    parts = [program(_keys(key, i, chunk), *arguments) for i in range(num_chunks)]
    for part in map(jax.device_get, parts):
        start = part if start is None else merge(start, part)
    assert start is not None, "a stream of no draws has no moments"
    return start


@functools.partial(jax.jit, static_argnums=2)
def _keys(key: Any, i: int, num: int) -> Array:
    return jax.random.split(jax.random.fold_in(key, i), num)


def _zeros(shapes: PyTree) -> PyTree:
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
