"""The pictures of the one-bit experiment: loss and log variance over steps, for every t."""

import pathlib
from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from . import _one_bit_theory as theory
from ._labels import label_ends
from ._one_bit_contenders import LEARNING_RATE, Contender
from ._one_bit_runs import Runs, Settings

STYLES: dict[str, tuple[str, str]] = {
    "Enumerate": ("#000000", "-"),
    "ScoreFunction": ("#d95f02", "-"),
    "ScoreFunction, running mean": ("#d95f02", "--"),
    "ScoreFunction, learned baseline": ("#d95f02", "-."),
    "NVIL": ("#d95f02", ":"),
    "LeaveOneOut(2)": ("#1b9e77", "-"),
    "ARM": ("#1b9e77", "--"),
    "DisARM": ("#1b9e77", ":"),
    "MuProp": ("#e7298a", "-"),
    "MuProp, baseline": ("#e7298a", "--"),
    "REBAR": ("#7570b3", "-"),
    "REBAR, baseline": ("#7570b3", "--"),
    "RELAX, network": ("#1f78b4", "-"),
    "RELAX, cost + network": ("#1f78b4", "--"),
    "GumbelSoftmax": ("#d95f02", "-"),
    "StraightThroughGumbelSoftmax": ("#7570b3", "-"),
    "StraightThrough": ("#1b9e77", "-"),
    "DirectArgmax": ("#e7298a", "-"),
}
"""Color by method, line by variant. The biased ones have a picture, and so colors, of their own."""

Average = Callable[..., np.ndarray]
"""`np.mean` or `np.median`."""

NO_VARIANCE = 1e-30
"""Drawn in place of exactly zero, which has no logarithm; it lies below the picture."""


def draw(runs: Mapping[Contender, Runs], settings: Settings, run_dir: pathlib.Path) -> None:
    """Write `unbiased.png` and `biased.png`, each with the exact gradient to compare with."""
    unbiased = {c: kept for c, kept in runs.items() if c.family != "biased"}
    biased = {c: kept for c, kept in runs.items() if c.family in ("exact", "biased")}
    # a typical run: a few whose control variate has run away would be all that a mean shows
    figure, axes = _panels("Unbiased estimators", unbiased, settings, np.median)
    for panel in axes[0]:
        panel.set(yscale="log", ylim=(5e-4, 1.5))
    _finish(figure, axes, (-24.0, -2.0), run_dir / "unbiased.png")
    # the runs are alike, and in most of them DirectArgmax draws nothing but zeros near t = 1/2
    figure, axes = _panels("Biased estimators", biased, settings, np.mean)
    for panel, target in zip(axes[0], settings.targets, strict=True):
        panel.set(ylim=(0.0, 1.05))
        _resting_places(panel, biased, target)
    _finish(figure, axes, (-10.0, -2.0), run_dir / "biased.png")


def _panels(
    title: str, runs: Mapping[Contender, Runs], settings: Settings, average: Average
) -> tuple[Figure, np.ndarray]:
    """Two rows (loss, variance) and a column for each t."""
    figure = Figure(figsize=(3.1 * len(settings.targets) + 3.2, 8.2), layout="constrained")
    figure.suptitle(
        f"{title} of ∂E[(b − t)²]/∂θ on one bit: Adam {LEARNING_RATE:g}, one estimate a step, "
        f"{settings.num_runs:,} runs",
        x=0.01,
        ha="left",
    )
    axes = figure.subplots(2, len(settings.targets), sharex=True, sharey="row", squeeze=False)
    for i, target in enumerate(settings.targets):
        least, gain = theory.optimum(target), theory.gain(target)
        title = f"t = {target:g}\nloss {least + gain / 2:.6g} → {least:.6g}"
        axes[0, i].set_title(title, fontsize=10)
        axes[1, i].set_xlabel("step")
        _losses(axes[0, i], runs, i, settings)
        _variances(axes[1, i], runs, i, settings, average)
    axes[0, 0].set_ylabel("loss above the least, share of the start\nmean of runs")
    axes[1, 0].set_ylabel(f"ln variance of the gradient\n{average.__name__} of runs")
    return figure, axes


def _finish(
    figure: Figure, axes: np.ndarray, variance_limits: tuple[float, float], path: pathlib.Path
) -> None:
    axes[1, 0].set_ylim(*variance_limits)
    for panel in axes.flat:
        panel.margins(x=0)
        panel.grid(color="#dddddd", linewidth=0.6)
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        panel.spines[["top", "right"]].set_visible(False)
    for row in axes:
        label_ends(row[-1])
    figure.savefig(path, dpi=130)


def _losses(axes: Axes, runs: Mapping[Contender, Runs], i: int, settings: Settings) -> None:
    """(loss − least) / (loss at the start − least): P(the wrong bit) / ½."""
    for contender, kept in runs.items():
        left = np.mean(kept.remaining[i], axis=0) / 0.5
        _curve(axes, contender, settings.steps_per_record, left)


def _variances(
    axes: Axes, runs: Mapping[Contender, Runs], i: int, settings: Settings, average: Average
) -> None:
    """ln of the variance. The exact gradient has none."""
    for contender, kept in runs.items():
        if contender.family != "exact":
            variance = np.maximum(average(kept.variance[i], axis=0), NO_VARIANCE)
            _curve(axes, contender, settings.steps_per_block, np.log(variance))


def _resting_places(axes: Axes, runs: Mapping[Contender, Runs], target: float) -> None:
    """Where each biased estimator's mean gradient vanishes."""
    for contender in runs:
        if contender.name in theory.RESTS:
            p = theory.resting_place(contender.name, target)
            color, _ = STYLES[contender.name]
            wrong = p if target < 0.5 else 1 - p
            axes.axhline(wrong / 0.5, color=color, linestyle=":", linewidth=1.0, label="_derived")


def _curve(axes: Axes, contender: Contender, every: int, values: np.ndarray) -> None:
    color, dashes = STYLES[contender.name]
    steps = every * np.arange(len(values))
    axes.plot(steps, values, color=color, linestyle=dashes, linewidth=1.6, label=contender.name)
