"""The picture of a comparison. The one file of the core that draws, imported when asked to."""

import math
import os
from typing import TYPE_CHECKING, Any

from .._errors import complain

if TYPE_CHECKING:
    from ._comparison import Comparison, ComparisonRow


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


def draw(comparison: "Comparison", path: str | os.PathLike[str]) -> None:
    """A panel of bars for each figure, the estimators below one another; written to `path`."""
    rows = [row for row in comparison.rows if not row.reason]
    norm = comparison.gradient_norm
    micro = [1e6 * (row.seconds_per_step or 0.0) for row in rows]
    logarithmic = {
        "variance": [row.variance or 0.0 for row in rows],
        "µs per step": micro,
        "variance × evaluations": [row.variance_evaluations or 0.0 for row in rows],
        "variance × seconds": [row.variance_seconds or 0.0 for row in rows],
    }
    num_panels = len(logarithmic) + (norm is not None)
    figure = _figure(figsize=(2.2 + 2.4 * num_panels, 1.8 + 0.3 * len(rows)), layout="constrained")
    panels = list(figure.subplots(1, num_panels, sharey=True))
    if norm is not None:
        _draw_bias(panels.pop(0), rows, norm)
    for axes, (title, values) in zip(panels, logarithmic.items(), strict=True):
        _draw_logarithmic(axes, title, values, rows)
    for i, row in enumerate(rows):
        panels[1].plot([1e6 * x for x in row.seconds_quartiles or ()], [i, i], color="k")
    names = figure.axes[0]
    names.set_yticks(range(len(rows)), [row.name for row in rows])
    if rows:
        names.set_ylim(len(rows) - 0.4, -0.6)
    refused = sum(bool(row.reason) for row in comparison.rows)
    missing = f"; {refused} cannot serve this q and f" if refused else ""
    figure.suptitle(
        f"{comparison.caption}{missing}\nblue claims to be unbiased, orange does not", fontsize=9
    )
    figure.savefig(path, dpi=150)


def _colors(rows: "list[ComparisonRow]") -> list[str]:
    return ["tab:blue" if row.unbiased else "tab:orange" for row in rows]


def _draw_bias(axes: Any, rows: "list[ComparisonRow]", norm: float) -> None:
    """‖bias‖ as bars, and a tick where noise alone would put it; relative to the gradient."""
    unit = norm or 1.0
    positions = range(len(rows))
    axes.barh(positions, [(row.bias or 0.0) / unit for row in rows], color=_colors(rows))
    noise = [(row.bias_error or 0.0) / unit for row in rows]
    axes.plot(noise, positions, "k|", markersize=10)
    axes.set_title("bias / gradient (| noise alone)" if norm else "bias (| noise alone)", size=10)


def _draw_logarithmic(
    axes: Any, title: str, values: list[float], rows: "list[ComparisonRow]"
) -> None:
    """Positive values as bars from a decade below the least; zeros are written out."""
    axes.set_title(title, size=10)
    positive = [value for value in values if value > 0]
    if not positive:
        return
    floor = 10.0 ** math.floor(math.log10(min(positive)) - 0.3)
    axes.set(xscale="log", xlim=(floor, 2 * max(positive)))
    widths = [max(value - floor, 0.0) for value in values]
    axes.barh(range(len(rows)), widths, left=floor, color=_colors(rows))
    for i, value in enumerate(values):
        if value == 0:
            axes.text(floor, i, " 0", va="center", size=9)
