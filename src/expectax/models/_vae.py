"""Variational autoencoders with discrete latents and binary data.

Axes: B data batch (any number of leading axes), P pixels, D latent variables, C categories. Draws z
have shape (*B, D) for bits and (*B, D, C) for one-hot variables.
"""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from .._numerics import softplus
from ..distributions import OneHotCategorical, joint
from ._layers import Network, with_last_bias


class AbstractVAE(eqx.Module):
    """p(z) p(x | z) with independent Bernoulli pixels, and q(z | x) with independent latents.

    The encoder sees x − `center`; latents enter the decoder by `embed`. The prior's logits are
    parameters like any others. `center` is a constant of the data, without gradient.
    """

    encoder: eqx.AbstractVar[Network]
    decoder: eqx.AbstractVar[Network]
    prior_logits: eqx.AbstractVar[Array]
    center: eqx.AbstractVar[Float[Array, "P"]]

    @abc.abstractmethod
    def posterior(self, x: Float[Array, "*B P"]) -> dist.Distribution:
        """q(z | x): batch shape that of x without its last axis, event shape that of the prior."""

    @abc.abstractmethod
    def prior(self) -> dist.Distribution:
        """p(z): no batch, event shape (D,) or (D, C)."""

    @abc.abstractmethod
    def log_prior(self, z: Float[Array, "..."]) -> Float[Array, "*B"]:
        """log p(z), in nats; defined between hard draws too, as the linear function that it is."""

    @abc.abstractmethod
    def embed(self, z: Float[Array, "..."]) -> Float[Array, "*B E"]:
        """The latents as the decoder sees them."""

    def pixel_logits(self, z: Float[Array, "..."]) -> Float[Array, "*B P"]:
        """Logits of the pixels."""
        return self.decoder(self.embed(z))

    def decode(self, z: Float[Array, "..."]) -> Float[Array, "*B P"]:
        """E[x | z], in [0, 1]."""
        return jax.nn.sigmoid(self.pixel_logits(z))

    def log_likelihood(self, x: Float[Array, "*B P"], z: Float[Array, "..."]) -> Float[Array, "*B"]:
        """log p(x | z), in nats."""
        logits = self.pixel_logits(z)
        return jnp.sum(x * logits - softplus(logits), axis=-1)

    def log_joint(self, x: Float[Array, "*B P"], z: Float[Array, "..."]) -> Float[Array, "*B"]:
        """log p(x, z), in nats."""
        return self.log_likelihood(x, z) + self.log_prior(z)

    def sample_prior(self, key: PRNGKeyArray, num: int) -> Float[Array, "num P"]:
        """E[x | z] at `num` draws z from the prior. The key is consumed."""
        return self.decode(joint(self.prior()).sample(key, num))

    def centered(self, x: Float[Array, "*B P"]) -> Float[Array, "*B P"]:
        """x − center."""
        return x - jax.lax.stop_gradient(self.center)


class BinaryVAE(AbstractVAE):
    """D bits; the decoder sees 2b − 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = linear_vae(jax.random.key(0), jnp.full(16, 0.3), num_latents=4)
        >>> x = jnp.zeros((5, 16))
        >>> q = model.posterior(x)
        >>> q.batch_shape, q.event_shape, model.log_joint(x, jnp.zeros((5, 4))).shape
        ((5,), (4,), (5,))
    """

    encoder: Network
    decoder: Network
    prior_logits: Float[Array, "D"]
    center: Float[Array, "P"]

    def posterior(self, x):
        return dist.Bernoulli(logits=self.encoder(self.centered(x))).to_event(1)  # type: ignore[return-value]

    def prior(self):
        return dist.Bernoulli(logits=self.prior_logits).to_event(1)  # type: ignore[return-value]

    def log_prior(self, z):
        return jnp.sum(z * self.prior_logits - softplus(self.prior_logits), axis=-1)

    def embed(self, z):
        return 2 * z - 1


class CategoricalVAE(AbstractVAE):
    """D one-hot variables of C categories; the decoder sees their C·D entries."""

    encoder: Network
    decoder: Network
    prior_logits: Float[Array, "D C"]
    center: Float[Array, "P"]

    def posterior(self, x):
        logits = self.encoder(self.centered(x))
        return OneHotCategorical(
            logits=logits.reshape(*x.shape[:-1], *self.prior_logits.shape)
        ).to_event(1)

    def prior(self):
        return OneHotCategorical(logits=self.prior_logits).to_event(1)

    def log_prior(self, z):
        return jnp.sum(z * jax.nn.log_softmax(self.prior_logits), axis=(-2, -1))

    def embed(self, z):
        return z.reshape(*z.shape[:-2], -1)


def data_logits(mean: Float[Array, "P"], least: float = 1e-3) -> Float[Array, "P"]:
    """The logit of the mean pixel, the mean clipped to [least, 1 − least]."""
    p = jnp.clip(mean, least, 1 - least)
    return jnp.log(p) - jnp.log1p(-p)


def _rectifier(x: Array) -> Array:
    return jax.nn.leaky_relu(x, negative_slope=0.3)


def _networks(key: PRNGKeyArray, mean: Array, code: int, **options: Any) -> tuple[Network, Network]:
    """An encoder and a decoder that mirror each other; the decoder starts at the data's logit."""
    encoder_key, decoder_key = jax.random.split(key)
    hidden = options.pop("hidden", ())
    encoder = Network(mean.size, code, hidden, key=encoder_key, **options)
    decoder = Network(code, mean.size, hidden[::-1], key=decoder_key, **options)
    return encoder, with_last_bias(decoder, data_logits(mean))


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
    size = num_latents or min(200, mean.size)
    encoder, decoder = _networks(key, mean, size)
    return BinaryVAE(encoder, decoder, jnp.zeros(size), mean)


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
    size = num_latents or min(200, mean.size)
    encoder, decoder = _networks(key, mean, size, hidden=hidden, activation=_rectifier)
    return BinaryVAE(encoder, decoder, jnp.zeros(size), mean)


def categorical_vae(
    key: PRNGKeyArray,
    mean: Float[Array, "P"],
    num_latents: int = 20,
    num_categories: int = 10,
    hidden: tuple[int, ...] = (200,),
) -> CategoricalVAE:
    """A VAE of one-hot variables, with hidden layers of leaky rectifiers (slope 0.3).

    Arguments:
        key: consumed.
        mean: the mean of the training data, as in `linear_vae`.
        num_latents: D.
        num_categories: C.
        hidden: sizes of the encoder's hidden layers, and reversed of the decoder's.
    """
    code = num_latents * num_categories
    encoder, decoder = _networks(key, mean, code, hidden=hidden, activation=_rectifier)
    return CategoricalVAE(encoder, decoder, jnp.zeros((num_latents, num_categories)), mean)
