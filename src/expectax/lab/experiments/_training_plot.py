"""The picture of an experiment that trains: curves with error bands, by step and by the clock."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from .. import plots
from ._labels import label_ends

COLORS = ("#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#1f78b4", "#66a61e", "#a6761d", "#444444")


@dataclasses.dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        figure: which of the curves.
        title: what it is, with its unit.
        clock: whether it is drawn over seconds instead of steps.
        log: whether its height is logarithmic.
    """

    figure: str
    title: str
    clock: bool = False
    log: bool = False


def draw(
    path: pathlib.Path,
    title: str,
    panels: Sequence[Panel],
    curves: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Write the picture.

    Arguments:
        path: of the PNG file.
        title: above all panels.
        panels: from left to right, two to a row where there are more than three.
        curves: by contender: "step", "seconds", and figures of shape (seeds, points).
    """
    columns = len(panels) if len(panels) < 4 else math.ceil(len(panels) / 2)
    height = math.ceil(len(panels) / columns)
    with plots.style():
        canvas = plots.figure(6.2 * columns, 0.7 + 4.4 * height)
        canvas.suptitle(title, x=0.01, ha="left", fontsize=13)
        grid = canvas.subplots(height, columns, squeeze=False).ravel()
        for axes, panel in zip(grid, panels, strict=False):
            _draw_panel(axes, panel, curves)
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        canvas.savefig(path, dpi=120)


def _draw_panel(axes: Axes, panel: Panel, curves: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    means = []
    for (name, points), color in zip(curves.items(), COLORS, strict=False):
        if panel.figure not in points:
            continue
        values = np.asarray(points[panel.figure], float)
        x = points["seconds" if panel.clock else "step"]
        mean = values.mean(0)
        if len(values) > 1:
            error = values.std(0, ddof=1) / math.sqrt(len(values))
            axes.fill_between(x, mean - error, mean + error, color=color, alpha=0.25, linewidth=0)
        axes.plot(x, mean, color=color, linewidth=1.7, label=name)
        if panel.clock:
            axes.plot(x[-1:], mean[-1:], "o", color=color, markersize=5, clip_on=False)
        means.append(mean)
    axes.set_title(panel.title)
    axes.set_xlabel("seconds of all seeds" if panel.clock else "step")
    axes.xaxis.set_major_formatter(plots.short_number)
    axes.margins(x=0)
    axes.set_xlim(left=0)
    if panel.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        _focus(axes, means)
    if not panel.clock:  # there the curves end at different places, each with a dot
        label_ends(axes)


def _focus(axes: Axes, means: Sequence[np.ndarray]) -> None:
    """Leave the first steep change outside the picture, where there is more to see than it."""
    later = np.concatenate([mean[max(1, len(mean) // 8) :] for mean in means])
    low, high = float(later.min()), float(later.max())
    if high > low:
        axes.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
