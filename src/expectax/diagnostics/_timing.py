"""Time per step: compiled, warmed up, interleaved, blocked; medians. And the gradients it drew."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._numerics import working_dtype
from ._adam import Adam
from ._loss import Loss
from ._moments import add_draw

# A run lasts about this long, so that the clock and the dispatch of a program do not count.
_SECONDS_PER_RUN = 0.01
_MOST_STEPS = 5000
_FOREVER = 1e6


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds for one step: the median over runs and the quartiles; seconds to compile."""

    step: float
    quartiles: tuple[float, float]
    compile: float


class Stopwatch:
    """One compiled loop of training steps, the times it took, and the gradients it drew.

    A step is the gradient in q's leaves and, for an estimator that learns, in what it learns: what
    a training loop pays. The leaves of q never move; what is learned moves only in `adapt`.
    """

    def __init__(
        self,
        key: Array,
        loss: Loss,
        floats: PyTree,
        units: PyTree = None,
        pool: Executor | None = None,
    ):
        """Trace, and begin to compile.

        Arguments:
            key: of all draws. No two runs share one.
            loss: of (floats, key, what is learned).
            floats: the leaves of q.
            units: the size of a step in each leaf of `loss.learned`; by default 1.
            pool: compiles in the background; by default at once.
        """
        learned = loss.learned
        units = jax.tree.map(lambda _: 1.0, learned) if units is None else units
        self._adam = Adam.start(learned, units)
        self._arguments = (key, loss, floats)
        self._taken, self._steps = 0, 2  # two at least: each run measures a variance
        start = time.perf_counter()
        # only tracing looks at settings that belong to a thread: it stays in this one
        lowered = _steps.lower(*self._call(0.0))
        self._tracing = time.perf_counter() - start
        self._program: Any
        self._compiled = pool.submit(_compile, lowered) if pool else None
        self._program, self.compile_seconds = (None, 0.0) if pool else _compile(lowered)
        self.forget()

    def compiled(self, timeout: float) -> bool:
        """Whether it is compiled, or will be in so many seconds; if not it is given up."""
        if self._compiled is not None:
            try:
                self._program, self.compile_seconds = self._compiled.result(timeout)
            except TimeoutError:
                return not self._compiled.cancel() and self.compiled(_FOREVER)
        return True

    def warm_up(self, num_steps: int | None = None) -> None:
        """Be ready to run, so many steps at once; by default find how many make a run."""
        if num_steps is not None:
            self._steps = num_steps
            return
        self.compile_seconds += self._tracing
        self.run()  # the first run of a process touches fresh memory
        while True:
            self.run()
            # a short run is mostly dispatch: its length is found by steps of at most ten
            factor = min(10.0, _SECONDS_PER_RUN / (self.seconds[-1] * self._steps + 1e-9))
            if factor < 2 or self._steps == _MOST_STEPS:
                break
            self._steps = min(_MOST_STEPS, round(self._steps * factor))
        self.run()
        self.forget()

    def _call(self, rate: float) -> tuple[Any, ...]:
        # a step size of 0, unknown to the compiler: every step depends on the one before
        counts = jnp.asarray([self._taken, self._steps], jnp.uint32)
        return (*self._arguments, self._adam, counts, jnp.asarray([rate, 0.0], jnp.float32))

    def forget(self) -> None:
        """Begin again with times and moments."""
        self.seconds: list[float] = []
        self.num_draws = 0
        self.variances: list[float] = []
        self._sum: list[np.ndarray] = []

    def run(self, rate: float = 0.0) -> None:
        """Run once, blocked; note the seconds per step and the moments of the gradients."""
        start = time.perf_counter()
        out = self._program(*self._call(rate))
        jax.block_until_ready(out)
        self.seconds.append((time.perf_counter() - start) / self._steps)
        self._adam, mean, squares = out
        self._taken += self._steps
        total = sum(float(np.sum(s, dtype=np.float64)) for s in map(np.asarray, squares))
        self.variances.append(total / (self._steps - 1))
        sums = [np.asarray(m, np.float64) * self._steps for m in mean]
        self._sum = [a + b for a, b in zip(self._sum or [0.0] * len(sums), sums, strict=True)]
        self.num_draws += self._steps

    def adapt(self, seconds: float, rate: float, most_steps: int) -> None:
        """Learn what the estimator learns, for so long and so many steps at most.

        The rate falls to zero on the way.
        """
        start, before = time.perf_counter(), self._taken

        def share() -> float:
            passed = (time.perf_counter() - start) / max(seconds, 1e-9)
            return max(passed, (self._taken - before) / most_steps)

        while (done := share()) < 1:
            self.run(rate * (1 - done))
        self.forget()

    @property
    def learned(self) -> PyTree:
        """What the estimator has learned."""
        return self._adam.leaves

    @property
    def estimator(self) -> Any:
        """The estimator with what it has learned."""
        return eqx.combine(self.learned, self._arguments[1].estimator)

    @property
    def variance(self) -> float:
        """E‖g − E g‖² of one gradient: every run has as many draws."""
        return statistics.fmean(self.variances)

    @property
    def mean(self) -> list[np.ndarray]:
        """The mean gradient, a leaf of q each."""
        return [total / self.num_draws for total in self._sum]

    def timing(self) -> Timing:
        """The median of the runs so far, and their quartiles."""
        low, median, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return Timing(median, (low, high), self.compile_seconds)


def _compile(lowered: Any) -> tuple[Callable[..., Any], float]:
    start = time.perf_counter()
    return lowered.compile(), time.perf_counter() - start


@eqx.filter_jit
def _steps(
    key: Array,
    loss: Loss,
    floats: PyTree,
    adam: Adam,
    counts: Array,
    rates: Array,
) -> tuple[Adam, list[Array], list[Array]]:
    """Many steps in one program: what a training loop does. Mean and Σ (g − mean)² of the draws.

    `counts`: steps before, and of this run. `rates`: for what is learned, and for q.
    """
    gradient = jax.grad(lambda both, key: loss(both[0], key, both[1]))

    def step(i: Array, carry: tuple) -> tuple:
        floats, adam, *moments = carry
        slope, uphill = gradient((floats, adam.leaves), jax.random.fold_in(key, counts[0] + i))
        moments = [
            add_draw(i, g, *pair) for g, pair in zip(jax.tree.leaves(slope), moments, strict=True)
        ]
        floats = jax.tree.map(lambda x, g: (x - rates[1] * g).astype(x.dtype), floats, slope)
        return (floats, adam.step(uphill, rates[0]), *moments)

    zeros = [jnp.zeros(x.shape, working_dtype(x.dtype)) for x in jax.tree.leaves(floats)]
    start = (floats, adam, *((z, z) for z in zeros))
    _, adam, *moments = jax.lax.fori_loop(jnp.uint32(0), counts[1], step, start)
    return adam, [mean for mean, _ in moments], [squares for _, squares in moments]


def interleave(stopwatches: Mapping[str, Stopwatch], num_runs: int) -> dict[str, Timing]:
    """Run all in turn, so that what slows the machine down slows all of them down."""
    for _ in range(num_runs):
        for stopwatch in stopwatches.values():
            stopwatch.run()
    return {name: stopwatch.timing() for name, stopwatch in stopwatches.items()}
