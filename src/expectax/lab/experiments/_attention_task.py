"""Runs of hard attention: digits by glimpses, and through a mask over patches."""

import abc
import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

import expectax as ex

from ...distributions import joint
from ...models import GlimpseNetwork, PatchMask, Retina, glimpse_network, patch_mask
from ...objectives import (
    AbstractLocationGradient,
    PathwiseLocations,
    ScoreLeaveOneOut,
    ScoreWithBaseline,
    glimpse_loss,
    masked_loss,
    mistake,
    surprise,
)
from ..evaluate import mean_over_rows
from ..task import Values
from ._attention_plot import draw_masks, draw_paths
from ._fields import Field
from ._vae_tasks import AbstractPictureTask

NUM_CLASSES = 10
NUM_SHOWN = 24

GRADIENTS: dict[str, Callable[[int], AbstractLocationGradient]] = {
    "baseline": lambda num: ScoreWithBaseline(num, locator_alone=True),
    "leave-one-out": lambda num: ScoreLeaveOneOut(2 * num, locator_alone=True),
    "pathwise": PathwiseLocations,
}
"""Of locations, from the number of rollouts."""

ESTIMATORS: dict[str, Callable[[], ex.AbstractEstimator]] = {
    "disarm": ex.DisARM,
    "leave-one-out": lambda: ex.LeaveOneOut(2),
    "straight-through-gumbel-softmax": lambda: ex.StraightThroughGumbelSoftmax(0.5),
}
"""Of masks."""

_PLACES = 2014  # the key with which every run puts the test pictures at the same places


@dataclasses.dataclass(frozen=True)
class AbstractDigits(AbstractPictureTask):
    """Classify digits, as they are or somewhere in a larger field, by a model that is learned.

    Attributes:
        field: width of the field, in pixels; None for the pictures as they are.
        num_pieces: of other digits in the field.
        learning_rate: of Adam at the start; it falls to 0 as a cosine.
        points: of the curves.
    """

    data: str = "mnist"
    data_dir: pathlib.Path | None = None
    binarization: str | None = "grey"
    field: int | None = None
    num_pieces: int = 0
    steps: int = 20_000
    batch_size: int = 100
    seed: int = 0
    num_seeds: int = 1
    learning_rate: float = 1e-3
    points: int = 20
    headline: ClassVar[tuple[str, ...]] = ("test_error",)

    @abc.abstractmethod
    def look(
        self, key: PRNGKeyArray | None, learned: Any, x: Float[Array, "B P"]
    ) -> tuple[Float[Array, "B C"], Float[Array, "B ..."]]:
        """Logits of the classes, and where it looked: drawn; without a key, the likeliest."""

    def width(self, data: Any) -> int:
        """Of the pictures that the model is given."""
        return self.field or data.shape[0]

    def place(self, key: PRNGKeyArray, data: Any, x: Array) -> Array:
        """Pictures as the model sees them: each in a field, if there is one."""
        if self.field is None:
            return x
        return Field(self.field, self.num_pieces).place(key, x, data.train)

    def batch(self, key, data, rows):
        bits_key, place_key = jax.random.split(key)
        x = data.binarize(bits_key, data.train[rows])
        return self.place(place_key, data, x), data.train_labels[rows]

    def optimizers(self):
        import optax

        return {"": optax.adam(optax.cosine_decay_schedule(self.learning_rate, self.steps))}

    @property
    def every(self) -> int:
        return max(1, self.steps // self.points)

    def tested(self, key: PRNGKeyArray, learned: Any, data: Any, drawn: bool) -> Values:
        """Mean figures of all test pictures, which lie where they always lie."""
        places = jax.random.split(jax.random.key(_PLACES), len(data.test))

        def of_row(key: Array, row: Any) -> Values:
            picture, y, place_key = row
            x = self.place(place_key, data, data.binarize(place_key, picture)[None])
            logits, chosen = self.look(key if drawn else None, learned, x)
            wrong = 100 * mistake(logits, y[None])[0]
            found = {"test_error": wrong, "test_nats": surprise(logits, y[None])[0]}
            return found | self.remarks(chosen)

        return mean_over_rows(key, (data.test, data.test_labels, places), of_row)

    def remarks(self, chosen: Any) -> Values:
        """Further figures of the choice made for one picture."""
        del chosen
        return {}

    def measure(self, key, learned, data):
        return self.tested(key, learned, data, drawn=True)

    def finish(self, key, learned, data):
        found = self.tested(key, learned, data, drawn=True)
        sure = self.tested(key, learned, data, drawn=False)
        share = found["test_error"] / 100
        spread = 100 * jnp.sqrt(share * (1 - share) / len(data.test))
        return found | {"likeliest_error": sure["test_error"], "binomial_error": spread}

    def pictures(self, key, learned, data):
        rows = jnp.linspace(0, len(data.test) - 1, NUM_SHOWN).astype(int)
        places = jax.random.split(jax.random.key(_PLACES), len(data.test))[rows]
        place = lambda key, row: self.place(key, data, data.binarize(key, row)[None])[0]
        x = jax.vmap(place)(places, data.test[rows])
        logits, chosen = self.look(key, learned, x)
        guesses = jnp.argmax(logits, axis=-1)
        return {"x": x, "guesses": guesses, "labels": data.test_labels[rows], "chosen": chosen}

    def _headline(self, results: Mapping[str, list[float]]) -> str:
        error = np.mean(results["test_error"])
        return f"{self.title}: {error:.2f} % test error after {self.steps:,} steps"

    def words(self, name: str) -> str:
        known = {
            "test_error": "test error",
            "likeliest_error": "test error, looking at the likeliest",
            "binomial_error": "binomial s.e. of one seed's test error",
            "test_nats": "test −log p(class)",
            "shown": "patches shown",
        }
        return known.get(name) or super().words(name)

    def unit(self, name: str) -> str:
        return "nats" if name == "test_nats" else "%"


@dataclasses.dataclass(frozen=True)
class ByGlimpses(AbstractDigits):
    """A recurrent network that looks here and there.

    Attributes:
        gradient: of the locations, a key of `GRADIENTS`.
        num_rollouts: sequences of glimpses at each picture of a batch; for "leave-one-out" twice
            as many.
        num_glimpses: in a sequence.
        size: of a glimpse, in pixels.
        num_scales: of a glimpse.
        spread: standard deviation of a location; half the picture is 1.
        num_features, hidden, num_states: sizes of the network.
    """

    gradient: str = "baseline"
    num_rollouts: int = 1
    num_glimpses: int = 6
    size: int = 8
    num_scales: int = 3
    spread: float = 0.15
    num_features: int = 128
    hidden: int = 128
    num_states: int = 256

    def init(self, key, data):
        retina = Retina(self.width(data), self.size, self.num_scales)
        return glimpse_network(
            jax.random.fold_in(key, 2),
            retina,
            NUM_CLASSES,
            num_features=self.num_features,
            hidden=self.hidden,
            num_states=self.num_states,
            spread=self.spread,
        )

    def objective(self, learned, batch, key, step):
        del step
        x, y = batch
        how = GRADIENTS[self.gradient](self.num_rollouts)
        return jnp.mean(glimpse_loss(key, learned, x, y, how, self.num_glimpses))

    def look(self, key, learned: GlimpseNetwork, x):
        shape = (self.num_glimpses, len(x), 2)
        noise = jnp.zeros(shape) if key is None else jax.random.normal(key, shape)
        path = learned.look(x, noise)
        return path.class_logits, path.locations

    def draw(self, folder, data, rows, pictures, results):
        del rows
        path = folder / "looks.png"
        width = self.width(data)
        draw_paths(path, self._headline(results), width, self.size / width, **pictures)
        return [path]

    @property
    def title(self) -> str:
        return f"hard-attention, {self.num_glimpses} glimpses, {self.gradient}"


@dataclasses.dataclass(frozen=True)
class ByMask(AbstractDigits):
    """A network that sees the patches which an encoder shows.

    Attributes:
        estimator: of the mask, a key of `ESTIMATORS`.
        size: of a patch, in pixels.
        price: of each patch that is shown, in nats, from the middle of the run on; it rises from 0.
            As long as the classifier knows nothing, every patch is too dear.
        shown: the chance with which a patch is shown at first.
        hidden: units of the hidden layers, of the encoder and of the classifier.
    """

    estimator: str = "disarm"
    size: int = 4
    price: float = 0.01
    shown: float = 0.9
    hidden: tuple[int, ...] = (256,)

    def init(self, key, data):
        key = jax.random.fold_in(key, 2)
        width = self.width(data)
        return patch_mask(key, width, self.size, NUM_CLASSES, self.hidden, self.shown)

    def objective(self, learned, batch, key, step):
        x, y = batch
        price = self.price * jnp.minimum(1.0, 2 * step / self.steps)
        estimator = ESTIMATORS[self.estimator]()
        return jnp.mean(masked_loss(key, learned, x, y, estimator, price))

    def look(self, key, learned: PatchMask, x):
        law = joint(learned.mask_law(x))
        likeliest = lambda: (law.logits > 0).astype(x.dtype)
        b = likeliest() if key is None else law.sample(key, 1)[0]
        return learned.class_logits(x, b), b

    def draw(self, folder, data, rows, pictures, results):
        del rows
        path = folder / "looks.png"
        draw_masks(path, self._headline(results), self.width(data), self.size, **pictures)
        return [path]

    def remarks(self, chosen):
        return {"shown": 100 * jnp.mean(chosen)}

    @property
    def title(self) -> str:
        return f"hard-attention, mask, {self.estimator}"
