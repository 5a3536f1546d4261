"""Antithetic draws of categories through stick-breaking bits, the bits' noise integrated out."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .. import gumbel
from .._sticks import first_one, one_hot_of, stick_log_odds
from .._trees import expand_to, split_keys
from ..distributions import OneHot
from ._base import AbstractEstimator, Claims, Estimate, Evaluations, carry, check_num_samples


class CoupledCategorical(AbstractEstimator):
    """DisARM for categories: antithetic pairs through stick-breaking bits, noise integrated out.

    Estimates:
        the mean over pairs of ½ (f(l) − f(h)) (l − h − σ(−|φ_l|) (l − p_after)), for each variable
        in which the draws differ; l is the draw that leaves the stick first, φ_l the log-odds of
        the bit at which it does, p_after the law of the categories after l.
    Needs:
        One-hot variables. f need not be differentiable in the draw.
    Claims:
        Unbiased. Exactly zero for a constant f. With two categories it is `DisARM`.
    Cost:
        2 evaluations of f per pair. All are draws of q: the value is their mean.
    Arguments:
        num_pairs: independent antithetic pairs, at least 1.
    Raises:
        IncompatibleError: q is not one-hot.
        InvalidArgumentError: `num_pairs` < 1.
    Example:
        >>> import jax, jax.numpy as jnp, expectax as ex
        >>> def loss(logits, key):
        ...     f = lambda b: b @ jnp.array([0.0, 1.0])
        ...     q = ex.OneHotCategorical(logits=logits)
        ...     return ex.expect(key, q, f, ex.CoupledCategorical())
        >>> [jax.grad(loss)(jnp.zeros(2), jax.random.key(i)).tolist() for i in range(2)]
        [[-0.25, 0.25], [-0.25, 0.25]]

    Reference:
        Dong, Mnih & Tucker (2021), section 3.2 (DisARM-SB). For bit k, with b and b' the pair's:
        both draws get to it: DisARM's (b − b') σ(|φ|); one does: the mean of that given its bit,
        b − σ(φ); none: zero. Summed over bits and pulled back to θ, that is the formula above. We
        break off the likeliest category first. It holds for many variables at once because each
        case is a mean over one bit's noise with all else, the other variables too, held.
    """

    num_pairs: int = eqx.field(default=1, static=True)

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=OneHot,
        differentiable=False,
        cost="2 per pair",
        order=1,
        source="Dong 2021",
        zero_for_constant=True,
    )

    def __check_init__(self):
        check_num_samples(self, self.num_pairs, 1)

    def estimate(self, key, q, f):
        theta = jax.lax.stop_gradient(q.logits)
        orders = jax.tree.map(lambda t: jnp.argsort(-t, axis=-1), theta)
        ranks = jax.tree.map(self._pairs, split_keys(key, theta), theta, orders)
        draws = q.harden(jax.tree.map(one_hot_of, ranks, orders))
        costs, aux = f(draws)
        difference = jax.lax.stop_gradient(costs[: self.num_pairs] - costs[self.num_pairs :])
        direction = lambda *site: _direction(difference, *site)
        gradient = jax.tree.map(direction, ranks, theta, orders)
        value = carry(jnp.mean(costs, axis=0), gradient, q.logits, q.batch_ndim)
        return Estimate(value, aux=aux)

    def _pairs(self, key, theta, order) -> Int[Array, "draws ..."]:
        """The ranks of the first draws of all pairs, then of the second."""
        phi = stick_log_odds(theta, order)
        noise = gumbel.logistic(key, (self.num_pairs, *phi.shape), phi.dtype)  # logit(u)
        return first_one(jnp.concatenate([phi + noise > 0, phi - noise > 0]))

    def evaluations(self, q):
        del q
        return Evaluations(hard=2 * self.num_pairs)


def _direction(
    difference: Float[Array, "P *batch"],
    ranks: Int[Array, "draws ..."],
    theta: Float[Array, "... C"],
    order: Int[Array, "... C"],
) -> Float[Array, "... C"]:
    """The gradient in the logits of one site, from f(one) − f(two) of each pair."""
    one, two = jnp.split(ranks, 2)
    first, sign = jnp.minimum(one, two), jnp.sign(two - one)[..., None]  # 0 where they agree
    hot = lambda rank: one_hot_of(rank, order).astype(theta.dtype)
    # the last category has no bit of its own, and is the first of the two only where they agree
    phi = jnp.pad(stick_log_odds(theta, order), [(0, 0)] * (theta.ndim - 1) + [(0, 1)])
    odds = jnp.take_along_axis(phi[None], first[..., None], axis=-1)
    place = jnp.argsort(order, axis=-1)
    later = place > first[..., None]
    after = jax.nn.softmax(jnp.where(later, theta, jnp.finfo(theta.dtype).min), axis=-1)
    shrink = jax.nn.sigmoid(-jnp.abs(odds)) * (hot(first) - after)
    moved = hot(one) - hot(two) - sign * shrink
    return jnp.mean(0.5 * expand_to(difference, moved) * moved, axis=0)
