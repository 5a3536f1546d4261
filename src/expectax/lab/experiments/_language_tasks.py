"""Training on running text: words told from noise, and the log-bilinear language model."""

import dataclasses
import pathlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray

from ...distributions import AliasTable
from ...models import Found, LogBilinear, Rows, log_bilinear, look_up
from ...objectives import told_apart
from .. import rows as row_wise
from ..data.text import Corpus, load_ptb, markov
from ..evaluate import mean_over_rows
from ..task import AbstractTask, Values

NUM_POINTS = 10
NUM_VALID = 5000
"""Words of the validation text behind a point of the curves."""


class Text(eqx.Module):
    """A corpus, and the noise that its words are told from, if they are."""

    corpus: Corpus
    noise: AliasTable | None = None


class Contrast(eqx.Module):
    """Words in their contexts, each beside k words of noise.

    Attributes:
        context: what `rows` of the model takes.
        words: the word of the text, then the noise.
        log_noise: log k q of those; 0 for negative sampling.
    """

    context: Int[Array, "B ..."]
    words: Int[Array, "B 1+k"]
    log_noise: Float[Array, "B 1+k"]


@dataclasses.dataclass(frozen=True)
class AbstractWords(AbstractTask):
    """Vectors of words, learned from running text.

    Attributes:
        data: `ptb`, or `markov` for the small language that is known.
        learning_rate: of row-wise Adagrad; it falls to 0 in a line.
    """

    data: str = "ptb"
    data_dir: pathlib.Path | None = None
    steps: int = 9_000
    batch_size: int = 500
    seed: int = 0
    num_seeds: int = 1
    num_dimensions: int = 100
    learning_rate: float = 0.1

    def corpus(self) -> Corpus:
        """The text."""
        return markov() if self.data == "markov" else load_ptb(self.data_dir)

    def optimizers(self):
        import optax

        # the rate is of the sum over the batch: every word in it has a gradient of its own
        return {"": optax.chain(optax.scale(self.batch_size), row_wise.row_adagrad(self.rate))}

    def rate(self, step: ArrayLike) -> Float[Array, ""]:
        """Of learning, at a step."""
        return self.learning_rate * (1 - jnp.asarray(step) / self.steps)

    @property
    def every(self) -> int:
        return max(1, self.steps // NUM_POINTS)


@dataclasses.dataclass(frozen=True)
class AbstractContrast(AbstractWords):
    """Words told from noise. A step reads and changes the rows of its words and no others.

    Attributes:
        num_noise: k.
    """

    num_noise: int = 25

    def log_noise(self, noise: AliasTable, words: Array) -> Float[Array, "..."]:
        """What is subtracted from the scores of words: log k q."""
        return noise.log_prob(words) + jnp.log(self.num_noise)

    def contrasted(self, key: PRNGKeyArray, data: Text, context: Array, word: Array) -> Contrast:
        """Words of the text in their contexts, and noise for each."""
        assert data.noise is not None
        noise = self.noise_words(key, data.noise, len(word))
        words = jnp.concatenate([word[:, None], noise], axis=1)
        return Contrast(context, words, self.log_noise(data.noise, words))

    def noise_words(self, key: PRNGKeyArray, noise: AliasTable, num: int) -> Int[Array, "num k"]:
        """Noise for each of so many words."""
        return noise.sample(key, (num, self.num_noise))

    def touched(self, model: Any, batch: Contrast) -> Rows:
        """The rows that the loss of a batch looks up."""
        return model.rows(batch.context, batch.words.T)

    def total(self, model: Any, found: Found, batch: Contrast) -> Float[Array, ""]:
        """The loss of the whole batch, from those rows."""
        odds = model.score_rows(found) - batch.log_noise.T
        return jnp.sum(told_apart(odds[0], odds[1:]))

    def objective(self, learned, batch, key, step):
        del key, step
        found = look_up(learned, self.touched(learned, batch))
        return self.total(learned, found, batch) / len(batch.words)

    def memory(self, learned):
        return row_wise.begin(learned)

    def learn(self, learned, memory, batch, key, step):
        """A step down `objective`, on the rows that it touches; the optimisers go over all."""
        del key
        rows = self.touched(learned, batch)
        loss = lambda found: self.total(learned, found, batch)
        value, gradients = jax.value_and_grad(loss)(look_up(learned, rows))
        learned, memory = row_wise.descend(learned, memory, rows, gradients, self.rate(step))
        return value / len(batch.words), learned, memory


@dataclasses.dataclass(frozen=True)
class AbstractLanguage(AbstractWords):
    """A log-bilinear language model, and how well it predicts.

    Attributes:
        num_context: words of context.
    """

    num_context: int = 2
    headline = ("valid_perplexity", "valid_log_normalizer")

    def init(self, key, data):
        unigram = data.corpus.unigram
        return log_bilinear(key, unigram, self.num_dimensions, self.num_context)

    def num_rows(self, data):
        return len(data.corpus.train) - self.num_context

    def at(self, text: Int[Array, "N"], rows: Int[Array, "*B"]) -> tuple[Array, Array]:
        """The words before words of a text, and these; row 0 is the first with enough before it."""
        before = rows[..., None] + jnp.arange(self.num_context)
        return text[before], text[rows + self.num_context]

    def measure(self, key, learned, data):
        valid = data.corpus.valid[:NUM_VALID]
        return self.judged(key, learned, data.corpus, valid, "valid")

    def finish(self, key, learned, data):
        found = self.judged(key, learned, data.corpus, data.corpus.valid, "valid")
        return found | self.judged(key, learned, data.corpus, data.corpus.test, "test")

    def judged(
        self, key: Array, model: LogBilinear, corpus: Corpus, text: Array, name: str
    ) -> Values:
        """Perplexity of a text, normalized exactly; and mean and spread of the log-normalizers."""

        def of_row(key: Array, row: Array) -> Values:
            del key
            context, word = self.at(text, row)
            scores = model.all_scores(context)
            log_z = jax.nn.logsumexp(scores)
            found = {"loss": log_z - scores[word], "mean": log_z, "square": log_z**2}
            if corpus.law is not None:
                law = corpus.law[context[-1]]
                found["divergence"] = jnp.sum(law * (jnp.log(law) - scores)) + log_z
            return found

        found = mean_over_rows(key, jnp.arange(len(text) - self.num_context), of_row)
        values = {
            "perplexity": jnp.exp(found["loss"]),
            "log_normalizer": found["mean"],
            "spread": jnp.sqrt(jnp.maximum(found["square"] - found["mean"] ** 2, 0)),
        }
        values |= {n: x for n, x in found.items() if n == "divergence"}
        return {f"{name}_{n}": x for n, x in values.items()}

    def words(self, name: str) -> str:
        known = {
            "test_log_normalizer": "test log Z, mean over contexts",
            "test_spread": "test log Z, standard deviation over contexts",
            "test_divergence": "KL(language ‖ model) in test contexts",
        }
        return known.get(name) or super().words(name)

    def unit(self, name: str) -> str:
        return "" if name.endswith("perplexity") else "nats"


@dataclasses.dataclass(frozen=True)
class AbstractNoiseContrastive(AbstractLanguage, AbstractContrast):
    """It by noise-contrastive estimation.

    Attributes:
        noise: `unigram` or `uniform`.
    """

    noise: str = "unigram"

    def load(self):
        corpus = self.corpus()
        uniform = self.noise == "uniform"
        return Text(corpus, AliasTable(np.ones(len(corpus.words)) if uniform else corpus.counts))

    def batch(self, key, data, rows):
        return self.contrasted(key, data, *self.at(data.corpus.train, rows))

    @property
    def title(self) -> str:
        return f"nce, {self.num_noise} words of {self.noise} noise"


@dataclasses.dataclass(frozen=True)
class NoiseContrastive(AbstractNoiseContrastive):
    """With noise of its own for each word."""


@dataclasses.dataclass(frozen=True)
class SharedNoise(AbstractNoiseContrastive):
    """With the same noise for all words of a batch: one product of matrices, and few rows."""

    def noise_words(self, key, noise, num):
        words = noise.sample(key, (self.num_noise,))
        return jnp.broadcast_to(words, (num, self.num_noise))

    def touched(self, model, batch):
        return model.rows(batch.context, jnp.concatenate([batch.words[:, 0], batch.words[0, 1:]]))

    def total(self, model, found, batch):
        expected, num = model.predict_rows(found), len(batch.words)
        vectors, biases = found["word_vectors"], found["biases"]
        data = jnp.sum(expected * vectors[:num], axis=-1) + biases[:num] - batch.log_noise[:, 0]
        noise = vectors[num:] @ expected.T + (biases[num:] - batch.log_noise[0, 1:])[:, None]
        return jnp.sum(told_apart(data, noise))


@dataclasses.dataclass(frozen=True)
class MaximumLikelihood(AbstractLanguage):
    """It by the likelihood: every step normalizes, over all words, and changes all their rows."""

    def load(self):
        return Text(self.corpus())

    def batch(self, key, data, rows):
        del key
        return self.at(data.corpus.train, rows)

    def objective(self, learned, batch, key, step):
        del key, step
        context, word = batch
        return jnp.mean(learned.log_normalizer(context) - learned.scores(context, word))

    @property
    def title(self) -> str:
        return "nce, full softmax"
