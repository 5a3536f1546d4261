"""Plain-text and Markdown tables."""

import math
from collections.abc import Sequence

Cells = Sequence[Sequence[str]]


def aligned(header: Sequence[str], rows: Cells) -> str:
    """An aligned table: the first column to the left, the others to the right.

    Example:
        >>> print(aligned(["name", "ms"], [["DisARM", "1.5"], ["ARM", "12"]]))
        name     ms
        ------  ---
        DisARM  1.5
        ARM      12
    """
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return "  ".join(padded).rstrip()

    return "\n".join([line(header), line(["-" * w for w in widths]), *map(line, rows)])


def markdown(header: Sequence[str], rows: Cells) -> str:
    """The same as a Markdown table."""
    escape = lambda cells: [cell.replace("|", "\\|") for cell in cells]
    line = lambda cells: "| " + " | ".join(escape(cells)) + " |"
    rule = "| --- |" + " ---: |" * (len(header) - 1)
    return "\n".join([line(header), rule, *map(line, rows)])


def number(x: float | None, digits: int = 3) -> str:
    """A number to so many significant digits; a dash for what is not known.

    Example:
        >>> [number(x) for x in (None, 0.0, 0.12345, 1234.5, 1e-7)]
        ['–', '0', '0.123', '1.23e+03', '1e-07']
    """
    if x is None:
        return "–"
    return "0" if x == 0 else f"{x:.{digits}g}" if math.isfinite(x) else str(x)
