"""A thousand categories, rare and masked ones among them, for all that can afford it."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import expectax as ex
from expectax.distributions import OneHot, joint
from expectax.testing import Gate, check_mean, over_keys, stream

C = 1000
MASKED = 7
RNG = np.random.default_rng(5)
TABLE = RNG.normal(size=C) + np.linspace(-1, 1, C)
LOGITS = 1.5 * RNG.normal(size=C)
LOGITS[MASKED] = -np.inf
# what is compared: two sums over the categories, whose terms do not cancel
WEIGHTS = TABLE * np.stack([np.ones(C), np.arange(C) % 3 == 1])
CHUNK, MOST_CHUNKS = 512, 400


def network(weights, z):
    return jnp.tanh(z / 4) @ weights


CONTROL = jax.tree_util.Partial(network, jnp.asarray(TABLE, jnp.float32) / 10)
MADE = {
    "RELAX": lambda: ex.RELAX(CONTROL),
    "NVIL": lambda: ex.NVIL(0.1),
    "ScoreFunction": lambda: ex.ScoreFunction(4, baseline=0.1),
    "GumbelSoftmax": lambda: ex.GumbelSoftmax(0.5),
    "StraightThroughGumbelSoftmax": lambda: ex.StraightThroughGumbelSoftmax(0.5),
    "SumAndSample": lambda: ex.SumAndSample(5),
    "UnorderedSet": lambda: ex.UnorderedSet(3),
    "GumbelRao": lambda: ex.GumbelRao(0.5, num_inner=2),
}
TOO_DEAR = {
    "ARSM": "half a million evaluations a draw",
    "MeasureValued": "two evaluations for each category, where LocalExpectation has one",
}


NOISY = {  # at this size gate B would take more draws than anyone can wait for
    "PerturbedArgmax": "the noise of all categories is in the slope of each",
    "DiscreteStein": "each draw looks at the surrogate of a thousand neighbors",
}


def serves(estimator):
    q = ex.OneHotCategorical(logits=jnp.zeros(3))
    return all(isinstance(site, estimator.claims.needs) for site in joint(q).sites)


SERVING = {
    name: MADE.get(name, cls)
    for name, cls in vars(ex).items()
    if inspect.isclass(cls)
    and issubclass(cls, ex.AbstractEstimator)
    and not inspect.isabstract(cls)
    and issubclass(OneHot, cls.claims.needs)
    and name not in TOO_DEAR
}


def is_exact(name):
    claims = type(SERVING[name]()).claims
    right = claims.unbiased or claims.exact_for in ("linear f", "quadratic f")
    return right and name not in NOISY


def gradient(estimator, logits, key):
    """The gradient of E[table · b], whose slope in b is the table: linear."""
    table = jnp.asarray(TABLE, logits.dtype)

    def loss(logits):
        q = ex.OneHotCategorical(logits=logits)
        return ex.expect(key, q, lambda b: b @ table, estimator)

    return jax.grad(loss)(logits)


def exact():
    p = np.exp(LOGITS - LOGITS.max())
    p = p / p.sum()
    return p * (TABLE - p @ TABLE)


@functools.cache
def moments(name):
    """Moments of the weighted sums, and of what the masked category receives."""
    estimator, logits = SERVING[name](), jnp.asarray(LOGITS)

    def sample(key):
        g = gradient(estimator, logits, key)
        return {"sums": jnp.asarray(WEIGHTS, g.dtype) @ g, "masked": g[MASKED]}

    program, truth = over_keys(sample), WEIGHTS @ exact()
    first = stream(program, jax.random.key(0), 1, chunk=CHUNK)
    if not is_exact(name):
        return first
    first = stream(program, jax.random.key(2), 4, chunk=CHUNK, start=first)
    needed = Gate().draws_needed(first["sums"], np.abs(truth).max())
    num = min(MOST_CHUNKS, max(0, -(-needed // CHUNK)))
    again = jax.random.key(1)
    return stream(program, again, num, chunk=CHUNK, start=first) if num else first


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", SERVING)
def test_the_gradient_of_a_linear_cost_is_right(name):
    found, truth = moments(name), WEIGHTS @ exact()
    assert found.low["masked"] == found.high["masked"] == 0
    if is_exact(name):
        check_mean(found["sums"], truth, scale=np.abs(truth).max(), what=name)
    else:
        assert np.all(np.isfinite(found.mean["sums"]))


@pytest.mark.parametrize("name", SERVING)
def test_it_is_finite_in_half_the_digits(name):
    logits = jnp.asarray(LOGITS, jnp.bfloat16)
    g = jax.jit(lambda logits, key: gradient(SERVING[name](), logits, key))(
        20 * logits, jax.random.key(2)
    )
    assert g.dtype == jnp.bfloat16
    assert bool(jnp.all(jnp.isfinite(g)))


def test_who_serves_categories_is_known():
    assert {"LeaveOneOut", "REBAR", "ReinMax", "LocalExpectation"} <= set(SERVING)
    assert all(serves(make()) for make in SERVING.values())
