"""Direct optimization through argmax, one variable at a time."""

from typing import ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from .._trees import add_axis, size_of
from ..distributions import Changeable
from ._base import (
    AbstractEstimator,
    Claims,
    Estimate,
    Evaluations,
    carry,
    check_positive,
    learnable,
)


class DirectArgmax(AbstractEstimator):
    """Direct optimization through argmax: how the winner changes when the scores feel ε f.

    Estimates:
        (onehot argmax(θ + γ + ε f) − onehot argmax(θ + γ)) / ε, for each variable of the event,
        with f evaluated at every change of that variable, the others at the draw. For bits,
        (1[z + ε (f(1) − f(0)) > 0] − 1[z > 0]) / ε. For structures b = argmax ⟨φ(b), θ + γ⟩, the
        difference of φ at the two winners; φ(b) = b, or of orders the places. Two-sided, the
        second argmax is that of θ + γ − ε f, and the difference is divided by 2 ε.
    Needs:
        `Changeable`: bits, one-hot variables, sets, orders, and structures that can be listed. f
        need not be differentiable in the draw.
    Claims:
        Biased by O(ε), two-sided by O(ε²), with variance O(1/ε): unbiased as ε → 0. Exactly zero
        for a constant f.
    Cost:
        1 + D (C − 1) evaluations of f for D variables of C categories, 1 + D C for structures, in
        chunks of bounded memory.
    Arguments:
        epsilon: ε > 0, in units of logits per unit of f. A number or a traced scalar, so it can be
            annealed. It is not learned: its gradient is zero.
        two_sided: whether to take the central difference, at the price of another argmax (not of
            another evaluation of f).
    Raises:
        IncompatibleError: the values of q's variables cannot be listed.
        InvalidArgumentError: an epsilon that is not positive.
    Example:
        >>> import jax, jax.numpy as jnp, expectax as ex
        >>> def loss(logits, key):
        ...     f = lambda b: b @ jnp.array([0.0, 1.0, 2.0])
        ...     return ex.expect(key, ex.OneHotCategorical(logits=logits), f, ex.DirectArgmax(1.0))
        >>> jax.grad(loss)(jnp.zeros(3), jax.random.key(1)).sum().item()
        0.0

    Reference:
        Lorberbom et al. (2019), theorem 1, which holds for any scores that are linear in θ: the
        maximum of ⟨φ(b), θ + γ⟩ + ε f(b) has the derivatives φ in θ and f in ε. Song et al. (2016).
        The sign of ε only chooses from which side the limit is taken.
    """

    epsilon: Float[Array, ""] = eqx.field(default=1.0, converter=learnable)  # type: ignore[assignment]
    two_sided: bool = eqx.field(default=False, static=True, kw_only=True)

    claims: ClassVar[Claims] = Claims(
        unbiased=False,
        needs=Changeable,
        differentiable=False,
        cost="1 + D (C − 1)",
        order=1,
        source="Lorberbom 2019",
        exact_for="as epsilon → 0",
        zero_for_constant=True,
    )

    def __check_init__(self):
        check_positive(self, "epsilon", self.epsilon)

    def estimate(self, key, q, f):
        perturbed = q.perturb(key)
        draw = q.harden(perturbed)
        costs, aux = f(add_axis(draw))
        here = jax.lax.stop_gradient(costs[0])
        epsilon = jax.lax.stop_gradient(self.epsilon)
        size, width = size_of(draw), 2 if self.two_sided else 1

        def direction(site, z, b, put):
            changed = f.at_outcomes(lambda i: put(site.change(b, i)), site.num_changes, size)
            deltas = jax.lax.stop_gradient(changed) - here
            up = site.winner(z, b, epsilon * deltas)
            down = site.winner(z, b, -epsilon * deltas) if self.two_sided else b
            return (site.features(up) - site.features(down)) / (width * epsilon).astype(z.dtype)

        gradient = q.each_in_turn(direction, perturbed, draw)
        return Estimate(carry(costs[0], gradient, q.logits, q.batch_ndim), aux=aux)

    def value(self, key, q, f):
        costs, aux = f(add_axis(q.harden(q.perturb(key))))
        return costs[0], aux

    def evaluations(self, q):
        return Evaluations(hard=1, auxiliary=sum(site.num_changes for site in q.sites))
