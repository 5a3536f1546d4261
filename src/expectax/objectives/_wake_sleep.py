"""Wake-sleep: a recognition model that learns from dreams, or from reweighted draws."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._trees import first
from .._types import PRNGKey
from ..distributions import joint
from ._elbo import LogJoint, joint_of, law_of
from ._multi_sample import check_particles, over_draws

Dream = Callable[[PRNGKey], Float[Array, "*dreams"]]
"""From a key, which draws z and x from the model p, to log q(z | x) of each dream, in nats."""


def wake_loss(key: PRNGKey, q: Any, log_joint: LogJoint) -> Float[Array, "*batch"]:
    """−log p(x, z) at one draw z ~ q(z | x) that is taken as given: it trains p alone.

    Its gradient in p's parameters is that of `neg_elbo`, without bias. Arguments as those of
    `wake_sleep`.

    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist
        >>> q = dist.Bernoulli(logits=jnp.zeros(2)).to_event(1)
        >>> wake_loss(jax.random.key(0), q, lambda z: 0 * z.sum(-1) - 3.0).item()
        3.0
    """
    views = joint(jax.lax.stop_gradient(q))
    return -joint_of(log_joint, first(views.sample(key, 1)), views)


def sleep_loss(key: PRNGKey, dream: Dream) -> Float[Array, ""]:
    """The mean of −log q(z | x) over dreams (x, z) ~ p that are taken as given: it trains q alone.

    It minimises E_p(x)[KL(p(z | x) ‖ q(z | x))]: the other divergence, under the model's pictures
    and not the data's. Arguments as those of `wake_sleep`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> sleep_loss(jax.random.key(0), lambda key: jnp.array([-1.0, -3.0])).item()
        2.0
    """
    return -jnp.mean(dream(key))


def wake_sleep(key: PRNGKey, q: Any, log_joint: LogJoint, dream: Dream) -> Float[Array, "*batch"]:
    """`wake_loss` + `sleep_loss`: the updates of both phases as one gradient.

    The value is the sum of two different losses and bounds nothing: evaluate with `hard_elbo`. The
    gradient in q's parameters is not that of the ELBO, and of no function at all where p and q
    share parameters.

    Arguments:
        key: consumed.
        q: q(z | x) at the data, a NumPyro distribution or a pytree of them, with batch shape. No
            gradient flows into it.
        log_joint: log p(x, z) of a draw z, shape batch + event, to shape batch.
        dream: from a key to log q(z | x) at dreams (x, z) ~ p, any shape. Stop the gradient of the
            dreams if they have one: `dream` is differentiated in q's parameters. NumPyro's log_prob
            of bits has a derivative that is off by ½ at a logit of exactly 0, where encoders may
            start; the models' `log_posterior` has the right one.

    Returns:
        Shape batch: the wake loss of each datum, and the mean sleep loss added to each.

    Example:
        >>> import jax, jax.numpy as jnp, expectax as ex
        >>> from expectax.models import linear_vae
        >>> model = linear_vae(jax.random.key(0), jnp.full(16, 0.3), num_latents=4)
        >>> x = jnp.zeros((5, 16))
        >>> def dream(key):
        ...     x, z = model.sample_joint(key, 5)
        ...     return model.log_posterior(x, z)
        >>> log_joint = lambda z: model.log_joint(x, z)
        >>> wake_sleep(jax.random.key(1), model.posterior(x), log_joint, dream).shape
        (5,)

    Reference: Hinton, Dayan, Frey & Neal (1995).
    """
    wake, sleep = jax.random.split(key)
    return wake_loss(wake, q, log_joint) + sleep_loss(sleep, dream)


def reweighted_wake_sleep(
    key: PRNGKey,
    q: Any,
    log_joint: LogJoint,
    num_particles: int,
    dream: Dream | None = None,
) -> Float[Array, "*batch"]:
    """The wake phases with K weighted draws, and a sleep phase if there is a `dream`.

    −Σ_k w̃_k (log p(x, z_k) + log q(z_k | x)), weights w̃ and draws taken as given. The gradient in
    p's parameters is that of the K-sample bound, without bias. That in q's parameters is the
    wake-phase update of q, biased for finite K: as K grows, the gradient of KL(p(z | x) ‖ q(z | x))
    at the data. With K = 1 it is zero on average, and only a `dream` trains q.

    Arguments:
        key: consumed.
        q: q(z | x) at the data, a NumPyro distribution or a pytree of them, with batch shape.
        log_joint: log p(x, z) of a draw z, shape batch + event, to shape batch.
        num_particles: K ≥ 1.
        dream: as in `wake_sleep`; None for no sleep phase.

    Returns:
        Shape batch. The value bounds nothing: evaluate with `importance_bound`.

    Raises:
        IncompatibleError: q has no log-probability.
        InvalidArgumentError: fewer particles than one, or a `log_joint` of another shape.

    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist
        >>> q = dist.Bernoulli(logits=jnp.zeros((5, 2))).to_event(1)
        >>> reweighted_wake_sleep(jax.random.key(0), q, lambda z: -z.sum(-1), 8).shape
        (5,)

    Reference: Bornschein & Bengio (2015), eq. 6 and 9.
    """
    check_particles(num_particles, 1)
    wake, sleep = jax.random.split(key)
    views = law_of(q, "reweighted_wake_sleep")
    draws = jax.lax.stop_gradient(views.sample(wake, num_particles))
    log_p, log_q = over_draws(log_joint, draws, views), views.log_density(draws)
    share = jax.nn.softmax(jax.lax.stop_gradient(log_p - log_q), axis=0)
    # an impossible draw has weight 0, and 0 · −∞ is not 0
    loss = -jnp.sum(jnp.where(share == 0, 0.0, share * (log_p + log_q)), axis=0)
    return loss if dream is None else loss + sleep_loss(sleep, dream)
