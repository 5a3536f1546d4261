"""Mutually antithetic bits: n draws of one bit, each of which makes the others less likely.

The Dirichlet copula: for e_1 … e_n standard exponentials, d_i = e_i / Σ e are uniform on the
simplex, with P(d_i > a) = (1 − a)^(n−1) and, for i ≠ j, P(d_i > a, d_j > a) = (1 − 2a)^(n−1) or 0.
So with a = 1 − p^(1/(n−1)) the bits 1[d_i > a] have mean p, and

    P(b_i = b_j = 1) = max(0, 2 p^(1/(n−1)) − 1)^(n−1) ≤ p²:

no two are one together while p ≤ 2^−(n−1). The set is built for the rarer side of each bit, where
the ones repel each other most; for two draws it is the antithetic pair u, 1 − u.

Everything is computed from log-odds, so p may go to 0 or 1.

Reference: Dimitriev & Zhou (2021), "ARMS", section 3; the bivariate probability is derived above.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ._numerics import softplus
from ._trees import split_keys
from ._types import PRNGKey
from .gumbel import open_uniform


def antithetic(key: PRNGKey, log_odds: PyTree, num: int) -> PyTree:
    """For each log-odds θ, `num` numbers whose signs are mutually antithetic bits of mean σ(θ).

    Arguments:
        key: consumed.
        log_odds: a pytree of arrays θ; its entries are independent variables.
        num: n ≥ 2.

    Returns:
        The same pytree with a leading axis n: the bit is one where the entry is positive.
    """
    each = lambda k, theta: _antithetic(k, theta, num)
    return jax.tree.map(each, split_keys(key, log_odds), log_odds)


def _antithetic(key: PRNGKey, theta: Float[Array, "..."], num: int) -> Float[Array, "n ..."]:
    e = -jnp.log(open_uniform(key, (num, *theta.shape), theta.dtype))
    # d > a is (n − 1) log(1 − d) < log p, and 1 − d = 1 / (1 + e / Σ others): no cancellation
    rarer = (num - 1) * jnp.log1p(e / _others(e)) - softplus(jnp.abs(theta))
    return jnp.where(theta > 0, -rarer, rarer)


def _others(x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
    """The sum of the other entries of the leading axis; never by subtracting the own one."""
    none = jnp.zeros_like(x[:1])
    before = jnp.concatenate([none, jnp.cumsum(x[:-1], axis=0)])
    after = jax.lax.cumsum(x[1:], axis=0, reverse=True)
    return before + jnp.concatenate([after, none])


def both_given_one(log_odds: Float[Array, "..."], num: int) -> Float[Array, "..."]:
    """P(b_i = b_j = 1) / P(b_i = 1) of the rarer side, s = σ(−|θ|).

    max(0, 2 s^(1/(n−1)) − 1)^(n−1) / s = max(0, 2 − s^(−1/(n−1)))^(n−1), which goes to 0 with s.

    Arguments:
        log_odds: θ, any shape.
        num: n ≥ 2.
    """
    minus_log_s = softplus(jnp.abs(log_odds))
    return jnp.maximum(0, 1 - jnp.expm1(minus_log_s / (num - 1))) ** (num - 1)


def debias(log_odds: Float[Array, "..."], num: int) -> Float[Array, "..."]:
    """p (1 − p) / (p − P(b_i = b_j = 1)): how much rarer two independent draws differ.

    The chance that two differ is 2 (p − P(both 1)) here and 2 p (1 − p) for independent draws. In
    the rarer side s this is (1 − s) / (1 − P(both)/s): between ½ and 1, and 1 as p goes to 0 or 1.

    Arguments:
        log_odds: θ, any shape.
        num: n ≥ 2.
    """
    return jax.nn.sigmoid(jnp.abs(log_odds)) / (1 - both_given_one(log_odds, num))


def debias_neither(log_odds: Float[Array, "..."], num: int) -> Float[Array, "..."]:
    """(1 − p)² / P(b_i = b_j = 0) for p ≤ ⅓: how much rarer two independent draws are both zero.

    P(b_i = b_j = 0) = 1 − 2 p + P(both 1), which two antithetic draws bring to 0 as p goes to ½.

    Arguments:
        log_odds: θ ≤ −log 2, any shape.
        num: n ≥ 2.
    """
    p = jax.nn.sigmoid(log_odds)
    return (1 - p) ** 2 / (1 - p * (2 - both_given_one(log_odds, num)))
