"""Shared type aliases. Axes: S draws, B data batch, D variables, C categories."""

from collections.abc import Callable
from typing import Any, TypeAlias

from jaxtyping import Array, Float, Key, PyTree, UInt32

PRNGKey: TypeAlias = Key[Array, ""] | UInt32[Array, "_"]
"""One key: typed (`jax.random.key`) or legacy (`jax.random.PRNGKey`)."""

CostFn: TypeAlias = Callable[[Any], Any]
"""`f`: a draw of shape batch + event (or a pytree of draws) to a cost of shape batch."""

ScalarLike: TypeAlias = float | Float[Array, ""]

__all__ = ["CostFn", "PRNGKey", "PyTree", "ScalarLike"]
