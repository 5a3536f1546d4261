"""The pathwise (reparameterisation) gradient."""

import math
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from ..distributions import AbstractCoupling, Independent, Reparameterized, check_coupling
from ._base import AbstractEstimator, Claims, Estimate, Evaluations, check_num_samples


class Pathwise(AbstractEstimator):
    """The pathwise gradient: f at a draw that is a differentiable function of the parameters.

    Estimates:
        mean_s f'(x_s) ∂x_s/∂θ, x_s the draws of NumPyro's reparameterised sampler, explicit
        (location-scale, inverse CDF, transforms) or implicit by JAX (gamma, beta, Dirichlet,
        Student-t); or of any sampler, with ∂x/∂θ = −(∂F/∂θ)/p from the distribution function F and
        density p: von Mises, truncated normal, `MixtureSameFamily` of independent normal or
        logistic variables.
    Needs:
        `Reparameterized`: continuous distributions; f differentiable in the draw, on the circle for
        angles: a cost of a von Mises variable must be periodic.
    Claims:
        Unbiased, at any order that the sampler itself can be differentiated.
    Cost:
        S evaluations of f.
    Arguments:
        num_samples: S ≥ 1.
        coupling: how the S draws depend on one another; coupled draws are reparameterised by
            NumPyro's inverse distribution function. Where f'(x) ∂x/∂θ is monotone in the noise, as
            for a convex f and a location, the gradient is never noisier than with independent ones.
    Raises:
        IncompatibleError: q is discrete, or its sampler drops a derivative (the error names the
            parameter); or, with a coupling, its inverse distribution function is not known (gamma,
            beta).
        InvalidArgumentError: `num_samples` < 1, or a number of draws that the coupling cannot make.
    Example:
        >>> import jax, numpyro.distributions as dist, expectax as ex
        >>> def loss(loc, key):
        ...     return ex.expect(key, dist.Normal(loc, 1.0), lambda x: 3.0 * x, ex.Pathwise())
        >>> float(jax.grad(loss)(0.0, jax.random.key(0)))
        3.0

    Reference:
        Kingma & Welling (2014); Rezende et al. (2014); implicit: Figurnov et al. (2018).
    """

    num_samples: int = eqx.field(default=1, static=True)
    coupling: AbstractCoupling = Independent()

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=Reparameterized,
        differentiable=True,
        cost="S",
        order=math.inf,
        source="Kingma & Welling 2014; Figurnov 2018",
        zero_for_constant=True,
    )

    def __check_init__(self):
        check_num_samples(self, self.num_samples, 1)
        check_coupling(self, self.coupling, self.num_samples, 1)

    def estimate(self, key, q, f):
        costs, aux = f(self.coupling.rsample(key, q, self.num_samples))
        return Estimate(jnp.mean(costs, axis=0), aux=aux)

    def evaluations(self, q):
        del q
        return Evaluations(hard=self.num_samples)
