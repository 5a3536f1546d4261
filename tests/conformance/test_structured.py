"""Estimators that need no probabilities, on structures whose law is known by other means."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import expectax as ex
from expectax.testing import Trial, _sets as sets, _structures as structures, run_check

KINDS = (structures.chain, structures.assignment, structures.spanning_tree, structures.pairwise)
PROBLEMS = {make.__name__: make for make in (*KINDS, sets.top_set, sets.permutation)}
DIRECT = ("value_mean", "exact_for", "constant_cost")
MASKED = (*DIRECT, "masked_category")
SMOOTHED = ("exact_for", "constant_cost")
ROWS = {
    ("DirectArgmax", "chain"): (ex.DirectArgmax(1.0), (*MASKED, "dtypes", "evaluations")),
    ("DirectArgmax", "pairwise"): (ex.DirectArgmax(1.0, two_sided=True), DIRECT),
    ("DirectArgmax", "top_set"): (ex.DirectArgmax(2.0), (*MASKED, "dtypes")),
    ("DirectArgmax", "permutation"): (ex.DirectArgmax(4.0, two_sided=True), (*MASKED, "dtypes")),
    ("PerturbedArgmax", "chain"): (ex.PerturbedArgmax(2), (*SMOOTHED, "dtypes")),
    ("PerturbedArgmax", "assignment"): (ex.PerturbedArgmax(4), SMOOTHED),
    ("ImplicitMLE", "chain"): (ex.ImplicitMLE(1.0), (*SMOOTHED, "dtypes")),
    ("ImplicitMLE", "spanning_tree"): (ex.ImplicitMLE(1.0), SMOOTHED),
}


@functools.lru_cache(maxsize=2)
def trial(row):
    with Trial.precision():
        return Trial(ROWS[row][0], PROBLEMS[row[1]]())


@pytest.mark.parametrize(
    ("row", "check"),
    [
        pytest.param(
            row, check, id="-".join((*row, check)), marks=pytest.mark.xdist_group(str(row))
        )
        for row, (_, checks) in ROWS.items()
        for check in checks
    ],
)
def test_structures(row, check):
    assert run_check(check, trial(row)).outcome == "passed"


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_the_law_is_right_by_another_road(make):
    problem = make()
    with jax.enable_x64(True):
        exact = np.asarray(problem.exact(problem.params))
        total = np.asarray(problem.probabilities(problem.params["q"]).sum(axis=0))
    np.testing.assert_allclose(exact, problem.reference(problem.params), rtol=1e-10)
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_draws_follow_the_law(make):
    problem, num = make(), 2**16
    draws = problem.make_q(jnp.asarray(problem.params["q"])).sample(jax.random.key(0), (num,))
    same = lambda outcome: jnp.all(draws == outcome, axis=tuple(range(2, draws.ndim)))
    counts = jnp.stack([same(outcome).sum(axis=0) for outcome in problem.outcomes])
    with jax.enable_x64(True):
        p = np.asarray(problem.probabilities(problem.params["q"]))
    np.testing.assert_array_equal(counts.sum(axis=0), num)  # nothing else is drawn
    error = np.sqrt(p * (1 - p) / num)
    assert np.all(np.abs(counts / num - p) <= 5 * error)  # 84 comparisons: one in 20,000 by chance
    assert error.max() < 0.002


@pytest.mark.parametrize("two_sided", [False, True])
def test_independent_structures_are_changed_one_at_a_time(two_sided):
    """Two chains of two states are two categories each: the same gradient from the same noise."""
    logits = np.random.default_rng(0).normal(size=(3, 2, 4))
    weights = np.random.default_rng(1).normal(size=8)
    f = lambda b: (b.reshape((*b.shape[: -b.ndim + 1], -1)) @ weights) ** 2

    def chains(x):
        q = ex.PerturbAndMAP(x.reshape(3, 2, 1, 2, 2), ex.ChainSolver()).to_event(1)
        return ex.expect(key, q, f, ex.DirectArgmax(2.0, two_sided=two_sided)).sum()

    def categories(x):
        q = ex.OneHotCategorical(logits=x).to_event(1)
        return ex.expect(key, q, f, ex.DirectArgmax(2.0, two_sided=two_sided)).sum()

    moved = 0
    for seed in range(5):
        key = jax.random.key(seed)
        one, other = (jax.grad(loss)(jnp.asarray(logits)) for loss in (chains, categories))
        np.testing.assert_array_equal(one, other)
        moved += int(jnp.sum(one != 0))
    assert moved > 10


def test_more_structures_than_can_be_listed_are_refused_or_solved():
    q = ex.PerturbAndMAP(jnp.zeros((2, 9, 4, 4)), ex.ChainSolver())  # 4^10 paths
    f = lambda b: jnp.sum(b[..., 0, 1], axis=-1)
    key = jax.random.key(0)
    with pytest.raises(ex.IncompatibleError, match="cannot be listed") as caught:
        ex.expect(key, q, f, ex.DirectArgmax(1.0))
    assert "ImplicitMLE()" in str(caught.value)
    loss = lambda x: ex.expect(
        key, ex.PerturbAndMAP(x, ex.ChainSolver()), f, ex.ImplicitMLE(10.0)
    ).sum()
    gradient = jax.grad(loss)(q.logits)
    assert gradient.shape == q.logits.shape
    assert jnp.abs(gradient).max() > 0


def test_what_has_no_probabilities_says_so():
    q = ex.PerturbAndMAP(jnp.zeros((3, 2, 2)), ex.AssignmentSolver())
    f = lambda b: b[..., 0, 0]
    with pytest.raises(ex.IncompatibleError, match="its log-probability is not known") as caught:
        ex.expect(jax.random.key(0), q, f, ex.LeaveOneOut(2))
    assert "PerturbedArgmax()" in str(caught.value)
    with pytest.raises(ex.IncompatibleError, match="no tractable form"):
        q.log_prob(jnp.eye(2))


def test_perturb_and_map_is_a_numpyro_distribution():
    q = ex.PerturbAndMAP(jnp.zeros((5, 3)), ex.SubsetSolver(2))
    assert (q.batch_shape, q.event_shape) == ((5,), (3,))
    draws = q.expand((4, 5)).to_event(1).sample(jax.random.key(0), (7,))
    assert draws.shape == (7, 4, 5, 3)
    np.testing.assert_array_equal(draws.sum(-1), 2)
    assert bool(jnp.all(q.support(draws[0, 0])))
    assert isinstance(jax.jit(lambda q: q)(q), dist.Distribution)
    batched = jax.vmap(lambda x: ex.PerturbAndMAP(x, ex.SubsetSolver(1)))(jnp.zeros((2, 3)))
    assert batched.logits.shape == (2, 3)
    with pytest.raises(ex.InvalidArgumentError, match="it takes 4 of 3 items"):
        ex.PerturbAndMAP(jnp.zeros(3), ex.SubsetSolver(4))
    with pytest.raises(ex.InvalidArgumentError, match="a solver says which structures"):
        ex.PerturbAndMAP(jnp.zeros(3), "chain")
