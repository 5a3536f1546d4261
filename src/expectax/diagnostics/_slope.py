"""Whether f has a derivative in the draw that says how f changes."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from .._types import PRNGKey
from ..distributions import Joint

_SEGMENTS = (4, 32)
_POINTS = 16
_MISSING = 0.1


@eqx.filter_jit
def _along(f: PyTree, starts: PyTree, ends: PyTree) -> tuple[Array, Array, Array]:
    """Change of f over each segment, the integral of its slope along it, and its size.

    Each of shape segments + batch.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_POINTS)

    def cost(t: Array, start: PyTree, end: PyTree) -> Float[Array, "*batch"]:
        mix = lambda a, b: a + t.astype(a.dtype) * (b - a)
        return jnp.asarray(f(jax.tree.map(mix, start, end)), float)

    def one(pair: tuple[PyTree, PyTree]) -> tuple[Array, Array, Array]:
        slope = lambda t: jax.jvp(lambda t: cost(t, *pair), (t,), (jnp.ones_like(t),))[1]
        slopes = jax.lax.map(slope, jnp.asarray((nodes + 1) / 2, float))
        integral = jnp.tensordot(jnp.asarray(weights / 2, float), slopes, 1)
        first, last = (cost(jnp.asarray(t), *pair) for t in (0.0, 1.0))
        return last - first, integral, jnp.abs(first) + jnp.abs(last)

    return jax.lax.map(one, (starts, ends))


def slope_fault(key: PRNGKey, f: PyTree, q: Joint, num_costs: float = math.inf) -> str:
    """Why estimators that need f' cannot serve this f, or an empty string.

    Between two draws f changes by the integral of its slope along the straight line from one to
    the other. Where it does not (a floor, an argmax, an index, a stop-gradient, even in one of
    many terms), an estimator that uses the slope would be biased without saying so.

    Arguments:
        f: as `equinox.filter_closure_convert` leaves it.
        num_costs: about how many evaluations of f it may take.
    """
    few, many = _SEGMENTS
    # a slope costs about as much as two evaluations more
    num = int(max(few, min(many, num_costs / (3 * _POINTS))))
    draws = q.sample(key, 2 * num)
    if not all(jnp.issubdtype(x.dtype, jnp.floating) for x in jax.tree.leaves(draws)):
        return "f has no derivative in the draws of q, which are integers"
    starts = jax.tree.map(lambda x: x[:num], draws)
    ends = jax.tree.map(lambda x: x[num:], draws)
    try:
        found = _along(f, starts, ends)
    except (TypeError, ValueError, NotImplementedError) as error:
        return f"f cannot be differentiated in the draw: {str(error).splitlines()[0]}"
    change, integral, size = (np.asarray(x, np.float64) for x in found)
    if not np.all(np.isfinite(integral)):
        return "the derivative of f in the draw is not finite between draws of q"
    # what rounding alone makes of a change that is small beside f
    rounding = 64 * float(jnp.finfo(float).eps) * size
    missing = np.maximum(np.abs(change - integral) - rounding, 0.0).sum()
    whole = np.maximum(np.abs(change), np.abs(integral)).sum()
    if missing <= _MISSING * whole:
        return ""
    return (
        f"f is not differentiable in the draw: its slope misses {missing / whole:.0%} of how f "
        "changes between draws of q"
    )
