"""The public formats, from checked bytes to arrays.

Each reader takes the file's path beside its bytes, for the error's message.
"""

import io
import math
import pathlib
import re
import zipfile

import numpy as np

from .files import malformed

_UNSIGNED_BYTE = 0x08


def parse_idx(raw: bytes, path: pathlib.Path) -> np.ndarray:
    """The array in the bytes of an idx file (MNIST and its kin), unzipped.

    The header is two zero bytes, one for the type (8: unsigned byte), one for the number of axes,
    and each axis' length as a big-endian 32-bit integer.
    """
    good = len(raw) >= 4 and raw[:3] == bytes((0, 0, _UNSIGNED_BYTE))
    axes = raw[3] if good else 0
    start = 4 + 4 * axes
    if not good or len(raw) < start:
        begins = f"it begins with {raw[:4].hex(' ')}"
        raise malformed(path, "is not an idx file of unsigned bytes", begins)
    shape = tuple(np.frombuffer(raw, ">u4", axes, offset=4).tolist())
    if len(raw) - start != math.prod(shape):
        promised = f"its header promises {math.prod(shape)}, for shape {shape}"
        raise malformed(path, f"holds {len(raw) - start} bytes of data", promised)
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def parse_bits(raw: bytes, path: pathlib.Path, columns: int, separator: str) -> np.ndarray:
    """The table in a text of bits: every row `columns` digits 0 or 1, one separator between.

    Each bit takes two bytes, so the text is a table of bytes already: no number is parsed.

    Example:
        >>> parse_bits(b"0,1,1\\n1,0,0\\n", pathlib.Path("x"), 3, ",")
        array([[0, 1, 1],
               [1, 0, 0]], dtype=uint8)
    """
    if not raw or len(raw) % (2 * columns):
        raise malformed(
            path, f"holds {len(raw)} bytes", f"rows of {columns} bits take {2 * columns} each"
        )
    table = np.frombuffer(raw, np.uint8).reshape(-1, columns, 2)
    bits = table[:, :, 0] - ord("0")
    ends = np.frombuffer((separator * (columns - 1) + "\n").encode(), np.uint8)
    bad = (bits > 1).any(1) | (table[:, :, 1] != ends).any(1)
    if bad.any():
        row = int(bad.argmax())
        raise malformed(path, f"is no text of bits at line {row + 1}", f"it has {columns} a line")
    return bits


def parse_npz(raw: bytes, path: pathlib.Path, shapes: dict[str, tuple[int, ...]]) -> dict:
    """The arrays of an npz file, each with as many axes as `shapes` has, of its lengths (−1: any).

    Nothing is unpickled.
    """
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in shapes}
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise malformed(path, "is not the npz file that was looked for", str(error)) from error
    for name, shape in shapes.items():
        found = arrays[name].shape
        if len(found) != len(shape) or any(
            a not in (b, -1) for a, b in zip(shape, found, strict=True)
        ):
            raise malformed(path, f"has {name} of shape {found}", f"it should be {shape}")
    return arrays


def parse_chardata(raw: bytes, path: pathlib.Path) -> dict[str, np.ndarray]:
    """Pictures and alphabets in `chardata.mat`, the OMNIGLOT of the VAE papers.

    A column is a picture stored column by column, with values in [0, 1]: here a row, row by row,
    in 256 levels. The targets are one-hot columns.
    """
    from scipy.io import loadmat  # jax needs scipy itself; slow to import
    from scipy.io.matlab import MatReadError

    names = ["data", "testdata", "target", "testtarget"]
    try:
        found = loadmat(io.BytesIO(raw), variable_names=names)
        arrays = [np.asarray(found[name], np.float64) for name in names]
    except (ValueError, KeyError, OSError, TypeError, NotImplementedError, MatReadError) as error:
        raise malformed(path, "is not the mat file that was looked for", str(error)) from error
    train, test, train_target, test_target = arrays
    for pictures, target in ((train, train_target), (test, test_target)):
        if pictures.ndim != 2 or len(pictures) != 784 or target.shape != (50, pictures.shape[1]):
            sizes = f"has pictures of shape {pictures.shape} and targets of shape {target.shape}"
            raise malformed(path, sizes, "they should be (784, n) and (50, n)")
        if pictures.min() < 0 or pictures.max() > 1:
            raise malformed(path, f"has values up to {pictures.max()}", "they should be in [0, 1]")
    levels = [
        np.rint(255 * x.T.reshape(-1, 28, 28).transpose(0, 2, 1)).astype(np.uint8).reshape(-1, 784)
        for x in (train, test)
    ]
    return {
        "train": levels[0],
        "test": levels[1],
        "train_labels": train_target.argmax(0),
        "test_labels": test_target.argmax(0),
    }


_DRAWING = re.compile(
    r"[^/]+/(?P<alphabet>[^/]+)/character\d+/(?P<character>\d{4})_(?P<drawer>\d\d)\.png"
)


def parse_drawings(raw: bytes, path: pathlib.Path) -> list[tuple[str, int, int, np.ndarray]]:
    """The drawings in a zip of OMNIGLOT as published: alphabet, character, drawer, picture.

    Characters and drawers count from 0; pictures are 28×28, averaged over areas of the original's
    105×105 (3.75 × 3.75 pixels each), ink bright: round(255 × share of ink).
    """
    from matplotlib.image import imread  # a png reader that the laboratory has anyway

    found = []
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            for name in archive.namelist():
                if match := _DRAWING.fullmatch(name):
                    paper = imread(io.BytesIO(archive.read(name)), format="png")
                    # one bit a pixel as published: white paper is 1
                    picture = _shrink((paper if paper.ndim == 2 else paper[..., 0]) < 0.5)
                    where = int(match["character"]) - 1, int(match["drawer"]) - 1
                    found.append((match["alphabet"], *where, picture))
    except (zipfile.BadZipFile, ValueError, OSError, SyntaxError) as error:
        raise malformed(path, "is not a zip of drawings", str(error)) from error
    return found


def _cells() -> np.ndarray:
    """How much of each of 105 pixels lies in each of 28 cells, in quarters of a pixel."""
    left = np.arange(28)[:, None] * 15  # a cell is 15 quarters wide
    pixel = np.arange(105) * 4
    overlap = np.minimum(left + 15, pixel + 4) - np.maximum(left, pixel)
    # in floats, where a product of matrices is fast; the integers stay exact
    return np.maximum(overlap, 0).astype(np.float32)


_CELLS = _cells()


def _shrink(ink: np.ndarray) -> np.ndarray:
    if ink.shape != (105, 105):
        raise ValueError(f"a drawing has {ink.shape} pixels, not 105×105")
    sixteenths = _CELLS @ ink.astype(np.float32) @ _CELLS.T
    # of 225 to a cell: 255/225 = 17/15 never rounds from a tie
    return np.rint(sixteenths * 17 / 15).astype(np.uint8)
