"""Implicit maximum likelihood: from a draw to the one that a step down f's slope would draw."""

from typing import ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from .._numerics import push
from .._trees import add_axis, first
from ..distributions import Solvable
from ._base import (
    AbstractEstimator,
    Claims,
    Estimate,
    Evaluations,
    carry,
    check_positive,
    learnable,
)


class ImplicitMLE(AbstractEstimator):
    """Implicit MLE: towards the law whose scores have taken a step down the slope of f.

    Estimates:
        (argmax⟨·, θ + γ⟩ − argmax⟨·, θ − λ f'(b) + γ⟩) / λ, b = argmax⟨·, θ + γ⟩, with the same
        noise γ in both: 1/λ times the perturb-and-MAP gradient of KL(target ‖ q), the target's
        scores being θ − λ f'(b).
    Needs:
        `Solvable`: a draw is the maximiser of perturbed scores. f differentiable in the draw; it
        meets hard draws only.
    Claims:
        The value is unbiased. The gradient is biased by O(λ) for linear f, with variance O(1/λ):
        exact for linear f as λ → 0. For other f the limit is not exact: for a bit it is
        p (1 − p) (max(f'(1), 0) + min(f'(0), 0)). Exactly zero for a constant f.
    Cost:
        1 evaluation of f, 1 more for its slope at the same draw, and 2 solves.
    Arguments:
        step: λ > 0, in units of scores per unit of slope. A number or a traced scalar. It is not
            learned: its gradient is zero.
    Raises:
        IncompatibleError: q is not solvable.
        InvalidArgumentError: a step that is not positive.
    Example:
        >>> import jax, jax.numpy as jnp, expectax as ex
        >>> def loss(logits, key):
        ...     f = lambda b: b @ jnp.array([0.0, 1.0, 2.0])
        ...     return ex.expect(key, ex.OneHotCategorical(logits=logits), f, ex.ImplicitMLE(0.5))
        >>> gradients = jax.vmap(jax.grad(loss), (None, 0))
        >>> gradients(jnp.zeros(3), jax.random.split(jax.random.key(0), 3)).tolist()
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [-2.0, 2.0, 0.0]]

    Reference:
        Niepert, Minervini & Franceschi (2021), eq. 7 and algorithm 1, divided by λ so that the
        step does not scale the gradient. The limit is our derivation: the boundary between two
        draws is crossed from one side only, and the slope is the one on that side. It is
        `DirectArgmax` of f's slope, with ε = −λ.
    """

    step: Float[Array, ""] = eqx.field(default=1.0, converter=learnable)  # type: ignore[assignment]

    claims: ClassVar[Claims] = Claims(
        unbiased=False,
        needs=Solvable,
        differentiable=True,
        cost="1 + 1 with its slope",
        order=1,
        source="Niepert 2021",
        exact_for="linear f as step → 0",
        zero_for_constant=True,
    )

    def __check_init__(self):
        check_positive(self, "step", self.step)

    def estimate(self, key, q, f):
        perturbed = q.perturb(key)
        draw = q.harden(perturbed)
        costs, aux = f(add_axis(draw))
        step = jax.lax.stop_gradient(self.step)
        downhill = jax.tree.map(lambda u: -step * u, first(f.slope(add_axis(draw))))
        target = q.harden(jax.tree.map(push, perturbed, downhill, q.logits))
        gradient = jax.tree.map(
            lambda b, t, z: (b - t).astype(z.dtype) / step.astype(z.dtype), draw, target, perturbed
        )
        return Estimate(carry(costs[0], gradient, q.logits, q.batch_ndim), aux=aux)

    def value(self, key, q, f):
        costs, aux = f(add_axis(q.harden(q.perturb(key))))
        return costs[0], aux

    def evaluations(self, q):
        del q
        return Evaluations(hard=1, auxiliary=1)
