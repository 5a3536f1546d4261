"""A sheet of samples as a picture."""

import pathlib

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from .. import plots
from ..files import TEMPORARY
from .dataset import Dataset

_SIDE = 10  # pictures to a row
_ROWS = 32  # rows of a set that has no pictures


def draw_sheet(
    path: pathlib.Path, data: Dataset, title: str, classes: tuple[str, ...] = (), seed: int = 0
) -> None:
    """Samples of every part of the split, as a model sees them; a row for each class if there are.

    Arguments:
        path: of the PNG file.
        data: the set.
        title: above them all.
        classes: names of the classes, by label.
        seed: of the choice of pictures, and of the bits drawn from grey levels.
    """
    ink = LinearSegmentedColormap.from_list("ink", [plots.PAPER, plots.INK])
    parts = {
        "Training": (data.train, data.train_labels),
        "Validation": (data.valid, None),
        "Test": (data.test, data.test_labels),
    }
    parts = {name: part for name, part in parts.items() if part[0] is not None}
    by_row = 0 < len(classes) <= _SIDE
    with plots.style():
        canvas = plots.figure(0.9 * by_row + 3.6 * len(parts), 4.35)
        panels = canvas.subplots(1, len(parts), squeeze=False)[0]
        for panel, (name, (rows, labels)) in zip(panels, parts.items(), strict=True):
            chosen = choose(np.random.default_rng(seed), len(rows), labels, len(classes))
            pictures = np.asarray(data.binarize(jax.random.key(seed), rows[chosen]))
            if data.shape[0] == 1:  # answers, not pictures: a table of them
                grid, aspect = pictures[:_ROWS], "auto"
                panel.set_xlabel("a row for each datum, a column for each variable")
                panel.hlines(np.arange(len(grid) + 1) - 0.5, -0.5, len(grid[0]) - 0.5, plots.GRID)
                panel.vlines(np.arange(len(grid[0]) + 1) - 0.5, -0.5, len(grid) - 0.5, plots.GRID)
            else:
                grid, aspect = plots.montage(pictures, data.shape), "equal"
            shades = ink.with_extremes(bad=plots.GRID)
            panel.imshow(grid, cmap=shades, vmin=0, vmax=1, aspect=aspect)
            panel.set_title(f"{name}, {len(rows):,}")
            _name_rows(panel, classes if by_row and panel is panels[0] else (), data.shape[0])
        canvas.suptitle(title, x=0.012, ha="left", color=plots.INK, fontsize=13)
        temporary = path.with_name(f"{TEMPORARY}{path.name}")
        canvas.savefig(temporary, format="png")
        temporary.replace(path)


def choose(
    generator: np.random.Generator, num: int, labels: object, num_classes: int
) -> np.ndarray:
    """Which pictures to show: a hundred, or as many.

    With up to ten classes ten of each, class after class; with more, as many of each as there is
    room for, in turn; without labels, by chance.
    """
    order = generator.permutation(num)
    if labels is None or not num_classes:
        return order[: _SIDE**2]
    of_order = np.asarray(labels)[order]
    members = [order[of_order == label] for label in range(num_classes)]
    each = _SIDE if num_classes <= _SIDE else max(1, _SIDE**2 // num_classes)
    if num_classes <= _SIDE:
        return np.concatenate([some[:each] for some in members])
    return np.array([some[i] for i in range(each) for some in members if i < len(some)])


def _name_rows(panel: Axes, classes: tuple[str, ...], height: int) -> None:
    """Names of the classes at the rows of a montage, or nothing at all beside it."""
    gap = max(1, height // 14)
    panel.grid(False)
    panel.spines[:].set_visible(False)
    panel.set_xticks([])
    middles = [gap + row * (height + gap) + height / 2 - 0.5 for row in range(len(classes))]
    panel.set_yticks(middles, classes)
    panel.tick_params(length=0)
