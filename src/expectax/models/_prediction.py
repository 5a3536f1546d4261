"""Structured prediction: one part of a picture from the other, through layers of random bits.

Axes: B data batch (any number of leading axes), I inputs, O outputs, D_l bits of layer l. Layer 0
is the one next to the input.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from ..distributions import joint
from ._layers import (
    Network,
    PixelBias,
    bernoulli_log_prob,
    centers,
    leaky_rectifier,
    started,
)


class StructuredPrediction(eqx.Module):
    """p(z_1 | x) p(z_2 | z_1) … p(y | z_L), every layer of independent bits; there is no q.

    `conditional(layer, below)` and `log_likelihood(y, z)` are its parts one by one, so that an
    expectation can be nested in another: a `Generator` of the objectives.

    Attributes:
        networks: from x − `center`, then from the bits of each layer, to the logits of the next.
        decoder: from the bits of the last layer to the logits of y.
        center: what is taken from the input; a constant of the data.
        offset: what is added to the logits of y, or None; a constant of the data.
        signed: whether bits enter the networks as 2b − 1, or as b.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> halves = jnp.full(8, 0.3), jnp.full(6, 0.1)
        >>> model = structured_prediction(jax.random.key(0), *halves, (4, 3))
        >>> x, y = jnp.zeros((5, 8)), jnp.zeros((5, 6))
        >>> model.conditional(0, x).event_shape, model.log_likelihood(y, jnp.zeros((5, 3))).shape
        ((4,), (5,))
    """

    networks: tuple[Network, ...]
    decoder: Network
    center: Float[Array, "I"]
    offset: Float[Array, "O"] | None = None
    signed: bool = eqx.field(static=True, default=True)

    @property
    def num_layers(self) -> int:
        """L, the number of layers of bits."""
        return len(self.networks)

    def embed(self, z: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Bits as the networks see them."""
        return 2 * z - 1 if self.signed else z

    def conditional(self, layer: int, below: Float[Array, "*B I"]) -> dist.Distribution:
        """p(z of this layer | the input, or the bits of the layer before)."""
        seen = self.embed(below) if layer else below - jax.lax.stop_gradient(self.center)
        return dist.Bernoulli(logits=self.networks[layer](seen)).to_event(1)  # type: ignore[return-value]

    def output_logits(self, z: Float[Array, "*B D"]) -> Float[Array, "*B O"]:
        """Logits of y, from the bits of the last layer."""
        logits = self.decoder(self.embed(z))
        return logits if self.offset is None else logits + jax.lax.stop_gradient(self.offset)

    def log_likelihood(
        self, y: Float[Array, "*B O"], z: Float[Array, "*B D"]
    ) -> Float[Array, "*B"]:
        """log p(y | z_L), in nats."""
        return bernoulli_log_prob(self.output_logits(z), y)

    def predict(
        self, key: PRNGKeyArray, x: Float[Array, "*B I"], num: int
    ) -> Float[Array, "num *B O"]:
        """E[y | z_L] at `num` draws given each input: as many guesses. The key is consumed."""
        keys = jax.random.split(key, self.num_layers)
        z = joint(self.conditional(0, x)).sample(keys[0], num)
        for layer in range(1, self.num_layers):
            z = joint(self.conditional(layer, z)).sample(keys[layer], 1)[0]
        return jax.nn.sigmoid(self.output_logits(z))


def halves(pictures: Float[Array, "*B P"]) -> tuple[Float[Array, "*B H"], Float[Array, "*B H"]]:
    """Pictures, as flat rows, cut into their upper and lower half: inputs and outputs.

    Example:
        >>> import jax.numpy as jnp
        >>> upper, lower = halves(jnp.arange(8.0))
        >>> upper.tolist(), lower.tolist()
        ([0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0])
    """
    upper, lower = jnp.split(pictures, 2, axis=-1)
    return upper, lower


def structured_prediction(
    key: PRNGKeyArray,
    mean_input: Float[Array, "I"],
    mean_output: Float[Array, "O"],
    sizes: tuple[int, ...] = (200, 200),
    hidden: tuple[int, ...] = (),
    *,
    activation: Callable[[Array], Array] = leaky_rectifier,
    demean: bool = True,
    signed: bool = True,
    pixel_bias: PixelBias = PixelBias.TRAINED,
) -> StructuredPrediction:
    """A net of layers of bits; of a digit's halves, 392–200–200–392.

    Arguments:
        key: consumed.
        mean_input: the mean of the inputs, shape (I,), in [0, 1].
        mean_output: the mean of the outputs, shape (O,).
        sizes: D_1 … D_L, from the layer next to the input on.
        hidden: sizes of the hidden layers between any two of them; none for affine networks.
        activation: of the hidden layers.
        demean: whether the first network sees x − mean, or x.
        signed: whether bits enter the networks as 2b − 1, or as b.
        pixel_bias: how the decoder of y starts.

    Returns:
        The model with its initial weights.

    Raises:
        InvalidArgumentError: a pixel bias of another kind.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> upper, lower = halves(jnp.full(784, 0.1))
        >>> model = structured_prediction(jax.random.key(0), upper, lower)
        >>> model.predict(jax.random.key(1), jnp.zeros((5, 392)), 3).shape
        (3, 5, 392)

    Reference: Raiko et al. (2015), section 4; Yin & Zhou (2019), section 4.3.
    """
    keys = jax.random.split(key, len(sizes) + 1)
    before = (mean_input.size, *sizes[:-1])
    networks = tuple(
        Network(i, o, hidden, activation, key=k)
        for i, o, k in zip(before, sizes, keys[:-1], strict=True)
    )
    decoder = Network(sizes[-1], mean_output.size, hidden, activation, key=keys[-1])
    decoder, offset = started(decoder, mean_output, pixel_bias)
    return StructuredPrediction(
        networks, decoder, centers(mean_input, demean), offset=offset, signed=signed
    )
