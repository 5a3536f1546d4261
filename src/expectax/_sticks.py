"""Categories as bits: break a stick into categories, one after another, and stop at the first one.

With the categories in some order, bit k says "category k, given that it is none before". Its
log-odds are φ_k = θ_k − log Σ_{j after k} exp θ_j, and the category is that of the first bit that
is one, or the last if none is. Whatever couples the bits of several draws, each draw keeps its law
as long as the bits of *one* draw stay independent.

A *rank* is a place in the order: category `order[rank]`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def stick_log_odds(
    logits: Float[Array, "*shape C"], order: Int[Array, "*shape C"]
) -> Float[Array, "*shape C-1"]:
    """φ of every bit but the last, which is always one.

    Arguments:
        logits: θ, normalised or not, categories last.
        order: the categories in the order in which they are broken off.
    """
    ordered = jnp.take_along_axis(logits, order, axis=-1)
    rest = ordered[..., 1:]
    if rest.shape[-1] == 0:
        return rest
    return ordered[..., :-1] - jax.lax.cumlogsumexp(rest, axis=rest.ndim - 1, reverse=True)


def first_one(bits: Bool[Array, "*shape bits"]) -> Int[Array, "*shape"]:
    """The rank of the first bit that is one; the last rank if none is."""
    last = jnp.ones((*bits.shape[:-1], 1), bool)
    return jnp.argmax(jnp.concatenate([bits, last], axis=-1), axis=-1)


def one_hot_of(
    rank: Int[Array, "S *shape"], order: Int[Array, "*shape C"]
) -> Float[Array, "S *shape C"]:
    """The one-hot vector of the category of each rank."""
    place = jnp.argsort(order, axis=-1)  # the rank of each category
    return (place == rank[..., None]).astype(float)
