"""What the experiments that train VAEs on pictures have in common."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .. import plots, vae
from ..data import Dataset, load
from ..evaluate import gradient_variance
from ..task import AbstractTask, Values
from ._training_plot import Panel

BOUND_SAMPLES = 100
"""m of the bound at the end."""

NUM_GRADIENTS = 1000
"""Gradients drawn for the variance at the end, if there were as many steps."""

FIGURES = ("train_elbo", "test_elbo", f"test_bound_{BOUND_SAMPLES}", "gradient_variance")

PANELS = (
    Panel("train_elbo", "Train ELBO, nats a picture: mean ± s.e."),
    Panel("train_elbo", "The same, by the clock", clock=True),
    Panel("test_elbo", "Test ELBO, nats a picture"),
    Panel("gradient_variance", "Variance of the encoder's gradient, summed", log=True),
)

VAE_BLOCKS = {
    "data": "test pictures",
    "reconstructions": "reconstructions",
    "prior": "draws from the prior",
}
"""Of what `vae.pictures` makes, from left to right."""

_WORDS = {
    "train_elbo": "train ELBO",
    "test_elbo": "test ELBO",
    f"test_bound_{BOUND_SAMPLES}": f"test {BOUND_SAMPLES}-sample bound",
    "test_bound": "test −ELBO",
    "train_bound": "train −ELBO",
    "codes_in_use": "codes in use",
    "gradient_variance": "variance of the encoder's gradient",
}


class AbstractPictureTask(AbstractTask):
    """A model of pictures.

    Attributes:
        data: a key of `DATASETS`.
        data_dir: where its files lie.
        binarization: a key of `BINARIZATIONS`; None for the data set's own.
        blocks: what is drawn of `pictures`, from left to right, and what each is called.
    """

    data: str
    data_dir: pathlib.Path | None
    binarization: str | None
    blocks: ClassVar[Mapping[str, str]] = {}

    def load(self) -> Dataset:
        return load(self.data, self.data_dir, self.binarization)

    @property
    def every(self) -> int:
        # a point costs as much as some twenty steps
        return max(super().every, min(20, self.steps // 6))

    def draw(self, folder, data, rows, pictures, results):
        del rows
        if not self.blocks:
            return []
        path = folder / "samples.png"
        known = [*self.headline, *results]
        figure = next(n for n in known if n.startswith("test_") and n in results)
        value = f"{results[figure][0]:.2f} {self.unit(figure)}".replace("-", "−")
        title = f"{self.title}: {self.words(figure)} {value} after {self.steps:,} steps"
        blocks = {title: pictures[name] for name, title in self.blocks.items()}
        plots.draw_samples(path, blocks, data.shape, title)
        return [path]

    def words(self, name: str) -> str:
        return _WORDS.get(name) or super().words(name)

    def unit(self, name: str) -> str:
        return "nats a picture" if name.startswith(("test_", "train_")) else ""

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        task = super().from_json(stored)
        place = None if task.data_dir is None else pathlib.Path(task.data_dir)
        return dataclasses.replace(task, data_dir=place)  # type: ignore[type-var]


class AbstractVAETask(AbstractPictureTask):
    """A VAE whose gradient is estimated; what is learned has a `model`."""

    headline: ClassVar[tuple[str, ...]] = ("train_elbo", "test_elbo")
    blocks = VAE_BLOCKS

    def measure(self, key, learned, data):
        return self.points(key, learned, data, data.train[: len(data.test)], 5_000, 32)

    def finish(self, key, learned, data):
        points_key, bound_key = jax.random.split(key)
        rows, m = data.test, BOUND_SAMPLES
        bound = self.bound(bound_key, learned.model, data, rows, m)
        found = self.points(points_key, learned, data, data.train, 100_000, self.num_gradients)
        return found | {f"test_bound_{m}": bound}

    def pictures(self, key, learned, data):
        infer = functools.partial(self.posterior, learned.model)
        return vae.pictures(key, learned.model, infer, data)

    def posterior(self, model: Any, x: Array) -> Any:
        """q of what a picture is decoded from."""
        return model.posterior(x)

    @property
    def num_gradients(self) -> int:
        """How many are drawn for the variance at the end: short runs have shorter ends."""
        return min(NUM_GRADIENTS, self.steps)

    def points(
        self, key: Any, learned: Any, data: Dataset, train: Array, enough: int, gradients: int
    ) -> Values:
        """Bounds from hard draws, and the variance of the encoder's gradient, at this point.

        Arguments:
            key: consumed.
            learned: as the task has it.
            data: pictures.
            train: rows for the train ELBO.
            enough: draws, over all rows, that make a mean smooth: with few rows, more for each,
                up to 20.
            gradients: drawn for the variance, for a batch of the first training pictures.
        """
        train_key, test_key, x_key, key = jax.random.split(key, 4)
        x = data.binarize(x_key, data.train[: self.batch_size])
        each = lambda rows: min(20, max(1, enough // len(rows)))
        elbo = lambda key, rows: self.elbo(key, learned.model, data, rows, each(rows))
        return {
            "train_elbo": elbo(train_key, train),
            "test_elbo": elbo(test_key, data.test),
            "gradient_variance": self.variance(key, learned, x, gradients),
        }

    def elbo(self, key: Any, model: Any, data: Dataset, rows: Array, num_samples: int) -> Array:
        """The mean ELBO of rows of pictures from hard draws, `num_samples` for each."""
        return vae.mean_elbo(key, model, data, rows, num_samples)

    def bound(self, key: Any, model: Any, data: Dataset, rows: Array, num_samples: int) -> Array:
        """The mean m-sample bound of rows of pictures; m is `num_samples`."""
        return vae.mean_bound(key, model, data, rows, num_samples)

    def encoder(self, learned: Any) -> Any:
        """The part of what is learned of whose gradient the variance is measured."""
        return learned.model.encoder

    def variance(self, key: Any, learned: Any, x: Array, num_gradients: int) -> Array:
        """The variance of the encoder's gradient for a batch, summed over its parameters."""
        loss = eqx.Partial(self._of_batch, x)
        return gradient_variance(key, loss, learned, self.encoder, num_gradients)

    def _of_batch(self, x: Array, learned: Any, key: Any) -> Array:
        return self.objective(learned, x, key, jnp.asarray(self.steps))
