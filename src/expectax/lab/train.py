"""The training program: initial state, and many steps in one compiled loop.

Every number that a step uses is a function of the state, and the loop's length is an argument of
the compiled program, not part of it. So a run's bits depend neither on how often the host looks in
nor on where the run was cut and resumed.
"""

import concurrent.futures
import functools
import os
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from .devices import on_each_device, over_devices
from .task import AbstractTask, Values

_ORDER, _STEP = range(2)  # what the loop uses a seed's key for; a task's `init` has the others
_MEASURE = 1 << 20  # and what is done with it that leaves no trace in the state
_FINISH, _PICTURES = _MEASURE + 1, _MEASURE + 2


class SeedState(eqx.Module):
    """All that one seed's next step needs; every array gets a leading axis of seeds.

    Attributes:
        learned: what the task learns.
        optimizer: the optimisers' moments.
        key: the seed's key, from which every other is derived by its use and the step.
        order: this epoch's order of the rows.
        objective: the sum of the training objective since it was last reset.
    """

    learned: PyTree
    optimizer: PyTree
    key: PRNGKeyArray
    order: Int[Array, "N"]
    objective: Float[Array, ""]


class TrainState(eqx.Module):
    """All seeds, and the step that they share."""

    seeds: SeedState
    step: Int[Array, ""]


class Program(eqx.Module):
    """One run's compiled parts.

    Attributes:
        task: the run.
        init: from the data to the state at step 0.
        advance: from a state, the data and a number of steps to the state that many steps on.
    """

    task: AbstractTask = eqx.field(static=True)
    init: Callable[[Any], TrainState]
    advance: Callable[[TrainState, Any, int], TrainState]


@functools.lru_cache(maxsize=4)
def program(task: AbstractTask) -> Program:
    """The training program of a task. Nothing is compiled before its parts are called.

    Asked for again, it is the same object, with what it has compiled.
    """

    @eqx.filter_jit
    def init(data: Any) -> TrainState:
        keys = jax.random.split(jax.random.key(task.seed), task.num_seeds)
        start = each_seed(lambda key: _init_seed(task, data, key))
        return on_each_device(TrainState(start(keys), jnp.zeros((), jnp.int32)))

    @eqx.filter_jit
    def run(state: TrainState, data: Any, num_steps: Int[Array, ""]) -> TrainState:
        take = lambda seed: _take_steps(task, data, seed, state.step, num_steps)
        return on_each_device(TrainState(each_seed(take)(state.seeds), state.step + num_steps))

    beside = _SeedsBeside(run)

    def advance(state: TrainState, data: Any, num_steps: int) -> TrainState:
        num = jnp.asarray(num_steps, jnp.int32)
        alone = task.num_seeds == 1 or jax.default_backend() != "cpu"
        spread = not jax.sharding.get_abstract_mesh().empty
        watched = jax.config.jax_disable_jit or jax.config.jax_debug_nans  # type: ignore[attr-defined]
        return (run if alone or spread or watched else beside)(state, data, num)

    return Program(task, init, advance)


class _SeedsBeside:
    """The steps of several seeds on a CPU: each by the program of one, as many at once as cores.

    A step's products are too small to keep two cores busy, two seeds are not. And each seed has the
    bits that it has alone.

    Arguments:
        run: from a state, the data and a number of steps to the state that many steps on.
    """

    def __init__(self, run: Any):
        self._run = run
        self._compiled: dict[Any, Any] = {}

    def __call__(self, state: TrainState, data: Any, num_steps: Array) -> TrainState:
        seeds = _one_by_one(state)
        # compiled here, for a thread does not see what this one has set of JAX
        shapes = jax.tree.map(jax.typeof, eqx.filter((state, data), eqx.is_array))
        kind = tuple(jax.tree.leaves(shapes)), jax.tree.structure(shapes)
        if kind not in self._compiled:
            self._compiled[kind] = self._run.lower(seeds[0], data, num_steps).compile()
        take = self._compiled[kind]
        with concurrent.futures.ThreadPoolExecutor(min(len(seeds), _num_cores())) as pool:
            after = [
                *pool.map(lambda seed: jax.block_until_ready(take(seed, data, num_steps)), seeds)
            ]
        return _together(after)


@eqx.filter_jit
def _one_by_one(state: TrainState) -> list[TrainState]:
    """A state for each seed, each with a leading axis of one."""
    arrays, static = eqx.partition(state.seeds, eqx.is_array)
    num = jax.tree.leaves(arrays)[0].shape[0]
    pick = lambda i: jax.tree.map(lambda leaf: leaf[i : i + 1], arrays)
    return [TrainState(eqx.combine(pick(i), static), state.step) for i in range(num)]


@eqx.filter_jit
def _together(states: list[TrainState]) -> TrainState:
    """What `_one_by_one` took apart."""
    arrays = [eqx.filter(state.seeds, eqx.is_array) for state in states]
    static = eqx.filter(states[0].seeds, eqx.is_array, inverse=True)
    joined = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *arrays)
    return TrainState(eqx.combine(joined, static), states[0].step)


def _num_cores() -> int:
    """That this process may use."""
    known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


def each_seed(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of one seed, over the leading axis of all its arguments' arrays.

    A CPU takes the seeds one after the other (but for their steps, see `_SeedsBeside`), an
    accelerator all together. For a CPU's products with a batch axis are slower than as many
    without, and the moments of all seeds at once do not fit its cache: eight took ten times as long
    as one.
    """

    def over(*args: Any) -> Any:
        arrays, static = eqx.partition(args, eqx.is_array)
        if jax.tree.leaves(arrays)[0].shape[0] == 1:  # no loop, and no product with a batch of one
            pick = lambda leaf: leaf[0]
            put = lambda leaf: leaf[None] if eqx.is_array(leaf) else leaf
            return jax.tree.map(put, function(*eqx.combine(jax.tree.map(pick, arrays), static)))
        if jax.default_backend() != "cpu":
            return eqx.filter_vmap(function)(*args)
        results: list[Any] = []  # what is no array does not pass through the loop

        def one(arrays: Any) -> Any:
            found, kept = eqx.partition(function(*eqx.combine(arrays, static)), eqx.is_array)
            results.append(kept)
            return found

        found = jax.lax.map(one, arrays)
        return eqx.combine(found, results[0])

    return over


def _init_seed(task: AbstractTask, data: Any, key: PRNGKeyArray) -> SeedState:
    learned = task.init(key, data)
    order = jnp.arange(task.num_rows(data), dtype=jnp.int32)
    return SeedState(learned, task.memory(learned), key, order, jnp.zeros(()))


def _take_steps(
    task: AbstractTask, data: Any, seed: SeedState, step: Int[Array, ""], num_steps: Int[Array, ""]
) -> SeedState:
    """One seed, `num_steps` on from `step`."""
    arrays, static = eqx.partition(seed, eqx.is_array)

    def body(i: Any, arrays: Any) -> Any:
        after = _step(task, data, eqx.combine(arrays, static), step + i)
        return eqx.filter(on_each_device(after), eqx.is_array)

    return eqx.combine(jax.lax.fori_loop(0, num_steps, body, arrays), static)


def _step(task: AbstractTask, data: Any, seed: SeedState, step: Int[Array, ""]) -> SeedState:
    """One step of one seed."""
    num_rows = len(seed.order)
    per_epoch = num_rows // task.batch_size
    epoch, batch = step // per_epoch, step % per_epoch
    use = lambda what, when: jax.random.fold_in(jax.random.fold_in(seed.key, what), when)
    shuffled = lambda: jax.random.permutation(use(_ORDER, epoch), num_rows).astype(jnp.int32)
    # no seed has a step of its own: under vmap this stays a condition and not both its branches
    order = jax.lax.cond(batch == 0, shuffled, lambda: seed.order)

    rows = jax.lax.dynamic_slice_in_dim(order, batch * task.batch_size, task.batch_size)
    batch_key, key = jax.random.split(use(_STEP, step))
    x = over_devices(task.batch(batch_key, data, over_devices(rows)))
    value, learned, moments = task.learn(seed.learned, seed.optimizer, x, key, step)
    learned = task.settle(learned, step)
    return SeedState(learned, moments, seed.key, order, seed.objective + value)


def evaluations(task: AbstractTask, state: TrainState, data: Any) -> int | None:
    """How often a step of one seed evaluates the cost, as the task says. Nothing is computed."""
    found: list[int | None] = []

    def trace(seeds: SeedState, data: Any) -> None:
        seed = jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, seeds)
        batch = task.batch(seed.key, data, jnp.arange(task.batch_size))
        found.append(task.evaluations(seed.learned, batch))

    eqx.filter_eval_shape(trace, state.seeds, data)
    return found[0]


@eqx.filter_jit
def forget_objective(state: TrainState) -> TrainState:
    """The state with no objective summed."""
    zeros = jnp.zeros_like(state.seeds.objective)
    return on_each_device(eqx.tree_at(lambda s: s.seeds.objective, state, zeros))


@eqx.filter_jit
def measure(task: AbstractTask, state: TrainState, data: Any) -> dict[str, Float[Array, "seeds"]]:
    """The task's point of the curves at this state, for each seed. It leaves no trace."""
    return _of_each_seed(task.measure, _MEASURE, state, data)


@eqx.filter_jit
def finish(task: AbstractTask, state: TrainState, data: Any) -> dict[str, Float[Array, "seeds"]]:
    """The figures that the run comes to, for each seed."""
    return _of_each_seed(task.finish, _FINISH, state, data)


@eqx.filter_jit
def pictures(task: AbstractTask, state: TrainState, data: Any) -> dict[str, Array]:
    """What the task wants to draw, of the first seed."""
    seed = jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, state.seeds)
    found = task.pictures(jax.random.fold_in(seed.key, _PICTURES), seed.learned, data)
    return on_each_device(found)


def _of_each_seed(
    figures: Callable[[PRNGKeyArray, PyTree, Any], Values], use: int, state: TrainState, data: Any
) -> dict[str, Float[Array, "seeds"]]:
    def one(seed: SeedState) -> Values:
        key = jax.random.fold_in(jax.random.fold_in(seed.key, use), state.step)
        return figures(key, seed.learned, data)

    return on_each_device(each_seed(one)(state.seeds))
