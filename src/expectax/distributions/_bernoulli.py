"""The view of Bernoulli variables."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import gumbel
from .._numerics import FLOOR, finite_logits, softplus, working_dtype
from .._trees import over_batch, sum_events
from ._base import Invertible
from ._factorized import Binary
from ._of_logits import OfLogits


class BernoulliView(OfLogits, Binary, Invertible):
    """Independent bits with log-odds θ, shape batch + event. Draws are 0.0 or 1.0.

    The log-probability is b·θ − softplus(θ), whose derivative at θ = 0 is b − ½: NumPyro's own has
    derivative 1 or 0 there.
    """

    logits: Float[Array, "..."]
    num_batch_dims: int = eqx.field(static=True)
    dtype: jnp.dtype = eqx.field(static=True)

    def __init__(self, logits: Array, num_batch_dims: int):
        self.dtype = logits.dtype
        self.logits = finite_logits(logits.astype(working_dtype(logits.dtype)))
        self.num_batch_dims = num_batch_dims

    def log_prob(self, value):
        terms = value * self.logits - softplus(self.logits)
        return sum_events(terms, 1 + self.num_batch_dims)

    @property
    def num_outcomes(self):
        return 2 ** math.prod(self.event_shape)

    def outcome(self, index):
        size = math.prod(self.event_shape)
        bits = (over_batch(index, self.num_batch_dims)[..., None] >> jnp.arange(size)) & 1
        bits = bits.reshape((*bits.shape[:-1], *self.event_shape))
        return jnp.broadcast_to(bits, (len(index), *self.logits.shape)).astype(self.dtype)

    @property
    def variable_ndim(self):
        return 0

    def noise(self, key, num):
        return gumbel.logistic(key, (num, *self.logits.shape), self.logits.dtype)

    def noise_score(self, noise):
        return jnp.tanh(noise / 2)  # the log-density is −L − 2 log(1 + exp(−L))

    @property
    def uniform_shape(self):
        return self.logits.shape

    def quantile(self, uniform):
        return self.harden(jax.lax.stop_gradient(self.logits) + jnp.log(uniform / (1 - uniform)))

    def harden(self, perturbed):
        return (perturbed > 0).astype(self.dtype)

    def relax(self, perturbed, temperature):
        return jax.nn.sigmoid(perturbed / temperature).astype(self.dtype)

    @property
    def mean(self):
        return jax.nn.sigmoid(self.logits).astype(self.dtype)

    def score(self, draw):
        return draw - jax.nn.sigmoid(self.logits)

    @property
    def variables(self):
        return np.arange(math.prod(self.event_shape)).reshape(self.event_shape)

    def pull(self, at, cotangent):
        return at * (1 - at) * cotangent

    def conditional(self, key, draw, num):
        logits = jnp.broadcast_to(self.logits, (num, *self.logits.shape))
        return gumbel.conditional_logistic(key, logits, jnp.broadcast_to(draw, logits.shape))

    def gap(self, draw, gap):
        sign = 2 * draw.astype(self.logits.dtype) - 1
        return jnp.maximum(gap - sign * self.logits, 0) * sign

    def residual(self, perturbed, cotangent):
        return gumbel.logistic_residual(self.logits, perturbed, cotangent)

    def presentable(self, perturbed):
        return jnp.where(jnp.abs(self.logits) < FLOOR, perturbed, jnp.zeros_like(perturbed))

    @property
    def num_changes(self):
        return math.prod(self.event_shape)

    def change(self, draw, index):
        flip = jnp.arange(math.prod(self.event_shape)) == index
        flip = flip.reshape(self.event_shape)
        return jnp.where(flip, 1 - draw, draw)

    def differences(self, draw, deltas):
        deltas = jnp.moveaxis(deltas, 0, -1).reshape(self.logits.shape)
        return deltas * (1 - 2 * draw)
