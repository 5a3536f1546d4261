"""The picture of the two-hundred-bits experiment."""

import pathlib
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from ._labels import label_ends
from ._two_hundred_bits_runs import (
    KERAS,
    NUM_BITS,
    OPTIMIZERS,
    RATE,
    TARGET,
    Contender,
    Runs,
    Settings,
)

COLORS = {
    "exact gradient": "#000000",
    "ScoreFunction(2)": "#d95f02",
    "MuProp, two draws": "#e7298a",
    "LeaveOneOut(2)": "#1b9e77",
    "DisARM": "#7570b3",
    "DoubleControlVariate(2)": "#1f78b4",
}
DASHES = {"MuProp, two draws": "--", "DisARM": "--"}
"""Of those whose curve lies upon another."""


def draw(runs: Mapping[Contender, Runs], settings: Settings, run_dir: pathlib.Path) -> None:
    """Write `two-hundred-bits.png`: the objective and the gradient's variance over steps."""
    figure = Figure(figsize=(14.5, 5.4), layout="constrained")
    figure.suptitle(
        f"Maximise the mean of (b − {TARGET:g})² over {NUM_BITS} bits: two draws a step, "
        f"{KERAS.name}, rate {RATE:g}, {settings.num_seeds} seeds",
        x=0.01,
        ha="left",
    )
    objective, variance = figure.subplots(1, 2)
    steps = settings.steps_per_record * np.arange(
        settings.num_steps // settings.steps_per_record + 1
    )
    for contender, kept in runs.items():
        _objective(objective, steps, contender, kept)
        _variance(variance, steps, contender, kept, settings)
    objective.set_ylabel(
        "E[f], exact at each p: mean, least and most of the seeds\ndots: published"
    )
    variance.set_ylabel(
        "variance of one bit's gradient, mean of bits and seeds\nlines: closed form; dots: measured"
    )
    variance.set(yscale="log", ylim=(1e-18, 1.0))
    for panel in (objective, variance):
        panel.set_xlabel("step")
        panel.set_xlim(0, settings.num_steps)
        panel.grid(color="#dddddd", linewidth=0.6)
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        panel.spines[["top", "right"]].set_visible(False)
        label_ends(panel, gap=0.055)
    figure.savefig(run_dir / "two-hundred-bits.png", dpi=130)


def _objective(axes: Axes, steps: np.ndarray, contender: Contender, kept: Runs) -> None:
    color, dashes = COLORS[contender.name], DASHES.get(contender.name, "-")
    values = kept.objective[OPTIMIZERS.index(KERAS)]
    axes.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.2, linewidth=0)
    axes.plot(steps, values.mean(0), dashes, color=color, linewidth=1.6, label=contender.name)
    dot = {"color": color, "markersize": 6, "clip_on": False, "label": "_published"}
    axes.plot(steps[-1:], [float(contender.published)], "o", **dot)


def _variance(
    axes: Axes, steps: np.ndarray, contender: Contender, kept: Runs, settings: Settings
) -> None:
    if contender.variance is None or kept.ratio is None:
        return
    color, dashes = COLORS[contender.name], DASHES.get(contender.name, "-")
    closed = contender.variance(kept.p[0], kept.alpha[0]).mean(axis=-1)
    axes.plot(steps, closed.mean(0), dashes, color=color, linewidth=1.6, label=contender.name)
    at = np.asarray(settings.measured_at)
    measured = kept.ratio.mean(axis=1) * closed[0, at // settings.steps_per_record]
    axes.plot(at, measured, "o", color=color, markersize=4, clip_on=False, label="_measured")
