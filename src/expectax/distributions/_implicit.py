"""Implicit reparameterisation, where NumPyro's sampler has no pathwise derivative or a partial one.

A draw x of a law with distribution function F(x; θ) and density p moves with θ such that
F(x; θ) stays: ∂x/∂θ = −(∂F/∂θ)(x; θ) / p(x; θ). Whatever sampler made x, rejection included, this
is its pathwise derivative.

So each law here is a velocity, linear in the change of the parameters, and `_moving` makes of it a
draw that can be differentiated to any order. (One exception is JAX's: a forward derivative of the
reverse derivative of `lax.scan` forgets custom rules, and is right to second order only.)

Gamma, beta, Dirichlet and Student-t need nothing from here: NumPyro's samplers are compositions of
`jax.random.loggamma`, whose derivative is JAX's own and implicit.

Reference: Figurnov, Mohamed & Mnih (2018), "Implicit reparameterization gradients"; for mixtures,
Graves (2016), "Stochastic backpropagation through mixture density distributions".
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import log_ndtr, logsumexp, ndtri
from jaxtyping import Array, Float

from .._numerics import FLOOR, finite_logits, log_probability, working_dtype
from .._trees import vary, varying_axes
from ._base import Invertible, Reparameterized, View
from ._generic import GenericView, strip

_LOG_ROOT_TAU = 0.5 * math.log(2 * math.pi)


def implicit_view(q: dist.Distribution) -> View | None:
    """The view of a distribution that this module differentiates, else None."""
    base = strip(q)
    if isinstance(base, dist.VonMises):
        return VonMisesView(q)
    if isinstance(base, dist.MixtureSameFamily):
        components = base.component_distribution
        return MixtureView(q) if type(strip(components)) in _STANDARD else None
    cut = dist.LeftTruncatedDistribution
    if isinstance(base, cut | dist.RightTruncatedDistribution | dist.TwoSidedTruncatedDistribution):
        return TruncatedNormalView(q) if type(base.base_dist) is dist.Normal else None
    return None


def _held(x: Array) -> Array:
    return jax.lax.stop_gradient(x)


def _widen(*arrays: Any) -> list[Array]:
    """The arrays in one type, in which the derivative is computed."""
    dtype = working_dtype(jnp.result_type(*arrays))
    return [jnp.asarray(x, dtype) for x in arrays]


def _moving(velocity: Callable[..., Array], x: Array, *params: Array) -> Array:
    """x, whose derivative along a change of the parameters is velocity(x, params, change).

    The rule asks for x by the function itself, so it is differentiated along the draw too. Where
    `lax.scan` forgets the rule of that inner call, its arithmetic, x plus a zero with the right
    derivative, takes over.
    """

    @jax.custom_jvp
    def draw(x, *params):
        held = tuple(map(_held, params))
        return x + velocity(x, held, tuple(p - h for p, h in zip(params, held, strict=True)))

    @draw.defjvp
    def rule(primals: Any, tangents: Any):
        x = draw(*primals)
        return x, velocity(x, primals[1:], tangents[1:])

    return draw(_held(x), *params)


# Von Mises


class VonMisesView(GenericView, Reparameterized):
    """Angles x = loc + d, with ∂x/∂loc = 1 and the implicit ∂d/∂concentration.

    The circle is cut opposite `loc`, where the density is least; a draw never jumps on the circle
    as the parameters change. f must be smooth there, which is to say periodic: a cost that differs
    at −π and π has a jump, and no pathwise derivative sees a jump.
    """

    def rsample(self, key, num):
        base: Any = strip(self.distribution)
        angle, loc, concentration = _widen(self.sample(key, num), base.loc, base.concentration)
        shape = (*self.batch_shape, *self.event_shape)
        loc, concentration = (jnp.broadcast_to(x, shape) for x in (loc, concentration))
        from_loc = jnp.mod(angle - loc + np.pi, 2 * np.pi) - np.pi
        deviation = _moving(_von_mises_velocity, from_loc, concentration)
        return angle + (deviation - _held(deviation)) + (loc - _held(loc))


def _von_mises_velocity(d: Float[Array, "..."], params: Any, change: Any) -> Float[Array, "..."]:
    return _von_mises_slope(d, params[0]) * change[0]


def _von_mises_slope(d: Float[Array, "..."], k: Float[Array, "..."]) -> Float[Array, "..."]:
    """∂d/∂κ = ∫_d^e (cos t − A) exp(κ (cos t − cos d)) dt, A = I₁(κ)/I₀(κ), with e = 0 or ±π.

    From F = ∫ exp(κ cos t)/(2π I₀) dt and I₀' = I₁. Over half the circle the integral is zero, so
    both ends give the same: e = 0 for d near the mode, where the other would cancel; ±π (or where
    nothing is left of the integrand) elsewhere, where it never exceeds 1. Gauss–Legendre with so
    few points is exact to rounding because the interval is cut to where the integrand lives.

    1 − A = E[2 sin²(t/2)] by the same rule: I₁/I₀ itself would lose all digits at a large κ.
    """
    wide = d.dtype == jnp.float64
    num, depth = (32, 40.0) if wide else (16, 17.0)  # exp(−depth) is below rounding
    nodes, weights = np.polynomial.legendre.leggauss(num)
    nodes, weights = (jnp.asarray(x / 2, d.dtype) for x in (nodes + 1, weights))
    reach = lambda start: 2 * jnp.arcsin(jnp.sqrt(jnp.minimum(1.0, start + depth / (2 * k))))
    mass = lambda t: 2 * jnp.sin(t / 2) ** 2  # 1 − cos t, to all digits

    t = _held(reach(0.0))[..., None] * nodes
    density = weights * jnp.exp(-k[..., None] * mass(t))
    spread = jnp.sum(mass(t) * density, axis=-1) / jnp.sum(density, axis=-1)

    outward = jnp.sign(d) * reach(jnp.sin(d / 2) ** 2)
    length = _held(jnp.where(k * mass(d) < 1, 0.0, outward)) - d
    d, k, spread = d[..., None], k[..., None], spread[..., None]
    step = length[..., None] * nodes
    # cos t − cos d = −2 sin((t + d)/2) sin((t − d)/2)
    ratio = jnp.exp(-2 * k * jnp.sin(d + step / 2) * jnp.sin(step / 2))
    return length * jnp.sum(weights * (spread - mass(d + step)) * ratio, axis=-1)


# Mixtures


def _log_normal(z: Array) -> Array:
    return -0.5 * z**2 - _LOG_ROOT_TAU


def _log_logistic(z: Array) -> Array:
    return jax.nn.log_sigmoid(z) + jax.nn.log_sigmoid(-z)


_STANDARD: dict[type, Any] = {
    dist.Normal: (_log_normal, log_ndtr),
    dist.Logistic: (_log_logistic, jax.nn.log_sigmoid),
}
"""Symmetric location-scale components: log p and log F of the standard one."""


class MixtureView(GenericView, Reparameterized):
    """A mixture of independent normal or logistic variables, differentiable in everything.

    The variables of an event are moved one after another, each by its distribution function given
    those before it, which is again a mixture; its weights are those of the components given the
    variables so far.
    """

    def rsample(self, key, num):
        base: Any = strip(self.distribution)
        component: Any = strip(base.component_distribution)
        mixing, size = base.mixing_distribution, base.mixture_size
        by_logits = isinstance(mixing, dist.CategoricalLogits)
        log_weight = mixing.logits if by_logits else log_probability(mixing.probs)
        draw, log_weight, loc, scale = _widen(
            self.sample(key, num), log_weight, component.loc, component.scale
        )
        event = base.event_shape
        batch = draw.shape[: draw.ndim - len(event)]
        # the variables of the event lead: axes (variable, draw and batch, component)
        split = lambda x: jnp.moveaxis(
            jnp.broadcast_to(x, (*batch[1:], size, *event)).reshape(*batch[1:], size, -1), -1, 0
        )
        log_weight = jnp.broadcast_to(finite_logits(log_weight), (*batch, size))
        velocity = functools.partial(_mixture_velocity, *_STANDARD[type(component)])
        x = jnp.moveaxis(draw.reshape(*batch, -1), -1, 0)
        moved = _moving(velocity, x, log_weight, split(loc), split(scale))
        return jnp.moveaxis(moved, 0, -1).reshape(draw.shape)


def _mixture_velocity(
    log_density: Callable[[Array], Array],
    log_cdf: Callable[[Array], Array],
    draw: Float[Array, "D *batch"],
    params: Any,
    change: Any,
) -> Float[Array, "D *batch"]:
    """The velocity of x ~ Σ_k w_k p((x − loc_k)/scale_k)/scale_k, one variable after another.

    With responsibilities r_k = w_k p_k / p and z_k = (x − loc_k)/scale_k, −dF/p is
    Σ_k r_k (dloc_k + z_k dscale_k) − Σ_k w_k (F_k − F)/p dlog w_k. F_k − F is taken in the tail
    that x is in, where it does not cancel, and all of it in logarithms, so no ratio is 0/0. The
    next variable has weights w_k p_k, which move with x.
    """
    (log_weight, *places), (d_log_weight, *d_places) = params, change
    axes = varying_axes((draw, params, change))

    def step(carry, variable):
        (log_weight, d_log_weight), (x, loc, scale, d_loc, d_scale) = carry, variable
        log_weight = jax.nn.log_softmax(log_weight, axis=-1)
        z = (x[..., None] - loc) / scale
        log_joint = log_weight + log_density(z) - jnp.log(scale)
        log_p = logsumexp(log_joint, axis=-1, keepdims=True)
        moved = jnp.exp(log_joint - log_p) * (d_loc + z * d_scale)
        below, above = (log_weight + log_cdf(s * z) - log_p for s in (1.0, -1.0))
        lower = logsumexp(below, axis=-1, keepdims=True) < logsumexp(above, axis=-1, keepdims=True)
        tail = jnp.exp(jnp.where(lower, below, above))
        excess = tail - jnp.exp(log_weight) * jnp.sum(tail, axis=-1, keepdims=True)
        d_x = jnp.sum(moved - jnp.where(lower, excess, -excess) * d_log_weight, axis=-1)
        d_z = (d_x[..., None] - d_loc - z * d_scale) / scale
        _, d_log_density = jax.jvp(log_density, (z,), (d_z,))
        return (log_joint, d_log_weight + d_log_density - d_scale / scale), d_x

    start = vary((log_weight, d_log_weight), axes)
    _, velocity = jax.lax.scan(step, start, (draw, *places, *d_places))
    return velocity


# Truncated normal


class TruncatedNormalView(GenericView, Reparameterized, Invertible):
    """A normal variable truncated on one side or both, differentiable in everything.

    Drawn here, in logarithms: NumPyro's inversion returns points outside the interval, or infinity,
    where the interval is far in a tail (beyond 13 scales in float32).
    """

    def sample(self, key, num):
        return _held(self.rsample(key, num))

    @property
    def uniform_shape(self):
        return (*self.batch_shape, *self.event_shape)

    def rsample(self, key, num):
        dtype = jnp.result_type(*_widen(*jax.tree.leaves(self.distribution)))
        return self.quantile(jax.random.uniform(key, (num, *self.uniform_shape), dtype))

    def quantile(self, uniform):
        base: Any = strip(self.distribution)
        low, high = getattr(base, "low", -jnp.inf), getattr(base, "high", jnp.inf)
        normal: Any = base.base_dist
        u, low, high, loc, scale = _widen(uniform, low, high, normal.loc, normal.scale)
        u, shape = jnp.maximum(u, jnp.finfo(u.dtype).tiny), u.shape

        def end(bound):  # a missing one stands far out, so that no derivative is 0 · ∞
            finite = jnp.isfinite(bound)
            standard = (jnp.where(finite, bound, loc) - loc) / scale
            return jnp.broadcast_to(jnp.where(finite, standard, jnp.sign(bound) * FLOOR), shape)

        ends = end(low), end(high)
        z = _moving(_truncated_normal_velocity, _truncated_normal(u, *ends), u, *ends)
        x = loc + scale * z
        return x + _held(jnp.clip(x, low, high) - x)  # rounding may step over a bound


def _truncated_normal(
    u: Float[Array, "..."], low: Float[Array, "..."], high: Float[Array, "..."]
) -> Float[Array, "..."]:
    """The quantile u of a standard normal variable on [low, high].

    Φ(z) = (1 − u) Φ(low) + u Φ(high), or the same of the upper tail: whichever is smaller.
    """
    log_u, log_v = jnp.log(u), jnp.log1p(-u)
    lower = jnp.logaddexp(log_v + log_ndtr(low), log_u + log_ndtr(high))
    upper = jnp.logaddexp(log_v + log_ndtr(-low), log_u + log_ndtr(-high))
    z = jnp.where(lower < upper, 1.0, -1.0) * _log_ndtri(jnp.minimum(lower, upper))
    return jnp.clip(z, low, high)


def _truncated_normal_velocity(z: Float[Array, "..."], params: Any, change: Any) -> Any:
    """From φ(z) dz = (1 − u) φ(low) dlow + u φ(high) dhigh, where u stays."""
    (u, low, high), (_, d_low, d_high) = params, change
    beside = lambda end: jnp.exp((z - end) * (z + end) / 2)
    return (1 - u) * beside(low) * d_low + u * beside(high) * d_high


def _log_ndtri(log_p: Float[Array, "..."]) -> Float[Array, "..."]:
    """z with log Φ(z) = log_p ≤ log ½, however small: Newton's method on log Φ, concave."""
    far = -2 * jnp.minimum(log_p, -30.0)
    start = -jnp.sqrt(far - jnp.log(far) - 2 * _LOG_ROOT_TAU)  # Φ(z) ≈ φ(z)/|z|
    z = jnp.where(log_p < -30, start, ndtri(jnp.exp(jnp.maximum(log_p, -30.0))))
    for _ in range(2):
        found = log_ndtr(z)
        z = z - (found - log_p) * jnp.exp(found - _log_normal(z))
    return z
