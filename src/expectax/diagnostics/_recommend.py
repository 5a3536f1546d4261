"""Which estimator leaves the least variance for a second's work, on your q and f: by trying."""

import math
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._errors import ExpectaxError, InvalidArgumentError, complain
from .._trees import size_of
from .._types import CostFn, PRNGKey
from ..distributions import require
from ..estimators import AbstractEstimator
from ._candidates import Candidate, Scene, estimator_classes, set_up
from ._compare import name_all
from ._loss import Setting
from ._recommendation import Excluded, Recommendation
from ._slope import slope_fault
from ._trial import Trial, rank

_COMPILE_SHARE = 0.5  # of the budget, as the others
_LEARNING_SHARE = 1 / 3
_GROWING_SHARE = 0.85  # when it ends
_STEP_SHARE = 1 / 20  # an estimator with slower steps than this could hardly be measured
_HOPELESS = 100.0  # times the best figure: not worth a second look
_WORTH_GROWING = 4.0  # times the best figure: with four times the draws it may win
_PAYS = 0.9
_SIDE_BY_SIDE = 5  # runs
_RUNS = 30  # of each, between one halving and the next
_MOST_WORKERS = 4
_PROBES = (16, 1024)
_PROBE_ELEMENTS = 2**22


def recommend(
    key: PRNGKey,
    q: Any,
    f: CostFn,
    *,
    budget_seconds: float = 20.0,
    allow_biased: bool = False,
    estimators: Mapping[str, AbstractEstimator] | Sequence[AbstractEstimator] = (),
) -> Recommendation:
    """The estimators that can serve *your* q and f, ranked by variance × time; why not the rest.

    Every estimator of the library is set up with sensible defaults, and with more draws where that
    pays. Those that cannot serve are left out, each with the reason: q lacks what it needs, f has
    no slope in the draw, it is biased, it evaluates f too often. The others learn what they learn
    for a third of the budget; then all are run in turn, and the better half again and again until
    the budget is spent or enough is known. Nothing is changed: it is a report.

    The gradient is that of Σ_batch E_q[f] in the floating leaves of q. A step's time includes
    learning what the estimator learns. Estimators without variance come first, the fastest first.

    Arguments:
        key: a typed or legacy key. It is consumed.
        q: a NumPyro distribution, or a pytree of them with one batch shape.
        f: from a draw to a cost of shape batch, as for `expect`; closures are welcome.
        budget_seconds: roughly how long to take at most, compiling included (about half a second
            for each estimator, more on a busy machine). Those for which no time is left are named.
        allow_biased: rank biased estimators too, by mean squared error × time, the bias taken
            against the mean of the best unbiased one. Averaging does not remove a bias, so for
            long training an unbiased estimator may still be the better one.
        estimators: more candidates of your own: by name, or a list (named by their classes).

    Returns:
        `Recommendation`: `.best` is the estimator to use, with what it has learned; `print` it,
        `.plot(path)` it, or export it.

    Raises:
        InvalidArgumentError: a q or f that no estimator could serve, or a budget that is not
            positive.

    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> q = dist.Bernoulli(logits=jnp.array([0.0, 1.0])).to_event(1)
        >>> f = lambda b: ((b - 0.45) ** 2).sum(-1)
        >>> print(ex.recommend(jax.random.key(0), q, f))  # doctest: +SKIP
        >>> # too short to try any, and enough to know which cannot serve
        >>> found = ex.recommend(jax.random.key(0), q, f, budget_seconds=0.001)
        >>> dict(found.excluded)["Pathwise"].partition(",")[0]
        'it needs a `Reparameterized` distribution'
        >>> dict(found.excluded)["StraightThrough"].partition(":")[0]
        'it is biased (exact for linear f)'

    Reference:
        Variance × time is the variance left after a second of averaging independent draws; L'Ecuyer
        (1994), "Efficiency improvement and variance reduction". Halving: Karnin et al. (2013).
    """
    if not (isinstance(budget_seconds, int | float) and 0 < budget_seconds < math.inf):
        raise InvalidArgumentError(
            complain(
                f"recommend was given budget_seconds={budget_seconds!r}",
                "it tries estimators for so many seconds",
                "pass a positive number, such as budget_seconds=20",
            )
        )
    search = _Search(key, q, f, float(budget_seconds), allow_biased)
    own = name_all(estimators, "recommend") if estimators else {}
    search.pilot(search.candidates({name: Candidate(name, e) for name, e in own.items()}))
    search.grow()
    search.halve()
    return search.result()


class _Search:
    """The state of one recommendation: what was tried, what was left out, and the clock."""

    def __init__(self, key: PRNGKey, q: Any, f: CostFn, budget: float, allow_biased: bool):
        self._start = time.perf_counter()
        self._budget, self._allow_biased = budget, allow_biased
        self._key, probe, slope, network = jax.random.split(key, 4)
        self._setting = Setting(probe, q, f)
        views = self._setting.views
        costs, self._seconds_per_cost = _probe(probe, self._setting, budget / 100)
        spread = float(jnp.std(costs, axis=0).mean()) if costs.shape[0] > 1 else 0.0
        typical = jnp.mean(costs, axis=0)
        self._scene = Scene(network, views, typical, spread or 1.0)
        num_costs = budget * _STEP_SHARE / self._seconds_per_cost
        self._fault = slope_fault(slope, self._setting.f, views, num_costs)
        self._num_keys, self._learning, self._compiling = 0, 0.0, 0.0
        self._no_time = f"not tried: no time was left of {budget:g} s"
        self._trials: dict[str, Trial] = {}
        self._excluded: list[Excluded] = []

    def _used(self) -> float:
        return time.perf_counter() - self._start

    def candidates(self, own: dict[str, Candidate]) -> list[Candidate]:
        """Those that can serve, those with the fewest evaluations of f first."""
        found = list(own.values())
        for cls in estimator_classes():
            reason = self._refusal(cls)
            made = reason or set_up(cls, self._scene)
            if isinstance(made, str):
                self._exclude(cls.__name__, made)
            else:
                found.append(made)
        return sorted(found, key=lambda c: (not _exact(c), self._evaluations(c)))

    def _refusal(self, cls: type[AbstractEstimator]) -> str:
        """Why the claims of a class rule it out here, or an empty string."""
        claims = cls.claims
        try:
            require(self._setting.views, claims.needs, object.__new__(cls))
        except ExpectaxError as error:
            return _why(error)
        if not (claims.unbiased or self._allow_biased):
            exact = f" (exact {_when(claims.exact_for)})" if claims.exact_for else ""
            return f"it is biased{exact}: allow_biased=True ranks it too"
        return self._fault if claims.differentiable else ""

    def _evaluations(self, candidate: Candidate) -> int:
        count = candidate.estimator.evaluations(self._setting.views)
        return count.hard + count.auxiliary

    def pilot(self, candidates: list[Candidate]) -> None:
        """Compile all, look at each for the first time, and let those learn that do."""
        workers = min(_MOST_WORKERS, os.cpu_count() or 1)
        with ThreadPoolExecutor(workers) as pool:
            begun = [trial for one in candidates if (trial := self._begin(one, pool))]
            ready = [trial for trial in begun if self._wait(trial)]
        self._compiling = self._used()
        for trial in ready:  # while others compile, times would be wrong
            self._look(trial)
        learners = [trial for trial in self._trials.values() if trial.learns]
        self._learning = self._budget * _LEARNING_SHARE / max(1, len(learners))
        for trial in learners:
            trial.learn(self._learning)

    def _begin(self, candidate: Candidate, pool: Executor | None = None) -> Trial | None:
        """Trace a candidate, unless it is too dear or cannot serve after all."""
        num = self._evaluations(candidate)
        most = self._budget * _STEP_SHARE / self._seconds_per_cost
        if num > most:  # compared as they are: 2^2000 is a whole number and no float
            times = f"{num:,} times" if num < 1e9 else f"about 10^{math.log10(num):.0f} times"
            self._exclude(
                candidate.name,
                f"one gradient evaluates f {times}: too dear for a budget of {self._budget:g} s, "
                f"a share of which pays for {most:,.0f}",
            )
            return None
        if pool is not None and self._used() > self._budget * _COMPILE_SHARE:
            self._exclude(candidate.name, self._no_time)
            return None
        self._num_keys += 1
        key = jax.random.fold_in(self._key, self._num_keys)
        try:
            return Trial(key, candidate, self._setting, self._scene, pool)
        except ExpectaxError as error:
            self._exclude(candidate.name, _why(error))
            return None

    def _wait(self, trial: Trial) -> bool:
        """Whether it is compiled when that share of the budget is spent."""
        ready = trial.stopwatch.compiled(max(0.0, self._budget * _COMPILE_SHARE - self._used()))
        if not ready:
            self._exclude(trial.candidate.name, self._no_time)
        return ready

    def _look(self, trial: Trial) -> None:
        """Put it on the list, after a first look at it."""
        trial.look()
        if math.isfinite(trial.variance):
            self._trials[trial.candidate.name] = trial
        else:
            self._exclude(trial.candidate.name, "its gradient was not finite")

    def _exclude(self, name: str, reason: str) -> None:
        self._excluded.append(Excluded(name, reason))

    def grow(self) -> None:
        """More draws for a gradient, while that pays and there is time."""
        done: set[str] = set()
        end = self._budget * _GROWING_SHARE
        while self._used() < end:
            scores = rank(self._trials)[0]
            best = min(scores.values(), default=(0.0, 0.0))[0]
            if best == 0:
                return  # nothing beats an exact one
            worth = [name for name in scores if scores[name][0] <= _WORTH_GROWING * best]
            larger = ((n, self._trials[n].candidate.larger()) for n in worth if n not in done)
            name, candidate = next(((n, one) for n, one in larger if one), ("", None))
            if candidate is None:
                return
            done.add(name)
            trial = self._begin(candidate)
            if trial is None:
                continue
            self._compiling += trial.stopwatch.compile_seconds
            self._look(trial)
            if trial.learns:
                trial.learn(min(self._learning, end - self._used()))
            if candidate.name not in self._trials or not self._pays(name, candidate.name):
                done.add(candidate.name)

    def _pays(self, small: str, large: str) -> bool:
        """Whether more draws are worth their time, both timed in turn."""
        pair = {name: self._trials[name] for name in (small, large)}
        for trial in pair.values():
            trial.stopwatch.seconds.clear()
        for _ in range(_SIDE_BY_SIDE):
            for trial in pair.values():
                trial.stopwatch.run()
        scores = rank(pair)[0]
        return scores[large][0] < _PAYS * scores[small][0]

    def halve(self) -> None:
        """Run all in turn, then the better half, until the budget is spent."""
        scores = rank(self._trials)[0]
        best = min(scores.values(), default=(0.0, 0.0))[0]
        alive = [name for name in scores if scores[name][0] <= _HOPELESS * best]
        for name in alive:
            self._trials[name].stopwatch.seconds.clear()  # these were not taken in turn
            self._trials[name].stopwatch.run()
        for rounds in range(max(1, len(alive)).bit_length(), 0, -1):
            end = self._used() + (self._budget - self._used()) / rounds
            for _ in range(_RUNS):
                for name in alive if self._used() < end else ():
                    self._trials[name].stopwatch.run()
            alive = [name for name in rank(self._trials)[0] if name in alive]
            alive = alive[: max(2, len(alive) // 2)]
        for name in scores:
            if len(self._trials[name].stopwatch.seconds) < 2:
                self._trials[name].stopwatch.run()

    def result(self) -> Recommendation:
        """The table."""
        scores, biases = rank(self._trials)
        rows, excluded = [], list(self._excluded)
        for name, trial in self._trials.items():
            draws = trial.stopwatch.num_draws
            if name not in scores:
                excluded.append(Excluded(name, "no unbiased estimator to take its bias against"))
            elif trial.blind(self._trials.values()):
                reason = f"its gradient was zero in all {draws} draws: its variance was not seen"
                excluded.append(Excluded(name, reason))
        left_out = {name for name, _ in excluded}
        rows = tuple(
            self._trials[name].row(score[0], biases.get(name))
            for name, score in scores.items()
            if name not in left_out
        )
        return Recommendation(rows, tuple(excluded), self._budget, self._used(), self._compiling)


def _exact(candidate: Candidate) -> bool:
    return candidate.estimator.claims.exact_for == "every f"


def _when(exact_for: str) -> str:
    return exact_for if exact_for.startswith("as ") else f"for {exact_for}"


def _why(error: Exception) -> str:
    """The second part of an error of ours, in one line."""
    why = str(error).partition("\n  why: ")[2].partition("\n  instead: ")[0]
    return " ".join((why or str(error)).split())


def _probe(key: PRNGKey, setting: Setting, seconds: float) -> tuple[Array, float]:
    """Costs at some draws, shape draws + batch; and how long one takes among others."""
    size = size_of(setting.views.example())
    costs = eqx.filter_jit(lambda key, f, q, num: jax.vmap(f)(q.sample(key, num)).astype(float))
    few, many = _PROBES
    while True:
        taken = []
        for _ in range(3):  # the first one compiles
            start = time.perf_counter()
            found = jax.block_until_ready(costs(key, setting.f, setting.views, few))
            taken.append(time.perf_counter() - start)
        each = min(taken) / few
        if few == many or many * each > seconds or many * size > _PROBE_ELEMENTS:
            return found, each
        few = many
