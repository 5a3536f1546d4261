"""Statistical checks that can fail: a mean against the truth, and the power to see a difference.

Gate A: |mean − truth| ≤ allowance, where the allowance is z standard errors and z comes from one
false-alarm budget for the whole suite. Gate B: allowance ≤ 2 % of the truth's scale, or the check
fails as underpowered. There is no other tolerance.

The standard error is the sample's, which is too small by luck where a rare large draw carries the
variance (a score at p = 1e-4). So the allowance is Wilson's score interval, with the largest
deviation seen as the size of a rare draw: z √(SE² + (z r / 2n)²) + z² r / 2n. The correction is
of order 1/n and vanishes beside z·SE for ordinary draws.
"""

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from .._errors import UnderpoweredError, complain
from ._moments import CHUNK, Moments, moments_of, stream

_quietly = np.errstate(divide="ignore", invalid="ignore")
"""What is not finite is found by the gates themselves, as in JAX."""

_ROUNDING = 1e-10
"""Float64 sums of exact terms differ from the truth by this much of its scale, at most."""


@dataclasses.dataclass(frozen=True)
class Gate:
    """How sure a statistical check must be.

    Attributes:
        false_alarm: the chance that a correct library fails anywhere in the suite.
        comparisons: how many numbers the suite compares; together they give z.
        power: Gate B, the greatest allowance in units of the truth's scale.

    Example:
        >>> round(Gate().z, 2)
        4.48
    """

    false_alarm: float = 0.05
    comparisons: int = 6600
    power: float = 0.02

    @property
    def z(self) -> float:
        """How many standard errors a mean may be off: two-sided, split over all comparisons."""
        return -statistics.NormalDist().inv_cdf(self.false_alarm / (2 * self.comparisons))

    @_quietly
    def allowance(self, moments: Moments, scale: PyTree) -> PyTree:
        """How far each mean may be from the truth."""
        z, n = self.z, np.asarray(moments.count)
        moments, scale = jax.device_get((moments, scale))  # NumPy compiles nothing

        def one(mean, m2, low, high, scale):
            rare = z * np.maximum(high - mean, mean - low) / (2 * n)
            return z * np.sqrt(m2 / (n - 1) / n + rare**2) + z * rare + _ROUNDING * scale

        return jax.tree.map(one, moments.mean, moments.m2, moments.low, moments.high, scale)

    @_quietly
    def draws_needed(self, pilot: Moments, scale: PyTree) -> int:
        """How many draws will pass Gate B, judged by a pilot, with a margin of a tenth.

        With r = zR/(2n), R the range, the allowance z√(σ²/n + r²) + zr is zt at n = σ²/t² + zR/t.
        """
        z, n = self.z, np.asarray(pilot.count)
        pilot, scale = jax.device_get((pilot, scale))

        def one(mean, m2, low, high, scale):
            t = (0.9 * self.power - _ROUNDING) * scale / z
            return m2 / (n - 1) / t**2 + z * np.maximum(high - mean, mean - low) / t

        needed = jax.tree.map(one, pilot.mean, pilot.m2, pilot.low, pilot.high, scale)
        # what is not finite is broken: no number of draws would mend it
        finite = lambda x: float(np.max(np.where(np.isfinite(x), x, 0.0)))
        return int(max(map(finite, jax.tree.leaves(needed)))) + 1

    @_quietly
    def excess(self, moments: Moments, truth: PyTree, scale: PyTree) -> PyTree:
        """|mean − truth| in units of the allowance: Gate A fails above 1."""
        allowed = self.allowance(moments, scale)
        mean, truth = jax.device_get((moments.mean, truth))
        return jax.tree.map(
            lambda m, t, a: np.where(m == t, 0.0, np.abs(m - t) / a), mean, truth, allowed
        )

    @_quietly
    def require_power(self, moments: Moments, scale: PyTree, what: str) -> None:
        """Gate B: raise unless every allowance is small beside the scale.

        Raises:
            UnderpoweredError: the check could not have seen an error of 2 %.
        """
        allowed = self.allowance(moments, scale)
        ratio = jax.tree.map(lambda a, s: a / s, allowed, scale)
        path, worst = _worst(ratio)
        if not worst <= self.power:
            raise UnderpoweredError(
                complain(
                    f"{what}{path}: {int(moments.count)} draws leave an allowance of "
                    f"{worst:.1%} of the scale",
                    f"an error smaller than that would pass, and the gate is {self.power:.0%}",
                    "take more draws, or a problem with less variance",
                )
            )


def gather(
    program: Callable[..., Moments],
    key: Any,
    *arguments: Any,
    scale: PyTree,
    gate: Gate | None = None,
    fewest: int = 0,
    most: int = 2**23,
) -> Moments:
    """As many draws as Gate B needs, by the variance of those already made.

    Arguments:
        program: `over_keys(sample)`.
        key: consumed.
        arguments: passed on to `sample`.
        scale: what 2 % is of.
        gate: z and power.
        fewest, most: bounds on the number of draws; with `most` Gate B may still fail.
    """
    gate = gate or Gate()
    moments = stream(program, jax.random.fold_in(key, 0), 1, *arguments)
    if not any(np.any(leaf != 0) for leaf in jax.tree.leaves(moments.m2)):
        return moments  # nothing is random
    for attempt in range(1, 9):
        needed = min(max(gate.draws_needed(moments, scale), fewest), most)
        missing = needed - int(moments.count)
        if missing <= 0:
            break
        again = jax.random.fold_in(key, attempt)
        moments = stream(program, again, -(-missing // CHUNK), *arguments, start=moments)
    return moments


def check_mean(
    moments: Moments | PyTree,
    truth: PyTree,
    *,
    scale: PyTree | None = None,
    gate: Gate | None = None,
    what: str = "mean",
) -> None:
    """Assert that a mean equals the truth, as far as its draws can tell, and that they can.

    Arguments:
        moments: of the draws, or the stacked draws themselves.
        truth: the same structure, without the axis of draws.
        scale: what 2 % is of, broadcastable leaf by leaf; by default each leaf's largest |truth|.
        gate: z and power.
        what: named in the error.

    Raises:
        UnderpoweredError: Gate B, the draws are too few to see a 2 % error.
        AssertionError: Gate A, the mean is not the truth.

    Example:
        >>> import jax
        >>> check_mean(2.0 + jax.random.normal(jax.random.key(0), (200_000,)), 2.0)
    """
    gate = gate or Gate()
    moments = moments if isinstance(moments, Moments) else moments_of(moments)
    scale = default_scale(truth) if scale is None else scale
    _require_finite(moments, what)
    gate.require_power(moments, scale, what)
    path, worst = _worst(gate.excess(moments, truth, scale))
    if not worst <= 1:
        raise AssertionError(
            f"{what}{path} is off by {worst:.2f} times the allowance (z = {gate.z:.2f})\n"
            f"  mean:  {moments.mean}\n  truth: {truth}\n  s.e.:  {moments.standard_error}"
        )


def check_biased(moments: Moments, truth: PyTree, *, scale: PyTree, gate: Gate, what: str) -> None:
    """Assert that a claimed bias is there: some mean differs from the truth.

    Raises:
        UnderpoweredError: the draws are too few to see a 2 % bias.
        AssertionError: no bias was found.
    """
    _require_finite(moments, what)
    gate.require_power(moments, scale, what)
    if not _worst(gate.excess(moments, truth, scale))[1] > 1:
        raise AssertionError(
            f"{what} is claimed to be biased, and no bias was found\n"
            f"  mean:  {moments.mean}\n  truth: {truth}\n  s.e.:  {moments.standard_error}"
        )


def _require_finite(moments: Moments, what: str) -> None:
    for path, mean in jax.tree_util.tree_leaves_with_path(moments.mean):
        if not bool(np.all(np.isfinite(mean))):
            raise AssertionError(f"{what}{jax.tree_util.keystr(path)} is not finite: {mean}")


def default_scale(truth: PyTree) -> PyTree:
    """Each leaf's largest |truth|, as an array that broadcasts against it."""
    return jax.tree.map(lambda t: np.max(np.abs(np.asarray(t))), truth)


def batch_scale(truth: PyTree, batch_ndim: int) -> PyTree:
    """The largest |truth| over all leaves, for each batch element; leaves start with the batch."""
    truth = jax.device_get(truth)
    size = lambda t: np.max(np.abs(t), axis=tuple(range(batch_ndim, t.ndim)))
    most = np.max(np.stack([size(t) for t in jax.tree.leaves(truth)]), axis=0)
    return jax.tree.map(lambda t: most.reshape(most.shape + (1,) * (t.ndim - batch_ndim)), truth)


def _worst(tree: PyTree) -> tuple[str, float]:
    """The largest entry (NaN counts as largest) and where it is."""
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        leaf = np.nan_to_num(np.asarray(leaf), nan=np.inf)
        if leaf.size:
            at = np.unravel_index(np.argmax(leaf), leaf.shape)
            where = jax.tree_util.keystr(path) + (f"{[int(i) for i in at]}" if at else "")
            found.append((float(leaf[at]), where))
    worst, where = max(found)
    return where, worst
