"""Binary variational autoencoders with several layers of latents: sigmoid belief nets.

Axes: B data batch (any number of leading axes), P pixels, D_l bits of layer l. Layer 0 is the one
next to the picture. What lies below layer l is the picture, if l is 0, or the bits of layer l − 1.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro.distributions import constraints

from .._trees import sum_leaves
from ..distributions import joint
from ._layers import (
    Network,
    PixelBias,
    bernoulli_log_prob,
    centers,
    leaky_rectifier,
    started,
)
from ._vae import held_at_zero

Latents = tuple[Float[Array, "*B D"], ...]
"""The bits of all layers, from the one next to the picture upwards."""


class HierarchicalVAE(eqx.Module):
    """p(z_L) … p(z_1 | z_2) p(x | z_1), and q(z_1 | x) q(z_2 | z_1) …, each of independent bits.

    `posterior(layer, below)` and `log_conditional(layer, below, z)` are its conditionals one by
    one, so that an expectation can be nested in another: a `Hierarchy` of the objectives. And
    `joint_posterior(x)` is all of q as one distribution, for objectives that ask for no more than
    draws and their log-probability: multi-sample bounds, wake-sleep.

    Attributes:
        encoders: from x − `center`, then from the bits of each layer, to the logits of q.
        decoders: from the bits of each layer to the logits of what lies below.
        prior_logits: of the bits of the last layer.
        center: what is taken from the input; a constant of the data.
        offset: what is added to the logits of the pixels, or None; a constant of the data.
        signed: whether bits enter the networks as 2b − 1, or as b.
        uniform_prior: whether p(z_L) is uniform for good, and the prior's logits are not learned.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = hierarchical_vae(jax.random.key(0), jnp.full(16, 0.3), (6, 4))
        >>> x, z = jnp.zeros((5, 16)), (jnp.zeros((5, 6)), jnp.zeros((5, 4)))
        >>> model.posterior(1, z[0]).event_shape, model.log_joint(x, z).shape
        ((4,), (5,))
    """

    encoders: tuple[Network, ...]
    decoders: tuple[Network, ...]
    prior_logits: Float[Array, "D"]
    center: Float[Array, "P"]
    offset: Float[Array, "P"] | None = None
    signed: bool = eqx.field(static=True, default=True)
    uniform_prior: bool = eqx.field(static=True, default=False)

    @property
    def num_layers(self) -> int:
        """L, the number of layers of latents."""
        return len(self.encoders)

    @property
    def sizes(self) -> tuple[int, ...]:
        """D_1 … D_L."""
        return tuple(int(encoder.layers[-1].out_features) for encoder in self.encoders)

    def embed(self, z: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Bits as the networks see them."""
        return 2 * z - 1 if self.signed else z

    def posterior(self, layer: int, below: Float[Array, "*B I"]) -> dist.Distribution:
        """q(z of this layer | what lies below), with the leading axes of `below` as its batch."""
        return _bits(self.posterior_logits(layer, below))

    def posterior_logits(self, layer: int, below: Float[Array, "*B I"]) -> Float[Array, "*B D"]:
        """Logits of the bits of this layer under q, given what lies below."""
        seen = self.embed(below) if layer else below - jax.lax.stop_gradient(self.center)
        return self.encoders[layer](seen)

    def joint_posterior(self, x: Float[Array, "*B P"]) -> "LayeredPosterior":
        """q(z_1 … z_L | x) as one distribution of the bits of all layers, side by side."""
        return LayeredPosterior(self, x)

    def split(self, z: Float[Array, "*B N"]) -> Latents:
        """The bits of each layer, from those of all layers side by side."""
        ends = list(itertools.accumulate(self.sizes[:-1]))
        return tuple(jnp.split(z, ends, axis=-1))

    def below_logits(self, layer: int, z: Float[Array, "*B D"]) -> Float[Array, "*B I"]:
        """Logits of what lies below this layer: of the pixels, if it is layer 0."""
        logits = self.decoders[layer](self.embed(z))
        if layer or self.offset is None:
            return logits
        return logits + jax.lax.stop_gradient(self.offset)

    def log_conditional(
        self, layer: int, below: Float[Array, "*B I"], z: Float[Array, "*B D"]
    ) -> Float[Array, "*B"]:
        """log p(what lies below | z of this layer), in nats."""
        return bernoulli_log_prob(self.below_logits(layer, z), below)

    def prior(self) -> dist.Distribution:
        """p(z_L): no batch."""
        logits = held_at_zero(self.prior_logits, self.uniform_prior)
        return dist.Bernoulli(logits=logits).to_event(1)  # type: ignore[return-value]

    def log_prior(self, z: Float[Array, "*B D"]) -> Float[Array, "*B"]:
        """log p(z_L) of the last layer's bits, in nats."""
        return bernoulli_log_prob(held_at_zero(self.prior_logits, self.uniform_prior), z)

    def log_joint(self, x: Float[Array, "*B P"], latents: Latents) -> Float[Array, "*B"]:
        """log p(x, z_1 … z_L), in nats."""
        total = self.log_prior(latents[-1])
        for layer, below in enumerate((x, *latents[:-1])):
            total = total + self.log_conditional(layer, below, latents[layer])
        return total

    def decode(self, z: Float[Array, "*B D"]) -> Float[Array, "*B P"]:
        """E[x | z_1], in [0, 1]."""
        return jax.nn.sigmoid(self.below_logits(0, z))

    def sample_prior(self, key: PRNGKeyArray, num: int) -> Float[Array, "num P"]:
        """E[x | z_1] at `num` ancestral draws from the prior downwards. The key is consumed."""
        return self.decode(self._sample_latents(key, num)[0])

    def sample_joint(
        self, key: PRNGKeyArray, num: int
    ) -> tuple[Float[Array, "num P"], Float[Array, "num N"]]:
        """`num` draws of (x, z) from p, without gradient: dreams. The key is consumed.

        z has the bits of all layers side by side, as a draw of `joint_posterior` has.
        """
        for_z, for_x = jax.random.split(key)
        latents = self._sample_latents(for_z, num)
        x = joint(_bits(self.below_logits(0, latents[0]))).sample(for_x, 1)[0]
        return x, jnp.concatenate(latents, axis=-1)

    def _sample_latents(self, key: PRNGKeyArray, num: int) -> Latents:
        keys = jax.random.split(key, self.num_layers)
        latents = [joint(self.prior()).sample(keys[-1], num)]
        for layer in reversed(range(1, self.num_layers)):
            below = joint(_bits(self.below_logits(layer, latents[0])))
            latents.insert(0, below.sample(keys[layer - 1], 1)[0])
        return tuple(latents)


class LayeredPosterior(dist.Distribution):
    """q(z_1 | x) q(z_2 | z_1) …: the bits of all layers side by side, those next to x first.

    Draws are made from layer to layer; log q sums the layers' terms. It is a `Scored` distribution
    and no more: given x the layers are not independent, so bits cannot be flipped or relaxed one by
    one. Estimators that do so are given the layers, by `hierarchical_neg_elbo`.

    Arguments:
        model: whose q it is.
        x: the data, shape batch + (P,).

    Shapes: batch shape that of x without its last axis, event shape (D_1 + … + D_L,).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from expectax.objectives import VIMCO, neg_multi_sample_bound
        >>> model = hierarchical_vae(jax.random.key(0), jnp.full(16, 0.3), (6, 4))
        >>> x = jnp.zeros((5, 16))
        >>> q = model.joint_posterior(x)
        >>> log_joint = lambda z: model.log_joint(x, model.split(z))
        >>> neg_multi_sample_bound(jax.random.key(1), q, log_joint, 3, VIMCO()).shape
        (5,)
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.independent(constraints.boolean, 1)  # type: ignore[assignment]
    pytree_data_fields = ("model", "x")

    def __init__(
        self,
        model: HierarchicalVAE,
        x: Float[Array, "*batch P"],
        *,
        validate_args: bool | None = None,
    ):
        self.model, self.x = model, x
        event = (sum(model.sizes),)
        super().__init__(jnp.shape(x)[:-1], event, validate_args=validate_args)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Draws, shape `sample_shape` + batch + event. The key is consumed."""
        keys = jax.random.split(key, self.model.num_layers)
        lowest = joint(self.model.posterior(0, self.x))
        layers = [lowest.sample(keys[0], math.prod(sample_shape))]
        for layer in range(1, self.model.num_layers):
            q = joint(self.model.posterior(layer, layers[-1]))
            layers.append(q.sample(keys[layer], 1)[0])
        z = jnp.concatenate(layers, axis=-1)
        return z.reshape(*sample_shape, *z.shape[1:])

    def log_prob(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        """log q(z_1 … z_L | x), in nats, of values whose last axes are batch + event."""
        latents = self.model.split(value)
        terms = []
        for layer, (below, z) in enumerate(zip((self.x, *latents), latents, strict=False)):
            terms.append(bernoulli_log_prob(self.model.posterior_logits(layer, below), z))
        return sum_leaves(terms)


def _bits(logits: Array) -> Any:
    return dist.Bernoulli(logits=logits).to_event(1)  # type: ignore[arg-type]


def hierarchical_vae(
    key: PRNGKeyArray,
    mean: Float[Array, "P"],
    sizes: tuple[int, ...] = (200, 200),
    hidden: tuple[int, ...] = (),
    *,
    activation: Callable[[Array], Array] = leaky_rectifier,
    demean: bool = True,
    signed: bool = True,
    pixel_bias: PixelBias = PixelBias.TRAINED,
    uniform_prior: bool = False,
) -> HierarchicalVAE:
    """A VAE of one or more layers of bits.

    Arguments:
        key: consumed.
        mean: the mean of the training data, shape (P,), in [0, 1]; it sets the number of pixels.
        sizes: D_1 … D_L, from the layer next to the picture upwards.
        hidden: sizes of the hidden layers of each encoder, and reversed of each decoder; none for
            affine networks.
        activation: of the hidden layers.
        demean: whether the first encoder sees x − mean, or x.
        signed: whether bits enter the networks as 2b − 1, or as b.
        pixel_bias: how the decoder of the pixels starts.
        uniform_prior: whether p(z_L) is uniform for good; else its logits are learned, from 0.

    Returns:
        The model with its initial weights.

    Raises:
        InvalidArgumentError: a pixel bias of another kind.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> mean = jnp.full(784, 0.1)
        >>> model = hierarchical_vae(jax.random.key(0), mean, pixel_bias=PixelBias.FIXED)
        >>> model.num_layers, model.sample_prior(jax.random.key(1), 3).shape
        (2, (3, 784))

    Reference: Tucker et al. (2017), section 4.2: "L2" with a fixed pixel bias.
    """
    encoder_key, decoder_key = jax.random.split(key)
    below = (mean.size, *sizes[:-1])
    up, down = (jax.random.split(k, len(sizes)) for k in (encoder_key, decoder_key))
    encoders = tuple(
        Network(i, o, hidden, activation, key=k) for i, o, k in zip(below, sizes, up, strict=True)
    )
    decoders = [
        Network(o, i, hidden[::-1], activation, key=k)
        for i, o, k in zip(below, sizes, down, strict=True)
    ]
    decoders[0], offset = started(decoders[0], mean, pixel_bias)
    return HierarchicalVAE(
        encoders,
        tuple(decoders),
        jnp.zeros(sizes[-1]),
        centers(mean, demean),
        offset=offset,
        signed=signed,
        uniform_prior=uniform_prior,
    )
