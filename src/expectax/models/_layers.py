"""Networks over any number of leading axes, and how models of pictures start."""

import enum
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._errors import InvalidArgumentError, complain, describe
from .._numerics import softplus


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


def bernoulli_log_prob(logits: Float[Array, "... D"], b: Float[Array, "... D"]) -> Array:
    """The log-probability of D bits, shape (...), in nats; linear in b, also between 0 and 1."""
    return jnp.sum(b * logits - softplus(logits), axis=-1)


def leaky_rectifier(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """max(x, 0.3 x)."""
    return jax.nn.leaky_relu(x, negative_slope=0.3)


class PixelBias(enum.Enum):
    """What a decoder starts from, besides its weights.

    Attributes:
        TRAINED: its last bias starts at the logit of the mean picture.
        FIXED: that logit is added to what the decoder says, for good, and is not learned; the
            decoder's own bias starts as Equinox has it.
        NONE: it knows nothing of the mean picture.
    """

    TRAINED = "trained"
    FIXED = "fixed"
    NONE = "none"


def data_logits(mean: Float[Array, "P"], least: float = 1e-3) -> Float[Array, "P"]:
    """The logit of the mean pixel, the mean clipped to [least, 1 − least]."""
    p = jnp.clip(mean, least, 1 - least)
    return jnp.log(p) - jnp.log1p(-p)


def started(
    decoder: Network, mean: Float[Array, "P"], bias: PixelBias
) -> tuple[Network, Float[Array, "P"] | None]:
    """The decoder of pixels with its start, and the offset of its logits if there is one."""
    if not isinstance(bias, PixelBias):
        raise InvalidArgumentError(
            complain(
                f"a model was given {describe(bias)} as its pixel bias",
                "there are three ways to start a decoder",
                "pass PixelBias.TRAINED, PixelBias.FIXED or PixelBias.NONE",
            )
        )
    logits = data_logits(mean)
    if bias is PixelBias.TRAINED:
        return with_last_bias(decoder, logits), None
    return decoder, logits if bias is PixelBias.FIXED else None


def centers(mean: Float[Array, "P"], demean: bool) -> Float[Array, "P"]:
    """What a model takes from its input: the mean picture, or nothing."""
    return mean if demean else jnp.zeros_like(mean)
