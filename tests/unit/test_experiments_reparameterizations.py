"""Reparameterizations: the quadrature against SciPy's laws, the gates, a small run, impostors."""

import dataclasses
import io
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich.console
import scipy.stats

from expectax.lab.experiments import (
    _reparameterizations_draws as draws,
    _reparameterizations_laws as laws,
    _reparameterizations_plot as plot,
    reparameterizations,
)
from expectax.lab.experiments._reparameterizations_quadrature import Law, kolmogorov
from expectax.testing._gates import Gate
from expectax.testing._moments import moments_of

PNG = b"\x89PNG\r\n\x1a\n"
SMALL = reparameterizations.Settings(num_draws=2**15, power=0.15)

TWINS = {
    "Exponential": scipy.stats.expon(0, 1 / 1.3),
    "Cauchy": scipy.stats.cauchy(-0.4, 0.8),
    "Laplace": scipy.stats.laplace(1.1, 0.7),
    "Gaussian": scipy.stats.norm(-0.6, 1.2),
    "Log-normal": scipy.stats.lognorm(0.5, 0, math.exp(0.2)),
    "Inverse gamma": scipy.stats.invgamma(10, 0, 11),
    "Gamma": scipy.stats.gamma(0.7, 0, 2),
    "Beta": scipy.stats.beta(0.8, 2.5),
    "Truncated Gaussian": scipy.stats.truncnorm(-1 / 0.9, 1, -0.2, 0.9),
    "Student-t": scipy.stats.t(3.5, -0.3, 0.9),
}
LAWS = {law.name: law for law in vars(laws).values() if isinstance(law, Law)}


def way(name: str) -> draws.Way:
    return next(w for w in draws.WAYS if w.name.startswith(name))


@pytest.mark.parametrize("name", TWINS)
def test_the_quadrature_beside_scipys_laws(name: str):
    law, twin = LAWS[name], TWINS[name]
    x = twin.ppf(np.linspace(0.001, 0.999, 999))
    np.testing.assert_allclose(law.density(x, law.params), twin.pdf(x), rtol=1e-9)
    np.testing.assert_allclose(law.cdf(x), twin.cdf(x), atol=3e-5)
    cost = lambda x: np.log1p((x - 0.5) ** 2)
    # in two parts: SciPy's adaptive rule has to be told where the law is
    value = twin.expect(cost, ub=0.5) + twin.expect(cost, lb=0.5)
    assert law.value(law.params) == pytest.approx(value, abs=1e-6)
    if law.moments > 0:
        assert law.mean == pytest.approx(twin.mean(), abs=1e-10)
    if law.moments > 1:
        assert law.variance == pytest.approx(twin.var(), rel=1e-10)


@pytest.mark.parametrize("name", LAWS)
def test_every_density_has_mass_one_and_the_marginals_it_names(name: str):
    law = LAWS[name]
    assert law.expectation(lambda x: np.ones(len(x)), law.params) == pytest.approx(1, abs=1e-9)
    for marginal in law.marginals:
        if law.moments and name != "Von Mises":  # the mean of angles depends on the cut
            mean = law.expectation(marginal.of, law.params)
            square = law.expectation(lambda x, of=marginal.of: of(x) ** 2, law.params)
            assert marginal.law.mean == pytest.approx(mean, abs=1e-8)
            if law.moments > 1:
                assert marginal.law.variance == pytest.approx(square - mean**2, abs=1e-8)


def test_the_differences_beside_derivatives_in_closed_form():
    mu, gamma = -0.4 - 0.5, 1.8  # E log(1 + (x − ½)²) = log((1 + γ)² + (μ − ½)²)
    size = gamma**2 + mu**2
    np.testing.assert_allclose(laws.CAUCHY.gradient, [2 * mu / size, 2 * gamma / size], rtol=1e-9)
    np.testing.assert_allclose(laws.RADEMACHER.gradient, [math.log(1.25 / 3.25)], rtol=1e-9)
    moved = dataclasses.replace(laws.STUDENT, cost=lambda x, xp: xp.cos(x - 0.2))
    # ∫ f ∂p/∂ν, with SciPy's density
    x, weight = laws.STUDENT.grid(laws.STUDENT.params)
    p = lambda nu: scipy.stats.t(nu, -0.3, 0.9).pdf(x)
    slope = np.sum(weight * np.cos(x - 0.2) * (p(3.5 + 1e-4) - p(3.5 - 1e-4)) / 2e-4)
    assert moved.gradient[0] == pytest.approx(slope, abs=1e-8)


@pytest.mark.parametrize("size", [0.2, 0.4, 0.8, 1.3, 2.5])
def test_the_law_of_the_distance(size: float):
    n = 100_000
    exact = scipy.stats.kstwo(n).sf(size / math.sqrt(n))
    assert kolmogorov(size / math.sqrt(n), n) == pytest.approx(exact, rel=0.02)


def test_the_gates_are_those_of_the_suite():
    gate = Gate()
    assert pytest.approx(gate.z, abs=5e-3) == reparameterizations.Z
    assert reparameterizations.FULL.power == gate.power
    values = np.random.default_rng(0).exponential(size=5_000) ** 2
    theirs = gate.allowance(moments_of(jnp.asarray(values)), 0.0)
    ours = reparameterizations.allowance(values)
    assert ours == pytest.approx(float(theirs), rel=2e-3)

    judge = lambda truth, scale: reparameterizations.agrees(
        values, truth, scale, reparameterizations.FULL
    )[1]
    mean = float(values.mean())
    assert judge(mean + 0.9 * ours, 60 * ours).holds
    assert "DISAGREES" in judge(mean + 1.1 * ours, 60 * ours).text
    assert "underpowered" in judge(mean, 40 * ours).text
    assert (
        "underpowered"
        in reparameterizations.follows(0.001, 10_000, reparameterizations.FULL)[2].text
    )
    *_, allowed, verdict = reparameterizations.follows(0.001, 10**6, reparameterizations.FULL)
    assert verdict.holds
    for factor, holds in ((0.99, True), (1.01, False)):
        found = reparameterizations.follows(factor * allowed, 10**6, reparameterizations.FULL)[2]
        assert found.holds is holds


def test_reparameterizations_in_small(tmp_path):
    """Every way that is written out, but for two compositions of gammas like the third."""
    skipped = ("composition: g₁", "composition: g/Σg")
    kept = [w for w in draws.WAYS if w.draw is not None and not w.name.startswith(skipped)]
    kept += [way("ScoreFunction"), way("Pathwise, VonMises")]
    out = rich.console.Console(record=True, width=160, file=io.StringIO())
    table = reparameterizations.run(tmp_path, SMALL, out, kept)
    assert [row for row in table if row.verdict.holds is not True] == []
    assert {row.group for row in table} == {"all rows", *(w.law.name for w in kept)}
    assert len(table) == 100
    (step,) = (row for row in table if row.published == "0 (a step)")
    assert "Pathwise refuses" in step.verdict.text
    assert (tmp_path / "reparameterizations.png").read_bytes().startswith(PNG)
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results["rows"]) == len(table)
    text = out.export_text()
    assert "∂E[f]/∂λ" in text  # square brackets are not markup
    assert "100 of 100" in text


def without_two(key, p):
    """Box–Muller as it is often written down: no 2 under the root."""
    return p["μ"] + (draws.box_muller(key, p) - p["μ"]) / math.sqrt(2)


def held(symbol: str, draw: draws.Draw) -> draws.Draw:
    return lambda key, p: draw(key, {**p, symbol: jax.lax.stop_gradient(p[symbol])})


@pytest.mark.parametrize(
    ("name", "wrong", "caught"),
    [
        ("Box–Muller", without_two, {"KS distance, x", "variance, x", "E[f]", "∂E[f]/∂σ"}),
        ("implicit: F by", held("ν", draws.student), {"∂E[f]/∂ν"}),
        ("implicit: F = P", held("α", draws.gamma), {"∂E[f]/∂α"}),
        ("implicit: F = Σ", held("w", draws.mixture), {"∂E[f]/∂w₁", "∂E[f]/∂w₂"}),
    ],
    ids=["no 2", "degrees of freedom", "shape", "weights"],
)
def test_an_impostor_is_caught(name: str, wrong: draws.Draw, caught: set[str]):
    impostor = dataclasses.replace(way(name), draw=wrong)
    found = reparameterizations.measure(impostor, SMALL, 0).findings
    failed = {f.row.quantity for f in found if not f.row.verdict.holds}
    assert caught <= failed <= caught | {"∂E[f]/∂μ"}
    assert all("DISAGREES" in f.row.verdict.text for f in found if not f.row.verdict.holds)
    assert not reparameterizations.rows(found)[0].verdict.holds


def test_a_step_with_a_slope_is_no_step():
    step = way("a step")
    verdicts = [
        [f.row.verdict.holds for f in reparameterizations._of_a_step(step, np.full((9, 1), slope))]
        for slope in (0.0, 1e-6)
    ]
    assert verdicts == [[True, True], [False, True]]


def test_the_picture_counts_all_draws():
    """Those outside its range too, so that a missing tail shows as a lower histogram."""
    numbers = np.concatenate([np.full(500, 0.2), np.full(500, 1e6)])
    found = plot.histogram(laws.EXPONENTIAL.marginals[0], numbers)
    assert np.sum(found.height * np.diff(found.edges)) == pytest.approx(0.5)
