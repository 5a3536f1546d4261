"""Small problems by name, on which `expectax compare` sets estimators side by side.

To add one: a function from a key to a `Problem`, and a row in `PROBLEMS`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from .._trees import add_axis
from ..distributions import OneHotCategorical, joint
from ..models import linear_vae


@dataclasses.dataclass(frozen=True)
class Problem:
    """q and f, and what a learned baseline may see.

    Attributes:
        summary: one line: the law, the cost, the sizes.
        q: a NumPyro distribution, or a pytree of them.
        f: from a draw to a cost of the batch shape.
        x: inputs of baselines, batch shape + (P,).
    """

    summary: str
    q: Any
    f: Callable[[Any], Array]
    x: Float[Array, "*batch P"]


def _one_bit(key: PRNGKeyArray) -> Problem:
    del key
    q = dist.Bernoulli(logits=jnp.asarray(0.5))
    return Problem("one bit, p = σ(½), f = (b − 0.45)²", q, lambda b: (b - 0.45) ** 2, jnp.ones(1))


def _quadratic_bits(key: PRNGKeyArray) -> Problem:
    logits, weights = jax.random.normal(key, (2, 10))
    pairs = jax.random.normal(jax.random.fold_in(key, 1), (10, 10)) / 3
    q = dist.Bernoulli(logits=logits).to_event(1)
    f = lambda b: b @ weights + b @ pairs @ b + 5.0
    return Problem("10 bits, a random quadratic with an offset of 5", q, f, jnp.ones(1))


def _categories(key: PRNGKeyArray) -> Problem:
    logits, table = jax.random.normal(key, (2, 3, 4))
    q = OneHotCategorical(logits=logits).to_event(1)
    f = lambda z: jnp.sin(3 * jnp.sum(table * z)) + jnp.sum(table * z) ** 2
    return Problem("3 variables of 4 categories, a cost that is not separable", q, f, jnp.ones(1))


def _small_vae(key: PRNGKeyArray) -> Problem:
    model_key, x_key, mean_key = jax.random.split(key, 3)
    mean = jax.random.uniform(mean_key, (64,), minval=0.05, maxval=0.95)
    model = linear_vae(model_key, mean, num_latents=12)
    x = jax.random.bernoulli(x_key, mean, (8, 64)).astype(jnp.float32)
    q = model.posterior(x)
    views = joint(q)
    f = lambda z: views.log_prob(add_axis(z))[0] - model.log_joint(x, z)
    summary = "−ELBO of an untrained linear VAE: 8 pictures of 64 pixels, 12 bits"
    return Problem(summary, q, f, x)


PROBLEMS: dict[str, Callable[[PRNGKeyArray], Problem]] = {
    "one-bit": _one_bit,
    "quadratic-bits": _quadratic_bits,
    "categories": _categories,
    "small-vae": _small_vae,
}
