"""Continuous problems whose pathwise derivative is implicit, or partly so.

Each `exact` is a quadrature in the plain density, differentiable in the parameters; each
`reference` is a closed form, or SciPy's own laws under its adaptive quadrature.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import gammaln
from jaxtyping import Array

from ._problems import Params, Problem, outer_weights


@functools.cache
def angles() -> Problem:
    """Von Mises angles, from all but uniform to sharp; one sits where −π and π meet."""
    params = {
        "q": {
            "loc": np.array([0.4, -2.0, 3.0, 1.1]),
            "concentration": np.array([2.0, 0.01, 9.0, 60.0]),
        },
        "f": {"offset": np.array([0.3, -0.2, 0.5, 0.1]), "curve": np.array([0.9, -0.6])},
    }

    def cost(f, x):
        return f["offset"] + f["curve"][0] * jnp.sin(x) + f["curve"][1] * jnp.cos(2 * x - 1)

    circle = 2 * np.pi * np.arange(400) / 400

    def exact(params: Params) -> Array:
        q = params["q"]
        x = circle[:, None] + q["loc"]
        mass = jax.nn.softmax(q["concentration"] * jnp.cos(circle[:, None]), axis=0)
        return jnp.sum(mass * cost(params["f"], x), axis=0)

    def reference(params: Params) -> np.ndarray:
        from scipy.special import ive  # SciPy comes with JAX

        q, f = params["q"], params["f"]
        k, loc = q["concentration"], q["loc"]
        # E exp(inx) = exp(in loc) I_n(κ)/I_0(κ)
        first, second = (ive(n, k) / ive(0, k) for n in (1, 2))
        wave = f["curve"][0] * first * np.sin(loc) + f["curve"][1] * second * np.cos(2 * loc - 1)
        return f["offset"] + wave

    return Problem(
        name="angles",
        params=params,
        weights=outer_weights((4,)),
        make_q=lambda q: dist.VonMises(**q),
        cost=cost,
        exact=exact,
        reference=reference,
    )


_MIXTURES = {
    "q": {
        "x": {
            "weight": np.array([[0.3, -1.0, 0.5], [0.0, 0.8, -9.0]]),
            "loc": np.array([[-1.5, 2.0, 0.4], [0.5, -1.0, 3.0]]),
            "scale": np.array([[0.7, 0.5, 1.2], [0.3, 0.9, 1.0]]),
        },
        "y": {
            "weight": np.array([[0.4, -0.6], [-0.3, 0.2]]),
            "loc": np.array([[[-0.9, 0.8], [0.7, -0.4]], [[0.2, 1.0], [1.1, -0.8]]]),
            "scale": np.array([[[0.6, 0.9], [0.8, 0.5]], [[0.7, 0.4], [0.5, 1.1]]]),
        },
    },
    "f": {
        "offset": np.array([0.2, 0.3]),
        "curve": np.array([0.2, 0.7, 0.9, 0.4]),
    },
}


@functools.cache
def mixtures() -> Problem:
    """A scalar mixture of normals, and a vector one; a component that is hardly ever drawn."""

    def mixture(p: Any, event: int) -> dist.Distribution:
        components = dist.Normal(p["loc"], p["scale"]).to_event(event)
        return dist.MixtureSameFamily(dist.Categorical(logits=p["weight"]), components)

    def cost(f, z):
        x, y, a = z["x"], z["y"], f["curve"]
        square = a[0] * x**2 + a[1] * jnp.sin(x)
        return f["offset"] + square + a[2] * y[..., 0] * y[..., 1] + a[3] * x * y[..., 1] ** 2

    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()

    def exact(params: Params) -> Array:
        q, a = params["q"], params["f"]["curve"]
        p, r = jax.nn.softmax(q["x"]["weight"]), jax.nn.softmax(q["y"]["weight"])
        grid = q["x"]["loc"][..., None] + q["x"]["scale"][..., None] * nodes
        over = lambda g: jnp.sum(p * (g(grid) @ weights), axis=-1)
        second = q["y"]["loc"][..., 1] ** 2 + q["y"]["scale"][..., 1] ** 2
        product = jnp.sum(r * q["y"]["loc"][..., 0] * q["y"]["loc"][..., 1], axis=-1)
        alone = over(lambda x: a[0] * x**2 + a[1] * jnp.sin(x))
        both = a[3] * over(lambda x: x) * jnp.sum(r * second, axis=-1)
        return params["f"]["offset"] + alone + a[2] * product + both

    def reference(params: Params) -> np.ndarray:
        q, a, out = params["q"], params["f"]["curve"], []
        line = np.linspace(-12.0, 12.0, 20_001)
        plane = np.linspace(-12.0, 12.0, 1201)
        normal = lambda x, m, s: np.exp(-0.5 * ((x - m) / s) ** 2) / s
        for i in range(2):
            x, y = ({k: v[i] for k, v in q[site].items()} for site in ("x", "y"))
            w = np.exp(x["weight"])
            p = normal(line[:, None], x["loc"], x["scale"]) @ w
            w = np.exp(y["weight"])
            sides = (normal(plane[:, None], y["loc"][:, d], y["scale"][:, d]) for d in range(2))
            r = np.einsum("k,ik,jk->ij", w, *sides)
            p, r = p / p.sum(), r / r.sum()
            alone = p @ (a[0] * line**2 + a[1] * np.sin(line))
            both = a[3] * (p @ line) * (r.sum(0) @ plane**2)
            product = a[2] * (plane @ r @ plane)
            out.append(params["f"]["offset"][i] + alone + both + product)
        return np.array(out)

    return Problem(
        name="mixtures",
        params=_MIXTURES,
        weights=outer_weights((2,)),
        make_q=lambda q: {"x": mixture(q["x"], 0), "y": mixture(q["y"], 1)},
        cost=cost,
        exact=exact,
        reference=reference,
    )


_TAILS = {
    "q": {
        "t": {
            "df": np.array([1.5, 7.0]),
            "loc": np.array([0.4, -0.9]),
            "scale": np.array([0.8, 1.3]),
        },
        "cut": {
            "loc": np.array([0.3, -0.5]),
            "scale": np.array([0.9, 0.4]),
            "low": np.array([-0.6, 1.1]),
            "high": np.array([1.7, 2.3]),
        },
        "half": {
            "loc": np.array([0.2, -1.0]),
            "scale": np.array([0.7, 1.2]),
            "low": np.array([-0.3, 2.0]),
        },
    },
    "f": {"offset": np.array([0.2, 0.3]), "curve": np.array([1.3, 0.9, -0.5, 0.8])},
}


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(400)


def _student(q: Any, g: Any) -> Array:
    """E g(t), on t = loc + scale·tan(angle); the angle is flat at ±π/2, where g·p is rough."""
    s = _NODES[:, None]
    angle, slope = (np.pi / 16 * x for x in (s * (15 - 10 * s**2 + 3 * s**4), 15 * (1 - s**2) ** 2))
    df, z = q["df"], jnp.tan(angle)
    log_p = gammaln((df + 1) / 2) - gammaln(df / 2) - jnp.log(np.pi * df) / 2
    log_p = log_p - (df + 1) / 2 * jnp.log1p(z**2 / df)
    mass = _WEIGHTS[:, None] * slope / jnp.cos(angle) ** 2 * jnp.exp(log_p)
    return jnp.sum(mass * g(q["loc"] + q["scale"] * z), axis=0)


def _truncated(loc: Array, scale: Array, low: Array, high: Array, g: Any) -> Array:
    x = low + (high - low) * (_NODES[:, None] + 1) / 2
    mass = _WEIGHTS[:, None] * jnp.exp(-0.5 * ((x - loc) / scale) ** 2)
    return jnp.sum(mass * g(x), axis=0) / jnp.sum(mass, axis=0)


@functools.cache
def tails() -> Problem:
    """Student-t, and normals truncated on both sides and on one, the second far in a tail."""

    def cost(f, z):
        t, cut, half, a = jnp.tanh(z["t"]), z["cut"], z["half"], f["curve"]
        line = a[0] * t + a[1] * jnp.sin(2 * cut) + a[2] * half
        return f["offset"] + line + a[3] * t**2 * cut * half

    def exact(params: Params) -> Array:
        q, a = params["q"], params["f"]["curve"]
        t, square = (_student(q["t"], g) for g in (jnp.tanh, lambda x: jnp.tanh(x) ** 2))
        end = q["half"]["loc"] + 12 * q["half"]["scale"]
        sine, cut = (_truncated(**q["cut"], g=g) for g in (lambda x: jnp.sin(2 * x), lambda x: x))
        half = _truncated(**q["half"], high=end, g=lambda x: x)
        line = a[0] * t + a[1] * sine + a[2] * half
        return params["f"]["offset"] + line + a[3] * square * cut * half

    def reference(params: Params) -> np.ndarray:
        from scipy import stats

        q, a, out = params["q"], params["f"]["curve"], []
        for i in range(2):
            t, c, h = ({k: float(v[i]) for k, v in q[site].items()} for site in q)
            law = stats.t(t["df"], t["loc"], t["scale"])
            mean, square = (law.expect(g) for g in (np.tanh, lambda x: np.tanh(x) ** 2))
            ends = ((end - c["loc"]) / c["scale"] for end in (c["low"], c["high"]))
            cut = stats.truncnorm(*ends, c["loc"], c["scale"])
            start = (h["low"] - h["loc"]) / h["scale"]
            half = stats.truncnorm(start, np.inf, h["loc"], h["scale"])
            line = a[0] * mean + a[1] * cut.expect(lambda x: np.sin(2 * x)) + a[2] * half.mean()
            both = a[3] * square * cut.mean() * half.mean()
            out.append(params["f"]["offset"][i] + line + both)
        return np.array(out)

    return Problem(
        name="tails",
        params=_TAILS,
        weights=outer_weights((2,)),
        make_q=lambda q: {
            "t": dist.StudentT(**q["t"]),
            "cut": dist.TruncatedNormal(**q["cut"]),
            "half": dist.TruncatedNormal(**q["half"]),
        },
        cost=cost,
        exact=exact,
        reference=reference,
    )


IMPLICIT = (angles, mixtures, tails)
"""The problems of this module."""
