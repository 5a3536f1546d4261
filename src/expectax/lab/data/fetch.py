"""Downloads, each known by its checksum before it is kept."""

import logging
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from ..._errors import complain
from ..errors import UsageError
from .files import DataFile, sha256_of

OFFLINE = "EXPECTAX_OFFLINE"
"""Environment variable: if set, nothing is ever downloaded."""

_PATIENCE = 30.0  # seconds without a byte


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def fetch(
    file: DataFile, folder: pathlib.Path, note: Callable[[str], None] = _tell
) -> pathlib.Path:
    """Download a file, unless the folder has it already, whole.

    It appears in the folder only once its checksum is right.

    Arguments:
        file: what to have.
        folder: where to; made if need be.
        note: called with one line before each attempt; by default it goes to standard error.

    Returns:
        The path of the file.

    Raises:
        UsageError: no source gave the published bytes. The message names the file, its checksum,
            every address that was tried and why it failed.
    """
    path = file.locate(folder)
    if path.exists() and _sound(file, folder):
        return path
    failures = []
    able = file.sha256 is not None and not os.environ.get(OFFLINE)
    for url in file.urls if able else ():
        note(f"downloading {url}")
        failure = _retrieve(url, file, folder)
        if failure is None:
            return folder / file.name
        failures.append(f"{url}: {failure}")
    raise UsageError(_cannot(file, folder, failures))


def _sound(file: DataFile, folder: pathlib.Path) -> bool:
    try:
        file.read(folder)
    except UsageError:
        return False
    return True


def _retrieve(url: str, file: DataFile, folder: pathlib.Path) -> str | None:
    """Why the file cannot be had from there, or None if it now lies in the folder."""
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)  # it tells of every download
    got: list[tuple[int, str]] = []
    outer = sys.exception()  # what the caller is handling is no cause of what fails here

    def download(url: Any, output: Any, asking: Any, **options: Any) -> None:
        pooch.HTTPDownloader(timeout=_PATIENCE)(url, output, asking, **options)
        raw = pathlib.Path(output).read_bytes()
        got.append((len(raw), sha256_of(raw)))

    try:
        pooch.retrieve(
            url,
            known_hash=f"sha256:{file.sha256}",
            fname=file.name,
            path=folder,
            downloader=download,  # type: ignore[arg-type]  # a keyword is passed on
        )
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        # where bytes came, they were the wrong ones
        return _wrong_bytes(file, *got[0]) if got else _first_cause(error, outer)
    return None


def _wrong_bytes(file: DataFile, size: int, found: str) -> str:
    if size < file.size:
        return f"truncated, {size:,} of {file.size:,} bytes (sha256 {found})"
    return f"another file, {size:,} bytes with sha256 {found}"


def _first_cause(error: BaseException, outer: BaseException | None) -> str:
    """The error at the bottom of a chain, in one line: "Connection refused", not five classes."""
    while (inner := error.__cause__ or error.__context__ or _wrapped(error)) not in (None, outer):
        error = inner
    strerror = getattr(error, "strerror", None)
    return strerror or " ".join(str(error).split()) or type(error).__name__


def _wrapped(error: BaseException) -> BaseException | None:
    """The exception that another was given as its argument or its reason."""
    reason = getattr(error, "reason", None)
    candidates = [reason, *error.args]
    return next((c for c in candidates if isinstance(c, BaseException)), None)


def _cannot(file: DataFile, folder: pathlib.Path, failures: list[str]) -> str:
    at = f" (it is at {' or '.join(file.urls)})" if file.urls else ""
    if failures:
        why = "; ".join(failures)
    elif file.sha256 is None:
        why = f"no checksum of it was published, so it is only read where you put it{at}"
    elif not file.urls:
        why = "no address of it is known"
    else:
        why = f"{OFFLINE} is set{at}"
    known = f" (its sha256 is {file.sha256})" if file.sha256 else ""
    again = "try again with a network" if file.sha256 else f"put the file in {folder} yourself"
    return complain(
        f"data file {folder / file.name} cannot be downloaded",
        f"{why}{known}",
        f"{again}, or pass --data-dir DIR of a folder that has the file",
    )
