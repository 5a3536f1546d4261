"""Two hundred bits, temperature, control variates: closed forms, and a small run of each."""

import dataclasses
import io
import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import rich.console

import expectax as ex
from expectax.lab.experiments import (
    _control_variates_curves as reduction,
    _temperature_theory as theory,
    _two_hundred_bits_runs as two_hundred,
    control_variates,
    temperature,
    two_hundred_bits,
)
from expectax.lab.experiments._verdicts import Published

PNG = b"\x89PNG\r\n\x1a\n"


def console() -> rich.console.Console:
    return rich.console.Console(record=True, width=120, file=io.StringIO())


# double control variate


def test_without_its_scale_the_double_control_variate_is_leave_one_out():
    logits = jnp.array([0.3, -1.0, 0.0])

    def gradients(estimator):
        q = lambda logits: dist.Bernoulli(logits=logits).to_event(1)
        loss = lambda logits, key: ex.expect(
            key, q(logits), lambda b: jnp.sum(b, -1) ** 2, estimator
        )
        keys = jax.random.split(jax.random.key(0), 8)
        return jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(logits, keys)

    plain = gradients(ex.LeaveOneOut(3))
    np.testing.assert_allclose(
        gradients(ex.DoubleControlVariate(3, scale=0.0)), plain, rtol=1e-5, atol=1e-6
    )
    with_scale = gradients(ex.DoubleControlVariate(3, scale=0.5))
    assert float(jnp.max(jnp.abs(with_scale - plain))) > 0.1


# two hundred bits

P = np.array([0.5, 0.83, 0.31])
ALPHA = 0.37


def contender(name: str) -> two_hundred.Contender:
    return next(c for c in two_hundred.CONTENDERS if c.name == name)


def f(b: np.ndarray) -> float:
    return float(np.mean((b - two_hundred.TARGET) ** 2))


def slope(b: np.ndarray) -> np.ndarray:
    return 2 * (b - two_hundred.TARGET) / len(b)


def outcomes():
    """Every draw of three bits, with its probability."""
    for bits in itertools.product((0.0, 1.0), repeat=3):
        b = np.array(bits)
        yield b, float(np.prod(np.where(b == 1, P, 1 - P)))


def score_draws():
    for b, chance in outcomes():
        yield f(b) * (b - P), chance


def muprop_draws():
    for b, chance in outcomes():
        signal = f(b) - f(P) - slope(P) @ (b - P)
        yield signal * (b - P) + P * (1 - P) * slope(P), chance


def two_draws(alpha: float):
    for (a, first), (b, second) in itertools.product(outcomes(), repeat=2):
        one = f(a) - alpha * slope(b) @ (a - P)
        two = f(b) - alpha * slope(a) @ (b - P)
        back = alpha * P * (1 - P) * (slope(a) + slope(b)) / 2
        yield (one - two) * (a - b) / 2 + back, first * second


def antithetic_draws():
    u_pieces = []  # where u falls decides both bits
    for p in P:
        m = max(p, 1 - p)
        same = 1.0 if p > 0.5 else 0.0
        u_pieces.append([(1.0, 0.0, 1 - m), (0.0, 1.0, 1 - m), (same, same, 2 * m - 1)])
    for pieces in itertools.product(*u_pieces):
        a, b, chance = (np.array(x) for x in zip(*pieces, strict=True))
        yield 0.5 * (f(a) - f(b)) * (a - b) * np.maximum(P, 1 - P), float(np.prod(chance))


@pytest.mark.parametrize(
    ("name", "draws", "halved"),
    [
        ("ScoreFunction(2)", score_draws, True),
        ("MuProp, two draws", muprop_draws, True),
        ("LeaveOneOut(2)", lambda: two_draws(0.0), False),
        ("DisARM", antithetic_draws, False),
        ("DoubleControlVariate(2)", lambda: two_draws(ALPHA), False),
    ],
)
def test_the_variances_of_many_bits_by_enumeration(name, draws, halved):
    every, chances = (np.array(x) for x in zip(*draws(), strict=True))
    mean = chances @ every
    np.testing.assert_allclose(mean, two_hundred.DELTA * P * (1 - P) / 3, atol=1e-15)
    variance = chances @ (every - mean) ** 2 / (2 if halved else 1)
    closed = contender(name).variance(P, np.asarray(ALPHA))
    np.testing.assert_allclose(closed, variance, rtol=1e-9)


@pytest.mark.parametrize("optimizer", two_hundred.OPTIMIZERS, ids=lambda o: str(o.decay))
def test_the_step_of_rmsprop(optimizer):
    rules = two_hundred._rules(optimizer.decay, optimizer.epsilon, learns=True)
    learned = (jnp.zeros(2), ex.DoubleControlVariate(2, scale=0.0))
    gradient = (jnp.array([1e-7, -3.0]), ex.DoubleControlVariate(2, scale=4e-6))
    updates, _ = rules.update(gradient, rules.init(learned), learned)
    step = lambda g: g / (math.sqrt((1 - optimizer.decay) * g**2) + optimizer.epsilon)
    np.testing.assert_allclose(updates[0], [-0.01 * step(1e-7), -0.01 * step(-3.0)], rtol=1e-5)
    # of the mean of g² over the bits, not of the sum
    np.testing.assert_allclose(updates[1].scale, -5e-4 * step(4e-6 / 200), rtol=1e-5)


def test_near_has_three_answers():
    published = Published(".25054")
    seeds = lambda mean, spread: mean + spread * np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    assert two_hundred_bits.near(seeds(0.250565, 1e-6), published).holds
    assert "DISAGREES" in two_hundred_bits.near(seeds(0.250575, 1e-6), published).text
    assert "underpowered" in two_hundred_bits.near(seeds(0.25054, 1e-4), published).text


def test_two_hundred_bits_in_small_and_an_impostor(tmp_path):
    """The plain score function under the name, and so beside the figures, of leave-one-out."""
    settings = dataclasses.replace(two_hundred.QUICK, num_chunks=20)
    names = ("exact gradient", "LeaveOneOut(2)", "DoubleControlVariate(2)")
    chosen = [contender(name) for name in names]
    table = two_hundred_bits.run(tmp_path, settings, console(), chosen)
    judged = [row for row in table if row.verdict.holds is not None]
    assert [row for row in judged if not row.verdict.holds] == []
    assert [sum(row.name == name for row in judged) for name in names] == [1, 3, 3]
    assert (tmp_path / "two-hundred-bits.png").read_bytes().startswith(PNG)
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results["rows"]) == len(table)

    impostor = dataclasses.replace(chosen[1], build=lambda: ex.ScoreFunction(2))
    runs = {impostor: two_hundred.simulate(impostor, settings)}
    verdicts = [row.verdict.holds for row in two_hundred_bits.rows(runs, settings)]
    assert verdicts == [False, None, False, False]


# temperature


@pytest.mark.parametrize("tau", [0.1, 0.9, 4.0])
def test_the_quadrature_over_gumbel_noise(tau: float):
    y, hard, mass = theory.quadrature(tau)
    assert mass.sum() == pytest.approx(1, abs=1e-10)
    np.testing.assert_allclose(mass @ hard, theory.PROBABILITIES, atol=1e-10)  # the max-trick
    assert np.array_equal(y.argmax(axis=1), hard.argmax(axis=1))


def test_the_moments_of_relaxed_gradients_by_another_quadrature():
    """Gauss–Legendre over the uniforms behind three independent Gumbels."""
    tau = 1.0
    x, weight = np.polynomial.legendre.leggauss(80)
    u, weight = (x + 1) / 2, weight / 2
    noise = np.stack(np.meshgrid(*[-np.log(-np.log(u))] * 3, indexing="ij"), axis=-1)
    z = (np.log(theory.PROBABILITIES) + noise.reshape(-1, 3)) / tau
    y = np.exp(z - z.max(axis=1, keepdims=True))
    y = y / y.sum(axis=1, keepdims=True)
    mass = np.einsum("i,j,k->ijk", weight, weight, weight).ravel()
    hard = np.eye(3)[y.argmax(axis=1)]
    # the hard draw jumps inside this grid, which costs it digits
    for gradient, tolerance in (
        (theory.relaxed_gradient, 1e-4),
        (theory.straight_through_gradient, 1e-2),
    ):
        g = gradient(y, hard, tau)
        mean, variance = theory.moments(gradient, tau)
        np.testing.assert_allclose(mass @ g, mean, atol=tolerance)
        np.testing.assert_allclose(mass @ g**2 - mean**2, variance, atol=tolerance)


def test_what_cold_does_to_the_bias():
    exact = theory.exact_gradient()
    size = np.linalg.norm(exact)
    off = lambda g, tau: np.linalg.norm(theory.moments(g, tau)[0] - exact) / size
    relaxed = [off(theory.relaxed_gradient, tau) for tau in (0.2, 0.1, 0.05)]
    assert relaxed[0] > 2 * relaxed[1] > 4 * relaxed[2]
    assert off(theory.straight_through_gradient, 0.05) > 1  # a cubic cost: it stays
    loss = lambda logits: temperature.cost(logits, ex.Enumerate(), jax.random.key(0))[0]
    np.testing.assert_allclose(jax.grad(loss)(temperature._logits()), exact, atol=1e-6)
    for num in (1, 2):
        np.testing.assert_allclose(theory.score_moments(num)[0], exact, atol=1e-15)


def test_temperature_in_small_and_an_impostor(tmp_path):
    small = dataclasses.replace(
        temperature.QUICK, temperatures=(0.5, 2.0), shown=(0.5, 2.0), num_draws=40_000
    )
    table = temperature.run(tmp_path, small, console())
    assert len(table) == 16
    assert [row for row in table if row.verdict.holds is not True] == []
    assert (tmp_path / "temperature.png").read_bytes().startswith(PNG)

    relaxed, straight, *_ = temperature.CONTENDERS
    impostor = dataclasses.replace(relaxed, build=straight.build)
    points = temperature.relaxed_draws(small, 1_000)
    wrong = temperature.rows({impostor: temperature.measure(impostor, small)}, points, small)
    assert [row.verdict.holds for row in wrong if row.name == "GumbelSoftmax"] == [False] * 4


# control variates


def curve(panel: str, name: str) -> reduction.Curve:
    return next(c for c in reduction.CURVES if (c.panel, c.name) == (panel, name))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_variance_of_strata_by_integration(n: int):
    x, weight = np.polynomial.legendre.leggauss(8)
    v, weight = (x + 1) / 2, weight / 2
    u = (np.arange(n)[:, None] + v) / n
    spread = lambda values: (weight * (values - values @ weight) ** 2).sum()
    stratified = sum(spread(each**2) for each in u) / n**2
    systematic = spread(np.mean(u**2, axis=0))
    plain = (1 / 5 - 1 / 9) / n
    for name, variance in (("stratified", stratified), ("systematic", systematic)):
        c = curve(reduction.STRATA, name)
        assert c.plain(n) == pytest.approx(plain)
        assert c.ratio(n) == pytest.approx(variance / plain)


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_the_coefficient_of_the_regression_by_plain_loops(leave_one_out: bool):
    f, h = np.random.default_rng(0).normal(size=(2, 4))
    total = 0.0
    for i in range(4):
        kept = [j for j in range(4) if not leave_one_out or j != i]
        covariance = np.cov(f[kept], h[kept])
        total += f[i] - covariance[0, 1] / covariance[1, 1] * h[i]
    found = reduction.regression(f[None], h[None], leave_one_out)
    np.testing.assert_allclose(found, [total / 4])


def test_summing_out_the_only_bit_leaves_no_variance():
    mean, score, summed = reduction.bit_variances(1)
    p = 1 / (1 + math.exp(1.0))
    step = (1 - reduction.LEVEL) ** 2 - reduction.LEVEL**2
    np.testing.assert_allclose(mean, [p * (1 - p) * step])
    assert score > 0.001
    assert summed < 1e-30


def test_control_variates_quick(tmp_path):
    table = control_variates.run(tmp_path, control_variates.QUICK, console())
    judged = [row for row in table if row.verdict.holds is not None]
    assert len(judged) == 30
    assert [row for row in judged if not row.verdict.holds] == []
    assert (tmp_path / "control-variates.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("panel", "name", "impostor"),
    [
        (reduction.PAIR, "regression, c* = ρ", "difference, c = 1"),
        (reduction.SAME, "the other draws", "the same draws"),
        (reduction.ANTITHETIC, "exp(aZ)", "(aZ)²"),
        (reduction.STRATA, "stratified", "systematic"),
        (reduction.COMMON, "g = z²", "g a step at 0"),
    ],
    ids=["pair", "same draws", "antithetic", "strata", "common"],
)
def test_control_variates_catch_an_impostor(panel: str, name: str, impostor: str):
    wrong = dataclasses.replace(curve(panel, name), draw=curve(panel, impostor).draw)
    table = control_variates.rows(wrong, control_variates.measure(wrong, control_variates.QUICK))
    judged = [row.verdict.holds for row in table if row.verdict.holds is not None]
    assert judged == [False, False]
