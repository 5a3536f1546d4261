"""What the command line prints: tables, lines, errors in one line."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import rich.box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .._errors import ExpectaxError
from .estimators import RECIPES, Recipe, capabilities


def one_line(error: BaseException) -> str:
    """A message of three parts as one line.

    Example:
        >>> one_line(ValueError("it is 3\\n  why: 3 is odd\\n  instead: pass 2"))
        'it is 3: 3 is odd; pass 2'
    """
    return " ".join(str(error).split()).replace(" why: ", ": ", 1).replace(" instead: ", "; ", 1)


def estimator_table(width: int) -> Table:
    """The estimators with their claims and options, all read from the classes.

    Arguments:
        width: of the terminal; what does not fit is left out, the last columns first.
    """
    table = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, row_styles=["", "on grey11"])
    shown = [column for column in COLUMNS if column.from_width <= width]
    for column in shown:
        table.add_column(column.heading, no_wrap=column.whole)
    if missing := [column.heading for column in COLUMNS if column not in shown]:
        table.caption = f"a wider terminal also shows: {', '.join(missing)}"
    for name, recipe in sorted(RECIPES.items()):
        table.add_row(*(column.cell(name, recipe) for column in shown))
    return table


class Column(NamedTuple):
    """One of the table: its heading, and the cell of an estimator.

    Attributes:
        whole: whether its cells are never wrapped.
        from_width: of the terminal, from which on it is shown.
    """

    heading: str
    cell: Callable[[str, Recipe], str]
    whole: bool = False
    from_width: int = 0


def _unbiased(name: str, recipe: Recipe) -> str:
    del name
    claims = recipe.estimator.claims
    exact = f" (exact: {claims.exact_for})" if claims.exact_for else ""
    return "yes" if claims.unbiased else f"no{exact}"


def _order(name: str, recipe: Recipe) -> str:
    del name
    order = recipe.estimator.claims.order
    return "any" if order > 1 else f"{order:g}"


def _options(name: str, recipe: Recipe) -> str:
    del name
    return "\n".join(f"--{o.replace('_', '-')} {v}" for o, v in recipe.options.items()) or "–"


COLUMNS = (
    Column(
        "--estimator [dim]class[/dim]",
        lambda name, r: f"[bold]{name}[/bold]\n[dim]{r.estimator.__name__}[/dim]",
        whole=True,
    ),
    Column("unbiased", _unbiased),
    Column("needs of q", lambda _, r: r.estimator.claims.needs.__name__, whole=True),
    Column("f'", lambda _, r: "yes" if r.estimator.claims.differentiable else "–", True, 90),
    Column("evaluations", lambda _, r: r.estimator.claims.cost),
    Column("order", _order, whole=True, from_width=100),
    Column("options and defaults", _options, whole=True, from_width=120),
    Column("learns", lambda _, r: r.estimator.claims.learns or "–", from_width=150),
    Column("source", lambda _, r: r.estimator.claims.source, from_width=180),
)
"""Of `estimator_table`, from left to right."""


def legend() -> dict[str, str]:
    """What the headings of `estimator_table` and the capabilities in it mean."""
    return {
        "unbiased": "whether the mean of the estimates is the gradient, whatever the cost",
        "f'": "whether the cost must be differentiable in the draw",
        "evaluations": "of the cost for one gradient, at draws + elsewhere; S, n or k draws, "
        "m bits, D variables, C categories",
        "order": "how often the value may be differentiated",
        "needs of q": "what every distribution in q must offer:",
    } | {f"  {name}": sentence for name, sentence in capabilities().items()}


def note_damage(console: Console) -> Callable[[str], None]:
    """A printer of warnings."""
    return lambda line: console.print(f"[yellow]warning:[/yellow] {line}", soft_wrap=True)


def show_error(console: Console, error: ExpectaxError | str) -> None:
    """One line, whatever the width of the terminal."""
    line = error if isinstance(error, str) else one_line(error)
    console.print(Text.assemble(("error: ", "bold red"), line), soft_wrap=True)


def show_lines(console: Console, lines: Mapping[str, object]) -> None:
    """Names and what they are, one a line whatever the width, so that paths can be copied."""
    width = max(map(len, lines))
    for name, what in lines.items():
        line = Text.assemble((f"{name:<{width}}  ", "cyan"), str(what))
        console.print(line, soft_wrap=True)
