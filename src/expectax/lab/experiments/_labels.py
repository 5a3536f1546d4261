"""Names beside the ends of curves, in place of a legend to look up."""

import numpy as np
from matplotlib.axes import Axes


def label_ends(axes: Axes, gap: float = 0.062) -> None:
    """Write each labelled line's name to the right of the axes, level with its last point.

    Names that would overlap are moved apart; a leader in the line's own color and dashes ties each
    to its curve, so it shows the style as a legend would.

    Arguments:
        axes: its limits and scales must be final.
        gap: the least distance of two names, as a fraction of the height.
    """
    lines = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    if not lines:
        return
    ends = [_last_point(line) for line in lines]
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = np.clip([to_axes.transform(end)[1] for end in ends], 0.0, 1.0)
    for line, height, place in zip(lines, heights, _apart(heights, gap), strict=True):
        axes.plot(
            [1.0, 1.04, 1.13],
            [height, place, place],
            transform=axes.transAxes,
            clip_on=False,
            color=line.get_color(),
            linestyle=line.get_linestyle(),
            linewidth=1.6,
            label="_leader",
        )
        axes.text(
            1.15,
            place,
            str(line.get_label()),
            transform=axes.transAxes,
            color=line.get_color(),
            va="center",
            fontsize=9,
        )


def _last_point(line: object) -> tuple[float, float]:
    x, y = (np.asarray(values, float) for values in line.get_data())  # type: ignore[attr-defined]
    last = np.flatnonzero(np.isfinite(y))[-1]
    return float(x[last]), float(y[last])


def _apart(heights: np.ndarray, gap: float) -> np.ndarray:
    """The nearest places in the same order, at least `gap` from one another.

    Places p_k = h_k with p_{k+1} ≥ p_k + gap: in h_k − k·gap this is isotonic regression, done by
    pooling neighbours that are out of order.
    """
    order = np.argsort(heights, kind="stable")
    shifted = heights[order] - gap * np.arange(len(order))
    pools: list[tuple[float, int]] = []
    for value in shifted:
        total, count = float(value), 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            earlier = pools.pop()
            total, count = total + earlier[0], count + earlier[1]
        pools.append((total, count))
    level = np.concatenate([np.full(count, total / count) for total, count in pools])
    places = np.empty(len(order))
    places[order] = level + gap * np.arange(len(order))
    return places
