"""The picture of the control-variates experiment: a panel for each method, over its parameter."""

import pathlib
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ._control_variates_curves import (
    ANTITHETIC,
    BLACKWELL,
    COMMON,
    PAIR,
    SAME,
    STRATA,
    Curve,
)
from ._labels import label_ends

COLORS = ("#666666", "#d95f02", "#1b9e77", "#7570b3", "#1f78b4")

PANELS = {
    PAIR: ("correlation ρ", "linear", "linear"),
    SAME: ("draws n", "log", "linear"),
    ANTITHETIC: ("a", "linear", "linear"),
    STRATA: ("strata n", "log", "log"),
    COMMON: ("half the step δ", "log", "log"),
    BLACKWELL: ("bits n", "linear", "linear"),
}
"""Horizontal label and scales."""

Points = Mapping[float, tuple[tuple[float, float], tuple[float, float]]]
"""By parameter: variance ratio with its error, and bias with its error."""


def draw(measured: Mapping[Curve, Points], run_dir: pathlib.Path) -> None:
    """Write `control-variates.png`."""
    figure = Figure(figsize=(17.0, 9.0), layout="constrained")
    figure.suptitle(
        "Variance over that of plain Monte Carlo with as many evaluations (on bits: over that of "
        "one score function). Lines: closed form; dots: measured, ± 3 s.e.",
        x=0.01,
        ha="left",
    )
    for axes, panel in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
        curves = [curve for curve in measured if curve.panel == panel]
        colors = COLORS if len(curves) > 2 else COLORS[1:]
        for curve, color in zip(curves, colors, strict=False):
            _curve(axes, curve, measured[curve], color)
        _dress(axes, panel, curves[0].points)
    figure.savefig(run_dir / "control-variates.png", dpi=130)


def _curve(axes: Axes, curve: Curve, points: Points, color: str) -> None:
    x = np.array(curve.points)
    biased = curve.panel == SAME  # there it is the bias that matters
    pairs = np.array([pair[1] if biased else pair[0] for pair in points.values()])
    derived = curve.bias if biased else curve.ratio
    axes.errorbar(x, pairs[:, 0], 3 * pairs[:, 1], fmt="o", markersize=4, color=color)
    if derived is None:
        return
    line = np.linspace(x[0], x[-1], 100)
    if curve.panel in (SAME, STRATA, COMMON):
        line = np.geomspace(x[0], x[-1], 100)
    if curve.panel == BLACKWELL:
        line = np.arange(1, x[-1] + 1)
    axes.plot(line, [derived(float(v)) for v in line], color=color, label=curve.name)


def _dress(axes: Axes, panel: str, ticks: tuple[float, ...]) -> None:
    label, horizontal, vertical = PANELS[panel]
    axes.set_title(panel, fontsize=11, loc="left")
    axes.set(xscale=horizontal, yscale=vertical)
    axes.set_xlabel(label)
    axes.set_ylabel("bias" if panel == SAME else "variance ratio")
    axes.margins(x=0.02)
    if panel in (SAME, STRATA, BLACKWELL):
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    axes.autoscale_view()  # the names are placed by final limits
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    label_ends(axes, gap=0.075)
