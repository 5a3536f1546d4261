"""Wake-sleep where everything can be summed: nets so small, on pictures of nine pixels."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ...models import HierarchicalVAE
from ..data import Dataset

SIDE = 3
"""Of the pictures, in pixels."""


def shrunk(data: Dataset) -> Dataset:
    """Digits of 8×8 bits as 3×3: the middle 6×6 in blocks of four, on where half of them are."""

    def blocks(rows: Any) -> np.ndarray:
        middle = np.asarray(rows).reshape(-1, 8, 8)[:, 1:7, 1:7]
        means = middle.reshape(-1, SIDE, 2, SIDE, 2).mean(axis=(2, 4))
        return (means >= 0.5).astype(np.uint8).reshape(-1, SIDE * SIDE)

    return dataclasses.replace(
        data,
        train=blocks(data.train),
        test=blocks(data.test),
        valid=None,
        shape=(SIDE, SIDE),
        summary=f"{data.summary}; shrunk to {SIDE}×{SIDE}",
    )


def every(num: int) -> Float[Array, "N num"]:
    """All settings of so many bits."""
    return (jnp.arange(2**num)[:, None] >> jnp.arange(num) & 1).astype(jnp.result_type(float))


def tables(
    model: HierarchicalVAE, x: Float[Array, "B P"]
) -> tuple[Float[Array, "Z B"], Float[Array, "Z B"]]:
    """log p(x, z) and log q(z | x) of every setting z of all layers."""
    settings = every(sum(model.sizes))[:, None]
    z = jnp.broadcast_to(settings, (len(settings), len(x), settings.shape[-1]))
    return model.log_joint(x, model.split(z)), model.joint_posterior(x).log_prob(z)


def exact_sleep_loss(model: HierarchicalVAE) -> Float[Array, ""]:
    """−E_p(x, z)[log q(z | x)], p taken as given."""
    log_p, log_q = tables(model, every(model.center.size))
    return -jnp.sum(jnp.exp(jax.lax.stop_gradient(log_p)) * log_q)


def exact_neg_elbo(model: HierarchicalVAE, x: Float[Array, "B P"]) -> Float[Array, ""]:
    """−ELBO, the mean over rows."""
    log_p, log_q = tables(model, x)
    return jnp.mean(jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=0))


def exact_cosine(model: HierarchicalVAE, x: Float[Array, "B P"]) -> Float[Array, ""]:
    """Between the gradients of the two in q's parameters."""

    def of(loss: Any) -> Float[Array, "N"]:
        of_q = lambda encoders: loss(eqx.tree_at(lambda m: m.encoders, model, encoders))
        gradient: PyTree = eqx.filter_grad(of_q)(model.encoders)
        return ravel_pytree(gradient)[0]

    sleep, elbo = of(exact_sleep_loss), of(lambda model: exact_neg_elbo(model, x))
    return jnp.dot(sleep, elbo) / (jnp.linalg.norm(sleep) * jnp.linalg.norm(elbo))
