"""A random few variables flipped, one at a time."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from .._trees import add_axis, first, size_of
from ..distributions import Binary
from ._base import AbstractEstimator, Claims, Estimate, Evaluations, carry, check_num_samples


class BitFlip(AbstractEstimator):
    """`LocalExpectation` on a random subset of the bits, rescaled: what a few flips tell.

    Estimates:
        for each of m bits chosen without replacement among the D of a site, the same for the whole
        batch, D/m · p (1 − p) (f(b with b_d = 1) − f(b with b_d = 0)); zero for the others.
    Needs:
        Bernoulli variables. f need not be differentiable in the draw.
    Claims:
        Unbiased. Exactly zero for a constant f.
    Cost:
        1 + m evaluations of f for each site; m is at most its number of bits.
    Arguments:
        num_variables: m ≥ 1.
    Raises:
        IncompatibleError: q is not Bernoulli.
        InvalidArgumentError: `num_variables` < 1.
    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> def loss(logits, key):
        ...     q = dist.Bernoulli(logits=logits).to_event(1)
        ...     return ex.expect(key, q, lambda b: b.sum(), ex.BitFlip(1))
        >>> jax.grad(loss)(jnp.zeros(3), jax.random.key(3)).tolist()  # 3/1 · ¼, or 0
        [0.0, 0.0, 0.75]

    Reference:
        A random subset of the sum in Titsias & Lázaro-Gredilla (2015); each bit is chosen with
        probability m/D.
    """

    num_variables: int = eqx.field(default=1, static=True)

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=Binary,
        differentiable=False,
        cost="1 + m",
        order=1,
        source="Titsias & Lázaro-Gredilla 2015",
        zero_for_constant=True,
    )

    def __check_init__(self):
        check_num_samples(self, self.num_variables, 1)

    def _num_flips(self, site):
        return min(self.num_variables, site.num_changes)

    def estimate(self, key, q, f):
        draw_key, choice_key = jax.random.split(key)
        draw = first(q.sample(draw_key, 1))
        costs, aux = f(add_axis(draw))
        here = jax.lax.stop_gradient(costs[0])
        size = size_of(draw)
        keys = iter(jax.random.split(choice_key, len(q.sites)))

        def differences(site, b, put):
            num, total = self._num_flips(site), site.num_changes
            chosen = jax.random.permutation(next(keys), total)[:num]
            changed = f.at_outcomes(lambda i: put(site.change(b, chosen[i])), num, size)
            deltas = (jax.lax.stop_gradient(changed) - here) * (total / num)
            spread = jnp.zeros((total, *deltas.shape[1:]), deltas.dtype).at[chosen].set(deltas)
            return site.differences(b, spread)

        gradient = q.pull_mean(q.each_in_turn(differences, draw))
        return Estimate(carry(costs[0], gradient, q.logits, q.batch_ndim), aux=aux)

    def value(self, key, q, f):
        costs, aux = f(q.sample(jax.random.split(key)[0], 1))
        return costs[0], aux

    def evaluations(self, q):
        return Evaluations(hard=1, auxiliary=sum(self._num_flips(site) for site in q.sites))
