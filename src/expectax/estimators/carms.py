"""Mutually antithetic draws of categories, each the baseline of the others."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._copula import antithetic, debias, debias_neither
from .._sticks import first_one, one_hot_of, stick_log_odds
from .._trees import expand_to
from ..distributions import OneHot
from ._base import AbstractEstimator, Claims, Estimate, Evaluations, carry, check_num_samples


class CARMS(AbstractEstimator):
    """Categorical antithetic REINFORCE: n draws that repel each other, leave-one-out.

    Estimates:
        1/(n (n − 1)) Σ_{i<j} R(b_i, b_j) (f(b_i) − f(b_j)) (b_i − b_j), for each variable, with
        b_1 … b_n coupled by a Dirichlet copula for each bit of a stick, the rarest category first,
        and R(a, c) = p_a p_c / P(b_i = a, b_j = c).
    Needs:
        One-hot variables. f need not be differentiable in the draw.
    Claims:
        Unbiased. Exactly zero for a constant f, and unchanged when a constant is added to f. With
        two categories it is `ARMS`.
    Cost:
        n evaluations of f. All are draws of q: the value is their mean.
    Arguments:
        num_samples: n ≥ 2.
    Raises:
        IncompatibleError: q is not one-hot.
        InvalidArgumentError: `num_samples` < 2.
    Example:
        >>> import jax, jax.numpy as jnp, expectax as ex
        >>> def loss(logits, key):
        ...     f = lambda b: b @ jnp.array([0.0, 1.0])
        ...     return ex.expect(key, ex.OneHotCategorical(logits=logits), f, ex.CARMS(2))
        >>> [jax.grad(loss)(jnp.zeros(2), jax.random.key(i)).tolist() for i in range(2)]
        [[-0.25, 0.25], [-0.25, 0.25]]

    Reference:
        Dimitriev & Zhou (2021), "CARMS", with the stick-breaking coupling of the authors' code. The
        ratio is the joint law's for independent draws over that for ours, so a pair of draws counts
        for a variable as an independent pair would; the other variables, coupled by copulas of
        their own, are an exchangeable pair of draws of q whatever this one is. It needs joint
        probabilities above zero: with the inverse of one cumulative distribution they may vanish,
        and so may they on a stick with a likely category first; on ours they cannot (see `_ratio`).
    """

    num_samples: int = eqx.field(default=4, static=True)

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=OneHot,
        differentiable=False,
        cost="n",
        order=1,
        source="Dimitriev & Zhou 2021",
        zero_for_constant=True,
    )

    def __check_init__(self):
        check_num_samples(self, self.num_samples, 2)

    def estimate(self, key, q, f):
        num, theta = self.num_samples, jax.lax.stop_gradient(q.logits)
        orders = jax.tree.map(lambda t: jnp.argsort(t, axis=-1), theta)
        bits = antithetic(key, jax.tree.map(stick_log_odds, theta, orders), num)
        ranks = jax.tree.map(lambda z: first_one(z > 0), bits)
        draws = q.harden(jax.tree.map(one_hot_of, ranks, orders))
        costs, aux = f(draws)
        held = jax.lax.stop_gradient(costs)
        differences = held[:, None] - held[None]  # (n, n) + batch

        def direction(rank, t, order):
            pairs = _pair_ratio(rank, _ratio(t, order, num))  # (n, n) + batch + variables
            weight = jnp.sum(expand_to(differences, pairs) * pairs, axis=1) / (num * (num - 1))
            hot = one_hot_of(rank, order).astype(t.dtype)
            return jnp.sum(weight[..., None] * hot, axis=0)

        gradient = jax.tree.map(direction, ranks, theta, orders)
        value = carry(jnp.mean(costs, axis=0), gradient, q.logits, q.batch_ndim)
        return Estimate(value, aux=aux)

    def evaluations(self, q):
        del q
        return Evaluations(hard=self.num_samples)


def _ratio(
    theta: Float[Array, "*shape C"], order: Int[Array, "*shape C"], num: int
) -> Float[Array, "*shape C"]:
    """p_a p_c / P(b_i = a, b_j = c) by the rank of a, the one of the two that is first.

    Both draws pass every bit before a, where h is the chance of a one: (1 − h)² / P(neither). They
    differ at a: h (1 − h) / (h − P(both)). After it they are independent of one another.

    With the rarest first, h ≤ 1/3 before the last bit, so P(neither) ≥ 1 − 2 h > 0; and no pair
    passes the last bit and still differs, so its P(neither), which may be 0, is not in any ratio.
    """
    phi = stick_log_odds(theta, order)
    one = lambda x: jnp.ones_like(x[..., :1])
    passed = jnp.cumprod(debias_neither(phi[..., :-1], num), axis=-1)
    ratio = debias(phi, num) * jnp.concatenate([one(phi), passed], axis=-1)
    # a pair whose first is the last category agrees: its number is never used
    return jnp.concatenate([ratio, one(theta)], axis=-1)


def _pair_ratio(
    rank: Int[Array, "n *shape"], ratio: Float[Array, "*shape C"]
) -> Float[Array, "n n *shape"]:
    """The ratio of every pair of draws, 0 where they agree."""
    own = jnp.take_along_axis(ratio[None], rank[..., None], axis=-1)[..., 0]
    one, two = rank[:, None], rank[None]
    return jnp.where(one < two, own[:, None], jnp.where(one > two, own[None], 0))
