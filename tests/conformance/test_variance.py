"""The variance of one bit's gradient against its closed form, f = (b − t)².

Exactly, by summing over the draws or integrating over the noise; and by streamed draws from keys.
With Δ = 1 − 2t, g = p(1 − p)Δ and m = max(p, 1 − p):

    leave-one-out, 2 draws   Δ² p(1 − p)/2 − g²
    DisARM                   Δ² m²(1 − m)/2 − g²
    ARM                      Δ² (2/3)(1/8 − (m − ½)³) − g²
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import expectax as ex
from expectax.testing import (
    Problem,
    Script,
    check_mean,
    hots,
    over_keys,
    play,
    script_of_draws,
    script_of_noise,
    single,
    stream,
)
from expectax.testing._problems import Site, discrete

pytestmark = pytest.mark.usefixtures("float64")

LOGITS = np.array([0.0, 0.0, 0.7, -1.6, 2.5])
TARGETS = np.array([0.45, 0.8, 0.1, 0.3, 0.9])
CASES = {
    "LeaveOneOut": (ex.LeaveOneOut(2), lambda m: m * (1 - m) / 2),
    "DisARM": (ex.DisARM(), lambda m: m**2 * (1 - m) / 2),
    "ARM": (ex.ARM(), lambda m: 2 / 3 * (1 / 8 - (m - 0.5) ** 3)),
}


def one_bit() -> Problem:
    """Five bits as a batch, f = (b − t)², every element with its own θ and t."""
    problem = discrete("one bit", Site("bits", "logits", ()), LOGITS, 0)
    return dataclasses.replace(
        problem,
        params={"q": LOGITS, "f": {"target": TARGETS}},
        cost=lambda f, b: (b - f["target"]) ** 2,
        weights=np.ones(len(LOGITS)),
    )


def _closed_form(second_moment):
    p = 1 / (1 + np.exp(-LOGITS))
    delta = 1 - 2 * TARGETS
    g = p * (1 - p) * delta
    return g, delta**2 * second_moment(np.maximum(p, 1 - p)) - g**2


@pytest.mark.parametrize("name", CASES)
def test_the_variance_is_exactly_the_closed_form(name):
    estimator, second_moment = CASES[name]
    mean, variance = _closed_form(second_moment)
    problem = one_bit()
    params = jax.tree.map(jnp.asarray, problem.params)
    script = (
        script_of_draws(problem, 2) if name == "LeaveOneOut" else script_of_noise(problem, 1, 64)
    )

    def gradient(scene: Script):
        # batch elements are independent: the gradient of the sum holds that of each
        total = lambda q: jnp.sum(play(scene, problem, {**params, "q": q}, estimator))
        return jax.grad(total)(params["q"])

    gradients = jax.jit(jax.vmap(gradient))(script)
    np.testing.assert_allclose(jnp.sum(script.probability * gradients, axis=0), mean, atol=1e-12)
    spread = jnp.sum(script.probability * (gradients - mean) ** 2, axis=0)
    np.testing.assert_allclose(spread, variance, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_the_variance_of_real_draws_is_the_closed_form(name):
    estimator, second_moment = CASES[name]
    mean, variance = _closed_form(second_moment)
    problem = one_bit()
    params = jax.tree.map(jnp.asarray, problem.params)

    def sample(key):
        total = lambda q: jnp.sum(problem.value({**params, "q": q}, estimator, key))
        return (jax.grad(total)(params["q"]) - mean) ** 2

    moments = stream(over_keys(sample), jax.random.key(0), 50)
    check_mean(moments, variance, scale=np.max(variance), what=f"variance of {name}")


def test_disarm_has_no_variance_at_one_half():
    problem, estimator = single(), ex.DisARM()
    params = {**problem.params, "q": np.array(0.0)}

    def gradient(q, key):
        return jax.grad(lambda q: problem.value({**params, "q": q}, estimator, key))(q)

    keys = jax.random.split(jax.random.key(0), 1000)
    draws = np.asarray(jax.jit(jax.vmap(gradient, in_axes=(None, 0)))(jnp.asarray(0.0), keys))
    cost = jax.jit(problem.cost)
    difference = cost(params["f"], jnp.ones(())) - cost(params["f"], jnp.zeros(()))
    assert np.ptp(draws) == 0
    np.testing.assert_allclose(draws[0], difference / 4, rtol=1e-14)


COVERING = {
    "SumAndSample": (lambda num: ex.SumAndSample(num)),
    "UnorderedSet": (lambda num: ex.UnorderedSet(num)),
}


@pytest.mark.parametrize("name", COVERING)
def test_what_covers_all_outcomes_has_no_variance(name):
    problem = hots()  # nine outcomes, three of them impossible in one batch element
    params = jax.tree.map(jnp.asarray, problem.params)
    exact = jax.jit(jax.grad(lambda p: jnp.sum(problem.exact(p))))(params)["q"]

    def gradients(estimator):
        one = lambda key: jax.grad(lambda p: jnp.sum(problem.value(p, estimator, key)))(params)["q"]
        return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 200))

    everything, fewer = gradients(COVERING[name](9)), gradients(COVERING[name](3))
    assert jnp.var(everything, axis=0).max() < 1e-12
    np.testing.assert_allclose(everything[0], exact, atol=1e-12)
    assert jnp.var(fewer, axis=0).max() > 1e-4


def test_the_second_order_of_muprop_leaves_nothing_of_a_quadratic():
    problem = hots()
    params = jax.tree.map(jnp.asarray, problem.quadratic())

    def gradients(estimator):
        one = lambda key: jax.grad(lambda p: jnp.sum(problem.value(p, estimator, key)))(params)["q"]
        return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 200))

    assert jnp.var(gradients(ex.MuProp(second_order=True)), axis=0).max() < 1e-20
    assert jnp.var(gradients(ex.MuProp()), axis=0).max() > 1e-2
