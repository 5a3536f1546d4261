"""Sets, sorts and permutations made smooth by a temperature."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._errors import InvalidArgumentError, complain
from ._top_k import check_k


def relaxed_top_k(
    perturbed: Float[Array, "*batch C"], k: int, temperature: Float[Array, ""] | float
) -> Float[Array, "*batch C"]:
    """A relaxed k-hot vector: the sum of k softmaxes, each with the ones before it taken away.

    α¹ = z, a^j = softmax(α^j / τ), α^{j+1} = α^j + log(1 − a^j); the result is Σ_j a^j. Smooth in
    z, entries sum to k, and as τ → 0 it becomes the indicator of the k largest. (At τ ≥ 1 what was
    taken stays ahead: keep τ below 1.) k = 1 is the softmax.

    Arguments:
        perturbed: z, shape batch + (C,).
        k: 1 ≤ k ≤ C.
        temperature: τ > 0.

    Returns:
        Shape batch + (C,).

    Raises:
        InvalidArgumentError: k is not in 1 … C.

    Example:
        >>> import jax.numpy as jnp
        >>> z = jnp.array([3.0, 1.0, 2.0, 0.0])
        >>> relaxed_top_k(z, 2, 0.01).round(3).tolist()
        [1.0, 0.0, 1.0, 0.0]
        >>> float(relaxed_top_k(z, 2, 0.5).sum())
        2.0

    Reference: Xie & Ermon (2019), "Reparameterizable subset sampling via continuous relaxations",
    section 3.2, after Plötz & Roth (2018); log(1 − a) is formed here without subtracting from 1.
    """
    check_k("relaxed_top_k", k, perturbed.shape[-1])
    alpha, total = perturbed, jnp.zeros_like(perturbed)
    for j in range(k):
        scaled = alpha / temperature
        share = jax.nn.softmax(scaled, axis=-1)
        total = total + share
        if j + 1 < k:
            alpha = alpha + _log_remainder(scaled, share)
    return total


def _log_remainder(scaled: Array, share: Array) -> Array:
    """log(1 − softmax), exact also where the softmax is 1 to all digits."""
    first = jax.nn.one_hot(jnp.argmax(scaled, axis=-1), scaled.shape[-1], dtype=bool)
    others = jax.nn.logsumexp(jnp.where(first, -jnp.inf, scaled), axis=-1, keepdims=True)
    everything = jax.nn.logsumexp(scaled, axis=-1, keepdims=True)
    return jnp.where(first, others - everything, jnp.log1p(-jnp.where(first, 0.0, share)))


def soft_sort(
    scores: Float[Array, "*batch C"], temperature: Float[Array, ""] | float, k: int | None = None
) -> Float[Array, "*batch K C"]:
    """A relaxed permutation matrix that sorts the scores from high to low.

    Row j is softmax(−|s_[j] − s| / τ) with s_[1] ≥ s_[2] ≥ …: each row sums to one and is largest
    at the j-th item whatever τ; as τ → 0 it becomes that item's unit vector. Continuous in s, and
    smooth but where two scores are equal.

    Arguments:
        scores: s, shape batch + (C,).
        temperature: τ > 0, in units of scores.
        k: how many rows, from the top; all C by default.

    Returns:
        Shape batch + (k, C).

    Raises:
        InvalidArgumentError: k is not in 1 … C.

    Example:
        >>> import jax.numpy as jnp
        >>> s = jnp.array([1.0, 3.0, 2.0])
        >>> soft_sort(s, 0.01, k=2).tolist()
        [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]

    Reference: Prillo & Eisenschlos (2020), "SoftSort", eq. 2.
    """
    num = scores.shape[-1]
    k = num if k is None else k
    check_k("soft_sort", k, num)
    ranked = jax.lax.top_k(scores, k)[0]
    gaps = jnp.abs(ranked[..., :, None] - scores[..., None, :])
    return jax.nn.softmax(-gaps / temperature, axis=-1)


def sinkhorn(
    log_alpha: Float[Array, "*batch N N"], num_iters: int = 20
) -> Float[Array, "*batch N N"]:
    """The Sinkhorn operator: rows and columns of exp(log α) normalised in turn.

    Tends to the doubly stochastic matrix diag(u) exp(log α) diag(v); for log α = (X + γ)/τ it is
    the Gumbel–Sinkhorn relaxation of the matching that maximises ⟨P, X + γ⟩, and tends to that
    matching as τ → 0 and `num_iters` → ∞. Columns sum to one exactly, rows in the limit.

    Arguments:
        log_alpha: scores, shape batch + (N, N).
        num_iters: rounds of one row and one column normalisation, at least 1.

    Returns:
        Shape batch + (N, N).

    Raises:
        InvalidArgumentError: the matrix is not square, or `num_iters` < 1.

    Example:
        >>> import jax.numpy as jnp
        >>> p = sinkhorn(jnp.array([[1.0, 0.0], [2.0, 3.0]]) / 0.1, 50)
        >>> p.round(3).tolist()
        [[1.0, 0.0], [0.0, 1.0]]

    Reference: Mena et al. (2018), "Learning latent permutations with Gumbel-Sinkhorn networks",
    eq. 3; Sinkhorn (1964).
    """
    if log_alpha.ndim < 2 or log_alpha.shape[-1] != log_alpha.shape[-2] or num_iters < 1:
        raise InvalidArgumentError(
            complain(
                f"sinkhorn was given shape {log_alpha.shape} and num_iters={num_iters}",
                "it makes a square matrix doubly stochastic by rounds of normalisation",
                "pass scores of shape batch + (N, N), and at least one round",
            )
        )

    def round_(x, _):
        x = jax.nn.log_softmax(x, axis=-1)
        return jax.nn.log_softmax(x, axis=-2), None

    return jnp.exp(jax.lax.scan(round_, log_alpha, None, length=num_iters)[0])
