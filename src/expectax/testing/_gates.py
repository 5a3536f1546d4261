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
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.scipy.special import ndtri
from jaxtyping import Array, PyTree

from .._errors import UnderpoweredError, complain

_ROUNDING = 1e-10
"""Float64 sums of exact terms differ from the truth by this much of its scale, at most."""


class Moments(eqx.Module):
    """Streamed moments of a pytree of draws.

    Attributes:
        count: number of draws.
        mean: of every leaf.
        m2: Σ (x − mean)².
        low, high: least and greatest draw.
    """

    count: Array
    mean: PyTree
    m2: PyTree
    low: PyTree
    high: PyTree

    @property
    def variance(self) -> PyTree:
        """The sample variance of one draw."""
        return jax.tree.map(lambda s: s / (self.count - 1), self.m2)

    @property
    def standard_error(self) -> PyTree:
        """Of the mean."""
        return jax.tree.map(lambda s: jnp.sqrt(s / (self.count - 1) / self.count), self.m2)

    def map(self, function: Callable[[PyTree], PyTree]) -> "Moments":
        """The same function applied to the tree of each moment."""
        parts = (self.mean, self.m2, self.low, self.high)
        return Moments(self.count, *map(function, parts))

    def __getitem__(self, name: Any) -> "Moments":
        """The moments of one branch of the tree."""
        return self.map(lambda tree: tree[name])


def moments_of(draws: PyTree) -> Moments:
    """The moments of stacked draws: every leaf with a leading axis of draws."""
    over = lambda reduce: jax.tree.map(lambda x: reduce(x, axis=0), draws)
    count = jnp.asarray(float(jax.tree.leaves(draws)[0].shape[0]))
    spread = lambda x: jnp.sum((x - jnp.mean(x, axis=0)) ** 2, axis=0)
    return Moments(count, over(jnp.mean), jax.tree.map(spread, draws), over(jnp.min), over(jnp.max))


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of two sets of draws together (Chan, Golub & LeVeque, 1983)."""
    count = a.count + b.count
    share = b.count / count
    mean = jax.tree.map(lambda x, y: x + (y - x) * share, a.mean, b.mean)
    m2 = jax.tree.map(
        lambda x, y, s, t: s + t + (y - x) ** 2 * a.count * share, a.mean, b.mean, a.m2, b.m2
    )
    low = jax.tree.map(jnp.minimum, a.low, b.low)
    return Moments(count, mean, m2, low, jax.tree.map(jnp.maximum, a.high, b.high))


def stream(
    sample: Callable[[Any], PyTree],
    key: Any,
    num_chunks: Array | int,
    chunk: int = 1024,
    start: Moments | None = None,
) -> Moments:
    """Moments of `num_chunks · chunk` draws of `sample(key)`, in the memory of one chunk.

    Arguments:
        sample: from a key to a pytree of floating arrays.
        key: consumed.
        num_chunks: may be traced, so one compiled program serves every number of draws.
        chunk: how many draws to make at once, under `jax.vmap`.
        start: moments to add to, such as `no_draws(sample)`, which is the default.
    """
    _, restore = ravel_pytree(_zeros(jax.eval_shape(sample, key)))

    def part(i):
        keys = jax.random.split(jax.random.fold_in(key, i), chunk)
        # as one vector per draw: a few large reductions compile faster than many small ones
        return moments_of(jax.vmap(lambda key: ravel_pytree(sample(key))[0])(keys))

    start = no_draws(sample) if start is None else start
    flat = start.map(lambda tree: ravel_pytree(tree)[0])
    total = jax.lax.fori_loop(0, num_chunks, lambda i, so_far: merge(so_far, part(i)), flat)
    return total.map(restore)


def no_draws(sample: Callable[[Any], PyTree]) -> Moments:
    """The moments of no draws at all of `sample(key)`: where a stream starts."""
    zeros = _zeros(jax.eval_shape(sample, jax.random.key(0)))
    full = lambda value: jax.tree.map(lambda x: np.full_like(x, value), zeros)
    count = np.zeros((), jax.tree.leaves(zeros)[0].dtype)
    return Moments(count, zeros, zeros, full(np.inf), full(-np.inf))  # type: ignore[arg-type]


def _zeros(shapes: PyTree) -> PyTree:
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


def gather(
    run: Callable[[Any, int, Moments], Moments],
    start: Moments,
    key: Any,
    *,
    scale: PyTree,
    gate: "Gate",
    fewest: int = 0,
    most: int = 2**23,
    chunk: int = 1024,
) -> Moments:
    """As many draws as Gate B needs, by the variance of those already made.

    Arguments:
        run: a compiled `stream`: key, number of chunks and start to moments.
        start: usually `no_draws(sample)`.
        key: consumed.
        scale: what 2 % is of.
        gate: z and power.
        fewest, most: bounds on the number of draws; with `most` Gate B may still fail.
        chunk: that of `run`.
    """
    moments = run(jax.random.fold_in(key, 0), 8, start)
    if not any(bool(np.any(np.asarray(leaf) > 0)) for leaf in jax.tree.leaves(moments.m2)):
        return moments  # nothing is random
    for attempt in range(1, 9):
        needed = min(max(gate.draws_needed(moments, scale), fewest), most)
        missing = needed - int(moments.count)
        if missing <= 0:
            break
        moments = run(jax.random.fold_in(key, attempt), -(-missing // chunk), moments)
    return moments


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
        return float(-ndtri(np.float64(self.false_alarm / (2 * self.comparisons))))

    def allowance(self, moments: Moments, scale: PyTree) -> PyTree:
        """How far each mean may be from the truth."""
        z, n = self.z, moments.count

        def one(mean, m2, low, high, scale):
            rare = z * jnp.maximum(high - mean, mean - low) / (2 * n)
            return z * jnp.sqrt(m2 / (n - 1) / n + rare**2) + z * rare + _ROUNDING * scale

        return jax.tree.map(one, moments.mean, moments.m2, moments.low, moments.high, scale)

    def draws_needed(self, pilot: Moments, scale: PyTree) -> int:
        """How many draws will pass Gate B, judged by a pilot, with a margin of a tenth."""
        ratio = lambda a, s: jnp.max(a / (0.9 * self.power * s))
        allowed = self.allowance(pilot, scale)
        worst = max(map(float, jax.tree.leaves(jax.tree.map(ratio, allowed, scale))))
        return int(pilot.count * worst**2) + 1

    def excess(self, moments: Moments, truth: PyTree, scale: PyTree) -> PyTree:
        """|mean − truth| in units of the allowance: Gate A fails above 1."""
        allowed = self.allowance(moments, scale)
        return jax.tree.map(
            lambda m, t, a: jnp.where(m == t, 0.0, jnp.abs(m - t) / a), moments.mean, truth, allowed
        )

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
    gate.require_power(moments, scale, what)
    if not _worst(gate.excess(moments, truth, scale))[1] > 1:
        raise AssertionError(
            f"{what} is claimed to be biased, and no bias was found\n"
            f"  mean:  {moments.mean}\n  truth: {truth}\n  s.e.:  {moments.standard_error}"
        )


def default_scale(truth: PyTree) -> PyTree:
    """Each leaf's largest |truth|, as an array that broadcasts against it."""
    return jax.tree.map(lambda t: jnp.max(jnp.abs(jnp.asarray(t))), truth)


def batch_scale(truth: PyTree, batch_ndim: int) -> PyTree:
    """The largest |truth| over all leaves, for each batch element; leaves start with the batch."""
    size = lambda t: jnp.max(jnp.abs(t), axis=tuple(range(batch_ndim, t.ndim)))
    most = jnp.max(jnp.stack([size(t) for t in jax.tree.leaves(truth)]), axis=0)
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
