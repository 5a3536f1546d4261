"""The variational autoencoder with Gaussian latents."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from ._layers import Network, PixelBias, centers, leaky_rectifier, started
from ._vae import AbstractVAE


class GaussianVAE(AbstractVAE):
    """D standard normal latents; q(z | x) normal with independent entries; Bernoulli pixels.

    The encoder gives D means and D logarithms of the standard deviation, one after the other.
    """

    encoder: Network
    decoder: Network
    center: Float[Array, "P"]
    num_latents: int = eqx.field(static=True)
    offset: Float[Array, "P"] | None = None

    def posterior(self, x):
        loc, log_scale = jnp.split(self.encoder(self.centered(x)), 2, axis=-1)
        return dist.Normal(loc, jnp.exp(log_scale)).to_event(1)  # type: ignore[return-value]

    def prior(self):
        zero = jnp.zeros(self.num_latents, self.center.dtype)
        return dist.Normal(zero, 1.0).to_event(1)  # type: ignore[return-value]

    def log_prior(self, z):
        return jnp.sum(-0.5 * z**2 - 0.5 * jnp.log(2 * jnp.pi), axis=-1)

    def embed(self, z):
        return z


def gaussian_vae(
    key: PRNGKeyArray,
    mean: Float[Array, "P"],
    num_latents: int = 20,
    hidden: tuple[int, ...] = (400,),
    *,
    activation: Callable[[Array], Array] = leaky_rectifier,
    demean: bool = True,
    pixel_bias: PixelBias = PixelBias.TRAINED,
) -> GaussianVAE:
    """A VAE of independent normal latents.

    Arguments:
        key: consumed.
        mean: the mean of the training data, shape (P,), in [0, 1]; it sets the number of pixels.
        num_latents: D.
        hidden: sizes of the encoder's hidden layers, and reversed of the decoder's.
        activation: of the hidden layers.
        demean: whether the encoder sees x − mean, or x.
        pixel_bias: how the decoder starts.

    Returns:
        The model with its initial weights.

    Raises:
        InvalidArgumentError: a pixel bias of another kind.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = gaussian_vae(jax.random.key(0), jnp.full(16, 0.3), 2, (8,))
        >>> model.posterior(jnp.zeros((5, 16))).event_shape
        (2,)

    Reference: Kingma & Welling (2014), section 3 and appendix C, with leaky rectifiers.
    """
    encoder_key, decoder_key = jax.random.split(key)
    encoder = Network(mean.size, 2 * num_latents, hidden, activation, key=encoder_key)
    decoder = Network(num_latents, mean.size, hidden[::-1], activation, key=decoder_key)
    decoder, offset = started(decoder, mean, pixel_bias)
    return GaussianVAE(
        encoder=encoder,
        decoder=decoder,
        center=centers(mean, demean),
        num_latents=num_latents,
        offset=offset,
    )
