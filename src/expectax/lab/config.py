"""What a training run is: every choice that changes its numbers."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, ClassVar

from jaxtyping import Array, Float, PRNGKeyArray

from .._errors import complain
from ..models import AbstractVAE, categorical_vae, linear_vae, nonlinear_vae
from . import vae
from .data import DATASETS, Dataset, chosen_binarization, load
from .errors import UsageError, unknown
from .estimators import OPTIONS, RECIPES, options_of
from .task import AbstractTask, at_least, impossible

MODELS: dict[str, tuple[Callable[..., AbstractVAE], tuple[str, ...]]] = {
    "linear": (linear_vae, ("num_latents",)),
    "nonlinear": (nonlinear_vae, ("num_latents",)),
    "categorical": (categorical_vae, ("num_latents", "num_categories")),
}
"""Builders of models from a key, the mean picture and options; and the options they have."""


BOUND_SAMPLES = 100
"""m of the bound at the end."""


@dataclasses.dataclass(frozen=True)
class TrainConfig(AbstractTask):
    """A VAE on pictures. Options of model and estimator left out take their own defaults."""

    model: str = "linear"
    """linear, nonlinear (both with binary latents) or categorical"""
    data: str = "digits"
    """digits (comes with the installation), mnist, fashion, static-mnist, omniglot,
    omniglot-chardata or nltcs; `expectax data` shows all"""
    data_dir: pathlib.Path | None = None
    """folder with the published files of the data set, or the folder above it; by default
    EXPECTAX_DATA_DIR or the user's cache, where they are downloaded"""
    binarization: str | None = None
    """static, dynamic (afresh at each use), threshold or grey; by default the data set's own"""
    estimator: str = "disarm"
    """how the gradient is estimated; `expectax list` shows all, with their options"""
    steps: int = 40_000
    """optimiser steps"""
    batch_size: int = 50
    """pictures a step"""
    learning_rate: float = 1e-3
    """of Adam, for the model"""
    control_rate: float = 10.0
    """how much faster baselines and control variates learn"""
    prior_rate: float | None = None
    """of plain gradient descent on the prior's logits; by default they learn as the model does"""
    beta2: float = 0.999
    """of Adam: how long it remembers squared gradients"""
    seed: int = 0
    """of initial weights, data order and draws"""
    num_seeds: int = 1
    """train this many independent copies at once"""
    num_latents: int | None = None
    """latent variables of the model"""
    num_categories: int | None = None
    """categories of each latent variable (categorical)"""
    num_samples: int | None = None
    """draws a step (leave-one-out, score-function, pathwise)"""
    num_pairs: int | None = None
    """antithetic pairs a step (disarm)"""
    num_variables: int | None = None
    """variables changed a step (bit-flip)"""
    num_inner: int | None = None
    """conditional noises averaged over for each draw (gumbel-rao)"""
    num_top: int | None = None
    """most likely outcomes that are summed (sum-and-sample)"""
    temperature: float | None = None
    """of the relaxation (rebar: where it starts; gumbel-softmax and straight-through of it)"""
    scale: float | None = None
    """of the control variate, where it starts (rebar, muprop)"""
    epsilon: float | None = None
    """of the perturbation (direct-argmax)"""
    gap: float | None = None
    """between the winner's logit and the others' (gapped-straight-through)"""
    step: float | None = None
    """of the parameters (finite-difference)"""
    baseline: str | None = None
    """none, constant or network (score-function, muprop, rebar)"""
    hidden: int | None = None
    """width of the two hidden layers of the control variate (relax)"""
    normalize: bool | None = None
    """divide the learning signal by its learned size where that is above 1 (nvil)"""

    headline: ClassVar[tuple[str, ...]] = ("train_elbo", "test_elbo")

    def check(self) -> None:
        """Raise UsageError unless every choice is one that exists and every number can work."""
        super().check()
        if self.model not in MODELS:
            raise unknown("model", self.model, list(MODELS))
        if self.data not in DATASETS:
            raise unknown("data set", self.data, list(DATASETS))
        chosen_binarization(self.data, self.binarization)
        counts = ("num_samples", "num_pairs", "num_variables", "num_inner")
        for name in ("num_latents", *counts, "hidden"):
            at_least(name, getattr(self, name), 1)
        at_least("num_categories", self.num_categories, 2)
        for name in ("learning_rate", "control_rate", "prior_rate"):
            rate = getattr(self, name)
            # ten times it still fits single precision
            if rate is not None and not 0 < rate < 1e37:
                raise impossible(name, rate, "a number above zero, such as 1e-3")
        if not 0 < self.beta2 < 1:
            raise impossible("beta2", self.beta2, "a number between 0 and 1, such as 0.999")
        self.model_options()
        self.estimator_options()

    def estimator_options(self) -> dict[str, Any]:
        """All options of the estimator."""
        given = {name: getattr(self, name) for name in OPTIONS}
        return options_of(self.estimator, given)

    def model_options(self) -> dict[str, Any]:
        """The options of the model that were given."""
        names = ("num_latents", "num_categories")
        given = {n: getattr(self, n) for n in names if getattr(self, n) is not None}
        known = MODELS[self.model][1]
        for name in given:
            if name not in known:
                flag = name.replace("_", "-")
                raise UsageError(
                    complain(
                        f"model {self.model} has no option --{flag}",
                        "its latents have no such thing",
                        "drop it, or pass --model categorical",
                    )
                )
        return given

    def make_model(self, key: PRNGKeyArray, mean: Float[Array, "P"]) -> AbstractVAE:
        """The model with its initial weights. The key is consumed."""
        return MODELS[self.model][0](key, mean, **self.model_options())

    def load(self) -> Dataset:
        return load(self.data, self.data_dir, self.binarization)

    def init(self, key, data):
        options = self.estimator_options()
        return vae.begin(key, data, self.make_model, self.estimator, options)

    def objective(self, learned, batch, key, step):
        del step
        return vae.objective(learned, batch, key)

    def optimizers(self):
        import optax

        adam = lambda rate: optax.adam(rate, b2=self.beta2)
        parts = {
            "model": adam(self.learning_rate),
            "estimator": adam(self.control_rate * self.learning_rate),
        }
        if self.prior_rate is not None:
            parts["model.prior_logits"] = optax.sgd(self.prior_rate)
        return parts

    def measure(self, key, learned, data):
        return vae.curves(key, learned, data, self.batch_size)

    def evaluations(self, learned, batch):
        return vae.evaluations(learned, batch)

    def finish(self, key, learned, data):
        model, rows = learned.model, data.test
        return {
            "test_elbo": vae.mean_elbo(key, model, data, rows, num_samples=10),
            f"test_bound_{BOUND_SAMPLES}": vae.mean_bound(key, model, data, rows, BOUND_SAMPLES),
        }

    def pictures(self, key, learned, data):
        return vae.pictures(key, learned.model, learned.model.posterior, data)

    def draw(self, folder, data, rows, pictures, results):
        from . import plots

        made = folder / "curves.png", folder / "samples.png"
        plots.draw_curves(made[0], rows, self.title)
        blocks = {
            "Test pictures": pictures["data"],
            "Their reconstructions": pictures["reconstructions"],
            "Draws from the prior": pictures["prior"],
        }
        bound = f"test ELBO {results['test_elbo'][0]:.1f} nats".replace("-", "−")
        plots.draw_samples(made[1], blocks, data.shape, f"{self.title}: {bound}")
        return list(made)

    @property
    def title(self) -> str:
        return f"{self.model} VAE on {self.data}, {RECIPES[self.estimator].estimator.__name__}"

    def words(self, name: str) -> str:
        known = {
            "train_elbo": "train ELBO",
            "test_elbo": "test ELBO",
            f"test_bound_{BOUND_SAMPLES}": f"test {BOUND_SAMPLES}-sample bound",
        }
        return known.get(name, super().words(name))

    def unit(self, name: str) -> str:
        return "nats a picture" if name.startswith(("test_", "train_")) else ""

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "TrainConfig":
        config = super().from_json(stored)
        data_dir = None if config.data_dir is None else pathlib.Path(config.data_dir)
        return dataclasses.replace(config, data_dir=data_dir)
