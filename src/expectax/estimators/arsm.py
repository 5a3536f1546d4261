"""Augment, REINFORCE, swap, merge: one Dirichlet draw, and f at every swap of two entries."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._trees import add_axis, first, size_of
from ..distributions import OneHot
from ._base import AbstractEstimator, Claims, Estimate, Evaluations, carry


class ARSM(AbstractEstimator):
    """Augment-REINFORCE-swap-merge: differences of f between swaps of one Dirichlet draw.

    Estimates:
        1/C Σ_j (f(b^{c⇌j}) − 1/C Σ_m f(b^{m⇌j})) (1 − C π_j) for category c of each variable, with
        π uniform on the simplex, b^{m⇌j} = argmin_i π'_i exp(−θ_i), and π' the π of every variable
        with entries m and j swapped.
    Needs:
        One-hot variables. f need not be differentiable in the draw.
    Claims:
        Unbiased. Exactly zero for a constant f. With two categories it is `ARM`.
    Cost:
        1 + C (C − 1)/2 evaluations of f, C of the variable with most categories: every swap, also
        those that lead to the same draw. In chunks of bounded memory. The value is f at the
        unswapped draw.
    Raises:
        IncompatibleError: q is not one-hot.
    Example:
        >>> import jax, jax.numpy as jnp, expectax as ex
        >>> def loss(logits, key):
        ...     f = lambda b: 7.0 + 0 * b.sum(-1)
        ...     return ex.expect(key, ex.OneHotCategorical(logits=logits), f, ex.ARSM())
        >>> jax.grad(loss)(jnp.zeros(3), jax.random.key(0)).tolist()
        [0.0, 0.0, 0.0]

    Reference:
        Yin, Yue & Zhou (2019), eq. 11. With e standard exponentials, argmin e_i exp(−θ_i) has law
        softmax(θ), and the score of e_c exp(−θ_c) is 1 − e_c, whose mean given π is 1 − C π_c. So
        ∇_c E[f] = E[f(b) (1 − C π_c)], and, π being exchangeable, E[f(b^{c⇌j}) (1 − C π_j)] for
        every j. The mean over c, which is subtracted, estimates Σ_c ∇_c E[f] = 0. Swapping every
        variable at once leaves the law of all of them as it is, so f may couple them. Categories of
        probability zero take no part in π, and C counts those that do: the paper's estimate is
        zero there on average only.
    """

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=OneHot,
        differentiable=False,
        cost="1 + C (C − 1)/2",
        order=1,
        source="Yin 2019",
        zero_for_constant=True,
    )

    def estimate(self, key, q, f):
        theta = jax.lax.stop_gradient(q.logits)
        gumbels = first(q.noise(key, 1))  # −log e
        draw = q.harden(jax.tree.map(jnp.add, theta, gumbels))
        costs, aux = f(add_axis(draw))
        if _most_categories(q) == 1:
            return Estimate(costs[0], aux=aux)
        one, other = (jnp.asarray(x) for x in np.triu_indices(_most_categories(q), 1))

        def swapped(i):
            swap = lambda t, g: t + _swap(g, one[i], other[i])
            return q.harden(jax.tree.map(swap, theta, gumbels))

        swaps = jax.lax.stop_gradient(f.at_outcomes(swapped, len(one), size_of(draw)))
        relative = swaps - jax.lax.stop_gradient(
            costs
        )  # to the unswapped: a constant f gives zeros
        none = jnp.zeros((_most_categories(q),) * 2 + costs.shape[1:], costs.dtype)
        table = none.at[one, other].set(relative).at[other, one].set(relative)
        gradient = jax.tree.map(lambda t, g: _direction(table, t, g), theta, gumbels)
        return Estimate(carry(costs[0], gradient, q.logits, q.batch_ndim), aux=aux)

    def value(self, key, q, f):
        costs, aux = f(add_axis(q.harden(jax.tree.map(jnp.add, q.logits, first(q.noise(key, 1))))))
        return costs[0], aux

    def evaluations(self, q):
        most = _most_categories(q)
        return Evaluations(hard=1, auxiliary=most * (most - 1) // 2)


def _most_categories(q) -> int:
    return max(site.num_categories for site in q.sites)


def _swap(x: Float[Array, "... C"], one: Array, other: Array) -> Float[Array, "... C"]:
    """Entries `one` < `other` of the last axis swapped; nothing where there are not so many."""
    i = jnp.arange(x.shape[-1])
    swapped = jnp.where(i == one, other, jnp.where(i == other, one, i))
    return jnp.take(x, jnp.where(other < x.shape[-1], swapped, i), axis=-1)


def _direction(
    table: Float[Array, "M M *batch"], theta: Float[Array, "... C"], gumbels: Float[Array, "... C"]
) -> Float[Array, "... C"]:
    """The gradient in the logits of one site from the table of f at all swaps."""
    c, batch = theta.shape[-1], table.shape[2:]
    possible = jax.nn.softmax(theta, axis=-1) > 0
    count = jnp.sum(possible, axis=-1, keepdims=True)
    lowest = jnp.finfo(theta.dtype).min
    shares = jax.nn.softmax(jnp.where(possible, -gumbels, lowest), axis=-1)  # π
    weight = jnp.where(possible, 1 - count * shares, 0)
    costs = jnp.moveaxis(table[:c, :c], (0, 1), (-2, -1))  # batch + (C, C), symmetric
    rows = weight.reshape((*batch, -1, c))
    merged = jnp.matmul(rows, costs, precision="highest").reshape(theta.shape)
    merged = jnp.where(possible, merged, 0)
    mean = jnp.sum(merged, axis=-1, keepdims=True) / count
    return jnp.where(possible, merged - mean, 0) / count
