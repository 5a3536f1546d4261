"""The oracles, each checked by a second road: plain loops or quadrature, and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from expectax.testing import bits, counts, gamma, gaussian, hots, single, tree

PROBLEMS = [make() for make in (bits, hots, tree, single, gaussian, gamma, counts)]
ORACLES = [*PROBLEMS, *(p.layers for p in PROBLEMS if p.layers is not None)]
named = pytest.mark.parametrize("problem", ORACLES, ids=lambda p: p.name.replace(" ", "-"))

pytestmark = pytest.mark.usefixtures("float64")


def _arrays(tree):
    return jax.tree.map(jnp.asarray, tree)


@named
def test_the_exact_value_is_that_of_plain_loops_or_quadrature(problem):
    exact = np.asarray(jax.jit(problem.exact)(_arrays(problem.params)))
    np.testing.assert_allclose(exact, problem.reference(problem.params), rtol=0, atol=1e-13)


@named
def test_the_exact_gradient_is_that_of_finite_differences_of_the_other_road(problem):
    rng = np.random.default_rng(0)
    grads = jax.jit(jax.grad(lambda p: jnp.sum(problem.weights * problem.exact(p))))(
        _arrays(problem.params)
    )
    step = 1e-5
    for _ in range(3):
        line = jax.tree.map(lambda x: rng.normal(size=x.shape), problem.params)
        at = lambda t, line=line: np.sum(
            problem.weights
            * problem.reference(jax.tree.map(lambda x, d: x + t * d, problem.params, line))
        )
        wanted = (at(step) - at(-step)) / (2 * step)
        found = sum(jax.tree.leaves(jax.tree.map(lambda g, d: jnp.sum(g * d), grads, line)))
        assert abs(found - wanted) < 1e-7


@pytest.mark.parametrize("problem", [p for p in PROBLEMS if p.outcome_list], ids=lambda p: p.name)
def test_the_outcomes_are_all_of_them(problem):
    chances = problem.probabilities(_arrays(problem.params["q"]))
    np.testing.assert_allclose(chances.sum(axis=0), 1, atol=1e-14)
    assert len({str(outcome) for outcome in problem.outcome_list}) == len(problem.outcome_list)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
def test_a_constant_cost_is_constant_and_a_linear_one_linear(problem):
    rng = np.random.default_rng(1)
    jitted = jax.jit(problem.cost)
    cost = lambda params, x: jitted(_arrays(params["f"]), x)
    draw = lambda: jax.tree.map(
        lambda s: jnp.asarray(rng.uniform(0.2, 0.8, size=s.shape)), _example(problem)
    )
    a, b = draw(), draw()
    constant = problem.constant()
    assert (cost(constant, a) == cost(constant, b)).all()
    assert (cost(problem.params, a) != cost(problem.params, b)).all()
    if problem.outcome_list:
        linear, middle = problem.linear(), jax.tree.map(lambda x, y: (x + y) / 2, a, b)
        mean = (cost(linear, a) + cost(linear, b)) / 2
        np.testing.assert_allclose(cost(linear, middle), mean, atol=1e-14)
        assert (abs(cost(problem.params, middle) - mean) > 1e-3).any()


def _example(problem):
    sample = lambda d: jnp.asarray(d.sample(jax.random.key(0)))
    q = problem.make_q(_arrays(problem.params["q"]))
    return jax.tree.map(sample, q, is_leaf=lambda x: hasattr(x, "sample"))


def test_the_awkward_cases_are_there():
    logits = bits().params["q"]
    p = 1 / (1 + np.exp(-logits))
    assert (logits == 0).any()
    assert np.isclose(p.min(), 1e-4)
    assert np.isclose(p.max(), 1 - 1e-4)
    assert np.isneginf(hots().params["q"]).any()
    assert (hots().params["q"] == 0).all(axis=(1, 2)).any()
    for problem in PROBLEMS:
        if problem.batch_shape:
            assert (problem.weights > 0).any()
            assert (problem.weights < 0).any()
            # a leaf with the batch's length by accident would be scaled by the wrong entries
            assert len(problem.params["f"]["curve"]) != problem.batch_shape[0]
