"""One row per estimator and size: the row buys the battery.

A new estimator needs a row of its smallest legal size, and one larger where it has sizes. The
tests find the public estimators themselves and fail for one that has no row.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

import expectax as ex
from expectax.distributions import Binary, OneHot, Reparameterized, joint
from expectax.testing import (
    CHECKS,
    Problem,
    Trial,
    bits,
    counts,
    features,
    gamma,
    gaussian,
    hots,
    problems_for,
    single,
    tree,
)

EVERYTHING = tuple(CHECKS)
ON_EVERY_PROBLEM = tuple(name for name, check in CHECKS.items() if check.every_problem)
EXACT = ("finite_draws", "control_gradient")  # what is cheap: no draws, and one small program
BY_DRAWS = ("value_mean", "gradient_mean", "cost_parameters")


@dataclasses.dataclass(frozen=True)
class Row:
    """An estimator as the battery runs it.

    Attributes:
        name: in test ids.
        make: from a problem to the estimator (leaves may have the problem's shapes).
        larger: whether it is a second, larger size: fewer checks on fewer problems.
        exact: the problems on which its randomness can be summed out.
        skip: check to reason.
    """

    name: str
    make: Callable[[Problem], ex.AbstractEstimator]
    larger: bool = False
    exact: tuple[str, ...] = ()
    skip: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def kind(self) -> type[ex.AbstractEstimator]:
        """The estimator's class."""
        return type(self.make(bits()))

    def plan(self) -> list[tuple[str, tuple[str, ...]]]:
        """The problems of this row by name, and the checks to run on each."""
        needs = self.kind.claims.needs
        if self.larger:
            rich = {Binary: "bits", OneHot: "hots", Reparameterized: "gaussian"}.get(needs, "tree")
            plan = [(rich, (*self._checks(rich), "evaluations"))]
            return plan if rich != "tree" else [*plan, ("bits", EXACT)]
        first, *others = [p.name for p in problems_for(self.kind)]
        plan = [(first, EVERYTHING), *((name, self._checks(name)) for name in others)]
        if needs not in (OneHot, Reparameterized) and "single" not in others:
            plan.append(("single", EXACT))
        return plan

    def _checks(self, problem: str) -> tuple[str, ...]:
        """The checks on a problem that is not a row's first.

        A sum over all draws says what a mean of many does, to more digits; the first problem has
        both, for the sum goes by scripted draws and the mean by those of the key.
        """
        summed = problem in self.exact
        return tuple(name for name in ON_EVERY_PROBLEM if not (summed and name in BY_DRAWS))


PROBLEMS = {make().name: make for make in (bits, hots, tree, single, gaussian, gamma, counts)}


@functools.lru_cache(maxsize=2)  # the tests of a row come one after the other
def trial(row_name: str, problem_name: str) -> Trial:
    """The trial of a row on a problem, compiled once for all its checks."""
    problem = PROBLEMS[problem_name]()
    with Trial.precision():
        return Trial(BY_NAME[row_name].make(problem), problem)


def _batch(problem: Problem, start: float, stop: float) -> jax.Array:
    """An array of the batch shape, as a network would compute it."""
    shape = problem.batch_shape
    return jnp.asarray(np.linspace(start, stop, math.prod(shape)).reshape(shape))


def _relax(problem: Problem, width: int, baseline: float | None) -> ex.RELAX:
    """RELAX with one hidden layer of the perturbed logits."""
    size = sum(
        math.prod(site.event_shape) for site in joint(problem.make_q(problem.params["q"])).sites
    )
    rng = np.random.default_rng(0)

    def network(weights, z):
        x = features(z, len(problem.batch_shape))
        hidden = jnp.tanh(x @ weights["in"][: x.shape[-1]])  # a layer has fewer variables
        return hidden @ weights["out"]

    weights = {"in": rng.normal(size=(size, width)) / 2, "out": rng.normal(size=width)}
    weights = jax.tree.map(jnp.asarray, weights)
    return ex.RELAX(jax.tree_util.Partial(network, weights), baseline=baseline)


def _lax(problem: Problem, width: int, baseline: float | None) -> ex.LAX:
    """LAX with the network of RELAX."""
    return ex.LAX(_relax(problem, width, baseline).control_variate, baseline=baseline)


_DISCRETE = ("bits", "hots", "tree", "single")
_BITS = ("bits", "single")

ROWS = (
    Row("Enumerate", lambda _: ex.Enumerate(), exact=_DISCRETE),
    Row(
        "Enumerate in chunks",
        lambda _: ex.Enumerate(chunk_size=3),
        larger=True,
        exact=_DISCRETE,
        skip={"evaluations": "the backward pass makes each chunk again, the last one padded"},
    ),
    Row("ScoreFunction", lambda _: ex.ScoreFunction(), exact=_DISCRETE),
    Row(
        "ScoreFunction, 4 draws and a baseline",
        lambda p: ex.ScoreFunction(4, baseline=_batch(p, -0.4, 0.9)),
        larger=True,
        exact=_DISCRETE,
    ),
    Row("LeaveOneOut", lambda _: ex.LeaveOneOut(2), exact=_DISCRETE),
    Row("LeaveOneOut, 4 draws", lambda _: ex.LeaveOneOut(4), larger=True, exact=_DISCRETE),
    Row("OptimalBaseline", lambda _: ex.OptimalBaseline(3), exact=_DISCRETE),
    Row("OptimalBaseline, 4 draws", lambda _: ex.OptimalBaseline(4), larger=True, exact=_DISCRETE),
    Row("NVIL", lambda _: ex.NVIL(0.3), exact=_DISCRETE),
    Row(
        "NVIL, all leaves",  # sd below 1: above it the gradient is divided, by design
        lambda p: ex.NVIL(_batch(p, -0.4, 0.9), constant=0.2, sd=0.8),
        larger=True,
        exact=_DISCRETE,
    ),
    Row("MuProp", lambda _: ex.MuProp(), exact=_DISCRETE),
    Row(
        "MuProp, all leaves",
        lambda p: ex.MuProp(scale=_batch(p, 0.6, 1.2), baseline=0.3),
        larger=True,
        exact=_DISCRETE,
        skip={"constant_cost": "only at scale 1 without a baseline, where it starts"},
    ),
    Row(
        "MuProp, second order",
        lambda p: ex.MuProp(scale=_batch(p, 0.6, 1.2), baseline=0.3, second_order=True),
        larger=True,
        exact=_DISCRETE,
        skip={"constant_cost": "only at scale 1 without a baseline, where it starts"},
    ),
    Row("GumbelSoftmax", lambda _: ex.GumbelSoftmax(0.5)),
    Row("StraightThroughGumbelSoftmax", lambda _: ex.StraightThroughGumbelSoftmax(0.5)),
    Row("StraightThrough", lambda _: ex.StraightThrough(), exact=_DISCRETE),
    Row("REBAR", lambda _: ex.REBAR(), exact=_BITS),
    Row(
        "REBAR, all leaves",
        lambda p: ex.REBAR(0.7, scale=_batch(p, 0.6, 1.2), baseline=0.3),
        larger=True,
        exact=_BITS,
    ),
    Row("RELAX", lambda p: _relax(p, 2, None), exact=_BITS),
    Row("RELAX, wider, with a baseline", lambda p: _relax(p, 6, 0.3), larger=True, exact=_BITS),
    Row("DiscreteStein", lambda _: ex.DiscreteStein(), exact=_DISCRETE),
    Row(
        "DiscreteStein, 3 draws, all leaves",
        lambda p: ex.DiscreteStein(
            3, _batch(p, 0.6, 1.2), curve=-0.4, surrogate=_relax(p, 2, None).control_variate
        ),
        larger=True,
        exact=_DISCRETE,
        skip={"constant_cost": "only while the surrogate is constant, as it starts"},
    ),
    Row("ARM", lambda _: ex.ARM(), exact=_BITS),
    Row("ARMS", lambda _: ex.ARMS(2)),
    Row("ARMS, 4 draws", lambda _: ex.ARMS(4), larger=True),
    Row("CoupledCategorical", lambda _: ex.CoupledCategorical()),
    Row("CoupledCategorical, 3 pairs", lambda _: ex.CoupledCategorical(3), larger=True),
    Row("CARMS", lambda _: ex.CARMS(2)),
    Row("CARMS, 4 draws", lambda _: ex.CARMS(4), larger=True),
    Row("ARSM", lambda _: ex.ARSM()),
    Row("DisARM", lambda _: ex.DisARM(), exact=_BITS),
    Row("DisARM, 3 pairs", lambda _: ex.DisARM(3), larger=True, exact=("single",)),
    Row("DoubleControlVariate", lambda _: ex.DoubleControlVariate(2), exact=_DISCRETE),
    Row(
        "DoubleControlVariate, 3 draws",
        lambda p: ex.DoubleControlVariate(3, scale=_batch(p, -0.3, 0.9)),
        larger=True,
        exact=_DISCRETE,
    ),
    Row("DirectArgmax", lambda _: ex.DirectArgmax(1.0)),
    Row("DirectArgmax, two-sided", lambda _: ex.DirectArgmax(1.0, two_sided=True), larger=True),
    Row("GumbelRao", lambda _: ex.GumbelRao(0.5, num_inner=1)),
    Row("GumbelRao, 8 noises", lambda _: ex.GumbelRao(0.7, num_inner=8), larger=True),
    Row("ReinMax", lambda _: ex.ReinMax(), exact=_DISCRETE),
    Row("GappedStraightThrough", lambda _: ex.GappedStraightThrough()),
    Row("LocalExpectation", lambda _: ex.LocalExpectation(), exact=_DISCRETE),
    Row("BitFlip", lambda _: ex.BitFlip(1), exact=("single",)),
    Row("BitFlip, every bit", lambda _: ex.BitFlip(2), larger=True),
    Row("PerturbedArgmax", lambda _: ex.PerturbedArgmax(), exact=("single",)),
    Row("PerturbedArgmax, 5 draws", lambda _: ex.PerturbedArgmax(5), larger=True),
    Row("ImplicitMLE", lambda _: ex.ImplicitMLE()),
    Row("ImplicitMLE, a small step", lambda _: ex.ImplicitMLE(0.3), larger=True),
    Row("SumAndSample", lambda _: ex.SumAndSample(1), exact=_DISCRETE),
    Row("SumAndSample, 4 summed", lambda _: ex.SumAndSample(4), larger=True, exact=_DISCRETE),
    Row("UnorderedSet", lambda _: ex.UnorderedSet(2), exact=_DISCRETE),
    Row("UnorderedSet, 3 draws", lambda _: ex.UnorderedSet(3), larger=True, exact=_DISCRETE),
    Row("Pathwise", lambda _: ex.Pathwise()),
    Row("Pathwise, 4 draws", lambda _: ex.Pathwise(4), larger=True),
    Row("MeasureValued", lambda _: ex.MeasureValued(), exact=_DISCRETE),
    Row("FiniteDifference", lambda _: ex.FiniteDifference(1.0)),
    Row("FiniteDifference, half the step", lambda _: ex.FiniteDifference(0.5), larger=True),
    Row("LAX", lambda p: _lax(p, 2, None)),
    Row("LAX, wider, with a baseline", lambda p: _lax(p, 6, 0.3), larger=True),
    # each coupling in some row; all of them with all three, exactly, in test_couplings.py
    Row(
        "ScoreFunction, an antithetic pair",
        lambda p: ex.ScoreFunction(2, _batch(p, -0.4, 0.9), ex.Antithetic()),
        larger=True,
    ),
    Row(
        "LeaveOneOut, 2 groups of 2, quasi-random",
        lambda _: ex.LeaveOneOut(4, ex.QuasiRandom()),
        larger=True,
    ),
    Row("Pathwise, stratified", lambda _: ex.Pathwise(3, ex.Stratified()), larger=True),
    Row("Pathwise, systematic", lambda _: ex.Pathwise(3, ex.Systematic()), larger=True),
)
BY_NAME = {row.name: row for row in ROWS}
