"""The evidence lower bound."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._errors import IncompatibleError, InvalidArgumentError, complain
from .._expect import expect
from .._trees import add_axis
from .._types import PRNGKey
from ..distributions import Joint, Scored, joint
from ..estimators import AbstractEstimator

LogJoint = Callable[[Any], Float[Array, "*batch"]]
"""From a draw z, shape batch + event, to log p(x, z), shape batch, in nats."""


def neg_elbo(
    key: PRNGKey, q: Any, log_joint: LogJoint, estimator: AbstractEstimator
) -> Float[Array, "*batch"]:
    """An estimate of −ELBO = E_q[log q(z) − log p(x, z)], in nats, to be minimised.

    The cost contains q itself. Its own derivative, E_q[∂log q(z)] = 0, is left out: log q is
    evaluated at stop_gradient(q), which changes no mean and saves the noise of that term. So
    first derivatives are right and *second derivatives are not*, whatever the estimator; for those
    write the cost out and pass it to `expect`. With `Pathwise` this is the "sticking the landing"
    gradient.

    Arguments:
        key: consumed.
        q: q(z | x), a NumPyro distribution or a pytree of them, with batch shape.
        log_joint: log p(x, z) of a draw z, shape batch + event, to shape batch.
        estimator: how the gradient is estimated. With a relaxing estimator the value is taken at
            relaxed draws and is no bound: evaluate with `hard_elbo` or `importance_bound`.

    Returns:
        Shape batch. Under `jax.grad`, the gradient in everything that q and `log_joint` depend on.

    Raises:
        IncompatibleError: the estimator cannot serve q, or q has no log-probability.
        InvalidArgumentError: a `log_joint` of another shape.

    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> q = dist.Bernoulli(logits=jnp.zeros(2)).to_event(1)
        >>> uniform = lambda z: jnp.log(0.25) + 0 * z.sum(-1)
        >>> abs(float(neg_elbo(jax.random.key(0), q, uniform, ex.DisARM()))) < 1e-6  # q is p
        True

    Reference: Kingma & Welling (2014), eq. 2; Roeder, Wu & Duvenaud (2017) for the term left out.
    """
    views = law_of(q, "neg_elbo")
    held = jax.lax.stop_gradient(views)

    def cost(z: Any) -> Array:
        # the views' log q is linear in z, so it is defined at relaxed draws, and it has the
        # derivative ½ at a logit of exactly 0
        # and what is left out is 0 only where the support stays
        log_q = views.with_fixed_support(held.log_prob(add_axis(z))[0])
        return log_q - joint_of(log_joint, z, held)

    return expect(key, q, cost, estimator)


def elbo(
    key: PRNGKey, q: Any, log_joint: LogJoint, estimator: AbstractEstimator
) -> Float[Array, "*batch"]:
    """An estimate of the ELBO, in nats, to be maximised: −`neg_elbo`, with its caveats.

    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> q = dist.Bernoulli(logits=jnp.zeros(2)).to_event(1)
        >>> value = elbo(jax.random.key(0), q, lambda z: 0 * z.sum(-1), ex.Enumerate())
        >>> print(f"{value:.4f}")  # the entropy, 2 log 2
        1.3863
    """
    return -neg_elbo(key, q, log_joint, estimator)


def law_of(q: Any, who: str) -> Joint:
    """q as its views, which must have a log-probability: every bound contains log q(z)."""
    views = joint(q)
    for site, name in zip(views.sites, views.names, strict=True):
        if not isinstance(site, Scored):
            raise IncompatibleError(
                complain(
                    f"{who} was given {name}",
                    "a bound contains log q(z), and this law has draws but no log-probability",
                    "pass a law that has one, or write the cost without log q and use expect()",
                )
            )
    return views


def joint_of(log_joint: LogJoint, z: Any, q: Joint) -> Float[Array, "*batch"]:
    """log p(x, z) at a draw, of the shape of log q(z): of another the two would broadcast."""
    log_p = log_joint(z)
    if jnp.shape(log_p) != q.batch_shape:
        raise InvalidArgumentError(
            complain(
                f"log_joint returned shape {jnp.shape(log_p)}, where q has batch shape "
                f"{q.batch_shape}",
                "it must give one log p(x, z) for each batch element",
                "sum over the event axes alone, or move axes of q into its event with .to_event(n)",
            )
        )
    return log_p
