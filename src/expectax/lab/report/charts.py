"""The pictures of a report: curves with bands as SVG that follows the page's colors, and as PNG."""

import base64
import html
import io
import math
import pathlib
import re
from collections.abc import Callable, Sequence

import matplotlib
import matplotlib.image
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from .. import plots
from ..files import TEMPORARY
from .read import RunRecord

AXES = {
    "step": "by step",
    "seconds": "by wall-clock time",
    "evaluations": "by evaluations of f",
}
"""What curves are drawn over, and what that is called."""

COLORS = ("#1b7f79", "#c8553d", "#6a5fb0", "#b8348a", "#2f6fb3", "#5d8a1f", "#96691c", "#5a5d70")
"""On white; the page has lighter ones of the same hues for dark paper (`--c0` and on)."""

DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)))
"""Of the lines when the colors have run out."""

MOST_POINTS = 400
"""Of a curve; more are thinned."""

MOST_PICTURES = 100
"""Of a block."""

_PLAIN = {"text.parse_math": False, "svg.fonttype": "none"}  # a name may have dollars in it
_UNITS = ((1.0, "seconds"), (60.0, "minutes"), (3600.0, "hours"), (86400.0, "days"))


def look(index: int) -> tuple[str, str | tuple[int, tuple[float, ...]]]:
    """Color and dashes of a run."""
    return COLORS[index % len(COLORS)], DASHES[index // len(COLORS) % len(DASHES)]


def curve_svg(runs: Sequence[RunRecord], figure: str, axis: str, alt: str) -> str:
    """One chart, to stand in a page: its colors are the page's, its text is text.

    Arguments:
        runs: a line each, in this order's colors.
        figure: which of their curves.
        axis: a key of `AXES`.
        alt: what a reader who does not see it is told.
    """
    salt = {"svg.hashsalt": f"{figure} {axis} {[str(run.path) for run in runs]}"}
    with plots.style(), matplotlib.rc_context({**_PLAIN, **salt}):  # type: ignore[arg-type]
        canvas = Figure(figsize=(3.9, 2.65))  # charts in a row have their axes in line
        _draw(canvas.add_axes((0.165, 0.175, 0.82, 0.79)), runs, figure, axis)
        file = io.StringIO()
        canvas.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _inline(file.getvalue(), alt)


def _inline(svg: str, alt: str) -> str:
    """An SVG file as an element: page colors for fixed ones, no metadata, no names of its own."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.S)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    # the root: as wide as its place, described, and without the namespaces that HTML has anyway
    (box,) = re.findall(r'^<svg[^>]* (viewBox="[^"]*")', svg)
    root = f'<svg class="chart" {box} role="img" aria-label="{html.escape(alt)}">'
    svg = svg.replace(plots.INK, "currentColor").replace(plots.GRID, "var(--grid)")
    for i, color in enumerate(COLORS):
        svg = svg.replace(color, f"var(--c{i})")
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    # last: what people wrote is in the root alone, and no pattern may see it
    return re.sub(r"^<svg[^>]*>", lambda _: root, svg)


def curve_png(path: pathlib.Path, runs: Sequence[RunRecord], figure: str, title: str) -> None:
    """The same chart over every axis side by side, as a file to show elsewhere."""
    axes = axes_of(runs)
    with plots.style(), matplotlib.rc_context(_PLAIN):  # type: ignore[arg-type]
        canvas = plots.figure(4.6 * len(axes), 3.9)
        canvas.suptitle(title, x=0.01, ha="left", color=plots.INK, fontsize=13)
        for panel, axis in zip(canvas.subplots(1, len(axes), squeeze=False)[0], axes, strict=True):
            _draw(panel, runs, figure, axis)
        handles = canvas.axes[0].get_lines()
        names = [run.name for run in runs if figure in run.curves]
        canvas.legend(handles, names, loc="outside lower left", ncols=min(4, len(names)))
        _save(canvas, path)


def axes_of(runs: Sequence[RunRecord]) -> list[str]:
    """The axes that some of the runs know."""
    return [axis for axis in AXES if any(axis in run.axes for run in runs)]


def _draw(axes: Axes, runs: Sequence[RunRecord], figure: str, axis: str) -> None:
    means, drawn = [], [run for run in runs if figure in run.curves and axis in run.axes]
    longest = max((float(np.nanmax(run.axes[axis])) for run in drawn), default=1.0)
    unit, word = _unit(longest) if axis == "seconds" else (1.0, axis)
    for index, run in enumerate(runs):
        if run not in drawn:
            continue
        color, dashes = look(index)
        x, mean, error = _band(run, figure, axis)
        if np.isfinite(error).any():
            low, high = mean - error, mean + error
            axes.fill_between(x / unit, low, high, color=color, alpha=0.22, linewidth=0)
        axes.plot(x / unit, mean, color=color, linestyle=dashes, linewidth=1.8)
        means.append(mean)
    axes.set_xlabel({"evaluations": "evaluations of f", "step": "step"}.get(axis, word))
    axes.xaxis.set_major_formatter(plots.short_number)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.margins(x=0.015)
    axes.set_xlim(left=0)
    axes.tick_params(length=0, which="both")
    if "variance" in figure and all((mean[np.isfinite(mean)] > 0).all() for mean in means):
        axes.set_yscale("log")
        means = [mean[np.isfinite(mean)] for mean in means]
        _focus(axes, [np.log10(mean) for mean in means], lambda height: 10**height)
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=7))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        _focus(axes, means)


def _unit(seconds: float) -> tuple[float, str]:
    """The largest unit of which there are at least two."""
    return next((u, word) for u, word in reversed(_UNITS) if seconds >= 2 * u or u == 1)


def _band(run: RunRecord, figure: str, axis: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, mean over seeds, and its standard error (NaN for one seed), thinned."""
    values = run.curves[figure]
    keep = np.isfinite(values).all(0) & np.isfinite(run.axes[axis])
    x, values = run.axes[axis][keep], values[:, keep]
    thin = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_POINTS)).astype(int))
    x, values = x[thin], values[:, thin]
    one = len(values) == 1
    error = np.full(len(x), np.nan) if one else values.std(0, ddof=1) / math.sqrt(len(values))
    return x, values.mean(0), error


def _focus(
    axes: Axes,
    means: Sequence[np.ndarray],
    back: Callable[[float], float] = lambda height: height,
) -> None:
    """Leave the first steep change outside the picture, if there is more to see than it.

    Arguments:
        axes: what is drawn in.
        means: heights of the curves, on the scale on which they are looked at.
        back: from that scale to a figure.
    """
    later = [mean[len(mean) // 8 :] for mean in means if len(mean) >= 16]
    if not later or len(later) < len(means):
        return
    low, high = min(x.min() for x in later), max(x.max() for x in later)
    if high > low:
        margin = 0.08 * (high - low)
        axes.set_ylim(back(low - margin), back(high + margin))


def _save(canvas: Figure, path: pathlib.Path) -> None:
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    canvas.savefig(temporary, format="png", dpi=120)
    temporary.replace(path)


def block_uri(pictures: np.ndarray) -> str:
    """A square grid of pictures, (n, height, width) in [0, 1], as a PNG of a pixel a pixel."""
    shown = pictures[:MOST_PICTURES]
    ink = LinearSegmentedColormap.from_list("ink", [plots.PAPER, plots.INK])
    grid = plots.montage(shown, shown.shape[1:])
    file = io.BytesIO()
    shades = ink.with_extremes(bad=plots.GRID)(np.ma.masked_invalid(grid), bytes=True)
    matplotlib.image.imsave(file, np.ascontiguousarray(shades), format="png")
    return data_uri(file.getvalue())


def data_uri(png: bytes) -> str:
    """A PNG file as the address of itself."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def swatch(index: int) -> str:
    """A piece of a run's line, for the legend."""
    _, dashes = look(index)
    array = "" if isinstance(dashes, str) else " ".join(str(3 * x) for x in dashes[1])
    line = '<svg class="swatch" viewBox="0 0 28 8" aria-hidden="true"><path d="M1 4H27" '
    return f'{line}stroke="var(--c{index % len(COLORS)})" stroke-dasharray="{array}"/></svg>'
