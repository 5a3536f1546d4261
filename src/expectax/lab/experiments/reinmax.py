"""Four variables of eight categories: the bias of straight-through estimators, measured exactly.

Reference: Liu, Dong, Liu, Yu & Gao (2023), "Bridging discrete and backpropagation: straight-through
and beyond", section 5. There are 4,096 joint outcomes, so the exact gradient is a sum over them.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import expectax as ex

from ...models import CategoricalVAE
from ...objectives import neg_elbo
from ..data import Dataset
from ..task import Values
from ._one_hot_task import AbstractOneHotTask
from ._training import TrainingExperiment
from ._training_plan import Asked, Contender, Plan
from ._vae_tasks import FIGURES, PANELS

NAME = "reinmax"
STEPS = 48_000
DATA = ("mnist",)
NUM_PICTURES = 8
"""Of which the bias is measured."""

NUM_GRADIENTS = 4_000
"""Gradients whose mean is held against the exact one."""

ESTIMATORS: dict[str, Any] = {
    "reinmax": ex.ReinMax,
    "straight-through-gumbel-softmax": lambda: ex.StraightThroughGumbelSoftmax(0.5),
    "straight-through": ex.StraightThrough,
}
"""By the names of recipes, which build the same."""

PUBLISHED = {"reinmax": "-124.7", "straight-through-gumbel-softmax": "-126.9"}
"""Train ELBO, from memory: good to a few tenths."""

PROTOCOL = (
    "A VAE of {latents} one-hot variables of {categories} categories on {data} rounded at ½: "
    "encoder of {hidden} units, decoder its mirror (leaky rectifiers), uniform prior. Batch "
    "{batch}, {steps:,} steps of Adam 1e-3, {seeds}; Gumbel-Softmax temperature ½. ELBOs "
    "are from hard draws, over all training pictures and over the test set. f: evaluations of f "
    "for one step, at hard draws + elsewhere. Bias: |mean of {draws:,} gradients − exact "
    "gradient| / |exact gradient|, in the logits of {pictures} training pictures, what noise adds "
    "to the square taken off; all three estimators are measured at each run's final parameters. "
    "Published figures are from memory; how long their runs were is not known to us."
)


def bias_name(estimator: str) -> str:
    """The figure that is this estimator's bias."""
    return f"bias_of_{estimator.replace('-', '_')}"


BIASES = tuple(bias_name(name) for name in ESTIMATORS)


@dataclasses.dataclass(frozen=True)
class FourByEight(AbstractOneHotTask):
    """One contender's run."""

    estimator: str = "reinmax"
    data: str = "mnist"
    data_dir: pathlib.Path | None = None
    binarization: str | None = "threshold"
    steps: int = STEPS
    batch_size: int = 200
    seed: int = 0
    num_seeds: int = 5
    num_samples: int | None = None
    num_latents: int = 4
    num_categories: int = 8
    hidden: tuple[int, ...] = (512, 256)
    learning_rate: float = 1e-3

    def finish(self, key, learned, data):
        figures_key, bias_key = jax.random.split(key)
        figures = super().finish(figures_key, learned, data)
        return figures | biases(bias_key, learned.model, data)

    def words(self, name: str) -> str:
        known = {bias_name(e): f"relative bias of {e}, at these parameters" for e in ESTIMATORS}
        return known.get(name) or super().words(name)

    @property
    def title(self) -> str:
        return f"{NAME}, {self.estimator}"


def biases(key: Array, model: CategoricalVAE, data: Dataset) -> Values:
    """The relative bias of every estimator's gradient in the logits of a few pictures."""
    x_key, key = jax.random.split(key)
    x = data.binarize(x_key, data.train[:NUM_PICTURES])
    logits = model.posterior(x).base_dist.logits  # type: ignore[attr-defined]

    def loss(logits: Array, key: Array, estimator: ex.AbstractEstimator) -> Float[Array, ""]:
        q = ex.OneHotCategorical(logits=logits).to_event(1)
        return jnp.sum(neg_elbo(key, q, lambda z: model.log_joint(x, z), estimator))

    exact = jax.grad(loss)(logits, key, ex.Enumerate())
    found = {}
    for name, build in ESTIMATORS.items():
        noisy = lambda logits, key, build=build: loss(logits, key, build())
        moments = ex.gradient_moments(key, noisy, logits, num_draws=NUM_GRADIENTS)
        squared = jnp.sum((moments.mean - exact) ** 2) - jnp.sum(moments.variance) / NUM_GRADIENTS
        found[bias_name(name)] = jnp.sqrt(jnp.maximum(squared, 0.0) / jnp.sum(exact**2))
    return found


def plan(asked: Asked) -> Plan:
    """The experiment as asked for."""
    task = FourByEight(
        data=asked.one_of(DATA),
        data_dir=asked.data_dir,
        steps=asked.choose("steps", STEPS, 400),
        num_seeds=asked.choose("num_seeds", 5, 2),
        batch_size=50 if asked.quick else 200,
        hidden=(40, 20) if asked.quick else (512, 256),
        num_categories=4 if asked.quick else 8,
    )
    contenders = tuple(
        Contender(
            name,
            dataclasses.replace(task, estimator=name),
            "1 + 0",
            {"train_elbo": PUBLISHED[name]} if name in PUBLISHED and task.data == "mnist" else {},
            "theirs is of unknown length",
        )
        for name in ESTIMATORS
        if not asked.quick or name == "reinmax"
    )
    protocol = PROTOCOL.format(
        latents=task.num_latents, categories=task.num_categories, data=task.data,
        hidden=" and ".join(map(str, task.hidden)), batch=task.batch_size,
        steps=task.steps, seeds=task.seeds, draws=NUM_GRADIENTS,
        pictures=NUM_PICTURES,
    )  # fmt: skip
    return Plan(protocol, contenders, (*FIGURES, *BIASES), PANELS, 0, 0.5, counted=True)


EXPERIMENT = TrainingExperiment(
    NAME, "four variables of eight categories: bias against the exact gradient, and training", plan
)
