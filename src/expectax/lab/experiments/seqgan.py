"""Sequence GANs: maximum likelihood, and then a judge's reward, by policy gradient or relaxed.

Reference: Yu, Zhang, Wang & Yu (2017), "SeqGAN: sequence generative adversarial nets with policy
gradient", section 5. An oracle with random weights makes the data, so draws of a generator can be
scored by the law that they should have. That score says nothing of variety: a generator that
repeats one likely sequence does best. So held-out data are scored by the generator, too, and beside
the contenders stands maximum likelihood drawn from at lower temperatures.
"""

import dataclasses

from ._seqgan_data import TEXT
from ._seqgan_task import LEARNERS, ROLLED_OUT, TEMPERATURES, Generation
from ._training import TrainingExperiment
from ._training_plan import Asked, Contender, Plan
from ._training_plot import Panel

NAME = "seqgan"
DATA = ("oracle-500", "oracle-5000", TEXT)
EPOCH = 156
"""Steps, of batches of 64 out of 10,000."""

PUBLISHED = {"mle": "9.038", "seqgan": "8.736"}
"""NLL of draws under the published oracle of 5000 tokens."""

PRETRAINING = {
    "oracle-500": 40 * EPOCH,
    "oracle-5000": 120 * EPOCH,
    TEXT: 40 * EPOCH,
    "oracle-50": 300,
}
"""Steps of maximum likelihood; 120 epochs as published."""

RATES = {"oracle-5000": 6e-3}
"""Of the generator: where the judge is slow, 1e-3 is too slow to use what it knows."""

SOURCES = {
    TEXT: "of 20 characters from the Penn Treebank files: 10,000 from all over the training text, "
    "10,000 of the test text held out. Their oracle is the trigrams of all the training text"
}
ORACLE = (
    "of 20 tokens from an LSTM of width 32 whose weights are N(0, 1) ({data}): 10,000 to train on, "
    "10,000 held out"
)
PROTOCOL = (
    "Sequences {source}, the same for all seeds. The generator is an LSTM of width 32 that starts "
    "at N(0, .1²). mle: {pretraining:,} steps of Adam {mle_rate:g} on batches of {batch}. All "
    "others start where mle ends, seed by seed: {warm_up:,} steps of the judge (convolutions of "
    "width 1 to 5, 32 filters each, a highway layer, dropout ¼, Adam {judge_rate:g}; as many "
    "draws as data), then one of the generator to {judge_steps} of the judge, {steps:,} in all. "
    "The reward is the judge's belief that a sequence is real. Adam, from {generator_rate:g} along "
    "a cosine to 0. reinforce-loo: each position of {draws:,} draws returns the reward of its "
    "sequence, less the mean of the others'. constant: the same with ½ for every reward, and no "
    "baseline. seqgan*: the return of each position of {batch} draws is the mean reward of "
    "{rollouts} roll-outs by an older copy of the generator, which keeps {lag:g} of itself at each "
    "of its steps. Baselines: none; loo, the mean return there of the others of the batch; prefix, "
    "the mean reward of the roll-outs one position earlier. straight-through and gumbel-softmax "
    "(temperature ½): the judge sees one-hot vectors of {batch} draws, hard or relaxed. {seeds}. "
    "Lower is better; both NLLs are in nats a token, of 10,000 sequences. f: sequences judged for "
    "a sequence of one step of the generator."
)

PANELS = (
    Panel("oracle_nll", "NLL of draws under the oracle, nats a token: mean ± s.e."),
    Panel("oracle_nll", "The same, by the clock", clock=True),
    Panel("held_out_nll", "NLL of held-out data, nats a token"),
)

FIGURES = (
    "oracle_nll",
    "oracle_nll_change",
    "held_out_nll",
    *(f"{name}_at_{t:g}" for t in TEMPERATURES for name in ("oracle_nll", "held_out_nll")),
)


def _evaluations(task: Generation) -> str:
    """Sequences judged, of those drawn + of their completions."""
    if task.learner in ("mle", "constant"):
        return "0 + 0"
    completions = 19 * task.num_rollouts if task.learner in ROLLED_OUT else 0
    return f"1 + {completions}"


def plan(asked: Asked) -> Plan:
    """The experiment as asked for."""
    data = asked.one_of(DATA, quick="oracle-50")
    task = Generation(
        data=data,
        data_dir=asked.data_dir,
        steps=asked.choose("steps", 2_700, 60),
        num_seeds=asked.choose("num_seeds", 2, 2),
        pretraining=PRETRAINING[data],
        warm_up=10 if asked.quick else 2_500,
        num_rollouts=2 if asked.quick else 16,
        generator_rate=RATES.get(data, 1e-3),
        num_draws=64 if asked.quick else 1_024,
        width=8 if asked.quick else 32,
    )
    contenders = []
    for name in LEARNERS:
        mine = task.beginning if name == "mle" else dataclasses.replace(task, learner=name)
        figure = PUBLISHED.get(name) if data == "oracle-5000" else None
        published = {"oracle_nll": figure} if figure else {}
        note = "" if name == "mle" else "a smaller judge, fewer steps"
        after = "" if name == "mle" else "mle"
        contenders.append(Contender(name, mine, _evaluations(mine), published, note, after))
    if asked.quick:
        contenders = [c for c in contenders if c.name in ("mle", "seqgan-loo")]
    protocol = PROTOCOL.format(
        source=SOURCES.get(data, ORACLE.format(data=data)), pretraining=task.pretraining,
        mle_rate=task.mle_rate, batch=task.batch_size,
        warm_up=task.warm_up, judge_rate=task.judge_rate, judge_steps=task.judge_steps,
        steps=task.steps, rollouts=task.num_rollouts, lag=task.lag,
        draws=task.num_draws, generator_rate=task.generator_rate, seeds=task.seeds,
    )  # fmt: skip
    return Plan(protocol, tuple(contenders), FIGURES, PANELS, 0, tolerance=0.05)


EXPERIMENT = TrainingExperiment(
    NAME, "sequences against a judge: policy gradients with roll-outs, relaxed, and none", plan
)
