"""Published files: where they lie, and bytes that are believed only by their checksum."""

import dataclasses
import gzip
import hashlib
import os
import pathlib
import zlib

from ..._errors import complain
from ..errors import UsageError

DATA_DIR = "EXPECTAX_DATA_DIR"
"""Environment variable: the folder that stands where no --data-dir is passed."""


@dataclasses.dataclass(frozen=True)
class DataFile:
    """A file as its authors published it.

    Attributes:
        name: of the file.
        sha256: of its bytes, in hexadecimal; None where none was ever published.
        size: in bytes; 0 where the checksum is not known either.
        urls: where it can be had, the first that answers wins. Without a checksum it is for people
            to fetch: nothing is downloaded that cannot be known again.
        zipped: whether NAME.gz serves as well; checksum and size are of what is in it.
        optional: whether the set can be used without it.
    """

    name: str
    sha256: str | None
    size: int
    urls: tuple[str, ...] = ()
    zipped: bool = False
    optional: bool = False

    def locate(self, folder: pathlib.Path) -> pathlib.Path:
        """The file in a folder; the path that it should have, if it is not there."""
        path, packed = folder / self.name, folder / f"{self.name}.gz"
        return packed if self.zipped and packed.exists() and not path.exists() else path

    def is_in(self, folder: pathlib.Path) -> bool:
        """Whether the folder has a file of this name, be it sound or not."""
        return self.locate(folder).exists()

    def read(self, folder: pathlib.Path) -> bytes:
        """The file's bytes, checked.

        Raises:
            UsageError: it is missing, truncated, altered or another file. The message names it
                and both checksums.
        """
        path = self.locate(folder)
        raw = self._bytes(path)
        if path.name != self.name:
            raw = unzip(path, raw)
        if self.sha256 is not None and (found := sha256_of(raw)) != self.sha256:
            size = f" of the published file's {self.size:,}" if self.size else ""
            raise UsageError(
                complain(
                    f"data file {path} is truncated, altered or another file",
                    f"its {len(raw):,} bytes{size} have sha256 {found}, where the published file "
                    f"has {self.sha256}",
                    "fetch the published file again, or pass the --data-dir that has it",
                )
            )
        return raw

    def _bytes(self, path: pathlib.Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            known = f" (its sha256 is {self.sha256})" if self.sha256 else ""
            at = f" from {self.urls[0]}" if self.urls else ""
            raise UsageError(
                complain(
                    f"data file {path} cannot be read",
                    f"{error.strerror or error}{known}",
                    f"put the published file there{at}, or pass --data-dir of the folder that "
                    "has it",
                )
            ) from error


def sha256_of(raw: bytes) -> str:
    """The checksum, in hexadecimal."""
    return hashlib.sha256(raw).hexdigest()


def unzip(path: pathlib.Path, packed: bytes) -> bytes:
    """What is in a gzipped file; `path` is for the error's message."""
    try:
        return gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(
            complain(f"data file {path} cannot be unzipped", str(error), "fetch the file again")
        ) from error


def malformed(path: pathlib.Path, found: str, promised: str) -> UsageError:
    """The error for a file whose bytes are not of its format."""
    return UsageError(
        complain(f"data file {path} {found}", promised, "pass the file as it was published")
    )


def home() -> pathlib.Path:
    """The folder of data where no --data-dir is passed: EXPECTAX_DATA_DIR, or the user's cache."""
    import pooch  # half a second to import, and only needed here

    return pathlib.Path(os.environ.get(DATA_DIR) or pooch.os_cache("expectax"))


def folder_of(folder: str, data_dir: pathlib.Path | None) -> pathlib.Path:
    """Where a set's files lie: in `folder` of the data folder, or in the data folder itself."""
    if data_dir is None:
        return home() / folder
    return data_dir / folder if (data_dir / folder).is_dir() else data_dir
