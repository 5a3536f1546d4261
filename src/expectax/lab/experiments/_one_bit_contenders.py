"""Who runs in the one-bit experiment, with what settings, against which published figures."""

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

import expectax as ex

LEARNING_RATE = 1e-2
TEMPERATURE = 0.5
HIDDEN = 10


class Surrogate(eqx.Module):
    """The control variate of RELAX: η f(σ_τ(z)) + a network of 2 σ_τ(z) − 1, or the network alone.

    The network has ten tanh units, Glorot weights and zero biases, as in the authors' program.

    Arguments:
        key: for the weights. Consumed.
        target: t of f(b) = (b − t)².
        with_cost: whether η f(σ_τ(z)) is part of it.
    """

    weights: tuple[Float[Array, "H"], Float[Array, "H"]]
    biases: tuple[Float[Array, "H"], Float[Array, ""]]
    log_temperature: Float[Array, ""]
    scale: Float[Array, ""] | None
    target: Float[Array, ""]

    def __init__(self, key: PRNGKeyArray, target: Float[Array, ""], with_cost: bool):
        glorot = (6.0 / (1 + HIDDEN)) ** 0.5
        into, out = jax.random.uniform(key, (2, HIDDEN), minval=-glorot, maxval=glorot)
        self.weights = (into, out)
        self.biases = (jnp.zeros(HIDDEN), jnp.zeros(()))
        self.log_temperature = jnp.log(TEMPERATURE)
        self.scale = jnp.ones(()) if with_cost else None
        self.target = target

    def __call__(self, z: Float[Array, ""]) -> Float[Array, ""]:
        relaxed = jax.nn.sigmoid(z / jnp.exp(self.log_temperature))
        hidden = jnp.tanh(self.weights[0] * (2 * relaxed - 1) + self.biases[0])
        network = jnp.dot(self.weights[1], hidden) + self.biases[1]
        if self.scale is None:
            return network
        # t is data: without the stop it would be learned like everything else here
        return self.scale * (relaxed - jax.lax.stop_gradient(self.target)) ** 2 + network


def adam() -> optax.GradientTransformation:
    """One Adam for the logit and for whatever the estimator learns."""
    return optax.adam(LEARNING_RATE)


def with_running_mean(decay: float = 0.99) -> optax.GradientTransformation:
    """Adam for the logit; the baseline an exponential running mean that begins with the first cost.

    A step r of plain descent on (f − c)² is c + 2 r (f − c): the whole way at first, then 1 − decay
    of it. The baseline is used before it is updated, so the first step has none.
    """
    steps = optax.piecewise_constant_schedule(0.5, {1: 1.0 - decay})
    rules: dict[Hashable, Any] = {"logit": adam(), "baseline": optax.sgd(steps)}
    return optax.partition(
        rules, lambda pair: ("logit", jax.tree.map(lambda _: "baseline", pair[1]))
    )


@dataclasses.dataclass(frozen=True)
class Contender:
    """An estimator and how it learns.

    Attributes:
        name: in tables and pictures.
        family: what it is a kind of; the pictures color by it.
        build: from a key and t to the estimator at the start of a run.
        optimizer: of the pair (logit, estimator).
    """

    name: str
    family: str
    build: Callable[[PRNGKeyArray, Float[Array, ""]], ex.AbstractEstimator]
    optimizer: Callable[[], optax.GradientTransformation] = adam


def _fixed(name: str, family: str, estimator: Callable[[], Any], **options: Any) -> Contender:
    return Contender(name, family, lambda _key, _t: estimator(), **options)


def _relax(name: str, with_cost: bool) -> Contender:
    return Contender(name, "control variate", lambda key, t: ex.RELAX(Surrogate(key, t, with_cost)))


CONTENDERS: tuple[Contender, ...] = (
    _fixed("Enumerate", "exact", ex.Enumerate),
    _fixed("ScoreFunction", "score function", ex.ScoreFunction),
    _fixed(
        "ScoreFunction, running mean",
        "score function",
        lambda: ex.ScoreFunction(baseline=0.0),
        optimizer=with_running_mean,
    ),
    _fixed(
        "ScoreFunction, learned baseline",
        "score function",
        lambda: ex.ScoreFunction(baseline=0.0),
    ),
    _fixed("NVIL", "score function", lambda: ex.NVIL(0.0)),
    _fixed("LeaveOneOut(2)", "score function", lambda: ex.LeaveOneOut(2)),
    _fixed("ARM", "antithetic", ex.ARM),
    _fixed("DisARM", "antithetic", ex.DisARM),
    _fixed("MuProp", "control variate", ex.MuProp),
    _fixed("MuProp, baseline", "control variate", lambda: ex.MuProp(baseline=0.0)),
    _fixed("REBAR", "control variate", lambda: ex.REBAR(TEMPERATURE)),
    _fixed("REBAR, baseline", "control variate", lambda: ex.REBAR(TEMPERATURE, baseline=0.0)),
    _relax("RELAX, network", with_cost=False),
    _relax("RELAX, cost + network", with_cost=True),
    _fixed("GumbelSoftmax", "biased", lambda: ex.GumbelSoftmax(TEMPERATURE)),
    _fixed(
        "StraightThroughGumbelSoftmax",
        "biased",
        lambda: ex.StraightThroughGumbelSoftmax(TEMPERATURE),
    ),
    _fixed("StraightThrough", "biased", ex.StraightThrough),
    _fixed("DirectArgmax", "biased", lambda: ex.DirectArgmax(1.0)),
)

TARGETS = (0.45, 0.49, 0.499, 0.501)

SIMULATED: dict[str, dict[float, tuple[str, str]]] = {
    "Enumerate": {
        0.45: ("0.202680", "0.202504"),
        0.49: ("0.240136", "0.240101"),
        0.499: ("0.249005", "0.249001"),
    },
    "ScoreFunction": {
        0.45: ("0.20706", "0.20311"),
        0.49: ("0.24554", "0.24161"),
        0.499: ("0.24996", "0.24987"),
    },
    "ScoreFunction, running mean": {
        0.45: ("0.20314", "0.202576"),
        0.49: ("0.240266", "0.240116"),
        0.499: ("0.249085", "0.249004"),
    },
    "LeaveOneOut(2)": {
        0.45: ("0.20304", "0.202547"),
        0.49: ("0.240209", "0.240110"),
        0.499: ("0.249012", "0.249002"),
    },
    "ARM": {
        0.45: ("0.20298", "0.202545"),
        0.49: ("0.240196", "0.240109"),
        0.499: ("0.249011", "0.249002"),
    },
    "DisARM": {
        0.45: ("0.20296", "0.202543"),
        0.49: ("0.240193", "0.240109"),
        0.499: ("0.249010", "0.249002"),
    },
}
"""Mean exact loss after 3,000 and 10,000 steps, over 400 runs of an independent simulation."""

SIMULATED_RUNS = 400
SIMULATED_STEPS = (3_000, 10_000)

SINGLE_RUNS: dict[str, str] = {
    "ScoreFunction": "0.2496",
    "REBAR": "0.2499",
    "RELAX, network": "0.24914",
}
"""Loss of one run at t = .499 after 10,000 steps, read off figures of Grathwohl et al. (2018)."""

LOG_VARIANCES: dict[str, tuple[float, float]] = {
    "ScoreFunction": (-4.2, -4.2),
    "REBAR": (-4.7, -4.2),
    "RELAX, network": (-20.0, -10.0),
}
"""Log variance of the gradient in those runs, from the same figures: lowest and highest read."""

STALL = {("REBAR", 0.501)}
SUCCEED = {
    ("REBAR, baseline", 0.501),
    ("RELAX, network", 0.501),
    ("RELAX, cost + network", 0.501),
}
"""Who fails and who succeeds over 10,000 steps: the claim of Grathwohl et al. (2018) for REBAR and
RELAX; that a baseline is what REBAR lacks is the published code's own practice."""
