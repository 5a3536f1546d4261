"""Time per step: compiled, warmed up, interleaved, blocked; medians."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ._moments import LossFn, gradient_of, split_params

# A run lasts about this long, so that the clock and the dispatch of a program do not count.
_SECONDS_PER_RUN = 0.01
_MOST_STEPS = 1000


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds for one step: the median over runs and the quartiles; seconds to compile."""

    step: float
    quartiles: tuple[float, float]
    compile: float


class Stopwatch:
    """One compiled loop of gradient steps, and the times it took."""

    def __init__(self, key: Array, loss: LossFn, params: PyTree):
        floats, held = split_params(params)
        start = time.perf_counter()
        program = _steps.lower(key, loss, floats, held, jnp.asarray(1), jnp.asarray(0.0))
        self._program: Callable[..., Any] = program.compile()
        self.compile_seconds = time.perf_counter() - start
        self._arguments = (key, loss, floats, held)
        self._steps = 1
        self.seconds: list[float] = []
        for _ in range(2):  # the first run of a process touches fresh memory
            self.run()
        per_step = min(self.seconds)
        self._steps = max(1, min(_MOST_STEPS, round(_SECONDS_PER_RUN / max(per_step, 1e-9))))
        self.run()
        self.seconds = []

    def run(self) -> None:
        """Run once, blocked, and note the seconds per step."""
        start = time.perf_counter()
        # a step size of 0, unknown to the compiler: every step depends on the one before
        out = self._program(*self._arguments, jnp.asarray(self._steps), jnp.asarray(0.0))
        jax.block_until_ready(out)
        self.seconds.append((time.perf_counter() - start) / self._steps)

    def timing(self) -> Timing:
        """The median of the runs so far, and their quartiles."""
        low, median, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return Timing(median, (low, high), self.compile_seconds)


@eqx.filter_jit
def _steps(
    key: Array, loss: LossFn, floats: PyTree, held: PyTree, num: Array, step_size: Array
) -> PyTree:
    """`num` steps of gradient descent in one program: what a training loop does."""
    gradient = gradient_of(loss, held)

    def step(i: Array, floats: PyTree) -> PyTree:
        slope = gradient(floats, jax.random.fold_in(key, i))
        return jax.tree.map(lambda x, g: (x - step_size * g).astype(x.dtype), floats, slope)

    return jax.lax.fori_loop(0, num, step, floats)


def interleave(stopwatches: Mapping[str, Stopwatch], num_runs: int) -> dict[str, Timing]:
    """Run all in turn, so that what slows the machine down slows all of them down."""
    for _ in range(num_runs):
        for stopwatch in stopwatches.values():
            stopwatch.run()
    return {name: stopwatch.timing() for name, stopwatch in stopwatches.items()}
