"""Σ_batch E_q[f] as a loss of (q's floating leaves, what the estimator learns, key)."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree
from numpyro.distributions.distribution import validation_enabled

from .._expect import expect
from .._types import CostFn, PRNGKey
from ..distributions import Joint, View, joint
from ..estimators import AbstractEstimator, Claims, Estimate, Evaluations
from ._moments import split_params


class Opaque:
    """Arrays that stay concrete inside jit: the number of trials decides what can be listed."""

    def __init__(self, tree: PyTree):
        self.tree = tree


class Loss(eqx.Module):
    """Σ_batch E_q[f]; what f captured is an argument too, so that one program serves any f."""

    f: Any
    estimator: AbstractEstimator
    held: Opaque

    def __call__(self, floats: PyTree, key: PRNGKey, learned: PyTree = None) -> Float[Array, ""]:
        q = self.distribution(floats)
        estimator = self.estimator if learned is None else eqx.combine(learned, self.estimator)
        return expect(key, q, self.f, estimator).sum()

    def distribution(self, floats: PyTree) -> Any:
        """q with these floating leaves."""
        return eqx.combine(floats, self.held.tree)

    @property
    def learned(self) -> PyTree:
        """The leaves of the estimator that its claims say are learned; None where there is none."""
        learns = bool(self.estimator.claims.learns)
        return eqx.filter(self.estimator, eqx.is_inexact_array if learns else False)


class Setting:
    """q and f, taken apart once for all estimators.

    Attributes:
        views: of q.
        floats: the floating leaves of q, in which the gradient is taken.
    """

    def __init__(self, key: PRNGKey, q: Any, f: CostFn):
        self.views: Joint = joint(q)
        # what every estimator would refuse is an error, not a row
        jax.eval_shape(lambda key: expect(key, q, f, Draw()), key)
        # between hard draws NumPyro's check of the support would make −inf of a log-probability
        with validation_enabled(False):
            self.f: Any = eqx.filter_closure_convert(f, self.views.example())
        self.floats, self._held = split_params(q)

    def loss(self, estimator: AbstractEstimator) -> Loss:
        """The loss with this estimator."""
        return Loss(self.f, estimator, Opaque(self._held))


class Draw(AbstractEstimator):
    """f at draws of q and no gradient: serves every q, whatever the user asks of it later."""

    num_samples: int = eqx.field(default=1, static=True)

    claims: ClassVar[Claims] = Claims(
        unbiased=False, needs=View, differentiable=False, cost="S", order=1, source="definition"
    )

    def estimate(self, key, q, f):
        costs, aux = f(q.sample(key, self.num_samples))
        return Estimate(jax.lax.stop_gradient(jnp.mean(costs, axis=0)), aux=aux)

    def evaluations(self, q):
        del q
        return Evaluations(hard=self.num_samples)
