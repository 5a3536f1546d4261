"""Networks over any number of leading axes."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


class Network(eqx.Module):
    """Affine layers with one activation between them; with no hidden layer, an affine map.

    Arguments:
        num_inputs: size of the last axis of the input.
        num_outputs: size of the last axis of the output.
        hidden: sizes of the hidden layers.
        activation: between the layers, not after the last.
        key: consumed; weights are uniform in ±1/sqrt(inputs), as Equinox has them.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> Network(4, 2, (8,), key=jax.random.key(0))(jnp.zeros((5, 3, 4))).shape
        (5, 3, 2)
    """

    layers: tuple[eqx.nn.Linear, ...]
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        hidden: tuple[int, ...] = (),
        activation: Callable[[Any], Any] = jnp.tanh,
        *,
        key: PRNGKeyArray,
    ):
        sizes = (num_inputs, *hidden, num_outputs)
        keys = jax.random.split(key, len(sizes) - 1)
        self.layers = tuple(
            eqx.nn.Linear(i, o, key=k) for i, o, k in zip(sizes, sizes[1:], keys, strict=False)
        )
        self.activation = activation

    def __call__(self, x: Float[Array, "... I"]) -> Float[Array, "... O"]:
        # one matrix product for all leading axes together
        rows = x.reshape(-1, x.shape[-1])
        for layer in self.layers[:-1]:
            rows = self.activation(jax.vmap(layer)(rows))
        rows = jax.vmap(self.layers[-1])(rows)
        return rows.reshape(*x.shape[:-1], rows.shape[-1])


def with_last_bias(network: Network, bias: Float[Array, "O"]) -> Network:
    """The network with this bias in its last layer."""
    return eqx.tree_at(lambda n: n.layers[-1].bias, network, bias)


def with_zero_last_layer(network: Network) -> Network:
    """The network with zeros in its last layer: it starts as the constant 0."""
    last = network.layers[-1]
    zeros = jax.tree.map(jnp.zeros_like, eqx.filter(last, eqx.is_inexact_array))
    return eqx.tree_at(lambda n: n.layers[-1], network, eqx.combine(zeros, last))
