"""Models of words by vectors: the log-bilinear language model, and skip-gram.

Axes: B data batch (any number of leading axes), n words of context, K words that are scored in each
context (any number of leading axes, or none), V words of the vocabulary, D dimensions.

A model is made of *tables*, arrays with one row for each word. Scores of a few words need a few
rows: `rows` names them, `look_up` fetches them, `score_rows` computes with them. That is what keeps
a step of learning flat in V: nothing else is read, differentiated or changed.
"""

from collections.abc import Mapping
from types import EllipsisType

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._errors import InvalidArgumentError, complain

Rows = Mapping[str, Int[Array, "..."] | EllipsisType]
"""Which rows, by the name of their table; `...` for all of it, once."""

Found = Mapping[str, Float[Array, "..."]]
"""Those rows, by the name of their table."""


def look_up(model: eqx.Module, rows: Rows) -> dict[str, Float[Array, "..."]]:
    """The rows of a model's tables: what is differentiated where a step touches only these.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = skip_gram(jax.random.key(0), 50, num_dimensions=8)
        >>> found = look_up(model, model.rows(jnp.array([3, 7]), jnp.zeros((5, 2), int)))
        >>> {name: rows.shape for name, rows in found.items()}
        {'vectors': (2, 8), 'outputs': (5, 2, 8)}
    """
    return {name: getattr(model, name)[row] for name, row in rows.items()}


class LogBilinear(eqx.Module):
    """p(w | c) ∝ exp s(w; c), with s(w; c) = (Σ_i C_i r_{c_i})ᵀ q_w + b_w of n words of context.

    The matrices C_i, one for each position, are diagonal or full.

    Attributes:
        context_vectors: r, for each word where it is context.
        word_vectors: q, for each word where it is scored.
        biases: b.
        positions: C_1 … C_n; the diagonals, or the matrices.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = log_bilinear(jax.random.key(0), jnp.full(50, 0.02), num_dimensions=8)
        >>> context = jnp.array([[3, 7], [7, 1], [1, 2]])  # the words before each of three
        >>> model.scores(context, jnp.array([1, 2, 9])).shape  # of a word in each context
        (3,)
        >>> model.scores(context, jnp.zeros((5, 3), int)).shape  # of five
        (5, 3)
        >>> model.all_scores(context).shape
        (3, 50)

    Reference: Mnih & Hinton (2007); Mnih & Teh (2012), section 2.2 (diagonal C_i).
    """

    context_vectors: Float[Array, "V D"]
    word_vectors: Float[Array, "V D"]
    biases: Float[Array, "V"]
    positions: Float[Array, "n D"] | Float[Array, "n D D"]

    def predicted(self, context: Int[Array, "*B n"]) -> Float[Array, "*B D"]:
        """Σ_i C_i r_{c_i}: the vector that is expected of the next word."""
        return _combined(self.positions, self.context_vectors[context])

    def scores(self, context: Int[Array, "*B n"], words: Int[Array, "..."]) -> Array:
        """s(w; c) of words, shape *K *B, in their contexts; shape *K *B. Not normalized."""
        return self.score_rows(look_up(self, self.rows(context, words)))

    def all_scores(self, context: Int[Array, "*B n"]) -> Float[Array, "*B V"]:
        """s(w; c) of every word w."""
        return self.predicted(context) @ self.word_vectors.T + self.biases

    def log_normalizer(self, context: Int[Array, "*B n"]) -> Float[Array, "*B"]:
        """log Σ_w exp s(w; c)."""
        return jax.nn.logsumexp(self.all_scores(context), axis=-1)

    def rows(self, context: Int[Array, "*B n"], words: Int[Array, "..."]) -> Rows:
        """The rows of each table that the scores of these words need."""
        return {
            "context_vectors": context,
            "word_vectors": words,
            "biases": words,
            "positions": ...,
        }

    @staticmethod
    def score_rows(found: Found) -> Array:
        """`scores`, from the rows that were looked up."""
        expected = LogBilinear.predict_rows(found)
        return jnp.sum(expected * found["word_vectors"], axis=-1) + found["biases"]

    @staticmethod
    def predict_rows(found: Found) -> Float[Array, "*B D"]:
        """`predicted`, from the rows that were looked up."""
        return _combined(found["positions"], found["context_vectors"])


def _combined(positions: Array, vectors: Float[Array, "*B n D"]) -> Float[Array, "*B D"]:
    full = positions.ndim == 3
    return jnp.einsum("nde,...ne->...d" if full else "nd,...nd->...d", positions, vectors)


def log_bilinear(
    key: PRNGKeyArray,
    unigram: Float[Array, "V"],
    num_dimensions: int = 100,
    num_context: int = 2,
    *,
    diagonal: bool = True,
    scale: float = 0.1,
) -> LogBilinear:
    """A model that starts close to the unigram model, and so close to normalized.

    Arguments:
        key: consumed.
        unigram: the probability of each word, shape (V,), positive; its logarithm is the first b.
        num_dimensions: D.
        num_context: n.
        diagonal: whether C_i are diagonal. They start as the identity.
        scale: standard deviation of the vectors.

    Raises:
        InvalidArgumentError: a word of probability zero, where that can be seen: not under `jit`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = log_bilinear(jax.random.key(0), jnp.full(50, 0.02), 8, scale=1e-3)
        >>> print(f"{abs(model.log_normalizer(jnp.array([3, 7]))):.3f}")
        0.000
    """
    if not isinstance(unigram, Tracer) and not jnp.all(unigram > 0):
        raise InvalidArgumentError(
            complain(
                "log_bilinear was given a word of probability zero",
                "the model starts at the logarithms",
                "count every word at least once",
            )
        )
    contexts, words = scale * jax.random.normal(key, (2, len(unigram), num_dimensions))
    one = jnp.ones(num_dimensions) if diagonal else jnp.eye(num_dimensions)
    positions = jnp.broadcast_to(one, (num_context, *one.shape))
    return LogBilinear(contexts, words, jnp.log(unigram), positions)


class SkipGram(eqx.Module):
    """s(w; c) = u_cᵀ v_w: how much more often than by chance w stands near c.

    Attributes:
        vectors: u, those that are kept.
        outputs: v.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = skip_gram(jax.random.key(0), 50, num_dimensions=8)
        >>> model.scores(jnp.array([3, 7]), jnp.zeros((5, 2), int)).shape
        (5, 2)

    Reference: Mikolov et al. (2013), "Distributed representations of words and phrases".
    """

    vectors: Float[Array, "V D"]
    outputs: Float[Array, "V D"]

    def scores(self, center: Int[Array, "*B"], words: Int[Array, "..."]) -> Array:
        """s(w; c) of words, shape *K *B, near their centers; shape *K *B."""
        return self.score_rows(look_up(self, self.rows(center, words)))

    def rows(self, center: Int[Array, "*B"], words: Int[Array, "..."]) -> Rows:
        """As `LogBilinear.rows`."""
        return {"vectors": center, "outputs": words}

    @staticmethod
    def score_rows(found: Found) -> Array:
        """As `LogBilinear.score_rows`."""
        return jnp.sum(found["vectors"] * found["outputs"], axis=-1)


def skip_gram(key: PRNGKeyArray, num_words: int, num_dimensions: int = 100) -> SkipGram:
    """Small random vectors, and outputs of zero: every score starts at 0.

    Arguments:
        key: consumed.
        num_words: V.
        num_dimensions: D.

    Example:
        >>> import jax
        >>> skip_gram(jax.random.key(0), 50, num_dimensions=8).vectors.shape
        (50, 8)
    """
    shape = (num_words, num_dimensions)
    half = 0.5 / num_dimensions
    return SkipGram(jax.random.uniform(key, shape, minval=-half, maxval=half), jnp.zeros(shape))


def nearest_words(
    vectors: Float[Array, "V D"], words: Int[Array, "W"], num_nearest: int
) -> tuple[Int[Array, "W num"], Float[Array, "W num"]]:
    """The words whose vectors make the smallest angle with those of `words`, and its cosine.

    Nearest first; a word itself is none of them.

    Arguments:
        vectors: of all words.
        words: of which the neighbors are wanted.
        num_nearest: how many of each, fewer than words.

    Raises:
        InvalidArgumentError: as many as words, or more.

    Example:
        >>> import jax.numpy as jnp
        >>> vectors = jnp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0], [-1.0, 0.1]])
        >>> words, cosines = nearest_words(vectors, jnp.array([0]), 2)
        >>> print(words, cosines.round(2))
        [[2 1]] [[0.95 0.  ]]
    """
    if not 0 < num_nearest < len(vectors):
        raise InvalidArgumentError(
            complain(
                f"nearest_words was asked for {num_nearest} of {len(vectors)} words",
                "a word is no neighbor of itself",
                f"pass num_nearest from 1 to {len(vectors) - 1}",
            )
        )
    unit = vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    cosines = unit[words] @ unit.T
    itself = jnp.arange(len(vectors)) == words[:, None]
    found, at = jax.lax.top_k(jnp.where(itself, -jnp.inf, cosines), num_nearest)
    return at, found
