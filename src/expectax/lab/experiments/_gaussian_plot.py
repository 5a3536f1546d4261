"""The picture of the Gaussian-mean experiment."""

import pathlib
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ._gaussian_runs import (
    CONTENDERS,
    OFFSET,
    OPTIMUM,
    SLOPE,
    Contender,
    Measured,
    Settings,
    excess,
    mean_of,
)
from ._labels import label_ends

COLORS = {"ScoreFunction": "#d95f02", "LeaveOneOut(2)": "#1b9e77", "Pathwise": "#1f78b4"}


def draw(measured: Mapping[str, Measured], settings: Settings, run_dir: pathlib.Path) -> None:
    """Write `gaussian-mean.png`: gradient and variance over θ, and the descents over steps."""
    figure = Figure(figsize=(12.5, 8.0), layout="constrained")
    figure.suptitle(
        f"E[z²], z ~ N({SLOPE:g}θ + {OFFSET:g}, 1): the same gradient, three variances, "
        f"one optimum θ = −b/a = {OPTIMUM:g}",
        x=0.01,
        ha="left",
    )
    axes = figure.subplots(2, 2)
    (gradient, variance), (descent, loss) = axes
    for contender in CONTENDERS:
        kept = measured[contender.name]
        _over_theta(gradient, variance, contender, kept, settings)
        _over_steps(descent, loss, contender, kept, settings)
    _dress(gradient, "θ", "mean of the gradient − 2aμ, ± 3 s.e.")
    _dress(variance, "θ", "variance of the gradient; line: closed form")
    _dress(descent, "step", "θ: mean, and the middle 80 % of descents")
    _dress(loss, "step", "loss − 1, mean of descents; dots: derived")
    for panel in (gradient, variance):
        panel.axvline(OPTIMUM, color="#888888", linewidth=0.8, linestyle=":", label="_optimum")
    descent.axhline(OPTIMUM, color="#888888", linewidth=0.8, linestyle=":", label="_optimum")
    for panel in (variance, loss):
        panel.set_yscale("log")
    for panel in axes.flat:
        label_ends(panel, gap=0.07)
    figure.savefig(run_dir / "gaussian-mean.png", dpi=130)


def _over_theta(
    gradient: Axes, variance: Axes, contender: Contender, kept: Measured, settings: Settings
) -> None:
    """Measured points on derived lines."""
    color, theta = COLORS[contender.name], np.asarray(settings.thetas)
    line = np.linspace(theta[0], theta[-1], 200)
    mean, error = kept.gradients.mean(1), kept.gradients.std(1) / np.sqrt(settings.num_draws)
    # beside one another, or the widest bars would hide the others
    aside = 0.03 * (list(COLORS).index(contender.name) - 1)
    error_of_mean = mean - 2 * SLOPE * mean_of(theta)
    gradient.errorbar(theta + aside, error_of_mean, 3 * error, fmt="o", markersize=3, color=color)
    gradient.plot(theta[-1:], error_of_mean[-1:], color=color, label=contender.name)
    variance.plot(line, contender.variance(mean_of(line)), color=color, label=contender.name)
    variance.plot(theta, kept.gradients.var(1), "o", markersize=4, color=color, label="_measured")


def _over_steps(
    descent: Axes, loss: Axes, contender: Contender, kept: Measured, settings: Settings
) -> None:
    """The descents as a band, and their mean loss beside the derived one."""
    color, steps = COLORS[contender.name], np.arange(settings.num_steps + 1)
    low, high = np.quantile(kept.descents, [0.1, 0.9], axis=0)
    descent.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
    descent.plot(steps, kept.descents.mean(0), color=color, label=contender.name)
    loss.plot(
        steps, np.mean(mean_of(kept.descents) ** 2, axis=0), color=color, label=contender.name
    )
    derived = excess(contender, settings)
    if derived is not None:
        every = max(1, settings.num_steps // 20)
        loss.plot(
            steps[::every], derived[::every], "o", markersize=4, color=color, label="_derived"
        )


def _dress(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
