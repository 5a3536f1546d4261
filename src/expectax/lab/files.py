"""Files that are never seen half written."""

import os
import pathlib

TEMPORARY = "writing-"
"""How names begin of what is half written; a rename takes it off."""


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Write a text file so that it is never seen half written."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    with open(temporary, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
