"""The run of one contender: few labels, many pictures, and two views of each."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

import expectax as ex

from ...models import LabelledMixture, labelled_mixture
from .. import vae
from ..evaluate import mean_over_rows
from ..task import Values, impossible
from ._direct_optimization import kl_to_uniform
from ._semi_supervised_views import Views
from ._vae_tasks import AbstractPictureTask

VIEWS = {
    "mnist": Views(turn=0.26, zoom=0.15, slant=0.2, move=2.5),
    "fashion": Views(turn=0.04, zoom=0.05, slant=0.025, move=1.0, mirror=True),
    "digits": Views(turn=0.15, zoom=0.1, slant=0.1, move=0.7),
}
"""What does not change a picture's class: digits may not be mirrored, nor clothes turned far."""

NUM_CLASSES = 10

ESTIMATORS: dict[str, Callable[[float], ex.AbstractEstimator]] = {
    "direct": lambda epsilon: ex.DirectArgmax(epsilon, two_sided=True),
    "gumbel-softmax": lambda _: ex.GumbelSoftmax(0.5),
    "straight-through": lambda _: ex.StraightThrough(),
    "exact": lambda _: ex.Enumerate(),
}
"""From direct optimization's ε, which a cost's unit decides."""

_EARLY = 2_000  # test pictures that a point of the curves is from; the table's figures are of all


class Learned(eqx.Module):
    """What is trained, and a seed's labelled pictures, which are not.

    Attributes:
        model: the model.
        pictures: as bytes.
        labels: theirs.
    """

    model: LabelledMixture
    pictures: UInt8[Array, "L P"]
    labels: Int[Array, "L"]


@dataclasses.dataclass(frozen=True)
class FewLabels(AbstractPictureTask):
    """One contender's run.

    Attributes:
        estimator: of the label's expectations: "exact", "direct", "gumbel-softmax" or
            "straight-through".
        num_labels: as many of each class.
        hidden: units of each hidden layer.
        num_style: D.
        learning_rate: of Adam at the start; it falls to 0 as a cosine.
        label_batch: labelled pictures a step.
        label_weight: of all losses of labels beside −ELBO.
        surprise: weight of −log q(y | x) of labelled pictures, beside the chance of a wrong label.
        agreement: weight of the cross-entropy of two views of a picture, among these losses.
        balance: weight of KL(mean of q(y | x) ‖ uniform), likewise; the target is balanced too.
        distort: whether labelled pictures are seen as views of themselves.
    """

    estimator: str = "exact"
    num_labels: int = 100
    data: str = "mnist"
    data_dir: pathlib.Path | None = None
    binarization: str | None = "threshold"
    steps: int = 2_500
    batch_size: int = 100
    seed: int = 0
    num_seeds: int = 5
    hidden: int = 400
    num_style: int = 50
    learning_rate: float = 2e-3
    label_batch: int = 50
    label_weight: float = 50.0
    surprise: float = 1.0
    agreement: float = 4.0
    balance: float = 1.0
    distort: bool = True
    headline: ClassVar[tuple[str, ...]] = ("test_accuracy", "test_bound")
    blocks: ClassVar[Mapping[str, str]] = {
        "data": "test pictures",
        "reconstructions": "reconstructions",
        "classes": "draws, a column for each class",
    }

    def check(self) -> None:
        super().check()
        if self.num_labels < NUM_CLASSES or self.num_labels % NUM_CLASSES:
            raise impossible("num_labels", self.num_labels, f"a multiple of {NUM_CLASSES}")

    def load(self):
        data = super().load()
        fewest = min(int(jnp.sum(data.train_labels == c)) for c in range(NUM_CLASSES))
        if self.num_labels > NUM_CLASSES * fewest:
            instead = f"at most {NUM_CLASSES * fewest}, for a class of {self.data} has no more"
            raise impossible("num_labels", self.num_labels, instead)
        return data

    def init(self, key, data):
        model_key, label_key = jax.random.split(jax.random.fold_in(key, 2))
        rows = balanced_rows(label_key, data.train_labels, self.num_labels)
        model = labelled_mixture(model_key, data.mean, NUM_CLASSES, self.num_style, self.hidden)
        return Learned(model, data.train[rows], data.train_labels[rows])

    def objective(self, learned, batch, key, step):
        bound_key, seen_key, label_key, view_key = jax.random.split(key, 4)
        model, estimator = learned.model, ESTIMATORS[self.estimator](1.0)
        x, y = self._labelled(seen_key, learned)
        seen = model.label_posterior(x)
        # objectives.label_loss, of a q that is needed again
        wrong = ex.expect(label_key, seen, lambda drawn: 1 - jnp.sum(drawn * y, axis=-1), estimator)
        losses = jnp.mean(wrong + self.surprise * cross_entropy(y, seen.logits))
        q = model.label_posterior(batch)
        if self.agreement:
            other = model.label_posterior(self.view(view_key, batch))
            target = wanted(q.probs, self.balance > 0)
            ramp = jnp.minimum(1.0, step / (0.2 * self.steps))  # first the labels say what is what
            losses += self.agreement * ramp * jnp.mean(cross_entropy(target, other.logits))
        if self.balance:
            losses += self.balance * kl_to_uniform(jnp.log(jnp.mean(q.probs, axis=0)))
        bound = neg_elbo(bound_key, model, batch, q, ESTIMATORS[self.estimator](0.1))
        return jnp.mean(bound) + self.label_weight * losses

    def _labelled(self, key: PRNGKeyArray, learned: Learned) -> tuple[Array, Array]:
        """Some of the labelled pictures, and their labels, one-hot."""
        rows_key, view_key = jax.random.split(key)
        rows = jax.random.randint(rows_key, (self.label_batch,), 0, self.num_labels)
        x = learned.pictures[rows].astype(jnp.float32)
        y = jax.nn.one_hot(learned.labels[rows], NUM_CLASSES)
        return (self.view(view_key, x) if self.distort else x), y

    def view(self, key: PRNGKeyArray, x: Float[Array, "B P"]) -> Float[Array, "B P"]:
        """Another view of each picture."""
        return VIEWS[self.data].draw(key, x)

    def optimizers(self):
        import optax

        return {"": optax.adam(optax.cosine_decay_schedule(self.learning_rate, self.steps))}

    def measure(self, key, learned, data):
        return figures(key, learned.model, data.test[:_EARLY], data.test_labels[:_EARLY])

    def finish(self, key, learned, data):
        return figures(key, learned.model, data.test, data.test_labels)

    def pictures(self, key, learned, data):
        model, (key, style_key) = learned.model, jax.random.split(key)
        style = model.style_prior().sample(style_key, (NUM_CLASSES,))
        drawn = model.vae.decode(style).reshape(-1, data.mean.size)
        known = vae.pictures(key, model.vae, model.vae.posterior, data)
        return known | {"classes": drawn}

    @property
    def every(self) -> int:
        return max(1, self.steps // 10)  # a look at 2,000 test pictures costs as much as 30 steps

    @property
    def title(self) -> str:
        return f"semi-supervised, {self.estimator}, {self.num_labels} labels"

    def words(self, name):
        return {"test_accuracy": "test accuracy"}.get(name) or super().words(name)

    def unit(self, name):
        return "%" if name == "test_accuracy" else super().unit(name)


def balanced_rows(key: PRNGKeyArray, labels: Int[Array, "N"], num: int) -> Int[Array, "num"]:
    """Rows of a random subset with as many of each class."""
    noise = jax.random.uniform(key, labels.shape)
    of_class = lambda c: jax.lax.top_k(jnp.where(labels == c, noise, -1.0), num // NUM_CLASSES)[1]
    return jnp.concatenate([of_class(c) for c in range(NUM_CLASSES)])


def wanted(probs: Float[Array, "B C"], balance: bool) -> Float[Array, "B C"]:
    """What another view should be taken for: surer than q(y | x), and held fixed.

    Arguments:
        probs: q(y | x) of a batch.
        balance: whether classes that the batch is full of are made rarer first.
    """
    probs = jax.lax.stop_gradient(probs)
    share = jnp.mean(probs, axis=0) if balance else 1.0
    sharp = (probs / share) ** 2
    return sharp / jnp.sum(sharp, axis=-1, keepdims=True)


def cross_entropy(target: Float[Array, "B C"], logits: Float[Array, "B C"]) -> Float[Array, "B"]:
    """−E_target[log q], in nats. Unlike the chance of a wrong label it still pulls at q near 0."""
    return -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)


def neg_elbo(
    key: PRNGKeyArray,
    model: LabelledMixture,
    x: Float[Array, "B P"],
    q: ex.OneHotCategorical,
    estimator: ex.AbstractEstimator,
) -> Float[Array, "B"]:
    """An estimate of −ELBO(x), in nats: one decoding, and of every label's cost the divergence.

    Arguments:
        key: consumed.
        model: the model.
        x: pictures.
        q: q(y | x).
        estimator: of the label's expectation.
    """
    label_key, style_key = jax.random.split(key)
    style = model.vae.posterior(x)
    costs = model.divergences(style)
    label = ex.expect(label_key, q, lambda y: jnp.sum(y * costs, axis=-1), estimator)
    error = lambda z: -model.vae.log_likelihood(x, z)
    return ex.expect(style_key, style, error, ex.Pathwise()) + label + kl_to_uniform(q.logits)


def figures(key: PRNGKeyArray, model: LabelledMixture, rows: Array, labels: Array) -> Values:
    """Accuracy in %, and −ELBO with the label summed out, in nats a picture."""

    def of_row(key: Array, row: Any) -> tuple[Array, Array]:
        x = row[0].astype(jnp.float32)
        q = model.label_posterior(x)
        return jnp.argmax(q.logits) == row[1], neg_elbo(key, model, x, q, ex.Enumerate())

    right, bound = mean_over_rows(key, (rows, labels), of_row)
    return {"test_accuracy": 100 * right, "test_bound": bound}
