"""`expectax report`: what it is asked, and what it prints."""

import dataclasses
import pathlib
from typing import Annotated

import tyro
from rich.console import Console

from ..._errors import complain
from ..errors import UsageError
from ..run_folder import claim_folder, fresh_folder


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """Make one page of runs: curves, tables, samples, configs."""

    runs: Annotated[
        tuple[pathlib.Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")
    ] = ()
    """folders that train or reproduce left, or folders that hold such"""
    run_dir: pathlib.Path | None = None
    """folder for page and pictures; by default that of the run itself, or, of several, the first
    free runs/report-N"""


def run_report(options: ReportOptions, console: Console) -> None:
    """Write the page, and say where it is."""
    from .. import show
    from .page import write_report
    from .read import kind_of, read_groups

    if not options.runs:
        raise UsageError(
            complain(
                "expectax report was given no run",
                "there is nothing to report on",
                "pass the folder of a run: expectax report runs/NAME",
            )
        )
    with console.status("drawing"):
        groups = read_groups(options.runs)  # refused before a folder is made
        del groups
        one = options.runs[0] if len(options.runs) == 1 and kind_of(options.runs[0]) else None
        if options.run_dir is None and one is not None:
            folder = one
        else:
            fresh_folder(options.run_dir, "report")
            folder = claim_folder(options.run_dir, "report")
        page, *pictures = write_report(options.runs, folder)
    show.show_lines(console, {"report": page} | {path.stem: path for path in pictures})
