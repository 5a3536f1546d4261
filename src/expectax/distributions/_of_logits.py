"""What views of logits share: shapes, the type of draws, and Gumbel noise."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from .. import gumbel
from ._base import Solvable, View


class OfLogits(View):
    """Logits of shape batch + event, of 32 bits or more; `dtype` is that of the draws."""

    logits: eqx.AbstractVar[Array]
    num_batch_dims: eqx.AbstractVar[int]
    dtype: eqx.AbstractVar[jnp.dtype]

    @property
    def batch_shape(self):
        return self.logits.shape[: self.num_batch_dims]

    @property
    def event_shape(self):
        return self.logits.shape[self.num_batch_dims :]

    @property
    def draw_dtype(self):
        return self.dtype


class PerturbedByGumbels(Solvable):
    """`Solvable`, with one standard Gumbel for each logit."""

    def noise(self, key, num):
        return gumbel.gumbel(key, (num, *self.logits.shape), self.logits.dtype)

    def noise_score(self, noise):
        return -jnp.expm1(-noise)  # the log-density is −γ − exp(−γ)
