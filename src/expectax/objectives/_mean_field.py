"""The loss of undirected models whose hidden units cannot be summed out: mean field and chains."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import PRNGKey
from ._contrastive_divergence import check_steps


class VariationalModel(Protocol):
    """p(x, h) = exp(−E(x, h)) / Z with an approximation of p(h | x), and a chain that leaves p."""

    def mean_field(self, x: Any, /) -> Any:
        """q(h) for each x; its parameters carry no gradient."""
        ...

    def variational_free_energy(self, x: Any, q: Any, /) -> Float[Array, "*batch"]:
        """E_q[E(x, h)] − H(q), in nats."""
        ...

    def free_energy(self, state: Any, /) -> Float[Array, "*chains"]:
        """F of a chain's state: log p(state) = −F − log Z."""
        ...

    def gibbs(self, key: Any, state: Any, num_steps: int, /) -> Any:
        """The state after so many steps of the chain. The key is consumed."""
        ...


def mean_field_contrastive_divergence(
    key: PRNGKey, model: VariationalModel, x: Any, chains: Any, num_steps: int = 1
) -> tuple[Float[Array, "*batch"], Any]:
    """E_q[E(x, h)] − H(q) less the mean F of persistent chains, and where the chains are now.

    Under `jax.grad`, E_q[∂E] at q = `model.mean_field(x)`, taken as given, less the mean ∂F of the
    chains: where these have the law of the model, an unbiased estimate of the gradient of
    −(the bound on log p(x) that q gives). The value is no bound, for log Z is not in it.

    Arguments:
        key: consumed.
        model: such as `expectax.models.DBM`.
        x: data with batch shape.
        chains: as many states as you like, along leading axes.
        num_steps: how far the chains go now; 0 where they have been moved already.

    Returns:
        The loss, shape batch, to be minimised, and the chains after `num_steps`.

    Raises:
        InvalidArgumentError: fewer steps than none.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from expectax.models import dbm
        >>> model = dbm(jax.random.key(0), jnp.full(16, 0.3), num_hidden=4, num_top=3)
        >>> x, chains = jnp.zeros((5, 16)), (jnp.zeros((7, 16)), jnp.zeros((7, 3)))
        >>> loss, chains = mean_field_contrastive_divergence(jax.random.key(1), model, x, chains)
        >>> loss.shape, chains[1].shape
        ((5,), (7, 3))

    Reference: Salakhutdinov & Hinton (2009), section 2.1; Younes (1989) for the chains.
    """
    check_steps(num_steps, 0)
    q = jax.lax.stop_gradient(model.mean_field(x))
    chains = jax.lax.stop_gradient(model.gibbs(key, chains, num_steps))
    loss = model.variational_free_energy(x, q) - jnp.mean(model.free_energy(chains))
    return loss, chains
