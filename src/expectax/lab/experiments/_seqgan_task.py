"""The run of one contender: a generator that learns from examples, or from a judge of its draws."""

import contextlib
import dataclasses
import functools
import pathlib
import warnings
from collections.abc import Callable
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._errors import complain
from ..._types import ScalarLike
from ...models import LSTMGenerator, TextCNN, lstm_generator, text_cnn
from ...objectives import (
    leave_one_out,
    rollout_baseline,
    rollout_returns,
    trajectory_loss,
)
from .. import train
from ..checkpoint import Checkpoints
from ..errors import UsageError
from ..run_folder import RunFolder
from ..task import AbstractTask, Values, at_least
from ._seqgan_data import Sequences, Start, draws, nll, sequences
from ._training_plan import choices

_GENERATOR, _JUDGE = 2, 3  # what a seed's keys are for; the loop's uses are 0 and 1
_EARLY = 2_000  # sequences that a point of the curves is from; the table's figures are of all

TEMPERATURES = (0.9, 0.8, 0.7)
"""At which what maximum likelihood has learned is drawn from, too."""

WORDS = {
    "oracle_nll": "NLL of draws under the oracle",
    "held_out_nll": "NLL of held-out data under the model",
    "oracle_nll_change": "change of the former since the start",
}

Baseline = Callable[[Float[Array, "R T"]], Any]

ROLLED_OUT: dict[str, Baseline] = {
    "seqgan": lambda _: 0.0,
    "seqgan-loo": leave_one_out,
    "seqgan-prefix": rollout_baseline,
}
"""Baselines of the policy gradients whose returns are roll-outs'."""

WHOLE: dict[str, Baseline] = {"reinforce-loo": leave_one_out, "constant": lambda _: 0.0}
"""Of those where every position returns the reward of the whole sequence."""


def straight_through(key: Array, logits: Float[Array, "B V"]) -> Float[Array, "B V"]:
    """A hard draw, whose gradient is that of the probabilities."""
    mean = jax.nn.softmax(logits)
    hard = jax.nn.one_hot(jax.random.categorical(key, logits), logits.shape[-1])
    return mean + jax.lax.stop_gradient(hard - mean)


def gumbel_softmax(key: Array, logits: Float[Array, "B V"]) -> Float[Array, "B V"]:
    """A relaxed draw at temperature ½."""
    return jax.nn.softmax((logits + jax.random.gumbel(key, logits.shape)) / 0.5)


RELAXED = {"straight-through": straight_through, "gumbel-softmax": gumbel_softmax}

LEARNERS = ("mle", *WHOLE, *ROLLED_OUT, *RELAXED)


class Learned(eqx.Module):
    """What is trained, and an older copy of the generator that follows it.

    Attributes:
        generator: the policy.
        lagged: who rolls out; None where nothing is rolled out.
        judge: the discriminator; None under maximum likelihood.
        start: the NLL of the generator's draws under the oracle before its first step; it stays.
    """

    generator: LSTMGenerator
    lagged: LSTMGenerator | None = None
    judge: TextCNN | None = None
    start: Float[Array, ""] | None = None


@dataclasses.dataclass(frozen=True)
class Generation(AbstractTask):
    """One contender's run. Maximum likelihood starts at random, all others where that ends.

    Attributes:
        learner: one of `LEARNERS`.
        data: "oracle-500", "oracle-50", "oracle-5000", the published one, or "ptb-characters".
        pretraining: steps of maximum likelihood before the first step.
        warm_up: of the steps, how many train the judge alone at first.
        judge_steps: of the judge between two steps of the generator.
        width: of embeddings and state.
        mle_rate: of Adam under maximum likelihood.
        generator_rate: of Adam afterwards, at first; it falls to 0 along a cosine.
        judge_rate: of Adam.
        num_rollouts: from each prefix.
        num_draws: of the generator for one of its steps where there are no roll-outs.
        lag: how much of the older copy stays when it follows.
    """

    learner: str = "seqgan"
    data: str = "oracle-500"
    data_dir: pathlib.Path | None = None
    steps: int = 2_700
    batch_size: int = 64
    seed: int = 0
    num_seeds: int = 2
    pretraining: int = 3_000
    warm_up: int = 2_500
    judge_steps: int = 1
    width: int = 32
    mle_rate: float = 1e-2
    generator_rate: float = 1e-3
    judge_rate: float = 1e-4
    num_rollouts: int = 16
    num_draws: int = 1_024
    lag: float = 0.8
    headline: ClassVar[tuple[str, ...]] = ("oracle_nll", "held_out_nll")

    def check(self) -> None:
        super().check()
        at_least("num_rollouts", self.num_rollouts, 1)
        at_least("num_draws", self.num_draws, 2)
        if self.learner != "mle" and self.steps <= self.warm_up:
            raise UsageError(
                complain(
                    f"--steps is {self.steps:,}",
                    f"{self.warm_up:,} steps train the judge alone before the generator's first",
                    f"pass more than {self.warm_up:,}, or --only mle",
                )
            )

    def load(self) -> Sequences:
        return self.load_after(None)

    def load_after(self, path: pathlib.Path | None) -> Sequences:
        """The data, and where generators start.

        Arguments:
            path: the folder of `beginning`'s run; what of it is missing is trained here.
        """
        data = sequences(self.data, self.data_dir)
        if self.learner == "mle":
            return data
        return dataclasses.replace(data, start=pretrained(self.beginning, path))

    @property
    def beginning(self) -> "Generation":
        """The run of maximum likelihood that ends where this one starts."""
        shared = ("data", "data_dir", "batch_size", "seed", "num_seeds", "width", "mle_rate")
        choices = {name: getattr(self, name) for name in shared}
        return Generation(learner="mle", steps=self.pretraining, pretraining=0, **choices)

    def init(self, key, data):
        if data.start is None:
            own = jax.random.fold_in(key, _GENERATOR)
            return Learned(lstm_generator(own, data.num_tokens, self.width, data.train.shape[1]))
        generator = data.start.of(key)
        lagged = generator if self.learner in ROLLED_OUT else None
        judge = text_cnn(jax.random.fold_in(key, _JUDGE), data.num_tokens, self.width)
        own = jax.random.fold_in(key, _GENERATOR)
        began = figures(own, generator, data, len(data.test))["oracle_nll"]
        return Learned(generator, lagged, judge, began)

    def batch(self, key, data, rows):
        del key
        return data.train[rows]

    def generates(self, step: Int[Array, ""]) -> Bool[Array, ""]:
        """Whether it is the generator's turn: the judge is taken as it is, and stays."""
        turn = step - self.warm_up
        return (turn >= 0) & (turn % (1 + self.judge_steps) == 0)

    def objective(self, learned, batch, key, step):
        if self.learner == "mle":
            return -jnp.mean(learned.generator.log_prob(batch))
        return jax.lax.cond(
            self.generates(step),
            lambda: self.generator_loss(learned, key),
            lambda: judge_loss(learned, batch, key),
        )

    def generator_loss(self, learned: Learned, key: Array) -> Float[Array, ""]:
        """Minus the judge's belief that draws are real, whose gradient the contender estimates."""
        draw_key, key = jax.random.split(key)
        judge: Any = learned.judge  # held: its optimiser passes this turn over
        older: Any = learned.lagged
        reward = lambda x: jax.nn.sigmoid(judge(x))
        if self.learner in RELAXED:
            choose = RELAXED[self.learner]
            return -jnp.mean(
                reward(learned.generator.relaxed_sample(draw_key, self.batch_size, choose))
            )
        if self.learner == "constant":
            reward = lambda x: jnp.full(x.shape[:-1], 0.5)
        if self.learner in WHOLE:
            tokens = learned.generator.sample(draw_key, self.num_draws)
            returns = jnp.broadcast_to(reward(tokens)[:, None], tokens.shape)
        else:
            tokens = learned.generator.sample(draw_key, self.batch_size)
            returns = rollout_returns(key, older, tokens, reward, self.num_rollouts)
        log_probs = learned.generator.log_prob(tokens)
        baseline = (WHOLE | ROLLED_OUT)[self.learner]
        return trajectory_loss(log_probs, returns, baseline(returns))

    def settle(self, learned, step):
        if learned.lagged is None:
            return learned
        kept = jnp.where(self.generates(step), self.lag, 1.0)
        follow = lambda old, new: kept * old + (1 - kept) * new
        lagged = jax.tree.map(follow, learned.lagged, learned.generator)
        return dataclasses.replace(learned, lagged=lagged)

    def optimizers(self):
        import optax

        if self.learner == "mle":
            return {"generator": optax.adam(self.mle_rate)}
        masked = optax.transforms.conditionally_mask
        turn: Any = self.generates
        other: Any = lambda step: ~self.generates(step)
        turns = max(1, -(-(self.steps - self.warm_up) // (1 + self.judge_steps)))
        falling = optax.cosine_decay_schedule(self.generator_rate, turns)
        return {
            "generator": masked(optax.adam(falling), turn),
            "judge": masked(optax.adam(self.judge_rate), other),
            "lagged": optax.set_to_zero(),
            "start": optax.set_to_zero(),
        }

    def measure(self, key, learned, data):
        return figures(key, learned.generator, data, _EARLY)

    def finish(self, key, learned, data):
        own = figures(key, learned.generator, data, len(data.test))
        if learned.start is not None:
            return own | {"oracle_nll_change": own["oracle_nll"] - learned.start}
        colder = jax.lax.map(
            lambda t: figures(key, learned.generator, data, len(data.test), t),
            jnp.array(TEMPERATURES),
        )
        for name, found in colder.items():
            own |= {f"{name}_at_{t:g}": x for t, x in zip(TEMPERATURES, found, strict=True)}
        return own

    @property
    def every(self) -> int:
        # the generator's turns are few beside those that train the judge alone
        points = self.steps // 20 if self.learner == "mle" else (self.steps - self.warm_up) // 5
        return min(self.steps, max(10, points))

    @property
    def title(self) -> str:
        return f"seqgan, {self.learner}, {self.data}"

    def words(self, name):
        figure, _, temperature = name.partition("_at_")
        known = WORDS.get(figure) or super().words(figure)
        return f"{known}, drawn at temperature {temperature}" if temperature else known

    def unit(self, name):
        return "nats a token" if "nll" in name else ""

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        task = super().from_json(stored)
        place = None if task.data_dir is None else pathlib.Path(task.data_dir)
        return dataclasses.replace(task, data_dir=place)


def judge_loss(learned: Learned, real: Int[Array, "B T"], key: Array) -> Float[Array, ""]:
    """The cross-entropy of the judge: of examples, and of as many fresh draws."""
    draw_key, real_key, drawn_key = jax.random.split(key, 3)
    judge: Any = learned.judge
    drawn = learned.generator.sample(draw_key, len(real))
    loss = jax.nn.softplus(-judge(real, real_key)) + jax.nn.softplus(judge(drawn, drawn_key))
    return jnp.mean(loss)


@functools.lru_cache(maxsize=1)
def pretrained(task: Generation, path: pathlib.Path | None) -> Start:
    """Where a run of maximum likelihood ends, bit for bit, each seed by its key.

    Arguments:
        task: that run.
        path: its folder, whose last whole checkpoint spares the steps before; None if there is
            none. Contenders share what is found.
    """
    data, program = task.load(), train.program(task)
    step, state = 0, program.init(data)
    folder = None if path is None else RunFolder(path)
    stored = None if folder is None else folder.stored(Generation)
    if folder and stored and choices(stored) == choices(task):
        with contextlib.closing(Checkpoints(folder.checkpoints)) as checkpoints:
            step, state = checkpoints.restore_latest(state, warnings.warn) or (step, state)
    if step < task.steps:
        state = program.advance(state, data, task.steps - step)
    return Start(jax.random.key_data(state.seeds.key), state.seeds.learned.generator)


def figures(
    key: Array, model: LSTMGenerator, data: Sequences, num: int, temperature: ScalarLike = 1.0
) -> Values:
    """How likely the model's draws are under the oracle, and held-out data under the model."""
    drawn = draws(key, model, num, temperature)
    return {
        "oracle_nll": nll(data.oracle.log_prob, drawn),
        "held_out_nll": nll(lambda x: model.log_prob(x, temperature), data.test[:num]),
    }
