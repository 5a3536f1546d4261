"""Variance reduction, each method on a case whose variance is known in closed form.

The closed forms are derived in `_control_variates_curves.py`.

Reference: Owen (2013), "Monte Carlo theory, methods and examples", chapter 8; Mohamed et al.
(2020), section 7.
"""

import dataclasses
import pathlib

import numpy as np
import rich.console
from jaxtyping import Float

from . import _control_variates_plot
from ._base import Experiment, Row, print_table, save
from ._control_variates_curves import (
    ANTITHETIC,
    BLACKWELL,
    COMMON,
    CURVES,
    NUM,
    PAIR,
    SAME,
    Curve,
)
from ._verdicts import NOT_JUDGED, Published, agrees, mean_and_error

NAME = "control-variates"

PROTOCOL = (
    "Variance reduction on cases that can be derived. “variance ratio”: the variance over that of "
    "plain Monte Carlo with as many evaluations of f, from {replications:,} replications; on bits, "
    "over that of one draw of the score function, from {gradients:,} gradients. "
    "“c* from the draws themselves”: f̄ − ĉ h̄ with ĉ = S_fh / S_hh from the same draws is biased "
    "by −2/n; with ĉ from the other draws it is not. ρ: correlation; n: draws, strata or bits; "
    "a: of the function; δ: half the step. f: evaluations of f for one estimate."
)

SYMBOL = {PAIR: "ρ", ANTITHETIC: "a", COMMON: "δ"}
"""The parameter; n elsewhere."""

EVALUATIONS = {PAIR: NUM, ANTITHETIC: 2, COMMON: 2}
"""Of f for one estimate; n elsewhere, and n + 1 on n bits, beside one of the score function."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much to run.

    Attributes:
        num_replications: of each estimate at each parameter.
        num_gradients: of those that are gradients of bits.
    """

    num_replications: int = 200_000
    num_gradients: int = 50_000
    seed: int = 0


FULL = Settings()
QUICK = Settings(num_replications=50_000, num_gradients=20_000)


def measure(curve: Curve, settings: Settings) -> dict[float, Float[np.ndarray, "R"]]:
    """Estimates at each parameter, by the parameter."""
    num = settings.num_gradients if curve.panel == BLACKWELL else settings.num_replications
    # streams of their own: curves that share draws would share their luck
    stream = np.random.SeedSequence([settings.seed, *curve.panel.encode(), *curve.name.encode()])
    seeds = stream.spawn(len(curve.points))
    pairs = zip(curve.points, seeds, strict=True)
    return {x: curve.draw(np.random.default_rng(seed), x, num) for x, seed in pairs}


def ratios(curve: Curve, x: float, values: Float[np.ndarray, "R"]) -> Float[np.ndarray, "R"]:
    """For each estimate, what its mean is the variance ratio."""
    return (values - curve.truth(x) - curve.bias(x)) ** 2 / curve.plain(x)


def rows(curve: Curve, measured: dict[float, Float[np.ndarray, "R"]]) -> list[Row]:
    """Bias, where that is the matter, and variance ratio at the parameters shown."""
    out = []
    for x in curve.shown:
        values, name = measured[x], f"{curve.name} ({SYMBOL.get(curve.panel, 'n')} = {x:g})"
        count = str(EVALUATIONS.get(curve.panel, int(x) + (curve.panel == BLACKWELL)))
        if curve.panel == SAME:
            off, expected = values - curve.truth(x), curve.bias(x)
            # that of the biased estimator, whichever this is: so much has to be told apart
            scale = 2 / x
            cells = mean_and_error(off)
            verdict = agrees(off, _derived(expected), scale)
            published = f"{expected:g} (derived)"
            out.append(Row(curve.panel, name, "bias", *cells, published, verdict, count))
        ratio = ratios(curve, x, values)
        published, verdict = "", NOT_JUDGED
        if curve.ratio is not None:
            expected = curve.ratio(x)
            published = f"{expected:.5g} (derived)"
            verdict = agrees(ratio, _derived(expected), expected)
        cells = (*mean_and_error(ratio), published, verdict)
        out.append(Row(curve.panel, name, "variance ratio", *cells, count))
    return out


def _derived(value: float) -> Published:
    return Published(f"{value:.12f}")


def reproduce(run_dir: pathlib.Path, quick: bool, console: rich.console.Console) -> None:
    """Measure every curve; print and save the table, and draw the picture."""
    run(run_dir, QUICK if quick else FULL, console)


def run(run_dir: pathlib.Path, settings: Settings, console: rich.console.Console) -> list[Row]:
    """The experiment for given settings.

    Arguments:
        run_dir: an empty folder.
        settings: how much to run.
        console: for the table.

    Returns:
        The rows of the table.
    """
    measured = {curve: measure(curve, settings) for curve in CURVES}
    table = [row for curve in CURVES for row in rows(curve, measured[curve])]
    protocol = PROTOCOL.format(
        replications=settings.num_replications, gradients=settings.num_gradients
    )
    console.print(protocol, markup=False, highlight=False)
    print_table(console, NAME, table)
    curves = {
        f"{curve.panel}: {curve.name}": {
            "parameter": curve.points,
            "variance_ratio": [float(np.mean(ratios(curve, x, v))) for x, v in kept.items()],
            "bias": [float(np.mean(v)) - curve.truth(x) for x, v in kept.items()],
            "derived_ratio": [curve.ratio(x) for x in curve.points] if curve.ratio else None,
        }
        for curve, kept in measured.items()
    }
    save(run_dir, NAME, protocol, settings, table, curves)
    _control_variates_plot.draw(
        {
            curve: {
                x: (mean_and_error(ratios(curve, x, v)), mean_and_error(v - curve.truth(x)))
                for x, v in kept.items()
            }
            for curve, kept in measured.items()
        },
        run_dir,
    )
    console.print(f"Table, numbers and picture are in {run_dir}")
    return table


EXPERIMENT = Experiment(
    NAME, "control variates, antithetic, stratified, common and summed-out draws", reproduce
)
