"""Another view of a picture that shows the same thing: turned, zoomed, slanted, moved, mirrored."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


@dataclasses.dataclass(frozen=True)
class Views:
    """How far a view may be from its picture, either way; up to there all is equally likely.

    Attributes:
        turn: in radians.
        zoom: of the size, as a fraction.
        slant: columns to a row.
        move: pixels, in each direction.
        mirror: whether left and right change places half of the time.
    """

    turn: float
    zoom: float
    slant: float
    move: float
    mirror: bool = False

    def draw(self, key: PRNGKeyArray, x: Float[Array, "B P"]) -> Float[Array, "B P"]:
        """One view of each picture. Pixels are copied, so that bits stay bits; outside is 0.

        Arguments:
            key: consumed.
            x: square pictures, row by row.
        """
        width = math.isqrt(x.shape[1])
        middle = (width - 1) / 2
        mirror_key, key = jax.random.split(key)
        largest = jnp.array([self.turn, self.zoom, self.slant, self.move, self.move])
        amounts = largest * jax.random.uniform(key, (len(x), 5), minval=-1.0)
        turn, zoom, slant, right, down = jnp.split(amounts, 5, axis=1)
        rows, columns = jnp.divmod(jnp.arange(x.shape[1]), width)
        v, u = rows - middle, columns - middle
        if self.mirror:
            u = u * jnp.where(jax.random.bernoulli(mirror_key, 0.5, (len(x), 1)), 1, -1)
        cos, sin = jnp.cos(turn), jnp.sin(turn)
        # where each pixel of the view comes from
        i = (1 + zoom) * (sin * u + cos * v) + down + middle
        j = (1 + zoom) * (cos * u - sin * v) + slant * v + right + middle
        i, j = jnp.round(i).astype(int), jnp.round(j).astype(int)
        inside = (i >= 0) & (i < width) & (j >= 0) & (j < width)
        source = jnp.clip(i, 0, width - 1) * width + jnp.clip(j, 0, width - 1)
        return jnp.where(inside, jnp.take_along_axis(x, source, axis=1), 0)
