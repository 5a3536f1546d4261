"""The estimators that `recommend` tries, and how each is set up for a q and f.

An estimator whose constructor needs nothing is a candidate by itself. One that needs something, or
is better with something (a baseline that begins at the typical cost), has a line in `_SETUPS`.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._types import PRNGKey
from ..distributions import Joint
from ..estimators import AbstractEstimator

_HIDDEN = 16
_GROWTH = 4
_SIZES = ("num_samples", "num_pairs")


@dataclasses.dataclass(frozen=True)
class Scene:
    """What a setup may use.

    Attributes:
        key: for the first weights of a network.
        views: of q.
        typical: the mean cost, shape batch: where baselines begin.
        spread: the standard deviation of the cost: the unit of baselines.
    """

    key: PRNGKey
    views: Joint
    typical: Float[Array, "*batch"]
    spread: float


@dataclasses.dataclass(frozen=True)
class Candidate:
    """An estimator under a name, and the next larger one of its kind, if it has sizes."""

    name: str
    estimator: AbstractEstimator
    size: int | None = None
    resize: Callable[[int], AbstractEstimator] | None = None

    def larger(self) -> "Candidate | None":
        """The same with four times as many draws."""
        if self.size is None or self.resize is None:
            return None
        size = _GROWTH * self.size
        kind = self.name.partition("(")[0]
        return Candidate(f"{kind}({size})", self.resize(size), size, self.resize)


def _network(scene: Scene) -> Any:
    """A control variate of the draw or of its noise: one hidden layer, zero at first."""
    batch = scene.views.batch_ndim
    size = sum(x.size for x in jax.tree.leaves(scene.views.example()))
    size //= max(1, scene.typical.size)
    weights = {
        "in": jax.random.normal(scene.key, (size, _HIDDEN)) / size**0.5,
        "bias": jnp.zeros(_HIDDEN),
        "out": jnp.zeros(_HIDDEN),
    }
    return jax.tree_util.Partial(_apply, scene.spread, batch, weights)


def _apply(spread: float, batch: int, weights: dict[str, Array], z: PyTree) -> Array:
    leaves = [jnp.tanh(x / 2).reshape((*x.shape[:batch], -1)) for x in jax.tree.leaves(z)]
    hidden = jnp.tanh(jnp.concatenate(leaves, axis=-1) @ weights["in"] + weights["bias"])
    return spread * (hidden @ weights["out"])


_SETUPS: dict[str, Callable[[Any, Scene], AbstractEstimator]] = {
    "ScoreFunction": lambda cls, scene: cls(baseline=scene.typical),
    "MuProp": lambda cls, scene: cls(baseline=jnp.zeros_like(scene.typical)),
    "REBAR": lambda cls, scene: cls(baseline=jnp.zeros_like(scene.typical)),
    "RELAX": lambda cls, scene: cls(_network(scene), scene.typical),
    "LAX": lambda cls, scene: cls(_network(scene)),
    "GumbelSoftmax": lambda cls, _: cls(0.5),
    "StraightThroughGumbelSoftmax": lambda cls, _: cls(0.5),
}
"""By the name of the class: from class and scene to an instance."""

IN_UNITS_OF_F = ("baseline", "constant")
"""The names of leaves that are costs: they are learned in steps of the spread of f."""


def estimator_classes() -> list[type[AbstractEstimator]]:
    """Every estimator of the package, in the order of their names."""

    def below(cls: type) -> Iterator[type]:
        for sub in cls.__subclasses__():
            yield sub
            yield from below(sub)

    package = AbstractEstimator.__module__.rpartition(".")[0] + "."
    found = {
        cls.__name__: cls
        for cls in below(AbstractEstimator)
        if cls.__module__.startswith(package) and not inspect.isabstract(cls)
    }
    return [found[name] for name in sorted(found)]


def set_up(cls: type[AbstractEstimator], scene: Scene) -> Candidate | str:
    """The candidate of a class, or why there is none."""
    name = cls.__name__
    if name in _SETUPS:
        return Candidate(name, _SETUPS[name](cls, scene))
    parameters = inspect.signature(cls).parameters
    missing = [p.name for p in parameters.values() if p.default is p.empty]
    if missing:
        return f"it needs {', '.join(missing)}, which only you can choose: pass it in `estimators`"
    estimator = cls()
    for size in _SIZES:
        if size in parameters:
            resize = lambda n, size=size: cls(**{size: n})
            given = getattr(estimator, size)
            return Candidate(f"{name}({given})", estimator, given, resize)
    return Candidate(name, estimator)
