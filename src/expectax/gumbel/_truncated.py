"""Maxima of perturbed logits, and perturbed logits below a bound: sampling from the top down.

With clocks E = exp(−z) of rate w = exp(θ), "z ≤ T" says "E ≥ exp(−T)", and by memorylessness
E is then exp(−T) plus a fresh clock of the same rate. Everything is that sum, in logarithms.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._errors import InvalidArgumentError, complain
from .._numerics import finite_logits, working_dtype
from .._types import PRNGKey
from ._noise import gumbel, open_uniform


def _log_clock(key: PRNGKey, shape: tuple[int, ...], dtype: jnp.dtype) -> Float[Array, "..."]:
    """log E of standard exponentials."""
    return jnp.log(-jnp.log(open_uniform(key, shape, dtype)))


def truncated_gumbel(
    key: PRNGKey, logits: Float[Array, "*shape"], bound: Float[Array, "..."] | float
) -> Float[Array, "*shape"]:
    """Draws z of Gumbel(θ) given that z ≤ T: z = −log(exp(−T) + E exp(−θ)), E ~ Exp(1).

    Law: P(z ≤ x) = exp(−e^{θ−x} + e^{θ−T}) for x ≤ T. Differentiable in θ and T with E held.

    Arguments:
        key: consumed.
        logits: θ, any shape; −inf gives draws far below every other.
        bound: T, broadcast against `logits`; +inf for no bound.

    Returns:
        z, of the shape of `logits` and at least 32 bits, at most T.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> z = truncated_gumbel(jax.random.key(0), jnp.array([-9.0, 0.0, 9.0]), 1.0)
        >>> bool((z <= 1.0).all())
        True

    Reference: Maddison, Tarlow & Minka (2014), "A* sampling", section 3.
    """
    theta = finite_logits(logits.astype(working_dtype(logits.dtype)))
    log_e = _log_clock(key, theta.shape, theta.dtype)
    return -jnp.logaddexp(log_e - theta, -jnp.asarray(bound, theta.dtype))


def maximum(key: PRNGKey, logits: Float[Array, "*batch C"]) -> Float[Array, "*batch"]:
    """The largest perturbed logit, max(θ + γ), which is Gumbel(log Z): one draw, not C.

    Arguments:
        key: consumed.
        logits: θ, shape batch + (C,); −inf masks a category.

    Returns:
        The maximum, shape batch; independent of which category attains it.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> maximum(jax.random.key(0), jnp.zeros((2, 1000))).shape
        (2,)

    Reference: Maddison, Tarlow & Minka (2014), section 2.
    """
    theta = finite_logits(logits.astype(working_dtype(logits.dtype)))
    noise = gumbel(key, theta.shape[:-1], theta.dtype)
    return jax.nn.logsumexp(theta, axis=-1) + noise


def top_down(
    key: PRNGKey,
    logits: Float[Array, "*batch C"],
    top: Float[Array, "*batch"] | None = None,
) -> Float[Array, "*batch C"]:
    """Perturbed logits drawn from the maximum down: first the maximum, then who attains it, then
    the others below it.

    Without `top` the law is that of θ + γ. With it, that of θ + γ given that the maximum is `top`:
    down a tree, where the logit of a node is the log-sum-exp of its children's, the perturbed logit
    of the node is the `top` of its children, and only the visited part of the tree is ever drawn.

    Arguments:
        key: consumed.
        logits: θ, shape batch + (C,); −inf masks a category.
        top: the maximum, shape batch; drawn if None.

    Returns:
        z, shape batch + (C,), with maximum `top`, attained by a category drawn from softmax(θ).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> z = top_down(jax.random.key(0), jnp.zeros((3, 4)), top=jnp.array([2.0, 0.0, -1.0]))
        >>> z.max(-1).tolist()
        [2.0, 0.0, -1.0]

    Reference: Maddison, Tarlow & Minka (2014), algorithm 1; Kool, van Hoof & Welling (2019),
    "Stochastic beams and where to find them", section 4.
    """
    above, who, below = jax.random.split(key, 3)
    theta = finite_logits(logits.astype(working_dtype(logits.dtype)))
    held = maximum(above, theta) if top is None else jnp.asarray(top, theta.dtype)
    noise = gumbel(who, theta.shape, theta.dtype)
    winner = jnp.argmax(jax.lax.stop_gradient(theta) + noise, axis=-1)
    chosen = jax.nn.one_hot(winner, theta.shape[-1], dtype=bool)
    return jnp.where(chosen, held[..., None], truncated_gumbel(below, theta, held[..., None]))


def with_maximum(
    perturbed: Float[Array, "*batch C"], top: Float[Array, "*batch"]
) -> Float[Array, "*batch C"]:
    """Perturbed logits moved so that their maximum is `top`, in the same order.

    With m = max z and E' = exp(−z) − exp(−m) + exp(−top): the clocks' waits after the first are
    kept and the first is replaced. If z is θ + γ, the result has the law of θ + γ given that the
    maximum is `top`. Unlike `top_down` it is a function of given noise. Where z comes so near to m
    that their difference is lost in rounding, so does the result.

    Arguments:
        perturbed: z, shape batch + (C,).
        top: shape batch.

    Returns:
        Shape batch + (C,).

    Raises:
        InvalidArgumentError: `top` is not of the batch shape.

    Example:
        >>> import jax.numpy as jnp
        >>> with_maximum(jnp.array([1.0, 3.0, 2.0]), jnp.array(-1.0)).argsort().tolist()
        [0, 2, 1]

    Reference: Kool, van Hoof & Welling (2019), appendix B.3; here with log(exp(m − z) − 1) formed
    from the gap, so that nothing overflows.
    """
    top = jnp.asarray(top, perturbed.dtype)
    if top.shape != perturbed.shape[:-1]:
        raise InvalidArgumentError(
            complain(
                f"with_maximum was given a maximum of shape {top.shape}",
                f"the perturbed logits have batch shape {perturbed.shape[:-1]}",
                "pass one maximum for each batch element",
            )
        )
    m = jnp.max(perturbed, axis=-1, keepdims=True)
    gap = m - perturbed
    # log(e^gap − 1) = gap + log(1 − e^−gap); the winner's gap is 0, and its value is top anyway
    behind = gap > 0
    safe = jnp.where(behind, gap, 1.0)
    log_wait = safe + jnp.log(-jnp.expm1(-safe)) - m
    moved = -jnp.logaddexp(log_wait, -top[..., None])
    return jnp.where(behind, moved, top[..., None])
