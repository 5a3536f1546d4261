"""Temperature: relaxed draws on the simplex, and the bias and variance of their gradients.

The cost is cubic, f(y) = (c·y)³, so that straight-through Gumbel-Softmax keeps a bias at every
temperature: its limit as τ → 0 puts ½ (f'(b) + f'(b')) in place of the mean slope between two
corners, which is right for quadratic costs only. Derived figures: see `_temperature_theory.py`.

Reference: Jang, Gu & Poole (2017); Maddison, Mnih & Teh (2017).
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rich.console
from jaxtyping import Array, Float, PRNGKeyArray

import expectax as ex

from ..._expect import expect
from ...distributions import joint
from . import _temperature_plot, _temperature_theory as theory
from ._base import Experiment, Row, print_table, save
from ._verdicts import Published, Verdict, agrees, mean_and_error

NAME = "temperature"

PROTOCOL = (
    f"One variable of three categories, p = {theory.PROBABILITIES.tolist()}; f(y) = (c·y)³ with "
    f"c = {theory.WEIGHTS.tolist()}. Gradients in the logits, {{draws:,}} at each temperature. "
    "“along the exact gradient”: E[g]·∇ / |∇|², which is 1 without bias. “variance / derived”: "
    "of all three logits together. f: evaluations of f, at hard draws + elsewhere. Derived "
    "figures are by quadrature over the Gumbel noise, and by enumeration for the two estimators "
    "without a temperature."
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much to run.

    Attributes:
        temperatures: where gradients are drawn.
        shown: those of them that the table shows and the picture has a simplex for.
        num_draws: gradients drawn at each temperature.
        num_points: relaxed draws in each simplex of the picture.
    """

    temperatures: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
    shown: tuple[float, ...] = (0.1, 0.5, 1.0, 2.0, 5.0)
    num_draws: int = 400_000
    num_points: int = 1_500
    seed: int = 0


FULL = Settings()
QUICK = dataclasses.replace(FULL, temperatures=FULL.shown, num_draws=100_000)


@dataclasses.dataclass(frozen=True)
class Contender:
    """An estimator, from a temperature, and the closed form of its gradient.

    Attributes:
        name: in table and picture.
        build: from a temperature to the estimator.
        moments: from a temperature to the derived mean and variance.
        relaxed: whether it has a temperature.
    """

    name: str
    build: Callable[[Any], ex.AbstractEstimator]
    moments: Callable[[float], tuple[np.ndarray, np.ndarray]]
    relaxed: bool = True


CONTENDERS = (
    Contender(
        "GumbelSoftmax",
        ex.GumbelSoftmax,
        functools.partial(theory.moments, theory.relaxed_gradient),
    ),
    Contender(
        "StraightThroughGumbelSoftmax",
        ex.StraightThroughGumbelSoftmax,
        functools.partial(theory.moments, theory.straight_through_gradient),
    ),
    Contender(
        "ScoreFunction",
        lambda _: ex.ScoreFunction(),
        lambda _: theory.score_moments(1),
        relaxed=False,
    ),
    Contender(
        "LeaveOneOut(2)",
        lambda _: ex.LeaveOneOut(2),
        lambda _: theory.score_moments(2),
        relaxed=False,
    ),
)


@dataclasses.dataclass(frozen=True)
class Measured:
    """Of each drawn gradient: its part along the exact one, and its squared distance from its mean
    as derived; axes temperature (one where there is none), draw."""

    along: Float[np.ndarray, "T S"]
    spread: Float[np.ndarray, "T S"]


def cost(
    logits: Float[Array, "3"], estimator: ex.AbstractEstimator, key: PRNGKeyArray
) -> tuple[Float[Array, ""], Float[Array, "1 3"]]:
    """An estimate of E[f] whose gradient the estimator gives, and the draw."""
    weights = jnp.asarray(theory.WEIGHTS, logits.dtype)
    f = lambda y: (jnp.dot(y, weights) ** 3, y)
    return expect(key, ex.OneHotCategorical(logits=logits), f, estimator, has_aux=True)


def _logits() -> Float[Array, "3"]:
    return jnp.log(jnp.asarray(theory.PROBABILITIES))


def measure(contender: Contender, settings: Settings) -> Measured:
    """Draw gradients at every temperature, in one compiled program."""
    temperatures = settings.temperatures if contender.relaxed else settings.temperatures[:1]
    derived = np.stack([contender.moments(t)[0] for t in temperatures])
    exact = theory.exact_gradient()

    @jax.jit
    def program(temperatures: Any, derived: Any, keys: Any):
        def one(temperature: Any, mean: Any, key: PRNGKeyArray):
            loss = lambda logits: cost(logits, contender.build(temperature), key)[0]
            g = jax.grad(loss)(_logits())
            return g @ (exact / (exact @ exact)), jnp.sum((g - mean) ** 2)

        over_draws = jax.vmap(one, (None, None, 0))
        return jax.lax.map(lambda pair: over_draws(pair[0], pair[1], keys), (temperatures, derived))

    keys = jax.random.split(jax.random.key(settings.seed), settings.num_draws)
    drawn = program(jnp.asarray(temperatures), jnp.asarray(derived), keys)
    along, spread = (np.asarray(x, np.float64) for x in drawn)
    return Measured(along, spread)


def relaxed_draws(settings: Settings, num: int) -> Float[np.ndarray, "T N 3"]:
    """Points of the simplex at each temperature shown, from the same noise."""
    keys = jax.random.split(jax.random.key(settings.seed + 1), num)
    one = lambda t, key: cost(_logits(), ex.GumbelSoftmax(t), key)[1][0]
    program = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))
    return np.asarray(program(jnp.asarray(settings.shown), keys), np.float64)


def _derived(value: float) -> Published:
    return Published(f"{value:.9f}")


Cells = tuple[str, float, float, str, Verdict]
"""quantity, ours, standard error, published, verdict."""


def rows(
    measured: Mapping[Contender, Measured], points: Float[np.ndarray, "T N 3"], settings: Settings
) -> list[Row]:
    """The relaxed draws, and every estimator at the temperatures shown."""
    out = []
    for temperature, y in zip(settings.shown, points, strict=True):
        draws, _, mass = theory.quadrature(temperature)
        for quantity, values, nodes in (
            ("mean of y₁", y[:, 0], draws[:, 0]),
            ("mean of |y|²", np.sum(y**2, axis=-1), np.sum(draws**2, axis=-1)),
        ):
            expected = float(mass @ nodes)
            verdict = agrees(values, _derived(expected), expected)
            cells = (quantity, *mean_and_error(values), f"{expected:.5g} (derived)", verdict)
            out.append(Row("relaxed draws", f"τ = {temperature:g}", *cells, "–"))
    for contender, kept in measured.items():
        count = contender.build(1.0).evaluations(joint(ex.OneHotCategorical(logits=_logits())))
        evaluations = f"{count.hard} + {count.auxiliary}"
        for temperature in settings.shown if contender.relaxed else settings.temperatures[:1]:
            group = f"τ = {temperature:g}" if contender.relaxed else "without a temperature"
            i = settings.temperatures.index(temperature)
            for cells in _gradient_cells(contender, temperature, kept.along[i], kept.spread[i]):
                out.append(Row(group, contender.name, *cells, evaluations))
    return out


def _gradient_cells(
    contender: Contender, temperature: float, along: np.ndarray, spread: np.ndarray
) -> list[Cells]:
    """Mean and variance at a temperature."""
    exact = theory.exact_gradient()
    mean, variance = contender.moments(temperature)
    expected = float(mean @ exact / (exact @ exact))
    cells: list[Cells] = [
        (
            "along the exact gradient",
            *mean_and_error(along),
            f"{expected:.5g} (derived)",
            agrees(along, _derived(expected), 1.0),
        )
    ]
    ratio = spread / variance.sum()
    verdict = agrees(ratio, _derived(1.0), 1.0)
    cells.append(("variance / derived", *mean_and_error(ratio), "1 (derived)", verdict))
    return cells


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
    measured = {contender: measure(contender, settings) for contender in CONTENDERS}
    points = relaxed_draws(settings, max(settings.num_points, settings.num_draws // 10))
    table = rows(measured, points, settings)
    protocol = PROTOCOL.format(draws=settings.num_draws)
    console.print(protocol, markup=False, highlight=False)
    print_table(console, NAME, table)
    curves = {
        contender.name: {
            "temperature": settings.temperatures if contender.relaxed else None,
            "along": kept.along.mean(axis=1),
            "variance": kept.spread.mean(axis=1),
        }
        for contender, kept in measured.items()
    }
    save(run_dir, NAME, protocol, settings, table, curves)
    spread = {c.name: kept.spread.mean(axis=1) for c, kept in measured.items()}
    closed = {c.name: c.moments for c in CONTENDERS}
    _temperature_plot.draw(
        settings.temperatures,
        dict(zip(settings.shown, points[:, : settings.num_points], strict=True)),
        closed,
        spread,
        run_dir,
    )
    console.print(f"Table, numbers and picture are in {run_dir}")
    return table


EXPERIMENT = Experiment(
    NAME, "relaxed draws on the simplex; bias and variance of their gradients over τ", reproduce
)
