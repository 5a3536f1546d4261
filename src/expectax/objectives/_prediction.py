"""The likelihood of an output given an input through random layers, bounded from below."""

from collections.abc import Sequence
from typing import Any, Protocol

import jax
from jaxtyping import Array, Float

from .._expect import expect
from .._trees import first
from .._types import PRNGKey
from ..distributions import joint
from ..estimators import AbstractEstimator
from ._bounds import importance_weighted
from ._hierarchy import one_each


class Generator(Protocol):
    """p(z_1 | x) p(z_2 | z_1) … p(y | z_L); layer 0 is next to x.

    What lies below layer l is x, if l is 0, or the draw of layer l − 1.
    """

    @property
    def num_layers(self) -> int:
        """L."""
        ...

    def conditional(self, layer: int, below: Any) -> Any:
        """p(z of this layer | what lies below), a NumPyro distribution with the batch of x."""
        ...

    def log_likelihood(self, y: Any, z: Any) -> Float[Array, "*batch"]:
        """log p(y | z_L)."""
        ...


def prediction_loss(
    key: PRNGKey,
    model: Generator,
    x: Any,
    y: Any,
    estimators: AbstractEstimator | Sequence[AbstractEstimator],
) -> Float[Array, "*batch"]:
    """An estimate of E[−log p(y | z_L)], z from the model given x, in nats, to be minimised.

    By Jensen's inequality it is at least −log p(y | x): the one-sample bound, trained directly. One
    `expect` inside the other, one for each layer.

    Arguments:
        key: consumed.
        model: a `Generator`, such as `expectax.models.StructuredPrediction`.
        x: the input, with its batch axes in front.
        y: the output, likewise.
        estimators: one for each layer, the one next to x first; or one for all of them. With S
            draws in each it is still the mean of one-sample bounds, of S^L draws.

    Returns:
        Shape batch. Under `jax.grad`, the gradient in everything that the model depends on.

    Raises:
        InvalidArgumentError: estimators that are not as many as the layers.
        IncompatibleError: an estimator cannot serve its layer.

    Example:
        >>> import jax, jax.numpy as jnp, expectax as ex
        >>> from expectax.models import structured_prediction
        >>> mean = jnp.full(6, 0.3)
        >>> model = structured_prediction(jax.random.key(0), mean, mean, (3, 2))
        >>> x = y = jnp.ones((5, 6))
        >>> prediction_loss(jax.random.key(1), model, x, y, ex.DisARM()).shape
        (5,)

    Reference: Raiko et al. (2015), eq. 4, with one sample.
    """
    chosen = one_each(model.num_layers, estimators)
    keys = jax.random.split(key, model.num_layers)

    def from_layer(layer: int, below: Any) -> Array:
        if layer == model.num_layers:
            return -model.log_likelihood(y, below)
        q = model.conditional(layer, below)
        return expect(keys[layer], q, lambda z: from_layer(layer + 1, z), chosen[layer])

    return from_layer(0, x)


def prediction_bound(
    key: PRNGKey, model: Generator, x: Any, y: Any, num_samples: int
) -> Float[Array, "*batch"]:
    """The m-sample bound on log p(y | x): log (1/m) Σ_i p(y | z_i), z_i from the model given x.

    In expectation it rises with m to log p(y | x); its negative is the published "NLL". Draws are
    made one at a time, so memory does not grow with m.

    Arguments:
        key: consumed.
        model: as for `prediction_loss`.
        x: the input, with its batch axes in front.
        y: the output, likewise.
        num_samples: m ≥ 1.

    Returns:
        Shape batch, in nats. Without gradient.

    Raises:
        InvalidArgumentError: `num_samples` < 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from expectax.models import structured_prediction
        >>> mean = jnp.full(6, 0.3)
        >>> model = structured_prediction(jax.random.key(0), mean, mean, (3, 2))
        >>> x = y = jnp.ones((5, 6))
        >>> prediction_bound(jax.random.key(1), model, x, y, 10).shape
        (5,)

    Reference: Raiko et al. (2015), eq. 4.
    """

    def log_weight(key: Any) -> Array:
        z = x
        for layer, key_here in enumerate(jax.random.split(key, model.num_layers)):
            z = first(joint(model.conditional(layer, z)).sample(key_here, 1))
        return model.log_likelihood(y, z)

    return importance_weighted(key, log_weight, num_samples)
