"""Pictures somewhere in a larger field, alone or among pieces of others, made at each use."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt8


@dataclasses.dataclass(frozen=True)
class Field:
    """A black square on which a picture lies whole, anywhere with equal chance.

    Attributes:
        width: of the field, in pixels.
        num_pieces: square pieces of other pictures that lie there, too, anywhere. Where two things
            lie, the brighter pixel is seen.
        piece: width of a piece, in pixels.
    """

    width: int
    num_pieces: int = 0
    piece: int = 8

    def place(
        self, key: PRNGKeyArray, x: Float[Array, "B P"], others: UInt8[Array, "N P"]
    ) -> Float[Array, "B W"]:
        """One field for each picture.

        Arguments:
            key: consumed.
            x: square pictures in [0, 1], row by row, no wider than the field.
            others: what pieces are cut from, in 256 levels.
        """
        return jax.vmap(self.place_one, (0, 0, None))(jax.random.split(key, len(x)), x, others)

    def place_one(
        self, key: PRNGKeyArray, x: Float[Array, "P"], others: UInt8[Array, "N P"]
    ) -> Float[Array, "W"]:
        """The field of one picture."""
        side = math.isqrt(x.shape[-1])
        keys = jax.random.split(key, 4)
        seen = self._somewhere(keys[0], x.reshape(side, side))
        if self.num_pieces:
            rows = jax.random.randint(keys[1], (self.num_pieces,), 0, len(others))
            cut_keys, lay_keys = (jax.random.split(k, self.num_pieces) for k in keys[2:])
            pictures = others[rows].reshape(-1, side, side).astype(x.dtype) / 255
            pieces = jax.vmap(lambda k, other: window(k, other, self.piece))(cut_keys, pictures)
            laid = jax.vmap(self._somewhere)(lay_keys, pieces)
            seen = jnp.maximum(seen, jnp.max(laid, axis=0))
        return seen.reshape(-1)

    def _somewhere(self, key: PRNGKeyArray, x: Float[Array, "h h"]) -> Float[Array, "w w"]:
        # every place of the picture in the field is one of the field in a framed picture
        return window(key, jnp.pad(x, self.width - len(x)), self.width)


def window(key: PRNGKeyArray, x: Float[Array, "h h"], width: int) -> Float[Array, "w w"]:
    """A square part of a picture, anywhere in it with equal chance. The key is consumed."""
    start = jax.random.randint(key, (2,), 0, len(x) - width + 1)
    return jax.lax.dynamic_slice(x, (start[0], start[1]), (width, width))
