"""The Gumbel toolbox against rejection samples, finite differences and identities.

Wrong conditional noise still has the right argmax, so the laws are compared by moments and by the
Kolmogorov–Smirnov distance; the last test plants the two classic mistakes and sees them caught.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from expectax import gumbel
from expectax._numerics import FLOOR

Z = 4.5
POWER = 0.02
LOGITS = np.log([0.1, 0.2, 0.3, 0.4]) + 0.7  # asymmetric, and not normalised
DRAWS = 1_000_000


def gate(mean: np.ndarray, error: np.ndarray, truth: np.ndarray, scale: float | np.ndarray):
    """|mean − truth| ≤ z·SE, and z·SE small enough for that to mean something."""
    mean, error, truth = (np.asarray(x, np.float64) for x in (mean, error, truth))
    assert np.all(Z * error <= POWER * scale), "underpowered"
    assert np.all(np.abs(mean - truth) <= Z * error), (mean, truth, error)


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and its standard error over the first axis."""
    x = np.asarray(x, np.float64)
    return x.mean(axis=0), x.std(axis=0, ddof=1) / np.sqrt(len(x))


# Draws


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniform_draws_stay_inside_the_open_interval_at_both_ends(dtype, monkeypatch):
    with jax.enable_x64(True):
        eps = jnp.finfo(dtype).eps
        ends = jnp.array([0.0, 1.0 - eps], dtype)  # what jax.random.uniform can return at most
        monkeypatch.setattr(jax.random, "uniform", lambda *_: ends)
        u = gumbel.open_uniform(jax.random.key(0), (2,), dtype)
        assert u.dtype == dtype
        assert 0.0 < u[0] < u[1] < 1.0
        assert u[0] == 1.0 - u[1]
        extreme = gumbel.gumbel(jax.random.key(0), (2,), dtype)
        odds = gumbel.logistic(jax.random.key(0), (2,), dtype)
        assert bool(jnp.isfinite(extreme).all())
        assert bool(jnp.isfinite(odds).all())
        assert odds[0] == -odds[1]


@pytest.mark.parametrize(
    ("draw", "law"), [(gumbel.gumbel, stats.gumbel_r), (gumbel.logistic, stats.logistic)]
)
def test_noise_has_its_law(draw, law):
    x = np.asarray(draw(jax.random.key(1), (400_000,)), np.float64)
    assert stats.kstest(x, law.cdf).pvalue > 1e-5
    assert stats.kstest(1.02 * x, law.cdf).pvalue < 1e-5  # the test sees two per cent
    mean, error = moments(x)
    gate(mean, error, law.mean(), law.std())
    square, error = moments(x**2)
    gate(square, error, law.mean() ** 2 + law.var(), square)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_max_trick_has_the_frequencies_of_the_softmax(dtype):
    logits = jnp.array([0.0, -0.75, -jnp.inf, 1.0, 0.0], dtype)
    p = np.asarray(jax.nn.softmax(logits.astype(jnp.float32)), np.float64)
    many = jnp.broadcast_to(logits, (DRAWS, 5))
    index = jax.jit(gumbel.argmax)(jax.random.key(2), many)
    frequency = np.bincount(index, minlength=5) / DRAWS
    assert frequency[2] == 0.0
    gate(frequency, np.sqrt(p * (1 - p) / DRAWS), p, p.max())


def test_many_equal_categories_are_equally_likely_in_every_type():
    # noise of eight bits would have ties, all won by the first categories
    for dtype in (jnp.float32, jnp.bfloat16):
        index = jax.jit(gumbel.argmax)(jax.random.key(3), jnp.zeros((100_000, 200), dtype))
        assert stats.chisquare(np.bincount(index, minlength=200)).pvalue > 1e-5


# Conditional draws against rejection samples


def agreement(drawn: np.ndarray, accepted: np.ndarray) -> bool:
    """Whether two samples, (N, C) and (M, C), agree in mean, second moment and law."""
    for transform in (lambda x: x, np.square):
        (one, error), (two, other) = moments(transform(drawn)), moments(transform(accepted))
        joint = np.hypot(error, other)
        assert np.all(Z * joint <= POWER * np.maximum(np.abs(two), 1.0)), "underpowered"
        if np.any(np.abs(one - two) > Z * joint):
            return False
    pairs = zip(drawn.T[:, :100_000], accepted.T[:, :100_000], strict=True)
    return all(stats.ks_2samp(x, y).pvalue > 1e-6 for x, y in pairs)


@pytest.fixture(scope="module")
def accepted() -> dict[int, np.ndarray]:
    """Perturbed logits sorted by what attained their maximum: the definition."""
    noise = gumbel.gumbel(jax.random.key(4), (4 * DRAWS, 4))
    z = np.asarray(noise + jnp.asarray(LOGITS, jnp.float32))
    winner = z.argmax(axis=-1)
    return {k: z[winner == k] for k in range(4)}


def conditional_draws(key: int, index: int, num: int) -> np.ndarray:
    logits = jnp.broadcast_to(jnp.asarray(LOGITS, jnp.float32), (num, 4))
    return np.asarray(
        jax.jit(gumbel.conditional_gumbel)(jax.random.key(key), logits, jnp.full(num, index))
    )


@pytest.mark.parametrize("index", [0, 3])
def test_conditional_gumbels_have_the_law_of_rejection_samples(index, accepted):
    z = conditional_draws(5, index, 400_000)
    assert np.all(z.argmax(axis=-1) == index)
    assert agreement(z, accepted[index])


@pytest.mark.parametrize("mistake", ["both terms divided", "neither term divided"])
def test_wrong_conditional_gumbels_have_the_right_argmax_and_are_caught(mistake, accepted):
    index, p = 3, np.exp(LOGITS) / np.exp(LOGITS).sum()
    e = np.random.default_rng(0).exponential(size=(400_000, 4))
    first = e[:, index]
    rest = e / p + (first[:, None] / p if mistake == "both terms divided" else first[:, None])
    if mistake == "neither term divided":
        rest = e + first[:, None]
    z = -np.log(np.where(np.arange(4) == index, first[:, None], rest)) + np.log(
        np.exp(LOGITS).sum()
    )
    assert np.all(z.argmax(axis=-1) == index)
    assert not agreement(z, accepted[index])


@pytest.mark.parametrize("theta", [-1.2, 0.0, 0.6])
def test_conditional_logistics_have_the_law_of_rejection_samples(theta):
    every = theta + np.asarray(gumbel.logistic(jax.random.key(6), (4 * DRAWS,)))
    logits = jnp.full(DRAWS, theta)
    for bit in (0, 1):
        z = jax.jit(gumbel.conditional_logistic)(
            jax.random.key(7 + bit), logits, jnp.full(DRAWS, float(bit))
        )
        assert np.all((np.asarray(z) > 0) == bit)
        accepted = every[(every > 0) == bit]
        assert agreement(np.asarray(z)[:, None], accepted[:, None])


def test_conditional_draws_move_with_the_normaliser():
    key, logits = jax.random.key(9), jnp.array([[0.3, -1.0, 2.0]])
    z = gumbel.conditional_gumbel(key, logits, jnp.array([1]))
    moved = gumbel.conditional_gumbel(key, logits + 5.0, jnp.array([1]))
    np.testing.assert_allclose(moved, z + 5.0, rtol=1e-5)


# Derivatives


@pytest.fixture(scope="module")
def exact():
    """Conditional draws, cotangents and their derivatives in double precision."""
    with jax.enable_x64(True):
        logits = jnp.array([[0.0, -0.5, 1.5], [2.0, 0.0, -3.0]])
        index = jnp.array([2, 1])
        key = jax.random.key(10)
        draw = jax.jit(lambda logits: gumbel.conditional_gumbel(key, logits, index))
        cotangent = jnp.array([[0.3, -1.0, 0.7], [-0.2, 2.0, 1.1]])
        z, pull = jax.vjp(draw, logits)
        (derivative,) = pull(cotangent)
        direction = jnp.array([[0.4, 1.0, -0.3], [1.0, -0.6, 0.2]])
        ahead, behind = draw(logits + 1e-5 * direction), draw(logits - 1e-5 * direction)
        _, slope = jax.jvp(draw, (logits,), (direction,))
        residual = gumbel.gumbel_residual(logits, z, cotangent)
        found = {
            "differences": (ahead - behind) / 2e-5,
            "slope": slope,
            "left": cotangent - derivative,
            "residual": residual,
        }
    return {name: np.asarray(x) for name, x in found.items()}


def test_conditional_gumbels_differentiate_through_the_logits_with_noise_held(exact):
    np.testing.assert_allclose(exact["slope"], exact["differences"], rtol=1e-7, atol=1e-9)
    assert np.abs(exact["slope"]).min() > 1e-3  # a dropped derivative would be zero


def test_gumbel_residual_is_the_derivative_left_by_the_coupled_draw(exact):
    # z̃ = z at these uniforms: ∂z/∂θ is the identity, ∂z̃/∂θ is that of conditional_gumbel
    np.testing.assert_allclose(exact["residual"], exact["left"], rtol=1e-10, atol=1e-12)


def test_logistic_residual_and_derivative():
    with jax.enable_x64(True):
        theta = jnp.array([0.0, 0.0, -1.5, 2.0, -4.0, 3.0])
        bit = jnp.array([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
        key, cotangent = jax.random.key(11), jnp.array([1.0, -2.0, 0.5, 3.0, 1.0, -1.0])
        draw = lambda theta: gumbel.conditional_logistic(key, theta, bit)
        z, slope = jax.jvp(draw, (theta,), (jnp.ones(6),))
        differences = (draw(theta + 1e-5) - draw(theta - 1e-5)) / 2e-5
        residual = gumbel.logistic_residual(theta, z, cotangent)
        left = np.asarray(cotangent * (1 - slope))
    np.testing.assert_allclose(slope, differences, rtol=1e-7, atol=1e-10)
    assert np.abs(slope).min() > 1e-3
    np.testing.assert_allclose(residual, left, rtol=1e-10, atol=1e-12)


def test_residuals_are_unbiased():
    """E residual = ∂E[c(z)] − E_b ∂E[c(z̃) | b] = E[c(z) ∂log q(b)/∂θ], by the score identity."""
    weights = jnp.array([3.0, -1.0, 2.0, -4.0])
    one = lambda z: jnp.sum(weights * jax.nn.softmax(z / 0.7)) ** 2 - weights[0] * z[0]

    @jax.jit
    def categorical(logits):
        z = logits + gumbel.gumbel(jax.random.key(12), (DRAWS, 4))
        hard = jax.nn.one_hot(jnp.argmax(z, axis=-1), 4)
        cost, slope = jax.vmap(jax.value_and_grad(one))(z)
        score = hard - jax.nn.softmax(logits)
        return gumbel.gumbel_residual(logits, z, slope), cost[:, None] * score

    @jax.jit
    def binary(theta):
        z = theta + gumbel.logistic(jax.random.key(13), (DRAWS, 3))
        cost = lambda z: (2.0 + jnp.tanh(0.7 * z)) ** 2
        slope = jax.grad(lambda z: jnp.sum(cost(z)))(z)
        return gumbel.logistic_residual(theta, z, slope), cost(z) * (
            (z > 0) - jax.nn.sigmoid(theta)
        )

    compare_residual(*categorical(jnp.asarray(LOGITS, jnp.float32)))
    compare_residual(*binary(jnp.array([-1.2, 0.0, 0.6])))


def compare_residual(residual: jax.Array, wanted: jax.Array):
    scale = float(jnp.max(jnp.abs(jnp.mean(wanted, axis=0))))
    mean, error = moments(np.asarray(residual) - np.asarray(wanted))
    gate(mean, error, np.zeros_like(mean), scale)


# Extremes


@pytest.mark.parametrize("theta", [0.0, 30.0, -30.0, 90.0, -90.0, 1e4, -1e4, np.inf, -np.inf])
def test_conditional_logistics_survive_saturation(theta):
    for bit in (0.0, 1.0):
        logits = jnp.full(1000, theta)
        draw = lambda x, bit=bit: gumbel.conditional_logistic(
            jax.random.key(14), x, jnp.full(1000, bit)
        )
        z, slope = jax.jvp(draw, (logits,), (jnp.ones(1000),))
        residual = gumbel.logistic_residual(logits, z, jnp.ones(1000))
        for x in (z, slope, residual):
            assert bool(jnp.isfinite(x).all())
        assert bool(((z >= 0) if bit else (z <= 0)).all())
        # a bit that was certain has the noise of an unconditional draw
        if bit == (theta > 0) and FLOOR > abs(theta) > 20:
            free = np.asarray(z) - theta
            assert stats.kstest(free, stats.logistic.cdf).pvalue > 1e-5


def test_conditional_gumbels_survive_masks_and_certainty():
    logits = jnp.array([-jnp.inf, 0.0, -200.0, 80.0, -1e4])
    for index in (1, 2, 3):
        draw = lambda x, index=index: gumbel.conditional_gumbel(
            jax.random.key(15), x, jnp.asarray(index)
        )
        z, pull = jax.vjp(draw, logits)
        (derivative,) = pull(jnp.ones(5))
        residual = gumbel.gumbel_residual(logits, z, jnp.ones(5))
        assert int(jnp.argmax(z)) == index
        for x in (z, derivative, residual):
            assert bool(jnp.isfinite(x).all())
        assert derivative[0] == 0.0  # masked


def test_a_hundred_thousand_categories():
    num = 100_000
    logits = 3.0 * jax.random.normal(jax.random.key(16), (num,))
    index = jnp.asarray(12_345)
    z = gumbel.conditional_gumbel(jax.random.key(17), logits, index)
    assert int(jnp.argmax(z)) == 12_345
    assert bool(jnp.isfinite(z).all())
    # the noise of those that did not win is that of a free draw but for a negligible truncation
    others = np.delete(np.asarray(z - logits, np.float64), 12_345)
    assert stats.kstest(others, stats.gumbel_r.cdf).statistic < 0.02
    residual = gumbel.gumbel_residual(logits, z, jnp.ones(num))
    assert bool(jnp.isfinite(residual).all())
    assert abs(float(residual.sum())) < 1e-3


def test_bfloat16_logits_are_computed_in_single_precision():
    logits = jnp.array([0.5, -1.0, 2.0], jnp.bfloat16)
    wide = logits.astype(jnp.float32)
    key = jax.random.key(18)
    z = gumbel.conditional_gumbel(key, logits, jnp.asarray(1))
    assert z.dtype == jnp.float32
    np.testing.assert_array_equal(z, gumbel.conditional_gumbel(key, wide, jnp.asarray(1)))
    z = gumbel.conditional_logistic(key, logits, jnp.ones(3))
    assert z.dtype == jnp.float32
    np.testing.assert_array_equal(z, gumbel.conditional_logistic(key, wide, jnp.ones(3)))
