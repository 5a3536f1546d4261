"""Adam, for what an estimator learns: the core has no library of optimisers."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

_DECAYS = (0.9, 0.999)


class Adam(eqx.Module):
    """Leaves with their running moments; a step divides the one by the root of the other.

    Reference: Kingma & Ba (2015), algorithm 1.
    """

    leaves: PyTree
    units: PyTree
    first: PyTree
    second: PyTree
    count: Array

    @classmethod
    def start(cls, leaves: PyTree, units: PyTree) -> "Adam":
        """At these leaves. `units`: the size of a step in each of them, at a rate of 1."""
        zeros = jax.tree.map(jnp.zeros_like, leaves)
        return cls(leaves, jax.tree.map(jnp.asarray, units), zeros, zeros, jnp.zeros(()))

    def step(self, gradient: PyTree, rate: Array) -> "Adam":
        """The leaves after a step of at most about `rate` units each."""
        count = self.count + 1

        def decayed(old: PyTree, new: PyTree, decay: float) -> PyTree:
            return jax.tree.map(
                lambda m, g: (decay * m + (1 - decay) * g).astype(m.dtype), old, new
            )

        first = decayed(self.first, gradient, _DECAYS[0])
        second = decayed(self.second, jax.tree.map(jnp.square, gradient), _DECAYS[1])
        one, two = (1 - decay**count for decay in _DECAYS)

        def moved(x: Array, unit: Array, m: Array, v: Array) -> Array:
            size = jnp.sqrt(v / two) + jnp.finfo(v.dtype).tiny
            return (x - rate * unit * (m / one) / size).astype(x.dtype)

        leaves = jax.tree.map(moved, self.leaves, self.units, first, second)
        return Adam(leaves, self.units, first, second, count)
