"""The laws of the subject's table, each by its density and at parameters of no special kind."""

import math
from typing import Any

import numpy as np

from ._reparameterizations_quadrature import (
    Law,
    Marginal,
    Params,
    angle_cost,
    circle,
    half_line,
    interval,
    kinked,
    line,
    plane,
    simplex,
    vector_cost,
)


def _numbers(**params: Any) -> Params:
    return {name: np.asarray(value, np.float64) for name, value in params.items()}


def _normal(x: np.ndarray, loc: Any, scale: Any) -> np.ndarray:
    return np.exp(-0.5 * ((x - loc) / scale) ** 2) / (scale * math.sqrt(2 * math.pi))


def _gamma(x: np.ndarray, shape: Any, rate: Any) -> np.ndarray:
    log_c = float(shape) * math.log(rate) - math.lgamma(shape)
    return np.exp(log_c + (shape - 1) * np.log(x) - rate * x)


def _dirichlet(x: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    log_c = math.lgamma(np.sum(alpha)) - sum(math.lgamma(a) for a in alpha)
    return np.exp(log_c + np.sum((alpha - 1) * np.log(x), axis=-1))


def _beta(x: np.ndarray, p: Params) -> np.ndarray:
    with np.errstate(divide="ignore"):  # where 1 − x is rounded to 0 the density is 0: β > 1
        return _dirichlet(np.stack([x, 1 - x], axis=-1), np.stack([p["α"], p["β"]]))


def _student(x: np.ndarray, p: Params) -> np.ndarray:
    nu, z = float(p["ν"]), (x - p["μ"]) / p["σ"]
    log_c = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - 0.5 * math.log(math.pi * nu)
    return np.exp(log_c - (nu + 1) / 2 * np.log1p(z**2 / nu)) / p["σ"]


def _mixture(x: np.ndarray, p: Params) -> np.ndarray:
    weight = np.exp(p["w"]) / np.sum(np.exp(p["w"]))
    return _normal(x[..., None], p["μ"], p["σ"]) @ weight


def _truncated(x: np.ndarray, p: Params) -> np.ndarray:
    low, high = (float((p[end] - p["μ"]) / p["σ"]) / math.sqrt(2) for end in ("low", "high"))
    return _normal(x, p["μ"], p["σ"]) / (0.5 * (math.erf(high) - math.erf(low)))


def _pair(x: np.ndarray, p: Params) -> np.ndarray:
    """Of μ + Lε with L lower triangular: ε by forward substitution."""
    (a, b, c), (u, v) = p["L"], np.moveaxis(x - p["μ"], -1, 0)
    return _normal(u / a, 0, 1) * _normal((v - b * u / a) / c, 0, 1) / (a * c)


def _von_mises(x: np.ndarray, p: Params) -> np.ndarray:
    return np.exp(p["κ"] * np.cos(x - p["μ"])) / (2 * math.pi * np.i0(p["κ"]))


def _gaussian(name: str, loc: float, scale: float) -> Law:
    density = lambda x, p: _normal(x, p["μ"], p["σ"])
    return Law(name, _numbers(μ=loc, σ=scale), density, lambda _: line())


def _beta_law(name: str, a: float, b: float) -> Law:
    return Law(name, _numbers(α=a, β=b), _beta, lambda _: interval(0.0, 1.0))


def _angles(name: str, loc: float, concentration: float, numbers: tuple[Marginal, ...] = ()) -> Law:
    params, grid = _numbers(μ=loc, κ=concentration), lambda p: circle(p["μ"])
    return Law(name, params, _von_mises, grid, angle_cost, numbers=numbers)


def _around(angle: np.ndarray) -> np.ndarray:
    """The same angles from −π to π."""
    return np.mod(angle + np.pi, 2 * np.pi) - np.pi


EXPONENTIAL = Law(
    "Exponential",
    _numbers(λ=1.3),
    lambda x, p: p["λ"] * np.exp(-p["λ"] * x),
    lambda _: half_line(),
)
CAUCHY = Law(
    "Cauchy",
    _numbers(μ=-0.4, γ=0.8),
    lambda x, p: p["γ"] / (np.pi * (p["γ"] ** 2 + (x - p["μ"]) ** 2)),
    lambda _: line(),
    moments=0,
)
LAPLACE = Law(
    "Laplace",
    _numbers(μ=1.1, b=0.7),
    lambda x, p: np.exp(-np.abs(x - p["μ"]) / p["b"]) / (2 * p["b"]),
    lambda p: kinked(p["μ"]),
)
GAUSSIAN = _gaussian("Gaussian", -0.6, 1.2)
PAIR = Law(
    "Gaussian pair",
    _numbers(μ=[1.4, -0.6], L=[1.2, -1.1, 0.7]),
    _pair,
    lambda _: plane(),
    vector_cost,
    labels=("μ₁", "μ₂", "L₁₁", "L₂₁", "L₂₂"),
    numbers=(
        Marginal("x₁", lambda x: x[:, 0], _gaussian("", 1.4, 1.2)),
        Marginal("x₂", lambda x: x[:, 1], _gaussian("", -0.6, math.hypot(1.1, 0.7))),
        Marginal("x₁ − x₂", lambda x: x[:, 0] - x[:, 1], _gaussian("", 2.0, math.hypot(2.3, 0.7))),
    ),
)
RADEMACHER = Law(
    "Rademacher",
    _numbers(p=0.3),
    lambda x, p: np.where(x > 0, p["p"], 1 - p["p"]),
    lambda _: (np.array([-1.0, 1.0]), np.ones(2)),
    continuous=False,
)
LOG_NORMAL = Law(
    "Log-normal",
    _numbers(μ=0.2, σ=0.5),
    lambda x, p: _normal(np.log(x), p["μ"], p["σ"]) / x,
    lambda _: half_line(),
)
INVERSE_GAMMA = Law(
    "Inverse gamma",
    _numbers(α=10.0, β=11.0),
    lambda x, p: _gamma(1 / x, p["α"], p["β"]) / x**2,
    lambda _: half_line(),
)
GAMMA = Law(
    "Gamma",
    _numbers(α=0.7, β=0.5),
    lambda x, p: _gamma(x, p["α"], p["β"]),
    lambda _: half_line(),
)
BETA = _beta_law("Beta", 0.8, 2.5)
DIRICHLET = Law(
    "Dirichlet",
    _numbers(α=[0.6, 1.5, 2.5]),
    lambda x, p: _dirichlet(x, p["α"]),
    lambda _: simplex(),
    vector_cost,
    numbers=(
        Marginal("x₁", lambda x: x[:, 0], _beta_law("", 0.6, 4.0)),
        Marginal("x₂", lambda x: x[:, 1], _beta_law("", 1.5, 3.1)),
        Marginal(
            "x₁ / (x₁ + x₂)", lambda x: x[:, 0] / (x[:, 0] + x[:, 1]), _beta_law("", 0.6, 1.5)
        ),
    ),
)
VON_MISES = _angles(
    "Von Mises",
    -0.8,
    1.7,
    numbers=(Marginal("x − μ", lambda x: _around(x + 0.8), _angles("", 0.0, 1.7)),),
)
MIXTURE = Law(
    "Mixture of two Gaussians",
    _numbers(w=[0.5, -0.3], μ=[-2.2, 0.9], σ=[0.7, 0.4]),
    _mixture,
    lambda _: line(),
)
TRUNCATED = Law(
    "Truncated Gaussian",
    _numbers(μ=-0.2, σ=0.9, low=-1.2, high=0.7),
    _truncated,
    lambda p: interval(p["low"], p["high"]),
)
STUDENT = Law("Student-t", _numbers(ν=3.5, μ=-0.3, σ=0.9), _student, lambda _: line(), moments=1)
