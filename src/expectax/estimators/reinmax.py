"""Straight-through to second order."""

from typing import ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from .._trees import add_axis
from ..distributions import Factorized
from ._base import (
    AbstractEstimator,
    Claims,
    Estimate,
    Evaluations,
    check_positive,
    learnable,
    zero_with_gradient,
)


class ReinMax(AbstractEstimator):
    """ReinMax: the straight-through estimator to second order, by Heun's method.

    Estimates:
        2 J((p_τ + b)/2)ᵀ f'(b) − ½ J(p)ᵀ f'(b), J(a) = diag(a) − a aᵀ (for a bit a (1 − a)), with
        p = E[b] and p_τ the same at logits θ/τ.
    Needs:
        `Factorized` (Bernoulli, one-hot), and f differentiable in the draw; f meets hard draws
        only.
    Claims:
        The value is unbiased; at temperature 1 the gradient is exact for quadratic f.
    Cost:
        1 evaluation of f.
    Arguments:
        temperature: τ > 0, of the first term alone; 1 is the derived estimator. A number or a
            traced scalar. It is not learned: its gradient is zero.
    Raises:
        IncompatibleError: q is not made of bits or one-hot variables.
        InvalidArgumentError: a temperature that is not positive.
    Example:
        >>> import jax, numpyro.distributions as dist, expectax as ex
        >>> def loss(logit, key):
        ...     q = dist.Bernoulli(logits=logit)
        ...     return ex.expect(key, q, lambda b: (b - 0.25) ** 2, ex.ReinMax())
        >>> [float(jax.grad(loss)(0.0, jax.random.key(i))) for i in (0, 3)]  # a mean of 0.125
        [0.375, -0.125]

    Reference:
        Liu et al. (2023), "Bridging discrete and backpropagation", theorem 3.1 and algorithm 2. For
        a bit: ½ (1 − p) f'(1) with probability p and ½ p f'(0) otherwise, whose mean is
        p (1 − p) (f'(0) + f'(1))/2, by the trapezoidal rule p (1 − p) (f(1) − f(0)).
    """

    temperature: Float[Array, ""] = eqx.field(default=1.0, converter=learnable)  # type: ignore[assignment]

    claims: ClassVar[Claims] = Claims(
        unbiased=False,
        needs=Factorized,
        differentiable=True,
        cost="1",
        order=1,
        source="Liu 2023",
        exact_for="quadratic f",
    )

    def __check_init__(self):
        check_positive(self, "temperature", self.temperature)

    def estimate(self, key, q, f):
        hard = q.sample(key, 1)
        held, tau = jax.lax.stop_gradient((q, self.temperature))
        step = add_axis(zero_with_gradient(q.logits))
        # J(a) is symmetric: pulling θ − stop(θ) through it is pushing it forward
        middle = jax.tree.map(
            lambda y, b: (y + b) / 2, held.relax(add_axis(held.logits), tau), hard
        )
        one = held.pull(middle, step)
        two = held.pull(add_axis(held.mean), step)
        moved = jax.tree.map(lambda b, x, y: b + (2 * x - y / 2).astype(b.dtype), hard, one, two)
        costs, aux = f(moved)
        return Estimate(costs[0], aux=aux)

    def evaluations(self, q):
        del q
        return Evaluations(hard=1)
