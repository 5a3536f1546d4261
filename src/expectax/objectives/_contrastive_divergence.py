"""Losses of undirected models, whose normalizer is not known: contrastive divergence."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._errors import InvalidArgumentError, complain
from .._types import PRNGKey


class UndirectedModel(Protocol):
    """p(x) = exp(−F(x)) / Z, and a Markov chain that leaves it as it is."""

    def free_energy(self, x: Any, /) -> Float[Array, "*batch"]:
        """F(x), in nats."""
        ...

    def gibbs(self, key: Any, x: Any, num_steps: int, /) -> Any:
        """x after so many steps of the chain. The key is consumed."""
        ...


def contrastive_divergence(
    key: PRNGKey, model: UndirectedModel, x: Any, num_steps: int
) -> Float[Array, "*batch"]:
    """F(x) − F(x_k), x_k what k steps of the chain make of x: CD-k, to be minimised.

    Under `jax.grad`, ∂F(x) − ∂F(x_k) with x_k taken as given: zero on average where the model is
    the law of the data. For finite k it is the gradient of no function, and a biased estimate of
    that of −log p(x), which it becomes as k grows. The value is no likelihood: it does not say how
    training goes.

    Arguments:
        key: consumed.
        model: such as `expectax.models.RBM`.
        x: data with batch shape.
        num_steps: k ≥ 1.

    Returns:
        Shape batch.

    Raises:
        InvalidArgumentError: fewer steps than one, after which nothing has moved.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from expectax.models import rbm
        >>> model = rbm(jax.random.key(0), jnp.full(16, 0.3), num_hidden=4)
        >>> contrastive_divergence(jax.random.key(1), model, jnp.zeros((5, 16)), 1).shape
        (5,)

    Reference: Hinton (2002); hidden units are summed out at both ends (Hinton, 2012, section 3).
    """
    check_steps(num_steps, 1)
    fantasies = jax.lax.stop_gradient(model.gibbs(key, x, num_steps))
    return model.free_energy(x) - model.free_energy(fantasies)


def persistent_contrastive_divergence(
    key: PRNGKey, model: UndirectedModel, x: Any, chains: Any, num_steps: int = 1
) -> tuple[Float[Array, "*batch"], Any]:
    """F(x) less the mean F of chains that go on from step to step, and where they are now.

    The chains follow a model that moves slowly, and stay near its law: the bias goes with the
    learning rate. Keep what is returned for the next step; with `jax.grad(…, has_aux=True)` the
    loss can return both.

    Arguments:
        key: consumed.
        model: such as `expectax.models.RBM`.
        x: data with batch shape.
        chains: as many fantasies as you like, along leading axes.
        num_steps: how far the chains go now; 0 where they have been moved already.

    Returns:
        The loss, shape batch, to be minimised, and the chains after `num_steps`.

    Raises:
        InvalidArgumentError: fewer steps than none.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from expectax.models import rbm
        >>> model = rbm(jax.random.key(0), jnp.full(16, 0.3), num_hidden=4)
        >>> x, chains = jnp.zeros((5, 16)), jnp.zeros((7, 16))
        >>> loss, chains = persistent_contrastive_divergence(jax.random.key(1), model, x, chains)
        >>> loss.shape, chains.shape
        ((5,), (7, 16))

    Reference: Tieleman (2008).
    """
    check_steps(num_steps, 0)
    chains = jax.lax.stop_gradient(model.gibbs(key, chains, num_steps))
    return model.free_energy(x) - jnp.mean(model.free_energy(chains)), chains


def check_steps(num_steps: int, least: int) -> None:
    """Raise unless the chain can go so far."""
    if num_steps < least:
        raise InvalidArgumentError(
            complain(
                f"contrastive divergence was asked for with {num_steps} steps of the chain",
                "data are compared with where the chain goes from there",
                f"pass num_steps of at least {least}",
            )
        )
