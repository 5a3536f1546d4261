"""Hard attention: a classifier that sees some patches of a picture, and an encoder that shows them.

Axes: B data batch (any number of leading axes), P pixels of a square picture, row by row; C
classes; N patches.
"""

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from .._errors import InvalidArgumentError, complain
from ._layers import Network, with_last_bias, with_zero_last_layer


class PatchMask(eqx.Module):
    """A classifier that sees some patches of a picture only, and an encoder that chooses which.

    Attributes:
        encoder: from the picture to the logits of N bits: which patches are shown.
        classifier: from the masked picture to the logits of the classes.
        width: of the picture, in pixels.
        size: of a patch, in pixels.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = patch_mask(jax.random.key(0), width=28, size=4, num_classes=10)
        >>> x = jnp.ones((5, 784))
        >>> bits = jnp.zeros((5, 49)).at[:, 0].set(1)
        >>> model.mask_law(x).event_shape, int(model.masked(x, bits)[0].sum())
        ((49,), 16)
    """

    encoder: Network
    classifier: Network
    width: int = eqx.field(static=True)
    size: int = eqx.field(static=True)

    def mask_law(self, x: Float[Array, "*B P"]) -> dist.Distribution:
        """q(b | x): batch shape B, event shape (N,)."""
        return dist.Bernoulli(logits=self.encoder(x)).to_event(1)  # type: ignore[return-value]

    def masked(self, x: Float[Array, "*B P"], b: Float[Array, "*S N"]) -> Float[Array, "*S P"]:
        """The picture with its patches weighted by b: a bit shows one or hides it, as zeros."""
        across = self.width // self.size
        blocks = x.reshape(*x.shape[:-1], across, self.size, across, self.size)
        seen = blocks * b.reshape(*b.shape[:-1], across, 1, across, 1)
        return seen.reshape(*seen.shape[:-4], -1)

    def class_logits(self, x: Float[Array, "*B P"], b: Float[Array, "*S N"]) -> Array:
        """Of the classes given the masked picture, shape S + (C,); b has axes before B, or not."""
        return self.classifier(self.masked(x, b))


def patch_mask(
    key: PRNGKeyArray,
    width: int,
    size: int,
    num_classes: int,
    hidden: tuple[int, ...] = (256,),
    shown: float = 0.5,
) -> PatchMask:
    """A mask over square patches, with rectifiers; at first each patch is shown by chance.

    Arguments:
        key: consumed.
        width: of the picture, in pixels: a multiple of `size`.
        size: of a patch, in pixels.
        num_classes: C.
        hidden: sizes of the hidden layers, of the encoder and of the classifier.
        shown: the chance with which a patch is shown at first.

    Raises:
        InvalidArgumentError: patches that do not make a picture.

    Example:
        >>> import jax
        >>> patch_mask(jax.random.key(0), 60, 5, 10).encoder.layers[-1].out_features
        144
    """
    if width % size:
        raise InvalidArgumentError(
            complain(
                f"patches of {size}×{size} were asked for on pictures of {width}×{width}",
                "the patches share out the picture",
                "pass a size that divides the width",
            )
        )
    encoder_key, classifier_key = jax.random.split(key)
    layers = functools.partial(Network, hidden=hidden, activation=jax.nn.relu)
    encoder = layers(width**2, (width // size) ** 2, key=encoder_key)
    bias = jnp.full((width // size) ** 2, math.log(shown / (1 - shown)))
    classifier = layers(width**2, num_classes, key=classifier_key)
    return PatchMask(with_last_bias(with_zero_last_layer(encoder), bias), classifier, width, size)
