"""Estimators side by side on one q and f: bias, variance, evaluations, time."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from .._errors import ExpectaxError, InvalidArgumentError, complain, describe
from .._trees import size_of, sum_leaves
from .._types import CostFn, PRNGKey
from ..distributions import Enumerable, Joint
from ..estimators import AbstractEstimator
from ..estimators.enumerate import Enumerate
from ._comparison import Comparison, ComparisonRow
from ._loss import Loss, Setting
from ._moments import (
    Moments,
    check_count,
    chunk_of,
    gradient_moments,
)
from ._timing import Stopwatch, Timing, interleave
from ._unbiased import exact_moments, judge


def compare(
    key: PRNGKey,
    q: Any,
    f: CostFn,
    estimators: Mapping[str, AbstractEstimator] | Sequence[AbstractEstimator],
    *,
    num_draws: int = 1000,
    max_outcomes: int = 2**16,
    num_runs: int = 11,
) -> Comparison:
    """Bias, variance, signal-to-noise, evaluations and time of estimators, for *your* q and f.

    Variance × evaluations compares them at equal evaluations of f, variance × time at equal time.

    The gradient is that of Σ_batch E_q[f] in the floating leaves of q, as they were passed:
    logits, probs, loc, scale … What the estimators learn is held as given: to compare a trained
    control variate, pass the trained estimator. The time of a step includes learning it further.

    Arguments:
        key: a typed or legacy key. It is consumed.
        q: a NumPyro distribution, or a pytree of them with one batch shape.
        f: from a draw to a cost of shape batch, as for `expect`; closures are welcome.
        estimators: by name, or a list (named by their classes).
        num_draws: gradients drawn for each moment, at least 2.
        max_outcomes: bias is measured against enumeration up to this many joint outcomes.
        num_runs: timed runs of each estimator, interleaved, at least 2.

    Returns:
        `Comparison`: a row per estimator; an estimator that cannot serve q or f has the reason in
        place of figures. `print` it, `.plot(path)` it, or export it.

    Raises:
        InvalidArgumentError: a q or f that no estimator could serve, or no estimators.

    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> q = dist.Bernoulli(logits=jnp.array([0.0, 1.0])).to_event(1)
        >>> f = lambda b: ((b - 0.45) ** 2).sum(-1)
        >>> pair = [ex.DisARM(), ex.Pathwise()]
        >>> result = ex.compare(jax.random.key(0), q, f, pair, num_draws=500)
        >>> [row.name for row in result.rows], result.rows[0].hard_evaluations
        (['DisARM', 'Pathwise'], 2)
        >>> print(result.rows[1].reason.splitlines()[0])
        Pathwise cannot serve BernoulliLogits

    Reference:
        Variance × time is the variance left after a second of averaging independent draws.
    """
    named = name_all(estimators, "compare")
    check_count("compare", "num_draws", num_draws, 2)
    check_count("compare", "num_runs", num_runs, 2)
    setting = Setting(key, q, f)
    views, floats = setting.views, setting.floats
    exact = _exact_gradient(key, setting.loss(Enumerate()), floats, views, max_outcomes)
    results: dict[str, Moments | str] = {}
    stopwatches: dict[str, Stopwatch] = {}
    keys = jax.random.split(key, len(named))
    for (name, estimator), own_key in zip(named.items(), keys, strict=True):
        loss = setting.loss(estimator)
        try:
            results[name] = _measure(own_key, loss, floats, views, num_draws)
        except ExpectaxError as error:
            results[name] = str(error)
        else:
            stopwatches[name] = Stopwatch(own_key, loss, floats)
            stopwatches[name].warm_up()
    timings = interleave(stopwatches, num_runs)
    rows = tuple(
        _row(name, named[name], views, result, timings.get(name), exact)
        for name, result in results.items()
    )
    norm = None if exact is None else float(exact.squared_norm) ** 0.5
    return Comparison(rows, num_draws, None if exact is None else views.num_outcomes, norm)


def _measure(key: PRNGKey, loss: Loss, floats: PyTree, views: Joint, num_draws: int) -> Moments:
    gradient = lambda key: jax.grad(loss)(floats, key)
    jax.eval_shape(gradient, key)  # an estimator that cannot serve q or f says so here
    try:
        # vmap refuses to return one value for all keys, unless it does not depend on the key
        jax.eval_shape(jax.vmap(gradient, out_axes=None), jax.random.split(key))
        num_draws = 2
    except ValueError:
        pass
    count = loss.estimator.evaluations(views)
    elements = size_of(floats) + (count.hard + count.auxiliary) * size_of(views.example())
    chunk = chunk_of(elements, num_draws)
    return gradient_moments(key, loss, floats, num_draws=num_draws, chunk_size=chunk)


def _exact_gradient(
    key: PRNGKey, loss: Loss, floats: PyTree, views: Joint, max_outcomes: int
) -> Moments | None:
    enumerable = all(isinstance(site, Enumerable) for site in views.sites)
    if not enumerable or views.num_outcomes > max_outcomes:
        return None
    program = eqx.filter_jit(lambda loss, floats, key: jax.grad(loss)(floats, key))
    return exact_moments(program(loss, floats, key))


def _row(
    name: str,
    estimator: AbstractEstimator,
    views: Joint,
    result: Moments | str,
    timing: Timing | None,
    exact: Moments | None,
) -> ComparisonRow:
    row = ComparisonRow(name, type(estimator).__name__, estimator.claims.unbiased)
    if isinstance(result, str) or timing is None:
        return dataclasses.replace(row, reason=str(result))
    count = estimator.evaluations(views)
    variance = float(result.total_variance)
    row = dataclasses.replace(
        row,
        variance=variance,
        signal_to_noise=float(result.signal_to_noise),
        hard_evaluations=count.hard,
        auxiliary_evaluations=count.auxiliary,
        seconds_per_step=timing.step,
        seconds_quartiles=timing.quartiles,
        compile_seconds=timing.compile,
        variance_evaluations=variance * (count.hard + count.auxiliary),
        variance_seconds=variance * timing.step,
    )
    if exact is None:
        return row
    difference = jax.tree.map(lambda m, g: jnp.sum((m - g) ** 2), result.mean, exact.mean)
    leaves = judge(result, exact, z_max=None, power=1.0, scale=None)
    return dataclasses.replace(
        row,
        bias=float(sum_leaves(difference)) ** 0.5,
        bias_error=(variance / result.num_draws) ** 0.5,
        max_z=max(leaf.max_z for leaf in leaves),
    )


def _label(estimator: AbstractEstimator) -> str:
    """The class, with the settings and scalars that tell it from another of its class."""
    fields = {field.name: getattr(estimator, field.name) for field in dataclasses.fields(estimator)}
    shown = [
        f"{name}={float(value):g}"
        for name, value in fields.items()
        if isinstance(value, int | float) or getattr(value, "shape", None) == ()
    ]
    return f"{type(estimator).__name__}({', '.join(shown)})"


def name_all(estimators: Any, caller: str) -> dict[str, AbstractEstimator]:
    """Estimators by name; a list is named by its classes, with settings where they repeat."""
    if isinstance(estimators, Mapping):
        named = {str(name): estimator for name, estimator in estimators.items()}
    elif isinstance(estimators, Sequence) and all(
        isinstance(estimator, AbstractEstimator) for estimator in estimators
    ):
        classes = [type(estimator).__name__ for estimator in estimators]
        labels = [
            name if classes.count(name) == 1 else _label(estimator)
            for name, estimator in zip(classes, estimators, strict=True)
        ]
        named = {
            label if labels.count(label) == 1 else f"{label} #{labels[: i + 1].count(label)}": e
            for i, (label, e) in enumerate(zip(labels, estimators, strict=True))
        }
    else:
        named = {}
    if named and all(isinstance(e, AbstractEstimator) for e in named.values()):
        return named
    raise InvalidArgumentError(
        complain(
            f"{caller} was given {describe(estimators)} as its estimators",
            "it tries instances of Expectax estimators",
            'pass {"two draws": ex.LeaveOneOut(2), "four": ex.LeaveOneOut(4)} or '
            "[ex.DisARM(), ex.REBAR()]",
        )
    )
