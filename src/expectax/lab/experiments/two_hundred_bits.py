"""Two hundred bits: maximise E[mean_i (b_i − t)²] with two draws a step.

The gradient of each bit is 2.5e-6 at the start, and each cost holds the noise of all bits, so that
plain score estimates never leave the start. Closed forms of the variances are derived in
`_two_hundred_bits_runs.py`.

Reference: Titsias & Shi (2022), section 5.1; the settings are those of the authors' program:
logits from 0, Keras's RMSprop, and α from 0, which descends on the mean of g² over the bits.
"""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpyro.distributions as dist
import rich.console
from jaxtyping import Float

from ...distributions import joint
from . import _two_hundred_bits_plot
from ._base import Experiment, Row, print_table, save
from ._two_hundred_bits_runs import (
    CHUNK,
    CONTENDERS,
    CONTROL_RATE,
    FULL,
    KERAS,
    NUM_BITS,
    OPTIMIZERS,
    QUICK,
    RATE,
    TARGET,
    Contender,
    Runs,
    Settings,
    simulate,
)
from ._verdicts import Published, Verdict, Z, agrees, mean_and_error

NAME = "two-hundred-bits"

TOLERANCE = 3e-5
"""How far the mean of our seeds may be from the published figure, which was read off a plot."""

PROTOCOL = (
    f"Maximise E[mean_i (b_i − {TARGET:g})²] over the logits of {NUM_BITS} bits, from 0, with two "
    f"draws a step, RMSprop {RATE:g}, {{steps:,}} steps. The scale α of the double control variate "
    f"starts at 0 and descends by RMSprop {CONTROL_RATE:g} on the mean of g² over the bits. The "
    "objective is exact at each p, and averaged over {seeds} seeds; the largest possible is "
    f"{(1 - TARGET) ** 2:.6f}, at the start it is {(TARGET**2 + (1 - TARGET) ** 2) / 2:.6f}. "
    f"Verdict: within {TOLERANCE:.5f}. The published run used Keras's RMSprop; PyTorch's is shown "
    "beside it. f: evaluations of f for one step, at hard draws + elsewhere. Variances are those "
    "of {draws:,} redrawn gradients, over the closed form, in the first run with Keras's RMSprop."
)


def near(values: Float[np.ndarray, "R"], published: Published) -> Verdict:
    """Whether the mean of our seeds is within `TOLERANCE` of the published figure."""
    mean, error = mean_and_error(values)
    off = mean - published.value
    if abs(off) > TOLERANCE:
        return Verdict(False, f"DISAGREES: off by {off:+.6f}")
    if Z * error > TOLERANCE:
        return Verdict(False, f"underpowered: {Z:g} s.e. are {Z * error:.6f}")
    return Verdict(True, f"agrees: off by {off:+.6f}")


def rows(runs: Mapping[Contender, Runs], settings: Settings) -> list[Row]:
    """The objective with either optimiser, and the variances."""
    out = []
    for index, optimizer in enumerate(OPTIMIZERS):
        for contender, kept in runs.items():
            last, published = kept.objective[index, :, -1], Published(contender.published)
            verdict = near(last, published)
            if optimizer is not KERAS:  # not what was published, and not to be held to it
                off = float(np.mean(last)) - published.value
                verdict = Verdict(None, f"{off:+.6f} from the published")
            quantity = f"objective, {settings.num_steps:,} steps"
            cells = (contender.name, quantity, *mean_and_error(last), published.text, verdict)
            out.append(Row(optimizer.name, *cells, _evaluations(contender)))
    for i, step in enumerate(settings.measured_at):
        for contender, kept in runs.items():
            if kept.ratio is not None:
                verdict = agrees(kept.ratio[i], Published("1.000000"), 1.0)
                cells = (contender.name, "variance / closed form", *mean_and_error(kept.ratio[i]))
                count = _evaluations(contender)
                group = f"variance of the gradient after {step} steps"
                out.append(Row(group, *cells, "1 (derived)", verdict, count))
    return out


def _evaluations(contender: Contender) -> str:
    estimator = contender.build()
    if estimator is None:
        return "closed form"
    count = estimator.evaluations(joint(dist.Bernoulli(logits=np.zeros(NUM_BITS)).to_event(1)))
    return f"{contender.repeats * count.hard} + {contender.repeats * count.auxiliary}"


def reproduce(run_dir: pathlib.Path, quick: bool, console: rich.console.Console) -> None:
    """Run every estimator; print and save the table, and draw the picture."""
    run(run_dir, QUICK if quick else FULL, console)


def run(
    run_dir: pathlib.Path,
    settings: Settings,
    console: rich.console.Console,
    contenders: Sequence[Contender] = CONTENDERS,
) -> list[Row]:
    """The experiment for given settings and contenders.

    Arguments:
        run_dir: an empty folder.
        settings: how much to run.
        console: for the table.
        contenders: who runs.

    Returns:
        The rows of the table.
    """
    runs = {contender: simulate(contender, settings) for contender in contenders}
    table = rows(runs, settings)
    protocol = PROTOCOL.format(
        steps=settings.num_steps,
        seeds=settings.num_seeds,
        draws=settings.num_chunks * CHUNK,
    )
    console.print(protocol, markup=False, highlight=False)
    print_table(console, NAME, table)
    curves = {
        contender.name: {
            optimizer.name: {
                "objective": kept.objective[i],
                "alpha": kept.alpha[i] if contender.learns else None,
            }
            for i, optimizer in enumerate(OPTIMIZERS)
        }
        for contender, kept in runs.items()
    }
    save(run_dir, NAME, protocol, settings, table, curves)
    _two_hundred_bits_plot.draw(runs, settings, run_dir)
    console.print(f"Table, numbers and picture are in {run_dir}")
    return table


EXPERIMENT = Experiment(
    NAME, "two hundred bits, two draws a step: who sees a gradient of 2.5e-6", reproduce
)
