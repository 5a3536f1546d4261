"""Leave-one-out, with a control variate from a discrete Stein operator and a learned surrogate."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._trees import mean_draws, scale, size_of, sum_events
from ..distributions import Factorized, Joint, OneHot
from ._base import (
    AbstractEstimator,
    Claims,
    Estimate,
    Evaluations,
    carry,
    check_baseline,
    check_control_variate,
    check_num_samples,
    check_stand_in,
    chunk_size,
    learnable,
    second_moment,
)


class DiscreteStein(AbstractEstimator):
    """RODEO: leave-one-out on f − h, and h's part put back by a discrete Stein operator.

    Estimates:
        g = 1/S Σ_s [(F_s − 1/(S−1) Σ_{r≠s} F_r) s_s + J D_s], where F = f − h, h a surrogate of f,
        s = ∂log q(b)/∂θ, J = ∂E[b]/∂θ, and D_s holds the differences of h at the single changes of
        b_s: h(b with b_i = 1) − h(b with b_i = 0) for bit i, h(b with b_i = c) − h(b) for category
        c.
    Needs:
        `Factorized` (Bernoulli, one-hot). f need not be differentiable in the draw.
    Claims:
        Unbiased for every h. Unchanged when a constant is added to f, or to h. Exactly zero for a
        constant f while h is constant, as it starts; then it is `LeaveOneOut`. With h = f it is
        `LocalExpectation` averaged over the draws, at no more evaluations of f: for an f that is a
        sum over the variables it has no variance.
    Cost:
        S evaluations of f; S (1 + D (C − 1)) of h for D variables of C categories, in chunks of
        bounded memory.
    Arguments:
        num_samples: S ≥ 2.
        slope: of h = slope·m + curve·m² + surrogate, m ∈ [0, 1] the mean of the bits, or of the
            numbers of the categories over C − 1. A number or an array that broadcasts to the batch.
        curve: of the same h; the same kind of number.
        surrogate: a callable pytree (an Equinox module, `jax.tree_util.Partial`) from a draw, shape
            batch + event (or the pytree of them), to shape batch; None for none. Its array leaves
            are learned; other inputs, such as the datum, enter as leaves too (`Partial(net, x)`).
            It sees hard draws only. End a network with a layer of zeros.
    Raises:
        IncompatibleError: q is not made of Bernoulli or one-hot variables.
        InvalidArgumentError: `num_samples` < 2; a surrogate that is not callable, or not of batch
            shape; a slope or curve that does not broadcast to the batch.
    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> def loss(logits, estimator, key):
        ...     q = dist.Bernoulli(logits=logits).to_event(1)
        ...     return ex.expect(key, q, lambda b: 2 * b.mean(-1), estimator)
        >>> for estimator in (ex.DiscreteStein(), ex.DiscreteStein(slope=2.0)):
        ...     gradient = jax.grad(loss)(jnp.zeros(2), estimator, jax.random.key(2))
        ...     print(gradient.tolist())  # the exact one is p (1 − p) = 0.25 for each
        [0.5, 0.0]
        [0.25, 0.25]

    Reference:
        Shi et al. (2022), sections 3 and 4. The Gibbs operator of variable i, A_i v = E_i v − v
        with E_i the mean over b_i given the others, has mean zero, because E E_i v = E v. It is
        applied to v = h s_i, where E_i[h s_i] = (J D)_i is the gradient of E_i h. (They average the
        operators of all variables; here component i of the gradient has its own alone. For bits
        their Barker operator is the same.) In the baseline F_r is independent of b_s for r ≠ s,
        since h depends on no draw; their surrogate is made of the other draws' costs and slopes.
        slope, curve and the surrogate minimise Σ g², per batch element.
    """

    num_samples: int = eqx.field(default=2, static=True)
    slope: Float[Array, "..."] = eqx.field(default=0.0, converter=learnable)  # type: ignore[assignment]
    curve: Float[Array, "..."] = eqx.field(default=0.0, converter=learnable)  # type: ignore[assignment]
    surrogate: Callable[[Any], Array] | None = None

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=Factorized,
        differentiable=False,
        cost="S",
        order=1,
        source="Shi 2022",
        learns="slope, curve, surrogate: second moment",
        zero_for_constant=True,
    )

    def __check_init__(self):
        check_num_samples(self, self.num_samples, 2)
        if self.surrogate is not None:
            check_control_variate(self, "surrogate", self.surrogate, "a draw")

    def estimate(self, key, q, f):
        draws = q.sample(key, self.num_samples)
        costs, aux = f(draws)
        level, differences = self.stein(q, draws)
        # Relative to the first draw, a constant f is exactly zero whatever the rounding of sums.
        relative = lambda x: x - x[:1]
        residual = relative(jax.lax.stop_gradient(costs)) - relative(level.astype(costs.dtype))
        others = (jnp.sum(residual, axis=0) - residual) / (self.num_samples - 1)
        gradient = jax.tree.map(
            jnp.add,
            mean_draws(scale(residual - others, q.score(draws))),
            q.pull_mean(mean_draws(differences)),
        )
        value = carry(jnp.mean(costs, axis=0), gradient, q.logits, q.batch_ndim)
        return Estimate(value, second_moment(gradient, q.batch_ndim), aux)

    def stein(self, q: Joint, draws: PyTree) -> tuple[Float[Array, "S *batch"], PyTree]:
        """h and D at a stack of draws; J D − h s has mean zero in every component."""
        size = size_of(draws)

        def one(draw):
            here = self._level(q, draw)

            def differences(site, b, put):
                # without the checkpoint, learning h would keep every changed draw
                changed = jax.checkpoint(lambda i: self._level(q, put(site.change(b, i))))
                index, num = jnp.arange(site.num_changes), site.num_changes
                there = jax.lax.map(changed, index, batch_size=chunk_size(num, size))
                return site.differences(b, there - here)

            return here, q.each_in_turn(differences, draw)

        return jax.vmap(one)(draws)

    def _level(self, q: Joint, draw: PyTree) -> Float[Array, "*batch"]:
        """h of one draw."""
        positions, num = 0.0, 0
        for site, x in zip(q.sites, jax.tree.leaves(draw), strict=True):
            if isinstance(site, OneHot):
                x = x @ jnp.linspace(0, 1, site.num_categories, dtype=x.dtype)
            x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
            positions = positions + sum_events(x, q.batch_ndim)
            num += math.prod(x.shape[q.batch_ndim :])
        m = jnp.asarray(positions / num)
        slope, curve = (check_baseline(self, x, m[None]) for x in (self.slope, self.curve))
        level = slope * m + curve * m**2
        if self.surrogate is None:
            return level
        h = check_stand_in(self, "surrogate", self.surrogate(draw), q.batch_shape)
        return level + h.astype(level.dtype)

    def value(self, key, q, f):
        costs, aux = f(q.sample(key, self.num_samples))
        return jnp.mean(costs, axis=0), aux

    def evaluations(self, q):
        del q
        return Evaluations(hard=self.num_samples)
