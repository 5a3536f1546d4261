"""Losses of hard attention: classify what was seen, and learn where to look.

Axes: R rollouts, B data batch, T glimpses, C classes, N patches.
"""

import abc
from collections.abc import Callable
from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._errors import InvalidArgumentError, complain, describe
from .._expect import expect
from .._types import PRNGKey, ScalarLike
from ..estimators import AbstractEstimator
from ._trajectory import leave_one_out, trajectory_loss

Cost = Callable[[Float[Array, "R *B C"], Int[Array, "*B"]], Float[Array, "R *B"]]
"""From logits and labels to what the choice of locations minimises."""


class Path(Protocol):
    """What a sequence of glimpses leaves."""

    log_probs: Float[Array, "R *B T"]
    baselines: Float[Array, "R *B T"]
    class_logits: Float[Array, "R *B C"]


class Looker(Protocol):
    """A model that looks at a picture, such as `expectax.models.GlimpseNetwork`."""

    def look(self, x: Any, noise: Any, carried: Any, consulted: Any) -> Any:
        """A `Path` of locations mean + sd · noise, the noise of shape (T, R, *B, 2)."""
        ...


class PatchClassifier(Protocol):
    """A classifier of masked pictures, such as `expectax.models.PatchMask`."""

    def mask_law(self, x: Any) -> Any:
        """q(b | x), of N bits."""
        ...

    def class_logits(self, x: Any, b: Any) -> Float[Array, "*B C"]:
        """Given the masked picture."""
        ...


def surprise(logits: Float[Array, "... C"], y: Int[Array, "*B"]) -> Float[Array, "..."]:
    """−log p(y), in nats; NaN where y is none of the C classes, 0 … C − 1.

    Example:
        >>> import jax.numpy as jnp
        >>> print(f"{surprise(jnp.zeros((1, 4)), jnp.array([2]))[0]:.4f}")
        1.3863
    """
    num, y = logits.shape[-1], jnp.asarray(y)
    chosen = y[..., None] == jnp.arange(num)
    found = -jnp.sum(jnp.where(chosen, jax.nn.log_softmax(logits), 0.0), axis=-1)
    return jnp.where((y >= 0) & (y < num), found, jnp.nan)


def mistake(logits: Float[Array, "... C"], y: Int[Array, "*B"]) -> Float[Array, "..."]:
    """1 where the likeliest class is wrong, else 0: minus the reward of Mnih et al., and 1.

    Example:
        >>> import jax.numpy as jnp
        >>> mistake(jnp.array([[0.0, 1.0], [2.0, 1.0]]), jnp.array([1, 1])).tolist()
        [0.0, 1.0]
    """
    return (jnp.argmax(logits, axis=-1) != y).astype(logits.dtype)


class AbstractLocationGradient(eqx.Module):
    """How a loss of glimpses is differentiated in the laws of their locations.

    Attributes:
        num_rollouts: R, independent sequences of glimpses at each picture.
    """

    num_rollouts: eqx.AbstractVar[int]

    @abc.abstractmethod
    def carried(self, location: Float[Array, "..."]) -> Float[Array, "..."]:
        """A drawn location as what follows sees it."""

    @abc.abstractmethod
    def consulted(self, state: Float[Array, "..."]) -> Float[Array, "..."]:
        """The state as the law of the next location sees it."""

    @abc.abstractmethod
    def loss(self, path: Path, y: Int[Array, "*B"]) -> Float[Array, "*B"]:
        """The mean surprise. *Law:* its derivative is that of the class, and of the locations."""


class AbstractScore(AbstractLocationGradient):
    """The score function of the locations: a location is held fixed, and log π learns from a cost.

    Attributes:
        cost: of the locations, paid after the last glimpse.
        locator_alone: whether log π trains the locator alone, the state before it held fixed, as
            is common: its noise is kept out of what sees and classifies, and that part of the
            gradient is left out.
    """

    cost: eqx.AbstractVar[Cost]
    locator_alone: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def baseline(self, path: Path, returns: Float[Array, "R *B T"]) -> Float[Array, "R *B T"]:
        """What the return of each location is held against."""

    def carried(self, location):
        return jax.lax.stop_gradient(location)

    def consulted(self, state):
        return jax.lax.stop_gradient(state) if self.locator_alone else state

    def loss(self, path, y):
        paid = jax.lax.stop_gradient(self.cost(path.class_logits, y))
        returns = jnp.broadcast_to(-paid[..., None], path.log_probs.shape)
        policy = trajectory_loss(path.log_probs, returns, self.baseline(path, returns))
        # the policy's loss lends its gradient alone
        zero = policy - jax.lax.stop_gradient(policy)
        return jnp.mean(surprise(path.class_logits, y), axis=0) + zero


class ScoreWithBaseline(AbstractScore):
    """The score function of the locations, with the model's learned baselines.

    1/R Σ_r [ ∂(−log p(y | glimpses_r)) + Σ_t (cost_r − c_rt) ∂log π(l_rt | glimpses before t) ]:
    with `surprise` as cost the gradient of E[−log p(y)], unbiased; with another, such as `mistake`,
    the classifier descends E[−log p(y)] and the locations E[cost]. No reward comes before the last
    glimpse, so every location has the same return; its baseline c_t knows the glimpses before.

    Attributes:
        num_rollouts: R.
        cost: of the locations.
        locator_alone: whether log π trains the locator alone.

    Example:
        >>> ScoreWithBaseline(locator_alone=True).num_rollouts
        1

    Reference: Mnih et al. (2014), eq. 3 and 4.
    """

    num_rollouts: int = eqx.field(static=True, default=1)
    cost: Cost = eqx.field(static=True, default=surprise)
    locator_alone: bool = eqx.field(static=True, default=False)

    def baseline(self, path, returns):
        del returns
        return -path.baselines


class ScoreLeaveOneOut(AbstractScore):
    """The score function of the locations, with the other rollouts' mean cost as baseline.

    As `ScoreWithBaseline`, with nothing to be learned, and R ≥ 2.

    Raises:
        InvalidArgumentError: fewer than 2 rollouts.
    """

    num_rollouts: int = eqx.field(static=True, default=2)
    cost: Cost = eqx.field(static=True, default=surprise)
    locator_alone: bool = eqx.field(static=True, default=False)

    def baseline(self, path, returns):
        del path
        return leave_one_out(returns)


class PathwiseLocations(AbstractLocationGradient):
    """The slope of −log p(y | glimpses) in the locations, and through them in their laws.

    Unbiased for E[−log p(y)] where a glimpse is continuous in its location, as a bilinear one is;
    it sees no farther than the next pixel.
    """

    num_rollouts: int = eqx.field(static=True, default=1)

    def carried(self, location):
        return location

    def consulted(self, state):
        return state

    def loss(self, path, y):
        return jnp.mean(surprise(path.class_logits, y), axis=0)


def glimpse_loss(
    key: PRNGKey,
    model: Looker,
    x: Float[Array, "*B P"],
    y: Int[Array, "*B"],
    gradient: AbstractLocationGradient,
    num_glimpses: int = 6,
) -> Float[Array, "*B"]:
    """An estimate of E[−log p(y | glimpses)], in nats, over the locations that the model draws.

    Arguments:
        key: consumed.
        model: a `Looker`.
        x: pictures.
        y: their classes, from 0; the loss of any other number is NaN.
        gradient: how it is differentiated in the laws of the locations.
        num_glimpses: T.

    Returns:
        Shape B: the mean over the rollouts. Under `jax.grad`, the gradient in all of the model,
        its baseline included: that one descends its squared error.

    Raises:
        InvalidArgumentError: a gradient of another kind, or one glimpse or rollout too few.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from expectax.models import Retina, glimpse_network
        >>> model = glimpse_network(jax.random.key(0), Retina(28, size=8), 10)
        >>> x, y = jnp.zeros((5, 784)), jnp.arange(5)
        >>> glimpse_loss(jax.random.key(1), model, x, y, ScoreLeaveOneOut(4)).shape
        (5,)

    Reference: Mnih, Heess, Graves & Kavukcuoglu (2014), "Recurrent models of visual attention".
    """
    if not isinstance(gradient, AbstractLocationGradient):
        raise InvalidArgumentError(
            complain(
                f"a loss of glimpses was given {describe(gradient)} as its gradient",
                "a sequence of locations is not one draw, which an estimator needs",
                "pass ScoreWithBaseline(), ScoreLeaveOneOut() or PathwiseLocations()",
            )
        )
    if min(num_glimpses, gradient.num_rollouts) < 1:
        raise InvalidArgumentError(
            complain(
                f"{num_glimpses} glimpses and {gradient.num_rollouts} rollouts were asked for",
                "nothing would be seen",
                "pass at least 1 of each",
            )
        )
    shape = (num_glimpses, gradient.num_rollouts, *y.shape, 2)
    noise = jax.random.normal(key, shape, jnp.promote_types(x.dtype, jnp.float32))
    return gradient.loss(model.look(x, noise, gradient.carried, gradient.consulted), y)


def masked_loss(
    key: PRNGKey,
    model: PatchClassifier,
    x: Float[Array, "*B P"],
    y: Int[Array, "*B"],
    estimator: AbstractEstimator,
    price: ScalarLike = 0.0,
) -> Float[Array, "*B"]:
    """An estimate of E[−log p(y | masked picture) + price · patches shown], in nats.

    Arguments:
        key: consumed.
        model: a `PatchClassifier`.
        x: pictures.
        y: their classes, from 0; the loss of any other number is NaN.
        estimator: any that serves Bernoulli variables. A relaxed bit shows a patch in part.
        price: of each patch that is shown, in nats.

    Returns:
        Shape B. Under `jax.grad`, the gradient in encoder and classifier.

    Raises:
        IncompatibleError: the estimator cannot serve bits.

    Example:
        >>> import jax, jax.numpy as jnp, expectax as ex
        >>> from expectax.models import patch_mask
        >>> model = patch_mask(jax.random.key(0), 28, 4, 10)
        >>> x, y = jnp.zeros((5, 784)), jnp.arange(5)
        >>> masked_loss(jax.random.key(1), model, x, y, ex.DisARM(), price=0.01).shape
        (5,)
    """

    def cost(b: Array) -> Array:
        return surprise(model.class_logits(x, b), y) + price * jnp.sum(b, axis=-1)

    return expect(key, model.mask_law(x), cost, estimator)
