"""The score function with a free, learned control variate of the perturbed logits."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._trees import add_axis, scale
from ..distributions import Factorized
from ._base import (
    AbstractEstimator,
    Claims,
    Estimate,
    Evaluations,
    carry,
    check_baseline,
    check_control_variate,
    check_stand_in,
    learnable,
    second_moment,
)


class RELAX(AbstractEstimator):
    """RELAX: a network of the perturbed logits as control variate; f may be a black box.

    Estimates:
        g = (f(b) − c_φ(z̃) − c) s + ∂/∂θ [c_φ(z) − c_φ(z̃)], where z = θ + noise, b its hard draw,
        s = ∂log q(b)/∂θ, and z̃ has the law of z given b. As in `REBAR`, z̃ coincides with z and
        differs in how it depends on θ, so c_φ is evaluated once.
    Needs:
        `Factorized` (Bernoulli, one-hot). f need not be differentiable in the draw.
    Claims:
        Unbiased for every φ and c.
    Cost:
        1 evaluation of f; 1 of c_φ with its gradient, and twice that to learn φ.
    Arguments:
        control_variate: c_φ, a callable pytree (an Equinox module, `jax.tree_util.Partial`) from z,
            shape batch + event (or the pytree of them), to shape batch. Its array leaves are
            learned; other inputs, such as the datum, enter as leaves too (`Partial(net, x)`), not
            through a closure. z of a masked category reads 0.
        baseline: c, a number or an array that broadcasts to the batch; None for none.
    Raises:
        IncompatibleError: q is not relaxable.
        InvalidArgumentError: a control variate that is not callable, or not of batch shape.
    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> def quadratic(w, z):
        ...     return (w * jax.nn.sigmoid(z) ** 2).sum(-1)
        >>> estimator = ex.RELAX(jax.tree_util.Partial(quadratic, jnp.ones(3)))
        >>> def loss(logits, estimator, key):
        ...     q = dist.Bernoulli(logits=logits).to_event(1)
        ...     return ex.expect(key, q, lambda b: jnp.floor(b.sum(-1) / 2), estimator)
        >>> both = jax.grad(loss, argnums=(0, 1))(jnp.zeros(3), estimator, jax.random.key(0))
        >>> both[1].control_variate.args[0].shape
        (3,)

    Reference:
        Grathwohl et al. (2018), eq. 8. φ and c minimise Σ g², the second moment of the gradient,
        per batch element, including the part of c_φ(z̃) inside the score term.
    """

    control_variate: Callable[[Any], Array]
    baseline: Float[Array, "..."] | None = eqx.field(default=None, converter=learnable)

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=Factorized,
        differentiable=False,
        cost="1",
        order=1,
        source="Grathwohl 2018",
        learns="control variate, baseline: second moment",
    )

    def __check_init__(self):
        check_control_variate(self, "control variate", self.control_variate, "the perturbed logits")

    def estimate(self, key, q, f):
        perturbed = q.perturb(key)
        draw = q.harden(perturbed)
        costs, aux = f(add_axis(draw))

        def surrogate(z):
            c = check_stand_in(
                self, "control variate", self.control_variate(q.presentable(z)), q.batch_shape
            )
            return jnp.sum(c), c

        (_, c_z), slope = jax.value_and_grad(surrogate, has_aux=True)(perturbed)
        c = check_baseline(self, self.baseline, costs)
        signal = jax.lax.stop_gradient(costs[0]) - c_z.astype(costs.dtype) - c
        gradient = jax.tree.map(jnp.add, scale(signal, q.score(draw)), q.residual(perturbed, slope))
        value = carry(costs[0], gradient, q.logits, q.batch_ndim)
        return Estimate(value, second_moment(gradient, q.batch_ndim), aux)

    def evaluations(self, q):
        del q
        return Evaluations(hard=1)
