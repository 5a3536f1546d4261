"""What can go wrong in a run that is not a mistake in the library."""

from .._errors import ExpectaxError, complain


class UsageError(ExpectaxError, ValueError):
    """An option, a file or a folder that cannot work. The command line exits with status 2."""


class NonFiniteError(ExpectaxError, ArithmeticError):
    """Training met a number that is not finite. The command line exits with status 1."""


def unknown(kind: str, given: str, valid: list[str]) -> UsageError:
    """The error for a name that is in no list."""
    return UsageError(
        complain(f"there is no {kind} {given!r}", "the name is not known", f"pass {either(valid)}")
    )


def either(names: list[str]) -> str:
    """Names as a choice.

    Example:
        >>> either(["a", "b", "c"])
        'a, b or c'
    """
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
