"""The pictures of a run: curves and samples."""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from .files import TEMPORARY

INK, GRID, PAPER = "#22223b", "#e6e6ee", "#ffffff"
BLUE, ORANGE, GREEN = "#3d6fb6", "#e07a3f", "#3f8f6b"

STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
    "savefig.dpi": 160,
}
"""The look of every picture of the laboratory."""


def figure(width: float, height: float) -> Figure:
    """A figure outside pyplot's global list, in inches. Draw in it under `style()`."""
    return Figure(figsize=(width, height), layout="constrained")


def style() -> Any:
    """A context in which everything drawn has the laboratory's look."""
    return matplotlib.rc_context(STYLE)  # type: ignore[arg-type]


def draw_curves(path: pathlib.Path, rows: list[dict[str, Any]], title: str) -> None:
    """Train and test bound, and gradient variance, over steps.

    Arguments:
        path: of the PNG file.
        rows: the metrics' rows. Several seeds give a thin line each, their mean and a band of
            one standard error around it.
        title: above both panels.
    """
    with style():
        canvas = figure(11, 4.2)
        bound, variance = canvas.subplots(1, 2)
        _curve(bound, rows, "train_elbo", BLUE, "training pictures")
        _curve(bound, rows, "test_elbo", ORANGE, "test pictures")
        _focus(bound, rows)
        bound.set_title("Evidence lower bound, nats a picture")
        bound.legend(loc="lower right", labelcolor="linecolor")
        _curve(variance, rows, "gradient_variance", GREEN, "")
        variance.set_yscale("log")
        variance.set_title("Gradient variance, summed over the encoder's parameters")
        # a curve within a decade still needs more than one label
        variance.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        variance.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        variance.yaxis.set_minor_formatter(NullFormatter())
        for axes in (bound, variance):
            axes.set_xlabel("step")
            axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
            axes.tick_params(length=0, which="both")
        _headline(canvas, title)
        _save(canvas, path)


def _headline(canvas: Figure, title: str) -> None:
    canvas.suptitle(title, x=0.012, ha="left", color=INK, fontsize=13)


def _series(rows: list[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and values of shape (seeds, steps)."""
    seeds = sorted({row["seed"] for row in rows})
    steps = np.array(sorted({row["step"] for row in rows}))
    values = {(row["seed"], row["step"]): row[name] for row in rows}
    return steps, np.array([[values[seed, step] for step in steps] for seed in seeds])


def _curve(axes: Axes, rows: list[dict[str, Any]], name: str, color: str, label: str) -> None:
    steps, values = _series(rows, name)
    mean, error = values.mean(0), None
    if len(values) > 1:
        error = values.std(0, ddof=1) / len(values) ** 0.5
        axes.plot(steps, values.T, color=color, linewidth=0.7, alpha=0.35)
        axes.fill_between(steps, mean - error, mean + error, color=color, alpha=0.2, linewidth=0)
    axes.plot(steps, mean, color=color, linewidth=2, label=label, solid_capstyle="round")
    last = (f"{mean[-1]:.1f}" if abs(mean[-1]) >= 10 else f"{mean[-1]:.2g}").replace("-", "−")
    last += "" if error is None else f"\n± {error[-1]:.1g}"
    axes.annotate(
        last, (steps[-1], mean[-1]), (5, 0), textcoords="offset points", color=color, va="center"
    )
    axes.margins(x=0.01)


def _focus(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """Leave the first steep rise below the picture, if there is more to see than it."""
    values = np.array([row[name] for row in rows for name in ("train_elbo", "test_elbo")])
    top, low = values.max(), np.quantile(values, 0.06)
    if len(values) > 20 and top > low:
        axes.set_ylim(low - 0.15 * (top - low), top + 0.08 * (top - low))


def short_number(x: float, position: float = 0) -> str:
    """A number on an axis: 20k for 20,000, and plain below a thousand; 0.5 and not 500m.

    Example:
        >>> short_number(20_000), short_number(0.5)
        ('20k', '0.5')
    """
    del position
    return EngFormatter(sep="").format_eng(x) if abs(x) >= 1000 else f"{x:g}"


def draw_samples(
    path: pathlib.Path, blocks: Mapping[str, np.ndarray], shape: tuple[int, int], title: str
) -> None:
    """Blocks of pictures side by side; beside the file, what it shows as `.npz`.

    Arguments:
        path: of the PNG file.
        blocks: pictures by title, each (n, P) in [0, 1].
        shape: height and width of a picture.
        title: above them all.
    """
    ink = LinearSegmentedColormap.from_list("ink", [PAPER, INK]).with_extremes(bad=GRID)
    with style():
        canvas = figure(3.5 * len(blocks), 4.1)
        panels = canvas.subplots(1, len(blocks), squeeze=False)[0]
        for axes, (name, pictures) in zip(panels, blocks.items(), strict=True):
            axes.imshow(montage(pictures, shape), cmap=ink, vmin=0, vmax=1)
            axes.set_title(name)
            axes.set_axis_off()
        _headline(canvas, title)
        _save(canvas, path)
    _keep(path.with_suffix(".npz"), blocks, shape)


def _keep(path: pathlib.Path, blocks: Mapping[str, np.ndarray], shape: tuple[int, int]) -> None:
    """The pictures themselves, in 256 shades, for a report to lay out anew."""
    shades = {
        name: np.rint(255 * np.clip(np.reshape(x, (-1, *shape)), 0, 1)).astype(np.uint8)
        for name, x in blocks.items()
    }
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    with open(temporary, "wb") as file:
        np.savez_compressed(file, **shades)  # type: ignore[arg-type]
    temporary.replace(path)


def montage(pictures: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Pictures in a square grid, framed by gaps (NaN) a pixel or so wide.

    Example:
        >>> montage(np.zeros((4, 6)), (3, 2)).shape
        (9, 7)
    """
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    gap = max(1, shape[0] // 14)
    height, width = shape[0] + gap, shape[1] + gap
    grid = np.full((rows * height + gap, columns * width + gap), np.nan)
    for i, picture in enumerate(np.asarray(pictures).reshape(-1, *shape)):
        top, left = i // columns * height + gap, i % columns * width + gap
        grid[top : top + shape[0], left : left + shape[1]] = picture
    return grid


def _save(canvas: Figure, path: pathlib.Path) -> None:
    """Written beside and renamed, so that a picture is whole or absent."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    canvas.savefig(temporary, format="png")
    temporary.replace(path)
