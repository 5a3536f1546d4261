"""Implicit reparameterisation: `Pathwise` where NumPyro's sampler has no derivative, or a part."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, special

import expectax as ex
from expectax.distributions import Reparameterized, joint
from expectax.distributions._implicit import _von_mises_slope
from expectax.testing import (
    Trial,
    angles,
    check_mean,
    mixtures,
    over_keys,
    run_check,
    stream,
    tails,
)

CHECKS = (
    "value_mean",
    "gradient_mean",
    "cost_parameters",
    "constant_cost",
    "vmap",
    "dtypes",
)
GRADIENT = ("gradient_mean", "constant_cost", "vmap", "dtypes")  # what differs from law to law
PLAN = {
    angles: (*CHECKS, "batch_elements", "key_reuse", "capability", "derivative_order"),
    mixtures: GRADIENT,
    tails: GRADIENT,
}


@functools.lru_cache(maxsize=2)
def trial(make):
    with Trial.precision():
        return Trial(ex.Pathwise(), make())


@pytest.mark.parametrize(
    ("make", "check"),
    [
        pytest.param(
            make, name, id=f"{make().name}-{name}", marks=pytest.mark.xdist_group(make().name)
        )
        for make, names in PLAN.items()
        for name in names
    ],
)
def test_battery(make, check):
    assert run_check(check, trial(make)).outcome == "passed"


def draws_of(q, num=1, key=0):
    (site,) = joint(q).sites
    assert isinstance(site, Reparameterized)
    return site.rsample(jax.random.key(key), num)


def von_mises_truth(d, k):
    """∂d/∂κ by adaptive quadrature of (cos t − A) exp(κ (cos t − cos d)) from d to π."""
    bend = special.ive(1, k) / special.ive(0, k)
    integrand = lambda t: (np.cos(t) - bend) * np.exp(k * (np.cos(t) - np.cos(d)))
    stops = d + (np.pi - d) * np.array([0.0, 0.01, 0.03, 0.1, 0.3, 1.0])
    part = lambda a, b: integrate.quad(integrand, a, b, epsabs=1e-15, epsrel=1e-12, limit=200)[0]
    return sum(map(part, stops[:-1], stops[1:]))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_von_mises_derivative_from_diffuse_to_sharp(dtype):
    concentrations = (1e-3, 0.05, 0.5, 2.0, 8.0, 18.0, 40.0, 150.0, 1e3)
    spread = lambda k: min(1 / np.sqrt(k), 1.3)
    d = np.array([[z * spread(k) for z in (0.01, 0.5, 1.0, 1.5, 2.0, 2.4)] for k in concentrations])
    d = d.astype(dtype)
    k = np.repeat(np.array(concentrations, dtype)[:, None], d.shape[1], axis=1)
    truth = np.vectorize(von_mises_truth)(d.astype(float), k.astype(float))
    with jax.enable_x64(dtype == np.float64):
        slope = jax.jit(_von_mises_slope)
        found, mirrored = (np.asarray(slope(x, k)) for x in (d, -d))
    assert found.dtype == dtype
    scale = np.abs(truth).max(axis=1, keepdims=True)
    assert np.max(np.abs(found - truth) / scale) < (1e-11 if dtype == np.float64 else 1e-6)
    assert np.max(np.abs(mirrored + truth) / scale) < (1e-11 if dtype == np.float64 else 1e-6)


LOG_WEIGHT, LOC, SCALE = (
    np.log([0.3, 0.5, 0.2]),
    np.array([-1.0, 0.5, 2.0]),
    np.array([0.7, 0.4, 1]),
)


def mixture(t):
    """A curve through the parameters of a mixture."""
    weight = LOG_WEIGHT + t * jnp.array([0.5, -0.2, 0.9])
    loc, scale = (
        LOC + t * jnp.array([1.0, -0.3, 0.6]),
        SCALE * jnp.exp(t * jnp.array([0.4, 1, -0.7])),
    )
    return weight, loc, scale


def quantile(t, u):
    """Where the mixture's distribution function is u, by bisection in NumPy."""
    weight, loc, scale = map(np.asarray, mixture(t))
    weight = np.exp(weight) / np.exp(weight).sum()
    low, high = -30.0, 30.0
    for _ in range(200):
        x = (low + high) / 2
        low, high = (x, high) if weight @ special.ndtr((x - loc) / scale) < u else (low, x)
    return x


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("through_scan", [False, True], ids=["plain", "scan"])
def test_a_mixtures_draw_moves_along_its_quantile(through_scan):
    def draw(t, key):
        weight, loc, scale = mixture(t)
        q = dist.MixtureSameFamily(dist.Categorical(logits=weight), dist.Normal(loc, scale))
        return joint(q).sites[0].rsample(key, 1)[0]

    def one(t, key):
        if not through_scan:  # where a parameter is in the carry, JAX forgets custom rules
            return draw(t, key)
        return jax.lax.scan(lambda t, key: (t, draw(t, key)), t, key[None])[1][0]

    first, second = (
        jax.grad(one),
        lambda t, key: jax.jvp(lambda t: jax.grad(one)(t, key), (t,), (1.0,))[1],
    )
    both = jax.jit(
        lambda keys: jax.vmap(lambda k: (one(0.0, k), first(0.0, k), second(0.0, k)))(keys)
    )
    weight = np.exp(LOG_WEIGHT)
    for x, slope, bend in zip(*both(jax.random.split(jax.random.key(2), 6)), strict=True):
        u = weight @ special.ndtr((float(x) - LOC) / SCALE)
        low, mid, high = (quantile(t, u) for t in (-1e-4, 0.0, 1e-4))
        np.testing.assert_allclose(mid, x, atol=1e-12)
        np.testing.assert_allclose(slope, (high - low) / 2e-4, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(bend, (high - 2 * mid + low) / 1e-8, rtol=1e-4, atol=1e-5)


def hazard(low):
    """φ/(1 − Φ): E[x] of a standard normal variable above `low`."""
    return np.exp(-0.5 * low**2 - special.log_ndtr(-low)) / np.sqrt(2 * np.pi)


@pytest.mark.parametrize("low", [-1.0, 6.0, 13.0, 30.0])
@pytest.mark.parametrize("side", [-1, 1])
def test_a_normal_truncated_far_in_a_tail(low, side):
    """In float32, where NumPyro's own sampler leaves the interval; E[x − low] in closed form."""
    near = jnp.asarray(side * low, jnp.float32)
    name = "low" if side == 1 else "high"

    def make(loc, end):
        return dist.TruncatedNormal(loc, 1.0, **{name: end})

    def total(loc, end):
        x = draws_of(make(loc, end), 4000)
        return jnp.sum(x), x

    (by_loc, by_end), x = jax.jit(jax.grad(total, (0, 1), has_aux=True))(jnp.float32(0.0), near)
    assert x.dtype == jnp.float32
    assert bool(jnp.all(side * x >= low))
    # x − loc shifts with the bound: the derivatives in loc and in the bound sum to one
    np.testing.assert_allclose((by_loc + by_end) / 4000, 1.0, rtol=1e-4)
    rate = hazard(low)
    mean, variance = rate - low, 1 + low * rate - rate**2
    assert abs(float(jnp.mean(side * x - low)) - mean) < 4.5 * np.sqrt(variance / 4000)
    # ∂E[x]/∂bound = rate (rate − low) = 1 − variance, with draws of order variance about it
    assert abs(float(by_end) / 4000 - rate * mean) < 0.1 * variance


def test_a_masked_component_gets_no_gradient():
    def loss(probs, loc):
        q = dist.MixtureSameFamily(dist.Categorical(probs=probs), dist.Normal(loc, 1.0))
        return jnp.sum(draws_of(q, 50))

    probs, loc = jnp.array([0.4, 0.0, 0.6]), jnp.array([0.0, 1.0, 2.0])
    by_probs, by_loc = jax.grad(loss, (0, 1))(probs, loc)
    assert by_probs[1] == 0
    assert by_loc[1] == 0
    assert bool(jnp.all(jnp.isfinite(by_probs)))
    assert bool(jnp.all(by_loc[jnp.array([0, 2])] > 0))


def test_the_shapes_under_to_event_and_expand():
    """Two axes of variables beside a batch; every row its own draw."""
    components = dist.Logistic(jnp.zeros((3, 2, 2, 2)), 1.0).to_event(2)
    flat = dist.MixtureSameFamily(dist.Categorical(logits=jnp.zeros(2)), components)
    for q, shape in (
        (dist.VonMises(jnp.zeros(2), 3.0).expand((4, 2)).to_event(1), (4, 2)),
        (dist.TruncatedNormal(0.0, jnp.ones(2), low=1.0).expand((4, 2)).to_event(1), (4, 2)),
        (flat.expand((5, 3)), (5, 3, 2, 2)),
        (flat.to_event(1), (3, 2, 2)),
    ):
        x = draws_of(q, 7)
        assert x.shape == (7, *shape)
        assert len(np.unique(x)) == x.size


REFUSED = {
    "loc, scale": lambda: dist.Levy(0.0, 1.0),
    "concentration": lambda: dist.Wishart(4.0, scale_tril=jnp.eye(2)),
    "only mixtures of independent normal": lambda: dist.MixtureSameFamily(
        dist.Categorical(logits=jnp.zeros(2)), dist.Cauchy(jnp.zeros(2), 1.0)
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_parameter_whose_derivative_is_dropped_is_refused_by_name(why):
    with pytest.raises(ex.IncompatibleError, match=why) as error:
        ex.expect(jax.random.key(0), REFUSED[why](), lambda x: jnp.sum(x), ex.Pathwise())
    assert "ScoreFunction()" in str(error.value)


SQUARE = 0.9 * jnp.eye(2)
ARGUMENTS = {  # where 0.9 would not do
    "high": 2.5,
    "alpha": -1.7,
    "mean": 0.3,
    "quantile": 0.3,
    "correlation": 0.3,
    "cov_factor": jnp.array([[0.3], [0.5]]),
    **dict.fromkeys(("cov_diag", "concentrations"), jnp.array([0.9, 1.3])),
    **dict.fromkeys(("scale_tril", "scale_tril_row", "scale_tril_column"), SQUARE),
}
VECTORS = ("Dirichlet", "LowRankMultivariateNormal", "MultivariateNormal", "MultivariateStudentT")
STRUCTURED = ("CAR", "GaussianCopula", "LKJ", "LKJCholesky", "MatrixNormal", "ZeroSumNormal")


def numpyro_laws():
    """Every continuous law of NumPyro that says it is reparameterised and has plain parameters."""
    for name, kind in vars(dist).items():
        if not inspect.isclass(kind) or not issubclass(kind, dist.Distribution):
            continue
        constraints = getattr(kind, "arg_constraints", None)
        if not isinstance(constraints, dict) or name in (*STRUCTURED, "Delta", "TruncatedNormal"):
            continue
        if not constraints or set(kind.reparametrized_params) != set(constraints):
            continue
        if "Truncated" in name and "PowerLaw" not in name:
            continue  # of another law: above, in `tails` and in `mixtures`
        vector = name in (*VECTORS, "ProjectedNormal")
        default = jnp.array([0.9, 1.3]) if vector else 0.9
        names = set(constraints) - {"covariance_matrix", "precision_matrix"}
        arguments = {**ARGUMENTS, "alpha": 1.7} if name == "Pareto" else ARGUMENTS
        yield name, kind, {n: jnp.asarray(arguments.get(n, default), float) for n in names}


def test_no_law_of_numpyro_drops_a_derivative_that_it_claims():
    seen = []
    for name, kind, params in numpyro_laws():
        total = lambda p, kind=kind: jnp.sum(jnp.sin(0.7 * draws_of(kind(**p), 3)))
        slopes = jax.grad(total)(params)
        for parameter, slope in slopes.items():
            assert bool(jnp.all(jnp.isfinite(slope))), (name, parameter)
            assert bool(jnp.any(slope != 0)), f"{name} drops the derivative in {parameter}"
        seen.append(name)
    assert len(seen) >= 30
    assert {"Gamma", "Beta", "Dirichlet", "StudentT", "Cauchy", "Uniform"} <= set(seen)


@pytest.mark.usefixtures("float64")
def test_gamma_beta_and_dirichlet_through_jaxs_own_implicit_gradients():
    """E x² of a beta and of a Dirichlet variable, α (α + 1)/(α₀ (α₀ + 1)), and E x² of a gamma."""
    params = {
        "beta": jnp.array([0.6, 1.7]),
        "dirichlet": jnp.array([0.4, 1.2, 3.0]),
        "gamma": jnp.array([0.8, 1.5]),
    }
    weights = jnp.array([1.0, -0.6, 0.8])

    def exact(p):
        square = lambda a: a * (a + 1) / (jnp.sum(a) * (jnp.sum(a) + 1))
        (k, r) = p["gamma"]
        dirichlet = jnp.sum(weights * square(p["dirichlet"]))
        return square(p["beta"])[0] + dirichlet + 0.1 * k * (k + 1) / r**2

    def cost(x):
        return x["beta"] ** 2 + jnp.sum(weights * x["dirichlet"] ** 2, -1) + 0.1 * x["gamma"] ** 2

    def loss(p, key):
        q = {
            "beta": dist.Beta(*p["beta"]),
            "dirichlet": dist.Dirichlet(p["dirichlet"]),
            "gamma": dist.Gamma(*p["gamma"]),
        }
        return ex.expect(key, q, cost, ex.Pathwise())

    gradient = over_keys(lambda key, p: jax.grad(loss)(p, key))
    truth = jax.grad(exact)(params)
    check_mean(stream(gradient, jax.random.key(0), 64, params), truth, what="conjugate laws")


def test_a_truncated_normal_can_be_coupled():
    def loss(loc, key):
        q = dist.TruncatedNormal(loc, 1.0, low=0.5)
        return ex.expect(key, q, lambda x: x**2, ex.Pathwise(2, coupling=ex.Antithetic()))

    keys = jax.random.split(jax.random.key(1), 2000)
    slopes = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(0.0, keys)
    # x = loc + z, z > 0.5 − loc: E[x²] = loc² + 2 loc h + 1 + (0.5 − loc) h
    second = lambda loc: 1 + loc**2 + (0.5 + loc) * hazard(0.5 - loc)
    truth = (second(1e-5) - second(-1e-5)) / 2e-5
    assert abs(float(slopes.mean()) - truth) < 4.5 * float(slopes.std()) / np.sqrt(2000)
