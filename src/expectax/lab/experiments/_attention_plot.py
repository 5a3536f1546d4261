"""Pictures of where a classifier looks."""

import math
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.patches import Rectangle

from .. import plots

_COLUMNS = 8
_INK = LinearSegmentedColormap.from_list("ink", [plots.PAPER, plots.INK])
_ORDER = LinearSegmentedColormap.from_list("order", ["#f6c344", "#e0563f", "#7b1e7a"])
_CURTAIN = ListedColormap(["#f3b562"])


def draw_paths(
    path: pathlib.Path,
    title: str,
    width: int,
    share: float,
    *,
    x: np.ndarray,
    chosen: np.ndarray,
    guesses: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Write the pictures, with the glimpses at each as a path: yellow first, purple last.

    Arguments:
        path: of the PNG file.
        title: above them all.
        width: of a picture, in pixels.
        share: of the width of the picture, the width of the finest patch of a glimpse.
        x: (B, P).
        chosen: locations, (B, T, 2).
        guesses, labels: classes, (B,).
    """
    shades = _ORDER(np.linspace(0, 1, chosen.shape[1]))
    with plots.style():
        canvas, panels = _panels(len(x), title, 1.75)
        for axes, picture, locations, guess, label in zip(
            panels, x, chosen, guesses, labels, strict=False
        ):
            _show(axes, picture.reshape(width, width), guess, label)
            row, column = (np.clip(locations, -1, 1).T + 1) / 2 * width - 0.5
            axes.plot(column, row, color=shades[-1], linewidth=0.8, alpha=0.6)
            axes.scatter(column, row, c=shades, s=14, zorder=3)
            side = share * width
            for i, j, shade in zip(row, column, shades, strict=True):
                corner = (j - side / 2, i - side / 2)
                axes.add_patch(Rectangle(corner, side, side, fill=False, ec=shade, lw=0.7))
            axes.set_xlim(-0.5, width - 0.5)
            axes.set_ylim(width - 0.5, -0.5)
        canvas.savefig(path, dpi=120)


def draw_masks(
    path: pathlib.Path,
    title: str,
    width: int,
    size: int,
    *,
    x: np.ndarray,
    chosen: np.ndarray,
    guesses: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Write the pictures, each with what its mask shows beside it; the hidden patches are tinted.

    Arguments:
        path, title, width, x, guesses, labels: as of `draw_paths`.
        size: of a patch, in pixels.
        chosen: bits of the patches, (B, N).
    """
    across = width // size
    with plots.style():
        canvas, panels = _panels(len(x), title, 1.1)
        for axes, picture, bits, guess, label in zip(
            panels, x, chosen, guesses, labels, strict=False
        ):
            picture = picture.reshape(width, width)
            shown = np.kron(bits.reshape(across, across), np.ones((size, size)))
            gap = np.zeros((width, 1))
            both = np.concatenate([picture, gap, picture * shown], axis=1)
            _show(axes, both, guess, label)
            curtain = np.full(both.shape, np.nan)
            curtain[:, width + 1 :] = np.where(shown == 0, 1.0, np.nan)
            axes.imshow(curtain, cmap=_CURTAIN, alpha=0.8)
        canvas.savefig(path, dpi=120)


def _panels(num: int, title: str, height: float) -> tuple[Any, Iterator[Axes]]:
    rows = math.ceil(num / _COLUMNS)
    canvas = plots.figure(1.5 * _COLUMNS, height * rows + 0.5)
    canvas.suptitle(title, x=0.01, ha="left", fontsize=13, color=plots.INK)
    grid = canvas.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    return canvas, iter(grid)


def _show(axes: Axes, picture: np.ndarray, guess: int, label: int) -> None:
    axes.imshow(picture, cmap=_INK, vmin=0, vmax=1)
    right = guess == label
    words = f"{label}" if right else f"{label}, taken for {guess}"
    axes.set_title(words, fontsize=9, color=plots.INK if right else plots.ORANGE)
