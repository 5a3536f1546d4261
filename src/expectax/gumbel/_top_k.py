"""The k largest perturbed logits: k draws without replacement, in order and as a set.

By memorylessness the order in which the clocks ring is Plackett–Luce: the first is drawn from
softmax(θ), the second from what is left, renormalised, and so on.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._errors import InvalidArgumentError, complain
from .._numerics import finite_logits, log_add, working_dtype
from .._types import PRNGKey
from ._noise import gumbel, open_uniform

_MOST_BY_SUBSETS = 8  # items of a set whose 2^k subsets are cheaper than a quadrature


def top_k(
    key: PRNGKey, logits: Float[Array, "*batch C"], k: int
) -> tuple[Int[Array, "*batch {k}"], Float[Array, "*batch {k}"]]:
    """k draws without replacement from softmax(θ): the indices of the k largest θ + γ.

    Arguments:
        key: consumed.
        logits: θ, shape batch + (C,); a category of −inf is drawn only when no other is left.
        k: how many, 1 ≤ k ≤ C.

    Returns:
        The indices in the order drawn, and their perturbed logits, both of shape batch + (k,).

    Raises:
        InvalidArgumentError: k is not in 1 … C.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> index, z = top_k(jax.random.key(0), jnp.array([0.0, -jnp.inf, 1.0]), 2)
        >>> sorted(index.tolist())
        [0, 2]

    Reference: Yellott (1977); Vieira (2014); Kool, van Hoof & Welling (2019).
    """
    check_k("top_k", k, jnp.shape(logits)[-1])
    theta = finite_logits(logits.astype(working_dtype(logits.dtype)))
    z, index = jax.lax.top_k(theta + gumbel(key, theta.shape, theta.dtype), k)
    return index, z


def ordered_log_prob(
    logits: Float[Array, "*batch C"], indices: Int[Array, "*batch k"]
) -> Float[Array, "*batch"]:
    """log-probability that these are the first k draws without replacement, in this order.

    Σ_j [θ_{i_j} − log Σ_{l not drawn before j} exp(θ_l)]. The sums over what is left are built from
    the last draw backwards, so that nothing is ever subtracted.

    Arguments:
        logits: θ, shape batch + (C,); −inf masks a category.
        indices: i_1 … i_k, different from one another, shape batch + (k,), k ≤ C.

    Returns:
        The log-probability in nats, shape batch; differentiable to any order in `logits`.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(jnp.exp(ordered_log_prob(jnp.zeros(4), jnp.array([2, 0])))), 4)  # 1/12
        0.0833

    Reference: Plackett (1975); Luce (1959).
    """
    theta = finite_logits(logits.astype(working_dtype(logits.dtype)))
    drawn = jnp.take_along_axis(theta, indices, axis=-1)
    return jnp.sum(drawn - _log_left(theta, indices, drawn), axis=-1)


def unordered_log_prob(
    logits: Float[Array, "*batch C"], indices: Int[Array, "*batch k"]
) -> Float[Array, "*batch"]:
    """log-probability that these are the first k draws without replacement, in any order.

    Up to eight items, by the chance g(A) that the first |A| draws are A, over the subsets A of the
    set: g(A) = Σ_{i ∈ A} g(A∖i) w_i / (Z − w(A∖i)), g(∅) = 1. All terms are positive, so it is
    exact to rounding, as the sum over k! orders is, in k 2^k steps. From nine items, by the
    integral over the time at which the first item outside the set rings,

        P(S) = ∫_0^1 Π_{i ∈ S} (1 − v^{w_i / c}) dv,    c = Σ_{i ∉ S} w_i,

    by the trapezoid rule in log(−log v), where the integrand is analytic and falls off at both
    ends: its relative error is below 1e-11 in float64 (and rounding in float32), at k × 380 steps.

    Arguments:
        logits: θ, shape batch + (C,); −inf masks a category.
        indices: of the items, in any order, different from one another, shape batch + (k,), k ≤ C.

    Returns:
        The log-probability in nats, shape batch; differentiable to any order in `logits`.

    Example:
        >>> import jax.numpy as jnp
        >>> logits = jnp.log(jnp.array([0.5, 0.25, 0.25]))
        >>> round(float(jnp.exp(unordered_log_prob(logits, jnp.array([0, 1])))), 4)  # 1/4 + 1/6
        0.4167

    Reference: Kool, van Hoof & Welling (2020), "Estimating gradients for discrete random variables
    by sampling without replacement", appendix B for the integral; the sum over subsets is ours.
    """
    theta = finite_logits(logits.astype(working_dtype(logits.dtype)))
    k, num = indices.shape[-1], theta.shape[-1]
    drawn = jnp.take_along_axis(theta, indices, axis=-1)
    if k == num:
        return 0.0 * jnp.sum(drawn, axis=-1)
    rest = _log_rest(theta, indices)
    by = unordered_by_subsets if k <= _MOST_BY_SUBSETS else unordered_by_quadrature
    return by(drawn, rest)


def unordered_by_subsets(
    drawn: Float[Array, "*batch k"], rest: Float[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """`unordered_log_prob` from the logits of the set and log c, by its 2^k subsets."""
    k = drawn.shape[-1]
    inside = (np.arange(2**k)[:, None] >> np.arange(k)) & 1 == 1  # subset by item
    # log of the rates outside each subset A: the rest, and the items of the set not in A
    others = jnp.where(inside, -jnp.inf, drawn[..., None, :])
    all_others = jnp.concatenate(
        [others, jnp.broadcast_to(rest[..., None, None], (*others.shape[:-1], 1))], axis=-1
    )
    log_left = jax.nn.logsumexp(all_others, axis=-1)
    log_g = jnp.zeros((*rest.shape, 1), drawn.dtype)
    sizes = inside.sum(axis=1)
    place = np.zeros(2**k, int)  # of a subset among those of its size
    for size in range(k + 1):
        place[sizes == size] = np.arange(math.comb(k, size))
    for size in range(1, k + 1):
        subsets = np.flatnonzero(sizes == size)
        items = np.stack([np.flatnonzero(inside[a]) for a in subsets])
        without = subsets[:, None] - 2**items
        terms = log_g[..., place[without]] + drawn[..., items] - log_left[..., without]
        log_g = jax.nn.logsumexp(terms, axis=-1)
    return log_g[..., 0]


def unordered_by_quadrature(
    drawn: Float[Array, "*batch k"], rest: Float[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """`unordered_log_prob` from the logits of the set and log c, by quadrature.

    With t = exp(s)/c the time, P(S) = ∫ exp(s − e^s) Π_i (1 − exp(−r_i e^s)) ds, r_i = w_i/c. The
    product grows with s: left of −L the integrand holds less than a share exp(−L). To the right it
    falls like the density of the largest of a Gamma(k + 1), the extreme case of small r_i.
    """
    k, dtype = drawn.shape[-1], drawn.dtype
    right = math.log(k + 1 + 12 * math.sqrt(k + 1) + 40)
    num = 380 + 4 * k
    nodes = jnp.asarray(np.linspace(-37.0, right, num), dtype)
    step = (right + 37.0) / (num - 1)
    log_x = (drawn - rest[..., None])[..., None] + nodes
    inside = jnp.sum(log1mexp_exp(log_x), axis=-2) + nodes - jnp.exp(nodes)
    return jax.nn.logsumexp(inside, axis=-1) + math.log(step)


def log1mexp_exp(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(1 − exp(−e^a)), for any a: near a itself where a is small, and 0 where it is large."""
    small = a < -4.0
    x = jnp.exp(jnp.where(small, a, -4.0))
    series = a - x / 2 + x**2 / 24 - x**4 / 2880
    return jnp.where(small, series, jnp.log(-jnp.expm1(-jnp.exp(jnp.clip(a, -4.0, 30.0)))))


def conditional_top_k(
    key: PRNGKey, logits: Float[Array, "*batch C"], indices: Int[Array, "*batch k"]
) -> Float[Array, "*batch C"]:
    """Perturbed logits z = θ + γ given that `indices` are the k largest, in this order.

    The j-th ring follows the one before it by Exp(Σ of the rates still running); after the k-th the
    others start afresh. k = 1 is `conditional_gumbel`. Differentiable in `logits` with the uniforms
    held fixed.

    Arguments:
        key: consumed.
        logits: θ, shape batch + (C,); −inf masks a category.
        indices: i_1 … i_k, different from one another, shape batch + (k,).

    Returns:
        z, shape batch + (C,), whose k largest are at `indices`, in this order.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> z = conditional_top_k(jax.random.key(0), jnp.zeros(5), jnp.array([3, 1]))
        >>> jax.lax.top_k(z, 2)[1].tolist()
        [3, 1]

    Reference: our derivation; for k = 1 Maddison, Tarlow & Minka (2014).
    """
    waits, after = jax.random.split(key)
    theta = finite_logits(logits.astype(working_dtype(logits.dtype)))
    drawn = jnp.take_along_axis(theta, indices, axis=-1)
    log_e = jnp.log(-jnp.log(open_uniform(waits, drawn.shape, theta.dtype)))
    log_waits = log_e - _log_left(theta, indices, drawn)
    log_rings = jax.lax.associative_scan(log_add, log_waits, axis=log_waits.ndim - 1)
    log_e = jnp.log(-jnp.log(open_uniform(after, theta.shape, theta.dtype)))
    others = jnp.logaddexp(log_e - theta, log_rings[..., -1:])
    return -jnp.put_along_axis(others, indices, log_rings, axis=-1, inplace=False)


def check_k(name: str, k: object, num: int) -> None:
    """Raise unless k is a whole number from 1 to `num`."""
    if isinstance(k, int) and not isinstance(k, bool) and 1 <= k <= num:
        return
    raise InvalidArgumentError(
        complain(
            f"{name} was given k={k!r}",
            f"it chooses k of {num} items, and k is part of the shapes",
            f"pass a whole number from 1 to {num}",
        )
    )


def _is_drawn(theta: Array, indices: Array) -> Array:
    none = jnp.zeros(theta.shape, bool)
    return jnp.put_along_axis(none, indices, True, axis=-1, inplace=False)


def _log_rest(theta: Array, indices: Array) -> Array:
    """log Σ exp(θ) over the items not at `indices`; at least one must be left."""
    return jax.nn.logsumexp(jnp.where(_is_drawn(theta, indices), -jnp.inf, theta), axis=-1)


def _log_left(theta: Array, indices: Array, drawn: Array) -> Array:
    """log Σ exp(θ) over the items not drawn before the j-th, shape batch + (k,)."""
    alone = indices.shape[-1] == theta.shape[-1]
    last = [] if alone else [_log_rest(theta, indices)[..., None]]
    terms = jnp.concatenate([drawn, *last], axis=-1)
    sums = jax.lax.associative_scan(log_add, terms, reverse=True, axis=terms.ndim - 1)
    return sums[..., : drawn.shape[-1]]
