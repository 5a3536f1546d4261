"""Hard draws forward, means backward."""

from typing import ClassVar

from .._trees import add_axis
from ..distributions import Averaged
from ._base import AbstractEstimator, Claims, Estimate, Evaluations, straight_through


class StraightThrough(AbstractEstimator):
    """The straight-through estimator: the slope of f at the hard draw, sent to the mean.

    Estimates:
        f'(b) ∂p/∂θ, p = E[b].
    Needs:
        `Averaged` (Bernoulli, one-hot), and f differentiable in the draw; f meets hard draws only.
    Claims:
        The value is unbiased; the gradient is exact for linear f only.
    Cost:
        1 evaluation of f.
    Raises:
        IncompatibleError: q is not relaxable.
    Example:
        >>> import jax, numpyro.distributions as dist, expectax as ex
        >>> def loss(logit, key):
        ...     q = dist.Bernoulli(logits=logit)
        ...     return ex.expect(key, q, lambda b: 3 * b, ex.StraightThrough())
        >>> float(jax.grad(loss)(0.0, jax.random.key(0)))  # 3 p (1 − p)
        0.75

    Reference:
        Bengio, Léonard & Courville (2013), section 4; Hinton (2012).
    """

    claims: ClassVar[Claims] = Claims(
        unbiased=False,
        needs=Averaged,
        differentiable=True,
        cost="1",
        order=1,
        source="Bengio 2013",
        exact_for="linear f",
    )

    def estimate(self, key, q, f):
        hard = q.sample(key, 1)
        costs, aux = f(straight_through(hard, add_axis(q.mean)))
        return Estimate(costs[0], aux=aux)

    def evaluations(self, q):
        del q
        return Evaluations(hard=1)
