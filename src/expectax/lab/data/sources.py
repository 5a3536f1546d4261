"""What a data set is, and how its files become arrays."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from ..errors import UsageError
from .fetch import fetch
from .files import DataFile, folder_of

Bytes = Mapping[str, tuple[bytes, pathlib.Path]]
"""Checked bytes and where they were read, by the name of their file."""


@dataclasses.dataclass(frozen=True)
class Raw:
    """A data set in main memory: rows of pixels, grey levels (0 … 255) or bits."""

    train: np.ndarray
    test: np.ndarray
    valid: np.ndarray | None = None
    train_labels: np.ndarray | None = None
    test_labels: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Form:
    """Files that together hold a data set, and their reader."""

    files: tuple[DataFile, ...]
    parse: Callable[[Bytes], Raw]


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set, wherever its files may lie.

    Attributes:
        title: its name for people.
        folder: where its files lie in the data folder.
        forms: the ways it is published, the preferred one first.
        shape: height and width.
        grey: whether it is published as grey levels.
        binarizations: what `--binarization` may be, the default first.
        split: how many pictures, and whose split it is.
        licence: as stated by its authors, and who they are.
        classes: names of the classes, where it has labels.
        bundled: the data itself where it comes with the installation.
    """

    title: str
    folder: str
    forms: tuple[Form, ...]
    shape: tuple[int, int]
    grey: bool
    binarizations: tuple[str, ...]
    split: str
    licence: str
    classes: tuple[str, ...] = ()
    bundled: Callable[[], Raw] | None = None

    @property
    def size(self) -> str:
        """Height and width, for people."""
        return f"{self.shape[0]}×{self.shape[1]}"

    def form(self, folder: pathlib.Path) -> Form:
        """The form of which the folder has most files; where it has none, the preferred one."""
        return max(self.forms, key=lambda form: sum(file.is_in(folder) for file in form.files))

    def read(self, data_dir: pathlib.Path | None) -> Raw:
        """The data, from checked files.

        Arguments:
            data_dir: the folder of the files, or the one above; nothing is downloaded then.

        Raises:
            UsageError: a file is missing, truncated or altered, or cannot be downloaded.
        """
        if self.bundled is not None:
            return self.bundled()
        folder = folder_of(self.folder, data_dir)
        form = self.form(folder)
        found = {}
        for file in form.files:
            try:
                raw = self._bytes(file, folder, download=data_dir is None)
            except UsageError:
                if file.optional and not file.is_in(folder):
                    continue
                raise
            found[file.name] = (raw, file.locate(folder))
        return form.parse(found)

    def _bytes(self, file: DataFile, folder: pathlib.Path, download: bool) -> bytes:
        try:
            return file.read(folder)
        except UsageError as error:
            if download and file.urls and file.sha256:
                fetch(file, folder)
                return file.read(folder)
            if file.is_in(folder) or not (others := self._other_files(file)):
                raise
            raise UsageError(f"{error}; {self.title} is read from {others} too") from error

    def _other_files(self, file: DataFile) -> str:
        """The files of the other forms."""
        others = [form.files for form in self.forms if file not in form.files]
        return " or ".join(", ".join(f.name for f in files) for files in others)
