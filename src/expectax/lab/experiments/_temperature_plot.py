"""The picture of the temperature experiment."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import _temperature_theory as theory
from ._labels import label_ends

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
CATEGORY_COLORS = ("#1b9e77", "#d95f02", "#7570b3")
COLORS = {
    "GumbelSoftmax": "#d95f02",
    "StraightThroughGumbelSoftmax": "#7570b3",
    "ScoreFunction": "#666666",
    "LeaveOneOut(2)": "#1b9e77",
}
LABELS = {
    "GumbelSoftmax": "Gumbel-Softmax",
    "StraightThroughGumbelSoftmax": "straight-through",
    "ScoreFunction": "score function",
    "LeaveOneOut(2)": "leave-one-out, 2",
}
WITHOUT = ("ScoreFunction", "LeaveOneOut(2)")
"""Those that have no temperature, and no bias."""
AVERAGED = (1, 100, 10_000)
"""Over how many draws a gradient is averaged in the last panel."""

Moments = Callable[[float], tuple[np.ndarray, np.ndarray]]


def draw(
    temperatures: Sequence[float],
    points: Mapping[float, np.ndarray],
    closed: Mapping[str, Moments],
    spread: Mapping[str, np.ndarray],
    run_dir: pathlib.Path,
) -> None:
    """Write `temperature.png`.

    Arguments:
        temperatures: where gradients were drawn.
        points: relaxed draws of three categories at some temperatures.
        closed: of each estimator, from a temperature to derived mean and variance.
        spread: measured variances of each estimator at `temperatures`.
        run_dir: where to.
    """
    figure = Figure(figsize=(15.5, 8.6), layout="constrained")
    subfigures: Any = figure.subfigures(2, 1, height_ratios=[1.0, 1.4])
    above, below = subfigures
    above.suptitle(
        f"Relaxed draws of three categories, p = {theory.PROBABILITIES.tolist()}, and what they "
        "do to the gradient of E[(c·y)³]",
        x=0.01,
        ha="left",
    )
    simplices: Any = above.subplots(1, len(points))
    for axes, (temperature, y) in zip(simplices, points.items(), strict=True):
        _simplex(axes, temperature, y)
    bias, variance, error = below.subplots(1, 3)
    line = np.geomspace(temperatures[0], temperatures[-1], 60)
    exact = theory.exact_gradient()
    size = float(exact @ exact)
    for name, moments in closed.items():
        derived = [moments(float(t)) for t in line]
        off = np.array([np.sqrt(np.sum((mean - exact) ** 2) / size) for mean, _ in derived])
        noise = np.array([np.sum(v) / size for _, v in derived])
        style = {"color": COLORS[name], "label": LABELS[name], "linewidth": 1.6}
        variance.plot(line, noise, "--" if name in WITHOUT else "-", **style)
        if name not in WITHOUT:
            bias.plot(line, off, **style)
            dots = {"color": COLORS[name], "markersize": 4, "label": "_measured"}
            variance.plot(temperatures, spread[name] / size, "o", **dots)
        if name == "GumbelSoftmax":
            _errors(error, line, off, noise)
    _dress(bias, "bias |E[g] − ∇| / |∇|, derived")
    _dress(variance, "variance / |∇|²; lines: derived, dots: measured")
    _dress(error, "root mean square error / |∇|\nof a mean of Gumbel-Softmax gradients")
    for axes in (bias, variance):
        label_ends(axes, gap=0.06)
    figure.savefig(run_dir / "temperature.png", dpi=130)


def _errors(axes: Axes, line: np.ndarray, off: np.ndarray, noise: np.ndarray) -> None:
    """√(bias² + variance / N): the more draws are averaged, the colder the best temperature."""
    for num, alpha in zip(AVERAGED, (0.4, 0.7, 1.0), strict=True):
        total = np.sqrt(off**2 + noise / num)
        best = total.argmin()
        style = {"color": COLORS["GumbelSoftmax"], "alpha": alpha, "linewidth": 1.6}
        label = f"{num:,} draw{'s' if num > 1 else ''}, least at τ = {line[best]:.2g}"
        axes.plot(line, total, marker="o", markevery=[best], markersize=5, label=label, **style)
    axes.legend(loc="upper right", frameon=False, fontsize=9)


def _simplex(axes: Axes, temperature: float, y: np.ndarray) -> None:
    place = y @ CORNERS
    colors = np.array(CATEGORY_COLORS)[y.argmax(axis=1)]
    axes.fill(*CORNERS.T, facecolor="#f7f7f7", edgecolor="#888888", linewidth=0.8)
    axes.scatter(*place.T, s=6, c=colors, alpha=0.45, linewidths=0, clip_on=False)
    for corner, p, color in zip(CORNERS, theory.PROBABILITIES, CATEGORY_COLORS, strict=True):
        high = corner[1] > 0.5
        axes.annotate(
            f"p = {p:g}",
            corner,
            xytext=(0, 8 if high else -8),
            textcoords="offset points",
            ha="center",
            va="bottom" if high else "top",
            color=color,
            fontsize=9,
        )
    axes.text(0.5, -0.05, f"τ = {temperature:g}", ha="center", va="top", fontsize=12)
    axes.set(xlim=(-0.08, 1.08), ylim=(-0.2, 0.98), aspect="equal")
    axes.axis("off")


def _dress(axes: Axes, y: str) -> None:
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("temperature τ")
    axes.set_ylabel(y)
    axes.margins(x=0)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
