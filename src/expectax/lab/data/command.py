"""`expectax data`: list the data sets, fetch, verify and show them."""

import dataclasses
import pathlib
from collections.abc import Iterable
from typing import Annotated

import rich.box
import tyro
from rich.console import Console
from rich.table import Table

from ..._errors import complain
from ..errors import UsageError, either, unknown
from ..show import show_lines
from .catalog import DATASETS, chosen_binarization
from .dataset import BINARIZATIONS
from .fetch import fetch
from .files import DATA_DIR, DataFile, folder_of, home
from .sources import Source


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """List the data sets; fetch, verify or show one."""

    action: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ACTION")] = "list"
    """list, fetch (download), verify (checksums) or show (a sheet of samples)"""
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = ""
    """the data set, as in --data; verify without it takes all that are found"""
    data_dir: pathlib.Path | None = None
    """folder with the published files, or the folder above it; by default EXPECTAX_DATA_DIR or
    the user's cache"""
    binarization: str | None = None
    """how show draws it: static, dynamic, threshold or grey; by default the data set's own"""
    output: pathlib.Path | None = None
    """picture that show draws; by default NAME.png"""


def run_data(options: DataOptions, console: Console) -> None:
    """Do what the options say.

    Raises:
        UsageError: a name that is not known, a file that is missing, truncated or altered, or
            that cannot be downloaded.
    """
    actions = {"list": _list, "fetch": _fetch, "verify": _verify, "show": _show}
    if options.action not in actions:
        raise unknown("action", options.action, list(actions))
    if not options.name and options.action in ("fetch", "show"):
        raise UsageError(
            complain(
                f"expectax data {options.action} was given no NAME",
                "it takes one data set",
                f"pass {either(list(DATASETS))}",
            )
        )
    if options.name and options.name not in DATASETS:
        raise unknown("data set", options.name, list(DATASETS))
    actions[options.action](options, console)


def check(file: DataFile, folder: pathlib.Path) -> str:
    """What can be said of a file: missing, verified, altered, or present with no checksum."""
    if not file.is_in(folder):
        return "missing"
    try:
        file.read(folder)
    except UsageError:
        return "altered"
    return "verified" if file.sha256 else "no checksum published"


def _list(options: DataOptions, console: Console) -> None:
    if not console.is_terminal:
        console = Console(file=console.file, width=200)  # a pipe has no width
    table = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, row_styles=["", "on grey11"])
    table.add_column("--data", no_wrap=True)
    for heading in ("found", "split", "--binarization", "source and licence"):
        table.add_column(heading)
    lies: dict[str, object] = {}
    for name in [options.name] if options.name else DATASETS:
        source = DATASETS[name]
        default, *others = source.binarizations
        table.add_row(
            f"[bold]{name}[/bold]\n[dim]{source.size}[/dim]",
            _found(name, source, options.data_dir),
            source.split,
            "\n".join([f"{default} (default)" if others else default, *others]),
            source.licence,
        )
        if source.forms:
            lies[name] = folder_of(source.folder, options.data_dir)
    console.print(table)
    if options.data_dir is None:
        lies["without --data-dir"] = f"{home()}; another by {DATA_DIR}"
    if lies:
        show_lines(console, lies)


def _found(name: str, source: Source, data_dir: pathlib.Path | None) -> str:
    """In what state a set's files are, and how large."""
    if source.bundled is not None:
        return "comes with the installation"
    folder = folder_of(source.folder, data_dir)
    form = source.form(folder)
    states = {file.name: check(file, folder) for file in form.files}
    if set(states.values()) == {"missing"}:
        able = all(file.sha256 for file in form.files)
        return "not here: " + (f"expectax data fetch {name}" if able else f"put {_names(states)}")
    told = [
        state + (f": {_names(those)}" if len(those) < len(states) else "")
        for state in ("verified", "no checksum published", "altered", "missing")
        if (those := [file for file, found in states.items() if found == state])
    ]
    size = sum(file.locate(folder).stat().st_size for file in form.files if file.is_in(folder))
    return f"{'; '.join(told)}, {_readable(size)}"


def _names(files: Iterable[str]) -> str:
    return ", ".join(files)


def _readable(size: int) -> str:
    """A number of bytes, for people.

    Example:
        >>> _readable(45226), _readable(11_594_722)
        ('45 kB', '11.6 MB')
    """
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def _fetch(options: DataOptions, console: Console) -> None:
    source = DATASETS[options.name]
    if source.bundled is not None:
        show_lines(console, {options.name: "comes with the installation"})
        return
    folder = (options.data_dir or home()) / source.folder
    for file in source.form(folder).files:
        with console.status(f"fetching {file.name}"):
            path = fetch(file, folder, lambda line: show_lines(console, {"": line}))
        show_lines(console, {file.name: f"{check(file, folder)}, {path}"})


def _verify(options: DataOptions, console: Console) -> None:
    names = [options.name] if options.name else list(DATASETS)
    seen, bad = 0, []
    for name in names:
        source = DATASETS[name]
        folder = folder_of(source.folder, options.data_dir)
        files = source.form(folder).files if source.forms else ()
        if not options.name and not any(file.is_in(folder) for file in files):
            continue
        for file in files:
            seen += 1
            state = check(file, folder)
            if state == "altered" or (state == "missing" and not file.optional):
                bad.append((file, folder))
            show_lines(console, {f"{name}  {file.locate(folder)}": f"{state}  {file.sha256 or ''}"})
    for file, folder in bad:
        file.read(folder)  # raises what is wrong with the first
    if not seen and options.name:
        show_lines(console, {options.name: "comes with the installation"})
    elif not seen:
        raise UsageError(
            complain(
                f"no data set was found in {options.data_dir or home()}",
                "none of the published files lie there",
                "pass --data-dir of the folder that has them, or expectax data fetch NAME",
            )
        )


def _show(options: DataOptions, console: Console) -> None:
    from . import load
    from .sheet import draw_sheet  # matplotlib: too slow for --help

    path = options.output or pathlib.Path(f"{options.name}.png")
    if path.exists():
        raise UsageError(
            complain(f"{path} exists", "nothing is ever overwritten", "pass another --output")
        )
    if not path.parent.is_dir():
        raise UsageError(
            complain(f"--output is {path}", "there is no such folder", "pass another --output")
        )
    source = DATASETS[options.name]
    how = chosen_binarization(options.name, options.binarization)
    with console.status("loading"):
        data = load(options.name, options.data_dir, how)
    draw_sheet(path, data, f"{source.title}, {BINARIZATIONS[how]}", source.classes)
    show_lines(console, {"data": data.summary, "licence": source.licence, "sheet": path})
