"""Sequences from a law by which what a generator draws can be judged: an oracle's, or a text's."""

import pathlib
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from ..._types import ScalarLike
from ...models import LSTMGenerator, lstm_generator
from ..data.oracle import LENGTH, read_oracle
from ..data.text import characters_of_ptb
from ..evaluate import mean_over_rows

NUM_SEQUENCES = 10_000
"""To train on, as published; and as many to test on."""

DRAWN = {"oracle-500": 500, "oracle-50": 50}
"""Oracles drawn from N(0, 1), and how many tokens they have."""

TEXT = "ptb-characters"
"""The characters of the Penn Treebank files, cut into sequences."""

_WIDTH, _SEED = 32, 0
_SMOOTHING = 0.01
_AT_ONCE = 100  # sequences scored at once: with 5000 tokens, 40 MB of logits


class Start(eqx.Module):
    """Generators that maximum likelihood has trained, one a seed.

    Attributes:
        keys: which seed's each is, as the words of the seed's key.
        generators: one, every array with a leading axis of seeds.
    """

    keys: UInt32[Array, "seeds words"]
    generators: LSTMGenerator

    def of(self, key: Array) -> LSTMGenerator:
        """The generator of the seed with this key."""
        mine = jnp.argmax(jnp.all(self.keys == jax.random.key_data(key), axis=-1))
        return jax.tree.map(lambda leaf: leaf[mine], self.generators)


class Trigrams(eqx.Module):
    """p(x_t | x_t−2, x_t−1) as counted in a text: every count and `_SMOOTHING` more.

    Attributes:
        log_probs: log p of one token, of the second of two, and of the third of three.
    """

    log_probs: tuple[Float[Array, "V"], Float[Array, "V V"], Float[Array, "V V V"]]

    def log_prob(self, tokens: Int[Array, "*B T"]) -> Float[Array, "*B T"]:
        """log p of each position, in nats; the first two are given what there is before them."""
        one, two, three = self.log_probs
        a, b, c = tokens[..., :-2], tokens[..., 1:-1], tokens[..., 2:]
        first, second = one[tokens[..., :1]], two[tokens[..., :1], tokens[..., 1:2]]
        return jnp.concatenate([first, second, three[a, b, c]], axis=-1)


def trigrams(text: Int[np.ndarray, "N"], num_tokens: int) -> Trigrams:
    """Those of a text whose tokens are numbers below `num_tokens`."""
    found = []
    for width in (1, 2, 3):
        places = tuple(text[i : len(text) - width + 1 + i] for i in range(width))
        counts = np.full((num_tokens,) * width, _SMOOTHING)
        np.add.at(counts, places, 1.0)
        found.append(jnp.log(counts / counts.sum(-1, keepdims=True)))
    return Trigrams(tuple(found))


class Sequences(eqx.Module):
    """A law, its samples, and where generators start.

    Attributes:
        oracle: the law that draws are judged by.
        train: to learn from.
        test: held out.
        num_tokens: V.
        start: generators after maximum likelihood; None for the runs that do that.
    """

    oracle: LSTMGenerator | Trigrams
    train: Int[Array, "N T"]
    test: Int[Array, "M T"]
    num_tokens: int = eqx.field(static=True)
    start: Start | None = None


def sequences(name: str, data_dir: pathlib.Path | None) -> Sequences:
    """The law of this name, and the same samples of it for every seed of every run.

    Raises:
        UsageError: the published oracle's file, or the text's, is not there, or not whole.
    """
    own, train, test = jax.random.split(jax.random.key(_SEED), 3)
    if name == TEXT:
        return _of_text(data_dir)
    if name in DRAWN:
        oracle = lstm_generator(own, DRAWN[name], _WIDTH, LENGTH, scale=1.0)
    else:
        oracle = read_oracle(data_dir)
    draw = eqx.filter_jit(lambda oracle, key: draws(key, oracle, NUM_SEQUENCES))
    num_tokens = len(oracle.embedding)
    return Sequences(oracle, draw(oracle, train), draw(oracle, test), num_tokens)


def _of_text(data_dir: pathlib.Path | None) -> Sequences:
    """Pieces of the training and the test text, from all over; the law is all of the former's."""
    train, test, alphabet = characters_of_ptb(data_dir)
    law = trigrams(train, len(alphabet))

    def pieces(text: Int[np.ndarray, "N"]) -> Int[Array, "num T"]:
        begins = np.linspace(0, len(text) - LENGTH, NUM_SEQUENCES).astype(int)
        return jnp.asarray(text[begins[:, None] + np.arange(LENGTH)])

    return Sequences(law, pieces(train), pieces(test), len(alphabet))


def draws(
    key: Array, model: LSTMGenerator, num: int, temperature: ScalarLike = 1.0
) -> Int[Array, "num T"]:
    """`num` sequences of the model; memory does not grow with them."""
    keys = jax.random.split(key, -(-num // _AT_ONCE))
    found = jax.lax.map(lambda key: model.sample(key, _AT_ONCE, temperature), keys)
    return found.reshape(-1, model.length)[:num]


def nll(
    log_prob: Callable[[Int[Array, "T"]], Float[Array, "T"]], tokens: Int[Array, "N T"]
) -> Float[Array, ""]:
    """The mean of −log p(x_t | x_1 … x_t−1) over sequences and positions, in nats a token."""
    of_row = lambda _, row: -jnp.mean(log_prob(row))
    # each row of `mean_over_rows` has a key, and needs none here
    return mean_over_rows(jax.random.key(0), tokens, of_row, at_once=_AT_ONCE)
