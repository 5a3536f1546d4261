"""What a training run is about, apart from how it is run.

The loop takes steps, looks in, keeps checkpoints, goes on after a death, spreads the batch over
devices. A task says the rest: what is learned, from what data, towards what objective, by which
optimisers, and what is worth measuring. To train something new, write a task and nothing else:

    @dataclasses.dataclass(frozen=True)
    class Mean(AbstractTask):
        steps: int = 500
        batch_size: int = 20
        seed: int = 0
        num_seeds: int = 1

        def load(self):
            return load("digits")

        def init(self, key, data):
            return {"mean": jnp.zeros(data.shape[0] * data.shape[1])}

        def objective(self, learned, batch, key, step):
            return jnp.mean((batch - learned["mean"]) ** 2)

        def optimizers(self):
            return {"": optax.sgd(1.0)}

        def measure(self, key, learned, data):
            return {"distance": jnp.mean(jnp.abs(data.mean - learned["mean"]))}

    Run(Mean()).train(folder)
"""

import abc
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from .._errors import complain
from .errors import UsageError

if TYPE_CHECKING:  # half a second to import: not for --help
    import optax

NUM_POINTS = 50
"""Points on a run's curves, besides the one before training; each leaves a checkpoint."""

Values = dict[str, Float[Array, ""]]
"""Figures of one seed, by name."""


class AbstractTask(abc.ABC):
    """A frozen dataclass of every choice that changes a run's numbers, and what they mean.

    Everything here is about *one* seed, *one* step and the *whole* batch: seeds and devices are the
    loop's affair. Randomness comes from the keys alone, so that a resumed run has the same bits.
    `init`, `batch`, `objective`, `memory`, `learn`, `settle`, `measure`, `finish` and `pictures`
    are traced by JAX; everything else runs on the host.

    Attributes:
        steps: optimiser steps.
        batch_size: rows of data a step.
        seed: of all that is random.
        num_seeds: independent copies trained at once.
        headline: names of figures, from `measure`, that the progress bar shows.
    """

    steps: int
    batch_size: int
    seed: int
    num_seeds: int
    headline: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def load(self) -> Any:
        """The data, a pytree; its arrays lie on the device for the whole run.

        Raises:
            UsageError: it is not there, or not whole.
        """

    @abc.abstractmethod
    def init(self, key: PRNGKeyArray, data: Any) -> PyTree:
        """What is learned, as it is before the first step. Its floating leaves are trained."""

    @abc.abstractmethod
    def objective(
        self, learned: PyTree, batch: PyTree, key: PRNGKeyArray, step: Int[Array, ""]
    ) -> Float[Array, ""]:
        """What is minimised; `jax.grad` of it, in `learned`, is what the optimisers are given.

        Arguments:
            learned: as `init` made it.
            batch: as `batch` made it.
            key: of this step and for this alone.
            step: steps taken before this one: what a schedule depends on.
        """

    @abc.abstractmethod
    def optimizers(self) -> "Mapping[str, optax.GradientTransformation]":
        """Which part of what is learned is trained how, by the names of parts.

        A name is a dotted path into `learned`, "" for all of it; the longest that fits a leaf
        decides. Protocol: {"model": adam(1e-4), "model.prior_logits": sgd(1e-2), ...}.
        """

    @abc.abstractmethod
    def measure(self, key: PRNGKeyArray, learned: PyTree, data: Any) -> Values:
        """One point of the curves. It must stay finite, or the run stops there."""

    def check(self) -> None:
        """Raise UsageError unless every choice is one that can work."""
        for name in ("steps", "batch_size", "num_seeds"):
            at_least(name, getattr(self, name), 1)
        at_least("seed", self.seed, 0)
        if self.seed >= 2**63:
            raise impossible("seed", self.seed, "a number of at most 63 bits")

    def num_rows(self, data: Any) -> int:
        """How many rows an epoch has, each drawn once; the rows that `batch` is given are less."""
        return len(data.train)

    def batch(self, key: PRNGKeyArray, data: Any, rows: Int[Array, "B"]) -> PyTree:
        """One step's batch: every array has the B rows as its leading axis."""
        return data.binarize(key, data.train[rows])

    def settle(self, learned: PyTree, step: Int[Array, ""]) -> PyTree:
        """What is learned after the optimisers' step: projections, running averages, targets."""
        del step
        return learned

    def memory(self, learned: PyTree) -> PyTree:
        """What `learn` keeps from step to step besides what is learned: the optimisers' moments."""
        return separately(self.optimizers(), learned).init(_trained(learned))

    def learn(
        self,
        learned: PyTree,
        memory: PyTree,
        batch: PyTree,
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> tuple[Float[Array, ""], PyTree, PyTree]:
        """One step: the objective's value, and what is learned and remembered after it.

        By default the optimisers are given the gradient of all that is learned. A task whose step
        touches a few rows of large tables says here how it is taken (`rows`).
        """
        loss = lambda learned: self.objective(learned, batch, key, step)
        value, gradient = eqx.filter_value_and_grad(loss)(learned)
        optimizer = separately(self.optimizers(), learned)
        updates, memory = optimizer.update(gradient, memory, _trained(learned))
        return value, eqx.apply_updates(learned, updates), memory

    def evaluations(self, learned: PyTree, batch: PyTree) -> int | None:
        """How often a step evaluates the cost for the whole batch, wherever; None if unknown.

        It is traced, not run: only shapes are known.
        """
        del learned, batch

    def finish(self, key: PRNGKeyArray, learned: PyTree, data: Any) -> Values:
        """The figures that the run comes to; those of the last point by default."""
        return self.measure(key, learned, data)

    def pictures(self, key: PRNGKeyArray, learned: PyTree, data: Any) -> dict[str, Array]:
        """Arrays that `draw` wants, of the first seed at the end."""
        del key, learned, data
        return {}

    def draw(
        self,
        folder: pathlib.Path,
        data: Any,
        rows: list[dict[str, Any]],
        pictures: dict[str, np.ndarray],
        results: dict[str, list[float]],
    ) -> list[pathlib.Path]:
        """Draw the end of a run; nothing by default.

        Arguments:
            folder: where to.
            data: as `load` made it.
            rows: the metrics of all points and seeds.
            pictures: what `pictures` returned.
            results: what `finish` returned, a value for each seed.

        Returns:
            The files that were written.
        """
        del folder, data, rows, pictures, results
        return []

    @property
    def every(self) -> int:
        """Steps between two points of the curves."""
        return max(1, self.steps // NUM_POINTS)

    @property
    def seeds(self) -> str:
        """How many, in words."""
        return f"{self.num_seeds} seed{'s' * (self.num_seeds > 1)}"

    @property
    def title(self) -> str:
        """The task in a few words."""
        return type(self).__name__

    def words(self, name: str) -> str:
        """What a figure is called where people read it."""
        return name.replace("_", " ")

    def unit(self, name: str) -> str:
        """The unit of a figure, in words; "" for none."""
        del name
        return ""

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        plain = lambda x: str(x) if isinstance(x, pathlib.Path) else x
        return {name: plain(x) for name, x in dataclasses.asdict(self).items()}  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """The task that `to_json` wrote. Choices added since take their defaults."""
        again = lambda x: tuple(x) if isinstance(x, list) else x
        return cls(**{name: again(x) for name, x in stored.items()})


def at_least(name: str, given: int | None, least: int) -> None:
    """Raise UsageError if an option is given and is less."""
    if given is not None and given < least:
        raise impossible(name, given, f"a whole number of at least {least}")


def impossible(name: str, given: Any, instead: str) -> UsageError:
    """The error for an option's value."""
    flag = "--" + name.replace("_", "-")
    return UsageError(complain(f"{flag} is {given}", "that cannot be trained", f"pass {instead}"))


def separately(
    optimizers: "Mapping[str, optax.GradientTransformation]", learned: PyTree
) -> "optax.GradientTransformation":
    """One transformation of what is learned, made of those of its parts (`optimizers`).

    Raises:
        ValueError: a name that is no part of it, or a part that no name fits.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> parts = {"a": jnp.ones(2), "b": {"c": jnp.ones(2), "d": jnp.ones(2)}}
        >>> both = separately({"": optax.sgd(1.0), "b.c": optax.sgd(10.0)}, parts)
        >>> updates, _ = both.update(parts, both.init(parts))
        >>> print(updates["a"], updates["b"]["c"], updates["b"]["d"])
        [-1. -1.] [-10. -10.] [-1. -1.]
    """
    import optax

    for name in optimizers:
        _require_part(learned, name)

    def label(path: Any, leaf: Any) -> str:
        del leaf
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        fits = [part for part in optimizers if not part or f"{name}.".startswith(f"{part}.")]
        if not fits:
            raise ValueError(
                complain(
                    f"no optimiser trains {name}",
                    f"there are those of {', '.join(optimizers)}",
                    'add one for "" (all others), or optax.set_to_zero()',
                )
            )
        return max(fits, key=len)

    labels = lambda tree: jax.tree_util.tree_map_with_path(label, tree)
    labels(_trained(learned))  # refused here, where it can be read
    return optax.multi_transform({**optimizers}, labels)  # type: ignore[arg-type]


def _trained(learned: PyTree) -> Any:
    return eqx.filter(learned, eqx.is_inexact_array)


def _require_part(learned: PyTree, name: str) -> None:
    """Raise if no part of what is learned, trained or not, has this name."""
    part: Any = learned
    for step in filter(None, name.split(".")):
        try:
            if isinstance(part, Mapping):
                part = part[step]
            else:
                part = part[int(step)] if step.isdigit() else getattr(part, step)
        except (AttributeError, LookupError, TypeError):
            raise ValueError(
                complain(
                    f"an optimiser was given for {name}",
                    f"{step} is no part of what is learned there",
                    "pass a dotted path into it",
                )
            ) from None
