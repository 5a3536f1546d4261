"""Every reparameterization of the subject's table: a draw as a differentiable function of θ.

Written out: x = g(ε, θ) from noise ε whose law does not know θ; or, where there is no such g in
closed form, x moved so that its distribution function F(x; θ) stays (`implicit`). And the same laws
as NumPyro has them, through `Pathwise`.

Parameters arrive with an axis of draws in front, so that each draw has a derivative of its own.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import gammainc, gammaln, ndtr, ndtri
from jaxtyping import Array, Float, PRNGKeyArray

import expectax as ex

from . import _reparameterizations_laws as laws
from ._reparameterizations_quadrature import Law

Params = Mapping[str, Float[Array, "N ..."]]
Draw = Callable[[PRNGKeyArray, Params], Float[Array, "N ..."]]
PATHWISE = ex.Pathwise()


@dataclasses.dataclass(frozen=True, eq=False)
class Way:
    """A way to draw from a law, and to differentiate E[f] by its draws.

    Attributes:
        law: of the draws.
        name: in table and picture.
        draw: from a key and parameters (first axis: draws) to draws, where it is written out.
        build: from parameters to NumPyro's distribution, where it is not.
        estimator: of the derivative, with NumPyro's distributions.
        outcome: from NumPyro's draw to one of the law.
        moves: whether the draw moves with the parameters; a step does not.
    """

    law: Law
    name: str
    draw: Draw | None = None
    build: Callable[[Params], dist.Distribution] | None = None
    estimator: ex.AbstractEstimator = PATHWISE
    outcome: Callable[[Array], Array] = lambda x: x
    moves: bool = True


# Noise


def uniform(key: PRNGKeyArray, like: Array) -> Float[Array, "N"]:
    """One uniform for each draw, in the middles of 2²³ cells: never 0 or 1, where logs end."""
    return jax.random.uniform(key, like.shape, like.dtype) + jnp.finfo(like.dtype).eps / 2


def uniforms(key: PRNGKeyArray, like: Array) -> tuple[Array, Array]:
    """Two."""
    first, second = jax.random.split(key)
    return uniform(first, like), uniform(second, like)


# Inverse distribution functions: x = F⁻¹(u)


def exponential(key: PRNGKeyArray, p: Params) -> Array:
    """−ln(u)/λ."""
    return -jnp.log(uniform(key, p["λ"])) / p["λ"]


def cauchy(key: PRNGKeyArray, p: Params) -> Array:
    """μ + γ tan π(u − ½)."""
    return p["μ"] + p["γ"] * jnp.tan(np.pi * (uniform(key, p["μ"]) - 0.5))


def laplace_inverse(key: PRNGKeyArray, p: Params) -> Array:
    """μ − b sgn(v) ln(1 − 2|v|), v = u − ½."""
    v = uniform(key, p["μ"]) - 0.5
    return p["μ"] - p["b"] * jnp.sign(v) * jnp.log1p(-2 * jnp.abs(v))


def truncated(key: PRNGKeyArray, p: Params) -> Array:
    """μ + σ Φ⁻¹((1 − u) Φ(low) + u Φ(high)), with the ends in standard units."""
    low, high = (ndtr((p[end] - p["μ"]) / p["σ"]) for end in ("low", "high"))
    u = uniform(key, p["μ"])
    return p["μ"] + p["σ"] * ndtri((1 - u) * low + u * high)


# Location and scale, polar coordinates, compositions


def laplace_ratio(key: PRNGKeyArray, p: Params) -> Array:
    """μ + b ln(u₁/u₂): the difference of two exponentials."""
    u1, u2 = uniforms(key, p["μ"])
    return p["μ"] + p["b"] * (jnp.log(u1) - jnp.log(u2))


def box_muller(key: PRNGKeyArray, p: Params) -> Array:
    """μ + σ √(−2 ln u₁) cos 2πu₂."""
    u1, u2 = uniforms(key, p["μ"])
    return p["μ"] + p["σ"] * jnp.sqrt(-2 * jnp.log(u1)) * jnp.cos(2 * np.pi * u2)


def cholesky(key: PRNGKeyArray, p: Params) -> Array:
    """μ + Lε, ε standard normal."""
    e = jax.random.normal(key, p["μ"].shape, p["μ"].dtype)
    return p["μ"] + jnp.einsum("nij,nj->ni", triangle(p["L"]), e)


def triangle(entries: Float[Array, "N 3"]) -> Float[Array, "N 2 2"]:
    """The lower triangular matrix with these entries, row by row."""
    a, b, c = jnp.moveaxis(entries, -1, 0)
    return jnp.stack([jnp.stack([a, jnp.zeros_like(a)], -1), jnp.stack([b, c], -1)], -2)


def log_normal(key: PRNGKeyArray, p: Params) -> Array:
    """exp(μ + σε), ε standard normal."""
    return jnp.exp(p["μ"] + p["σ"] * jax.random.normal(key, p["μ"].shape, p["μ"].dtype))


def inverse_gamma(key: PRNGKeyArray, p: Params) -> Array:
    """β/g with g a gamma variable, which JAX moves with its shape α."""
    return p["β"] / jax.random.gamma(key, p["α"])


def beta(key: PRNGKeyArray, p: Params) -> Array:
    """g₁/(g₁ + g₂), gamma variables of shapes α and β."""
    g = jax.random.gamma(key, jnp.stack([p["α"], p["β"]]))
    return g[0] / (g[0] + g[1])


def dirichlet(key: PRNGKeyArray, p: Params) -> Array:
    """g/Σg, gamma variables of shapes α."""
    g = jax.random.gamma(key, p["α"])
    return g / jnp.sum(g, axis=-1, keepdims=True)


def rademacher(key: PRNGKeyArray, p: Params) -> Array:
    """2·1[u < p] − 1: a step, whose slope is 0 wherever it has one."""
    return 2.0 * (uniform(key, p["p"]) < p["p"]) - 1.0


# Implicit: F(x; θ) stays


def implicit(x: Array, cdf: Callable[..., Array], density: Array, *params: Array) -> Array:
    """x, with ∂x/∂θ = −(∂F/∂θ)(x; θ)/p(x; θ), whatever sampler made x."""
    x, density = jax.lax.stop_gradient((x, density))
    rise = cdf(x, *params)
    return x - (rise - jax.lax.stop_gradient(rise)) / density


def gamma(key: PRNGKeyArray, p: Params) -> Array:
    """F = P(α, g) for g = βx, which JAX can differentiate in α."""
    a = jax.lax.stop_gradient(p["α"])
    g = jnp.maximum(jax.random.gamma(key, a), jnp.finfo(a.dtype).tiny)
    density = jnp.exp((a - 1) * jnp.log(g) - g - gammaln(a))
    return implicit(g, lambda g, a: gammainc(a, g), density, p["α"]) / p["β"]


def mixture(key: PRNGKeyArray, p: Params) -> Array:
    """F = Σ wₖ Φ((x − μₖ)/σₖ)."""
    which, noise = jax.random.split(key)
    held = jax.lax.stop_gradient(p)
    k = jax.random.categorical(which, held["w"])[:, None]
    loc, scale = (jnp.take_along_axis(held[name], k, axis=-1)[:, 0] for name in ("μ", "σ"))
    x = loc + scale * jax.random.normal(noise, loc.shape, loc.dtype)

    def cdf(x: Array, w: Array, loc: Array, scale: Array) -> Array:
        return jnp.sum(jax.nn.softmax(w) * ndtr((x[:, None] - loc) / scale), axis=-1)

    z = (x[:, None] - held["μ"]) / held["σ"]
    parts = jax.nn.softmax(held["w"]) * jnp.exp(-0.5 * z**2) / held["σ"]
    density = jnp.sum(parts, axis=-1) / math.sqrt(2 * math.pi)
    return implicit(x, cdf, density, p["w"], p["μ"], p["σ"])


def student(key: PRNGKeyArray, p: Params) -> Array:
    """F by quadrature: JAX's incomplete beta function has no derivative in its shapes.

    With t = √ν tan a the density is proportional to cosᵛ⁻¹ a: F = ½ + C(ν) ∫₀^{a(t)} cosᵛ⁻¹, by
    Gauss–Legendre.
    """
    nu = jax.lax.stop_gradient(p["ν"])
    t = jax.random.t(key, nu, nu.shape, nu.dtype)
    nodes, weights = (jnp.asarray(x / 2, nu.dtype) for x in np.polynomial.legendre.leggauss(24))
    log_c = lambda nu: gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * math.log(math.pi)

    def cdf(t: Array, nu: Array) -> Array:
        end = jnp.arctan(t / jnp.sqrt(nu))
        bends = jnp.cos(end[:, None] * (nodes + 0.5)) ** (nu[:, None] - 1)
        return 0.5 + jnp.exp(log_c(nu)) * end * (bends @ weights)

    log_density = log_c(nu) - 0.5 * jnp.log(nu) - (nu + 1) / 2 * jnp.log1p(t**2 / nu)
    return p["μ"] + p["σ"] * implicit(t, cdf, jnp.exp(log_density), p["ν"])


def _mixture_of(p: Params) -> dist.Distribution:
    weights: Any = dist.Categorical(logits=p["w"])
    return dist.MixtureSameFamily(weights, dist.Normal(p["μ"], p["σ"]))


def _numpyro(law: Law, name: str, build: Callable[[Params], dist.Distribution]) -> Way:
    return Way(law, f"Pathwise, {name}", build=build)


WAYS = (
    Way(laws.EXPONENTIAL, "inverse CDF: −ln(u)/λ", exponential),
    _numpyro(laws.EXPONENTIAL, "Exponential", lambda p: dist.Exponential(p["λ"])),
    Way(laws.CAUCHY, "inverse CDF: μ + γ tan π(u − ½)", cauchy),
    _numpyro(laws.CAUCHY, "Cauchy", lambda p: dist.Cauchy(p["μ"], p["γ"])),
    Way(laws.LAPLACE, "inverse CDF: μ − b sgn(v) ln(1 − 2 abs v), v = u − ½", laplace_inverse),
    Way(laws.LAPLACE, "two uniforms: μ + b ln(u₁/u₂)", laplace_ratio),
    _numpyro(laws.LAPLACE, "Laplace", lambda p: dist.Laplace(p["μ"], p["b"])),
    Way(laws.GAUSSIAN, "Box–Muller: μ + σ √(−2 ln u₁) cos 2πu₂", box_muller),
    _numpyro(laws.GAUSSIAN, "Normal", lambda p: dist.Normal(p["μ"], p["σ"])),
    Way(laws.PAIR, "Cholesky factor: μ + Lε", cholesky),
    _numpyro(
        laws.PAIR,
        "MultivariateNormal",
        lambda p: dist.MultivariateNormal(p["μ"], scale_tril=triangle(p["L"])),
    ),
    Way(laws.LOG_NORMAL, "composition: exp(μ + σε)", log_normal),
    _numpyro(laws.LOG_NORMAL, "LogNormal", lambda p: dist.LogNormal(p["μ"], p["σ"])),
    Way(laws.INVERSE_GAMMA, "composition: β/g, g gamma", inverse_gamma),
    _numpyro(laws.INVERSE_GAMMA, "InverseGamma", lambda p: dist.InverseGamma(p["α"], p["β"])),
    Way(laws.RADEMACHER, "a step: 2·1[u < p] − 1", rademacher, moves=False),
    Way(
        laws.RADEMACHER,
        "ScoreFunction, Bernoulli",
        build=lambda p: dist.Bernoulli(probs=p["p"]),
        estimator=ex.ScoreFunction(),
        outcome=lambda b: 2 * b - 1,
    ),
    Way(laws.GAMMA, "implicit: F = P(α, βx)", gamma),
    _numpyro(laws.GAMMA, "Gamma", lambda p: dist.Gamma(p["α"], p["β"])),
    Way(laws.BETA, "composition: g₁/(g₁ + g₂), g gamma", beta),
    _numpyro(laws.BETA, "Beta", lambda p: dist.Beta(p["α"], p["β"])),
    Way(laws.DIRICHLET, "composition: g/Σg, g gamma", dirichlet),
    _numpyro(laws.DIRICHLET, "Dirichlet", lambda p: dist.Dirichlet(p["α"])),
    _numpyro(laws.VON_MISES, "VonMises", lambda p: dist.VonMises(p["μ"], p["κ"])),
    Way(laws.MIXTURE, "implicit: F = Σ wₖ Φ((x − μₖ)/σₖ)", mixture),
    _numpyro(laws.MIXTURE, "MixtureSameFamily", _mixture_of),
    Way(laws.TRUNCATED, "inverse CDF: μ + σ Φ⁻¹(between Φ(low), Φ(high))", truncated),
    _numpyro(
        laws.TRUNCATED,
        "TruncatedNormal",
        lambda p: dist.TruncatedNormal(p["μ"], p["σ"], low=p["low"], high=p["high"]),
    ),
    Way(laws.STUDENT, "implicit: F by quadrature", student),
    _numpyro(laws.STUDENT, "StudentT", lambda p: dist.StudentT(p["ν"], p["μ"], p["σ"])),
)
"""Every row of the table; those of a law stand together."""


def sample(way: Way, key: PRNGKeyArray, num: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws, f at them, and the derivative that each draw gives.

    Arguments:
        way: to draw.
        key: consumed.
        num: N.

    Returns:
        Draws (N, …); costs (N,); derivatives (N, P), in the order of the law's entries.
    """
    spread = lambda v: jnp.broadcast_to(jnp.asarray(v, jnp.float32), (num, *v.shape))
    given = jax.tree.map(spread, dict(way.law.params))

    def total(params: Params, key: PRNGKeyArray) -> tuple[Array, tuple[Array, Array]]:
        if way.draw is not None:
            x = way.draw(key, params)
            costs = way.law.cost(x, jnp)
        else:
            costs, x = estimate(way, key, params, way.estimator)
        return jnp.sum(costs), (x, costs)

    slopes, (x, costs) = jax.jit(jax.grad(total, has_aux=True))(given, key)
    columns = [np.reshape(slopes[name], (num, -1)) for name in way.law.params]
    x, costs, slopes = (np.asarray(a, np.float64) for a in (x, costs, np.hstack(columns)))
    return x, costs, slopes


def estimate(
    way: Way, key: PRNGKeyArray, params: Params, estimator: ex.AbstractEstimator
) -> tuple[Float[Array, "*batch"], Array]:
    """E[f] of NumPyro's distribution by an estimator, and the first draw."""
    assert way.build is not None

    def f(draw: Array) -> tuple[Array, Array]:
        x = way.outcome(draw)
        return way.law.cost(x, jnp), x

    costs, x = ex.expect(key, way.build(params), f, estimator, has_aux=True)
    return costs, x[0]


def enumerated(way: Way) -> float:
    """∂E[f]/∂θ of a law with one parameter, both outcomes of its bit summed."""
    ((name, value),) = way.law.params.items()
    loss = lambda v: estimate(way, jax.random.key(0), {name: v}, ex.Enumerate())[0]
    return float(jax.grad(loss)(jnp.float32(value)))


def refused(way: Way) -> bool:
    """Whether `Pathwise` refuses NumPyro's distribution."""
    params = {name: jnp.asarray(v, jnp.float32) for name, v in way.law.params.items()}
    try:
        estimate(way, jax.random.key(0), params, ex.Pathwise())
    except ex.IncompatibleError:
        return True
    return False
