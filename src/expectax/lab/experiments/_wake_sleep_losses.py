"""The losses of sigmoid belief nets that `wake-sleep` compares."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

import expectax as ex

from ...models import HierarchicalVAE
from ...objectives import (
    VIMCO,
    hierarchical_neg_elbo,
    neg_multi_sample_bound,
    reweighted_wake_sleep,
    wake_sleep,
)
from ._layered_controls import Controls

PARTICLES = 5


class Learned(eqx.Module):
    """What the optimisers train.

    Attributes:
        model: p and q.
        controls: baselines, where there are any.
    """

    model: HierarchicalVAE
    controls: Controls | None


def _wake_sleep(learned: Learned, x: Array, key: Any, num: int) -> Array:
    del num
    model = learned.model
    q = model.joint_posterior(x)
    dream = lambda key: dream_log_q(key, model, len(x))
    return wake_sleep(key, q, log_joint(model, x), dream)


def _reweighted(learned: Learned, x: Array, key: Any, num: int) -> Array:
    model = learned.model
    return reweighted_wake_sleep(key, model.joint_posterior(x), log_joint(model, x), num)


def _vimco(learned: Learned, x: Array, key: Any, num: int) -> Array:
    model = learned.model
    q = model.joint_posterior(x)
    return neg_multi_sample_bound(key, q, log_joint(model, x), num, VIMCO())  # type: ignore[call-arg]


def _nvil(learned: Learned, x: Array, key: Any, num: int) -> Array:
    del num
    layers = learned.controls.layers if learned.controls else ()
    baselines = [ex.NVIL(layer.baseline(x)) for layer in layers]
    return hierarchical_neg_elbo(key, learned.model, x, baselines)


def _disarm(learned: Learned, x: Array, key: Any, num: int) -> Array:
    del num
    return hierarchical_neg_elbo(key, learned.model, x, ex.DisARM())


METHODS: dict[str, Callable[[Learned, Array, Any, int], Array]] = {
    "wake-sleep": _wake_sleep,
    "nvil": _nvil,
    "disarm": _disarm,
    "vimco": _vimco,
    "reweighted": _reweighted,
}
"""The losses, from what is learned, the data, a key and a number of particles to shape (B,)."""


def evaluations(method: str, num_layers: int) -> str:
    """Of log p(x, z) for one step, at hard draws + in dreams."""
    many = f"{PARTICLES} + 0"
    known = {"wake-sleep": "1 + 1", "nvil": "1 + 0", "disarm": f"{2**num_layers} + 0"}
    return known.get(method, many)


def log_joint(model: HierarchicalVAE, x: Float[Array, "B P"]) -> Callable[[Array], Array]:
    """log p(x, z) as a function of the bits of all layers, side by side."""
    return lambda z: model.log_joint(x, model.split(z))


def dream_log_q(key: PRNGKeyArray, model: HierarchicalVAE, num: int) -> Float[Array, "num"]:
    """log q(z | x) at `num` dreams (x, z) ~ p."""
    x, z = model.sample_joint(key, num)
    return model.joint_posterior(x).log_prob(z)
