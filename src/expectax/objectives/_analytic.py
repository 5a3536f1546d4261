"""The evidence lower bound whose KL divergence is known in closed form."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions.kl import kl_divergence as registered

from .._errors import IncompatibleError, InvalidArgumentError, complain
from .._expect import expect
from .._trees import add_axis, sum_leaves
from .._types import PRNGKey
from ..distributions import OneHotCategorical, joint
from ..estimators import AbstractEstimator

LogLikelihood = Callable[[Any], Float[Array, "*batch"]]
"""From a draw z, shape batch + event, to log p(x | z), shape batch, in nats."""


def neg_elbo_analytic_kl(
    key: PRNGKey, q: Any, prior: Any, log_likelihood: LogLikelihood, estimator: AbstractEstimator
) -> Float[Array, "*batch"]:
    """An estimate of −ELBO = KL(q ‖ p(z)) − E_q[log p(x | z)], the KL divergence in closed form.

    It has the expectation of `neg_elbo`, and its gradient: only log p(x | z) is left to the draws.
    That takes the noise of the KL term out. Beside `Pathwise` and near the optimum `neg_elbo` can
    be the less noisy all the same: where q is the posterior, what it leaves out makes its gradient
    exactly zero. It is right at any order that the estimator is.

    Arguments:
        key: consumed.
        q: q(z | x), a NumPyro distribution or a pytree of them, with batch shape.
        prior: p(z), with the structure of q; its batch shape broadcasts to that of q.
        log_likelihood: log p(x | z) of a draw z, shape batch + event, to shape batch.
        estimator: how the gradient of E_q[log p(x | z)] is estimated.

    Returns:
        Shape batch, in nats. Under `jax.grad`, the gradient in everything that q, the prior and
        `log_likelihood` depend on.

    Raises:
        IncompatibleError: the estimator cannot serve q, or no closed form is known.
        InvalidArgumentError: a prior of another structure or event shape than q.

    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> q, p = (dist.Normal(jnp.full(2, m), 1.0).to_event(1) for m in (1.0, 0.0))
        >>> none = lambda z: 0 * z.sum(-1)
        >>> neg_elbo_analytic_kl(jax.random.key(0), q, p, none, ex.Pathwise()).item()  # ½ |1|²
        1.0

    Reference: Kingma & Welling (2014), eq. 3 and 10.
    """
    cost = lambda z: -log_likelihood(z)
    divergence = kl_divergence(q, prior)
    return divergence + expect(key, q, cost, estimator)


def kl_divergence(q: Any, p: Any) -> Float[Array, "*batch"]:
    """KL(q ‖ p) in closed form, in nats: of bits, of one-hot variables, and whatever NumPyro knows.

    Arguments:
        q: a NumPyro distribution, or a pytree of independent ones.
        p: with the structure of q; its batch shape broadcasts to that of q.

    Returns:
        The batch shape of q. What p rules out counts 10⁴ nats times its chance under q, not ∞:
        so the gradient stays finite.

    Raises:
        IncompatibleError: no closed form is known.
        InvalidArgumentError: p has another structure or event shape than q, or a batch shape that
            does not broadcast to that of q.

    Example:
        >>> import jax.numpy as jnp, expectax as ex
        >>> q = ex.OneHotCategorical(logits=jnp.array([0.0, 0.0, -jnp.inf]))
        >>> print(f"{kl_divergence(q, ex.OneHotCategorical(logits=jnp.zeros(3))):.4f}")  # log 3/2
        0.4055
    """
    leaf = lambda x: isinstance(x, dist.Distribution)
    ours, theirs = (jax.tree.flatten(tree, is_leaf=leaf) for tree in (q, p))
    if ours[1] != theirs[1] or [x.event_shape for x in ours[0]] != [
        x.event_shape for x in theirs[0]
    ]:
        raise InvalidArgumentError(
            complain(
                "the KL divergence was asked for between distributions of different structures",
                "both are laws of the same variables",
                "pass a prior with the structure and the event shapes of q",
            )
        )
    for a, b in zip(ours[0], theirs[0], strict=True):
        if not _broadcasts(b.batch_shape, a.batch_shape):
            raise InvalidArgumentError(
                complain(
                    f"q has batch shape {a.batch_shape}, the prior {b.batch_shape}",
                    "each batch element has one divergence",
                    "pass a prior whose batch shape broadcasts to that of q, or none",
                )
            )
    total = sum_leaves([_divergence(a, b) for a, b in zip(ours[0], theirs[0], strict=True)])
    return jnp.broadcast_to(total, ours[0][0].batch_shape)


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether an array of this shape broadcasts to another."""
    pairs = zip(shape[::-1], to[::-1], strict=False)
    return len(shape) <= len(to) and all(a in (1, b) for a, b in pairs)


def _divergence(q: Any, p: Any) -> Array:
    """Of one site."""
    inner_q, inner_p = _inner(q), _inner(p)
    bits = (dist.BernoulliLogits, dist.BernoulliProbs)
    kinds = bits if isinstance(inner_q, bits) else OneHotCategorical
    if isinstance(inner_q, (*bits, OneHotCategorical)) and isinstance(inner_p, kinds):
        return _of_choices(q, p)
    try:
        return registered(q, p)
    except NotImplementedError:
        name, other = type(inner_q).__name__, type(inner_p).__name__
        raise IncompatibleError(
            complain(
                f"the KL divergence of {name} from {other} was asked for",
                "no closed form of it is known",
                "use neg_elbo(), which needs none, or register one with "
                "numpyro.distributions.kl.kl_divergence",
            )
        ) from None


def _inner(q: Any) -> Any:
    """What is left when event axes and expansions are taken off."""
    while isinstance(q, dist.Independent | dist.ExpandedDistribution):
        q = q.base_dist
    return q


def _of_choices(q: Any, p: Any) -> Array:
    """Of bits or one-hot variables: log q and log p are linear in the draw, so take its mean."""
    ours, theirs = joint(q), joint(p.expand(q.batch_shape))
    mean = add_axis(ours.mean)
    return (ours.log_prob(mean) - theirs.log_prob(mean))[0]
