"""Draws without replacement, each the baseline of the others."""

import itertools
import math
from collections.abc import Iterable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._errors import InvalidArgumentError, complain
from ..distributions import Enumerable
from ._base import (
    AbstractEstimator,
    Claims,
    Estimate,
    Evaluations,
    check_num_samples,
    log_probabilities,
)

_MOST_DRAWS = 12


class UnorderedSet(AbstractEstimator):
    """The unordered-set estimator: k joint outcomes without replacement, with a baseline for each.

    Estimates:
        Σ_{s ∈ S} ∂q(s) R(S, s) (f(s) − Σ_{s' ∈ S} q(s') R_s(S, s') f(s')), with S drawn without
        replacement, R(S, s) = P(S | s first) / P(S) the leave-one-out ratio, and R_s the same
        ratio among the draws after s: R_s(S, s) = 1. The q(s') R_s(S, s') sum to one.
    Needs:
        `Enumerable`, with at most 2^20 joint outcomes: q, not f, is evaluated at each.
    Claims:
        Unbiased, at any order; without variance where the set holds all outcomes. Exactly zero
        for a constant f, and unchanged when a constant is added to f.
    Cost:
        k evaluations of f, and 2^k small operations for P(S).
    Arguments:
        num_samples: k, from 2 to 12, or all outcomes if they are fewer.
    Raises:
        IncompatibleError: q cannot be enumerated.
        InvalidArgumentError: `num_samples` outside its range (with one draw the baseline would be
            the draw's own cost, and the estimate biased), or more than 2^20 outcomes.
    Example:
        >>> import jax, numpyro.distributions as dist, expectax as ex
        >>> def loss(logit, key):
        ...     q = dist.Bernoulli(logits=logit)
        ...     return ex.expect(key, q, lambda b: (b - 0.25) ** 2, ex.UnorderedSet(2))
        >>> [round(float(jax.grad(loss)(0.0, jax.random.key(i))), 6) for i in range(3)]
        [0.125, 0.125, 0.125]

    Reference:
        Kool, van Hoof & Welling (2020), "Estimating gradients for discrete random variables by
        sampling without replacement", eq. 15 and 20. The probabilities in the ratios are those of
        q, not renormalised over S, and R is held in the derivative.
    """

    num_samples: int = eqx.field(default=2, static=True)

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=Enumerable,
        differentiable=False,
        cost="k",
        order=math.inf,
        source="Kool 2020",
        zero_for_constant=True,
    )

    def __check_init__(self):
        check_num_samples(self, self.num_samples, 2)
        if self.num_samples > _MOST_DRAWS:
            raise InvalidArgumentError(
                complain(
                    f"UnorderedSet was given {self.num_samples} draws",
                    "the probability of a set of k is a sum over its 2^k subsets",
                    f"pass at most {_MOST_DRAWS}, or use Enumerate() or LeaveOneOut()",
                )
            )

    def estimate(self, key, q, f):
        log_p = log_probabilities(self, q)
        index = q.choose(key, log_p, min(self.num_samples, len(log_p)))
        draws = q.outcome(index)
        costs, aux = f(draws)
        among = jnp.any(index[:, None] == _numbers(log_p), axis=0)
        log_rest = jax.nn.logsumexp(jnp.where(among, -jnp.inf, log_p), axis=0)
        chosen = jnp.take_along_axis(log_p, index, axis=0)
        log_ratio, log_after = _log_ratios(chosen, log_rest)
        log_q = q.log_prob(draws)
        finite = jnp.where(jnp.isfinite(log_q), log_q, 0)
        weight = jnp.exp(finite - jax.lax.stop_gradient(finite) + chosen + log_ratio)
        held = jax.lax.stop_gradient(costs - costs[0])
        # row s: the estimate of E[f] from s and the draws after it, whose mean does not know s
        baseline = costs[0] + jnp.sum(jnp.exp(chosen + log_after) * held, axis=1)
        baseline = jax.lax.stop_gradient(baseline)
        total = jnp.sum(weight * (costs - baseline), axis=0)
        return Estimate(total + jax.lax.stop_gradient(jnp.sum(weight * baseline, axis=0)), aux=aux)

    def evaluations(self, q):
        return Evaluations(hard=min(self.num_samples, q.num_outcomes))


def _numbers(log_p: Float[Array, "N *batch"]) -> Array:
    return jnp.arange(len(log_p)).reshape((-1,) + (1,) * (log_p.ndim - 1))


def _log_ratios(
    log_p: Float[Array, "k *batch"], log_rest: Float[Array, "*batch"]
) -> tuple[Float[Array, "k *batch"], Float[Array, "k k *batch"]]:
    """log R(S, s), and log R_s(S, s') with zeros on the diagonal.

    G(T), the probability that the draws after S \\ T are the set T, obeys
    G(T) = Σ_{t ∈ T} p(t) / (1 − p(S \\ T)) · G(T \\ t), where 1 − p(S \\ T) is the probability of
    the rest and of T: sums of positive terms alone. R(S, s) = G(S \\ s) / G(S).

    Arguments:
        log_p: of the k outcomes in S.
        log_rest: of all outcomes outside S together; −inf if there are none.
    """
    k = len(log_p)
    subsets = [c for size in range(k + 1) for c in itertools.combinations(range(k), size)]
    number = {subset: i for i, subset in enumerate(subsets)}
    log_g = jnp.zeros_like(log_rest)[None]  # of the empty set; then of all sets of a size at once
    for size in range(1, k + 1):
        members = np.array([t for t in subsets if len(t) == size])
        parents = np.array([[number[_without(t, i)] for i in t] for t in members.tolist()])
        terms = jax.nn.logsumexp(log_p[members] + log_g[parents], axis=1)
        own = jax.nn.logsumexp(log_p[members], axis=1)
        log_g = jnp.concatenate([log_g, terms - jnp.logaddexp(log_rest, own)])
    everything = tuple(range(k))
    one = np.array([number[_without(everything, i)] for i in everything])
    two = [[number[_without(_without(everything, i), j)] for j in everything] for i in everything]
    return log_g[one] - log_g[-1], log_g[np.array(two)] - log_g[one][:, None]


def _without(subset: Iterable[int], member: int) -> tuple[int, ...]:
    return tuple(i for i in subset if i != member)
