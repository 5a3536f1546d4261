"""The multi-sample bound as something to maximise: its gradients for discrete and continuous q."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._errors import InvalidArgumentError, complain, describe
from .._expect import expect
from .._numerics import working_dtype
from .._trees import dot
from .._types import PRNGKey
from ..distributions import Joint, Reparameterized, Scored, joint, require
from ..estimators import AbstractEstimator
from ._elbo import LogJoint, joint_of, law_of

LogWeights = Callable[[Any], Float[Array, "K *batch"]]
"""From K draws, each leaf (K,) + batch + event, to log p(x, z_k) − log q(z_k)."""


class AbstractBoundGradient(eqx.Module):
    """A gradient that needs to see the K weights, and not only the bound that they make."""

    fewest: eqx.AbstractClassVar[int]

    @abc.abstractmethod
    def bound(self, key: PRNGKey, q: Joint, log_joint: LogJoint, num: int) -> Float[Array, "*B"]:
        """The bound at `num` draws. *Law:* its derivative estimates that of its mean."""


def neg_multi_sample_bound(
    key: PRNGKey,
    q: Any,
    log_joint: LogJoint,
    num_particles: int,
    gradient: AbstractEstimator | AbstractBoundGradient,
) -> Float[Array, "*batch"]:
    """An estimate of −E[log 1/K Σ_k w_k], w_k = p(x, z_k) / q(z_k), in nats, to be minimised.

    The bound is an expectation over K independent draws together, so every estimator serves, on K
    copies of q: `ScoreFunction()`, `LeaveOneOut()`, `Pathwise()`, for a few bits `Enumerate()`.
    None of them knows that the cost is made of K weights. `VIMCO` does, and is the choice for
    discrete q; `DoublyReparameterized` does for continuous q. To evaluate, without gradient and
    with any number of draws, use `importance_bound`.

    Arguments:
        key: consumed.
        q: q(z | x), a NumPyro distribution or a pytree of them, with batch shape.
        log_joint: log p(x, z) of a draw z, shape batch + event, to shape batch.
        num_particles: K ≥ 1; 2 at least for `VIMCO`.
        gradient: how the gradient is estimated.

    Returns:
        Shape batch. Under `jax.grad`, the gradient in everything that q and `log_joint` depend on.

    Raises:
        IncompatibleError: the gradient cannot serve q.
        InvalidArgumentError: too few particles, a gradient of another kind, or a `log_joint` of
            another shape.

    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> q = dist.Bernoulli(logits=jnp.zeros(2)).to_event(1)
        >>> uniform = lambda z: jnp.log(0.25) + 0 * z.sum(-1)
        >>> abs(float(neg_multi_sample_bound(jax.random.key(0), q, uniform, 5, VIMCO()))) < 1e-6
        True

    Reference: Burda, Grosse & Salakhutdinov (2016), eq. 8; Mnih & Rezende (2016).
    """
    if not isinstance(gradient, AbstractEstimator | AbstractBoundGradient):
        raise InvalidArgumentError(
            complain(
                f"the multi-sample bound was given {describe(gradient)} as its gradient",
                "it must be told how to differentiate",
                "pass VIMCO(), DoublyReparameterized(), or an estimator such as ex.Pathwise()",
            )
        )
    check_particles(num_particles, getattr(gradient, "fewest", 1))
    if isinstance(gradient, AbstractBoundGradient):
        return -gradient.bound(key, joint(q), log_joint, num_particles)
    log_weights = weights_of(law_of(q, "neg_multi_sample_bound"), log_joint)

    def cost(particles: list[Any]) -> Array:
        together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *particles)
        return -log_mean(log_weights(together))

    return expect(key, [q] * num_particles, cost, gradient)


class VIMCO(AbstractBoundGradient):
    """The score function with, for each draw, a baseline that the other draws make.

    With L the bound of K draws, and L_−k the same with log w_k replaced by the mean of the other
    log-weights (their geometric mean as a weight), the gradient of L is estimated by

        Σ_k (L − L_−k) ∂log q(z_k) + Σ_k w̃_k ∂log w_k,   w̃ = softmax(log w).

    Needs a log-probability of q; `log_joint` need not be differentiable in z. Unbiased, at any
    order: L_−k does not depend on z_k. Where the others all have weight 0, and L_−k would be −∞, no
    baseline is taken off. Evaluates `log_joint` K times.

    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist
        >>> def loss(logits, key):
        ...     q = dist.Bernoulli(logits=logits).to_event(1)
        ...     return neg_multi_sample_bound(key, q, lambda z: -z.sum(-1), 5, VIMCO())
        >>> jax.grad(loss)(jnp.zeros(2), jax.random.key(0)).shape
        (2,)

    Reference: Mnih & Rezende (2016), eq. 8 and 10; both terms, and their geometric mean.
    """

    fewest = 2

    def bound(self, key, q, log_joint, num):
        require(q, Scored, self)
        draws = q.sample(key, num)
        log_q = q.log_prob(draws)
        log_w = over_draws(log_joint, draws, q) - log_q
        bound = log_mean(log_w)
        # m_k = 1, and its derivative is ∂log q(z_k): so of every order (Foerster et al., 2018)
        score = log_q - jax.lax.stop_gradient(log_q)
        all_draws, own_draw = jnp.exp(jnp.sum(score, axis=0)), jnp.exp(score)
        without = jax.lax.stop_gradient(_without_each(log_w))
        without = jnp.where(jnp.isneginf(without), 0.0, without)
        return bound * all_draws + jnp.sum((1 - own_draw) * without, axis=0)


class DoublyReparameterized(AbstractBoundGradient):
    """The pathwise gradient with the score inside it reparameterized as well (DReG).

    The gradient of the bound in q's parameters φ is estimated by Σ_k w̃_k² ∂log w_k/∂z_k ∂z_k/∂φ,
    log q at stopped φ; in all else that `log_joint` depends on, by Σ_k w̃_k ∂log p(x, z_k). So the
    signal-to-noise ratio of φ's gradient grows with K, where that of `Pathwise` falls.

    Needs a reparameterized q with a density, and a `log_joint` differentiable in z. What q and
    `log_joint` share gets the sum of both. Unbiased to first order; *second derivatives are not
    right*. Evaluates `log_joint` K times.

    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist
        >>> def loss(mean, key):
        ...     q = dist.Normal(mean, 1.0)
        ...     log_joint = lambda z: dist.Normal(0.0, 1.0).log_prob(z)
        ...     return neg_multi_sample_bound(key, q, log_joint, 5, DoublyReparameterized())
        >>> jax.grad(loss)(0.0, jax.random.key(0)).item()  # q is p: w̃ is 1/K, and log w constant
        0.0

    Reference: Tucker et al. (2019), eq. 8.
    """

    fewest = 1

    def bound(self, key, q, log_joint, num):
        require(q, Scored, self)
        require(q, Reparameterized, self)
        draws = q.rsample(key, num)
        log_weights = weights_of(jax.lax.stop_gradient(q), log_joint)
        # at stopped draws: what is left live in the bound is log p's own parameters
        log_w, pull = jax.vjp(log_weights, jax.lax.stop_gradient(draws))
        share = jax.nn.softmax(jax.lax.stop_gradient(log_w), axis=0)
        (slope,) = jax.lax.stop_gradient(pull(share**2))
        zero = jax.tree.map(lambda z: z - jax.lax.stop_gradient(z), draws)
        path = dot(slope, zero, 1 + q.batch_ndim)
        # q is held in the weights, which leaves out 0 only where its support stays
        return q.with_fixed_support(log_mean(log_w) + jnp.sum(path, axis=0))


def check_particles(given: int, least: int) -> None:
    """Raise unless there are at least `least` particles."""
    if given < least:
        raise InvalidArgumentError(
            complain(
                f"a multi-sample bound was asked for with {given} particles",
                "each needs others to be compared with" if least > 1 else "it averages over them",
                f"pass num_particles of at least {least}",
            )
        )


def weights_of(q: Joint, log_joint: LogJoint) -> LogWeights:
    """log p(x, z_k) − log q(z_k) of K draws."""
    # differentiated along the draws, too, log q may be differentiated in where its support ends
    return lambda draws: over_draws(log_joint, draws, q) - q.log_density(draws)


def log_mean(log_w: Float[Array, "K *batch"]) -> Float[Array, "*batch"]:
    """log of the mean weight."""
    return jax.nn.logsumexp(log_w, axis=0) - jnp.log(len(log_w))


def over_draws(log_joint: LogJoint, draws: Any, q: Joint) -> Float[Array, "K *batch"]:
    """log p(x, z_k) of K draws."""
    log_p = jax.vmap(lambda z: joint_of(log_joint, z, q))(draws)
    return log_p.astype(working_dtype(log_p.dtype))


def _without_each(log_w: Float[Array, "K *batch"]) -> Float[Array, "K *batch"]:
    """The bound with each log-weight in turn replaced by the mean of the others."""
    num = len(log_w)
    own = jnp.eye(num, dtype=bool).reshape(num, num, *(1,) * (log_w.ndim - 1))
    # summed anew for each: the sum of all less one's own would keep the rounding of one's own
    others = jnp.sum(jnp.where(own, 0.0, log_w), axis=1, keepdims=True) / (num - 1)
    table = jnp.where(own, others, log_w)  # row k: all log-weights, entry k replaced
    return jax.nn.logsumexp(table, axis=1) - jnp.log(num)
