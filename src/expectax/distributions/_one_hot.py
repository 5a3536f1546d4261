"""The one-hot categorical distribution, which NumPyro lacks."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import validate_sample

from .. import gumbel
from .._errors import InvalidArgumentError, complain, describe
from .._numerics import finite_logits, log_probability


class _OneHotConstraint(constraints.ParameterFreeConstraint):
    """Vectors with a single one and zeros elsewhere. Relaxed draws lie outside it."""

    _event_dim = 1

    @property
    def event_dim(self) -> int:
        return self._event_dim

    def __call__(self, x: Any) -> Any:
        return jnp.all((x == 0) | (x == 1), axis=-1) & (jnp.sum(x, axis=-1) == 1)

    def feasible_like(self, prototype: Any) -> Any:
        return jax.nn.one_hot(jnp.zeros(prototype.shape[:-1], int), prototype.shape[-1])


class _LogitsConstraint(constraints.ParameterFreeConstraint):
    """Vectors of logits: −inf masks a category, NaN and +inf are mistakes."""

    _event_dim = 1

    @property
    def event_dim(self) -> int:
        return self._event_dim

    def __call__(self, x: Any) -> Any:
        return jnp.all((x == x) & (x < jnp.inf), axis=-1)

    def feasible_like(self, prototype: Any) -> Any:
        return jnp.zeros_like(prototype)


class OneHotCategorical(Distribution):
    """A categorical variable whose draws are one-hot vectors, so that it can be relaxed.

    log q(b) = Σ_c b_c log p_c with p = softmax(logits), or p = probs / Σ probs.

    Arguments:
        logits: shape batch + (C,), normalised or not; −inf masks a category. Exactly one of
            `logits` and `probs` is given.
        probs: shape batch + (C,), nonnegative; normalised here, so that the gradient in `probs`
            is that of the normalised law.

    Shapes: batch shape as the arguments', event shape (C,). `.to_event(n)` makes n batch axes part
    of the event. Draws have the dtype of the arguments.

    Raises:
        InvalidArgumentError: if both or neither of `logits` and `probs` are given, or there is no
            axis of categories.

    Example:
        >>> import jax, jax.numpy as jnp, expectax as ex
        >>> q = ex.OneHotCategorical(logits=jnp.zeros((5, 3)))
        >>> q.batch_shape, q.event_shape
        ((5,), (3,))
        >>> q.sample(jax.random.key(0)).sum(-1).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0]
    """

    arg_constraints = {"logits": _LogitsConstraint()}  # noqa: RUF012
    support = _OneHotConstraint()  # type: ignore[assignment]
    has_enumerate_support = True
    pytree_data_fields = ("_logits", "_probs")

    def __init__(
        self,
        logits: Float[Array, "*batch C"] | None = None,
        *,
        probs: Float[Array, "*batch C"] | None = None,
        validate_args: bool | None = None,
    ):
        if (logits is None) == (probs is None):
            given = "both" if logits is not None else "neither"
            raise InvalidArgumentError(
                complain(
                    f"OneHotCategorical was given {given} of logits and probs",
                    "they are two descriptions of the same law",
                    "pass exactly one: OneHotCategorical(logits=...) or (probs=...)",
                )
            )
        given: Any = logits if logits is not None else probs
        if jnp.ndim(given) < 1:
            raise InvalidArgumentError(
                complain(
                    f"OneHotCategorical was given a {describe(given)} with no axis",
                    "the last axis runs over the categories",
                    "pass an array of shape batch + (C,)",
                )
            )
        self._logits: Any = logits
        self._probs: Any = probs
        shape = jnp.shape(given)
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

    @property
    def logits(self) -> Float[Array, "*batch C"]:
        """Logits, up to a constant; log probs where probs were passed."""
        return (
            log_probability(jnp.asarray(self._probs))
            if self._logits is None
            else jnp.asarray(self._logits)
        )

    @property
    def probs(self) -> Float[Array, "*batch C"]:
        """Normalised probabilities."""
        if self._logits is None:
            return self._probs / jnp.sum(self._probs, axis=-1, keepdims=True)
        return jax.nn.softmax(self._logits, axis=-1)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        logits = jax.lax.stop_gradient(self.logits)
        shape = (*sample_shape, *self.batch_shape, *self.event_shape)
        index = gumbel.argmax(key, jnp.broadcast_to(logits, shape))
        return jax.nn.one_hot(index, shape[-1], dtype=logits.dtype)

    @validate_sample
    def log_prob(self, value: Any) -> Array:
        log_p = jax.nn.log_softmax(finite_logits(self.logits), axis=-1)
        return jnp.sum(value * log_p, axis=-1)

    def entropy(self) -> Array:
        """H = −Σ p log p, in nats, shape batch."""
        log_p = jax.nn.log_softmax(finite_logits(self.logits), axis=-1)
        return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)

    @property
    def mean(self) -> Array:
        return self.probs

    @property
    def variance(self) -> Array:
        return self.probs * (1 - self.probs)

    def enumerate_support(self, expand: bool = True) -> Array:
        """The C one-hot vectors, shape (C,) + batch + (C,), or batch axes of one."""
        n = self.event_shape[0]
        ones = (1,) * len(self.batch_shape)
        values = jnp.eye(n, dtype=self.logits.dtype).reshape((n, *ones, n))
        return jnp.broadcast_to(values, (n, *self.batch_shape, n)) if expand else values
