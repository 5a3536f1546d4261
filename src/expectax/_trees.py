"""Arithmetic on pytrees of arrays whose leading axes are (draws and) the batch."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ._types import PRNGKey


def sum_events(x: Float[Array, "..."], keep: int) -> Float[Array, "..."]:
    """Sum every axis after the first `keep`."""
    return jnp.sum(x, axis=tuple(range(keep, x.ndim)))


def over_batch(index: Array, batch_ndim: int) -> Array:
    """Numbers of shape (S,) or (S,) + batch, with the axes of the batch."""
    return index if index.ndim > 1 else index.reshape(index.shape + (1,) * batch_ndim)


def expand_to(x: Array, like: Array) -> Array:
    """Append axes of length one to `x` until it broadcasts against the leading axes of `like`."""
    return jnp.reshape(x, x.shape + (1,) * (like.ndim - x.ndim))


def scale(weights: Float[Array, "..."], tree: PyTree) -> PyTree:
    """Multiply every leaf by `weights`, aligned on the leading axes."""
    return jax.tree.map(lambda leaf: expand_to(weights, leaf) * leaf, tree)


def dot(left: PyTree, right: PyTree, keep: int) -> Float[Array, "..."]:
    """The inner product of two trees over all but the first `keep` axes of every leaf."""
    products = jax.tree.map(lambda a, b: sum_events(a * b, keep), left, right)
    return sum_leaves(products)


def sum_leaves(tree: PyTree) -> Any:
    """The sum of all leaves (they must broadcast)."""
    leaves = jax.tree.leaves(tree)
    total = leaves[0]
    for leaf in leaves[1:]:
        total = total + leaf
    return total


def mean_draws(tree: PyTree) -> PyTree:
    """The mean over the leading axis of every leaf."""
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), tree)


def add_axis(tree: PyTree) -> PyTree:
    """A leading axis of length one on every leaf: a single draw as a stack of draws."""
    return jax.tree.map(lambda leaf: leaf[None], tree)


def first(tree: PyTree) -> PyTree:
    """The first entry along the leading axis of every leaf."""
    return jax.tree.map(lambda leaf: leaf[0], tree)


def concatenate(*trees: PyTree) -> PyTree:
    """Concatenate stacks of draws along the leading axis."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *trees)


def split_keys(key: PRNGKey, tree: PyTree) -> PyTree:
    """A key of its own for every leaf; `key` is consumed."""
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(list(jax.random.split(key, len(leaves))))


def varying_axes(tree: PyTree) -> frozenset[str]:
    """The mesh axes over which any leaf varies inside `jax.shard_map`; none outside of it."""
    axes: frozenset[str] = frozenset()
    return axes.union(*(_axes(leaf) for leaf in jax.tree.leaves(tree)))


def _axes(leaf: Any) -> frozenset[str]:
    return jax.typeof(leaf).manual_axis_type.varying


def vary(tree: PyTree, axes: frozenset[str]) -> PyTree:
    """Mark every leaf as varying over these mesh axes, which only changes its type."""

    def one(leaf):
        missing = tuple(sorted(axes - _axes(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(one, tree)


def size_of(tree: PyTree) -> int:
    """The number of elements of all leaves together."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
