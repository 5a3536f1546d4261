"""Measure-valued (weak) derivatives."""

from typing import ClassVar

import jax

from .._trees import add_axis, first, size_of
from ..distributions import Signed
from ._base import AbstractEstimator, Claims, Estimate, Evaluations, carry


class MeasureValued(AbstractEstimator):
    """Measure-valued derivatives: a constant times the difference of f at two coupled draws.

    Estimates:
        for each parameter θ of each variable, c (f(x⁺) − f(x⁻)), where the derivative of the
        density is c times the difference of two densities, those of x⁺ and x⁻; the other variables
        stay at the draw. Where x⁻ or x⁺ has the law of q, it is the draw.
    Needs:
        `Signed`: Bernoulli, one-hot and integer categories, binomial, Poisson, geometric,
        exponential, normal and gamma variables. f need not be differentiable in the draw.
    Claims:
        Unbiased. Exactly zero for a constant f.
    Cost:
        1 evaluation of f, and for each variable 1 (bits, binomial, Poisson, geometric,
        exponential), 2 (gamma), 3 (normal) or C − 1 (categories), in chunks of bounded memory.
        The batch shares them.
    Raises:
        IncompatibleError: a distribution without known triples.
    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> def loss(rate, key):
        ...     f = lambda count: 1.0 * (count >= 3)  # a step: no pathwise derivative
        ...     return ex.expect(key, dist.Poisson(rate), f, ex.MeasureValued())
        >>> keys = jax.random.split(jax.random.key(0), 40_000)
        >>> gradients = jax.vmap(jax.grad(loss), (None, 0))(2.0, keys)  # f(x + 1) − f(x)
        >>> print(f"{gradients.mean():.2f}")  # P(x = 2) = 2 exp(−2)
        0.27

    Reference:
        Pflug (1996); Mohamed et al. (2020), section 6. For bits and categories the negative part is
        averaged, at no cost, and this is `LocalExpectation`. The gamma concentration has a random c
        (see `expectax.distributions`); the others' is a number.
    """

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=Signed,
        differentiable=False,
        cost="1 + 1 to 3 D; 1 + D (C − 1)",
        order=1,
        source="Mohamed 2020; Pflug 1996",
        zero_for_constant=True,
    )

    def estimate(self, key, q, f):
        key, key_of_triples = jax.random.split(key)
        draw = first(q.sample(key, 1))
        costs, aux = f(add_axis(draw))
        here = jax.lax.stop_gradient(costs[0])
        held, size = jax.lax.stop_gradient(q), size_of(draw)

        def slope(site, triples, b, put):
            point = lambda i: put(site.point(b, triples, i))
            there = jax.lax.stop_gradient(f.at_outcomes(point, site.num_points, size))
            return site.weak_derivative(b, triples, there - here)

        gradient = held.each_in_turn(slope, held.triples(key_of_triples, draw), draw)
        return Estimate(carry(costs[0], gradient, q.parameters, q.batch_ndim), aux=aux)

    def value(self, key, q, f):
        costs, aux = f(q.sample(jax.random.split(key)[0], 1))
        return costs[0], aux

    def evaluations(self, q):
        return Evaluations(hard=1, auxiliary=sum(site.num_points for site in q.sites))
