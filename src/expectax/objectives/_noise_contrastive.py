"""Unnormalized models learned by telling data from noise."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float

from .._errors import InvalidArgumentError, complain
from .._numerics import softplus
from .._types import PRNGKey

Score = Callable[[Any], Float[Array, "*batch"]]
"""From x, shape batch + event, to the log of an unnormalized density, shape batch."""


def noise_contrastive(
    key: PRNGKey, score: Score, x: Any, noise: dist.Distribution, num_noise: int
) -> Float[Array, "*batch"]:
    """−log σ(Δ(x)) − Σ_i log(1 − σ(Δ(y_i))), Δ = s − log k q, y_1 … y_k ~ q: to be minimised.

    Its minimum over all functions s is the log-density of the data, normalized: nothing has to be
    summed over all x, and a learned normalizer is a parameter like any other. For any noise q that
    is possible wherever the data are; the closer to them, the less noisy. The minimum is the same
    for every k, and as k grows the gradient becomes that of maximum likelihood.

    Arguments:
        key: consumed.
        score: s; it may close over a context of batch shape. Called once at x and, by `vmap`, at
            each y.
        x: data with batch shape.
        noise: q, without batch shape or with that of x; taken as given.
        num_noise: k ≥ 1, draws for each datum.

    Returns:
        Shape batch, in nats.

    Raises:
        InvalidArgumentError: `num_noise` < 1, or shapes that do not go together.

    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist
        >>> words, noise = jnp.array([2, 0, 1]), dist.Categorical(logits=jnp.zeros(4))
        >>> table = jnp.log(jnp.full(4, 0.25))  # the model is the noise
        >>> loss = noise_contrastive(jax.random.key(0), lambda w: table[w], words, noise, 1)
        >>> print([f"{x:.4f}" for x in loss])  # 2 log 2: nothing can be told apart
        ['1.3863', '1.3863', '1.3863']

    Reference: Gutmann & Hyvärinen (2012), eq. 8 and 9; Mnih & Teh (2012) for models of words.
    """
    log_num = jnp.log(num_noise) if num_noise > 0 else 0.0
    log_noise = lambda y: jax.lax.stop_gradient(noise.log_prob(y)) + log_num
    shapes = jax.eval_shape(score, x).shape, jax.eval_shape(noise.log_prob, x).shape
    if shapes[0] != shapes[1]:
        raise InvalidArgumentError(
            complain(
                f"the score of x has shape {shapes[0]}, log q of x {shapes[1]}",
                "each datum has one score, and one chance under the noise",
                "return one score for each datum, and pass noise without batch shape or with x's",
            )
        )
    return _drawn(key, lambda y: score(y) - log_noise(y), score, x, noise, num_noise)


def negative_sampling(
    key: PRNGKey, score: Score, x: Any, noise: dist.Distribution, num_noise: int
) -> Float[Array, "*batch"]:
    """−log σ(s(x)) − Σ_i log(1 − σ(s(y_i))), y_1 … y_k ~ q: to be minimised.

    It is `noise_contrastive` with k q put to 1. So its minimum over all functions s is
    log p(x) − log k q(x): for words in a context, a pointwise mutual information shifted by log k,
    and no log-density. Arguments as those of `noise_contrastive`.

    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist
        >>> words, noise = jnp.array([2, 0, 1]), dist.Categorical(logits=jnp.zeros(4))
        >>> loss = negative_sampling(jax.random.key(0), lambda w: 0.0 * w, words, noise, 3)
        >>> print([f"{x:.4f}" for x in loss])  # 4 log 2
        ['2.7726', '2.7726', '2.7726']

    Reference: Mikolov et al. (2013), eq. 4; Levy & Goldberg (2014) for its minimum.
    """
    return _drawn(key, score, score, x, noise, num_noise)


def told_apart(
    data: Float[Array, "*batch"], noise: Float[Array, "k *batch"]
) -> Float[Array, "*batch"]:
    """−log σ(Δ) − Σ_i log(1 − σ(Δ_i)): the loss of a classifier that has these log-odds.

    It is what `noise_contrastive` and `negative_sampling` come to once the noise is drawn. For
    programs that need the draws beforehand: to look up, before anything is differentiated, the rows
    of the tables that the words of a step touch.

    Arguments:
        data: Δ = s − log k q, or Δ = s, at each datum.
        noise: the same at its k draws of noise.

    Returns:
        Shape batch, in nats.

    Example:
        >>> import jax.numpy as jnp
        >>> print(f"{told_apart(jnp.array(3.0), jnp.array([-3.0, -3.0])):.4f}")  # 3 log(1 + e⁻³)
        0.1458

    Reference: Gutmann & Hyvärinen (2012), eq. 8.
    """
    return _softplus(-data) + jnp.sum(_softplus(noise), axis=0)


def _softplus(x: Array) -> Array:
    """log(1 + exp(x)), also at ±∞: words that are ruled out."""
    infinite = jnp.isinf(x)
    return jnp.where(infinite, jnp.maximum(x, 0.0), softplus(jnp.where(infinite, 0.0, x)))


def _drawn(
    key: PRNGKey, odds: Score, score: Score, x: Any, noise: dist.Distribution, num: int
) -> Array:
    """`told_apart` at x and at draws of the noise, with these log-odds that a thing is a datum."""
    if num < 1:
        raise InvalidArgumentError(
            complain(
                f"a contrast with {num} draws of noise was asked for",
                "data are told apart from noise",
                "pass num_noise of at least 1",
            )
        )
    batch = jax.eval_shape(score, x).shape
    if noise.batch_shape not in ((), batch):
        raise InvalidArgumentError(
            complain(
                f"the score of x has shape {batch}, the noise batch shape {noise.batch_shape}",
                "each datum has one score, and noise of its own or that of all",
                "return one score for each datum, and pass noise without batch shape or with x's",
            )
        )
    lead = (num,) if noise.batch_shape else (num, *batch)
    draws = jax.lax.stop_gradient(noise.sample(key, lead))  # type: ignore[arg-type]
    return told_apart(odds(x), jax.vmap(odds)(draws))
