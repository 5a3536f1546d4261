"""Restricted Boltzmann machines: contrastive divergence and persistent chains, judged by annealing.

Reference: Salakhutdinov & Murray (2008), "On the quantitative analysis of deep belief networks",
section 5; Tieleman (2008), "Training restricted Boltzmann machines using approximations to the
likelihood gradient".
"""

import dataclasses

from ._rbm_task import Machine, beside_exact
from ._training import TrainingExperiment
from ._training_plan import Asked, Contender, Plan
from ._training_plot import Panel

NAME = "rbm"
STEPS = 15_000
DATA = ("static-mnist",)
PUBLISHED = "-86.3"

FIGURES = (
    "test_log_prob",
    "exact_test_log_prob",
    "train_log_prob",
    "log_z",
    "log_z_error",
    "effective_sample_size",
)

PROTOCOL = (
    "Restricted Boltzmann machines on {data}, {hidden} hidden units; *-20 has 20 and nltcs is of "
    "the 16 answers of that survey, so that log Z can be summed, too. cd-k: the chains begin at "
    "the batch; pcd: {chains} chains go on from step to step. Where k grows, each value has an "
    "equal share of the steps. Batch {batch}, {steps:,} steps of gradient descent, rate {rate:g} "
    "falling to 0 in a line, momentum {momentum:g}, in centered coordinates: v minus its mean, h "
    "minus {activity:g}. Log Z is by annealed importance sampling from independent units with the "
    "data's means, {annealed} chains, {betas:,} temperatures; its error is that of their spread, "
    "and its effective sample size is of that many chains. Log-probabilities are means over all "
    "test or training pictures, higher is better. {seeds}. The published figure is of "
    "contrastive divergence with k up to 25; how long it was trained is not known to us. f: steps "
    "of Gibbs for one step of learning."
)


def plan(asked: Asked) -> Plan:
    """The experiment as asked for."""
    data = asked.one_of(DATA)
    task = Machine(
        data=data,
        data_dir=asked.data_dir,
        steps=asked.choose("steps", STEPS, 600),
        num_seeds=asked.choose("num_seeds", 1, 1),
    )
    persistent = dataclasses.replace(task, persistent=True, ks=(5,))
    small = dataclasses.replace(persistent, num_hidden=20, ks=(1,))
    tasks = {
        "cd-1": task,
        "cd-25": dataclasses.replace(task, ks=(1, 5, 10, 25)),
        "pcd": persistent,
        "pcd-20": small,
        "nltcs": dataclasses.replace(small, data="nltcs"),
    }
    if asked.quick:
        quick = {"num_hidden": 16, "num_betas": 600}
        tasks = {name: dataclasses.replace(tasks[name], **quick) for name in ("cd-1", "pcd")}
    contenders = tuple(
        Contender(
            name,
            mine,
            "→".join(map(str, mine.ks)),
            {"test_log_prob": PUBLISHED} if (name, data) == ("cd-25", DATA[0]) else {},
        )
        for name, mine in tasks.items()
    )
    first = tasks["cd-1"]
    protocol = PROTOCOL.format(
        data=data, hidden=first.num_hidden, chains=first.num_chains, batch=first.batch_size,
        steps=first.steps, rate=first.learning_rate, momentum=first.momentum,
        activity=first.activity, annealed=first.num_annealed, betas=first.num_betas,
        seeds=first.seeds,
    )  # fmt: skip
    panels = (
        Panel("test_log_prob", "Test log-probability, nats a picture: mean ± s.e."),
        Panel("test_log_prob", "The same, by the clock", clock=True),
        Panel("effective_sample_size", "Effective sample size of log Z", log=True),
    )
    return Plan(protocol, contenders, FIGURES, panels, 0, tolerance=1.7, beside=beside_exact)


EXPERIMENT = TrainingExperiment(
    NAME,
    "restricted Boltzmann machines: contrastive divergence, persistent chains, annealed log Z",
    plan,
)
