"""The oracle of the sequence-GAN experiments and its samples, from their authors' files.

`oracle_lstm.npz` holds the weights of the published pickle: `embedding`; `W_*`, `U_*` and `b_*` of
the gates i, f, o and of the candidate c, inputs along the first axis; `W_out` and `b_out`. The
start token is 0.
"""

import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...models import LSTMGenerator, lstm_generator
from .files import DataFile, folder_of, malformed
from .formats import parse_npz

LENGTH, _NUM_TOKENS, _WIDTH = 20, 5000, 32

_FOLDER = "seqgan-oracle"
ORACLE = DataFile(
    "oracle_lstm.npz",
    "4f1a3c02bcce12b528caa4f38505393ab6d276c8501b18539b69023e34c433d4",
    1336892,
)
SAMPLES = DataFile(
    "real_data.txt",
    "c0338b2bc2a29802154c81058b8aafed488ee55bda3aaba3849289c59a7a8e22",
    952006,
)


def read_oracle(data_dir: pathlib.Path | None = None) -> LSTMGenerator:
    """The published oracle: vocabulary 5000, width 32, length 20.

    Arguments:
        data_dir: the folder of its file, or the one above; by default EXPECTAX_DATA_DIR or the
            user's cache. Nothing is downloaded.

    Raises:
        UsageError: the file is missing, truncated or altered.
    """
    path = ORACLE.locate(folder_of(_FOLDER, data_dir))
    square, wide = (_WIDTH, _WIDTH), (_NUM_TOKENS, _WIDTH)
    shapes: dict[str, tuple[int, ...]] = {"embedding": wide}
    shapes |= {"W_out": wide[::-1], "b_out": (_NUM_TOKENS,)}
    for gate in "ifoc":
        shapes |= {f"W_{gate}": square, f"U_{gate}": square, f"b_{gate}": (_WIDTH,)}
    arrays = parse_npz(ORACLE.read(path.parent), path, shapes)
    # Equinox has the candidate before the output gate, and outputs along the first axis
    stacked = lambda name: np.concatenate([arrays[f"{name}_{gate}"].T for gate in "ifco"])
    weights = (
        arrays["embedding"],
        *(stacked(name) for name in "WUb"),
        arrays["W_out"].T,
        arrays["b_out"],
    )
    model = lstm_generator(jax.random.key(0), _NUM_TOKENS, _WIDTH, LENGTH)
    places = lambda m: (
        m.embedding,
        *(m.cell.weight_ih, m.cell.weight_hh, m.cell.bias),
        *(m.readout.weight, m.readout.bias),
    )
    return eqx.tree_at(places, model, tuple(map(jnp.asarray, weights)))


def read_samples(data_dir: pathlib.Path | None = None) -> np.ndarray:
    """The published samples of the oracle, shape (9984, 20), tokens from 0 to 4999.

    Arguments:
        data_dir: as that of `read_oracle`.

    Raises:
        UsageError: the file is missing, truncated or altered.
    """
    path = SAMPLES.locate(folder_of(_FOLDER, data_dir))
    return parse_tokens(SAMPLES.read(path.parent), path, LENGTH, _NUM_TOKENS)


def parse_tokens(raw: bytes, path: pathlib.Path, length: int, num_tokens: int) -> np.ndarray:
    """The sequences in a text: `length` numbers below `num_tokens` a line.

    Example:
        >>> parse_tokens(b"3 0 1\\n2 2 0\\n", pathlib.Path("x"), 3, 4)
        array([[3, 0, 1],
               [2, 2, 0]], dtype=int32)
    """
    lines = [line.split() for line in raw.splitlines()]
    promised = f"each line should be {length} numbers from 0 to {num_tokens - 1}"
    for number, line in enumerate(lines, 1):
        if len(line) != length or not all(word.isdigit() for word in line):
            raise malformed(path, f"is no text of sequences at line {number}", promised)
    tokens = np.array(lines, np.int64).reshape(-1, length)
    if not len(tokens) or tokens.max() >= num_tokens:
        raise malformed(path, "holds no such sequences", promised)
    return tokens.astype(np.int32)
