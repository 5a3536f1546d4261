"""The mean of a Gaussian: minimise E_{N(aθ + b, 1)}[z²], by the score function and pathwise.

Both descend to the same optimum θ* = −b/a; they differ in noise. The closed forms are derived in
`_gaussian_runs.py`.

Reference: Mohamed et al. (2020), section 3, for the comparison; Kingma & Welling (2014).
"""

import pathlib

import numpy as np
import numpyro.distributions as dist
import rich.console

from ...distributions import joint
from . import _gaussian_plot
from ._base import Experiment, Row, print_table, save
from ._gaussian_runs import (
    CONTENDERS,
    FULL,
    OFFSET,
    OPTIMUM,
    QUICK,
    SLOPE,
    START,
    Contender,
    Measured,
    Settings,
    excess,
    mean_of,
    measure,
)
from ._verdicts import NOT_JUDGED, Published, agrees, mean_and_error

NAME = "gaussian-mean"

PROTOCOL = (
    f"Minimise E[z²] over θ, z ~ N({SLOPE:g}θ + {OFFSET:g}, 1), from θ = {START:g} by plain "
    "descent at rate {rate:g} for {steps} steps. The least loss is 1, at θ = −b/a = "
    f"{OPTIMUM:g}. Gradients: {{draws:,}} draws at each θ; descents: {{runs:,}}. "
    "f: evaluations of f for one step. Derived figures: see the module's docstring."
)


def _rows(contender: Contender, measured: Measured, settings: Settings) -> list[Row]:
    """Gradient and variance at the ends and at the optimum; where the descents end."""
    count = contender.estimator.evaluations(joint(dist.Normal(0.0, 1.0))).hard
    row = lambda group, quantity, values, published, verdict: Row(
        group, contender.name, quantity, *mean_and_error(values), published, verdict, str(count)
    )
    out = []
    for i, theta in enumerate(settings.thetas):
        if theta not in (settings.thetas[0], OPTIMUM, settings.thetas[-1]):
            continue
        mu, draws = float(mean_of(theta)), measured.gradients[i]
        truth, group = 2 * SLOPE * mu, f"θ = {theta:g}"
        # the gradient's own size where it has one; at the optimum, its size a unit of μ away
        scale = max(abs(truth), 2 * SLOPE)
        verdict = agrees(draws, _derived(truth), scale)
        out.append(row(group, "gradient", draws, f"{truth:g} (derived)", verdict))
        squares, variance = (draws - truth) ** 2, float(contender.variance(np.asarray(mu)))
        verdict = agrees(squares, _derived(variance), variance)
        out.append(row(group, "variance", squares, f"{variance:g} (derived)", verdict))
    group = f"after {settings.num_steps} steps"
    last = measured.descents[:, -1]
    verdict = agrees(last, _derived(OPTIMUM), START - OPTIMUM)
    out.append(row(group, "θ", last, f"{OPTIMUM:g} (derived)", verdict))
    squares, expected = mean_of(last) ** 2, excess(contender, settings)
    published, verdict = "", NOT_JUDGED
    if expected is not None:
        published = f"{expected[-1]:.5g} (derived)"
        verdict = agrees(squares, _derived(float(expected[-1])), float(expected[-1]))
    out.append(row(group, "loss − 1", squares, published, verdict))
    return out


def _derived(value: float) -> Published:
    return Published(f"{value:.9f}")


def reproduce(run_dir: pathlib.Path, quick: bool, console: rich.console.Console) -> None:
    """Measure every estimator; print and save the table, and draw the picture."""
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
    measured = {contender.name: measure(contender, settings) for contender in CONTENDERS}
    table = [row for c in CONTENDERS for row in _rows(c, measured[c.name], settings)]
    protocol = PROTOCOL.format(
        rate=settings.rate,
        steps=settings.num_steps,
        draws=settings.num_draws,
        runs=settings.num_runs,
    )
    console.print(protocol, markup=False, highlight=False)
    print_table(console, NAME, table)
    curves = {
        name: {
            "theta": settings.thetas,
            "gradient_mean": m.gradients.mean(1),
            "gradient_variance": m.gradients.var(1),
            "descent_mean": m.descents.mean(0),
            "descent_variance": m.descents.var(0),
        }
        for name, m in measured.items()
    }
    save(run_dir, NAME, protocol, settings, table, curves)
    _gaussian_plot.draw(measured, settings, run_dir)
    console.print(f"Table, numbers and picture are in {run_dir}")
    return table


EXPERIMENT = Experiment(
    NAME, "score function beside pathwise on E[z²]: one optimum, two variances", reproduce
)
