"""What REBAR's experiment learns beside a model of several layers: an estimator for each layer."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

import expectax as ex

from ..._trees import add_axis, first, sum_leaves
from ...distributions import joint
from ...models import HierarchicalVAE
from ..data import Dataset
from ..estimators import Level, Setting

KINDS = ("nvil", "muprop", "rebar", "relax", "concrete")

CONCRETE_TEMPERATURE = 0.1

HIDDEN = (100,)
"""Of baselines, and of the network in RELAX's control variate."""


class LayerControls(eqx.Module):
    """What the estimators of one layer may learn.

    Attributes:
        baseline: C(x), always taken off.
        scale_logit: w of η = 2σ(w), so that η starts at 1 and stays below 2.
        log_temperature: log τ, from τ = ½.
        network: RELAX's r(z); None for the others.
    """

    baseline: Level
    scale_logit: Float[Array, ""]
    log_temperature: Float[Array, ""]
    network: Level | None

    def __init__(self, setting: Setting, num_inputs: int, with_network: bool):
        baseline_key, network_key = jax.random.split(setting.key)
        at = lambda key, typical: eqx.tree_at(lambda s: (s.key, s.typical), setting, (key, typical))
        pixels = setting.center.size
        self.baseline = Level(at(baseline_key, setting.typical), pixels, HIDDEN)
        self.scale_logit = jnp.zeros(())
        self.log_temperature = jnp.log(0.5 * jnp.ones(()))
        # the relaxed cost is about the cost already: the network starts at zero
        setting = at(network_key, jnp.zeros(()))
        self.network = Level(setting, pixels + num_inputs, HIDDEN) if with_network else None

    @property
    def scale(self) -> Float[Array, ""]:
        """η."""
        return 2 * jax.nn.sigmoid(self.scale_logit)


class Controls(eqx.Module):
    """The estimators of all layers.

    Attributes:
        kind: one of `KINDS`.
        layers: what they learn; nothing for the relaxation.
    """

    kind: str = eqx.field(static=True)
    layers: tuple[LayerControls, ...]

    def __init__(self, kind: str, key: PRNGKeyArray, model: HierarchicalVAE, data: Dataset):
        self.kind = kind
        layers = []
        draw_key, x_key, *keys = jax.random.split(key, 2 + model.num_layers)
        x = data.binarize(x_key, data.train[:: max(1, len(data.train) // 200)])
        below = 0
        for cost, encoder, key in zip(
            costs_from_each_layer(draw_key, model, x), model.encoders, keys, strict=True
        ):
            size = encoder.layers[-1].out_features
            draw = jax.ShapeDtypeStruct((size,), cost.dtype)
            spread = jnp.maximum(jnp.std(cost), 1e-3)
            setting = Setting(key, data.mean, draw, jnp.mean(cost), spread)
            layers.append(LayerControls(setting, below + int(size), kind == "relax"))
            below = int(size)
        self.layers = () if kind == "concrete" else tuple(layers)

    def of_layer(
        self, layer: int, model: HierarchicalVAE, keys: Array, x: Array, below: Array
    ) -> ex.AbstractEstimator:
        """The estimator of a layer, given what lies below it and the layers' keys."""
        if self.kind == "concrete":
            return ex.GumbelSoftmax(CONCRETE_TEMPERATURE)
        mine = self.layers[layer]
        if self.kind == "nvil":
            return ex.NVIL(mine.baseline(x))
        if self.kind == "muprop":
            return ex.MuProp(mine.scale, mine.baseline(x))
        held = jax.lax.stop_gradient((model, x, below))
        return ex.RELAX(RelaxedCost(mine, *held, keys, layer), mine.baseline(x))


class RelaxedCost(eqx.Module):
    """REBAR's control variate c(z) = η f(σ(z/τ)), and for RELAX a network r(z) added to it.

    In f the layers above are relaxed too, with the noise of their hard draws: given that noise f
    and c are functions of z, and REBAR is unbiased. `ex.REBAR` is this with one layer; with several
    its f would hold estimators, which are not differentiated twice, as learning τ asks.
    """

    controls: LayerControls
    model: HierarchicalVAE
    x: Float[Array, "B P"]
    below: Float[Array, "B I"]
    keys: PRNGKeyArray
    layer: int = eqx.field(static=True)

    def __call__(self, z: Float[Array, "B D"]) -> Float[Array, "B"]:
        relaxed = self.cost(self.layer, self.below, z)
        c = self.controls.scale * relaxed
        if self.controls.network is None:
            return c
        lower = (self.model.embed(self.below),) if self.layer else ()
        return c + self.controls.network(self.x, *lower, jnp.tanh(z / 2))

    def cost(self, layer: int, below: Array, z: Array) -> Array:
        """log q − log p from this layer up, relaxed, where z are its perturbed logits."""
        q = joint(self.model.posterior(layer, below))
        soft = q.relax(z, jnp.exp(self.controls.log_temperature))
        here = q.log_prob(add_axis(soft))[0] - self.model.log_conditional(layer, below, soft)
        if layer + 1 == self.model.num_layers:
            return here - self.model.log_prior(soft)
        above = joint(self.model.posterior(layer + 1, soft))
        return here + self.cost(layer + 1, soft, above.perturb(self.keys[layer + 1]))


def costs_from_each_layer(
    key: PRNGKeyArray, model: HierarchicalVAE, x: Float[Array, "B P"]
) -> list[Float[Array, "B"]]:
    """The cost that each layer's estimator is handed, log q − log p from there up, at a draw."""
    terms: list[Any] = []
    below = x
    for layer, key_here in enumerate(jax.random.split(key, model.num_layers)):
        q = joint(model.posterior(layer, below))
        draws = q.sample(key_here, 1)
        z = first(draws)
        terms.append(q.log_prob(draws)[0] - model.log_conditional(layer, below, z))
        below = z
    terms[-1] = terms[-1] - model.log_prior(below)
    return [sum_leaves(terms[layer:]) for layer in range(len(terms))]
