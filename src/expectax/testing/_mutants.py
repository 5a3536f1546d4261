"""Broken estimators, each with the healthy one it was made from and the check that catches it.

A battery that passes a mutant proves nothing. Every mutant is a mistake that published code has
contained; the tests run the battery on each and require that exactly the named checks fail.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from .._trees import add_axis, first, scale
from ..estimators import AbstractEstimator, Claims, Estimate, Evaluations
from ..estimators._base import carry, score_value, second_moment
from ..estimators.disarm import DisARM
from ..estimators.leave_one_out import LeaveOneOut
from ..estimators.muprop import MuProp
from ..estimators.nvil import NVIL
from ..estimators.rebar import REBAR
from ..estimators.score_function import ScoreFunction
from ..estimators.straight_through_gumbel_softmax import StraightThroughGumbelSoftmax
from . import _catalog
from ._problems import Problem


class ScaledScore(AbstractEstimator):
    """The score function times a factor: 1 is right; 0 is no gradient, −1 the wrong sign."""

    factor: float = eqx.field(static=True)
    claims: ClassVar[Claims] = dataclasses.replace(ScoreFunction.claims, order=1)

    def estimate(self, key, q, f):
        draws = q.sample(key, 1)
        costs, aux = f(draws)
        signal = self.factor * jax.lax.stop_gradient(costs[0])
        gradient = scale(signal, first(q.score(draws)))
        return Estimate(carry(costs[0], gradient, q.logits, q.batch_ndim), aux=aux)

    def evaluations(self, q):
        del q
        return Evaluations(hard=1)


class NoHalf(DisARM):
    """DisARM without its ½."""

    def estimate(self, key, q, f):
        theta = jax.lax.stop_gradient(q.logits)
        noise = first(q.noise(key, 1))
        one, two = q.harden(theta + noise), q.harden(theta - noise)
        costs, aux = f(jnp.stack([one, two]))
        difference = jax.lax.stop_gradient(costs[0] - costs[1])
        gradient = scale(difference, (one - two) * jax.nn.sigmoid(jnp.abs(theta)))
        value = carry(jnp.mean(costs, axis=0), gradient, q.logits, q.batch_ndim)
        return Estimate(value, aux=aux)


class OwnSample(LeaveOneOut):
    """Leave-one-out that leaves none out: the baseline holds the draw it is subtracted from."""

    def estimate(self, key, q, f):
        draws = q.sample(key, self.num_samples)
        costs, aux = f(draws)
        baseline = costs[:1] + jnp.mean(costs - costs[:1], axis=0)
        return Estimate(score_value(costs, baseline, q.log_prob(draws)), aux=aux)


class OtherBatchElements(LeaveOneOut):
    """Leave-one-out along the batch: the other costs are those of other batch elements."""

    def estimate(self, key, q, f):
        draws = q.sample(key, self.num_samples)
        costs, aux = f(draws)
        others = (jnp.sum(costs, axis=-1, keepdims=True) - costs) / (costs.shape[-1] - 1)
        return Estimate(score_value(costs, others, q.log_prob(draws)), aux=aux)


class TwoOnly(LeaveOneOut):
    """Leave-one-out that ignores `num_samples` and draws two."""

    def estimate(self, key, q, f):
        return LeaveOneOut(2).estimate(key, q, f)


class HalfConditional(REBAR):
    """REBAR without the derivative of the conditional noise: c(z̃) is held where c(z) moves."""

    def estimate(self, key, q, f):
        perturbed = q.perturb(key)
        draw = q.harden(perturbed)
        costs, aux = f(add_axis(draw))

        def relaxed_cost(z):
            relaxed = f.frozen(add_axis(jax.lax.stop_gradient(q).relax(z, self.temperature)))[0]
            return jnp.sum(relaxed), relaxed

        (_, relaxed), slope = jax.value_and_grad(relaxed_cost, has_aux=True)(perturbed)
        signal = jax.lax.stop_gradient(costs[0]) - relaxed
        gradient = jax.tree.map(jnp.add, scale(signal, q.score(draw)), slope)
        value = carry(costs[0], gradient, q.logits, q.batch_ndim)
        return Estimate(value, second_moment(gradient, q.batch_ndim), aux)


class Maximising(REBAR):
    """REBAR whose own leaves receive the negative gradient: what it learns makes it worse."""

    def estimate(self, key, q, f):
        out: Any = super().estimate(key, q, f)
        return Estimate(out.value, -out.control, out.aux)


class LeakingBaseline(NVIL):
    """NVIL that does not stop the cost in the baseline's squared error: f learns to be c."""

    def estimate(self, key, q, f):
        draws = q.sample(key, 1)
        costs, aux = f(draws)
        c = self.baseline + self.constant
        value = score_value(costs, jax.lax.stop_gradient(c), q.log_prob(draws))
        return Estimate(value, (costs[0] - c) ** 2, aux)


class SameKey(ScoreFunction):
    """The score function whose several draws all come from one key: one draw, many times."""

    def estimate(self, key, q, f):
        again = [q.sample(key, 1) for _ in range(self.num_samples)]
        draws = jax.tree.map(lambda *x: jnp.concatenate(x), *again)
        costs, aux = f(draws)
        return Estimate(score_value(costs, jnp.zeros(()), q.log_prob(draws)), aux=aux)


class TiedScore(ScoreFunction):
    """The score of bits by NumPyro's log-probability, whose derivative at logit 0 is 0 or 1."""

    def estimate(self, key, q, f):
        draws = q.sample(key, 1)
        costs, aux = f(draws)
        log_q = jnp.sum(dist.Bernoulli(logits=q.logits).log_prob(draws), axis=-1)
        return Estimate(score_value(costs, jnp.zeros(()), log_q), aux=aux)


class UnmaskedScore(ScoreFunction):
    """The score of categories by the logarithm of p where b = 1: 0/0 backwards where p = 0."""

    def estimate(self, key, q, f):
        draws = q.sample(key, 1)
        costs, aux = f(draws)
        logits = jnp.where(q.logits < -5e3, -jnp.inf, q.logits)
        terms = jnp.where(draws == 1, jnp.log(jax.nn.softmax(logits, axis=-1)), 0.0)
        log_q = jnp.sum(terms, axis=(-2, -1))
        return Estimate(score_value(costs, jnp.zeros(()), log_q), aux=aux)


class ByProbability(ScoreFunction):
    """The score of bits by b log p + (1 − b) log(1 − p): 0·(−inf) where p rounds to 0 or 1."""

    def estimate(self, key, q, f):
        draws = q.sample(key, 1)
        costs, aux = f(draws)
        p = jax.nn.sigmoid(q.logits)
        log_q = jnp.sum(draws * jnp.log(p) + (1 - draws) * jnp.log(1 - p), axis=-1)
        return Estimate(score_value(costs, jnp.zeros(()), log_q), aux=aux)


class BestOfTwo(LeaveOneOut):
    """The right gradient, with the least of the draws for a value."""

    def estimate(self, key, q, f):
        draws = q.sample(key, self.num_samples)
        costs, aux = f(draws)
        others = jnp.sum(costs, axis=0) - costs  # of two draws, the other one
        value = score_value(costs, others, q.log_prob(draws))
        least = jax.lax.stop_gradient(jnp.min(costs, axis=0) - value)
        return Estimate(value + least, aux=aux)


class OtherDraws(LeaveOneOut):
    """The value without a derivative is of other draws than the value with one."""

    def value(self, key, q, f):
        costs, aux = f(q.sample(jax.random.fold_in(key, 1), self.num_samples))
        return jnp.mean(costs, axis=0), aux


class NotEvenLinear(StraightThroughGumbelSoftmax):
    """A biased estimator that says it is exact for linear costs."""

    claims: ClassVar[Claims] = dataclasses.replace(
        StraightThroughGumbelSoftmax.claims, exact_for="linear f"
    )


class Overclaiming(StraightThroughGumbelSoftmax):
    """A biased estimator that says it is not."""

    claims: ClassVar[Claims] = dataclasses.replace(
        StraightThroughGumbelSoftmax.claims, unbiased=True
    )


class Modest(DisARM):
    """An unbiased estimator that says it is biased."""

    claims: ClassVar[Claims] = dataclasses.replace(DisARM.claims, unbiased=False)


class SecondOrder(DisARM):
    """An estimator right to first order that lets itself be differentiated twice."""

    claims: ClassVar[Claims] = dataclasses.replace(DisARM.claims, order=math.inf)


class BlackBox(MuProp):
    """An estimator that uses f's slope and says that f need not have one."""

    claims: ClassVar[Claims] = dataclasses.replace(MuProp.claims, differentiable=False)


_BIASED = StraightThroughGumbelSoftmax


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A broken estimator.

    Attributes:
        name: what is broken.
        broken: the broken estimator.
        healthy: the one it was made from.
        killed_by: the check that must fail.
        also: the other checks that see the same mistake.
        problem: where.
    """

    name: str
    broken: AbstractEstimator
    healthy: AbstractEstimator
    killed_by: str
    also: frozenset[str] = frozenset()
    problem: Callable[[], Problem] = _catalog.bits


def mutants() -> list[Mutant]:
    """Every mutant; made anew, so that their leaves have the session's precision."""
    mutant: Any = functools.partial(Mutant, also=frozenset({"finite_draws"}))
    claim = functools.partial(Mutant, also=frozenset())
    right = ScaledScore(1.0)
    inherited: Any = (HalfConditional, Maximising, LeakingBaseline)  # pyright misses their __init__
    half, maximising, leaking = inherited
    return [
        mutant("zero gradient", ScaledScore(0.0), right, "gradient_mean"),
        mutant("flipped sign", ScaledScore(-1.0), right, "gradient_mean"),
        mutant("5 % shrink", ScaledScore(0.95), right, "gradient_mean"),
        mutant("missing ½", NoHalf(), DisARM(), "gradient_mean"),
        mutant("own sample in the baseline", OwnSample(2), LeaveOneOut(2), "gradient_mean"),
        mutant("dropped conditional noise", half(), REBAR(), "gradient_mean"),
        mutant("score with ties at zero", TiedScore(), ScoreFunction(), "gradient_mean"),
        mutant("stop-gradient removed", leaking(0.3), NVIL(0.3), "cost_parameters"),
        mutant("value of the best draw", BestOfTwo(2), LeaveOneOut(2), "value_mean"),
        claim("value of other draws", OtherDraws(2), LeaveOneOut(2), "value_alone"),
        claim("score by probabilities", ByProbability(), ScoreFunction(), "dtypes"),
        claim("reused key", SameKey(2), ScoreFunction(2), "key_reuse"),
        Mutant(
            "wrong axis",
            OtherBatchElements(2),
            LeaveOneOut(2),
            "batch_elements",
            frozenset({"constant_cost", "added_constant", "finite_draws"}),
        ),
        claim("num_samples ignored", TwoOnly(4), LeaveOneOut(4), "evaluations"),
        claim("what is learned is maximised", maximising(), REBAR(), "control_gradient"),
        Mutant(
            "masked category not a number",
            UnmaskedScore(),
            ScoreFunction(),
            "masked_category",
            frozenset({"gradient_mean", "finite_draws", "batch_elements"}),
            _catalog.hots,
        ),
        mutant("bias not claimed", Overclaiming(0.5), _BIASED(0.5), "gradient_mean"),
        mutant("exactness not had", NotEvenLinear(0.5), _BIASED(0.5), "exact_for"),
        claim("bias claimed and absent", Modest(), DisARM(), "gradient_mean"),
        claim("silent second order", SecondOrder(), DisARM(), "derivative_order"),
        claim("slope used and not claimed", BlackBox(), MuProp(), "differentiability"),
    ]
