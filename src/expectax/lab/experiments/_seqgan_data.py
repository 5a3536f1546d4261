"""Sequences from an oracle, by which what a generator draws can be judged."""

import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

from ..._types import ScalarLike
from ...models import LSTMGenerator, lstm_generator
from ..data.oracle import LENGTH, read_oracle
from ..evaluate import mean_over_rows

NUM_SEQUENCES = 10_000
"""To train on, as published; and as many to test on."""

DRAWN = {"oracle-500": 500, "oracle-50": 50}
"""Oracles drawn from N(0, 1), and how many tokens they have."""

_WIDTH, _SEED = 32, 0
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


class Sequences(eqx.Module):
    """An oracle, its samples, and where generators start.

    Attributes:
        oracle: the law that the sequences are from.
        train: to learn from.
        test: held out.
        start: generators after maximum likelihood; None for the runs that do that.
    """

    oracle: LSTMGenerator
    train: Int[Array, "N T"]
    test: Int[Array, "M T"]
    start: Start | None = None

    @property
    def num_tokens(self) -> int:
        """V."""
        return len(self.oracle.embedding)


def sequences(name: str, data_dir: pathlib.Path | None) -> Sequences:
    """The oracle of this name, and the same samples of it for every seed of every run.

    Raises:
        UsageError: the published oracle's file is not there, or not whole.
    """
    own, train, test = jax.random.split(jax.random.key(_SEED), 3)
    if name in DRAWN:
        oracle = lstm_generator(own, DRAWN[name], _WIDTH, LENGTH, scale=1.0)
    else:
        oracle = read_oracle(data_dir)
    draw = eqx.filter_jit(lambda oracle, key: draws(key, oracle, NUM_SEQUENCES))
    return Sequences(oracle, draw(oracle, train), draw(oracle, test))


def draws(
    key: Array, model: LSTMGenerator, num: int, temperature: ScalarLike = 1.0
) -> Int[Array, "num T"]:
    """`num` sequences of the model; memory does not grow with them."""
    keys = jax.random.split(key, -(-num // _AT_ONCE))
    found = jax.lax.map(lambda key: model.sample(key, _AT_ONCE, temperature), keys)
    return found.reshape(-1, model.length)[:num]


def nll(
    model: LSTMGenerator, tokens: Int[Array, "N T"], temperature: ScalarLike = 1.0
) -> Float[Array, ""]:
    """The mean of −log p(x_t | x_1 … x_t−1) over sequences and positions, in nats a token."""
    of_row = lambda _, row: -jnp.mean(model.log_prob(row, temperature))
    # each row of `mean_over_rows` has a key, and needs none here
    return mean_over_rows(jax.random.key(0), tokens, of_row, at_once=_AT_ONCE)
