"""A data set on the device: pictures as bytes, and what the model sees of them."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from ..._errors import InvalidArgumentError, complain

BINARIZATIONS = {
    "static": "bits as published",
    "dynamic": "binarized afresh at each use",
    "threshold": "thresholded at one half",
    "grey": "grey values in [0, 1]",
}
"""How pictures become what the model sees, and what that means. `grey` makes no bits: a Bernoulli
likelihood of grey values is a cross-entropy, whose "ELBO" compares with no bound on bits."""


def _labels(given: object) -> Int[Array, "..."] | None:
    return None if given is None else jnp.asarray(given, jnp.int32)


def _pictures(given: object) -> UInt8[Array, "..."] | None:
    return None if given is None else jnp.asarray(given)


class Dataset(eqx.Module):
    """Pictures of P pixels: bits (0 or 1), or grey levels (0 … 255) binarized afresh at each use.

    Arguments:
        train: training pictures, one a row.
        test: test pictures.
        shape: height and width.
        grey: whether the bytes are grey levels.
        summary: one line for people: where it comes from, the split, the binarization.
        binarization: a key of `BINARIZATIONS`. Of grey levels "dynamic" or "grey": what
            `binarize` makes of them. Bits stay as they are; there it says where they come from.
        valid: validation pictures, where a split with them is published.
        train_labels: classes of the training pictures, from 0, where they have any.
        test_labels: classes of the test pictures.
    """

    train: UInt8[Array, "N P"] = eqx.field(converter=jnp.asarray)
    test: UInt8[Array, "M P"] = eqx.field(converter=jnp.asarray)
    shape: tuple[int, int] = eqx.field(static=True)
    grey: bool = eqx.field(static=True)
    summary: str = eqx.field(static=True)
    binarization: str = eqx.field(static=True, default="dynamic")
    valid: UInt8[Array, "V P"] | None = eqx.field(converter=_pictures, default=None)
    train_labels: Int[Array, "N"] | None = eqx.field(converter=_labels, default=None)
    test_labels: Int[Array, "M"] | None = eqx.field(converter=_labels, default=None)

    def __check_init__(self):
        pixels = self.shape[0] * self.shape[1]
        pairs = ((self.train, self.train_labels), (self.valid, None), (self.test, self.test_labels))
        for rows, labels in pairs:
            if rows is not None and rows.shape != (len(rows), pixels):
                raise InvalidArgumentError(
                    complain(
                        f"pictures of shape {rows.shape} were given for a Dataset",
                        f"its pictures are {self.shape[0]}×{self.shape[1]}",
                        f"pass {pixels} bytes a row",
                    )
                )
            if rows is not None and labels is not None and labels.shape != (len(rows),):
                raise InvalidArgumentError(
                    complain(
                        f"labels of shape {labels.shape} were given for a Dataset",
                        f"they belong to {len(rows)} pictures",
                        "pass one label a picture",
                    )
                )

    @property
    def mean(self) -> Float[Array, "P"]:
        """The mean of the training pictures, in [0, 1]."""
        return jnp.mean(self.train, axis=0, dtype=jnp.float32) / (255 if self.grey else 1)

    def binarize(self, key: PRNGKeyArray, rows: UInt8[Array, "*B P"]) -> Float[Array, "*B P"]:
        """Rows of bytes as the model sees them.

        Bits as they are. Grey levels as bits, drawn afresh with probability level / 255; or as
        level / 255, if the binarization is "grey".
        """
        if not self.grey:
            return rows.astype(jnp.float32)
        if self.binarization == "grey":
            return rows.astype(jnp.float32) / 255
        # 16 random bits a pixel, two pixels a word: half the price of 32, right to 2e-5
        words = jax.random.bits(key, (*rows.shape[:-1], (rows.shape[-1] + 1) // 2), jnp.uint32)
        halves = jax.lax.bitcast_convert_type(words, jnp.uint16)
        noise = halves.reshape(*rows.shape[:-1], -1)[..., : rows.shape[-1]]
        return (noise < rows.astype(jnp.uint16) * 257).astype(jnp.float32)
