"""Coupled draws: each alone has the law of q, and together they are never worse where promised.

Where the couplings of one bit can be written out, everything is exact: sums over the ways in which
the draws of a group can fall. The rest is measured, with gates.
"""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jaxtyping import Array

import expectax as ex
from expectax.distributions import AbstractCoupling, joint
from expectax.testing import Gate, check_mean, gather, over_keys, stream

pytestmark = pytest.mark.usefixtures("float64")

COUPLINGS: dict[str, Any] = {
    "antithetic": ex.Antithetic(),
    "stratified": ex.Stratified(),
    "systematic": ex.Systematic(),
    "quasi-random": ex.QuasiRandom(),
}
NUM = 4  # draws


# The uniforms


@pytest.mark.parametrize(
    ("coupling", "num"),
    [*((c, NUM) for c in COUPLINGS.values()), (ex.QuasiRandom(3), 6), (ex.Stratified(3), 3)],
    ids=str,
)
def test_each_draw_has_independent_uniforms(coupling, num):
    """Each draw is uniform over 4 × 4 cells of two variables, and of two batch elements."""
    size = coupling.size(num, 1)

    def sample(key):
        u = coupling.uniforms(key, num, size, (2, 2), jnp.float64)
        cell = jnp.floor(4 * u).astype(int)
        variables = 4 * cell[:, 0, 0] + cell[:, 0, 1]
        elements = 4 * cell[:, 0, 0] + cell[:, 1, 0]
        return jax.nn.one_hot(jnp.stack([variables, elements]), 16)

    moments = stream(over_keys(sample), jax.random.key(1), 104)
    check_mean(moments, jnp.full((2, num, 16), 1 / 16), what=f"cells of {coupling}")


@pytest.mark.parametrize("coupling", COUPLINGS.values(), ids=COUPLINGS)
def test_one_uniform_lies_in_each_part(coupling):
    """What the couplings are named for; and in float32 the ends are never reached."""
    keys = jax.random.split(jax.random.key(0), 20_000)
    make = lambda key: coupling.uniforms(key, NUM, coupling.size(NUM, 1), (3,), jnp.float32)
    u = np.asarray(jax.jit(jax.vmap(make))(keys))
    assert u.dtype == np.float32
    assert 0 < u.min() < 1e-3
    assert 1 - 1e-3 < u.max() < 1
    if isinstance(coupling, ex.Antithetic):
        np.testing.assert_array_equal(u[:, 0::2] + u[:, 1::2], 1)
        return
    parts = np.sort(np.floor(NUM * u), axis=1)
    np.testing.assert_array_equal(parts, np.broadcast_to(np.arange(NUM)[:, None], parts.shape))
    within = np.ptp(np.sort(u, axis=1) - np.arange(NUM)[:, None] / NUM, axis=1)
    same = within < 1e-6
    assert same.all() if isinstance(coupling, ex.Systematic) else same.mean() < 0.01


def test_quasi_random_draws_fill_every_pair_of_boxes():
    """Sixteen points in two variables: one in each box of every shape with 1/16 of the area."""
    make = lambda key: ex.QuasiRandom().group(key, 16, (2,), jnp.float64)
    points = np.asarray(jax.vmap(make)(jax.random.split(jax.random.key(0), 100)))
    for digits in range(5):
        rows, columns = 2**digits, 2 ** (4 - digits)
        box = np.floor(points[..., 0] * rows) * columns + np.floor(points[..., 1] * columns)
        np.testing.assert_array_equal(np.sort(box, axis=1), np.tile(np.arange(16), (100, 1)))


# From uniforms to draws

MASKED = jnp.array([-jnp.inf, 0.5, -jnp.inf, -0.6, 0.0, -jnp.inf])
DISCRETE = {
    "bit": lambda: dist.Bernoulli(logits=-1.3),
    "certain bit": lambda: dist.Bernoulli(probs=1.0),
    "one-hot": lambda: ex.OneHotCategorical(logits=MASKED),
    "categorical": lambda: dist.Categorical(logits=MASKED, validate_args=False),
    "binomial": lambda: dist.Binomial(3, logits=0.4),
    "uniform": lambda: dist.DiscreteUniform(1, 3),
}
CONTINUOUS = {
    "normal": (lambda a, b: dist.Normal(a, b), 0.4, 1.3),
    "laplace": (lambda a, b: dist.Laplace(a, b), 0.4, 1.3),
    "log-normal": (lambda a, b: dist.LogNormal(a, b), 0.4, 1.3),
    "uniform": (lambda a, b: dist.Uniform(a, a + b), 0.4, 1.3),
    "gumbel": (lambda a, b: dist.Gumbel(a, b), 0.4, 1.3),
}


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_draws_increase_with_their_uniform_and_have_their_law(name):
    view = joint(DISCRETE[name]()).sites[0]
    num = 2**16
    u = (np.arange(num) + 0.5) / num
    draws = np.asarray(jax.jit(lambda u: view.quantile(u))(u))
    number = draws.argmax(-1) if name == "one-hot" else draws
    assert draws.dtype == view.draw_dtype
    assert np.all(np.diff(number) >= 0)
    outcomes = np.asarray(view.outcome(jnp.arange(view.num_outcomes)))
    counts = [np.mean(np.all((draws == x).reshape(num, -1), axis=1)) for x in outcomes]
    chances = np.exp(view.log_prob(jnp.asarray(outcomes)))
    # the outcomes are intervals of u: on a grid their lengths are off by one step at most
    np.testing.assert_allclose(counts, chances, rtol=0, atol=1 / num)
    assert np.all(np.asarray(counts)[chances == 0] == 0)


def test_a_masked_category_is_out_of_reach_of_every_float():
    view = joint(ex.OneHotCategorical(logits=MASKED.astype(jnp.float32))).sites[0]
    ends = jnp.array([2.0**-24, 1 - 2.0**-24], jnp.float32)
    assert jnp.argmax(view.quantile(ends), axis=-1).tolist() == [1, 4]


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_draws_have_their_law_and_their_derivative(name):
    make, a, b = CONTINUOUS[name]
    u = jnp.linspace(0.002, 0.998, 998)  # not at ½, where the inverse of the Laplace has a corner
    quantile = lambda a, b: joint(make(a, b)).sites[0].quantile(u[:, None])[:, 0]
    shape = lambda x: jnp.full((1,), x)
    a, b = shape(a), shape(b)
    x = quantile(a, b)
    np.testing.assert_allclose(make(a, b).cdf(x), u, atol=1e-9)
    assert jnp.all(jnp.diff(x) > 0)
    for i in (0, 1):
        found = jax.jacfwd(quantile, i)(a, b)[:, 0]
        moved = jax.jacfwd(lambda a, b: make(a, b).cdf(x), i)(a, b)[:, 0]
        np.testing.assert_allclose(found, -moved / jnp.exp(make(a, b).log_prob(x)), rtol=1e-6)


# One bit, exactly


class Given(AbstractCoupling):
    """A coupling whose draws are written out."""

    draws: Array
    group: int = 1

    def size(self, num, least):
        del num, least
        return self.group

    def sample(self, key, q, num, least=1):
        del key, q, num, least
        return self.draws

    def rsample(self, key, q, num, least=1):
        raise NotImplementedError


LOGITS = (0.7, 0.0, -2.2)


def law_of_bits(coupling: Any, num: int, p: float) -> dict[tuple[int, ...], float]:
    """How `num` coupled draws of one bit can fall, as the couplings are defined."""
    law: dict[tuple[int, ...], float] = {}

    def add(bits, chance):
        law[bits] = law.get(bits, 0.0) + chance

    if isinstance(coupling, ex.Antithetic):  # u and 1 − u; b = 1[u > 1 − p]
        cuts = sorted({0.0, p, 1 - p, 1.0})
        for low, high in itertools.pairwise(cuts):
            u = (low + high) / 2
            add((int(u > 1 - p), int(1 - u > 1 - p)), high - low)
        return law
    if isinstance(coupling, ex.QuasiRandom):  # the tree of flips over the points 0, ½, ¾, ¼
        orders = []
        for first, left, right in itertools.product((0, 1), repeat=3):
            flip = lambda point: (point >> 1 ^ first) * 2 + (point & 1 ^ (left, right)[point >> 1])  # noqa: B023
            orders.append([flip(point) for point in (0, 2, 3, 1)][:num])
    else:
        orders = list(itertools.permutations(range(num)))
    # one part of (0, 1) is cut at 1 − p, and its draw is 1 with this chance
    cut = math.floor(num * (1 - p))
    chance = cut + 1 - num * (1 - p)
    for order, last in itertools.product(orders, (0, 1)):
        bits = tuple(last if part == cut else int(part > cut) for part in order)
        add(bits, (chance if last else 1 - chance) / len(orders))
    return law


def _size(coupling):
    return 2 if isinstance(coupling, ex.Antithetic) else NUM


@pytest.mark.parametrize("coupling", COUPLINGS.values(), ids=COUPLINGS)
def test_the_draws_of_a_bit_fall_as_written(coupling):
    size = _size(coupling)
    patterns = list(itertools.product((0, 1), repeat=size))
    p = 1 / (1 + np.exp(-np.array(LOGITS)))
    laws = [law_of_bits(coupling, size, x) for x in p]
    chances = np.array([[law.get(bits, 0.0) for bits in patterns] for law in laws])
    np.testing.assert_allclose(chances.sum(1), 1, rtol=1e-12)
    # alone, every draw has the law of q
    np.testing.assert_allclose(chances @ np.array(patterns), np.tile(p, (size, 1)).T, rtol=1e-12)
    q = joint(dist.Bernoulli(logits=jnp.array(LOGITS)))

    def sample(key):
        draws = coupling.sample(key, q, size)
        return jax.nn.one_hot(2 ** jnp.arange(size)[::-1] @ draws.astype(int), 2**size)

    moments = stream(over_keys(sample), jax.random.key(2), 100)
    check_mean(moments, jnp.asarray(chances), what=f"patterns of {coupling}")


def _exact_moments(estimator: Any, law: dict[tuple[int, ...], float], logit: float, num: int):
    """Mean and variance of value and gradient of f(0) = 0.9, f(1) = 2.1, over all draws."""
    groups = num // len(next(iter(law)))
    scenes = list(itertools.product(law.items(), repeat=groups))
    draws = jnp.array([sum((bits for bits, _ in scene), ()) for scene in scenes], float)
    chances = np.array([math.prod(chance for _, chance in scene) for scene in scenes])

    def value(logit, draws):
        how = estimator(num, coupling=Given(draws, len(next(iter(law)))))
        return ex.expect(
            jax.random.key(0), dist.Bernoulli(logits=logit), lambda b: 0.9 + 1.2 * b, how
        )

    both = jax.jit(jax.vmap(jax.value_and_grad(value), in_axes=(None, 0)))(logit, draws)
    means = [chances @ np.asarray(x) for x in both]
    spread = [chances @ (np.asarray(x) - m) ** 2 for x, m in zip(both, means, strict=True)]
    return means, spread


@pytest.mark.parametrize("logit", LOGITS)
@pytest.mark.parametrize("coupling", COUPLINGS.values(), ids=COUPLINGS)
def test_one_bit_is_unbiased_exactly_and_no_noisier(coupling, logit):
    p = 1 / (1 + math.exp(-logit))
    truth = [0.9 + 1.2 * p, 1.2 * p * (1 - p)]
    size, alone = _size(coupling), {(0,): 1 - p, (1,): p}
    coupled = law_of_bits(coupling, size, p)
    for estimator, num in ((ex.ScoreFunction, size), (ex.LeaveOneOut, 2 * size)):
        means, spread = _exact_moments(estimator, coupled, logit, num)
        _, independent = _exact_moments(estimator, alone, logit, num)
        np.testing.assert_allclose(means, truth, rtol=0, atol=1e-12)
        assert np.all(np.array(spread) <= np.array(independent) * (1 + 1e-12))
        assert spread[0] < 0.9 * independent[0]


def test_a_baseline_from_the_own_group_would_be_biased():
    """Why leave-one-out takes its baseline elsewhere: with the pair's other draw it is wrong."""
    p = 1 / (1 + math.exp(-0.7))
    law = law_of_bits(ex.Antithetic(), 2, p)
    bias = 0.0
    for (one, two), chance in law.items():
        cost = lambda b: 0.9 + 1.2 * b
        bias += chance * (cost(one) - cost(two)) * (one - two) / 2
    assert abs(bias - 1.2 * p * (1 - p)) > 0.1 * 1.2 * p * (1 - p)


# Variance


def _index(hot):
    return jnp.argmax(hot, axis=-1)


BITS = jnp.array([0.8, -1.3, 0.0])
ROWS = jnp.array([[0.9, -0.4, 0.2, 0.0], [-1.0, 0.5, 0.3, 0.7]])
# increasing in every variable, and not a sum over the variables
MONOTONE: dict[str, tuple[Any, Any]] = {
    "bits": (dist.Bernoulli(logits=BITS).to_event(1), lambda b: jnp.exp(b @ jnp.arange(1.0, 4))),
    "categories": (
        dist.Categorical(logits=ROWS).to_event(1),
        lambda k: jnp.exp(0.5 * k[..., 0]) * (1.0 + k[..., 1]),
    ),
    "one-hot": (
        ex.OneHotCategorical(logits=ROWS).to_event(1),
        lambda b: jnp.exp(0.5 * _index(b)[..., 0]) * (1.0 + _index(b)[..., 1]),
    ),
    "normal": (
        dist.Normal(jnp.array([0.3, -0.5]), 0.7).to_event(1),
        lambda x: jnp.exp(0.6 * jnp.sum(x, axis=-1)),
    ),
}


def exact_mean_and_variance(q: Any, f: Any) -> tuple[float, float]:
    """By enumeration; for the normal variables by the log-normal's closed form."""
    if isinstance(q, dist.Independent) and isinstance(q.base_dist, dist.Normal):
        m, v = 0.6 * float(jnp.sum(q.mean)), 0.36 * float(jnp.sum(q.variance))
        return math.exp(m + v / 2), math.exp(2 * m + v) * math.expm1(v)
    view = joint(q)
    outcomes = view.outcome(jnp.arange(view.num_outcomes))
    chances, costs = jnp.exp(view.log_prob(outcomes)), f(outcomes)
    mean = chances @ costs
    return float(mean), float(chances @ (costs - mean) ** 2)


def check_no_noisier(squares: Any, bound: Any, what: str) -> None:
    """Each mean square is at most its bound, as far as its draws can tell; and they can."""
    gate = Gate()
    gate.require_power(squares, bound, what)
    allowed = gate.allowance(squares, bound)
    for name, limit in bound.items():
        mean = float(squares.mean[name])
        assert mean <= limit + float(allowed[name]), f"{what}, {name}: {mean} > {limit}"


@pytest.mark.parametrize("name", MONOTONE)
def test_a_monotone_cost_is_no_noisier_than_with_independent_draws(name):
    q, f = MONOTONE[name]
    mean, variance = exact_mean_and_variance(q, f)
    estimators = {"independent": ex.Independent(), **COUPLINGS}

    def sample(key):
        value = lambda c: ex.expect(key, q, f, ex.ScoreFunction(NUM, coupling=c))
        return {name: (value(c) - mean) ** 2 for name, c in estimators.items()}

    limit = jnp.asarray(variance / NUM)
    bound = dict.fromkeys(estimators, limit)
    squares = gather(over_keys(sample), jax.random.key(3), scale=bound)
    # the measure itself: independent draws have a quarter of the variance of one
    check_mean(squares["independent"], limit, what=f"independent draws of {name}")
    check_no_noisier(squares, bound, name)
    assert all(float(squares.mean[c]) < 0.9 * limit for c in COUPLINGS)


def test_the_pathwise_gradient_of_a_convex_cost_is_no_noisier():
    """∂/∂loc exp(0.6 x) is increasing in x; and all four are unbiased."""
    a, loc, sd = 0.6, 0.3, 0.7
    mean = a * math.exp(a * loc + (a * sd) ** 2 / 2)
    variance = mean**2 * math.expm1((a * sd) ** 2)

    def sample(key):
        def gradient(coupling):
            how = ex.Pathwise(NUM, coupling)
            cost = lambda x: jnp.exp(a * x)
            return jax.grad(lambda m: ex.expect(key, dist.Normal(m, sd), cost, how))(loc)

        found = {name: gradient(c) for name, c in COUPLINGS.items()}
        return {"mean": found, "square": {k: (g - mean) ** 2 for k, g in found.items()}}

    truth = dict.fromkeys(COUPLINGS, jnp.asarray(mean))
    bound = dict.fromkeys(COUPLINGS, jnp.asarray(variance / NUM))
    scale = {"mean": truth, "square": bound}
    moments = gather(over_keys(sample), jax.random.key(4), scale=scale)
    check_mean(moments["mean"], truth, what="pathwise")
    check_no_noisier(moments["square"], bound, "pathwise")


def test_an_antithetic_score_can_be_noisier_as_documented():
    """Standard normal, f(x) = x: the score's term x² is even, and a pair has twice the variance."""

    def sample(key):
        def gradient(coupling):
            how = ex.ScoreFunction(2, coupling=coupling)
            return jax.grad(lambda m: ex.expect(key, dist.Normal(m, 1.0), lambda x: x, how))(0.0)

        return jnp.stack([(gradient(c) - 1) ** 2 for c in (ex.Independent(), ex.Antithetic())])

    truth = jnp.array([1.0, 2.0])
    moments = gather(over_keys(sample), jax.random.key(5), scale=truth)
    check_mean(moments, truth, scale=truth, what="variance of the score")


# The interface


def test_the_default_is_independent_draws_and_its_random_numbers_are_unchanged():
    q, key = dist.Bernoulli(logits=jnp.array([0.3, -0.8])), jax.random.key(7)
    draws = joint(q).sample(key, 4)
    cost = lambda b: (b - 0.3) ** 2
    for make in (ex.ScoreFunction, ex.LeaveOneOut):
        for how in (make(4), make(4, coupling=ex.Independent())):
            _, seen = ex.expect(key, q, lambda b: (cost(b), b), how, has_aux=True)
            np.testing.assert_array_equal(seen, draws)


REFUSED = {
    "a class": (lambda: ex.ScoreFunction(2, coupling=ex.Antithetic), "is an object"),
    "an odd number": (lambda: ex.ScoreFunction(3, coupling=ex.Antithetic()), "groups of 2"),
    "one draw": (lambda: ex.Pathwise(1, ex.Stratified()), "groups of 2"),
    "one group": (lambda: ex.LeaveOneOut(2, ex.Antithetic()), "other groups"),
    "no whole groups": (lambda: ex.LeaveOneOut(5, ex.Stratified()), "other groups"),
    "too few": (lambda: ex.LeaveOneOut(3, ex.QuasiRandom()), "at least 4"),
    "no size": (lambda: ex.Stratified(0), "group_size=0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_draws_that_cannot_be_coupled_are_refused(name):
    make, reason = REFUSED[name]
    with pytest.raises(ex.InvalidArgumentError, match=reason):
        make()


NO_INVERSE = {
    "gamma": (lambda: dist.Gamma(2.0, 1.0), ex.Pathwise),
    "poisson": (lambda: dist.Poisson(2.0), ex.ScoreFunction),
    "a vector": (lambda: dist.MultivariateNormal(jnp.zeros(2), jnp.eye(2)), ex.ScoreFunction),
}


@pytest.mark.parametrize("name", NO_INVERSE)
def test_a_distribution_without_an_inverse_is_refused(name):
    make, estimator = NO_INVERSE[name]
    cost = lambda x: jnp.sum(x) * 1.0
    with pytest.raises(ex.IncompatibleError, match="inverse transform"):
        ex.expect(jax.random.key(0), make(), cost, estimator(2, coupling=ex.Antithetic()))
    ex.expect(jax.random.key(0), make(), cost, estimator(2))


def test_more_variables_than_direction_numbers_are_refused():
    q = dist.Normal(jnp.zeros(30_000), 1.0).to_event(1)
    with pytest.raises(ex.InvalidArgumentError, match="30000 variables"):
        jax.eval_shape(
            lambda key: ex.expect(
                key, q, lambda x: jnp.sum(x), ex.Pathwise(2, coupling=ex.QuasiRandom())
            ),
            jax.random.key(0),
        )
