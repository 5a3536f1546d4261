"""Noise, the max-trick, and Gumbel and logistic noise given what it decided.

p = softmax(θ) or σ(θ). Everything is computed from logits, so nothing is clipped and p may go to 0
or 1.

The conditional draws are deterministic functions of θ and of fixed uniforms, and are to be
differentiated through θ with those uniforms held: estimators that drop this derivative are biased.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from .._numerics import finite_logits, softplus, working_dtype
from .._types import PRNGKey


def open_uniform(
    key: PRNGKey, shape: Sequence[int] = (), dtype: DTypeLike = jnp.float32
) -> Float[Array, "..."]:
    """Uniform draws from the *open* interval (0, 1), symmetric about ½.

    `jax.random.uniform` can return exactly 0 and has a finer grid than its complement: half a grid
    step is added, so that u and 1 − u have the same law and log u, log(1 − u) are finite.

    Arguments:
        key: consumed.
        shape: shape of the result.
        dtype: a floating type of at least 32 bits.

    Example:
        >>> import jax
        >>> u = open_uniform(jax.random.key(0), (1000,))
        >>> bool((u > 0).all() and (u < 1).all())
        True
    """
    # floor of the grid is eps; u + eps/2 is exact because the result still fits the mantissa
    return jax.random.uniform(key, shape, dtype) + jnp.finfo(dtype).eps / 2


def gumbel(
    key: PRNGKey, shape: Sequence[int] = (), dtype: DTypeLike = jnp.float32
) -> Float[Array, "..."]:
    """Standard Gumbel draws, γ = −log(−log u), with u in the open interval.

    Arguments:
        key: consumed.
        shape: shape of the result.
        dtype: a floating type of at least 32 bits.

    Reference: Gumbel (1954); the inverse of F(x) = exp(−exp(−x)).
    """
    return -jnp.log(-jnp.log(open_uniform(key, shape, dtype)))


def logistic(
    key: PRNGKey, shape: Sequence[int] = (), dtype: DTypeLike = jnp.float32
) -> Float[Array, "..."]:
    """Standard logistic draws, L = log u − log(1 − u): the difference of two Gumbels.

    Arguments:
        key: consumed.
        shape: shape of the result.
        dtype: a floating type of at least 32 bits.
    """
    u = open_uniform(key, shape, dtype)
    return jnp.log(u / (1.0 - u))


def argmax(key: PRNGKey, logits: Float[Array, "*batch C"]) -> Int[Array, "*batch"]:
    """A categorical draw by the max-trick: argmax(θ + γ) has law softmax(θ).

    Arguments:
        key: consumed.
        logits: θ, shape batch + (C,); −inf masks a category.

    Returns:
        The index of the chosen category, shape batch.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> int(argmax(jax.random.key(0), jnp.array([0.0, -jnp.inf])))
        0

    Reference: Maddison, Tarlow & Minka (2014), "A* sampling".
    """
    # noise of few bits has ties, and ties all go to the first category
    return jnp.argmax(logits + gumbel(key, logits.shape, working_dtype(logits.dtype)), axis=-1)


def conditional_gumbel(
    key: PRNGKey, logits: Float[Array, "*batch C"], index: Int[Array, "*batch"]
) -> Float[Array, "*batch C"]:
    """Perturbed logits z = θ + γ given that `index` attains their maximum.

    With E_i = exp(−z_i), exponentials of rate exp(θ_i): their minimum M ~ Exp(Z) is independent of
    which one attains it, and by memorylessness the others are M + Exp(exp(θ_i)). So, for v uniform,

        z_k = log Z − log(−log v_k),
        z_i = −log(−log v_i · exp(−θ_i) − log v_k / Z)      for i ≠ k.

    Differentiable in `logits` with v held fixed.

    Arguments:
        key: consumed.
        logits: θ, shape batch + (C,), normalised or not; −inf masks a category.
        index: k, shape batch.

    Returns:
        z, shape batch + (C,), whose argmax is `index`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> z = conditional_gumbel(jax.random.key(0), jnp.zeros(5), jnp.array(3))
        >>> int(jnp.argmax(z))
        3

    Reference: Maddison, Tarlow & Minka (2014), and Tucker et al. (2017), appendix C.
    """
    theta = finite_logits(logits.astype(working_dtype(logits.dtype)))
    log_e = jnp.log(-jnp.log(open_uniform(key, theta.shape, theta.dtype)))
    chosen = jax.nn.one_hot(index, theta.shape[-1], dtype=bool)
    log_z = jax.nn.logsumexp(theta, axis=-1, keepdims=True)
    log_e_k = jnp.sum(jnp.where(chosen, log_e, 0.0), axis=-1, keepdims=True)
    log_minimum = log_e_k - log_z
    others = jnp.logaddexp(log_e - theta, log_minimum)
    return -jnp.where(chosen, log_minimum, others)


def conditional_logistic(
    key: PRNGKey,
    logits: Float[Array, "*shape"],
    bit: Float[Array, "*shape"] | Bool[Array, "*shape"],
) -> Float[Array, "*shape"]:
    """The perturbed logit z = θ + L of each bit given the bit b = 1[z > 0].

    With ± the sign of 2b − 1 and w uniform: z = ±(log(1 + w exp(±θ)) − log(1 − w)), which is
    θ + logit(v') for v' = (1 − p) + v p (b = 1, v = w) or v (1 − p) (b = 0, v = 1 − w), written so
    that no probability is ever formed. Differentiable in `logits` with w held fixed.

    Arguments:
        key: consumed.
        logits: θ, any shape.
        bit: b ∈ {0, 1}, the same shape.

    Returns:
        z of the same shape: positive where b = 1, negative where b = 0.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> bit = jnp.array([1.0, 0.0])
        >>> z = conditional_logistic(jax.random.key(0), jnp.array([-9.0, 9.0]), bit)
        >>> (z > 0).tolist()
        [True, False]

    Reference: Tucker et al. (2017), eq. 9 and appendix C.
    """
    theta = finite_logits(logits.astype(working_dtype(logits.dtype)))
    w = open_uniform(key, theta.shape, theta.dtype)
    sign = jnp.where(bit > 0, 1.0, -1.0).astype(theta.dtype)
    return sign * (softplus(sign * theta + jnp.log(w)) - jnp.log1p(-w))


def gumbel_residual(
    logits: Float[Array, "*batch C"],
    perturbed: Float[Array, "*batch C"],
    cotangent: Float[Array, "*batch C"],
) -> Float[Array, "*batch C"]:
    """∂/∂θ [c(z) − c(z̃)] for z = θ + γ and z̃ the conditional draw that *coincides* with z.

    z̃ is drawn from the law of z given its argmax. Any joint law of (z, z̃) will do, so take the v
    for which z̃ = z: the values are equal, the derivatives are not, since γ is fixed in one and
    v in the other. With r_i = exp(z_i − max z) ∈ (0, 1]: ∂z̃_i/∂θ_j = (1 − r_i) δ_ij + r_i p_j, so

        ∂/∂θ_j [c(z) − c(z̃)] = a_j r_j − p_j Σ_i a_i r_i,     a = ∂c/∂z.

    This needs one evaluation of c where two independent draws need two, and no conditional noise.

    Arguments:
        logits: θ, shape batch + (C,).
        perturbed: z = θ + γ, the same shape.
        cotangent: a = ∂c/∂z at z, the same shape.

    Reference: our derivation from `conditional_gumbel`; the coupling (common random numbers) is
    that of Tucker et al. (2017), section 3.
    """
    ratio = jnp.exp(perturbed - jnp.max(perturbed, axis=-1, keepdims=True))
    weighted = cotangent * ratio
    return weighted - jax.nn.softmax(logits, axis=-1) * jnp.sum(weighted, axis=-1, keepdims=True)


def logistic_residual(
    logits: Float[Array, "*shape"],
    perturbed: Float[Array, "*shape"],
    cotangent: Float[Array, "*shape"],
) -> Float[Array, "*shape"]:
    """∂/∂θ [c(z) − c(z̃)] for bits: z = θ + L, and z̃ the conditional draw that coincides with z.

    With q the probability of the bit that z gave: 1 − ∂z̃/∂θ = 1 − q (1 − exp(−|z|)), times
    a = ∂c/∂z. See `gumbel_residual`.

    Arguments:
        logits: θ, any shape.
        perturbed: z = θ + L, the same shape.
        cotangent: a = ∂c/∂z at z, the same shape.
    """
    probability = jax.nn.sigmoid(jnp.where(perturbed > 0, logits, -logits))
    return cotangent * (1.0 + probability * jnp.expm1(-jnp.abs(perturbed)))
