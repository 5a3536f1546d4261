"""The battery as a third party runs it, on an estimator of its own."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import pytest

import expectax as ex
from expectax.testing import CHECKS, Trial, check_estimator, problems_for, run_check, single
from expectax.testing._mutants import ScaledScore

FEW = ("value_mean", "gradient_mean", "cost_parameters", "finite_draws", "evaluations")


def test_an_estimator_of_ones_own_passes_every_check():
    results = check_estimator(ScaledScore(1.0), problems=[single()])
    assert [r.check for r in results] == list(CHECKS)
    outcomes = {r.check: r.outcome for r in results}
    assert set(outcomes.values()) == {"passed", "inapplicable"}
    assert all(outcomes[name] == "passed" for name in FEW)
    assert all(r.detail for r in results if r.outcome == "inapplicable")


def test_a_broken_one_is_told_every_check_that_it_fails():
    class TwoCalls(ScaledScore):
        """Half the gradient, and one evaluation of f more than it says."""

        def evaluations(self, q):
            del q
            return ex.estimators.Evaluations(hard=2)

    with pytest.raises(ex.testing.ConformanceError) as error:
        check_estimator(TwoCalls(0.5), problems=[single()], checks=FEW)
    assert error.value.check == "gradient_mean, finite_draws, evaluations"
    assert "1 calls, 2 claimed" in str(error.value)


def test_a_battery_that_could_not_fail_is_refused():
    class Noisy(ScaledScore):
        """Unbiased, and of no use: the variance is a million times that of the score function."""

        claims: ClassVar[ex.Claims] = dataclasses.replace(ScaledScore.claims)

        def estimate(self, key, q, f):
            first, second = jax.random.split(key)
            out = super().estimate(first, q, f)
            noise = 1e3 * jax.random.rademacher(second, q.batch_shape, out.value.dtype)
            return ex.Estimate(out.value + noise * (q.logits - jax.lax.stop_gradient(q.logits)))

    with pytest.raises(ex.UnderpoweredError, match="Noisy on single"):
        check_estimator(Noisy(1.0), problems=[single()], checks=["gradient_mean"])


def test_leaves_of_the_problems_shape_are_made_for_each_problem():
    def make(problem):
        return ex.ScoreFunction(baseline=jnp.zeros(problem.batch_shape))

    results = check_estimator(make, checks=["control_gradient"])
    assert [r.trial.split()[-1] for r in results] == ["bits", "hots", "tree"]
    assert [r.outcome for r in results] == ["passed", "passed", "inapplicable"]


def test_the_problems_follow_from_what_the_estimator_needs():
    names = lambda kind: [p.name for p in problems_for(kind)]
    assert names(ex.DisARM) == ["bits", "single"]
    assert names(ex.REBAR) == ["bits", "hots", "tree"]
    assert names(ex.Pathwise) == ["gaussian", "gamma"]


def test_the_sessions_precision_is_left_alone():
    trial = Trial(ex.DisARM(), single())
    run_check("value_mean", trial)
    assert jnp.zeros(()).dtype == jnp.float32
