"""The errors Expectax raises on purpose.

Every message has three parts: what was passed, why it cannot work, what to pass instead.
"""

from typing import Any


class ExpectaxError(Exception):
    """Base class of every error that Expectax raises on purpose."""


class IncompatibleError(ExpectaxError, TypeError):
    """An estimator was given a distribution that it cannot serve."""


class InvalidArgumentError(ExpectaxError, ValueError):
    """An argument has a shape, type or value that cannot work."""


class HigherOrderError(ExpectaxError, NotImplementedError):
    """A second derivative was asked of an estimator that is right only to first order."""


class UnderpoweredError(ExpectaxError, AssertionError):
    """A statistical check had too few draws to be able to fail."""


def complain(passed: str, why: str, instead: str) -> str:
    """Join the three parts of an error message."""
    return f"{passed}\n  why: {why}\n  instead: {instead}"


def describe(x: Any) -> str:
    """A short name for an object in an error message.

    Example:
        >>> describe((1, 2))
        'tuple'
    """
    shape = getattr(x, "shape", None)
    dtype = getattr(x, "dtype", None)
    if shape is not None and dtype is not None:
        return f"array of shape {tuple(shape)} and type {dtype}"
    return type(x).__name__
