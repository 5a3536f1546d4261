"""What distributions over sets and orders share: supports, lists of outcomes, arguments."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpyro.distributions import Distribution, constraints

from .._errors import InvalidArgumentError, complain, describe
from .._trees import over_batch
from ..gumbel._top_k import check_k
from ._base import Enumerable
from ._of_logits import OfLogits
from ._one_hot import _LogitsConstraint


class KHot(constraints.Constraint):
    """Vectors of k ones and zeros elsewhere."""

    is_discrete = True
    event_dim = 1  # type: ignore[assignment]

    def __init__(self, k: int):
        self.k = k

    def __call__(self, x: Any) -> Any:
        return jnp.all((x == 0) | (x == 1), axis=-1) & (jnp.sum(x, axis=-1) == self.k)

    def feasible_like(self, prototype: Any) -> Any:
        first = jnp.arange(prototype.shape[-1]) < self.k
        return jnp.broadcast_to(first, prototype.shape).astype(prototype.dtype)

    def tree_flatten(self) -> Any:
        return (), ((), {"k": self.k})

    def eq(self, other: object, static: bool = False) -> bool:
        del static
        return type(other) is type(self) and other.k == self.k  # type: ignore[attr-defined]


class Ranking(KHot):
    """Matrices [k, n] whose rows are different unit vectors."""

    event_dim = 2  # type: ignore[assignment]

    def __call__(self, x: Any) -> Any:
        bits = jnp.all((x == 0) | (x == 1), axis=(-2, -1))
        rows = jnp.all(jnp.sum(x, axis=-1) == 1, axis=-1)
        return bits & rows & jnp.all(jnp.sum(x, axis=-2) <= 1, axis=-1)

    def feasible_like(self, prototype: Any) -> Any:
        rows, columns = prototype.shape[-2:]
        return jnp.broadcast_to(jnp.eye(rows, columns), prototype.shape).astype(prototype.dtype)


def unrank_set(index: Int[Array, "S"], n: int, k: int) -> Array:
    """The sets of these numbers among the C(n, k) in lexicographic order, as booleans (S, n)."""
    # ways[l, j]: sets of j − 1 among l items, the ways to go on once an item is taken
    ways = [[math.comb(left, j - 1) if j else 0 for j in range(k + 1)] for left in range(n)]
    table = jnp.asarray(np.minimum(np.array(ways, object), 2**31 - 1).astype(np.int32))

    def one(carry, left):
        number, need = carry
        count = table[left, need]
        taken = number < count
        return (jnp.where(taken, number, number - count), need - taken), taken

    start = (index.astype(jnp.int32), jnp.full(index.shape, k, jnp.int32))
    _, taken = jax.lax.scan(one, start, jnp.arange(n - 1, -1, -1))
    return taken.T


def unrank_order(index: Int[Array, "S"], n: int, k: int) -> Array:
    """The orders of these numbers among the n!/(n−k)!, as booleans (S, k, n)."""
    left = jnp.ones((*index.shape, n), bool)
    rows = []
    for j in range(k):
        which = index % (n - j)  # which of the items that are left comes next
        index = index // (n - j)
        here = left & (jnp.cumsum(left, axis=-1) == which[..., None] + 1)
        rows.append(here)
        left = left & ~here
    return jnp.stack(rows, axis=-2)


class SetDistribution(Distribution):
    """k of n items, as k-hot vectors: arguments, support and list of outcomes."""

    arg_constraints = {"logits": _LogitsConstraint()}  # noqa: RUF012
    has_enumerate_support = True
    pytree_data_fields = ("logits",)
    pytree_aux_fields = ("k",)

    def __init__(
        self,
        logits: Float[Array, "*batch N"],
        k: int,
        *,
        validate_args: bool | None = None,
    ):
        shape = check_items(type(self).__name__, logits, k)
        self.logits: Any = logits
        self.k = k
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

    @property
    def support(self) -> Any:
        """Vectors with k ones."""
        return KHot(self.k)

    @property
    def _theta(self) -> Array:
        return jnp.asarray(self.logits)

    def enumerate_support(self, expand: bool = True) -> Array:
        """The C(n, k) outcomes, shape (C(n, k),) + batch + (n,), or batch axes of one."""
        n = self.event_shape[0]
        hot = unrank_set(jnp.arange(math.comb(n, self.k)), n, self.k)
        return spread(hot.astype(self._theta.dtype), self.batch_shape, 1, expand)


def spread(values: Array, batch: tuple[int, ...], event_dim: int, expand: bool) -> Array:
    """(N,) + event to (N,) + batch + event, or batch axes of one."""
    num, event = values.shape[0], values.shape[values.ndim - event_dim :]
    values = values.reshape((num, *(1,) * len(batch), *event))
    return jnp.broadcast_to(values, (num, *batch, *event)) if expand else values


def check_items(name: str, logits: Any, k: Any) -> tuple[int, ...]:
    """The shape of the logits, or an error if there is no axis of items or k does not fit it."""
    if jnp.ndim(logits) < 1:
        raise InvalidArgumentError(
            complain(
                f"{name} was given a {describe(logits)} with no axis",
                "the last axis runs over the items",
                "pass an array of shape batch + (n,)",
            )
        )
    shape = jnp.shape(logits)
    check_k(name, k, shape[-1])
    return shape


class SetView(OfLogits, Enumerable):
    """Independent k-hot variables with one finite logit per item, shape batch + event, items last.

    The logits are of at least 32 bits; `dtype` is that of the draws.
    """

    logits: Float[Array, "... N"]
    k: int = eqx.field(static=True)
    num_batch_dims: int = eqx.field(static=True)
    dtype: jnp.dtype = eqx.field(static=True)

    @property
    def _num_each(self) -> int:
        """The number of outcomes of one variable."""
        return math.comb(self.logits.shape[-1], self.k)

    def _unrank(self, index: Array) -> Array:
        """The outcomes of one variable of these numbers."""
        return unrank_set(index, self.logits.shape[-1], self.k)

    @property
    def num_outcomes(self):
        return self._num_each ** math.prod(self.logits.shape[self.num_batch_dims : -1])

    def outcome(self, index):
        index = over_batch(index, self.num_batch_dims)
        digits, rest = [], index
        for _ in range(math.prod(self.logits.shape[self.num_batch_dims : -1])):
            digits.append(rest % self._num_each)
            rest = rest // self._num_each
        each = self._unrank(jnp.stack(digits, axis=-1).reshape(-1)).astype(self.dtype)
        each = each.reshape((*index.shape, *self.event_shape))
        return jnp.broadcast_to(each, (len(index), *self.batch_shape, *self.event_shape))
