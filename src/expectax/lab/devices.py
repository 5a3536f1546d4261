"""Many devices and many hosts: the batch is spread, everything else is on each of them.

A mesh is set for the length of a run. The programs are those of one device: where they hold rows
of data they say so by `over_devices`, and the compiler does the rest. Without a mesh that says
nothing, and the program is the one it was.

Of several processes the first decides and writes; the others are told.
"""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from .._errors import ExpectaxError, complain
from .errors import UsageError

_AXIS = "batch"


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Join the other processes of a run, before anything is computed. All None: there are none.

    Arguments:
        coordinator: HOST:PORT, where the first process can be reached.
        num_processes: how many there are.
        process_id: which one this is, from 0.

    Raises:
        UsageError: some of the three are missing, or make no sense.
    """
    given = (coordinator, num_processes, process_id)
    if all(one is None for one in given):
        return
    if coordinator is None or num_processes is None or process_id is None:
        raise UsageError(
            complain(
                "of --coordinator, --num-processes and --process-id not all were given",
                "each process of a run must know the first one's address, their number and its own",
                "pass all three, or none",
            )
        )
    if not 0 <= process_id < num_processes:
        raise UsageError(
            complain(
                f"--process-id is {process_id} of --num-processes {num_processes}",
                "processes are counted from 0",
                f"pass a number from 0 to {num_processes - 1}",
            )
        )
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, num_processes, process_id)


def is_first() -> bool:
    """Whether this process is the one that decides and writes."""
    return jax.process_index() == 0


def mesh_for(batch_size: int, num_devices: int | None = None) -> Mesh | None:
    """The devices that a batch is spread over; None for one, which needs nothing.

    Arguments:
        batch_size: every device gets the same number of rows.
        num_devices: how many to use; by default as many as divide the batch. Several processes use
            all that they have.

    Raises:
        UsageError: there are not so many, or they do not divide the batch.
    """
    devices = jax.devices()
    several = jax.process_count() > 1
    if num_devices is None and not several:
        num_devices = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    num = len(devices) if num_devices is None else num_devices
    if num < 1 or num > len(devices) or (several and num < len(devices)):
        least = "all of them, in several processes" if several else f"1 to {len(devices)}"
        raise UsageError(
            complain(f"--num-devices is {num}", f"there are {len(devices)}", f"pass {least}")
        )
    if batch_size % num:
        raise UsageError(
            complain(
                f"--batch-size {batch_size} is to be spread over {num} devices",
                "each takes the same number of rows",
                f"pass a multiple of {num}",
            )
        )
    if num == 1:
        return None
    return Mesh(np.asarray(devices[:num]), (_AXIS,), axis_types=(AxisType.Auto,))


def on(mesh: Mesh | None) -> Any:
    """A context in which programs run on these devices."""
    return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


def over_devices(rows: PyTree) -> PyTree:
    """The same arrays, with their leading axis of rows spread over the devices of the run.

    Rows that cannot be spread evenly stay as they are.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return rows
    spread = lambda x: (
        jax.lax.with_sharding_constraint(x, PartitionSpec(_AXIS))
        if eqx.is_array(x) and x.shape[0] % mesh.size == 0
        else x
    )
    return jax.tree.map(spread, rows)


def on_each_device(tree: PyTree) -> PyTree:
    """The same arrays, inside a program, whole on every device of the run."""
    if jax.sharding.get_abstract_mesh().empty:
        return tree
    whole = lambda x: jax.lax.with_sharding_constraint(x, PartitionSpec()) if eqx.is_array(x) else x
    return jax.tree.map(whole, tree)


def replicate(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Arrays of this process, the same in all, put whole on every device of a mesh."""
    if mesh is None:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec())

    def put(leaf: Any) -> Any:
        if not eqx.is_array(leaf):
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            words = put(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(words, impl=jax.random.key_impl(leaf))
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(put, tree)


def local(tree: PyTree) -> PyTree:
    """This process's own copy of arrays that are whole on every device."""
    several = lambda x: isinstance(x, jax.Array) and len(x.sharding.device_set) > 1
    return jax.tree.map(lambda x: x.addressable_data(0) if several(x) else x, tree)


def tell(message: bytes) -> bytes:
    """The first process's message, in all of them; what the others pass is not used."""
    if jax.process_count() == 1:
        return message
    # as bytes, for sums of floats on the way would turn −0 into 0
    length = multihost_utils.broadcast_one_to_all(np.asarray(len(message), np.int64))
    padded = np.zeros(int(length), np.uint8)
    if is_first():
        padded[:] = np.frombuffer(message, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(padded), np.uint8).tobytes()


def first_decides(decide: Callable[[], Any]) -> Any:
    """What `decide` returns in the first process, in all of them; where it raises, all do.

    Arguments:
        decide: called in the first process alone. It returns what JSON can hold.
    """
    if jax.process_count() == 1:
        return decide()
    message: dict[str, Any] = {}
    if is_first():
        try:
            message = {"decided": decide()}
        except ExpectaxError as error:
            message = {"refused": str(error)}
    message = json.loads(tell(json.dumps(message).encode()))
    if "refused" in message:
        raise UsageError(message["refused"])
    return message["decided"]
