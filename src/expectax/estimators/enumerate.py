"""The exact gradient, by summing over every outcome."""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from .._errors import InvalidArgumentError, complain
from .._trees import size_of
from ..distributions import Enumerable
from ._base import AbstractEstimator, Claims, Estimate, Evaluations, chunk_size

_TOO_MANY = 2**30


class Enumerate(AbstractEstimator):
    """The exact expectation and gradient: a sum over all joint outcomes.

    Estimates:
        Σ_b q(b) f(b), differentiated. Outcomes are made and evaluated in chunks, and only their
        costs are kept; the backward pass makes them again, and evaluates f again only for the
        gradient in f's own parameters.
    Needs:
        `Enumerable`: Bernoulli, one-hot, Categorical, Binomial … of a size that can be listed.
    Claims:
        Exact, at any order.
    Cost:
        f at every joint outcome: 2^D for D bits, C^D for D variables of C categories.
    Arguments:
        chunk_size: how many outcomes to evaluate at once; by default as many as make about four
            million elements.
    Raises:
        InvalidArgumentError: for more than 2^30 outcomes.
    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> q = dist.Bernoulli(logits=jnp.zeros(3)).to_event(1)
        >>> float(ex.expect(jax.random.key(0), q, lambda b: b.sum(), ex.Enumerate()))
        1.5

    Reference:
        The definition of an expectation.
    """

    chunk_size: int | None = eqx.field(default=None, static=True, kw_only=True)

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=Enumerable,
        differentiable=False,
        cost="all outcomes",
        order=math.inf,
        source="definition",
        exact_for="every f",
    )

    def estimate(self, key, q, f):
        del key
        total = q.num_outcomes
        if total > _TOO_MANY:
            raise InvalidArgumentError(
                complain(
                    f"Enumerate was given a q with {total} joint outcomes",
                    "summing over them would not end",
                    "use LeaveOneOut(), DisARM() or another sampling estimator",
                )
            )
        chunk = self.chunk_size or chunk_size(total, size_of(q.example()))

        def weighted(index):
            draws = q.outcome(index)
            costs, aux = f(draws)
            costs = checkpoint_name(costs, "cost")
            return jnp.exp(q.log_prob(draws)) * costs, aux

        if total <= chunk:
            terms, aux = weighted(jnp.arange(total))
            return Estimate(jnp.sum(terms, axis=0), aux=aux)

        def add(index):
            terms, aux = weighted(jnp.minimum(index, total - 1))
            inside = (index < total).reshape((-1,) + (1,) * q.batch_ndim)
            return jnp.sum(jnp.where(inside, terms, 0), axis=0), aux

        # the backward pass makes a chunk's outcomes again and keeps none; it keeps the costs, so
        # that f is evaluated again only where its own parameters are differentiated
        keep = jax.checkpoint_policies.save_only_these_names("cost")
        body = jax.checkpoint(lambda start: add(start + jnp.arange(chunk)), policy=keep)
        parts, aux = jax.lax.map(body, jnp.arange(0, total, chunk))
        aux = jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:]))[:total], aux)
        return Estimate(jnp.sum(parts, axis=0), aux=aux)

    def evaluations(self, q):
        return Evaluations(hard=q.num_outcomes)
