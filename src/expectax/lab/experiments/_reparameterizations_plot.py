"""The picture of the reparameterizations: draws on each density, and slopes beside exact ones."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ._reparameterizations_draws import Way
from ._reparameterizations_quadrature import Law, Marginal

COLORS = ("#d95f02", "#7570b3", "#1b9e77")
"""Of the ways of a law, in the order of the table."""

SHOWN = 2
"""Numbers of a vector that have a histogram."""

BAND = 2.0
"""Gate B, in per cent of the scale: half the width of the shaded band."""

NUM_COLUMNS = 5
CELL = (3.7, 4.75)
TOP = 1.0
"""Inches: of a law's cell, and above them all."""

Gradient = tuple[Float[np.ndarray, "P"], Float[np.ndarray, "P"]]


@dataclasses.dataclass(frozen=True)
class Histogram:
    """Draws of a number, counted.

    Attributes:
        marginal: the number and its law.
        edges: of the bins.
        height: share of the draws in each bin over its width; of an atom, the share itself.
    """

    marginal: Marginal
    edges: Float[np.ndarray, "M+1"]
    height: Float[np.ndarray, "M"]


def histogram(marginal: Marginal, numbers: Float[np.ndarray, "N"], num: int = 60) -> Histogram:
    """Count where all but 1 % of the law lies, or 6 % of one without a mean; of ±1, at both."""
    if not marginal.law.continuous:
        edges = np.array([-1.3, -0.7, 0.7, 1.3])
        return Histogram(marginal, edges, np.histogram(numbers, edges)[0] / len(numbers))
    rest = 0.005 if marginal.law.moments else 0.03
    low, high = marginal.law.quantiles(rest, 1 - rest)
    edges = np.linspace(low, high, num + 1)
    count = np.histogram(numbers, edges)[0]
    return Histogram(marginal, edges, count / (len(numbers) * np.diff(edges)))


def draw(
    measured: Mapping[Way, tuple[list[Histogram], Gradient]], num_draws: int, run_dir: pathlib.Path
) -> None:
    """Write `reparameterizations.png`.

    Arguments:
        measured: of each way its histograms, and the mean of its derivatives with what gate A
            allows them.
        num_draws: of each way.
        run_dir: where to.
    """
    by_law: dict[Law, list[Way]] = {}
    for way in measured:
        by_law.setdefault(way.law, []).append(way)
    columns = min(NUM_COLUMNS, len(by_law))
    num_rows = -(-len(by_law) // columns)
    width, height = columns * CELL[0], num_rows * CELL[1] + TOP
    figure = Figure(figsize=(width, height))
    figure.text(
        0.15 / width,
        1 - 0.2 / height,
        f"Every reparameterization: {num_draws:,} draws of each way (the first filled, the others "
        "drawn as lines) on the exact density (black), and the derivatives of E[f], "
        "f(x) = log(1 + |x − ½|²).",
        va="top",
        fontsize=14,
    )
    figure.text(
        0.15 / width,
        1 - 0.52 / height,
        "Derivatives: measured minus exact, in per cent of the largest exact one of the same "
        "parameter. Exact, by quadrature: the number on the left. Bars: what 4.48 standard errors "
        "allow. Shaded: ± 2 %.",
        va="top",
        fontsize=11,
        color="#444444",
    )
    for place, (law, ways) in enumerate(by_law.items()):
        left, top = place % columns * CELL[0], place // columns * CELL[1] + TOP
        box = lambda x, y, w, h, left=left, top=top: (
            (left + x) / width,
            1 - (top + y + h) / height,
            w / width,
            h / height,
        )
        below = 0.28 + 0.19 * len(law.entries)
        name_height = 0.44 + 0.17 * len(ways)
        upper = figure.add_axes(box(0.2, name_height, 3.3, CELL[1] - 0.95 - below - name_height))
        lower = figure.add_axes(box(0.95, CELL[1] - 0.45 - below, 2.45, below - 0.05))
        _names(figure, box(0.15, 0.0, 3.4, name_height), law, ways, height)
        _densities(upper, law, [measured[way][0] for way in ways])
        _slopes(lower, law, {way: measured[way][1] for way in ways})
    figure.savefig(run_dir / "reparameterizations.png", dpi=110)


def _names(
    figure: Figure, box: tuple[float, ...], law: Law, ways: Sequence[Way], height: float
) -> None:
    left, bottom, _, tall = box
    top = bottom + tall
    number = lambda v: f"{v:g}".replace("-", "−")
    listed = lambda v: number(v) if v.ndim == 0 else f"({', '.join(map(number, v))})"
    values = ",  ".join(f"{symbol} = {listed(value)}" for symbol, value in law.params.items())
    figure.text(left, top, law.name, va="top", fontsize=11, fontweight="bold")
    figure.text(left, top - 0.21 / height, values, va="top", fontsize=8.5, color="#444444")
    for i, (way, color) in enumerate(zip(ways, COLORS, strict=False)):
        line = top - (0.4 + 0.17 * i) / height
        figure.text(left, line, way.name, va="top", fontsize=8.5, color=color)


def _densities(axes: Axes, law: Law, drawn: Sequence[Sequence[Histogram]]) -> None:
    for counted, color in zip(drawn, COLORS, strict=False):
        for one in counted[:SHOWN]:
            first = counted is drawn[0]
            style = {"color": color, "fill": first, "alpha": 0.35 if first else 0.9}
            axes.stairs(one.height, one.edges, linewidth=1.2, **style)
    peak = 0.0
    for one in drawn[0][:SHOWN]:
        if law.continuous:
            x = np.linspace(one.edges[0], one.edges[-1], 400)[1:-1]
            density = one.marginal.law.density(x, one.marginal.law.params)
            axes.plot(x, density, color="black", linewidth=1.0)
            axes.locator_params(axis="x", nbins=6)
        else:
            x = np.array([-1.0, 1.0])
            density = law.density(x, law.params)
            axes.plot(x, density, "o", color="black", markersize=6)
            axes.set_xticks(x)
        inner = one.height[1:-1] if law.continuous else one.height
        peak = max(peak, float(inner.max()))  # at an end a density may be infinite
        if len(drawn[0]) > 1:
            at = int(density.argmax())
            at = max(at, 12)
            axes.annotate(
                one.marginal.name,
                (x[at], density[at]),
                xytext=(8, 2),
                textcoords="offset points",
                fontsize=9,
            )
        elif one.marginal.name != "x":
            axes.text(0.98, 0.9, one.marginal.name, transform=axes.transAxes, ha="right")
    axes.set_ylim(0, 1.12 * peak)
    axes.set_yticks([])
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _slopes(axes: Axes, law: Law, gradients: Mapping[Way, Gradient]) -> None:
    axes.axvspan(-BAND, BAND, color="#eeeeee")
    axes.axvline(0, color="black", linewidth=0.8)
    rank = np.arange(len(law.entries), dtype=float)
    for i, ((way, (mean, allowed)), color) in enumerate(
        zip(gradients.items(), COLORS, strict=False)
    ):
        y = rank + 0.22 * (i - (len(gradients) - 1) / 2)
        if not way.moves:
            axes.text(-1.4 * BAND, y[0], "its slope: 0", fontsize=8, color=color, va="center")
            continue
        off, bar = 100 * (mean - law.gradient) / law.scales, 100 * allowed / law.scales
        axes.errorbar(off, y, xerr=bar, fmt="o", markersize=3.5, color=color, linewidth=1.2)
    names = [f"∂{name}  {exact:.3f}" for name, exact in zip(law.entries, law.gradient, strict=True)]
    axes.set_yticks(rank, [name.replace("-", "−") for name in names])
    axes.set_ylim(len(rank) - 0.5, -0.5)
    axes.set_xlim(-1.5 * BAND, 1.5 * BAND)
    axes.set_xticks([-BAND, 0, BAND], ["−2 %", "0", "2 %"])
    axes.tick_params(labelsize=8, length=2)
    axes.spines[["top", "right", "left"]].set_visible(False)
