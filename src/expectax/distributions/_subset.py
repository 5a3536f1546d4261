"""Sets of k items with p ∝ exp(sum of logits): the conditional Bernoulli law."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from numpyro.distributions.util import validate_sample

from .. import gumbel
from .._numerics import finite_logits, log_add, working_dtype
from .._trees import sum_events
from ._base import Averaged
from ._sets import SetDistribution, SetView

_IMPOSSIBLE = -1e30  # log of the sum over no sets: finite, so that no derivative is 0 · ∞


def log_sums(
    theta: Float[Array, "*shape N"], k: int
) -> tuple[Float[Array, "*shape"], Float[Array, "N *shape K"]]:
    """log Σ_{|S| = k} exp(Σ_{i ∈ S} θ_i): the elementary symmetric polynomial of the weights.

    By e_j(1…i) = e_j(1…i−1) + w_i e_{j−1}(1…i−1), all terms positive, in n k steps. Also returns
    the logarithms of e_0 … e_k of the items before each one, from which draws are made.

    Reference: Chen & Liu (1997), "Statistical applications of the Poisson-binomial and conditional
    Bernoulli distributions", method 1.
    """
    nothing = jnp.full((*theta.shape[:-1], 1), _IMPOSSIBLE, theta.dtype)
    start = jnp.concatenate([jnp.zeros_like(nothing), *[nothing] * k], axis=-1)

    def add(row, t):
        taken = jnp.concatenate([nothing, row[..., :-1]], axis=-1) + t[..., None]
        return log_add(row, taken), row

    last, rows = jax.lax.scan(add, start, jnp.moveaxis(theta, -1, 0))
    return last[..., -1], rows


def _centered(theta: Array) -> Array:
    """The law does not change when a number is added to all logits: the largest becomes 0."""
    return theta - jax.lax.stop_gradient(jnp.max(theta, axis=-1, keepdims=True))


def subset_mean(theta: Float[Array, "*shape N"], k: int) -> Float[Array, "*shape N"]:
    """The marginals P(i ∈ S) = ∂ log e_k/∂θ_i: a backward pass through the same n k steps."""
    return jax.grad(lambda t: jnp.sum(log_sums(t, k)[0]))(_centered(theta))


def subset_sample(key, theta: Float[Array, "*shape N"], k: int, num: int) -> Array:
    """`num` exact draws as booleans, (num,) + shape + (N,): from the last item to the first.

    With j items still to take, item i is taken with log-odds θ_i + log e_{j−1} − log e_j, the sums
    being over the items before it.
    """
    theta = _centered(jax.lax.stop_gradient(theta))
    _, rows = log_sums(theta, k)
    noise = gumbel.logistic(key, (theta.shape[-1], num, *theta.shape[:-1]), theta.dtype)
    nothing = jnp.full((*rows.shape[:-1], 1), _IMPOSSIBLE, rows.dtype)
    odds = jnp.moveaxis(theta, -1, 0)[..., None] + jnp.concatenate([nothing, rows[..., :-1]], -1)
    odds = odds - rows

    def decide(need, item):
        odds, noise = item
        odds = jnp.broadcast_to(odds, (num, *odds.shape))
        taken = noise + jnp.take_along_axis(odds, need[..., None], axis=-1)[..., 0] > 0
        return need - taken, taken

    need = jnp.full((num, *theta.shape[:-1]), k, jnp.int32)
    _, taken = jax.lax.scan(decide, need, (odds, noise), reverse=True)
    return jnp.moveaxis(taken, 0, -1)


class Subset(SetDistribution):
    """k of n items, with p(b) ∝ exp(b·θ) over the k-hot vectors b.

    The law of n independent bits with log-odds θ given that k of them are one (conditional
    Bernoulli), and the exponential family of k-subsets:

        log p(b) = b·θ − log e_k(exp θ),     E[b_i] = ∂ log e_k/∂θ_i,

    with e_k the elementary symmetric polynomial, computed in logarithms in n k steps. It is *not*
    the law of the k largest perturbed logits, which is `TopK`; so it cannot be relaxed by them.
    With `StraightThrough` the gradient is that of SIMPLE: the hard draw forward, the exact
    marginals backward.

    Arguments:
        logits: θ, shape batch + (n,); −inf masks an item. At least k items must not be masked.
        k: how many, 1 ≤ k ≤ n.

    Shapes: batch shape that of `logits` without its last axis, event shape (n,). `.to_event(m)`
    makes m batch axes part of the event. Draws have the dtype of the logits.

    Raises:
        InvalidArgumentError: there is no axis of items, or k is not in 1 … n.

    Example:
        >>> import jax.numpy as jnp, expectax as ex
        >>> q = ex.Subset(jnp.log(jnp.array([1.0, 1.0, 2.0])), k=2)  # weights 1, 2 and 2
        >>> print(jnp.exp(q.log_prob(q.enumerate_support())).round(3))
        [0.2 0.4 0.4]
        >>> print(q.mean.round(3))
        [0.6 0.6 0.8]

    Reference:
        Chen, Dempster & Liu (1994), "Weighted finite population sampling to maximize entropy";
        Ahmed et al. (2023), "SIMPLE: a gradient estimator for k-subset sampling".
    """

    @property
    def _centered(self) -> Array:
        theta = self._theta
        return _centered(finite_logits(theta.astype(working_dtype(theta.dtype))))

    def sample(self, key, sample_shape: tuple[int, ...] = ()) -> Array:
        num = math.prod(sample_shape)
        draws = subset_sample(key, self._centered, self.k, num).astype(self._theta.dtype)
        return draws.reshape((*sample_shape, *self.batch_shape, *self.event_shape))

    @validate_sample
    def log_prob(self, value) -> Array:
        theta = self._centered
        return jnp.sum(value * theta, axis=-1) - log_sums(theta, self.k)[0]

    def entropy(self) -> Array:
        """H = log e_k − θ·E[b], in nats, shape batch."""
        theta = self._centered
        total = log_sums(theta, self.k)[0]
        return total - jnp.sum(subset_mean(theta, self.k) * theta, axis=-1)

    @property
    def mean(self) -> Array:
        return subset_mean(self._centered, self.k).astype(self._theta.dtype)

    @property
    def variance(self) -> Array:
        return self.mean * (1 - self.mean)


class SubsetView(SetView, Averaged):
    """Independent k-subsets with p ∝ exp(b·θ)."""

    def sample(self, key, num):
        return subset_sample(key, self.logits, self.k, num).astype(self.dtype)

    def log_prob(self, value):
        theta = _centered(self.logits)
        terms = jnp.sum(value * theta, axis=-1) - log_sums(theta, self.k)[0]
        return sum_events(terms, 1 + self.num_batch_dims)

    @property
    def mean(self):
        return subset_mean(self.logits, self.k).astype(self.dtype)
