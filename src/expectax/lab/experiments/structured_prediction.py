"""The lower half of a digit from its upper half, through two layers of random bits.

Reference: Raiko, Berglund, Alain & Dinh (2015), "Techniques for learning binary stochastic
feedforward neural networks", section 4; Gu et al. (2016); Jang, Gu & Poole (2017), section 4.1; Yin
& Zhou (2019), "ARM: augment-REINFORCE-merge gradient for stochastic binary networks", section 4.3.
"""

import dataclasses
import pathlib
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ...models import StructuredPrediction, halves, structured_prediction
from ...objectives import prediction_bound, prediction_loss
from .. import estimators
from ..data import Dataset
from ..evaluate import gradient_variance, mean_over_rows
from ..task import Values
from ._training import TrainingExperiment
from ._training_plan import Asked, Contender, Plan
from ._training_plot import Panel
from ._vae_tasks import AbstractPictureTask

NAME = "structured-prediction"
STEPS = 1_100_000
DATA = ("mnist",)
NUM_SHOWN = 36

CONTENDERS = {
    "arm": ("4 + 0", "57.9"),
    "disarm": ("4 + 0", ""),
    "straight-through": ("1 + 0", "58.9"),
    "straight-through-gumbel-softmax": ("1 + 0", "59.3"),
    "score-function": ("1 + 0", "72.0"),
}
"""Evaluations, and the published test NLL from 1,000 draws."""

BLOCKS = {
    "data": "test digits",
    "first": "one guess of the lower half",
    "second": "another guess",
    "mean": "the mean of 100",
}
"""Of the picture, by what `completions` calls them, from left to right."""

PROTOCOL = (
    "The lower half of a digit from its upper half, {data} rounded at ½: {sizes} bits between "
    "affine maps, input minus its mean, bits enter as 2b − 1, the decoder starts at the logit of "
    "the mean. Trained is the bound of one draw; batch {batch}, {steps:,} steps of Adam {rate:g}, "
    "{seeds}. Gumbel-Softmax temperature ½; the score function has one learned constant as "
    "its baseline (Adam 1e-3). NLL is −log of the mean likelihood of {samples:,} draws, over all "
    "test pictures, after the last step; the bounds of one draw are from hard draws. f: "
    "evaluations of log p(y | z) for one step, at hard draws + elsewhere: ARM and DisARM have two "
    "draws in each layer. The variance is that of {gradients} gradients of one batch, in the two "
    "maps before the decoder, at each contender's own parameters. The published runs have 2,000 "
    "epochs of 550 steps at most and stop where validation is best; the published program of ARM "
    "has a hidden layer of 300 units in each map besides, and how the score function's baseline "
    "was made is not known to us."
)


class Learned(eqx.Module):
    """What the optimisers train."""

    model: StructuredPrediction
    estimator: estimators.AbstractFactory


@dataclasses.dataclass(frozen=True)
class LowerHalf(AbstractPictureTask):
    """One contender's run."""

    estimator: str = "arm"
    data: str = "mnist"
    data_dir: pathlib.Path | None = None
    binarization: str | None = "threshold"
    steps: int = STEPS
    batch_size: int = 100
    seed: int = 0
    num_seeds: int = 5
    sizes: tuple[int, ...] = (200, 200)
    hidden: tuple[int, ...] = ()
    learning_rate: float = 1e-4
    control_rate: float = 1e-3
    num_samples: int = 1000
    """draws of the NLL at the end"""
    num_gradients: int = 200
    """of which the variance is, at the end"""
    headline: ClassVar[tuple[str, ...]] = ("train_loss", "test_loss")
    blocks = BLOCKS

    def init(self, key, data):
        model_key, factory_key, loss_key = (jax.random.fold_in(key, i) for i in range(2, 5))
        mean, mean_output = halves(data.mean)
        model = structured_prediction(model_key, mean, mean_output, self.sizes, self.hidden)
        x, y = halves(data.binarize(loss_key, data.train[: 2 * self.batch_size]))
        costs = -prediction_bound(loss_key, model, x, y, 1)
        setting = estimators.Setting(
            key=factory_key,
            center=mean,
            draw=jnp.zeros(self.sizes[0]),
            typical=jnp.mean(costs),
            spread=jnp.maximum(jnp.std(costs), 1e-3),
        )
        return Learned(model, estimators.build(self.estimator, setting, {}))

    def objective(self, learned, batch, key, step):
        del step
        x, y = halves(batch)
        return jnp.mean(prediction_loss(key, learned.model, x, y, learned.estimator(x)))

    def optimizers(self):
        import optax

        return {"": optax.adam(self.learning_rate), "estimator": optax.adam(self.control_rate)}

    def measure(self, key, learned, data):
        test_key, key = jax.random.split(key)
        points = self._points(key, learned, data, data.train[: len(data.test)], 16)
        return points | {"test_loss": nll(test_key, learned.model, data, data.test, 1)}

    def finish(self, key, learned, data):
        test_key, key = jax.random.split(key)
        points = self._points(key, learned, data, data.train, self.num_gradients)
        found = nll(test_key, learned.model, data, data.test, self.num_samples)
        return points | {f"test_nll_{self.num_samples}": found}

    def _points(
        self, key: Array, learned: Learned, data: Dataset, train: Array, gradients: int
    ) -> Values:
        """The bound of one draw, and the variance of the gradient in the maps to the bits."""
        train_key, x_key, key = jax.random.split(key, 3)
        x = data.binarize(x_key, data.train[: self.batch_size])
        loss = eqx.Partial(self._of_batch, x)
        where = lambda learned: learned.model.networks
        return {
            "train_loss": nll(train_key, learned.model, data, train, 1),
            "gradient_variance": gradient_variance(key, loss, learned, where, gradients),
        }

    def _of_batch(self, x: Array, learned: Learned, key: Array) -> Array:
        return self.objective(learned, x, key, jnp.asarray(self.steps))

    def pictures(self, key, learned, data):
        return completions(key, learned.model, data)

    def words(self, name: str) -> str:
        known = {
            f"test_nll_{self.num_samples}": f"test NLL, {self.num_samples:,} draws",
            "train_loss": "train −bound of one draw",
            "test_loss": "test −bound of one draw",
            "gradient_variance": "variance of the gradient before the decoder",
        }
        return known.get(name) or super().words(name)

    @property
    def title(self) -> str:
        return f"{NAME}, {self.estimator}"


def nll(
    key: PRNGKeyArray, model: StructuredPrediction, data: Dataset, rows: Array, num_samples: int
) -> Float[Array, ""]:
    """−log of the mean likelihood of `num_samples` draws, in nats a picture, mean over rows."""

    def of_row(key: Array, row: Array) -> Array:
        x_key, key = jax.random.split(key)
        x, y = halves(data.binarize(x_key, row))
        return -prediction_bound(key, model, x, y, num_samples)

    return mean_over_rows(key, rows, of_row)


def completions(key: PRNGKeyArray, model: StructuredPrediction, data: Dataset) -> dict[str, Array]:
    """Test digits, and their upper halves with guesses of the lower ones below."""
    x_key, key = jax.random.split(key)
    rows = data.test[jnp.linspace(0, len(data.test) - 1, NUM_SHOWN).astype(int)]
    upper, lower = halves(data.binarize(x_key, rows))
    guesses = model.predict(key, upper, 100)
    under = lambda guess: jnp.concatenate([upper, guess], axis=-1)
    return {
        "data": under(lower),
        "first": under(guesses[0]),
        "second": under(guesses[1]),
        "mean": under(jnp.mean(guesses, axis=0)),
    }


def plan(asked: Asked) -> Plan:
    """The experiment as asked for."""
    data = asked.one_of(DATA)
    quick: dict[str, Any] = {"sizes": (16, 16), "num_samples": 20, "learning_rate": 1e-2}
    task = LowerHalf(
        data=data,
        data_dir=asked.data_dir,
        steps=asked.choose("steps", STEPS, 400),
        num_seeds=asked.choose("num_seeds", 5, 2),
        **(quick if asked.quick else {}),
    )
    figure = f"test_nll_{task.num_samples}"
    contenders = tuple(
        Contender(
            name,
            dataclasses.replace(task, estimator=name),
            evaluations,
            {figure: published} if published and data == "mnist" else {},
            "theirs stops where validation is best",
        )
        for name, (evaluations, published) in CONTENDERS.items()
        if not asked.quick or name == "straight-through"
    )
    protocol = PROTOCOL.format(
        data=data, sizes="–".join(map(str, task.sizes)), batch=task.batch_size, steps=task.steps,
        seeds=task.seeds, samples=task.num_samples, gradients=task.num_gradients,
        rate=task.learning_rate,
    )  # fmt: skip
    panels = (
        Panel("test_loss", "Test −bound of one draw, nats: mean ± s.e."),
        Panel("test_loss", "The same, by the clock", clock=True),
        Panel("gradient_variance", "Variance of the gradient before the decoder", log=True),
    )
    figures = (figure, "train_loss", "gradient_variance")
    return Plan(protocol, contenders, figures, panels, STEPS, tolerance=0.3, counted=True)


EXPERIMENT = TrainingExperiment(
    NAME, "half a digit from the other through two layers of bits: ARM and straight-through", plan
)
