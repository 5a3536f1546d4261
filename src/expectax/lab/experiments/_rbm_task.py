"""The run of one contender: a restricted Boltzmann machine, by contrastive divergence."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logit
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from ...models import AnnealedEstimate, annealed_importance, log_partition
from ...objectives import contrastive_divergence, persistent_contrastive_divergence
from ..data import Dataset
from ..evaluate import mean_over_rows
from ..task import Values, at_least
from ._base import Row
from ._centering import Centered, centered, smoothed
from ._training_plan import Outcome
from ._vae_tasks import AbstractPictureTask
from ._verdicts import Verdict, Z

LISTED = 20
"""Units of the smaller side up to which log Z is summed exactly, too."""

LARGEST_ERROR = 0.1
"""Of log Z, in nats, with which it may be said to agree."""

NUM_SHOWN = 100

_MACHINE, _CHAINS, _MOVES = 2, 3, 4  # what a seed's keys are for; the loop's uses are 0 and 1

WORDS = {
    "test_log_prob": "test log-probability",
    "train_log_prob": "train log-probability",
    "exact_test_log_prob": "test log-probability, log Z exact",
    "log_z": "log Z, annealed",
    "log_z_error": "s.e. of log Z",
    "effective_sample_size": "effective sample size",
}


class Learned(eqx.Module):
    """What is trained, and the chains that go on from step to step.

    Attributes:
        centered: the machine.
        chains: one fantasy a row; None where chains begin at the data.
        key: of the chains' moves.
    """

    centered: Centered
    chains: UInt8[Array, "n V"] | None
    key: PRNGKeyArray


@dataclasses.dataclass(frozen=True)
class Machine(AbstractPictureTask):
    """One contender's run.

    Attributes:
        persistent: whether the chains go on from step to step, or begin at the batch.
        ks: steps of Gibbs for one step of learning: each for as long as the others, in turn.
        num_hidden: H.
        num_chains: that go on from step to step.
        learning_rate: at the start; it falls to 0 in a line.
        momentum: of gradient descent.
        weight_cost: pull of the weights to 0, for each unit of learning rate.
        activity: of a hidden unit at the start, and λ.
        num_annealed: chains of the estimate of log Z.
        num_betas: temperatures of that at the end; a twentieth of them at the points of the curves.
    """

    persistent: bool = False
    ks: tuple[int, ...] = (1,)
    num_hidden: int = 500
    num_chains: int = 100
    data: str = "static-mnist"
    data_dir: pathlib.Path | None = None
    binarization: str | None = None
    steps: int = 15_000
    batch_size: int = 100
    seed: int = 0
    num_seeds: int = 1
    learning_rate: float = 0.1
    momentum: float = 0.5
    weight_cost: float = 0.0
    activity: float = 0.2
    num_annealed: int = 100
    num_betas: int = 10_000
    headline: ClassVar[tuple[str, ...]] = ("test_log_prob",)
    blocks: ClassVar[Mapping[str, str]] = {
        "data": "test data",
        "filters": "weights of hidden units",
        "fantasies": "fantasies",
    }

    def check(self) -> None:
        super().check()
        for name in ("num_hidden", "num_chains"):
            at_least(name, getattr(self, name), 1)

    def init(self, key, data):
        use = lambda what: jax.random.fold_in(key, what)
        mean, activity = smoothed(data.mean), jnp.full(self.num_hidden, self.activity)
        machine = centered(use(_MACHINE), mean, activity)
        chains = jax.random.bernoulli(use(_CHAINS), mean, (self.num_chains, mean.size))
        kept = chains.astype(jnp.uint8) if self.persistent else None
        return Learned(machine, kept, use(_MOVES))

    def objective(self, learned, batch, key, step):
        model = learned.centered.machine
        if self.persistent:  # `settle` has moved the chains already
            loss, _ = persistent_contrastive_divergence(key, model, batch, learned.chains, 0)
        else:
            loss = self._in_turn(lambda k: contrastive_divergence(key, model, batch, k), step)
        return jnp.mean(loss)

    def settle(self, learned, step):
        if not self.persistent:
            return learned
        key = jax.random.fold_in(learned.key, step)
        move = lambda k: learned.centered.machine.gibbs(key, learned.chains, k)
        chains = self._in_turn(move, step).astype(jnp.uint8)
        return eqx.tree_at(lambda learned: learned.chains, learned, chains)

    def _in_turn(self, of_k: Callable[[int], Array], step: Int[Array, ""]) -> Array:
        """`of_k` at the k of this step."""
        turn = jnp.minimum(step * len(self.ks) // self.steps, len(self.ks) - 1)
        return jax.lax.switch(turn, [lambda k=k: of_k(k) for k in self.ks])

    def optimizers(self):
        import optax

        rate = optax.linear_schedule(self.learning_rate, 0.0, self.steps)
        descent = optax.sgd(rate, self.momentum)
        decayed = optax.chain(optax.add_decayed_weights(self.weight_cost), descent)
        held = optax.set_to_zero()
        return {
            "": descent,
            "centered.weights": decayed,
            "centered.visible_offset": held,
            "centered.hidden_offset": held,
        }

    def measure(self, key, learned, data):
        rows = data.train[: len(data.test)]
        return self._figures(key, learned, data, rows, max(2, self.num_betas // 20))[0]

    def finish(self, key, learned, data):
        found, log_z = self._figures(key, learned, data, data.train, self.num_betas)
        model = learned.centered.machine
        if min(model.weights.shape) <= LISTED:
            exact = log_partition(model)
            test = found["test_log_prob"] + log_z.log_z - exact
            found |= {"exact_log_z": exact, "exact_test_log_prob": test}
        return found

    def _figures(
        self, key: PRNGKeyArray, learned: Learned, data: Dataset, train: Array, num_betas: int
    ) -> tuple[Values, AnnealedEstimate]:
        """Mean log-probabilities, with log Z by as many temperatures, and how sure that is."""
        model = learned.centered.machine
        log_z_key, key = jax.random.split(key)
        base, betas = logit(smoothed(data.mean)), annealing(num_betas)
        log_z = annealed_importance(log_z_key, model, self.num_annealed, betas, base)
        mean = lambda rows: -mean_free_energy(key, model, rows) - log_z.log_z
        found = {
            "test_log_prob": mean(data.test),
            "train_log_prob": mean(train),
            "log_z": log_z.log_z,
            "log_z_error": log_z.standard_error,
            "effective_sample_size": log_z.effective_sample_size,
        }
        return found, log_z

    def pictures(self, key, learned, data):
        model = learned.centered.machine
        rows = jnp.linspace(0, len(data.test) - 1, NUM_SHOWN).astype(int)
        start = learned.chains[:NUM_SHOWN] if self.persistent else data.test[rows]
        h = model.hidden_marginals(model.gibbs(key, start, 1_000))
        return {
            "data": data.test[rows],
            "filters": in_shades(learned.centered.weights.T[:NUM_SHOWN]),
            "fantasies": jax.nn.sigmoid(model.visible_logits(h)),
        }

    @property
    def every(self) -> int:
        return max(1, self.steps // 10)  # log Z takes as long as a hundred steps

    @property
    def title(self) -> str:
        how = "persistent chains" if self.persistent else "chains from the data"
        return f"rbm, {self.num_hidden} hidden units, {how}"

    def words(self, name: str) -> str:
        return WORDS.get(name) or super().words(name)

    def unit(self, name: str) -> str:
        if name == "exact_test_log_prob":
            return super().unit("test_log_prob")
        return "nats" if name.startswith("log_z") else super().unit(name)


def annealing(num: int) -> Float[Array, "num"]:
    """Inverse temperatures from 0 to 1, closer to one another towards the end."""
    return 1 - (1 - jnp.linspace(0, 1, num)) ** 1.5


def mean_free_energy(key: PRNGKeyArray, model: Any, rows: UInt8[Array, "N V"]) -> Float[Array, ""]:
    """The mean F of rows of bits."""
    return mean_over_rows(key, rows, lambda _, row: model.free_energy(row.astype(jnp.float32)))


def in_shades(filters: Float[Array, "n P"]) -> Float[Array, "n P"]:
    """Weights as shades in [0, 1], zero at ½, each row at its own scale."""
    largest = jnp.max(jnp.abs(filters), axis=1, keepdims=True)
    return 0.5 + filters / jnp.maximum(2 * largest, 1e-12)


def beside_exact(outcomes: Mapping[str, Outcome]) -> list[Row]:
    """Log Z by annealing beside the sum, where there is one: within 3 s.e., and these small."""
    table = []
    for name, outcome in outcomes.items():
        columns = (outcome.figures.get(x) for x in ("exact_log_z", "log_z", "log_z_error"))
        exact, found, errors = (np.asarray([] if x is None else x) for x in columns)
        for seed, (truth, ours, error) in enumerate(zip(exact, found, errors, strict=False)):
            off = (ours - truth) / error
            near = f"{off:+.1f} s.e.".replace("-", "−")
            holds = bool(abs(off) <= Z and error < LARGEST_ERROR)
            verdict = Verdict(holds, f"{'agrees' if holds else 'DISAGREES'}: {near}")
            cells = (f"log Z, seed {seed}", float(ours), float(error), f"{truth:.3f}", verdict)
            table.append(Row("log Z, nats: annealed beside the exact sum", name, *cells))
    return table
