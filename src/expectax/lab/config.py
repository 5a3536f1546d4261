"""What a training run is: every choice that changes its numbers."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float, PRNGKeyArray

from .._errors import complain
from ..models import AbstractVAE, categorical_vae, linear_vae, nonlinear_vae
from .data import DATASETS
from .errors import UsageError, unknown
from .estimators import OPTIONS, options_of

MODELS: dict[str, tuple[Callable[..., AbstractVAE], tuple[str, ...]]] = {
    "linear": (linear_vae, ("num_latents",)),
    "nonlinear": (nonlinear_vae, ("num_latents",)),
    "categorical": (categorical_vae, ("num_latents", "num_categories")),
}
"""Builders of models from a key, the mean picture and options; and the options they have."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A training run. Options of the model and the estimator left out take their own defaults."""

    model: str = "linear"
    """linear, nonlinear (both with binary latents) or categorical"""
    data: str = "digits"
    """digits (comes with the installation), mnist, fashion, static-mnist, omniglot,
    omniglot-chardata or nltcs; `expectax data` shows all"""
    data_dir: pathlib.Path | None = None
    """folder with the published files of the data set, or the folder above it; by default
    EXPECTAX_DATA_DIR or the user's cache, where they are downloaded"""
    estimator: str = "disarm"
    """how the gradient is estimated; `expectax list` shows all, with their options"""
    steps: int = 40_000
    """optimiser steps"""
    batch_size: int = 50
    """pictures a step"""
    learning_rate: float = 1e-3
    """of Adam, for the model; baselines and control variates learn ten times as fast"""
    seed: int = 0
    """of initial weights, data order and draws"""
    num_seeds: int = 1
    """train this many independent copies in one program"""
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

    def check(self) -> None:
        """Raise UsageError unless every choice is one that exists and every number can work."""
        if self.model not in MODELS:
            raise unknown("model", self.model, list(MODELS))
        if self.data not in DATASETS:
            raise unknown("data set", self.data, list(DATASETS))
        counts = ("num_samples", "num_pairs", "num_variables", "num_inner")
        for name in ("steps", "batch_size", "num_seeds", "num_latents", *counts):
            self._at_least(name, 1)
        self._at_least("num_categories", 2)
        self._at_least("hidden", 1)
        self._at_least("seed", 0)
        if not 0 < self.learning_rate < 1e37:  # ten times it still fits single precision
            raise _bad("learning_rate", self.learning_rate, "a number above zero, such as 1e-3")
        self.model_options()
        self.estimator_options()

    def _at_least(self, name: str, least: int) -> None:
        given = getattr(self, name)
        if given is not None and given < least:
            raise _bad(name, given, f"a whole number of at least {least}")

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

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        out = dataclasses.asdict(self)
        return out | {"data_dir": None if self.data_dir is None else str(self.data_dir)}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "TrainConfig":
        """The config that `to_json` wrote."""
        config = cls(**stored)
        data_dir = None if config.data_dir is None else pathlib.Path(config.data_dir)
        return dataclasses.replace(config, data_dir=data_dir)


def _bad(name: str, given: Any, instead: str) -> UsageError:
    flag = "--" + name.replace("_", "-")
    return UsageError(complain(f"{flag} is {given}", "that cannot be trained", f"pass {instead}"))
