"""Skip-gram by negative sampling, and the nearest neighbors of words."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ...distributions import AliasTable
from ...models import nearest_words, skip_gram
from ..data.text import Corpus
from ._language_tasks import NUM_VALID, AbstractContrast, Contrast, Text

_SHOWN = (
    *("president", "company", "million", "october", "japanese", "computer", "said", "bank"),
    *("his", "two", "rose", "yen", "texas", "lawyers", "oil", "not"),
)
_NUM_NEAREST = 6


@dataclasses.dataclass(frozen=True)
class Nearby(AbstractContrast):
    """Skip-gram by negative sampling: which words stand near which.

    The noise is drawn by the ¾ power of the unigram.

    Attributes:
        window: words to either side that are near.
        often: of words with a larger share of the text, √(often / share) of the occurrences stay.
    """

    num_noise: int = 5
    window: int = 5
    often: float = 1e-3
    headline = ("valid_loss",)

    def load(self):
        corpus = self.corpus()
        counts = np.asarray(corpus.counts, float)
        stays = np.minimum(1.0, np.sqrt(self.often * counts.sum() / counts))
        random = np.random.default_rng(self.seed)
        thinned = lambda text: text[random.random(len(text)) < stays[text]]
        train, valid = (thinned(np.asarray(text)) for text in (corpus.train, corpus.valid))
        return Text(dataclasses.replace(corpus, train=train, valid=valid), AliasTable(counts**0.75))

    def init(self, key, data):
        return skip_gram(key, len(data.corpus.words), self.num_dimensions)

    def num_rows(self, data):
        return len(data.corpus.train) - 2 * self.window

    def batch(self, key, data, rows):
        return self.pairs(key, data, data.corpus.train, rows)

    def pairs(self, key: PRNGKeyArray, data: Text, text: Array, rows: Array) -> Contrast:
        """Words in the middle, one near each, and noise."""
        key, near_key, side_key = jax.random.split(key, 3)
        near = jax.random.randint(near_key, rows.shape, 1, self.window + 1)
        near = jnp.where(jax.random.bernoulli(side_key, shape=rows.shape), near, -near)
        middle = rows + self.window
        return self.contrasted(key, data, text[middle], text[middle + near])

    def log_noise(self, noise, words):
        del noise
        return jnp.zeros(words.shape)

    def measure(self, key, learned, data):
        text = data.corpus.valid
        rows = jnp.arange(min(len(text) - 2 * self.window, NUM_VALID))
        batch = self.pairs(key, data, text, rows)
        return {"valid_loss": self.objective(learned, batch, key, jnp.asarray(0))}

    def pictures(self, key, learned, data):
        del key
        of = jnp.array([data.corpus.words.index(word) for word in shown_words(data.corpus)])
        words, cosines = nearest_words(learned.vectors, of, _NUM_NEAREST)
        return {"words": words, "cosines": cosines}

    def draw(self, folder, data, rows, pictures, results):
        del rows, results
        path = folder / "neighbors.md"
        words, lines = data.corpus.words, ["| word | nearest, and the cosine |", "|---|---|"]
        found = (shown_words(data.corpus), pictures["words"], pictures["cosines"])
        for word, nearest, cosines in zip(*found, strict=True):
            near = (f"{words[i]} {x:.2f}" for i, x in zip(nearest, cosines, strict=True))
            lines.append(f"| {word} | {', '.join(near)} |")
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [path]

    def unit(self, name: str) -> str:
        return "nats a pair" if name == "valid_loss" else ""

    @property
    def title(self) -> str:
        return "nce, skip-gram"


def shown_words(corpus: Corpus) -> list[str]:
    """The words whose neighbors are shown: of a list those that there are, or the first four."""
    return [word for word in _SHOWN if word in corpus.words] or list(corpus.words[:4])
