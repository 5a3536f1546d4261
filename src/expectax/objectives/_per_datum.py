"""Variational inference without amortization: one φ per datum, and what an encoder gives away."""

from collections.abc import Callable
from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._types import PRNGKey
from ..estimators import AbstractEstimator
from ._bounds import hard_elbo
from ._elbo import LogJoint, neg_elbo


class Optimizer(Protocol):
    """What makes steps of gradients: an optax `GradientTransformation`, or one like it."""

    @property
    def init(self) -> Callable[..., Any]:
        """From parameters to the state before the first step."""
        ...

    @property
    def update(self) -> Callable[..., Any]:
        """From a gradient, a state and parameters to what is added to them, and the next state."""
        ...


def fit_each(
    key: PRNGKey,
    parameters: PyTree,
    posterior: Callable[[PyTree], Any],
    log_joint: LogJoint,
    estimator: AbstractEstimator,
    optimizer: Optimizer,
    num_steps: int,
) -> PyTree:
    """The φ of each datum that maximises its own ELBO: inference with no encoder.

    maximise over φ_1 … φ_B: Σ_b E_q(z; φ_b)[log p(x_b, z) − log q(z; φ_b)], all data at once, the
    model held. No sum couples two data, so an optimiser that works entry by entry (SGD, Adam, not
    one that scales by the norm of the whole) takes the steps that it would take for each alone.

    Arguments:
        key: consumed.
        parameters: where φ starts; every leaf has the batch axes in front. Start at an encoder's φ
            to measure its amortization gap.
        posterior: from φ to q(z; φ), a NumPyro distribution or a pytree of them, with batch shape.
        log_joint: log p(x, z) of a draw z, shape batch + event, to shape batch.
        estimator: how the gradient is estimated. Its own leaves do not learn.
        optimizer: of φ. With noisy gradients, one whose rate falls to zero.
        num_steps: how many.

    Returns:
        φ after the last step, without gradient in anything. Where the bound has several maxima,
        that of one of them: q(z; φ) is then not the best of its family.

    Raises:
        IncompatibleError: the estimator cannot serve q.

    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, optax, expectax as ex
        >>> weights = jnp.array([[1.0, -2.0], [0.5, 3.0]])  # log p(x_b, z) = w_b · z
        >>> phi = fit_each(
        ...     jax.random.key(0),
        ...     jnp.zeros((2, 2)),
        ...     lambda logits: dist.Bernoulli(logits=logits).to_event(1),
        ...     lambda z: jnp.sum(weights * z, axis=-1),
        ...     ex.Enumerate(),
        ...     optax.sgd(2.0),
        ...     200,
        ... )
        >>> phi.round(2).tolist()  # here p(z | x) is itself of independent bits, of these logits
        [[1.0, -2.0], [0.5, 3.0]]

    Reference: Hoffman, Blei, Wang & Paisley (2013), "Stochastic variational inference": the local
    parameters; Cremer, Li & Duvenaud (2018).
    """

    def loss(parameters: PyTree, key: Any) -> Array:
        return jnp.sum(neg_elbo(key, posterior(parameters), log_joint, estimator))

    held = jax.lax.stop_gradient(jax.tree.map(jnp.asarray, parameters))
    # what the model and the estimator depend on is held too: it may be differentiated outside
    closed = eqx.filter_closure_convert(loss, held, key)
    is_float = eqx.is_inexact_array
    closed = jax.tree.map(lambda x: jax.lax.stop_gradient(x) if is_float(x) else x, closed)

    def step(state: tuple[PyTree, Any], key: Any) -> tuple[tuple[PyTree, Any], None]:
        parameters, moments = state
        gradient = jax.grad(closed)(parameters, key)
        updates, moments = optimizer.update(gradient, moments, parameters)
        return (eqx.apply_updates(parameters, updates), moments), None

    begin = (held, optimizer.init(held))
    (found, _), _ = jax.lax.scan(step, begin, jax.random.split(key, num_steps))
    return jax.lax.stop_gradient(found)


def amortization_gap(
    key: PRNGKey, amortized: Any, fitted: Any, log_joint: LogJoint, num_samples: int = 1
) -> Float[Array, "*batch"]:
    """What q(z | x) of an encoder gives away: the ELBO of a fitted q less its own, in nats.

    The rest of what lies between the ELBO and log p(x) is the family's: no q in it does better.

    Arguments:
        key: consumed. Both bounds are estimated from the same noise.
        amortized: q(z | x) as the encoder says, with batch shape.
        fitted: q of each datum's own φ, such as `fit_each` finds.
        log_joint: log p(x, z) of a draw z, shape batch + event, to shape batch.
        num_samples: draws for each bound; more make the estimate less noisy.

    Returns:
        Shape batch. Without gradient. An estimate of the gap that an imperfect fit makes too small,
        and noise at single data even negative.

    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist
        >>> bits = lambda logits: dist.Bernoulli(logits=logits).to_event(1)
        >>> log_joint = lambda z: jnp.sum(2.0 * z, axis=-1)
        >>> q, best = bits(jnp.zeros(1)), bits(jnp.full(1, 2.0))
        >>> gap = amortization_gap(jax.random.key(0), q, best, log_joint, num_samples=100_000)
        >>> divergence = jnp.log(1 + jnp.exp(2.0)) - jnp.log(2.0) - 1.0  # KL(q ‖ best) = 0.43…
        >>> abs(gap - divergence).item() < 0.02
        True

    Reference: Cremer, Li & Duvenaud (2018), "Inference suboptimality in variational autoencoders".
    """
    bound = lambda q: hard_elbo(key, q, log_joint, num_samples)
    return bound(fitted) - bound(amortized)
