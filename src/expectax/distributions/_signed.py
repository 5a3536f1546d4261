"""Weak derivatives: the derivative of an expectation as a difference of two expectations.

∂/∂θ E_θ[f(x)] = c_θ (E[f(x⁺)] − E[f(x⁻)]) for every bounded f, smooth or not. The triple
(c, x⁺, x⁻) is known for most families with a name. Here it is *coupled*: x⁺ and x⁻ share their
randomness, and where one of the two has the law of x itself, the draw takes its place, so that one
evaluation of f is saved and the two are as close as they can be. Each variable of the event has
triples of its own, in which the other variables stay at the draw.

Reference: Pflug (1996); Mohamed et al. (2020), section 6 and table 1; Heidergott et al. (2008) for
the coupling of the normal scale.
"""

import abc
import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float

from .._numerics import working_dtype
from .._types import PRNGKey
from ._base import Signed, View
from ._categorical import CategoricalView
from ._generic import (
    BinomialView,
    EnumerableBinomialView,
    GenericView,
    ReparameterizedView,
    strip,
)


class Triple(eqx.Module):
    """c, x⁺ and x⁻ of one parameter of every variable, each of shape batch + event.

    A part that is None has the law of the draw, and is the draw.
    """

    constant: Float[Array, "..."]
    positive: Array | None = None
    negative: Array | None = None


class VariablewiseView(Signed):
    """Independent variables, every parameter of which belongs to one variable.

    *Law:* for each parameter θ of a variable, E[c (f(x⁺) − f(x⁻))] is ∂E[f(x)]/∂θ.
    """

    num_parts: eqx.AbstractClassVar[int]
    """How many of the x⁺ and x⁻ are not the draw."""

    @abc.abstractmethod
    def triples(self, key: PRNGKey, draw: Array) -> dict[str, Triple]:
        """The triple of each parameter, by its name in `parameters`. The key is consumed."""

    @property
    def num_points(self):
        return self.num_parts * math.prod(self.event_shape)

    def point(self, draw, triples, index):
        parts = jnp.stack([part for _, _, part in _parts(triples)]).astype(draw.dtype)
        size = math.prod(self.event_shape)
        here = (jnp.arange(size) == index % size).reshape(self.event_shape)
        return jnp.where(here, parts[index // size], draw)

    def weak_derivative(self, draw, triples, deltas):
        deltas = jnp.moveaxis(deltas.reshape((self.num_parts, -1, *self.batch_shape)), 1, -1)
        deltas = deltas.reshape((self.num_parts, *draw.shape))
        out = {name: jnp.zeros_like(triple.constant) for name, triple in triples.items()}
        for (name, sign, _), delta in zip(_parts(triples), deltas, strict=True):
            out[name] = out[name] + sign * triples[name].constant * delta
        return out


def _parts(triples: dict[str, Triple]) -> list[tuple[str, int, Array]]:
    """Every x⁺ and x⁻ that is not the draw, with the sign of f there."""
    sides = [
        (name, sign, part)
        for name, triple in triples.items()
        for sign, part in ((1, triple.positive), (-1, triple.negative))
    ]
    return [(name, sign, part) for name, sign, part in sides if part is not None]


class _Named(VariablewiseView):
    """A family whose parameters are attributes of its NumPyro distribution.

    Each has the full shape batch + event, so that every entry belongs to one variable.
    """

    distribution: eqx.AbstractVar[Any]
    names: eqx.AbstractClassVar[tuple[str, ...]]

    @property
    def parameters(self):
        base = strip(self.distribution)
        return {name: getattr(base, name) for name in self.names}

    @property
    def _wide(self) -> list[Array]:
        """The parameters in the order of their names, in the type to compute in."""
        return [x.astype(working_dtype(x.dtype)) for x in self.parameters.values()]


def named_view(kind: type[_Named], q: dist.Distribution) -> View:
    """The view of this kind, with parameters of the full shape batch + event."""
    base: Any = strip(q)
    shape = (*q.batch_shape, *q.event_shape)

    def full(x: Any) -> Array:
        x = jnp.asarray(x)
        floating = jnp.issubdtype(x.dtype, jnp.inexact)
        return jnp.broadcast_to(x if floating else x.astype(jnp.result_type(float)), shape)

    given = {name: full(getattr(base, name)) for name in kind.names}
    whole = type(base)(**given, validate_args=base._validate_args)
    return kind(whole.to_event(len(q.event_shape)))  # type: ignore[call-arg]


# Continuous


class NormalView(ReparameterizedView, _Named):
    """Normal variables.

    ∂p/∂μ = (x − μ)/σ² p: on each side of μ, c = 1/(σ√(2π)) times a Rayleigh density.
    ∂p/∂σ = (z² − 1)/σ p: 1/σ times a double-sided Maxwell density z² φ(z), less the normal itself.
    A Maxwell variable m times a uniform one is normal, z = m u; given z, m² is z² + 2 Exp(1).
    """

    names: ClassVar = ("loc", "scale")
    num_parts: ClassVar = 3

    def triples(self, key, draw):
        loc, scale = self._wide
        first, second = jax.random.split(key)
        rayleigh = scale * jnp.sqrt(2 * _exponential(first, scale))
        z = (draw - loc) / scale
        maxwell = scale * jnp.where(z < 0, -1, 1) * jnp.sqrt(z**2 + 2 * _exponential(second, scale))
        return {
            "loc": Triple(1 / (scale * math.sqrt(2 * math.pi)), loc + rayleigh, loc - rayleigh),
            "scale": Triple(1 / scale, positive=loc + maxwell),
        }


class ExponentialView(ReparameterizedView, _Named):
    """Exponential variables: ∂p/∂λ = (1/λ − x) p is 1/λ times p less a gamma density of shape 2."""

    names: ClassVar = ("rate",)
    num_parts: ClassVar = 1

    def triples(self, key, draw):
        (rate,) = self._wide
        return {"rate": Triple(1 / rate, negative=draw + _exponential(key, rate) / rate)}


class GammaView(ReparameterizedView, _Named):
    """Gamma variables, of concentration α and rate β.

    ∂p/∂β = (α/β − x) p is α/β times p less the same density with α + 1, whose draw is the sum of
    one of p and an exponential.

    In α: log x = const − Σ_k E_k with independent E_k ~ Exp(α + k), up to constants. Each E_k has
    the triple of the exponential, so ∂E[f(x)]/∂α = Σ_k 1/(α + k) E[f(x) − f(x exp(−y_k))],
    y_k ~ Exp(α + k): the densities of all y_k over α + k add up to m(y) = exp(−αy)/(1 − exp(−y)).
    Its mass is infinite at y = 0, where f(x) − f(x exp(−y)) vanishes; y is drawn from a gamma
    density g of shape ½ and rate α, and c = m(y)/g(y) is of order 1/√y there: of finite variance
    where f is smooth, and where f jumps.
    """

    names: ClassVar = ("concentration", "rate")
    num_parts: ClassVar = 2

    def triples(self, key, draw):
        alpha, rate = self._wide
        first, second = jax.random.split(key)
        tiny = jnp.finfo(alpha.dtype).tiny
        n = jax.random.normal(first, alpha.shape, alpha.dtype)
        y = jnp.maximum(n**2 / (2 * alpha), tiny)
        weight = jnp.sqrt(math.pi / alpha) * jnp.sqrt(y) / -jnp.expm1(-y)
        return {
            "concentration": Triple(weight, negative=jnp.maximum(draw * jnp.exp(-y), tiny)),
            "rate": Triple(alpha / rate, negative=draw + _exponential(second, rate) / rate),
        }


# Counts


class PoissonView(GenericView, _Named):
    """Poisson counts: ∂p(k)/∂λ = p(k − 1) − p(k), one more and as many."""

    names: ClassVar = ("rate",)
    num_parts: ClassVar = 1

    def triples(self, key, draw):
        del key
        (rate,) = self._wide
        return {"rate": Triple(jnp.ones_like(rate), positive=draw + 1)}


class _Geometric(GenericView, _Named):
    """Failures before the first success of probability p.

    ∂p(k)/∂p = 1/p times p(k) less the law of one failure more than two such counts together have.
    """

    num_parts: ClassVar = 1

    @abc.abstractmethod
    def _constant(self) -> Array:
        """(1/p) ∂p/∂θ."""

    def triples(self, key, draw):
        (name,) = self.names
        return {name: Triple(self._constant(), negative=draw + self.sample(key, 1)[0] + 1)}


class GeometricView(_Geometric):
    """Geometric counts by probability."""

    names: ClassVar = ("probs",)

    def _constant(self):
        return 1 / self._wide[0]


class GeometricLogitsView(_Geometric):
    """Geometric counts by log-odds: ∂p/∂θ = p (1 − p)."""

    names: ClassVar = ("logits",)

    def _constant(self):
        return jax.nn.sigmoid(-self._wide[0])


class _SignedBinomial(VariablewiseView):
    """Binomial counts: ∂E[f]/∂p = n E[f(y + 1) − f(y)] with y of n − 1 trials, ∂p/∂θ = p (1 − p).

    y is the draw x without one of its n trials, a success with probability x/n: so y + 1 is x or y
    is, and f is needed at x − 1 in the one case and at x + 1 in the other.
    """

    logits: eqx.AbstractVar[Array]
    total_count: eqx.AbstractVar[Any]
    num_parts: ClassVar = 1

    @property
    def parameters(self):
        return {"logits": self.logits}

    def triples(self, key, draw):
        p = jax.nn.sigmoid(self.logits)
        n = jnp.broadcast_to(jnp.asarray(self.total_count, p.dtype), p.shape)
        success = jax.random.uniform(key, p.shape, p.dtype) * n < draw
        step = jnp.where(success | (draw >= n), -1, 1)  # the product may round up to n
        # no trial, no other outcome
        other = jnp.where(n > 0, draw + step, draw)
        return {"logits": Triple(n * p * jax.nn.sigmoid(-self.logits) * step, positive=other)}


class SignedBinomialView(BinomialView, _SignedBinomial):
    """`BinomialView` with its weak derivative."""


class SignedEnumerableBinomialView(EnumerableBinomialView, _SignedBinomial):
    """`EnumerableBinomialView` with its weak derivative."""


class SignedCategoricalView(CategoricalView, Signed):
    """Integer categories: ∂E[f]/∂θ_k = p_k (f(k) − E[f]).

    Every category is a positive part, so that of the negative part the mean is at hand.
    """

    @property
    def parameters(self):
        return jnp.where(jnp.isfinite(self.logits), self.logits, 0)  # masked: a constant

    @property
    def num_points(self):
        return math.prod(self.event_shape) * (self.logits.shape[-1] - 1)

    def triples(self, key, draw):
        del key, draw
        return ()

    def point(self, draw, triples, index):
        # point number n (C − 1) + j moves variable n on by j + 1 categories, cyclically
        del triples
        num = self.logits.shape[-1]
        which, step = index // (num - 1), index % (num - 1) + 1
        here = jnp.arange(math.prod(self.event_shape)) == which
        return jnp.where(here.reshape(self.event_shape), (draw + step) % num, draw)

    def weak_derivative(self, draw, triples, deltas):
        del triples
        num = self.logits.shape[-1]
        deltas = jnp.moveaxis(deltas, 0, -1).reshape((*draw.shape, num - 1))
        steps = jnp.pad(deltas, [(0, 0)] * draw.ndim + [(1, 0)])  # no step, no difference
        step_to = (jnp.arange(num) - draw[..., None]) % num
        p = jax.nn.softmax(self.logits, axis=-1)
        gain = jnp.where(p > 0, jnp.take_along_axis(steps, step_to, axis=-1), 0)
        return p * (gain - jnp.sum(p * gain, axis=-1, keepdims=True))


def _exponential(key: PRNGKey, like: Array) -> Array:
    return jax.random.exponential(key, like.shape, like.dtype)
