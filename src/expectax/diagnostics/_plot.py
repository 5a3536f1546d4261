"""The picture of a comparison. The one file of the core that draws, imported when asked to."""

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from .._errors import complain


class Bar(NamedTuple):
    """What is drawn of one estimator; a bias that is not known is 0."""

    name: str
    unbiased: bool
    variance: float
    evaluations: int
    seconds_per_step: float
    seconds_quartiles: tuple[float, float]
    bias: float = 0.0
    bias_error: float = 0.0


def _figure(**options: Any) -> Any:
    """A figure without pyplot: no window, no global state."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ImportError(
            complain(
                "a comparison was asked to draw itself",
                "drawing needs matplotlib, which is not installed",
                "pip install 'expectax[lab]', or use print, to_markdown() or to_csv(path)",
            )
        ) from error
    return Figure(**options)


def draw(
    bars: Sequence[Bar], title: str, gradient_norm: float | None, path: str | os.PathLike[str]
) -> None:
    """A panel for each figure, the estimators below one another; written to `path`.

    Arguments:
        bars: one for each estimator, from above.
        title: above everything.
        gradient_norm: ‖exact gradient‖, the unit of bias; None where it is not known.
        path: of the picture; the suffix is the format.
    """
    logarithmic = {
        "variance": [bar.variance for bar in bars],
        "µs per step": [1e6 * bar.seconds_per_step for bar in bars],
        "variance × evaluations": [bar.variance * bar.evaluations for bar in bars],
        "variance × seconds": [bar.variance * bar.seconds_per_step for bar in bars],
    }
    num_panels = len(logarithmic) + (gradient_norm is not None)
    figure = _figure(figsize=(2.2 + 2.4 * num_panels, 1.8 + 0.3 * len(bars)), layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)  # room for the last tick of one beside the first
    panels = list(figure.subplots(1, num_panels, sharey=True))
    if gradient_norm is not None:
        _draw_bias(panels.pop(0), bars, gradient_norm)
    for axes, (heading, values) in zip(panels, logarithmic.items(), strict=True):
        _draw_logarithmic(axes, heading, values, bars)
    for i, bar in enumerate(bars):
        panels[1].plot([1e6 * x for x in bar.seconds_quartiles], [i, i], color="k")
    names = figure.axes[0]
    names.set_yticks(range(len(bars)), [bar.name for bar in bars])
    if bars:
        names.set_ylim(len(bars) - 0.4, -0.6)
    if not all(bar.unbiased for bar in bars):
        title += "\nblue claims to be unbiased, orange does not"
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=150)


def _colors(bars: Sequence[Bar]) -> list[str]:
    return ["tab:blue" if bar.unbiased else "tab:orange" for bar in bars]


def _draw_bias(axes: Any, bars: Sequence[Bar], norm: float) -> None:
    """‖bias‖ as bars, and a tick where noise alone would put it; relative to the gradient."""
    unit = norm or 1.0
    positions = range(len(bars))
    axes.barh(positions, [bar.bias / unit for bar in bars], color=_colors(bars))
    noise = [bar.bias_error / unit for bar in bars]
    axes.plot(noise, positions, "k|", markersize=10)
    axes.set_title("bias / gradient (| noise alone)" if norm else "bias (| noise alone)", size=10)


def _draw_logarithmic(axes: Any, title: str, values: list[float], bars: Sequence[Bar]) -> None:
    """Positive values as bars from a decade below the least; zeros are written out."""
    axes.set_title(title, size=10)
    positive = [value for value in values if value > 0]
    if not positive:
        return
    floor = 10.0 ** math.floor(math.log10(min(positive)) - 0.3)
    axes.set(xscale="log", xlim=(floor, 2 * max(positive)))
    widths = [max(value - floor, 0.0) for value in values]
    axes.barh(range(len(bars)), widths, left=floor, color=_colors(bars))
    for i, value in enumerate(values):
        if value == 0:
            axes.text(floor, i, " 0", va="center", size=9)
