"""The idx format of MNIST and its kin, gzipped, checked by checksum before it is believed."""

import gzip
import hashlib
import math
import pathlib
import zlib

import numpy as np

from .._errors import complain
from .errors import UsageError

_UNSIGNED_BYTE = 0x08


def read_idx(path: pathlib.Path, sha256: str) -> np.ndarray:
    """The array in a gzipped idx file of unsigned bytes.

    Arguments:
        path: the file.
        sha256: of the whole gzipped file, in hexadecimal.

    Raises:
        UsageError: the file is missing, truncated, altered or of another kind. The message names
            the file and, where bytes differ, both checksums.
    """
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise UsageError(
            complain(
                f"data file {path} cannot be read",
                f"{error.strerror or error} (its sha256 is {sha256})",
                "put the published file there, or pass --data-dir of the folder that has it",
            )
        ) from error
    found = hashlib.sha256(packed).hexdigest()
    if found != sha256:
        raise UsageError(
            complain(
                f"data file {path} is truncated, altered or another file",
                f"its {len(packed)} bytes have sha256 {found}, where the published file has "
                f"{sha256}",
                "fetch the published file again, or pass the --data-dir that has it",
            )
        )
    return parse_idx(_unzip(path, packed), path)


def _unzip(path: pathlib.Path, packed: bytes) -> bytes:
    try:
        return gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(
            complain(f"data file {path} cannot be unzipped", str(error), "fetch the file again")
        ) from error


def parse_idx(raw: bytes, path: pathlib.Path) -> np.ndarray:
    """The array in the bytes of an idx file.

    The header is two zero bytes, one for the type (8: unsigned byte), one for the number of axes,
    and each axis' length as a big-endian 32-bit integer; `path` is for the error's message.
    """
    good = len(raw) >= 4 and raw[:3] == bytes((0, 0, _UNSIGNED_BYTE))
    axes = raw[3] if good else 0
    start = 4 + 4 * axes
    if not good or len(raw) < start:
        raise UsageError(
            complain(
                f"data file {path} is not an idx file of unsigned bytes",
                f"it begins with {raw[:4].hex(' ')}",
                "pass the idx files as published, gzipped",
            )
        )
    shape = tuple(np.frombuffer(raw, ">u4", axes, offset=4).tolist())
    if len(raw) - start != math.prod(shape):
        raise UsageError(
            complain(
                f"data file {path} holds {len(raw) - start} bytes of data",
                f"its header promises {math.prod(shape)}, for shape {shape}",
                "fetch the file again",
            )
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)
