"""The page itself: what the runs come to, put into the template."""

import importlib.metadata
import json
import math
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import jinja2
import numpy as np

from ..files import write_atomically
from . import charts
from .read import Group, RunRecord, number, read_groups

PAGE = "report.html"

LARGEST_PICTURE = 1_500_000
"""Bytes of a picture that is put into the page; a larger one is only named."""

MANY_ROWS = 40
"""Of all tables of an experiment: with more, only the first is unfolded."""

_WORDS = {"elbo": "ELBO", "vae": "VAE", "kl": "KL"}
_FIRST = ("train_elbo", "test_elbo", "gradient_variance")


def write_report(
    paths: Sequence[pathlib.Path], folder: pathlib.Path, *, png: bool = True
) -> list[pathlib.Path]:
    """Write the page of these folders, and its curves as PNG files.

    Arguments:
        paths: folders of runs or reproductions, or folders that hold such.
        folder: where to; it exists. A page that is there is replaced.
        png: whether the curves are written as files too.

    Returns:
        What was written, the page first.

    Raises:
        UsageError: a folder that holds no run, or a damaged one. Nothing has been written.
    """
    groups = read_groups(paths)
    page = folder / PAGE
    html = render(groups)
    write_atomically(page, html)
    return [page, *(_pngs(groups, folder) if png else [])]


def render(groups: Sequence[Group]) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("expectax.lab.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(
        title=", ".join(_title(group) for group in groups),
        version=importlib.metadata.version("expectax"),
        groups=[_group(group) for group in groups],
        colors=charts.COLORS,
        ink=charts.plots.INK,
    )


def _pngs(groups: Sequence[Group], folder: pathlib.Path) -> list[pathlib.Path]:
    written = []
    for group in groups:
        for figure in figures_of(group.runs):
            stem = "-".join(filter(None, ("report", group.name, figure))).replace("_", "-")
            path = folder / f"{''.join(c if c.isalnum() else '-' for c in stem)}.png"
            title = f"{_title(group)}: {words(figure)}"
            charts.curve_png(path, group.runs, figure, title)
            written.append(path)
    return written


def figures_of(runs: Sequence[RunRecord]) -> list[str]:
    """The figures that have curves, the most telling first; without those that no point has."""
    known = {name for run in runs for name, x in run.curves.items() if np.isfinite(x).all(0).any()}
    return [n for n in _FIRST if n in known] + sorted(
        known - {*_FIRST}, key=lambda name: (name == "objective", name)
    )


def words(name: str) -> str:
    """What a figure is called.

    Example:
        >>> words("test_elbo"), words("test_bound_100"), words("gradient_variance")
        ('test ELBO', 'test 100-sample bound', 'gradient variance')
    """
    parts = name.split("_")
    if len(parts) > 1 and parts[-2] == "bound" and parts[-1].isdecimal():
        parts = [*parts[:-2], f"{parts[-1]}-sample", "bound"]
    return " ".join(_WORDS.get(part, part) for part in parts)


def amount(mean: float, error: float = math.nan) -> str:
    """A figure: `mean ± s.e.` with two digits of the error, or five digits if there is no error.

    Example:
        >>> amount(-116.3042, 0.1234), amount(-116.3042), amount(0.25, 0.0), amount(math.nan)
        ('−116.30 ± 0.12', '−116.3', '0.25 ± 0', '–')
    """
    if not math.isfinite(mean):
        return "–"
    if error == 0:
        text = f"{mean:.7g} ± 0"
    elif not math.isfinite(error):
        text = f"{mean:.5g}"
    else:
        digits = min(12, max(0, 1 - math.floor(math.log10(error))))
        text = f"{mean:.{digits}f} ± "
        text += f"{error:.{digits}f}" if 1e-5 <= error < 1e6 else f"{error:.1e}"
    return text.replace("-", "−")


def over_seeds(values: Sequence[float]) -> str:
    """Mean ± s.e. over seeds."""
    array = np.asarray(values, float)
    if len(array) < 2:
        return amount(float(array[0]))
    return amount(float(array.mean()), float(array.std(ddof=1) / math.sqrt(len(array))))


def duration(seconds: float) -> str:
    """Seconds as people say them.

    Example:
        >>> duration(4.25), duration(200), duration(8000)
        ('4.2 s', '3.3 min', '2.2 h')
    """
    for unit, name in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.1f} s"


def _title(group: Group) -> str:
    if group.name:
        return group.name
    names = [run.name for run in group.runs]
    return names[0] if len(names) == 1 else f"{len(names)} runs"


def _group(group: Group) -> dict[str, Any]:
    """All that the template shows of a group, as text and pictures."""
    runs = group.runs
    settings = {} if runs else group.record.get("settings", {})
    configs = [(run.name, run.config) for run in runs] or [("settings", settings)]
    machines = [(run.name, run.machine) for run in runs]
    return {
        "title": _title(group),
        "subtitle": _subtitle(runs[0].config) if len(runs) == 1 and not group.name else "",
        "protocol": group.record.get("protocol", ""),
        "summary": "" if _nothing_judged(group.record) else group.record.get("summary", ""),
        "unfinished": bool(group.name) and not group.record,
        "begun": group.begun,
        "tables": (tables := _published(group.record)),
        "long": sum(len(table["rows"]) for table in tables) > MANY_ROWS,
        "runs": [_run(run, index, runs) for index, run in enumerate(runs)],
        "several_seeds": any(run.num_seeds > 1 for run in runs),
        "counted": any("evaluations" in run.axes for run in runs),
        "figures": [_figure(runs, name, _title(group)) for name in figures_of(runs)],
        "pictures": [_picture(path) for path in group.pictures],
        "config": _side_by_side(configs),
        "machine": _side_by_side(machines or [("", _versions(group.record))]),
    }


def _subtitle(config: dict[str, Any]) -> str:
    """What tells one run from another at a glance."""
    told = (config.get(name) for name in ("model", "data", "estimator"))
    return " · ".join(_text(choice) for choice in told if choice is not None)


def _nothing_judged(record: dict[str, Any]) -> bool:
    return not any(row["mark"] != "open" for table in _published(record) for row in table["rows"])


def _versions(record: dict[str, Any]) -> dict[str, str]:
    known = record.get("versions")
    machine = record.get("settings", {}).get("machine")
    return (known if isinstance(known, dict) else {}) | ({"machine": machine} if machine else {})


def _run(run: RunRecord, index: int, runs: Sequence[RunRecord]) -> dict[str, Any]:
    steps = run.config.get("steps")
    seconds = run.axes.get("seconds")
    known = {name for other in runs for name in other.figures}
    shown = [n for n in _FIRST if n in known] + sorted(known - {*_FIRST})
    nothing = [math.nan]
    sheet = run.path / "samples.png"
    return {
        "name": run.name,
        "task": run.task,
        "swatch": charts.swatch(index),
        "finished": bool(run.results),
        "progress": f"{run.step:,} of {steps:,}" if isinstance(steps, int) else f"{run.step:,}",
        "seeds": run.num_seeds,
        "seconds": "–" if seconds is None else duration(float(np.nanmax(seconds))),
        "figures": [(words(name), over_seeds(run.figures.get(name, nothing))) for name in shown],
        "blocks": [
            {
                "title": title,
                "uri": charts.block_uri(x),
                "alt": f"{min(len(x), charts.MOST_PICTURES)} pictures in a square grid: "
                f"{title}, {run.name}",
            }
            for title, x in run.blocks.items()
        ],
        "sheet": _picture(sheet) if sheet.exists() and not run.blocks else None,
    }


def _figure(runs: Sequence[RunRecord], name: str, title: str) -> dict[str, Any]:
    panels = []
    for axis in charts.axes_of(runs):
        drawn = [run for run in runs if axis in run.axes and name in run.curves]
        last = "; ".join(
            f"{run.name} ends at {over_seeds(run.curves[name][:, -1].tolist())}" for run in drawn
        )
        alt = f"{words(name)} {charts.AXES[axis]}, {title}: {last}"
        panels.append((charts.AXES[axis], charts.curve_svg(runs, name, axis, alt)))
    notes = {
        "gradient_variance": "of the encoder's gradient, summed over its parameters; log scale",
        "objective": "what is minimised, mean over the steps since the point before",
    }
    note = notes.get(name, "")
    note = "nats a row of data" if "elbo" in name or "bound" in name else note
    return {"title": words(name), "note": note, "panels": panels}


def _picture(path: pathlib.Path) -> dict[str, str]:
    small = path.stat().st_size <= LARGEST_PICTURE
    return {
        "name": path.name,
        "uri": charts.data_uri(path.read_bytes()) if small else "",
        "alt": f"Picture {path.stem.replace('-', ' ')} of {path.parent.name}",
    }


def _published(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The table of an experiment, by its groups."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for row in record.get("rows", []):
        verdict = row.get("verdict")
        verdict = verdict if isinstance(verdict, dict) else {}
        tables.setdefault(str(row.get("group", "")), []).append(
            {
                "name": row.get("name", ""),
                "evaluations": row.get("evaluations", ""),
                "quantity": row.get("quantity", ""),
                "published": str(row.get("published") or "–").replace("-", "−", 1),
                "ours": amount(number(row.get("ours")), number(row.get("standard_error"))),
                "verdict": verdict.get("text", ""),
                "mark": {"True": "holds", "False": "fails"}.get(str(verdict.get("holds")), "open"),
            }
        )
    return [
        {
            "title": title,
            "rows": rows,
            # a column that says nothing here only makes the table hard to read on a phone
            "show": {
                "quantity": {row["quantity"] for row in rows} != {title.partition(",")[0]},
                "published": any(row["published"] != "–" for row in rows),
                "verdict": any(row["verdict"] for row in rows),
            },
        }
        for title, rows in tables.items()
    ]


def _side_by_side(named: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Choices that all share, and for those that differ one column for each."""
    given = list(named)
    keys = list(dict.fromkeys(key for _, choices in given for key in choices))
    unset = [k for k in keys if all(choices.get(k) is None for _, choices in given)]
    named = [(name, {k: _text(x) for k, x in choices.items()}) for name, choices in given]
    keys = [k for k in keys if k not in unset]
    value = lambda choices, key: choices.get(key, "–")
    common = [k for k in keys if len({value(choices, k) for _, choices in named}) == 1]
    return {
        "common": [(key, value(named[0][1], key)) for key in common],
        "unset": unset,
        "names": [name for name, _ in named],
        "differing": [
            (key, [value(choices, key) for _, choices in named])
            for key in keys
            if key not in common
        ],
    }


def _text(value: Any) -> str:
    """A choice as text of bounded length."""
    if value is None:
        return "–"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 400 else f"{text[:400]}…"
