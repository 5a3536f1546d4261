"""docs/estimators.md: every estimator with its claims, and its noise on small fixed problems.

    python -m expectax.lab.estimator_table docs/estimators.md

Claims are read from the classes. Noise is measured in float64 with fixed keys, after what an
estimator learns was learned for a fixed number of steps, and rounded to two digits, so that another
machine writes the same page but for the last digit. It takes a minute or two, which is compiling.
"""

import dataclasses
import functools
import inspect
import math
import pathlib
import statistics
import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from .. import distributions
from .._errors import ExpectaxError
from ..diagnostics._candidates import Scene, estimator_classes, set_up
from ..diagnostics._loss import Setting
from ..diagnostics._table import markdown
from ..diagnostics._timing import Stopwatch
from ..diagnostics._trial import units
from ..distributions import (
    Joint,
    OneHotCategorical,
    PerturbAndMAP,
    PlackettLuce,
    Subset,
    SubsetSolver,
    TopK,
    joint,
    require,
)
from ..estimators import AbstractEstimator
from ..estimators.enumerate import Enumerate
from .estimators import capabilities

CLAIMS = ("estimator", "needs of q", "unbiased", "f'", "evaluations", "order", "learns", "source")
RATE = 0.02
LEARNING_STEPS = 20_000
STEPS = 2_000  # of one run
RUNS = 50
CERTAIN = 0.02  # a standard error beyond this share is printed
SIGNAL = 3  # a bias of so many standard errors is one


@dataclasses.dataclass(frozen=True)
class Noise:
    """Relative to the squared norm of the exact gradient; standard errors beside them."""

    variance: float
    variance_error: float
    bias: float | None = None
    bias_error: float = 0.0

    @property
    def cell(self) -> str:
        """Two digits of the variance, its error where they are uncertain, and bias or its limit."""
        if self.variance < 1e-20:
            return "0"
        cell = two_digits(self.variance)
        if self.variance_error > CERTAIN * self.variance:
            cell += f" ± {two_digits(self.variance_error)}"
        if self.bias is None:
            return cell
        seen = self.bias > SIGNAL * self.bias_error
        bias = self.bias if seen else SIGNAL * self.bias_error
        return f"{cell}, bias {'' if seen else '< '}{two_digits(100 * bias)} %"


def two_digits(x: float) -> str:
    """A positive number to two significant digits, without an exponent.

    Example:
        >>> [two_digits(x) for x in (314.0, 31.4, 3.0, 0.0314, 99.6)]
        ['310', '31', '3.0', '0.031', '100']
    """
    rounded = float(f"{x:.1e}")
    return f"{rounded:.{max(0, 1 - math.floor(math.log10(rounded)))}f}"


def bits() -> tuple[Any, Any]:
    """five bits, f = t² + sin 3t + ½ with t = w·b."""
    weights = jnp.array([1.0, -0.7, 0.5, 1.3, -1.1])
    q = dist.Bernoulli(logits=jnp.array([-1.5, -0.6, 0.0, 0.7, 1.2])).to_event(1)
    return q, lambda b: (b @ weights) ** 2 + jnp.sin(3 * (b @ weights)) + 0.5


def categories() -> tuple[Any, Any]:
    """two variables of three categories, the same f with t = ⟨w, z⟩."""
    weights = jnp.array([[1.0, -0.7, 0.4], [0.5, 1.3, -1.1]])
    q = OneHotCategorical(logits=jnp.array([[-1.0, 0.2, 0.9], [0.0, 0.6, -0.8]])).to_event(1)
    t = lambda z: jnp.sum(weights * z, axis=(-2, -1))
    return q, lambda z: t(z) ** 2 + jnp.sin(3 * t(z)) + 0.5


def gaussians() -> tuple[Any, Any]:
    """three Gaussians in location and scale, f = x·x + sin Σx."""
    q = dist.Normal(jnp.array([0.5, -0.3, 0.0]), jnp.array([0.7, 1.0, 1.4])).to_event(1)
    return q, lambda x: jnp.sum(x**2, axis=-1) + jnp.sin(jnp.sum(x, axis=-1))


PROBLEMS = {"bits": bits, "categories": categories, "Gaussians": gaussians}


@functools.cache
def _prepared(problem: str) -> tuple[Setting, Scene, list[np.ndarray]]:
    """q and f taken apart, what setups may use, and the exact gradient. In float64."""
    q, f = PROBLEMS[problem]()
    setting = Setting(jax.random.key(0), q, f)
    draws = q.sample(jax.random.key(1), (10_000,))
    costs = jax.vmap(f)(draws)
    scene = Scene(jax.random.key(2), setting.views, jnp.mean(costs), float(jnp.std(costs)))
    return setting, scene, _exact_gradient(problem, setting)


def _exact_gradient(problem: str, setting: Setting) -> list[np.ndarray]:
    if problem != "Gaussians":
        gradient = jax.grad(setting.loss(Enumerate()))(setting.floats, jax.random.key(0))
        return [np.asarray(g) for g in jax.tree.leaves(gradient)]

    def expectation(floats: Any) -> jax.Array:  # E sin Σx = sin(Σμ) exp(−Σσ²/2)
        q = setting.loss(Enumerate()).distribution(floats).base_dist
        total = jnp.sin(jnp.sum(q.loc)) * jnp.exp(-0.5 * jnp.sum(q.scale**2))
        return jnp.sum(q.loc**2 + q.scale**2) + total

    return [np.asarray(g) for g in jax.tree.leaves(jax.grad(expectation)(setting.floats))]


def measure(
    cls: type[AbstractEstimator], problem: str, *, seed: int = 3, runs: int = RUNS
) -> Noise | None:
    """The noise of an estimator on a problem; None where it cannot serve, or needs to be told how.

    Arguments:
        problem: a key of `PROBLEMS`.
        seed: of learning and of the draws.
        runs: of `STEPS` gradients each.
    """
    with jax.enable_x64(True):
        setting, scene, truth = _prepared(problem)
        try:
            require(setting.views, cls.claims.needs, object.__new__(cls))
            made = set_up(cls, scene)
            if isinstance(made, str):
                return None
            loss = setting.loss(made.estimator)
            watch = Stopwatch(jax.random.key(seed), loss, setting.floats, units(loss, scene))
        except ExpectaxError:
            return None
        watch.warm_up(STEPS)
        if cls.claims.learns:
            watch.adapt(math.inf, RATE, LEARNING_STEPS)
        for _ in range(runs):
            watch.run()
        square = sum(float(np.sum(g**2)) for g in truth)
        error = statistics.stdev(watch.variances) / math.sqrt(runs)
        noise = Noise(watch.variance / square, error / square)
        if cls.claims.unbiased:
            return noise
        distance = sum(float(np.sum((m - g) ** 2)) for m, g in zip(watch.mean, truth, strict=True))
        blur = watch.variance / watch.num_draws
        bias = math.sqrt(max(0.0, distance - blur) / square)
        return dataclasses.replace(noise, bias=bias, bias_error=math.sqrt(blur / square))


def claim_cells(cls: type[AbstractEstimator]) -> list[str]:
    """What a class claims, in the order of `CLAIMS`."""
    claims = cls.claims
    file = cls.__module__.rpartition(".")[2]
    exact = f"no (exact {_when(claims.exact_for)})" if claims.exact_for else "no"
    return [
        f"[`{cls.__name__}`](../src/expectax/estimators/{file}.py)",
        f"`{claims.needs.__name__}`",
        ("exact" if claims.exact_for == "every f" else "yes") if claims.unbiased else exact,
        "yes" if claims.differentiable else "–",
        claims.cost,
        "any" if claims.order > 1 else f"{claims.order:g}",
        claims.learns or "–",
        claims.source,
    ]


def _when(exact_for: str) -> str:
    return exact_for if exact_for.startswith("as ") else f"for {exact_for}"


def _size(cls: type[AbstractEstimator]) -> str:
    """The number of draws or pairs it was measured with, or nothing."""
    with jax.enable_x64(True):
        made = set_up(cls, _prepared("bits")[1])
    return "" if isinstance(made, str) or made.size is None else f" ({made.size})"


def _has(q: Joint, capability: str) -> bool:
    return all(isinstance(view, getattr(distributions, capability)) for view in q.sites)


def _examples() -> dict[str, Joint]:
    half, three = jnp.array(0.5), jnp.zeros(3)
    made = (
        dist.Bernoulli(logits=half),
        OneHotCategorical(logits=three),
        dist.Categorical(logits=three),
        dist.Binomial(3, logits=half),
        dist.DiscreteUniform(0, 3),
        dist.Poisson(half),
        dist.Geometric(logits=half),
        Subset(three, 2),
        TopK(three, 2),
        PlackettLuce(three),
        PerturbAndMAP(three, SubsetSolver(2)),
        dist.Normal(half, half),
        dist.MultivariateNormal(three, jnp.eye(3)),
        dist.Exponential(half),
        dist.Gamma(half, half),
        dist.Beta(half, half),
        dist.Dirichlet(three + 1),
        dist.VonMises(half, half),
    )
    return {type(q).__name__.removesuffix("Logits"): joint(q) for q in made}


def capability_table() -> str:
    """What estimators need of q, and who has it."""
    examples, rows = _examples(), []
    for name, sentence in capabilities().items():
        have = [q for q, views in examples.items() if _has(views, name)]
        lack = [q for q in examples if q not in have]
        shown = ", ".join(have) if len(lack) > 2 else " but ".join(["all", *lack])
        rows.append([f"`{name}`", sentence, shown])
    return _left(markdown(["needs", "what it is", "who has it, of those tried"], rows))


def _left(table: str) -> str:
    """A table of words: no column to the right."""
    return table.replace(" ---: |", " --- |")


HEAD = """# The estimators

Every estimator, what it claims, and how noisy it is. Which one for your own q and f:
[choosing.md](choosing.md), or ask `ex.recommend(key, q, f)`. The
[conformance tests](../tests/conformance) check every claim.

"""

FOOT = f"""
- *f'*: whether f must be differentiable in the draw. *evaluations*: of f for one gradient, at draws
  + elsewhere, with S, n or k draws, m bits, D variables, C categories. *order*: how often the value
  may be differentiated.
- *noise*: E‖g − E g‖² / ‖exact gradient‖² of one gradient, whatever it costs, set up as
  `ex.recommend` begins, with draws or pairs in parentheses; for a biased one also
  ‖bias‖ / ‖gradient‖, or what it is below. Measured with {RUNS * STEPS:,} gradients in
  float64, after {LEARNING_STEPS:,} steps of learning; a standard error above {100 * CERTAIN:g} %
  is printed. A dash: it cannot serve that q, or it has to be told how (a network, a baseline of the
  input).
{{problems}}

## What they need of q

{{capabilities}}

This page is made by `python -m expectax.lab.estimator_table docs/estimators.md`, from the claims in
the code; a test holds the two together.
"""


def render(noise: Mapping[str, list[str]]) -> str:
    """The page.

    Arguments:
        noise: by the name of an estimator, a cell for each of `PROBLEMS`.
    """
    header = [*CLAIMS, *(f"noise, {name}" for name in PROBLEMS)]
    rows = [[*claim_cells(cls), *noise[cls.__name__]] for cls in estimator_classes()]
    problems = [f"  - *{name}*: {inspect.getdoc(make)}" for name, make in PROBLEMS.items()]
    foot = FOOT.replace("{problems}", "\n".join(problems)).replace(
        "{capabilities}", capability_table()
    )
    return f"{HEAD}{_left(markdown(header, rows))}\n{foot}"


def noise_cells(cls: type[AbstractEstimator]) -> list[str]:
    """The noise of an estimator on each problem, as text."""
    noise = [measure(cls, problem) for problem in PROBLEMS]
    return [f"{n.cell}{_size(cls)}" if n else "–" for n in noise]


if __name__ == "__main__":
    text = render({cls.__name__: noise_cells(cls) for cls in estimator_classes()})
    if sys.argv[1:]:
        pathlib.Path(sys.argv[1]).write_text(text, encoding="utf-8")
    else:
        print(text, end="")
