"""A z-test of a stochastic gradient against its reference, which can fail and knows its power."""

import inspect
import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from .._errors import (
    InvalidArgumentError,
    complain,
    describe,
)
from .._types import PRNGKey
from ._moments import LossFn, Moments, gradient_moments
from ._report import LeafReport, UnbiasedReport, Verdict

_Z = 4.5
_FALSE_ALARM = 1e-4
# Sums of a few thousand terms are this many units in the last place off; far below any power.
_ROUNDING = 64


def check_unbiased(
    key: PRNGKey,
    loss: LossFn,
    params: PyTree,
    *,
    reference: Callable[..., Any] | Moments,
    num_draws: int = 100_000,
    z_max: float | None = None,
    power: float = 0.02,
    scale: float | None = None,
    chunk_size: int | None = None,
) -> UnbiasedReport:
    """Is `jax.grad(loss)(params, key)` unbiased for the reference, and could we tell?

    For every entry |mean − reference| ≤ z·SE must hold, or its leaf is *biased*; and z·SE must be
    at most `power` times the gradient's scale, or its leaf is *underpowered*: too noisy for the
    first test to mean anything. Only a leaf that passes both is *unbiased*.

    Arguments:
        key: a typed or legacy key. It is consumed.
        loss: (params, key) to a scalar.
        params: any pytree; its floating leaves are differentiated.
        reference: a function from params to the exact gradient; or another loss, a function of
            (params, key), whose mean gradient is compared (a two-sample test with as many draws);
            or `Moments` that were measured before with another key.
        num_draws: at least 2.
        z_max: by default 4.5, raised with the number of entries so that all of them together give
            a false alarm with probability at most 1e-4.
        power: the largest z·SE, as a fraction of the gradient's scale.
        scale: the gradient's scale; by default a leaf's largest |reference|, or, for a leaf
            whose reference is exactly zero, that of all leaves.
        chunk_size: see `gradient_moments`.

    Returns:
        `UnbiasedReport`; its `raise_unless_unbiased()` makes a test of it.

    Raises:
        InvalidArgumentError: a reference of another structure or shape than the gradient, and
            whatever `gradient_moments` refuses.

    Example:
        >>> import jax, numpyro.distributions as dist, expectax as ex
        >>> def loss(logit, key, estimator=ex.DisARM()):
        ...     q = dist.Bernoulli(logits=logit)
        ...     return ex.expect(key, q, lambda b: (b - 0.25) ** 2, estimator)
        >>> exact = lambda logit: jax.grad(loss)(logit, jax.random.key(0), ex.Enumerate())
        >>> print(ex.check_unbiased(jax.random.key(1), loss, 0.4, reference=exact).verdict)
        unbiased
        >>> straight = lambda logit, key: loss(logit, key, ex.StraightThrough())
        >>> print(ex.check_unbiased(jax.random.key(1), straight, 1.4, reference=exact).verdict)
        biased

    Reference:
        The two-sided z-test. The standard error is estimated from the draws, so draws must be many
        enough to contain the rare events: a bit of probability 1e-6 needs millions.
    """
    if isinstance(reference, Moments) or not _takes_key(reference, params, key):
        own_key, other_key = key, None
    else:
        own_key, other_key = jax.random.split(key)
    measure = lambda key, loss: gradient_moments(
        key, loss, params, num_draws=num_draws, chunk_size=chunk_size
    )
    moments = measure(own_key, loss)
    if isinstance(reference, Moments):
        other = reference
    elif other_key is not None:
        other = measure(other_key, reference)
    else:
        other = exact_moments(reference(params))
    _check_structure(moments.mean, other.mean)
    leaves = judge(moments, other, z_max=z_max, power=power, scale=scale)
    return UnbiasedReport(leaves, num_draws, threshold(moments, z_max), power)


def judge(
    moments: Moments,
    reference: Moments,
    *,
    z_max: float | None,
    power: float,
    scale: float | None,
) -> tuple[LeafReport, ...]:
    """A report on every leaf of two moments with the same structure."""
    limit = threshold(moments, z_max)
    arrays = lambda tree: [np.asarray(x, np.float64) for x in jax.tree.leaves(tree)]
    truths = arrays(reference.mean)
    # a leaf whose own gradient is zero is judged on the scale of the whole gradient
    whole = max((float(np.max(np.abs(t), initial=0.0)) for t in truths), default=0.0)
    columns = zip(
        jax.tree.leaves_with_path(moments.mean),
        arrays(moments.standard_error),
        truths,
        arrays(reference.standard_error),
        strict=True,
    )
    reports = []
    for (path, mean), own_error, truth, other_error in columns:
        if truth.size:
            unit = scale or float(np.max(np.abs(truth))) or whole
            rounding = _ROUNDING * float(np.finfo(mean.dtype).eps) * unit
            error = np.asarray(np.hypot(own_error, other_error))
            mean64 = np.asarray(mean, np.float64)
            name = jax.tree_util.keystr(path) or "params"
            reports.append(_judge_leaf(name, mean64, truth, error, rounding, unit, limit, power))
    return tuple(reports)


def _judge_leaf(
    path: str,
    mean: np.ndarray,
    truth: np.ndarray,
    error: np.ndarray,
    rounding: float,
    scale: float,
    z_max: float,
    power: float,
) -> LeafReport:
    distance = np.abs(mean - truth)
    # without the rounding, a gradient that has no noise would be called biased
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(distance > 0, distance / np.hypot(error, rounding), 0.0)
    z = np.where(np.isfinite(distance), z, np.inf)
    worst = tuple(int(i) for i in np.unravel_index(int(np.argmax(z)), z.shape))
    noise = float(np.max(error))
    resolution = z_max * noise / scale if scale else math.inf if noise else 0.0
    verdict: Verdict = "unbiased" if resolution <= power else "underpowered"
    return LeafReport(
        path=path,
        size=z.size,
        max_z=float(z[worst]),
        worst_index=worst,
        mean=float(mean[worst]),
        reference=float(truth[worst]),
        scale=scale,
        resolution=resolution,
        verdict="biased" if z[worst] > z_max else verdict,
    )


def threshold(moments: Moments, z_max: float | None) -> float:
    """The z beyond which an entry is biased."""
    if z_max is not None:
        return z_max
    tests = sum(leaf.size for leaf in jax.tree.leaves(moments.mean))
    return max(_Z, -NormalDist().inv_cdf(_FALSE_ALARM / (2 * max(1, tests))))


def exact_moments(gradient: PyTree) -> Moments:
    """An exact gradient as moments without variance."""
    mean = eqx.filter(gradient, eqx.is_inexact_array_like)
    zero = jax.tree.map(np.zeros_like, mean)
    return Moments(mean, zero, zero, 1)


def _takes_key(reference: Callable[..., Any], params: PyTree, key: PRNGKey) -> bool:
    """Whether `reference` is a loss of (params, key) rather than a function of params."""
    if not callable(reference):
        raise InvalidArgumentError(
            complain(
                f"check_unbiased was given {describe(reference)} as its reference",
                "the reference is a function or `Moments`",
                "pass a function from params to the exact gradient, another loss of (params, key), "
                "or the result of gradient_moments",
            )
        )
    try:
        signature = inspect.signature(reference)
    except (TypeError, ValueError):  # a callable without a signature
        return False

    def accepts(*arguments: Any) -> bool:
        try:
            signature.bind(*arguments)
        except TypeError:
            return False
        return True

    return accepts(params, key) and not accepts(params)


def _check_structure(own: PyTree, other: PyTree) -> None:
    shapes = lambda tree: (jax.tree.structure(tree), [np.shape(x) for x in jax.tree.leaves(tree)])
    if shapes(own) == shapes(other):
        return
    layout = lambda tree: jax.tree.map(np.shape, tree)
    raise InvalidArgumentError(
        complain(
            f"the reference gave a gradient of layout {layout(other)}",
            f"the gradient of the loss has layout {layout(own)}",
            "return one array for every floating leaf of params, as equinox.filter_grad does",
        )
    )
