"""The evidence lower bound of several layers, each with an estimator of its own."""

from collections.abc import Sequence
from typing import Any, Protocol

import jax
from jaxtyping import Array, Float

from .._errors import InvalidArgumentError, complain
from .._trees import first, sum_leaves
from .._types import PRNGKey
from ..distributions import joint
from ..estimators import AbstractEstimator
from ._bounds import averaged, importance_weighted
from ._elbo import neg_elbo


class Hierarchy(Protocol):
    """p(z_L) … p(z_1 | z_2) p(x | z_1) and q(z_1 | x) q(z_2 | z_1) …; layer 0 is next to x.

    What lies below layer l is x, if l is 0, or the draw of layer l − 1.
    """

    @property
    def num_layers(self) -> int:
        """L."""
        ...

    def posterior(self, layer: int, below: Any) -> Any:
        """q(z of this layer | what lies below), a NumPyro distribution with the batch of x."""
        ...

    def log_conditional(self, layer: int, below: Any, z: Any) -> Float[Array, "*batch"]:
        """log p(what lies below | z of this layer)."""
        ...

    def log_prior(self, z: Any) -> Float[Array, "*batch"]:
        """log p(z_L)."""
        ...


def hierarchical_neg_elbo(
    key: PRNGKey,
    model: Hierarchy,
    x: Any,
    estimators: AbstractEstimator | Sequence[AbstractEstimator],
) -> Float[Array, "*batch"]:
    """An estimate of −ELBO of a model with several layers of latents, in nats, to be minimised.

    One `expect` inside the other, E_q(z_1|x)[log q(z_1 | x) − log p(x | z_1) + E_q(z_2|z_1)[…]]:
    each layer's estimator is handed only what depends on that layer, the costs of the layers above
    it included and those below it left out. Every layer is `neg_elbo`, with its caveats: right to
    first order.

    Arguments:
        key: consumed. Draws of an upper layer share their key over the draws of the one below.
        model: a `Hierarchy`, such as `expectax.models.HierarchicalVAE`.
        x: the data, with its batch axes in front.
        estimators: one for each layer, the one next to x first; or one for all of them. An
            estimator with S draws evaluates the layers above S times: S^L draws of the last.

    Returns:
        Shape batch. Under `jax.grad`, the gradient in everything that the model depends on.

    Raises:
        InvalidArgumentError: estimators that are not as many as the layers.
        IncompatibleError: an estimator cannot serve its layer.

    Example:
        >>> import jax, jax.numpy as jnp, expectax as ex
        >>> from expectax.models import hierarchical_vae
        >>> model = hierarchical_vae(jax.random.key(0), jnp.full(6, 0.3), (3, 2))
        >>> x, layers = jnp.ones((5, 6)), (ex.DisARM(), ex.LeaveOneOut(2))
        >>> loss = lambda model, key: hierarchical_neg_elbo(key, model, x, layers).mean()
        >>> jax.grad(loss)(model, jax.random.key(1)).encoders[1].layers[0].weight.shape
        (2, 3)

    Reference: Mnih & Gregor (2014), eq. 8; the nesting of Dong, Mnih & Tucker (2020), section 4.
    """
    chosen = one_each(model.num_layers, estimators)
    keys = jax.random.split(key, model.num_layers)

    def from_layer(layer: int, below: Any) -> Array:
        def log_joint(z: Any) -> Array:
            here = model.log_conditional(layer, below, z)
            if layer + 1 == model.num_layers:
                return here + model.log_prior(z)
            return here - from_layer(layer + 1, z)

        return neg_elbo(keys[layer], model.posterior(layer, below), log_joint, chosen[layer])

    return from_layer(0, x)


def hierarchical_bound(
    key: PRNGKey, model: Hierarchy, x: Any, num_samples: int
) -> Float[Array, "*batch"]:
    """The m-sample importance-weighted bound of a model with several layers: `importance_bound`.

    Draws are made from layer to layer, one path at a time.

    Arguments:
        key: consumed.
        model: as for `hierarchical_neg_elbo`.
        x: the data, with its batch axes in front.
        num_samples: m ≥ 1.

    Returns:
        Shape batch, in nats. Without gradient.

    Raises:
        InvalidArgumentError: `num_samples` < 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from expectax.models import hierarchical_vae
        >>> model = hierarchical_vae(jax.random.key(0), jnp.full(6, 0.3), (3, 2))
        >>> hierarchical_bound(jax.random.key(1), model, jnp.ones((5, 6)), 10).shape
        (5,)

    Reference: Burda, Grosse & Salakhutdinov (2016), eq. 8 and section 4.
    """
    return importance_weighted(key, lambda key: _log_weight(key, model, x), num_samples)


def hierarchical_hard_elbo(
    key: PRNGKey, model: Hierarchy, x: Any, num_samples: int = 1
) -> Float[Array, "*batch"]:
    """The ELBO of a model with several layers from hard draws, without gradient: `hard_elbo`.

    Arguments as those of `hierarchical_bound`. It is the same bound for every m; more draws make it
    less noisy.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from expectax.models import hierarchical_vae
        >>> model = hierarchical_vae(jax.random.key(0), jnp.full(6, 0.3), (3, 2))
        >>> hierarchical_hard_elbo(jax.random.key(1), model, jnp.ones((5, 6))).shape
        (5,)
    """
    return averaged(key, lambda key: _log_weight(key, model, x), num_samples)


def _log_weight(key: PRNGKey, model: Hierarchy, x: Any) -> Array:
    """log p(x, z_1 … z_L) − log q(z_1 … z_L | x) at a draw from q."""
    terms, below = [], x
    for layer, key_here in enumerate(jax.random.split(key, model.num_layers)):
        q = joint(model.posterior(layer, below))
        draws = q.sample(key_here, 1)
        z = first(draws)
        terms.append(model.log_conditional(layer, below, z) - q.log_prob(draws)[0])
        below = z
    return sum_leaves(terms) + model.log_prior(below)


def one_each(
    num_layers: int, estimators: AbstractEstimator | Sequence[AbstractEstimator]
) -> tuple[AbstractEstimator, ...]:
    """An estimator for each layer."""
    if isinstance(estimators, AbstractEstimator):
        return (estimators,) * num_layers
    if len(estimators) != num_layers:
        raise InvalidArgumentError(
            complain(
                f"{len(estimators)} estimators were given for {num_layers} layers",
                "each layer's gradient needs one",
                "pass one for each, the layer next to the data first, or one for all",
            )
        )
    return tuple(estimators)
