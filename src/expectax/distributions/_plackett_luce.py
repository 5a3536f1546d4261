"""Draws without replacement: in order (Plackett–Luce), and as a set (the k largest)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from numpyro.distributions.util import validate_sample

from .. import gumbel
from .._errors import IncompatibleError, complain
from .._numerics import finite_logits, working_dtype
from .._trees import sum_events
from ._base import Relaxable
from ._of_logits import PerturbedByGumbels
from ._sets import Ranking, SetDistribution, SetView, spread, unrank_order
from ._structures import Listed


def _finite(logits: Array) -> Array:
    return finite_logits(logits.astype(working_dtype(logits.dtype)))


def rank(perturbed: Float[Array, "*shape N"], k: int, dtype: jnp.dtype) -> Array:
    """The permutation matrix [k, N] that sorts: row j is the unit vector of the j-th largest."""
    order = jax.lax.top_k(perturbed, k)[1]
    return jax.nn.one_hot(order, perturbed.shape[-1], dtype=dtype)


def ranking_log_prob(
    theta: Float[Array, "*#shape N"], value: Float[Array, "*#shape K N"]
) -> Float[Array, "*#shape"]:
    """Σ_j [θ·b_j − log Σ_i left_ji exp(θ_i)], left_j = 1 − Σ_{l<j} b_l the items not yet ranked.

    For a permutation matrix it is `gumbel.ordered_log_prob`; between them it is smooth in b too.
    """
    value, theta = value.astype(theta.dtype), theta[..., None, :]
    left = jnp.maximum(1 - (jnp.cumsum(value, axis=-2) - value), 0)
    shift = jnp.max(jnp.where(left > 0, theta, -jnp.inf), axis=-1, keepdims=True)
    shift = jax.lax.stop_gradient(jnp.maximum(shift, jnp.min(theta)))  # finite if nothing is left
    # what has been ranked may be far above what is left: 0 · exp(80) is 0, where 0 · ∞ is not
    total = jnp.sum(left * jnp.exp(jnp.minimum(theta - shift, 80.0)), axis=-1)
    log_left = shift[..., 0] + jnp.log(jnp.maximum(total, jnp.finfo(theta.dtype).tiny))
    return jnp.sum(jnp.sum(value * theta, axis=-1) - log_left, axis=-1)


def top_set(perturbed: Float[Array, "*shape N"], k: int, dtype: jnp.dtype) -> Array:
    """The k-hot vector of the k largest."""
    return jnp.sum(rank(perturbed, k, dtype), axis=-2)


def set_log_prob(theta: Float[Array, "*#shape N"], value: Array, k: int) -> Float[Array, "*#shape"]:
    """log-probability of k-hot vectors, by the items that are one."""
    shape = jnp.broadcast_shapes(theta.shape, value.shape)
    items = jax.lax.top_k(jnp.broadcast_to(jax.lax.stop_gradient(value), shape), k)[1]
    return gumbel.unordered_log_prob(jnp.broadcast_to(theta, shape), items)


class PlackettLuce(SetDistribution):
    """Orders of n items, or of the first k of them: draws without replacement, one after another.

    The first item is drawn from softmax(θ), the next from those that are left, and so on:

        log p(i_1 … i_k) = Σ_j [θ_{i_j} − log Σ_{l not drawn before j} exp(θ_l)].

    It is the law of the order of the perturbed logits θ + γ, from the largest down. A draw is a
    permutation matrix, so that it can be relaxed: row j is the unit vector of the j-th item, and
    `draw @ x` is x in order. Relaxed draws are SoftSort's: rows that sum to one and are largest at
    the right item.

    Arguments:
        logits: θ, shape batch + (n,); −inf puts an item last.
        k: how many items are ranked, 1 ≤ k ≤ n; all n by default.

    Shapes: batch shape that of `logits` without its last axis, event shape (k, n). Draws have the
    dtype of the logits.

    Raises:
        InvalidArgumentError: there is no axis of items, or k is not in 1 … n.

    Example:
        >>> import jax.numpy as jnp, expectax as ex
        >>> q = ex.PlackettLuce(jnp.log(jnp.array([0.5, 0.3, 0.2])), k=2)
        >>> order = jnp.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])  # the second, then the first
        >>> f"{jnp.exp(q.log_prob(order)):.4f}"  # 0.3 · 0.5 / 0.7
        '0.2143'

    Reference:
        Plackett (1975); Luce (1959); Yellott (1977) for the Gumbels; Prillo & Eisenschlos (2020)
        for the relaxation.
    """

    def __init__(
        self,
        logits: Float[Array, "*batch N"],
        k: int | None = None,
        *,
        validate_args: bool | None = None,
    ):
        num = jnp.shape(logits)[-1] if jnp.ndim(logits) else 0
        super().__init__(logits, num if k is None else k, validate_args=validate_args)
        self._event_shape = (self.k, num)

    @property
    def support(self):
        """Matrices whose rows are different unit vectors."""
        return Ranking(self.k)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        theta = jax.lax.stop_gradient(_finite(self._theta))
        noise = gumbel.gumbel(key, (*sample_shape, *theta.shape), theta.dtype)
        return rank(theta + noise, self.k, self._theta.dtype)

    @validate_sample
    def log_prob(self, value) -> Array:
        return ranking_log_prob(_finite(self._theta), value)

    def enumerate_support(self, expand: bool = True) -> Array:
        """The n!/(n−k)! outcomes, shape (n!/(n−k)!,) + batch + (k, n), or batch axes of one."""
        k, n = self.event_shape
        orders = unrank_order(jnp.arange(math.perm(n, k)), n, k)
        return spread(orders.astype(self._theta.dtype), self.batch_shape, 2, expand)


class TopK(SetDistribution):
    """k of n items drawn without replacement: the set of the k largest θ + γ, as a k-hot vector.

    The law is Plackett–Luce's with the order forgotten,

        p(S) = Σ over the orders of S of Π_j exp(θ_{i_j}) / Σ_{l not drawn before j} exp(θ_l),

    exactly, by the subsets of S (k ≤ 8) or by a quadrature of eleven digits (k > 8). It is *not*
    p ∝ exp(b·θ), which is `Subset`; it is the one to relax. Relaxed draws are the sum of k
    softmaxes, each with the ones before taken away, for temperatures below 1.

    `log_prob` reads a draw by its k largest entries: it has no derivative in the draw itself, so
    with a relaxed draw leave log q out of f.

    Arguments:
        logits: θ, shape batch + (n,); an item of −inf is drawn only when no other is left.
        k: how many, 1 ≤ k ≤ n.

    Shapes: batch shape that of `logits` without its last axis, event shape (n,). Draws have the
    dtype of the logits.

    Raises:
        InvalidArgumentError: there is no axis of items, or k is not in 1 … n.

    Example:
        >>> import jax.numpy as jnp, expectax as ex
        >>> q = ex.TopK(jnp.log(jnp.array([0.5, 0.25, 0.25])), k=2)
        >>> p = jnp.exp(q.log_prob(q.enumerate_support()))
        >>> [f"{x:.4f}" for x in p]  # 1/4 + 1/6, the same, 1/12 + 1/12
        ['0.4167', '0.4167', '0.1667']

    Reference:
        Kool, van Hoof & Welling (2020) for the law; Xie & Ermon (2019) for the relaxation.
    """

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        theta = jax.lax.stop_gradient(_finite(self._theta))
        noise = gumbel.gumbel(key, (*sample_shape, *theta.shape), theta.dtype)
        return top_set(theta + noise, self.k, self._theta.dtype)

    @validate_sample
    def log_prob(self, value) -> Array:
        return set_log_prob(_finite(self._theta), value, self.k)


class TopKView(SetView, PerturbedByGumbels, Listed, Relaxable):
    """Independent sets of the k largest perturbed logits."""

    def log_prob(self, value):
        return sum_events(set_log_prob(self.logits, value, self.k), 1 + self.num_batch_dims)

    @property
    def variable_ndim(self):
        return 1

    def harden(self, perturbed):
        return top_set(perturbed, self.k, self.dtype)

    def relax(self, perturbed, temperature):
        return gumbel.relaxed_top_k(perturbed, self.k, temperature).astype(self.dtype)


class PlackettLuceView(SetView, PerturbedByGumbels, Listed, Relaxable):
    """Independent orders of perturbed logits, as permutation matrices [k, n].

    There is one score per item, and one entry of a draw per place and item: the logits have an axis
    of length one for the place, shape batch + variables + (1, n). A draw maximises ⟨b, ρ zᵀ⟩ for
    any decreasing weights ρ of the places, which are k … 1 in `features`.
    """

    @property
    def event_shape(self):
        return (*self.logits.shape[self.num_batch_dims : -2], self.k, self.logits.shape[-1])

    @property
    def _num_each(self):
        return math.perm(self.logits.shape[-1], self.k)

    def _unrank(self, index):
        return unrank_order(index, self.logits.shape[-1], self.k)

    def log_prob(self, value):
        terms = ranking_log_prob(self.logits[..., 0, :], value)
        return sum_events(terms, 1 + self.num_batch_dims)

    @property
    def variable_ndim(self):
        return 2

    def features(self, draw):
        # the score of an order is Σ_j ρ_j z_{i_j}, with weights ρ that fall by one a place
        places = self.k - jnp.arange(self.k, dtype=self.logits.dtype)
        return jnp.sum(places[:, None] * draw, axis=-2, keepdims=True)

    def harden(self, perturbed):
        return rank(_one_place(perturbed), self.k, self.dtype)

    def relax(self, perturbed, temperature):
        return gumbel.soft_sort(_one_place(perturbed), temperature, self.k).astype(self.dtype)


def _one_place(perturbed: Array) -> Array:
    """The scores of the items, without the axis of places."""
    if perturbed.shape[-2] == 1:
        return perturbed[..., 0, :]
    raise IncompatibleError(
        complain(
            f"PlackettLuce was given scores for {perturbed.shape[-2]} places",
            "it sorts one score per item; an estimator that moves the scores by something of the "
            "shape of a draw (one number per place and item) cannot serve it",
            "use LeaveOneOut(), StraightThroughGumbelSoftmax() or PerturbedArgmax()",
        )
    )
