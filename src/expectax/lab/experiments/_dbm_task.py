"""The run of one contender: a deep Boltzmann machine, its layers trained apart first, or not."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import logit
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from ...models import (
    DBM,
    RBM,
    annealed_importance,
    doubled_hidden,
    doubled_visible,
    log_partition,
    stacked,
)
from ...objectives import (
    UndirectedModel,
    contrastive_divergence,
    mean_field_contrastive_divergence,
    persistent_contrastive_divergence,
)
from ..evaluate import mean_over_rows
from ..task import at_least
from ._centering import Centered, CenteredDBM, centered, centered_at, smoothed
from ._rbm_task import LISTED, NUM_SHOWN, WORDS, annealing, in_shades
from ._vae_tasks import AbstractPictureTask

_FIRST, _SECOND, _CHAINS, _TOPS, _MOVES = range(2, 7)
_WARM = 100  # steps of the chains on a machine that was just put together

_WORDS = WORDS | {
    "test_lower_bound": "test bound",
    "train_lower_bound": "train bound",
    "exact_test_lower_bound": "test bound, log Z exact",
    "rounds": "rounds of mean field",
}


class Learned(eqx.Module):
    """What is trained, first in parts and then as a whole, and the chains.

    Attributes:
        first: of v and h.
        second: of h, which it calls visible, and t.
        whole: the deep machine; until it is trained itself, what the parts come to.
        chains: v and t of one fantasy a row.
        key: of the chains' moves.
    """

    first: Centered
    second: Centered
    whole: CenteredDBM
    chains: tuple[UInt8[Array, "n V"], UInt8[Array, "n T"]]
    key: PRNGKeyArray


@dataclasses.dataclass(frozen=True)
class Deep(AbstractPictureTask):
    """One contender's run.

    Attributes:
        doubled: whether the parts are trained with doubled weights, by chains from the data; or
            the first alone, as a machine of its own with chains that go on, and the second joins
            it with small random weights.
        first_steps: of training the first part alone.
        second_steps: and then the second.
        num_hidden: H.
        num_top: T.
        num_chains: that go on from step to step.
        num_moves: steps of Gibbs of those for one step of learning.
        first_rate: of the parts: learning rate at the start; it falls to 0 in a line.
        learning_rate: of the whole, likewise.
        momentum: of gradient descent.
        activity: of a hidden unit at the start.
        num_annealed: chains of the estimate of log Z.
        num_betas: temperatures of that at the end; a twentieth of them at the points of the curves.
    """

    doubled: bool = True
    first_steps: int = 3_000
    second_steps: int = 3_000
    num_hidden: int = 500
    num_top: int = 1_000
    num_chains: int = 100
    num_moves: int = 5
    data: str = "static-mnist"
    data_dir: pathlib.Path | None = None
    binarization: str | None = None
    steps: int = 36_000
    batch_size: int = 100
    seed: int = 0
    num_seeds: int = 1
    first_rate: float = 0.05
    learning_rate: float = 0.05
    momentum: float = 0.5
    activity: float = 0.2
    num_annealed: int = 100
    num_betas: int = 10_000
    headline: ClassVar[tuple[str, ...]] = ("test_lower_bound",)
    blocks: ClassVar[Mapping[str, str]] = {
        "data": "test data",
        "filters": "weights W of h",
        "tops": "weights WU of t",
        "fantasies": "fantasies",
    }

    def check(self) -> None:
        super().check()
        for name in ("num_hidden", "num_top", "num_chains"):
            at_least(name, getattr(self, name), 1)

    @property
    def apart(self) -> int:
        """Steps until the whole is trained."""
        return self.first_steps + self.second_steps

    def init(self, key, data):
        use = lambda what: jax.random.fold_in(key, what)
        active = lambda num: jnp.full(num, self.activity)
        means = smoothed(data.mean), active(self.num_hidden), active(self.num_top)
        first = centered(use(_FIRST), *means[:2])
        second = centered(use(_SECOND), *means[1:])
        if self.doubled:  # what is heard twice has twice the mean
            first = eqx.tree_at(lambda part: part.visible_offset, first, 2 * means[0])
            second = eqx.tree_at(lambda part: part.hidden_offset, second, 2 * means[2])
        drawn = lambda what, p: jax.random.bernoulli(use(what), p, (self.num_chains, p.size))
        chains = drawn(_CHAINS, means[0]), drawn(_TOPS, means[2])
        whole = centered_at(self.together(first.machine, second.machine), means)
        bytes_of = lambda x: x.astype(jnp.uint8)
        return Learned(first, second, whole, jax.tree.map(bytes_of, chains), use(_MOVES))

    def together(self, first: RBM, second: RBM) -> DBM:
        """The deep machine that the parts come to."""
        if self.doubled:
            return stacked(first, second)
        below = first.weights, second.weights, first.visible_bias, first.hidden_bias
        return DBM(*below, second.hidden_bias)

    def objective(self, learned, batch, key, step):
        first, second, whole = learned.first.machine, learned.second.machine, learned.whole.machine

        def of_first() -> Array:
            if not self.doubled:
                chains = learned.chains[0]
                return persistent_contrastive_divergence(key, first, batch, chains, 0)[0]
            twice = jnp.concatenate([batch, batch], axis=-1)
            return contrastive_divergence(key, doubled_visible(first), twice, 1)

        def of_second() -> Array:
            heard = jnp.concatenate([batch, batch], axis=-1)
            h_key, cd_key = jax.random.split(key)
            h = jax.random.bernoulli(h_key, doubled_visible(first).hidden_marginals(heard))
            h = h.astype(batch.dtype)
            return contrastive_divergence(cd_key, doubled_hidden(second), h, 1)

        def of_whole() -> Array:  # `settle` has moved the chains already
            chains = learned.chains
            return mean_field_contrastive_divergence(key, whole, batch, chains, 0)[0]

        stage = (step >= self.first_steps).astype(int) + (step >= self.apart)
        return jnp.mean(jax.lax.switch(stage, [of_first, of_second, of_whole]))

    def settle(self, learned, step):
        """Move the chains; put the parts together, anew after each step of theirs."""
        key = jax.random.fold_in(learned.key, step)
        first, second = learned.first.machine, learned.second.machine

        def apart() -> tuple[CenteredDBM, tuple[Array, Array]]:
            whole = centered_at(self.together(first, second), learned.whole.offsets)
            v, t = learned.chains
            return whole, (v if self.doubled else self._moved(key, first, v), t)

        def joined() -> tuple[CenteredDBM, tuple[Array, Array]]:
            model = self.together(first, second)
            v, t = model.gibbs(key, learned.chains, _WARM)
            h = jax.nn.sigmoid(model.hidden_logits(v, t))
            mean = lambda x: smoothed(jnp.mean(x, axis=0))
            offsets = learned.whole.offsets[0], mean(h), mean(jax.nn.sigmoid(model.top_logits(h)))
            return centered_at(model, offsets), (v.astype(jnp.uint8), t.astype(jnp.uint8))

        def together() -> tuple[CenteredDBM, tuple[Array, Array]]:
            return learned.whole, self._moved(key, learned.whole.machine, learned.chains)

        stage = (step + 1 >= self.apart).astype(int) + (step + 1 > self.apart)
        found = jax.lax.switch(stage, [apart, joined, together])
        return eqx.tree_at(lambda learned: (learned.whole, learned.chains), learned, found)

    def _moved(self, key: PRNGKeyArray, model: UndirectedModel, chains: Any) -> Any:
        moved = model.gibbs(key, chains, self.num_moves)
        return jax.tree.map(lambda x: x.astype(jnp.uint8), moved)

    def optimizers(self):
        import optax

        def descent(rate: float, begin: int, steps: int) -> optax.GradientTransformation:
            falling = optax.linear_schedule(rate, 0.0, max(1, steps), begin)
            return optax.sgd(falling, self.momentum)

        held = optax.set_to_zero()
        offsets = "visible_offset", "hidden_offset"
        return {
            "first": descent(self.first_rate, 0, self.first_steps),
            "second": descent(self.first_rate, self.first_steps, self.second_steps),
            "whole": descent(self.learning_rate, self.apart, self.steps - self.apart),
            "whole.offsets": held,
            **{f"{part}.{name}": held for part in ("first", "second") for name in offsets},
        }

    def measure(self, key, learned, data):
        rows = data.train[: len(data.test)]
        return self._figures(key, learned, data, rows, max(2, self.num_betas // 20))

    def finish(self, key, learned, data):
        return self._figures(key, learned, data, data.train, self.num_betas)

    def _figures(self, key, learned, data, train, num_betas):
        """Bounds, with log Z by as many temperatures; and where it can be summed, exactly."""
        model, (_, _, tops) = learned.whole.machine, learned.whole.offsets
        log_z_key, key = jax.random.split(key)
        base = jnp.concatenate([logit(smoothed(data.mean)), logit(tops)])
        betas = annealing(num_betas)
        log_z = annealed_importance(log_z_key, model.folded, self.num_annealed, betas, base)
        test, rounds = mean_energy(key, model, data.test)
        found = {
            "test_lower_bound": -test - log_z.log_z,
            "train_lower_bound": -mean_energy(key, model, train)[0] - log_z.log_z,
            "log_z": log_z.log_z,
            "log_z_error": log_z.standard_error,
            "effective_sample_size": log_z.effective_sample_size,
            "rounds": rounds,
        }
        if min(model.folded.weights.shape) <= LISTED and num_betas == self.num_betas:
            exact = log_partition(model.folded)
            found |= {"exact_log_z": exact, "exact_test_lower_bound": -test - exact}
        return found

    def pictures(self, key, learned, data):
        model = learned.whole.machine
        chains = jax.tree.map(lambda x: x[:NUM_SHOWN], learned.chains)
        v, t = model.gibbs(key, chains, 1_000)
        h = jax.nn.sigmoid(model.hidden_logits(v, t))
        rows = jnp.linspace(0, len(data.test) - 1, NUM_SHOWN).astype(int)
        weights = learned.whole.coordinates.weights @ learned.whole.coordinates.top_weights
        return {
            "data": data.test[rows],
            "filters": in_shades(learned.whole.coordinates.weights.T[:NUM_SHOWN]),
            "tops": in_shades(weights.T[:NUM_SHOWN]),
            "fantasies": jax.nn.sigmoid(model.visible_logits(h)),
        }

    @property
    def every(self) -> int:
        return max(1, self.steps // 10)  # log Z takes as long as a hundred steps

    @property
    def title(self) -> str:
        return f"dbm, {self.num_hidden}–{self.num_top} hidden units"

    def words(self, name: str) -> str:
        return _WORDS.get(name) or super().words(name)

    def unit(self, name: str) -> str:
        if name == "exact_test_lower_bound":
            return super().unit("test_lower_bound")
        return "nats" if name.startswith("log_z") else super().unit(name)


def mean_energy(
    key: PRNGKeyArray, model: DBM, rows: UInt8[Array, "N V"]
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """The mean of E_q[E] − H(q) over rows of bits, and the mean of the rounds to q."""

    def of_row(_: Array, row: Array) -> tuple[Array, Array]:
        v = row.astype(jnp.float32)
        q = model.mean_field(v, tolerance=1e-4)
        return model.variational_free_energy(v, q), q.num_steps

    return mean_over_rows(key, rows, of_row)
