"""Hard attention: digits by a few glimpses, and through a mask over patches.

Reference: Mnih, Heess, Graves & Kavukcuoglu (2014), "Recurrent models of visual attention",
section 4: 28 × 28 digits, and 60 × 60 fields in which a digit lies somewhere, alone or among pieces
of others.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..task import AbstractTask
from ._attention_task import ESTIMATORS, GRADIENTS, ByGlimpses, ByMask
from ._base import Row
from ._training import TrainingExperiment
from ._training_plan import Asked, Contender, Outcome, Plan
from ._training_plot import Panel

NAME = "hard-attention"
DATA = ("mnist", "translated", "cluttered")

STEPS = {"mnist": 30_000, "translated": 10_000, "cluttered": 10_000, "digits": 400}
FIELD = 60

PUBLISHED = {"mnist": "1.12", "translated": "1.22", "cluttered": "4.08"}
"""Test error in % with 6 glimpses, from memory."""

EVALUATIONS = {
    "glimpses-one-scale": "1 + 0",
    "glimpses-baseline": "1 + 0", "glimpses-leave-one-out": "2 + 0", "glimpses-pathwise": "1 + 0",
    "mask-disarm": "2 + 0", "mask-leave-one-out": "2 + 0",
    "mask-straight-through-gumbel-softmax": "1 + 0",
}  # fmt: skip

PROTOCOL = (
    "{where}. glimpses-*: {glimpses} glimpses, each of {scales} of {size}×{size} pixels, each "
    "twice as wide as the last, at locations with standard deviation {spread} (half the picture is "
    "1); rectifiers, {features} features of what is seen, multiplied by as many of where, {states} "
    "units of recurrent state. Trained is E[−log p(class)] after the last glimpse: by the score "
    "function, which trains the locator alone, with a learned baseline or with the other rollout "
    "as baseline, or along the slope of the bilinear glimpses; {rollouts} rollout a picture, for "
    "leave-one-out twice as many. glimpses-one-scale, of digits without a field, has the learned "
    "baseline and the finest patch alone, as published. mask-*: an encoder and a classifier of "
    "{hidden} hidden units; bits show patches of {patch}×{patch} pixels, at first with chance "
    "{shown:g}, each for a price that rises to {price:g} nats over the first half. Batch {batch}, "
    "{steps:,} steps of Adam {rate:g}, falling to 0 as a cosine, {seeds}. Errors are of all "
    "test pictures, looking at drawn places, or at the likeliest. At equal time: the curve where "
    "the fastest contender ends, the others' rates not yet fallen to 0. f: evaluations of the "
    "classifier for one step and picture, at hard draws + elsewhere. Published figures are from "
    "memory."
)

WHERE = {
    "mnist": "MNIST digits",
    "translated": "MNIST digits, each anywhere in a field of 60×60 pixels, anew at each use",
    "cluttered": "MNIST digits, each anywhere in a field of 60×60 pixels among 4 pieces of 8×8 "
    "pixels of others, anew at each use",
    "digits": "scikit-learn's digits of 8×8 pixels",
}


def at_equal_time(figure: str, words: str) -> Any:
    """Rows of a figure of every contender where the fastest of them ends.

    Time is steps by the median pace between two points: the first steps are waited for longer, and
    so are some others where the machine is shared.

    Arguments:
        figure: of the curves.
        words: what it is, with its unit.
    """

    def rows(outcomes: Mapping[str, Outcome]) -> list[Row]:
        curves = {name: outcome.curves for name, outcome in outcomes.items()}
        pace = {n: np.median(np.diff(c["seconds"]) / np.diff(c["step"])) for n, c in curves.items()}
        seconds = min(pace[name] * curve["step"][-1] for name, curve in curves.items())
        group = f"{words} at equal time: after {seconds:,.3g} seconds of steps"
        found = []
        for name, curve in curves.items():
            step = seconds / pace[name]
            here = [np.interp(step, curve["step"], values) for values in curve[figure]]
            found.append(Row(group, name, f"after {step:,.0f} steps", float(np.mean(here))))
        return found if len(found) > 1 else []

    return rows


def plan(asked: Asked) -> Plan:
    """The experiment as asked for."""
    data = asked.one_of(DATA)
    common: dict[str, Any] = {
        "data": "digits" if data == "digits" else "mnist",
        "data_dir": asked.data_dir,
        "steps": asked.choose("steps", STEPS[data], STEPS["digits"]),
        "num_seeds": asked.choose("num_seeds", 1, 1),
    }
    glimpses, mask = ByGlimpses(**common), ByMask(**common)
    if data in ("translated", "cluttered"):
        pieces = 4 if data == "cluttered" else 0
        field = {"field": FIELD, "num_pieces": pieces}
        glimpses = dataclasses.replace(glimpses, size=12, **field)
        mask = dataclasses.replace(mask, size=5, hidden=(128,), price=0.001, **field)
    if asked.quick:
        small = {"size": 4, "num_features": 48, "hidden": 32, "num_states": 48}
        small |= {"num_glimpses": 3, "num_scales": 1}
        glimpses = dataclasses.replace(glimpses, points=4, learning_rate=3e-3, **small)
        mask = dataclasses.replace(mask, points=4, learning_rate=3e-3, size=2, hidden=(48,))
    tasks: dict[str, AbstractTask] = {
        f"glimpses-{name}": dataclasses.replace(glimpses, gradient=name) for name in GRADIENTS
    }
    tasks |= {f"mask-{name}": dataclasses.replace(mask, estimator=name) for name in ESTIMATORS}
    if data == "mnist":
        one_scale = dataclasses.replace(glimpses, num_scales=1)
        tasks = {"glimpses-one-scale": one_scale, **tasks}
    if asked.quick:
        tasks = {name: tasks[name] for name in ("glimpses-baseline", "mask-disarm")}
    contenders = [
        Contender(name, task, EVALUATIONS[name], note="theirs is of unknown length")
        for name, task in tasks.items()
    ]
    if data in PUBLISHED:  # the first is the published one
        published = {"test_error": PUBLISHED[data]}
        contenders[0] = dataclasses.replace(contenders[0], published=published)
    return Plan(
        _protocol(data, glimpses, mask), tuple(contenders), FIGURES, PANELS, 0, 0.2,
        beside=at_equal_time("test_error", "test error, %"), counted=True,
    )  # fmt: skip


FIGURES = ("test_error", "binomial_error", "likeliest_error", "test_nats", "shown")

PANELS = (
    Panel("test_error", "Test error, %", log=True),
    Panel("test_error", "The same, by the clock", clock=True, log=True),
)


def _protocol(data: str, glimpses: ByGlimpses, mask: ByMask) -> str:
    scales = f"{glimpses.num_scales} patches" if glimpses.num_scales > 1 else "1 patch"
    return PROTOCOL.format(
        where=WHERE[data], glimpses=glimpses.num_glimpses, scales=scales, size=glimpses.size,
        spread=glimpses.spread, features=glimpses.num_features, states=glimpses.num_states,
        rollouts=glimpses.num_rollouts, hidden=" and ".join(map(str, mask.hidden)),
        patch=mask.size, shown=mask.shown, price=mask.price, batch=glimpses.batch_size,
        steps=glimpses.steps, rate=glimpses.learning_rate, seeds=glimpses.seeds,
    )  # fmt: skip


EXPERIMENT = TrainingExperiment(
    NAME, "digits by six glimpses, and through masks: score function, leave-one-out, pathwise", plan
)
