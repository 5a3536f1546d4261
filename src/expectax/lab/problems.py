"""Small problems by name: `expectax compare` and `expectax recommend` try estimators on them.

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


def _linear_bits(key: PRNGKeyArray) -> Problem:
    logits, weights = jax.random.normal(key, (2, 40))
    q = dist.Bernoulli(logits=logits).to_event(1)
    return Problem("40 bits, a linear cost", q, lambda b: b @ weights, jnp.ones(1))


def _floor_bits(key: PRNGKeyArray) -> Problem:
    logits, weights = jax.random.normal(key, (2, 30))
    q = dist.Bernoulli(logits=logits).to_event(1)
    f = lambda b: jnp.floor(2 * (b @ weights)) ** 2 / 10
    return Problem("30 bits, a cost of steps: it has no slope", q, f, jnp.ones(1))


def _near_constant(key: PRNGKeyArray) -> Problem:
    logits, weights = jax.random.normal(key, (2, 25))
    q = dist.Bernoulli(logits=logits).to_event(1)
    f = lambda b: 100.0 + 0.1 * jnp.sin(b @ weights)
    return Problem("25 bits, a cost of 100 that moves by 0.1", q, f, jnp.ones(1))


def _many_bits(key: PRNGKeyArray) -> Problem:
    logits, weights = jax.random.normal(key, (2, 28))
    pairs = jax.random.normal(jax.random.fold_in(key, 1), (28, 28)) / 5
    q = dist.Bernoulli(logits=logits).to_event(1)
    f = lambda b: b @ weights + b @ pairs @ b
    return Problem("28 bits, a random quadratic: too many to enumerate", q, f, jnp.ones(1))


def _two_hundred_bits(key: PRNGKeyArray) -> Problem:
    logits = jax.random.normal(key, (200,)) / 2
    targets = jnp.linspace(0.0, 1.0, 200)
    q = dist.Bernoulli(logits=logits).to_event(1)
    f = lambda b: jnp.mean((b - targets) ** 2) + jnp.tanh(jnp.mean(b) - 0.4) ** 2
    return Problem("200 bits, squared errors and a term of all", q, f, jnp.ones(1))


def _expensive(key: PRNGKeyArray) -> Problem:
    logits_key, in_key, key = jax.random.split(key, 3)
    first = jax.random.normal(in_key, (24, 256)) / 24**0.5
    layers = jax.random.normal(key, (12, 256, 256)) / 16

    def f(b: Array) -> Array:
        h = jnp.tanh(b @ first)
        h, _ = jax.lax.scan(lambda h, w: (jnp.tanh(1.5 * h @ w), None), h, layers)
        return jnp.sum(h[:64] ** 2)

    q = dist.Bernoulli(logits=jax.random.normal(logits_key, (24,))).to_event(1)
    return Problem("24 bits, a cost of 12 layers of 256 units", q, f, jnp.ones(1))


def _gaussian(key: PRNGKeyArray) -> Problem:
    loc, other = jax.random.normal(key, (2, 10))
    q = dist.Normal(loc, jnp.exp(other / 2)).to_event(1)
    f = lambda x: jnp.sum(x**2) + jnp.sin(jnp.sum(x))
    return Problem("10 Gaussians, a smooth cost", q, f, jnp.ones(1))


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
    "linear-bits": _linear_bits,
    "many-bits": _many_bits,
    "floor-bits": _floor_bits,
    "near-constant": _near_constant,
    "two-hundred-bits": _two_hundred_bits,
    "expensive": _expensive,
    "categories": _categories,
    "gaussian": _gaussian,
    "small-vae": _small_vae,
}
