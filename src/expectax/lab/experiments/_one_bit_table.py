"""The one-bit table: every estimator at every t, beside what was published or can be derived."""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Float

from ...distributions import joint
from . import _one_bit_theory as theory
from ._base import Row
from ._one_bit_contenders import (
    LOG_VARIANCES,
    SIMULATED,
    SIMULATED_RUNS,
    SIMULATED_STEPS,
    SINGLE_RUNS,
    STALL,
    SUCCEED,
    Contender,
)
from ._one_bit_runs import Runs, Settings
from ._verdicts import (
    Published,
    Verdict,
    agrees,
    describes,
    mean_and_error,
    stalls,
    succeeds,
    typical,
)

START = 0.5
"""P(the wrong bit) at logit 0."""


def rows(runs: Mapping[Contender, Runs], settings: Settings) -> list[Row]:
    """All rows, grouped by t."""
    out = []
    for i, target in enumerate(settings.targets):
        group = f"t = {target:g} (least loss {theory.optimum(target):.6g})"
        for contender, kept in runs.items():
            losses = _loss_rows(contender.name, kept.remaining[i], target, settings)
            single = _single_run_rows(contender.name, kept, i, settings)
            derived = _variance_rows(contender.name, kept, i, settings)
            for quantity, ours, error, published, verdict in [*losses, *single, *derived]:
                cells = (quantity, ours, error, published, verdict)
                out.append(Row(group, contender.name, *cells, _evaluations(contender)))
    return out


Cells = tuple[str, float, float, str, Verdict]
"""quantity, ours, standard error, published, verdict."""


def _evaluations(contender: Contender) -> str:
    """Evaluations of f for one gradient, at hard draws + elsewhere."""
    estimator = contender.build(jax.random.key(0), jnp.asarray(0.5))
    count = estimator.evaluations(joint(dist.Bernoulli(logits=0.0)))
    return f"{count.hard} + {count.auxiliary}"


def mirrored(target: float) -> float:
    """t or 1 − t, whichever is below ½.

    Swapping the names of the two bits turns one problem into the other, so a figure published for
    either serves both.
    """
    return round(min(target, 1.0 - target), 9)


def _loss_rows(
    name: str, remaining: Float[np.ndarray, "R N"], target: float, settings: Settings
) -> list[Cells]:
    out = []
    for index, step in enumerate(SIMULATED_STEPS):
        if step > settings.num_steps:
            continue
        left = remaining[:, step // settings.steps_per_record]
        loss = theory.optimum(target) + theory.gain(target) * left
        published, verdict = _judge_loss(name, target, index, left, loss)
        out.append((f"loss, {step:,} steps", *mean_and_error(loss), published, verdict))
    return out


def _judge_loss(
    name: str,
    target: float,
    index: int,
    left: Float[np.ndarray, "R"],
    loss: Float[np.ndarray, "R"],
) -> tuple[str, Verdict]:
    last = SIMULATED_STEPS[index] == SIMULATED_STEPS[-1]
    above = float(np.mean(loss)) - theory.optimum(target)
    simulated = SIMULATED.get(name, {}).get(mirrored(target))
    if simulated is not None:
        exact = name == "Enumerate"
        published = Published(simulated[index], math.inf if exact else float(SIMULATED_RUNS))
        return published.text, agrees(loss, published, above)
    if last and name in theory.RESTS:
        p = theory.resting_place(name, target)
        rest = Published(f"{p * (1 - target) ** 2 + (1 - p) * target**2:.7f}")
        return f"{rest.text} (derived)", agrees(loss, rest, above)
    for claims, judge, word in ((STALL, stalls, "stalls"), (SUCCEED, succeeds, "succeeds")):
        if last and (name, 1 - mirrored(target)) in claims:
            return word, judge(left, START)
    return "", describes(left, START)


def _single_run_rows(name: str, kept: Runs, i: int, settings: Settings) -> list[Cells]:
    """Single runs at t = .499 after 10,000 steps, read off published figures."""
    step, target = SIMULATED_STEPS[-1], settings.targets[i]
    if target != 0.499 or settings.num_steps < step:
        return []
    out: list[Cells] = []
    if name in SINGLE_RUNS:
        left = kept.remaining[i][:, step // settings.steps_per_record]
        loss = theory.optimum(target) + theory.gain(target) * left
        verdict = typical(loss, float(SINGLE_RUNS[name]))
        cell = (f"loss of one run, {step:,}", float(np.median(loss)), math.nan)
        out.append((*cell, SINGLE_RUNS[name], verdict))
    if name in LOG_VARIANCES:
        low, high = LOG_VARIANCES[name]
        values = np.log(kept.variance[i][:, step // settings.steps_per_block])
        shown = f"{low:g}" if low == high else f"{high:g} … {low:g}"
        cell = (f"log variance, {step:,}", float(np.median(values)), math.nan)
        out.append((*cell, shown, typical(values, low, high)))
    return out


def _variance_rows(name: str, kept: Runs, i: int, settings: Settings) -> list[Cells]:
    """Measured variances over closed forms, summed over the checkpoints of all runs."""
    if name not in theory.SECOND_MOMENTS:
        return []
    measured = kept.variance[i]
    every = settings.steps_per_block // settings.steps_per_record
    p = kept.remaining[i][: len(measured), ::every]
    closed = theory.variance(name, p, settings.targets[i])
    scale = float(np.mean(np.sum(closed, axis=1)))
    ratio = np.sum(measured - closed, axis=1) / scale + 1.0
    cell = ("variance / closed form", *mean_and_error(ratio))
    return [(*cell, "1 (derived)", agrees(ratio, Published("1.000000"), 1.0))]
