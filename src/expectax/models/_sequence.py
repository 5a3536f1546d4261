"""A recurrent generator of sequences of tokens, and a convolutional judge of them.

Axes: B batch (any number of leading axes), T positions, V tokens of the vocabulary, E width of an
embedding, H of a state, F features.
"""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._errors import InvalidArgumentError, complain
from .._types import ScalarLike

State = tuple[Float[Array, "*B H"], Float[Array, "*B H"]]
"""h and c of the cell."""

Choose = Callable[[PRNGKeyArray, Float[Array, "*B V"]], Float[Array, "*B V"]]
"""From a key and logits to one-hot vectors, hard or relaxed, however they carry a gradient."""


class LSTMGenerator(eqx.Module):
    """p(x_1 … x_T) = Π_t p(x_t | x_1 … x_t−1) by an LSTM: a policy, in the terms of control.

    It serves `expectax.objectives.rollout_returns`: `begin`, `advance` and `draw` are its steps.

    Attributes:
        embedding: of each token.
        cell: from the embedding of the token before, and the state, to the state.
        readout: from h to the logits of the next token.
        length: T of what it draws.
        start_token: what stands before the first token.

    Example:
        >>> import jax
        >>> model = lstm_generator(jax.random.key(0), num_tokens=50, width=8, length=6)
        >>> x = model.sample(jax.random.key(1), 4)
        >>> x.shape, model.log_prob(x).shape
        ((4, 6), (4, 6))

    Reference: Hochreiter & Schmidhuber (1997); Yu et al. (2017), "SeqGAN", section 3.2.
    """

    embedding: Float[Array, "V E"]
    cell: eqx.nn.LSTMCell
    readout: eqx.nn.Linear
    length: int = eqx.field(static=True)
    start_token: int = eqx.field(static=True, default=0)

    def begin(self, shape: tuple[int, ...]) -> State:
        """The state before the first token, for a batch of this shape."""
        zeros = jnp.zeros((*shape, self.cell.hidden_size), self.embedding.dtype)
        return self.advance((zeros, zeros), jnp.full(shape, self.start_token))

    def advance(self, state: State, tokens: Int[Array, "*B"] | Float[Array, "*B V"]) -> State:
        """The state after one more token, given by its number or as a relaxed one-hot vector."""
        shape = state[0].shape
        flat = lambda x: x.reshape(-1, x.shape[-1])
        rows = jax.vmap(self.cell)(
            flat(embedded(self.embedding, tokens)), jax.tree.map(flat, state)
        )
        return jax.tree.map(lambda x: x.reshape(shape), rows)

    def logits(self, state: State) -> Float[Array, "*B V"]:
        """Of the next token."""
        bias: Any = self.readout.bias
        return state[0] @ self.readout.weight.T + bias

    def draw(
        self, key: PRNGKeyArray, state: State, temperature: ScalarLike = 1.0
    ) -> Int[Array, "*B"]:
        """The next token. The key is consumed."""
        return draw_categorical(key, self.logits(state) / temperature)

    def log_prob(
        self, tokens: Int[Array, "*B T"], temperature: ScalarLike = 1.0
    ) -> Float[Array, "*B T"]:
        """log p(x_t | x_1 … x_t−1) of each position, in nats."""
        begun = self.begin(tokens.shape[:-1])

        def step(state: State, token: Array) -> tuple[State, Array]:
            return self.advance(state, token), state[0]

        _, hidden = jax.lax.scan(step, begun, jnp.moveaxis(tokens, -1, 0))
        # one product for all positions
        logits = self.logits((jnp.moveaxis(hidden, 0, -2), hidden)) / temperature
        chosen = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
        return chosen - jax.nn.logsumexp(logits, axis=-1)

    def sample(
        self, key: PRNGKeyArray, num: int, temperature: ScalarLike = 1.0
    ) -> Int[Array, "num T"]:
        """`num` sequences. The key is consumed.

        Arguments:
            key: consumed.
            num: how many.
            temperature: of every choice: below 1 likelier tokens, of less variety.
        """

        def step(state: State, key: Array) -> tuple[State, Array]:
            token = self.draw(key, state, temperature)
            return self.advance(state, token), token

        keys = jax.random.split(key, self.length)
        return jax.lax.scan(step, self.begin((num,)), keys)[1].T

    def relaxed_sample(
        self, key: PRNGKeyArray, num: int, choose: Choose
    ) -> Float[Array, "num T V"]:
        """`num` sequences of one-hot vectors, relaxed or not, each fed to the step after it.

        Arguments:
            key: consumed.
            num: how many.
            choose: from a key and the logits to the vectors. What gradient they have is what the
                sequence has: none, that of a relaxation, or one that goes straight through.

        Example:
            >>> import jax
            >>> model = lstm_generator(jax.random.key(0), num_tokens=50, width=8, length=6)
            >>> mean = lambda key, logits: jax.nn.softmax(logits)
            >>> model.relaxed_sample(jax.random.key(1), 4, mean).shape
            (4, 6, 50)
        """

        def step(state: State, key: Array) -> tuple[State, Array]:
            chosen = choose(key, self.logits(state))
            return self.advance(state, chosen), chosen

        keys = jax.random.split(key, self.length)
        return jnp.moveaxis(jax.lax.scan(step, self.begin((num,)), keys)[1], 0, 1)


def lstm_generator(
    key: PRNGKeyArray, num_tokens: int, width: int, length: int, scale: float = 0.1
) -> LSTMGenerator:
    """A generator whose every weight and bias is drawn from N(0, scale²).

    Arguments:
        key: consumed.
        num_tokens: V.
        width: E and H.
        length: T.
        scale: .1 to train from; 1 for the oracle of the sequence-GAN experiments.

    Example:
        >>> import jax
        >>> oracle = lstm_generator(jax.random.key(0), 500, 32, 20, scale=1.0)
        >>> oracle.embedding.shape, oracle.cell.weight_hh.shape
        ((500, 32), (128, 32))
    """
    for_cell, for_readout, key = jax.random.split(key, 3)
    cell = eqx.nn.LSTMCell(width, width, key=for_cell)
    readout = eqx.nn.Linear(width, num_tokens, key=for_readout)
    model = LSTMGenerator(jnp.zeros((num_tokens, width)), cell, readout, length)
    leaves, structure = jax.tree.flatten(model)
    keys = jax.random.split(key, len(leaves))
    drawn = [scale * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)


def embedded(
    table: Float[Array, "V E"], tokens: Int[Array, "*B"] | Float[Array, "*B V"]
) -> Float[Array, "*B E"]:
    """Rows of a table, by their numbers or mixed by relaxed one-hot vectors."""
    return table[tokens] if jnp.issubdtype(tokens.dtype, jnp.integer) else tokens @ table


def draw_categorical(key: PRNGKeyArray, logits: Float[Array, "*B V"]) -> Int[Array, "*B"]:
    """Tokens by the inverse of their distribution function, right to the dtype's rounding.

    The key is consumed. One uniform number for each draw, where Gumbel noise needs V: most of a
    generator's time on a CPU. First the block is found, then the token in it: cumulative sums of
    about √V numbers, twice.
    """
    num = logits.shape[-1]
    side = math.isqrt(num - 1) + 1
    weights = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    padding = [(0, 0)] * (logits.ndim - 1) + [(0, side * side - num)]
    blocks = jnp.pad(weights, padding).reshape(*logits.shape[:-1], side, side)
    totals = jnp.sum(blocks, axis=-1)
    ends = jnp.cumsum(totals, axis=-1)
    target = jax.random.uniform(key, logits.shape[:-1], logits.dtype) * ends[..., -1]
    block = _first_beyond(ends, target)
    pick = lambda x: jnp.take_along_axis(x, block[..., None], axis=-1)[..., 0]
    inside = jnp.cumsum(
        jnp.take_along_axis(blocks, block[..., None, None], axis=-2)[..., 0, :], axis=-1
    )
    # what rounding makes negative would take the block's first token, be its weight 0
    rest = jnp.maximum(target - (pick(ends) - pick(totals)), 0.0)
    return block * side + _first_beyond(inside, rest)


def _first_beyond(ends: Float[Array, "*B N"], target: Float[Array, "*B"]) -> Int[Array, "*B"]:
    """The first entry whose cumulative sum exceeds the target: never one of weight 0."""
    below_all = ends[..., -1] * (1 - jnp.finfo(ends.dtype).eps)  # should rounding say otherwise
    return jnp.sum(ends <= jnp.minimum(target, below_all)[..., None], axis=-1)


class TextCNN(eqx.Module):
    """A judge of sequences: convolutions of several widths, their maxima, a highway layer, a logit.

    Attributes:
        embedding: of each token.
        convolutions: over positions.
        transform: what the highway layer makes of the features.
        gate: how much of that it takes; the rest of the features passes as it is.
        readout: from the features to the logit.
        dropout: of the features, before the readout.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> judge = text_cnn(jax.random.key(0), num_tokens=50, width=8, widths=(1, 2, 3))
        >>> x = jnp.zeros((4, 6), int)
        >>> judge(x).shape, judge(jax.nn.one_hot(x, 50)).shape
        ((4,), (4,))

    Reference: Kim (2014); Zhang & LeCun (2015); Srivastava, Greff & Schmidhuber (2015); Yu et al.
    (2017), section 3.3.
    """

    embedding: Float[Array, "V E"]
    convolutions: tuple[eqx.nn.Conv1d, ...]
    transform: eqx.nn.Linear
    gate: eqx.nn.Linear
    readout: eqx.nn.Linear
    dropout: eqx.nn.Dropout

    def __call__(
        self,
        x: Int[Array, "*B T"] | Float[Array, "*B T V"],
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*B"]:
        """The logit of each sequence.

        Arguments:
            x: tokens, or relaxed one-hot vectors.
            key: of the dropout, consumed; without it nothing is dropped.
        """
        tokens = jnp.issubdtype(x.dtype, jnp.integer)
        event = 1 if tokens else 2
        shape = x.shape[: x.ndim - event]
        x = x.reshape(-1, *x.shape[x.ndim - event :])
        # of tokens, one product for each of the vocabulary and not for each position: ten times
        # as fast on a CPU as a convolution of their embeddings
        table, x = (self.embedding, x) if tokens else (None, x @ self.embedding)
        maxima = [jnp.max(_convolved(layer, table, x), axis=-2) for layer in self.convolutions]
        features = jax.nn.relu(jnp.concatenate(maxima, axis=-1))
        gate = jax.nn.sigmoid(jax.vmap(self.gate)(features))
        features = gate * jax.nn.relu(jax.vmap(self.transform)(features)) + (1 - gate) * features
        features = self.dropout(features, key=key, inference=key is None)
        return jax.vmap(self.readout)(features)[:, 0].reshape(shape)


def _convolved(
    layer: eqx.nn.Conv1d, table: Float[Array, "V E"] | None, x: Array
) -> Float[Array, "B T F"]:
    """The layer over embeddings x (B, T, E); over those in a table, if there is one, of tokens."""
    taps = jnp.moveaxis(layer.weight, -1, 0)
    num = x.shape[1] - len(taps) + 1
    total: Any = 0.0
    for i, tap in enumerate(taps):
        part = x[:, i : i + num]
        total = total + (part @ tap.T if table is None else (table @ tap.T)[part])
    return total if layer.bias is None else total + layer.bias[:, 0]


def text_cnn(
    key: PRNGKeyArray,
    num_tokens: int,
    width: int,
    widths: tuple[int, ...] = (1, 2, 3, 4, 5),
    num_filters: int = 32,
    dropout: float = 0.25,
) -> TextCNN:
    """A judge as it is before training.

    Arguments:
        key: consumed.
        num_tokens: V.
        width: E.
        widths: of the convolutions, none wider than a sequence is long.
        num_filters: of each width; F is as many for each.
        dropout: the chance that a feature is dropped.

    Raises:
        InvalidArgumentError: no convolution, or one of width 0.
    """
    if not widths or min(widths) < 1:
        raise InvalidArgumentError(
            complain(
                f"text_cnn was given widths {widths}",
                "its features are maxima over convolutions",
                "pass one width or more, each at least 1",
            )
        )
    table, *keys = jax.random.split(key, len(widths) + 4)
    num = len(widths) * num_filters
    convolutions = tuple(
        eqx.nn.Conv1d(width, num_filters, w, key=k) for w, k in zip(widths, keys, strict=False)
    )
    layer = lambda outputs, key: eqx.nn.Linear(num, outputs, key=key)
    transform, gate = layer(num, keys[-3]), layer(num, keys[-2])
    # at first most of the features pass as they are
    gate = eqx.tree_at(lambda g: g.bias, gate, jnp.full(num, -2.0))
    embedding = jax.random.uniform(table, (num_tokens, width), minval=-1.0, maxval=1.0)
    readout: Any = layer(1, keys[-1])
    return TextCNN(embedding, convolutions, transform, gate, readout, eqx.nn.Dropout(dropout))
