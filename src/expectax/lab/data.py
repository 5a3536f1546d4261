"""Data sets of binary or grey pictures, held on the device as bytes.

To add one: a function from the data folder to a `Dataset`, and a row in `DATASETS`.
"""

import pathlib
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from .._errors import complain
from .errors import UsageError, unknown
from .idx import read_idx


class Dataset(eqx.Module):
    """Pictures of P pixels: bits (0 or 1), or grey levels (0 … 255) binarized afresh at each use.

    Arguments:
        train: training pictures, one a row.
        test: test pictures.
        shape: height and width.
        grey: whether the bytes are grey levels.
        summary: one line for people: where it comes from, the split, the binarization.
    """

    train: UInt8[Array, "N P"] = eqx.field(converter=jnp.asarray)
    test: UInt8[Array, "M P"] = eqx.field(converter=jnp.asarray)
    shape: tuple[int, int] = eqx.field(static=True)
    grey: bool = eqx.field(static=True)
    summary: str = eqx.field(static=True)

    @property
    def mean(self) -> Float[Array, "P"]:
        """The mean of the training pictures, in [0, 1]."""
        return jnp.mean(self.train, axis=0, dtype=jnp.float32) / (255 if self.grey else 1)

    def binarize(self, key: PRNGKeyArray, rows: UInt8[Array, "*B P"]) -> Float[Array, "*B P"]:
        """Rows of bytes as bits: a fresh draw with probability level / 255 if they are grey."""
        if not self.grey:
            return rows.astype(jnp.float32)
        # 16 random bits a pixel, two pixels a word: half the price of 32, right to 2e-5
        words = jax.random.bits(key, (*rows.shape[:-1], (rows.shape[-1] + 1) // 2), jnp.uint32)
        halves = jax.lax.bitcast_convert_type(words, jnp.uint16)
        noise = halves.reshape(*rows.shape[:-1], -1)[..., : rows.shape[-1]]
        return (noise < rows.astype(jnp.uint16) * 257).astype(jnp.float32)


def load(name: str, data_dir: pathlib.Path | None = None) -> Dataset:
    """The data set of this name.

    Arguments:
        name: a key of `DATASETS`.
        data_dir: the folder that holds its files, or the folder above that one.

    Raises:
        UsageError: no such data set, no folder where one is needed, or a file that is missing,
            truncated or altered.
    """
    if name not in DATASETS:
        raise unknown("data set", name, list(DATASETS))
    return DATASETS[name](data_dir)


def _digits(data_dir: pathlib.Path | None) -> Dataset:
    """scikit-learn's 1797 handwritten digits, 8×8, 17 levels: a bit is a level above 7."""
    del data_dir  # it comes with scikit-learn
    from sklearn.datasets import load_digits  # a second to import, and only needed here

    levels, _ = load_digits(return_X_y=True)
    bits = (levels > 7).astype(np.uint8)
    # the set is ordered by writer: every fifth picture takes the test set from all of them
    held_out = np.arange(len(bits)) % 5 == 4
    return Dataset(
        bits[~held_out],
        bits[held_out],
        shape=(8, 8),
        grey=False,
        summary="scikit-learn's digits, 8×8, thresholded (level > 7 of 16); every fifth is test",
    )


_TRAIN, _T10K = "train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"
_MNIST = {
    _TRAIN: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    _T10K: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
}
_FASHION = {
    _TRAIN: "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    _T10K: "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
}


def _idx_dataset(title: str, folder: str, files: dict[str, str]) -> Callable[..., Dataset]:
    """A loader of gzipped idx pictures, which lie in `folder` of the data folder or in it."""

    def load_it(data_dir: pathlib.Path | None) -> Dataset:
        if data_dir is None:
            raise UsageError(
                complain(
                    f"{title} was asked for without --data-dir",
                    "its files do not come with the installation",
                    f"pass --data-dir DIR, where DIR or DIR/{folder} holds {' and '.join(files)}",
                )
            )
        inside = data_dir / folder
        where = inside if inside.is_dir() else data_dir
        train, test = (read_idx(where / name, sha256) for name, sha256 in files.items())
        return Dataset(
            train.reshape(len(train), -1),
            test.reshape(len(test), -1),
            shape=(train.shape[1], train.shape[2]),
            grey=True,
            summary=f"{title}, 28×28, binarized afresh at each use; published split",
        )

    return load_it


DATASETS: dict[str, Callable[[pathlib.Path | None], Dataset]] = {
    "digits": _digits,
    "mnist": _idx_dataset("MNIST", "mnist", _MNIST),
    "fashion": _idx_dataset("Fashion-MNIST", "fashion-mnist", _FASHION),
}
