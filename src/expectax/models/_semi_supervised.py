"""The variational autoencoder whose latents are a label, sometimes seen, and a style.

Axes: B data batch (any number of leading axes), P pixels, C classes, D entries of the style.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from ..distributions import OneHotCategorical
from ._layers import (
    Network,
    PixelBias,
    bernoulli_log_prob,
    centers,
    leaky_rectifier,
    started,
)


class SemiSupervisedVAE(eqx.Module):
    """p(y) p(z) p(x | y, z) and q(y | x) q(z | x, y): y one-hot, z normal, pixels Bernoulli.

    p(y) is uniform and p(z) standard normal. The label may be summed out, drawn hard, or relaxed:
    everything here is defined between the one-hot vectors too.

    Attributes:
        classifier: from x − `center` to the logits of q(y | x).
        encoder: to D means and D logarithms of the standard deviation of q(z | x, y), from
            x − `center` and, if `style_sees_label`, y; None for a model without style.
        decoder: from y and z to the logits of the pixels.
        center: what is taken from the input; a constant of the data.
        offset: what is added to the logits of the pixels, or None; a constant of the data.
        style_sees_label: whether it is q(z | x, y), or q(z | x).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = semi_supervised_vae(jax.random.key(0), jnp.full(16, 0.3), 3, 2, (8,))
        >>> x, y = jnp.zeros((5, 16)), jax.nn.one_hot(jnp.arange(5) % 3, 3)
        >>> model.label_posterior(x).event_shape, model.style_posterior(x, y).event_shape
        ((3,), (2,))
    """

    classifier: Network
    encoder: Network | None
    decoder: Network
    center: Float[Array, "P"]
    offset: Float[Array, "P"] | None = None
    style_sees_label: bool = eqx.field(static=True, default=True)

    @property
    def num_classes(self) -> int:
        """C."""
        return self.classifier.layers[-1].out_features  # type: ignore[return-value]

    @property
    def num_style(self) -> int:
        """D; 0 for a model without style."""
        return self.decoder.layers[0].in_features - self.num_classes  # type: ignore[operator]

    def centered(self, x: Float[Array, "*B P"]) -> Float[Array, "*B P"]:
        """x − center."""
        return x - jax.lax.stop_gradient(self.center)

    def label_posterior(self, x: Float[Array, "*B P"]) -> OneHotCategorical:
        """q(y | x): batch shape that of x without its last axis, event shape (C,)."""
        return OneHotCategorical(logits=self.classifier(self.centered(x)))

    def style_posterior(
        self, x: Float[Array, "*B P"], y: Float[Array, "*B C"]
    ) -> dist.Distribution | None:
        """q(z | x, y), event shape (D,); None for a model without style."""
        if self.encoder is None:
            return None
        seen = self.centered(x)
        if self.style_sees_label:
            seen = jnp.concatenate([seen, y.astype(seen.dtype)], axis=-1)
        loc, log_scale = jnp.split(self.encoder(seen), 2, axis=-1)
        return dist.Normal(loc, jnp.exp(log_scale)).to_event(1)  # type: ignore[return-value]

    def log_label_prior(self, y: Float[Array, "*B C"]) -> Float[Array, "*B"]:
        """log p(y), in nats; linear in y."""
        return -jnp.log(self.num_classes) * jnp.sum(y, axis=-1)

    def style_prior(self) -> dist.Distribution:
        """p(z): no batch, event shape (D,)."""
        zero = jnp.zeros(self.num_style, self.center.dtype)
        return dist.Normal(zero, 1.0).to_event(1)  # type: ignore[return-value]

    def pixel_logits(
        self, y: Float[Array, "*B C"], z: Float[Array, "*B D"] | None = None
    ) -> Float[Array, "*B P"]:
        """Logits of the pixels; z is left out of a model without style."""
        latents = y if z is None else jnp.concatenate([y.astype(z.dtype), z], axis=-1)
        logits = self.decoder(latents)
        return logits if self.offset is None else logits + jax.lax.stop_gradient(self.offset)

    def decode(
        self, y: Float[Array, "*B C"], z: Float[Array, "*B D"] | None = None
    ) -> Float[Array, "*B P"]:
        """E[x | y, z], in [0, 1]."""
        return jax.nn.sigmoid(self.pixel_logits(y, z))

    def log_likelihood(
        self,
        x: Float[Array, "*B P"],
        y: Float[Array, "*B C"],
        z: Float[Array, "*B D"] | None = None,
    ) -> Float[Array, "*B"]:
        """log p(x | y, z), in nats."""
        return bernoulli_log_prob(self.pixel_logits(y, z), x)


def semi_supervised_vae(
    key: PRNGKeyArray,
    mean: Float[Array, "P"],
    num_classes: int = 10,
    num_style: int = 50,
    hidden: tuple[int, ...] = (500,),
    *,
    style_sees_label: bool = True,
    activation: Callable[[Array], Array] = leaky_rectifier,
    demean: bool = True,
    pixel_bias: PixelBias = PixelBias.TRAINED,
) -> SemiSupervisedVAE:
    """A VAE of a label and a style.

    Arguments:
        key: consumed.
        mean: the mean of the training data, shape (P,), in [0, 1]; it sets the number of pixels.
        num_classes: C.
        num_style: D; 0 for a label alone.
        hidden: sizes of the hidden layers of classifier and encoder, and reversed of the decoder's.
        style_sees_label: whether the style's encoder sees the label: q(z | x, y), or q(z | x).
        activation: of the hidden layers.
        demean: whether classifier and encoder see x − mean, or x.
        pixel_bias: how the decoder starts.

    Returns:
        The model with its initial weights.

    Raises:
        InvalidArgumentError: a pixel bias of another kind.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = semi_supervised_vae(jax.random.key(0), jnp.full(16, 0.3), num_style=0)
        >>> model.style_posterior(jnp.zeros((5, 16)), jnp.eye(10)[:5]) is None
        True

    Reference: Kingma et al. (2014), the model M2, section 2.
    """
    classifier_key, encoder_key, decoder_key = jax.random.split(key, 3)
    classifier = Network(mean.size, num_classes, hidden, activation, key=classifier_key)
    seen = mean.size + (num_classes if style_sees_label else 0)
    encoder = Network(seen, 2 * num_style, hidden, activation, key=encoder_key)
    code = num_classes + num_style
    decoder = Network(code, mean.size, hidden[::-1], activation, key=decoder_key)
    decoder, offset = started(decoder, mean, pixel_bias)
    return SemiSupervisedVAE(
        classifier,
        encoder if num_style else None,
        decoder,
        centers(mean, demean),
        offset=offset,
        style_sees_label=style_sees_label,
    )
