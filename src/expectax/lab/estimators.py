"""Estimators by name, with their options; baselines and control variates as small networks.

An estimator may need arrays that depend on the batch: a baseline C(x), a control variate c(z, x).
So what is trained is a *factory*, a pytree that is called with the batch inside the loss and
returns the estimator for it. Gradients run through the estimator into the factory, and one
optimiser trains it beside the model.

A public estimator whose constructor needs nothing has its recipe by itself: its numbers that the
command line has a flag for are its options. For one that takes a network or has other defaults:
a function from a `Setting` and its options to a factory, and a row in `_SPECIAL`; the options are
the function's keyword arguments.
"""

import abc
import dataclasses
import inspect
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

import expectax as ex

from .._errors import complain
from ..models import Network, with_zero_last_layer
from .errors import UsageError, either, unknown


class Setting(eqx.Module):
    """What a factory is built for.

    Arguments:
        key: for the networks' initial weights. Consumed.
        center: subtracted from the inputs x before a network sees them.
        draw: shape and type of one draw without its batch axes, or a pytree of them.
        typical: the mean cost before training; baselines start there.
        spread: the standard deviation of the cost over data; networks work in this unit.
    """

    key: PRNGKeyArray
    center: Float[Array, "P"]
    draw: PyTree
    typical: Float[Array, ""]
    spread: Float[Array, ""]


class AbstractFactory(eqx.Module):
    """From a batch to the estimator for it. Its float leaves are trained."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "B P"]) -> ex.AbstractEstimator:
        """The estimator for this batch."""


class Plain(AbstractFactory):
    """The same estimator for every batch."""

    estimator: ex.AbstractEstimator

    def __call__(self, x):
        del x
        return self.estimator


class Level(eqx.Module):
    """A cost predicted as typical + spread · (offset + network(x − center)).

    In these units one learning rate serves costs of every size.
    """

    network: Network | None
    offset: Float[Array, ""]
    center: Float[Array, "P"]
    typical: Float[Array, ""]
    spread: Float[Array, ""]

    def __init__(self, setting: Setting, num_inputs: int, hidden: tuple[int, ...] | None):
        network = None
        if hidden is not None:
            network = with_zero_last_layer(Network(num_inputs, 1, hidden, key=setting.key))
        self.network = network
        self.offset = jnp.zeros(())
        self.center = setting.center
        self.typical = setting.typical
        self.spread = setting.spread

    def __call__(self, x: Float[Array, "*B P"], *more: Array) -> Float[Array, "..."]:
        center, typical, spread = jax.lax.stop_gradient((self.center, self.typical, self.spread))
        level = self.offset
        if self.network is not None:
            level = level + self.network(jnp.concatenate([x - center, *more], axis=-1))[..., 0]
        return typical + spread * level


class WithBaseline(AbstractFactory):
    """An estimator whose `baseline` is predicted, as a constant or from the batch."""

    estimator: Any  # an estimator with a `baseline`
    baseline: Level

    def __call__(self, x):
        where = lambda estimator: estimator.baseline
        empty = lambda leaf: leaf is None
        return eqx.tree_at(where, self.estimator, self.baseline(x), is_leaf=empty)


class WithControl(AbstractFactory):
    """RELAX or LAX, with a network of the perturbed logits, or the draw, and the batch."""

    control: Level
    kind: Any = eqx.field(default=ex.RELAX, static=True)

    def __call__(self, x):
        return self.kind(jax.tree_util.Partial(_control_variate, self.control, x))


def _control_variate(control: Level, x: Float[Array, "*B P"], z: PyTree) -> Float[Array, "*B"]:
    # 2σ(z) − 1 is the scale on which the model's decoder sees the latents
    flat = [jnp.tanh(leaf / 2).reshape(*x.shape[:-1], -1) for leaf in jax.tree.leaves(z)]
    return control(x, *flat)


BASELINES: dict[str, tuple[int, ...] | None] = {"constant": None, "network": (100,)}
"""Hidden layers of a baseline, by name; `none` stands for no baseline."""


def _with_baseline(
    setting: Setting, estimator: ex.AbstractEstimator, baseline: str
) -> AbstractFactory:
    if baseline == "none":
        return Plain(estimator)
    if baseline not in BASELINES:
        raise unknown("baseline", baseline, ["none", *BASELINES])
    return WithBaseline(estimator, Level(setting, setting.center.size, BASELINES[baseline]))


def _score_function(setting: Setting, *, num_samples: int = 1, baseline: str = "constant"):
    return _with_baseline(setting, ex.ScoreFunction(num_samples), baseline)


def _nvil(setting: Setting, *, normalize: bool = False):
    sd = setting.spread if normalize else None
    return _with_baseline(setting, ex.NVIL(0.0, sd=sd), "network")


def _muprop(setting: Setting, *, scale: float = 1.0, baseline: str = "network"):
    return _with_baseline(setting, ex.MuProp(scale), baseline)


def _rebar(
    setting: Setting, *, temperature: float = 0.5, scale: float = 1.0, baseline: str = "network"
):
    return _with_baseline(setting, ex.REBAR(temperature, scale), baseline)


def _with_control(setting: Setting, kind: type[ex.AbstractEstimator], hidden: int):
    latents = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(setting.draw))
    return WithControl(Level(setting, setting.center.size + latents, (hidden, hidden)), kind)


def _relax(setting: Setting, *, hidden: int = 200):
    return _with_control(setting, ex.RELAX, hidden)


def _lax(setting: Setting, *, hidden: int = 200):
    return _with_control(setting, ex.LAX, hidden)


def _plain(make: Callable[..., ex.AbstractEstimator]) -> Callable[..., AbstractFactory]:
    """A builder of an estimator that needs nothing of the setting; its options are `make`'s."""

    def build(setting: Setting, **options: Any) -> AbstractFactory:
        del setting
        return Plain(make(**options))

    return build


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to build one estimator by name.

    Arguments:
        estimator: its class, which holds its claims.
        build: from a `Setting` and keyword options to a factory.
        options: names and defaults of the options.
    """

    estimator: type[ex.AbstractEstimator]
    build: Callable[..., AbstractFactory]
    options: dict[str, Any]


def _recipe(estimator: type, build: Callable[..., Any] | None = None, **options: Any) -> Recipe:
    if build is None:
        return Recipe(estimator, _plain(estimator), options)
    parameters = inspect.signature(build).parameters.values()
    found = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    return Recipe(estimator, build, found)


OPTIONS = (
    *("num_samples", "num_pairs", "num_variables", "num_inner", "num_top"),
    *("temperature", "scale", "epsilon", "gap", "step", "baseline", "hidden", "normalize"),
)
"""The options of estimators that the command line has flags for."""

_SPECIAL: dict[str, Recipe] = {
    "disarm": _recipe(ex.DisARM, num_pairs=1),
    "arm": _recipe(ex.ARM),
    "leave-one-out": _recipe(ex.LeaveOneOut, num_samples=2),
    "score-function": _recipe(ex.ScoreFunction, _score_function),
    "nvil": _recipe(ex.NVIL, _nvil),
    "muprop": _recipe(ex.MuProp, _muprop),
    "rebar": _recipe(ex.REBAR, _rebar),
    "relax": _recipe(ex.RELAX, _relax),
    "lax": _recipe(ex.LAX, _lax),
    "gumbel-softmax": _recipe(ex.GumbelSoftmax, temperature=0.5),
    "straight-through-gumbel-softmax": _recipe(ex.StraightThroughGumbelSoftmax, temperature=0.5),
}


def _by_itself(estimator: type[ex.AbstractEstimator]) -> Recipe | None:
    """The recipe of an estimator whose constructor needs nothing; None if it needs something."""
    parameters = inspect.signature(estimator).parameters.values()
    if any(p.default is p.empty for p in parameters):
        return None
    numbers = {p.name: p.default for p in parameters if isinstance(p.default, int | float)}
    options = {name: x for name, x in numbers.items() if name in OPTIONS}
    return Recipe(estimator, _plain(estimator), options)


def _recipes() -> dict[str, Recipe]:
    """Those above, and every other public estimator under the name of its file."""
    found = dict(_SPECIAL)
    for thing in vars(ex).values():
        if inspect.isclass(thing) and issubclass(thing, ex.AbstractEstimator):
            name = thing.__module__.rsplit(".", 1)[-1].replace("_", "-")
            recipe = None if inspect.isabstract(thing) or name in found else _by_itself(thing)
            found |= {} if recipe is None else {name: recipe}
    return found


RECIPES: dict[str, Recipe] = _recipes()
"""How to build every estimator, by name."""


def capabilities() -> dict[str, str]:
    """What estimators need of q, by name: the first sentence of each capability's docstring."""
    needed = {recipe.estimator.claims.needs for recipe in RECIPES.values()}
    return {
        needs.__name__: " ".join((inspect.getdoc(needs) or "").partition("\n\n")[0].split())
        for needs in sorted(needed, key=lambda needs: needs.__name__)
    }


def options_of(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """All options of an estimator: its defaults, overridden by those given that are not None.

    Raises:
        UsageError: no such estimator, or an option that it does not have.
    """
    if name not in RECIPES:
        raise unknown("estimator", name, list(RECIPES))
    known = RECIPES[name].options
    given = {option: value for option, value in given.items() if value is not None}
    for option in given:
        if option not in known:
            has = f"pass {either([_flag(o) for o in known])}, or" if known else "drop it, or pass"
            takers = [n for n, recipe in RECIPES.items() if option in recipe.options]
            raise UsageError(
                complain(
                    f"estimator {name} has no option {_flag(option)}",
                    f"it is an option of {', '.join(takers)}",
                    f"{has} another --estimator",
                )
            )
    return known | given


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")


def build(name: str, setting: Setting, given: dict[str, Any]) -> AbstractFactory:
    """The factory of this name.

    Arguments:
        name: a key of `RECIPES`.
        setting: what it is for.
        given: options; those that are None take their default.

    Raises:
        UsageError: no such estimator, or an option that it does not have.
    """
    return RECIPES[name].build(setting, **options_of(name, given))
