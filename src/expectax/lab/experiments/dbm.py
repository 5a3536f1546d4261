"""Deep Boltzmann machines: layers trained apart with doubled weights, then together by mean field.

Reference: Salakhutdinov & Hinton (2009), "Deep Boltzmann machines"; Montavon & Müller (2012), "Deep
Boltzmann machines and the centering trick".
"""

import dataclasses
from typing import Any

from ._dbm_task import Deep
from ._rbm_task import beside_exact
from ._training import TrainingExperiment
from ._training_plan import Asked, Contender, Plan
from ._training_plot import Panel

NAME = "dbm"
STEPS = 36_000
DATA = ("static-mnist",)
PUBLISHED = "-84.6"

FIGURES = (
    "test_lower_bound",
    "exact_test_lower_bound",
    "train_lower_bound",
    "log_z",
    "log_z_error",
    "effective_sample_size",
    "rounds",
)

CONTENDERS = {"stacked": (True, 1 / 4, 1 / 4), "grown": (False, 1 / 2, 0), "plain": (False, 0, 0)}
"""How each begins: with doubled weights or not, and shares of the steps for the two parts."""

PROTOCOL = (
    "Deep Boltzmann machines, {hidden}–{top} hidden units, on {data}. stacked: both machines of "
    "two layers are trained first, a quarter of the steps each, by CD-1 with weights doubled where "
    "the other layer is missing, and stacked. grown: the first is trained as a machine of its own "
    "for half of the steps, by chains that go on, and the second joins it with small random "
    "weights. plain: neither. Then the "
    "whole: mean field for the data, {chains} chains that go on, {moves} steps of Gibbs for one "
    "step of learning. {steps:,} steps in all, batch {batch}, gradient descent, rate {first:g} of "
    "the parts and {rate:g} of the whole, each falling to 0 in a line, momentum {momentum:g}, in "
    "centered coordinates. The bound is mean field's on log p(v), a mean over all test or training "
    "pictures, higher is better; log Z in it is by annealed importance sampling from independent "
    "units, {annealed} chains, {betas:,} temperatures, with the error of their spread. {seeds}. "
    "How long the published machine was trained is not known to us. f: steps of Gibbs for "
    "one step of learning."
)


def plan(asked: Asked) -> Plan:
    """The experiment as asked for."""
    data = asked.one_of(DATA)
    quick: dict[str, Any] = {"num_hidden": 16, "num_top": 24, "num_betas": 600}
    task = Deep(
        data=data,
        data_dir=asked.data_dir,
        steps=asked.choose("steps", STEPS, 800),
        num_seeds=asked.choose("num_seeds", 1, 1),
        **(quick if asked.quick else {}),
    )
    contenders = []
    for name, (doubled, first, second) in CONTENDERS.items():
        shares = {"first_steps": int(first * task.steps), "second_steps": int(second * task.steps)}
        mine = dataclasses.replace(task, doubled=doubled, **shares)
        known = data in DATA and name != "plain"
        published = {"test_lower_bound": PUBLISHED} if known else {}
        contenders.append(Contender(name, mine, str(task.num_moves), published))
    if asked.quick:
        contenders = contenders[:1]
    protocol = PROTOCOL.format(
        data=data, hidden=task.num_hidden, top=task.num_top, chains=task.num_chains,
        moves=task.num_moves, steps=task.steps, batch=task.batch_size, first=task.first_rate,
        rate=task.learning_rate, momentum=task.momentum, annealed=task.num_annealed,
        betas=task.num_betas, seeds=task.seeds,
    )  # fmt: skip
    panels = (
        Panel("test_lower_bound", "Test bound, nats a picture: mean ± s.e."),
        Panel("test_lower_bound", "The same, by the clock", clock=True),
        Panel("effective_sample_size", "Effective sample size of log Z", log=True),
    )
    return Plan(protocol, tuple(contenders), FIGURES, panels, 0, tolerance=4.0, beside=beside_exact)


EXPERIMENT = TrainingExperiment(
    NAME,
    "deep Boltzmann machines: stacked with doubled weights, grown, and trained from nothing",
    plan,
)
