"""Every reparameterization of the subject's table, on its law and on the derivative of E[f].

Each law is drawn by a path that is written out and as NumPyro has it, through `Pathwise`. Draws
are compared with the exact law, derivatives with quadrature. Paths: see
`_reparameterizations_draws.py`; exact figures: `_reparameterizations_quadrature.py`.

Reference: Devroye (1986); Mohamed et al. (2020), section 5; Figurnov, Mohamed & Mnih (2018).
"""

import dataclasses
import math
import pathlib
import statistics
from collections.abc import Iterable, Sequence

import jax
import numpy as np
import rich.console
from jaxtyping import Float

from . import _reparameterizations_draws as draws, _reparameterizations_plot as plot
from ._base import Experiment, Row, print_table, save
from ._reparameterizations_draws import WAYS, Way
from ._reparameterizations_quadrature import Marginal, kolmogorov
from ._verdicts import Verdict, mean_and_error

NAME = "reparameterizations"

Z = 4.48
"""Standard errors that a figure may be off: the threshold of the whole test suite.

With it all the suite's comparisons together raise a false alarm with a chance of 5 %.
"""

PROTOCOL = (
    "f(x) = log(1 + Σ (x − ½)²), of angles f(sin x), in nats. {draws:,} draws in float32 for each "
    "way; u, v: uniform noise; ε: standard normal. Exact figures are sums over a quadrature grid "
    "of the density in float64, and central differences of them. Gate A: a mean is off by no more "
    "than {z} standard errors (widened by Wilson's term for rare draws), a Kolmogorov–Smirnov "
    "distance no greater than such a mean's chance allows. Gate B: what gate A allows is at most "
    "{power:.0%} of the scale: of a mean the greater of its size and the standard deviation, of a "
    "variance or E[f] its size, of a derivative the largest in its parameter, of a distance 1. A "
    "mean or variance whose error has no variance is left out. f: evaluations of f for one draw."
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much to run.

    Attributes:
        num_draws: for each way.
        power: gate B.
    """

    num_draws: int = 2**20
    power: float = 0.02
    seed: int = 0


FULL = Settings()
QUICK = Settings(num_draws=2**18, power=0.06)


@dataclasses.dataclass(frozen=True)
class Finding:
    """A row of the table.

    Attributes:
        row: as printed.
        z: how many standard errors it is off; NaN where nothing is random.
    """

    row: Row
    z: float = math.nan


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a way's draws showed.

    Attributes:
        findings: its rows.
        histograms: of the numbers that the picture shows.
        gradient: mean derivative of each entry, and what gate A allows it.
    """

    findings: list[Finding]
    histograms: list[plot.Histogram]
    gradient: tuple[Float[np.ndarray, "P"], Float[np.ndarray, "P"]]


def allowance(values: Float[np.ndarray, "N"]) -> float:
    """How far the mean of these may be from the truth: Wilson's interval, as in the test suite.

    The sample's own error is too small by luck where a rare large draw carries the variance.
    """
    mean, error = mean_and_error(values)
    rare = Z * max(values.max() - mean, mean - values.min()) / (2 * len(values))
    return Z * math.hypot(error, rare) + Z * rare


def agrees(
    values: Float[np.ndarray, "N"], truth: float, scale: float, settings: Settings
) -> tuple[float, Verdict]:
    """By how many standard errors a mean is off, and gates A and B."""
    mean, error = mean_and_error(values)
    off, allowed = abs(mean - truth), allowance(values)
    z = off / error if error else (math.inf if off else 0.0)
    if not off <= allowed:
        return z, Verdict(False, f"DISAGREES ({z:.1f} s.e.)")
    if not allowed <= settings.power * scale:
        return z, Verdict(False, f"underpowered: {allowed / scale:.1%} of the scale is allowed")
    return z, Verdict(True, f"agrees ({z:.1f} s.e.)")


def follows(distance: float, num: int, settings: Settings) -> tuple[float, float, Verdict]:
    """Of a Kolmogorov–Smirnov distance: its z-score, the greatest allowed, and the gates.

    The z-score has the chance of the distance, on both sides of a normal law.
    """
    chance = kolmogorov(distance, num)
    z = -statistics.NormalDist().inv_cdf(max(chance, 1e-300) / 2)
    tail = 2 * statistics.NormalDist().cdf(-Z)
    allowed = math.sqrt(math.log(2 / tail) / (2 * num))  # the first term of the series is all
    if z > Z:
        return z, allowed, Verdict(False, f"DISAGREES (p = {chance:.1g})")
    if allowed > settings.power:
        return z, allowed, Verdict(False, f"underpowered: {allowed:.1%} is allowed")
    return z, allowed, Verdict(True, f"agrees (p = {chance:.2g})")


def distance(values: Float[np.ndarray, "N"], marginal: Marginal) -> float:
    """The greatest difference of the empirical distribution function from the exact one."""
    exact = marginal.law.cdf(np.sort(values))
    below = np.arange(len(values)) / len(values)
    return float(np.max(np.maximum(exact - below, below + 1 / len(values) - exact)))


def measure(way: Way, settings: Settings, place: int) -> Measured:
    """Draw, and compare with the exact law.

    Arguments:
        way: to draw.
        settings: how much.
        place: of the way in the table; its draws are its own.
    """
    key = jax.random.fold_in(jax.random.key(settings.seed), place)
    x, costs, slopes = draws.sample(way, key, settings.num_draws)
    findings, histograms = [], []
    for marginal in way.law.marginals:
        numbers = marginal.of(x)
        findings += _of_the_law(way, marginal, numbers, settings)
        histograms.append(plot.histogram(marginal, numbers))
    exact = way.law.value(way.law.params)
    findings.append(_mean(way, "E[f]", costs, exact, abs(exact), settings))
    findings += _of_the_gradient(way, slopes, settings) if way.moves else _of_a_step(way, slopes)
    allowed = np.array([allowance(column) for column in slopes.T])
    return Measured(findings, histograms, (slopes.mean(axis=0), allowed))


def _mean(
    way: Way, quantity: str, values: np.ndarray, truth: float, scale: float, settings: Settings
) -> Finding:
    z, verdict = agrees(values, truth, scale, settings)
    published = f"{truth:.6g} (derived)"
    cells = (quantity, *mean_and_error(values), published, verdict, "1")
    return Finding(Row(way.law.name, way.name, *cells), z)


def _of_the_law(
    way: Way, marginal: Marginal, numbers: np.ndarray, settings: Settings
) -> Iterable[Finding]:
    """Distance of the distribution functions, mean and variance, as far as they exist."""
    law, name = marginal.law, marginal.name
    if law.continuous:
        found = distance(numbers, marginal)
        z, allowed, verdict = follows(found, len(numbers), settings)
        published = f"≤ {allowed:.2g} (law of the distance)"
        cells = (f"KS distance, {name}", found, math.nan, published, verdict, "1")
        yield Finding(Row(way.law.name, way.name, *cells), z)
    if law.moments > 0:
        scale = max(abs(law.mean), math.sqrt(law.variance))
        yield _mean(way, f"mean, {name}", numbers, law.mean, scale, settings)
    if law.moments > 1:
        square = (numbers - law.mean) ** 2
        yield _mean(way, f"variance, {name}", square, law.variance, law.variance, settings)


def _of_the_gradient(way: Way, slopes: np.ndarray, settings: Settings) -> Iterable[Finding]:
    law = way.law
    for entry, column, exact, scale in zip(
        law.entries, slopes.T, law.gradient, law.scales, strict=True
    ):
        yield _mean(way, f"∂E[f]/∂{entry}", column, float(exact), float(scale), settings)


def _of_a_step(way: Way, slopes: np.ndarray) -> Iterable[Finding]:
    """A discrete draw: no slope of its own; `Pathwise` says so, and `Enumerate` serves it."""
    (entry,), (exact,) = way.law.entries, way.law.gradient
    bit = next(other for other in WAYS if other.law is way.law and other.build is not None)
    quantity = f"∂E[f]/∂{entry}"
    silent = not slopes.any() and draws.refused(bit)
    text = "0, as derived: no pathwise derivative; Pathwise refuses" if silent else "NOT 0"
    cells = (quantity, float(slopes.mean()), 0.0, "0 (a step)", Verdict(silent, text), "1")
    yield Finding(Row(way.law.name, way.name, *cells))
    ours = draws.enumerated(bit)
    close = bool(abs(ours - exact) <= 1e-5 * abs(exact))
    verdict = Verdict(close, "agrees (to rounding)" if close else "DISAGREES")
    cells = (quantity, ours, 0.0, f"{exact:.6g} (derived)", verdict, "2")
    yield Finding(Row(way.law.name, "Enumerate, Bernoulli", *cells))


def rows(findings: Sequence[Finding]) -> list[Row]:
    """The table: the largest z-score of all, then the rows."""
    scored = [finding for finding in findings if not math.isnan(finding.z)]
    worst = max(scored, key=lambda finding: finding.z)
    where = f"{worst.row.group}, {worst.row.name}: {worst.row.quantity}"
    verdict = Verdict(worst.z <= Z, f"{'below' if worst.z <= Z else 'ABOVE'} it: {where}")
    cells = (f"largest z-score of {len(scored)}", worst.z, math.nan, f"≤ {Z} (threshold)", verdict)
    first = Row("all rows", "all", *cells, "–")
    return [first, *(finding.row for finding in findings)]


def reproduce(run_dir: pathlib.Path, quick: bool, console: rich.console.Console) -> None:
    """Draw every row; print and save the table, and draw the picture."""
    run(run_dir, QUICK if quick else FULL, console)


def run(
    run_dir: pathlib.Path,
    settings: Settings,
    console: rich.console.Console,
    ways: Sequence[Way] = WAYS,
) -> list[Row]:
    """The experiment for given settings.

    Arguments:
        run_dir: an empty folder.
        settings: how much to run.
        console: for the table.
        ways: the rows.

    Returns:
        The rows of the table.
    """
    measured = {way: measure(way, settings, place) for place, way in enumerate(ways)}
    table = rows([finding for each in measured.values() for finding in each.findings])
    protocol = PROTOCOL.format(draws=settings.num_draws, z=Z, power=settings.power)
    console.print(protocol, markup=False, highlight=False)
    print_table(console, NAME, table)
    curves = {
        f"{way.law.name}: {way.name}": {
            "parameters": way.law.entries,
            "exact_gradient": way.law.gradient,
            "gradient": kept.gradient[0],
            "allowed_error": kept.gradient[1],
        }
        for way, kept in measured.items()
    }
    save(run_dir, NAME, protocol, settings, table, curves)
    shown = {way: (kept.histograms, kept.gradient) for way, kept in measured.items()}
    plot.draw(shown, settings.num_draws, run_dir)
    console.print(f"Table, numbers and picture are in {run_dir}")
    return table


EXPERIMENT = Experiment(
    NAME,
    "every reparameterization of the table: draws against laws, slopes against E[f]",
    reproduce,
)
