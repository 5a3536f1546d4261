"""One estimator on trial: tuned, timed, its noise measured; and the ranking of several."""

import math
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor

import jax
import numpy as np

from .._types import PRNGKey
from ._candidates import IN_UNITS_OF_F, Candidate, Scene
from ._loss import Loss, Setting
from ._recommendation import RecommendationRow
from ._timing import Stopwatch

_RATE = 0.02
_MOST_STEPS = 30_000
_FIRST_LOOK = 3  # runs
_ROUNDING = 64.0  # in units of the last place
_SIGNAL = 8.0  # squared standard errors

Score = tuple[float, float]
"""(variance or mean squared error) × time, and time, which breaks the tie of exact ones."""


class Trial:
    """A candidate: traced, then compiled, tuned and run."""

    def __init__(
        self,
        key: PRNGKey,
        candidate: Candidate,
        setting: Setting,
        scene: Scene,
        pool: Executor | None = None,
    ):
        loss = setting.loss(candidate.estimator)
        self.candidate = candidate
        self.evaluations = candidate.estimator.evaluations(setting.views)
        self.learning_seconds = 0.0
        self.stopwatch = Stopwatch(key, loss, setting.floats, units(loss, scene), pool)

    def look(self) -> None:
        """A first look at it."""
        self.stopwatch.warm_up()
        for _ in range(_FIRST_LOOK):
            self.stopwatch.run()

    def learn(self, seconds: float) -> None:
        """Learn what it learns for so long, and look again."""
        start = time.perf_counter()
        self.stopwatch.adapt(seconds, _RATE, _MOST_STEPS)
        self.learning_seconds = time.perf_counter() - start
        for _ in range(_FIRST_LOOK):
            self.stopwatch.run()

    @property
    def learns(self) -> bool:
        """Whether it has anything to learn."""
        return bool(jax.tree.leaves(self.stopwatch.learned))

    @property
    def unbiased(self) -> bool:
        """What it claims."""
        return self.candidate.estimator.claims.unbiased

    @property
    def variance(self) -> float:
        """E‖g − E g‖², without what is only rounding."""
        measured = self.stopwatch.variance
        rounding = _ROUNDING * float(np.finfo(np.float32).eps)
        return 0.0 if measured <= rounding**2 * self._square else measured

    @property
    def _square(self) -> float:
        return sum(float(np.sum(m**2)) for m in self.stopwatch.mean)

    @property
    def _noise(self) -> float:
        """The squared standard error of the mean."""
        return self.stopwatch.variance / self.stopwatch.num_draws

    def blind(self, others: Iterable["Trial"]) -> bool:
        """Whether it drew nothing but zeros, where another shows that the gradient is not zero.

        Bits that hardly ever flip make such draws: no variance, as far as one has seen.
        """
        if self.candidate.estimator.claims.exact_for == "every f":
            return False
        zero = self._square == 0 and self.stopwatch.variance == 0
        return zero and any(other._square > _SIGNAL * other._noise for other in others)

    def bias(self, reference: "Trial") -> tuple[float, float]:
        """‖E g − gradient‖ against another's mean, and the size noise alone would give it."""
        pairs = zip(self.stopwatch.mean, reference.stopwatch.mean, strict=True)
        distance = sum(float(np.sum((a - b) ** 2)) for a, b in pairs)
        noise = self._noise + reference._noise
        return math.sqrt(max(0.0, distance - noise)), math.sqrt(noise)

    def row(self, score: float, bias: float | None) -> RecommendationRow:
        """Its line in the table."""
        timing = self.stopwatch.timing()
        return RecommendationRow(
            name=self.candidate.name,
            estimator=self.stopwatch.estimator,
            variance=self.variance,
            bias=bias,
            seconds_per_step=timing.step,
            seconds_quartiles=timing.quartiles,
            score=score,
            hard_evaluations=self.evaluations.hard,
            auxiliary_evaluations=self.evaluations.auxiliary,
            num_draws=self.stopwatch.num_draws,
            compile_seconds=timing.compile,
            learning_seconds=self.learning_seconds,
        )


def units(loss: Loss, scene: Scene) -> object:
    """How far a step of learning goes in each leaf: in units of f where the leaf is a cost."""

    def one(path: tuple, leaf: object) -> float:
        del leaf
        return scene.spread if getattr(path[0], "name", "") in IN_UNITS_OF_F else 1.0

    return jax.tree_util.tree_map_with_path(one, loss.learned)


def rank(trials: Mapping[str, Trial]) -> tuple[dict[str, Score], dict[str, float]]:
    """Scores by name, the best first, and the biases of those that are biased.

    The bias is taken against the unbiased trial whose mean is known best; a biased one without any
    such has no score.
    """
    fair = [trial for trial in trials.values() if trial.unbiased]
    reference = min(fair, key=lambda trial: trial._noise, default=None)
    scores, biases = {}, {}
    for name, trial in trials.items():
        second = float(np.median(trial.stopwatch.seconds))
        error = trial.variance
        if not trial.unbiased:
            if reference is None:
                continue
            biases[name], _ = trial.bias(reference)
            error += biases[name] ** 2
        scores[name] = (error * second, second)
    ordered = sorted(scores, key=lambda name: scores[name])
    return {name: scores[name] for name in ordered}, biases
