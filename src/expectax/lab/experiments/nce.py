"""The log-bilinear language model: noise-contrastive estimation beside maximum likelihood.

The normalizer of every context is fixed to one and never computed; whether the model comes out
normalized is measured. Skip-gram with negative sampling stands beside, for its nearest neighbors.

Reference: Mnih & Teh (2012), "A fast and simple algorithm for training neural probabilistic
language models", table 1; Mikolov et al. (2013), "Distributed representations of words and
phrases".
"""

import dataclasses
from typing import Any

from ._language_tasks import (
    AbstractWords,
    MaximumLikelihood,
    NoiseContrastive,
    SharedNoise,
)
from ._skip_gram_task import Nearby
from ._training import TrainingExperiment
from ._training_plan import Asked, Contender, Plan
from ._training_plot import Panel

NAME = "nce"
DATA = ("ptb",)
BATCH = 500
EPOCH = 1_859
STEPS = 5 * EPOCH

PUBLISHED = {
    **{"ml": "163.5", "nce-1": "192.5", "nce-5": "172.6"},
    **{"nce-25": "163.1", "nce-100": "159.1"},
}
"""Test perplexity, with unigram noise."""

PROTOCOL = (
    "A log-bilinear language model of {data}: 2 words of context, {num_dimensions} dimensions, "
    "diagonal matrices of positions, biases that start at the log-unigram. Batch {batch_size}, "
    "{steps:,} steps ({epoch:,} are an epoch), {seeds}, of row-wise Adagrad whose rate "
    "falls from {learning_rate:g} to 0 in a line, the same for all. ml: the likelihood, normalized "
    "over all words at every step. nce-k: k words of noise for each word, by the unigram or "
    "uniform, the normalizer of each context fixed to one, and only the rows of these words read "
    "and changed; nce-500-shared: the same 500 for a whole batch. Perplexity is normalized "
    "exactly; log Z is what was fixed to 0. skip-gram: negative sampling, 5 words to either side, "
    "5 of noise by the ¾ power of the unigram; its loss is no likelihood. f: words scored for each "
    "word of the text. The published runs have another optimiser and go on to convergence."
)


def plan(asked: Asked) -> Plan:
    """The experiment as asked for."""
    quick = asked.quick
    common: dict[str, Any] = {
        "data": asked.one_of(DATA, quick="markov"),
        "data_dir": asked.data_dir,
        "steps": asked.choose("steps", STEPS, 1000),
        "num_seeds": asked.choose("num_seeds", 1, 2),
        "batch_size": 200 if quick else BATCH,
        "num_dimensions": 20 if quick else 100,
    }
    tasks: dict[str, AbstractWords] = {"ml": MaximumLikelihood(**common)}
    for k in (1, 25) if quick else (1, 5, 25, 100):
        tasks[f"nce-{k}"] = NoiseContrastive(**common, num_noise=k)
    if not quick:
        tasks["nce-25-uniform"] = NoiseContrastive(**common, num_noise=25, noise="uniform")
        tasks["nce-500-shared"] = SharedNoise(**common, num_noise=500)
        tasks["skip-gram"] = Nearby(**common)
    contenders = tuple(
        Contender(
            name,
            task,
            f"1 + {k}" if (k := getattr(task, "num_noise", 0)) else "all",
            {"test_perplexity": PUBLISHED[name]} if name in PUBLISHED and not quick else {},
            "theirs is another optimiser, to convergence",
        )
        for name, task in tasks.items()
    )
    epoch = 40_000 // 200 if quick else EPOCH
    protocol = PROTOCOL.format(
        **dataclasses.asdict(tasks["ml"]), seeds=tasks["ml"].seeds, epoch=epoch
    )
    panels = (
        Panel("valid_perplexity", "Validation perplexity"),
        Panel("valid_perplexity", "The same, by the clock", clock=True),
        Panel("valid_log_normalizer", "log Z, mean over validation contexts, nats"),
    )
    figures = (
        *("test_perplexity", "test_divergence", "test_log_normalizer", "test_spread"),
        *("valid_perplexity", "valid_loss"),
    )
    return Plan(protocol, contenders, figures, panels, 0, tolerance=2.0)


EXPERIMENT = TrainingExperiment(
    NAME, "a language model: noise-contrastive estimation beside the full softmax", plan
)
