"""Variational autoencoders with one layer of latents, for binary data.

Axes: B data batch (any number of leading axes), P pixels, D latent variables, C categories. Draws z
have shape (*B, D) for bits and (*B, D, C) for one-hot variables.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from .._trees import add_axis
from ..distributions import OneHotCategorical, joint
from ._layers import Network, bernoulli_log_prob


class AbstractVAE(eqx.Module):
    """p(z) p(x | z) with independent Bernoulli pixels, and q(z | x) with independent latents.

    The encoder sees x − `center`; latents enter the decoder by `embed`. `center`, and `offset`
    where there is one, are constants of the data, without gradient.

    Attributes:
        encoder: from pixels to the parameters of q(z | x).
        decoder: from `embed(z)` to the logits of the pixels.
        center: what is taken from the input.
        offset: what is added to the logits of the pixels, or None.
    """

    encoder: eqx.AbstractVar[Network]
    decoder: eqx.AbstractVar[Network]
    center: eqx.AbstractVar[Float[Array, "P"]]
    offset: eqx.AbstractVar[Float[Array, "P"] | None]

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
        logits = self.decoder(self.embed(z))
        return logits if self.offset is None else logits + jax.lax.stop_gradient(self.offset)

    def decode(self, z: Float[Array, "..."]) -> Float[Array, "*B P"]:
        """E[x | z], in [0, 1]."""
        return jax.nn.sigmoid(self.pixel_logits(z))

    def log_likelihood(self, x: Float[Array, "*B P"], z: Float[Array, "..."]) -> Float[Array, "*B"]:
        """log p(x | z), in nats."""
        return bernoulli_log_prob(self.pixel_logits(z), x)

    def log_joint(self, x: Float[Array, "*B P"], z: Float[Array, "..."]) -> Float[Array, "*B"]:
        """log p(x, z), in nats."""
        return self.log_likelihood(x, z) + self.log_prior(z)

    def log_posterior(self, x: Float[Array, "*B P"], z: Float[Array, "..."]) -> Float[Array, "*B"]:
        """log q(z | x), in nats, with the right derivative also at a logit of exactly 0."""
        return joint(self.posterior(x)).log_prob(add_axis(z))[0]

    def sample_prior(self, key: PRNGKeyArray, num: int) -> Float[Array, "num P"]:
        """E[x | z] at `num` draws z from the prior. The key is consumed."""
        return self.decode(joint(self.prior()).sample(key, num))

    def sample_joint(
        self, key: PRNGKeyArray, num: int
    ) -> tuple[Float[Array, "num P"], Float[Array, "num ..."]]:
        """`num` draws of (x, z) from p, without gradient. The key is consumed."""
        for_z, for_x = jax.random.split(key)
        z = joint(self.prior()).sample(for_z, num)
        pixels = dist.Bernoulli(logits=self.pixel_logits(z)).to_event(1)
        return joint(pixels).sample(for_x, 1)[0], z

    def centered(self, x: Float[Array, "*B P"]) -> Float[Array, "*B P"]:
        """x − center."""
        return x - jax.lax.stop_gradient(self.center)


class BinaryVAE(AbstractVAE):
    """D bits.

    Attributes:
        encoder, decoder, center, offset: as of every `AbstractVAE`.
        prior_logits: of the bits of p(z).
        signed: whether the decoder sees 2b − 1, or b.
        uniform_prior: whether p(z) is uniform for good, and the prior's logits are not learned.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from expectax.models import linear_vae
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
    offset: Float[Array, "P"] | None = None
    signed: bool = eqx.field(static=True, default=True)
    uniform_prior: bool = eqx.field(static=True, default=False)

    def posterior(self, x):
        return dist.Bernoulli(logits=self.encoder(self.centered(x))).to_event(1)  # type: ignore[return-value]

    def prior(self):
        logits = held_at_zero(self.prior_logits, self.uniform_prior)
        return dist.Bernoulli(logits=logits).to_event(1)  # type: ignore[return-value]

    def log_prior(self, z):
        return bernoulli_log_prob(held_at_zero(self.prior_logits, self.uniform_prior), z)

    def embed(self, z):
        return 2 * z - 1 if self.signed else z


class CategoricalVAE(AbstractVAE):
    """D one-hot variables of C categories; the decoder sees their C·D entries.

    Attributes:
        encoder, decoder, center, offset: as of every `AbstractVAE`.
        prior_logits: of the categories of p(z).
        uniform_prior: whether p(z) is uniform for good, and the prior's logits are not learned.
    """

    encoder: Network
    decoder: Network
    prior_logits: Float[Array, "D C"]
    center: Float[Array, "P"]
    offset: Float[Array, "P"] | None = None
    uniform_prior: bool = eqx.field(static=True, default=False)

    def posterior(self, x):
        logits = self.encoder(self.centered(x))
        return OneHotCategorical(
            logits=logits.reshape(*x.shape[:-1], *self.prior_logits.shape)
        ).to_event(1)

    def prior(self):
        logits = held_at_zero(self.prior_logits, self.uniform_prior)
        return OneHotCategorical(logits=logits).to_event(1)

    def log_prior(self, z):
        logits = held_at_zero(self.prior_logits, self.uniform_prior)
        return jnp.sum(z * jax.nn.log_softmax(logits), axis=(-2, -1))

    def embed(self, z):
        return z.reshape(*z.shape[:-2], -1)


def held_at_zero(logits: Array, held: bool) -> Array:
    """The logits; if held, zeros in their place, so that none of them is ever moved."""
    return jnp.zeros_like(logits) if held else logits
