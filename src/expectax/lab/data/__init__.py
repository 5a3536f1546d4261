"""Data sets of binary or grey pictures, held on the device as bytes."""

import pathlib

import numpy as np

from ..errors import unknown
from .catalog import DATASETS, chosen_binarization
from .dataset import BINARIZATIONS, Dataset
from .sources import Raw, Source

__all__ = ["BINARIZATIONS", "DATASETS", "Dataset", "chosen_binarization", "load"]


def load(
    name: str, data_dir: pathlib.Path | None = None, binarization: str | None = None
) -> Dataset:
    """The data set of this name, on the device.

    Arguments:
        name: a key of `DATASETS`.
        data_dir: the folder that holds its files, or the folder above that one. Without it they
            are taken from EXPECTAX_DATA_DIR or the user's cache, downloaded if need be.
        binarization: "static", "dynamic", "threshold" or "grey"; by default the data set's own.

    Raises:
        UsageError: no such data set or binarization, two that do not go together, or a file that
            is missing, truncated, altered, or cannot be downloaded.
    """
    if name not in DATASETS:
        raise unknown("data set", name, list(DATASETS))
    how = chosen_binarization(name, binarization)
    return assemble(DATASETS[name], DATASETS[name].read(data_dir), how)


def assemble(source: Source, raw: Raw, how: str) -> Dataset:
    """The data set of these pixels, binarized in this way."""
    # half of 255 is between two levels, so no picture lies on the threshold
    bits = (lambda x: (x > 127).astype(np.uint8)) if how == "threshold" else lambda x: x
    return Dataset(
        bits(raw.train),
        bits(raw.test),
        shape=source.shape,
        grey=source.grey and how != "threshold",
        summary=f"{source.title}, {source.size}, {BINARIZATIONS[how]}; {source.split}",
        binarization=how,
        valid=None if raw.valid is None else bits(raw.valid),
        train_labels=raw.train_labels,
        test_labels=raw.test_labels,
    )
