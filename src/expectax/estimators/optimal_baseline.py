"""The score function with the baseline of least variance, for each parameter its own."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._numerics import working_dtype
from .._trees import add_axis, vary
from ..distributions import Joint, Scored
from ._base import (
    AbstractEstimator,
    Claims,
    Cost,
    Estimate,
    Evaluations,
    check_num_samples,
)


class OptimalBaseline(AbstractEstimator):
    """The score function, each parameter with the baseline that its own variance asks for.

    Estimates:
        1/S Σ_s (f(b_s) − c_s) u_s, u_s = ∂log q(b_s)/∂θ, with, for each entry of θ by itself,
        c_s = Σ_{r≠s} f(b_r) u_r² / Σ_{r≠s} u_r²: E[f u²] / E[u²] from the *other* draws.
    Needs:
        `Scored`: every distribution. f need not be differentiable in the draw.
    Claims:
        Unbiased. Exactly zero for a constant f, and unchanged when a constant is added to f.
    Cost:
        S evaluations of f.
    Arguments:
        num_samples: S ≥ 3. With two, the one other draw has only its own cost to offer, and this
            is `LeaveOneOut`.
    Raises:
        InvalidArgumentError: `num_samples` < 3.
    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> def loss(logits, key):
        ...     q = dist.Bernoulli(logits=logits).to_event(1)
        ...     return ex.expect(key, q, lambda b: 7.0 + 0 * b.sum(-1), ex.OptimalBaseline(4))
        >>> jax.grad(loss)(jnp.zeros(2), jax.random.key(0)).tolist()
        [0.0, 0.0]

    Reference:
        Greensmith, Bartlett & Baxter (2004), theorem 8 with a diagonal weight. There both means are
        over the draws themselves, which biases; here each draw is left out of its own baseline. An
        entry of θ that several batch elements share has one c, for the sum of their scores.
    """

    num_samples: int = eqx.field(default=4, static=True)

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=Scored,
        differentiable=False,
        cost="S",
        order=1,
        source="Greensmith 2004",
        zero_for_constant=True,
    )

    def __check_init__(self):
        check_num_samples(self, self.num_samples, 3)

    def estimate(self, key, q, f):
        draws = q.sample(key, self.num_samples)
        costs, aux = f(draws)
        held = jax.lax.stop_gradient(costs)
        # Costs count from that of the first draw, and for the first draw from that of the second:
        # an independent baseline, in which a constant f is exactly zero.
        from_first, from_second = held - held[:1], held - held[1:2]
        own = from_first.at[0].set(from_second[0])
        first, second, scores = _weighted_scores(q, draws, (from_first, from_second), f)
        shift = jax.tree.map(_left_out, first, second, scores)

        log_q = q.log_prob(draws)
        moved = jax.vmap(lambda c, b: _with_slope(q, c).log_prob(add_axis(b))[0])(shift, draws)
        zero = lambda x: x - jax.lax.stop_gradient(x)
        return Estimate(jnp.mean(costs + own * zero(log_q) - zero(moved), axis=0), aux=aux)

    def evaluations(self, q):
        del q
        return Evaluations(hard=self.num_samples)


def _weighted_scores(
    q: Joint, draws: PyTree, weights: tuple[Float[Array, "S *batch"], ...], f: Cost
) -> list[PyTree]:
    """Σ_b w_sb ∂log q_b(draw s)/∂θ for each of the weights and for w = 1: leaves (S,) + leaf."""
    leaves, close = q.opened()  # of q as it is: a number in it is no leaf, and stopped it would be
    leaves = jax.lax.stop_gradient(leaves)
    leaves = vary(leaves, f.axes)

    def one(draw, *weights):
        log_q = lambda leaves: close(leaves).log_density(add_axis(draw))[0]
        out, pull = jax.vjp(log_q, leaves)
        return [pull(w.astype(out.dtype))[0] for w in (*weights, jnp.ones_like(out))]

    return jax.vmap(one)(draws, *weights)


def _left_out(
    first: Float[Array, "S ..."], second: Float[Array, "S ..."], score: Float[Array, "S ..."]
) -> Float[Array, "S ..."]:
    """Σ_{r≠s} (f_r − f_o) u_r² / Σ_{r≠s} u_r² for each s, f_o the cost that s counts from.

    `first` and `second` are (f_r − f_o) u_r for the two origins. Zero where no other draw has a
    score: the baseline is then f_o.
    """
    dtype = working_dtype(score.dtype)
    first, second, score = (x.astype(dtype) for x in (first, second, score))
    # left out by a zero, not by a subtraction: beside a rare large score the others would round off
    others = 1 - jnp.eye(len(score), dtype=dtype)
    sum_others = lambda x: jnp.einsum("sr,r...->s...", others, x)
    # (f − f_o) u times u, not divided by it: u may be 0
    above = sum_others(first * score).at[0].set(sum_others(second * score)[0])
    below = sum_others(score**2)
    some = below > 0
    return jnp.where(some, above / jnp.where(some, below, 1), 0)


def _with_slope(q: Joint, slope: PyTree) -> Joint:
    """The same q, whose derivative in each entry of its leaves is multiplied by `slope`."""
    leaves, close = q.opened()

    def one(x, c):
        live = jnp.where(jnp.isfinite(x), x, 0)  # −inf − (−inf) would be NaN
        return jax.lax.stop_gradient(x) + c.astype(x.dtype) * (live - jax.lax.stop_gradient(live))

    return close(jax.tree.map(one, leaves, slope))
