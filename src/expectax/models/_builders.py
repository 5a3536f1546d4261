"""The one-layer VAEs of the literature, from a key and the mean picture."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._errors import InvalidArgumentError, complain
from ._layers import Network, PixelBias, centers, leaky_rectifier, started
from ._vae import BinaryVAE, CategoricalVAE


def _networks(
    key: PRNGKeyArray, mean: Array, code: int, bias: PixelBias, **options: Any
) -> tuple[Network, Network, Array | None]:
    """An encoder, a decoder that mirrors it, and the offset of the decoder's logits."""
    encoder_key, decoder_key = jax.random.split(key)
    hidden = options.pop("hidden", ())
    encoder = Network(mean.size, code, hidden, key=encoder_key, **options)
    decoder = Network(code, mean.size, hidden[::-1], key=decoder_key, **options)
    return encoder, *started(decoder, mean, bias)


def binary_vae(
    key: PRNGKeyArray,
    mean: Float[Array, "P"],
    num_latents: int | None = None,
    hidden: tuple[int, ...] = (),
    *,
    activation: Callable[[Array], Array] = leaky_rectifier,
    demean: bool = True,
    signed: bool = True,
    pixel_bias: PixelBias = PixelBias.TRAINED,
    uniform_prior: bool = False,
) -> BinaryVAE:
    """A VAE of bits, with the choices in which the published ones differ.

    Arguments:
        key: consumed.
        mean: the mean of the training data, shape (P,), in [0, 1]; it sets the number of pixels.
        num_latents: D; by default 200, or as many as pixels if that is less.
        hidden: sizes of the encoder's hidden layers, and reversed of the decoder's; none for affine
            networks.
        activation: of the hidden layers.
        demean: whether the encoder sees x − mean, or x.
        signed: whether the decoder sees 2b − 1, or b.
        pixel_bias: how the decoder starts.
        uniform_prior: whether the prior is uniform for good; else its logits are learned, from 0.

    Returns:
        The model with its initial weights.

    Raises:
        InvalidArgumentError: a pixel bias of another kind, or fewer latents than one.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> mean = jnp.full(16, 0.3)
        >>> kind = {"activation": jnp.tanh, "pixel_bias": PixelBias.FIXED}
        >>> model = binary_vae(jax.random.key(0), mean, 4, (8, 8), **kind)
        >>> model.decode(jnp.zeros((5, 4))).shape
        (5, 16)

    Reference: the defaults are those of Dong, Mnih & Tucker (2020). Tucker et al. (2017) have
    tanh networks and a fixed pixel bias; Titsias & Shi (2022) a uniform prior and inputs as they
    are.
    """
    size = min(200, mean.size) if num_latents is None else num_latents
    if size < 1:
        raise InvalidArgumentError(
            complain(
                f"a binary VAE was asked for with {size} latents",
                "nothing would be encoded",
                "pass num_latents of at least 1, or none for the default",
            )
        )
    options: dict[str, Any] = {"hidden": hidden, "activation": activation} if hidden else {}
    encoder, decoder, offset = _networks(key, mean, size, pixel_bias, **options)
    return BinaryVAE(
        encoder=encoder,
        decoder=decoder,
        prior_logits=jnp.zeros(size),
        center=centers(mean, demean),
        offset=offset,
        signed=signed,
        uniform_prior=uniform_prior,
    )


def linear_vae(
    key: PRNGKeyArray, mean: Float[Array, "P"], num_latents: int | None = None
) -> BinaryVAE:
    """A binary VAE whose encoder and decoder are affine.

    Arguments:
        key: consumed.
        mean: the mean of the training data; sets sizes, the input's center, the decoder's bias.
        num_latents: D; by default 200, or as many as pixels if that is less.

    Reference: the "linear" model of Dong, Mnih & Tucker (2020), with the prior trained.
    """
    return binary_vae(key, mean, num_latents)


def nonlinear_vae(
    key: PRNGKeyArray,
    mean: Float[Array, "P"],
    num_latents: int | None = None,
    hidden: tuple[int, ...] = (200, 200),
) -> BinaryVAE:
    """A binary VAE with hidden layers of leaky rectifiers (slope 0.3).

    Arguments:
        key: consumed.
        mean: the mean of the training data, as in `linear_vae`.
        num_latents: D; by default 200, or as many as pixels if that is less.
        hidden: sizes of the encoder's hidden layers, and reversed of the decoder's.

    Reference: the "nonlinear" model of Dong, Mnih & Tucker (2020), with the prior trained.
    """
    return binary_vae(key, mean, num_latents, hidden)


def categorical_vae(
    key: PRNGKeyArray,
    mean: Float[Array, "P"],
    num_latents: int = 20,
    num_categories: int = 10,
    hidden: tuple[int, ...] = (200,),
    *,
    activation: Callable[[Array], Array] = leaky_rectifier,
    demean: bool = True,
    pixel_bias: PixelBias = PixelBias.TRAINED,
    uniform_prior: bool = False,
) -> CategoricalVAE:
    """A VAE of one-hot variables, with hidden layers of leaky rectifiers (slope 0.3) by default.

    Arguments:
        key: consumed.
        mean: the mean of the training data, as in `linear_vae`.
        num_latents: D; 1 for a single choice, such as a cluster.
        num_categories: C.
        hidden: sizes of the encoder's hidden layers, and reversed of the decoder's.
        activation: of the hidden layers.
        demean, pixel_bias, uniform_prior: as in `binary_vae`.

    Returns:
        The model with its initial weights.

    Raises:
        InvalidArgumentError: a pixel bias of another kind.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> plain = {"activation": jax.nn.relu, "uniform_prior": True}
        >>> mean = jnp.full(784, 0.1)
        >>> model = categorical_vae(jax.random.key(0), mean, 8, 4, (512, 256), **plain)
        >>> model.posterior(jnp.zeros((5, 784))).event_shape
        (8, 4)

    Reference: Kool et al. (2020), D = 20, C = 10, hidden (512, 256); Liu et al. (2023), 8 and 4;
    Lorberbom et al. (2019), 1 and 10 or 50, hidden (300,).
    """
    code = num_latents * num_categories
    encoder, decoder, offset = _networks(
        key, mean, code, pixel_bias, hidden=hidden, activation=activation
    )
    return CategoricalVAE(
        encoder=encoder,
        decoder=decoder,
        prior_logits=jnp.zeros((num_latents, num_categories)),
        center=centers(mean, demean),
        offset=offset,
        uniform_prior=uniform_prior,
    )
