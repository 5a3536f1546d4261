"""Each variable summed out in turn, the others at the draw."""

from typing import ClassVar

import jax

from .._trees import add_axis, first, size_of
from ..distributions import Factorized
from ._base import AbstractEstimator, Claims, Estimate, Evaluations, carry


class LocalExpectation(AbstractEstimator):
    """Local expectation gradients: for each variable the exact gradient given the others' draw.

    Estimates:
        for variable d, Σ_k ∂p_d(k)/∂θ_d · [f(b with b_d = k) − f(b)]: E[f | the others]
        differentiated, the draw's own cost subtracted because Σ_k ∂p_d(k) = 0.
    Needs:
        `Factorized` (Bernoulli, one-hot). f need not be differentiable in the draw.
    Claims:
        Unbiased. Exact with a single variable. Exactly zero for a constant f.
    Cost:
        1 + D (C − 1) evaluations of f for D variables of C categories, made and evaluated in
        chunks of bounded memory.
    Raises:
        IncompatibleError: q is not made of bits or one-hot variables.
    Example:
        >>> import jax, numpyro.distributions as dist, expectax as ex
        >>> def loss(logit, key):
        ...     q = dist.Bernoulli(logits=logit)
        ...     return ex.expect(key, q, lambda b: (b - 0.25) ** 2, ex.LocalExpectation())
        >>> [float(jax.grad(loss)(0.0, jax.random.key(i))) for i in range(3)]  # p (1 − p) (1 − 2t)
        [0.125, 0.125, 0.125]

    Reference:
        Titsias & Lázaro-Gredilla (2015), algorithm 1.
    """

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=Factorized,
        differentiable=False,
        cost="1 + D (C − 1)",
        order=1,
        source="Titsias & Lázaro-Gredilla 2015",
        zero_for_constant=True,
    )

    def estimate(self, key, q, f):
        draw = first(q.sample(key, 1))
        costs, aux = f(add_axis(draw))
        here = jax.lax.stop_gradient(costs[0])
        size = size_of(draw)

        def differences(site, b, put):
            changed = f.at_outcomes(lambda i: put(site.change(b, i)), site.num_changes, size)
            return site.differences(b, jax.lax.stop_gradient(changed) - here)

        gradient = q.pull_mean(q.each_in_turn(differences, draw))
        return Estimate(carry(costs[0], gradient, q.logits, q.batch_ndim), aux=aux)

    def value(self, key, q, f):
        costs, aux = f(q.sample(key, 1))
        return costs[0], aux

    def evaluations(self, q):
        return Evaluations(hard=1, auxiliary=sum(site.num_changes for site in q.sites))
