"""The views of categorical variables: one-hot (relaxable) and integer (not)."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import gumbel
from .._numerics import FLOOR, finite_logits, working_dtype
from .._trees import over_batch, sum_events
from ._base import Enumerable, Invertible
from ._factorized import OneHot
from ._inversion import inverse_cdf
from ._of_logits import OfLogits, PerturbedByGumbels


def _digits(index: Array, base: int, size: int) -> Array:
    """`index` written with `size` digits in this base on a new last axis, the least first."""
    return (index[..., None] // jnp.asarray([base**i for i in range(size)])) % base


class OneHotView(OfLogits, PerturbedByGumbels, OneHot, Invertible):
    """Independent one-hot variables with logits θ, shape batch + event, categories last."""

    logits: Float[Array, "... C"]
    num_batch_dims: int = eqx.field(static=True)
    dtype: jnp.dtype = eqx.field(static=True)

    def __init__(self, logits: Array, num_batch_dims: int):
        self.dtype = logits.dtype
        self.logits = finite_logits(logits.astype(working_dtype(logits.dtype)))
        self.num_batch_dims = num_batch_dims

    @property
    def _num_variables(self):
        return math.prod(self.event_shape[:-1])

    def log_prob(self, value):
        log_p = jax.nn.log_softmax(self.logits, axis=-1)
        return sum_events(value * log_p, 1 + self.num_batch_dims)

    @property
    def num_outcomes(self):
        return self.num_categories**self._num_variables

    def outcome(self, index):
        index = over_batch(index, self.num_batch_dims)
        digits = _digits(index, self.num_categories, self._num_variables)
        hot = jax.nn.one_hot(digits, self.num_categories, dtype=self.dtype)
        hot = hot.reshape((*index.shape, *self.event_shape))
        return jnp.broadcast_to(hot, (len(index), *self.logits.shape))

    @property
    def variable_ndim(self):
        return 1

    @property
    def uniform_shape(self):
        return self.logits.shape[:-1]

    def quantile(self, uniform):
        index = inverse_cdf(jax.nn.softmax(self.logits, axis=-1), uniform)
        return jax.nn.one_hot(index, self.num_categories, dtype=self.dtype)

    def harden(self, perturbed):
        winner = jnp.argmax(perturbed, axis=-1)
        return jax.nn.one_hot(winner, self.num_categories, dtype=self.dtype)

    def relax(self, perturbed, temperature):
        return jax.nn.softmax(perturbed / temperature, axis=-1).astype(self.dtype)

    @property
    def mean(self):
        return jax.nn.softmax(self.logits, axis=-1).astype(self.dtype)

    def score(self, draw):
        return draw - jax.nn.softmax(self.logits, axis=-1)

    @property
    def variables(self):
        each = np.arange(self._num_variables).reshape((*self.event_shape[:-1], 1))
        return np.broadcast_to(each, self.event_shape)

    def pull(self, at, cotangent):
        weighted = at * cotangent
        return weighted - at * jnp.sum(weighted, axis=-1, keepdims=True)

    def conditional(self, key, draw, num):
        logits = jnp.broadcast_to(self.logits, (num, *self.logits.shape))
        index = jnp.broadcast_to(jnp.argmax(draw, axis=-1), logits.shape[:-1])
        return gumbel.conditional_gumbel(key, logits, index)

    def gap(self, draw, gap):
        top = jnp.max(self.logits, axis=-1, keepdims=True)
        others = -jnp.maximum(self.logits + gap - top, 0)
        return jnp.where(draw > 0, top - self.logits, others)

    def residual(self, perturbed, cotangent):
        return gumbel.gumbel_residual(self.logits, perturbed, cotangent)

    def presentable(self, perturbed):
        return jnp.where(self.logits > -FLOOR, perturbed, jnp.zeros_like(perturbed))

    @property
    def num_changes(self):
        return self._num_variables * (self.num_categories - 1)

    def change(self, draw, index):
        # change number n * (C - 1) + j moves variable n on by j + 1 categories, cyclically
        which, step = index // (self.num_categories - 1), index % (self.num_categories - 1) + 1
        here = (jnp.arange(self._num_variables) == which).reshape((*self.event_shape[:-1], 1))
        return jnp.where(here, jnp.roll(draw, step, axis=-1), draw)

    def differences(self, draw, deltas):
        deltas = jnp.moveaxis(deltas, 0, -1)
        deltas = deltas.reshape((*self.logits.shape[:-1], self.num_categories - 1))
        steps = jnp.pad(deltas, [(0, 0)] * (deltas.ndim - 1) + [(1, 0)])  # no step, no difference
        here = jnp.argmax(draw, axis=-1, keepdims=True)
        step_to = (jnp.arange(self.num_categories) - here) % self.num_categories
        return jnp.take_along_axis(steps, step_to, axis=-1)


class CategoricalView(Enumerable, Invertible):
    """Independent integer-valued categorical variables (NumPyro's `Categorical`).

    `logits`, shape batch + event + (C,), need not be normalised: the log-probability does it, also
    where the user passed probs. NumPyro's own does not, and with it the gradients of estimators
    that subtract a baseline would differ from the others' by a constant.
    """

    logits: Float[Array, "... C"]
    num_batch_dims: int = eqx.field(static=True)

    def __init__(self, logits: Array, num_batch_dims: int):
        self.logits = logits.astype(working_dtype(logits.dtype))
        self.num_batch_dims = num_batch_dims

    @property
    def batch_shape(self):
        return self.logits.shape[: self.num_batch_dims]

    @property
    def event_shape(self):
        return self.logits.shape[self.num_batch_dims : -1]

    def sample(self, key, num):
        logits = jax.lax.stop_gradient(self.logits)
        noise = gumbel.gumbel(key, (num, *logits.shape), logits.dtype)
        return jnp.argmax(logits + noise, axis=-1)

    @property
    def uniform_shape(self):
        return self.logits.shape[:-1]

    def quantile(self, uniform):
        return inverse_cdf(jax.nn.softmax(self.logits, axis=-1), uniform)

    def log_prob(self, value):
        # log p meets each draw by an index, so that −inf elsewhere never meets a 0
        log_p = jax.nn.log_softmax(self.logits, axis=-1)
        log_p = jnp.broadcast_to(log_p, (*value.shape, log_p.shape[-1]))
        chosen = jnp.take_along_axis(log_p, value[..., None], axis=-1)[..., 0]
        return sum_events(chosen, 1 + self.num_batch_dims)

    @property
    def num_outcomes(self):
        return self.logits.shape[-1] ** math.prod(self.event_shape)

    def outcome(self, index):
        index = over_batch(index, self.num_batch_dims)
        digits = _digits(index, self.logits.shape[-1], math.prod(self.event_shape))
        digits = digits.reshape((*index.shape, *self.event_shape))
        return jnp.broadcast_to(digits, (len(index), *self.logits.shape[:-1]))
