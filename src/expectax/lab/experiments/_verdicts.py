"""When a measured figure agrees with a published one. Every rule here can say no."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

Z = 3.0
"""Standard errors that a figure may be off."""

POWER = 0.04
"""The largest standard error, as a fraction of the figure's scale, with which a rule may say yes.

At this limit a figure that is 12 % of its scale off is still told apart.
"""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A comparison: whether it holds (None: there was nothing to compare with), in words."""

    holds: bool | None
    text: str


NOT_JUDGED = Verdict(None, "")


@dataclasses.dataclass(frozen=True)
class Published:
    """A published mean.

    Attributes:
        text: as printed: its last digit says how far it was rounded.
        num_runs: over how many runs it was averaged; math.inf for a figure without noise.
    """

    text: str
    num_runs: float = math.inf

    @property
    def value(self) -> float:
        """The figure."""
        return float(self.text)

    @property
    def half_unit(self) -> float:
        """Half a unit of the last printed digit.

        Example:
            >>> Published(".202576").half_unit
            5e-07
        """
        _, _, decimals = self.text.partition(".")
        return 0.5 * 10.0 ** -len(decimals)


def mean_and_error(values: Float[np.ndarray, "N"]) -> tuple[float, float]:
    """The mean and its standard error; exactly 0 where all values are equal."""
    if np.ptp(values) == 0:
        return float(values[0]), 0.0
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))


def agrees(values: Float[np.ndarray, "N"], published: Published, scale: float) -> Verdict:
    """Whether the mean of our runs is that of the published ones.

    The standard error is that of the difference: ours, and theirs by the spread of our runs. What
    rounding hides is not held against either.

    Arguments:
        values: one figure for each run.
        published: the published mean.
        scale: what the figure varies over, for the power: agreement with a standard error above
            `POWER` of it proves nothing.
    """
    mean, ours = mean_and_error(values)
    theirs = ours * math.sqrt(len(values) / published.num_runs)
    error = math.hypot(ours, theirs)
    excess = max(0.0, abs(mean - published.value) - published.half_unit)
    off = f" ({excess / error:.1f} s.e.)" if error else ""
    if excess > Z * error:
        return Verdict(False, f"DISAGREES{off}")
    if ours > POWER * abs(scale):
        return Verdict(False, f"underpowered: s.e. is {ours / abs(scale):.1%} of the scale")
    return Verdict(True, f"agrees{off}")


def typical(values: Float[np.ndarray, "N"], low: float, high: float | None = None) -> Verdict:
    """Whether published single runs, from `low` to `high`, lie among ours.

    They do where the range meets that of the central 99 % of our runs.
    """
    bottom, top = np.quantile(values, [0.005, 0.995])
    high = low if high is None else high
    middle = f"ours {bottom:.5g} … {top:.5g}"
    if low <= top and high >= bottom:
        return Verdict(True, f"typical: {middle}")
    return Verdict(False, f"NOT TYPICAL: {middle}")


def progress(remaining: Float[np.ndarray, "N"], start: float) -> tuple[float, float]:
    """The fraction of the way from `start` to the optimum that runs have gone, and its error."""
    mean, error = mean_and_error(remaining)
    return 1.0 - mean / start, error / start


STALLED, ARRIVED = 1 / 3, 0.8


def stalls(remaining: Float[np.ndarray, "N"], start: float) -> Verdict:
    """Whether runs have gone less than a third of the way to the optimum."""
    gone, error = progress(remaining, start)
    holds = gone + Z * error < STALLED
    return Verdict(holds, f"{'stalls' if holds else 'DOES NOT STALL'}: {gone:.1%} of the way")


def succeeds(remaining: Float[np.ndarray, "N"], start: float) -> Verdict:
    """Whether runs have gone more than four fifths of the way to the optimum."""
    gone, error = progress(remaining, start)
    holds = gone - Z * error > ARRIVED
    return Verdict(holds, f"{'succeeds' if holds else 'DOES NOT SUCCEED'}: {gone:.1%} of the way")


def describes(remaining: Float[np.ndarray, "N"], start: float) -> Verdict:
    """How far runs have gone, where nothing was published."""
    gone, _ = progress(remaining, start)
    return Verdict(None, f"{gone:.1%} of the way")
