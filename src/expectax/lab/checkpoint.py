"""Checkpoints that are whole or are not used.

Orbax writes the arrays into a temporary folder; a manifest of every file's sha256 joins them; one
rename makes the folder a checkpoint. So a run killed at any instant leaves whole checkpoints and
perhaps a temporary folder, and whatever happens to the bytes later is seen against the manifest.
All that is done by a thread beside the training. What is stored knows no device: a run can go on
over others.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from .files import TEMPORARY, write_atomically

_MANIFEST = "manifest.json"
_ARRAYS = "arrays"


def name_leaves(tree: PyTree) -> dict[str, Any]:
    """The array leaves of a tree by readable names.

    Example:
        >>> import jax.numpy as jnp
        >>> name_leaves({"layers": [jnp.zeros(2), None], "step": jnp.zeros(())}).keys()
        dict_keys(['layers.0', 'step'])
    """
    leaves = jax.tree_util.tree_flatten_with_path(eqx.filter(tree, eqx.is_array))[0]
    return {jax.tree_util.keystr(path, simple=True, separator="."): x for path, x in leaves}


class Checkpoints:
    """The checkpoints of one run, in one folder, by step.

    Arguments:
        folder: where they lie. It is made when the first one is saved.
        keep: how many whole ones to keep.
    """

    def __init__(self, folder: pathlib.Path, keep: int = 3):
        self.folder = folder.absolute()
        self.keep = keep
        # of several processes this one alone has checkpoints, and waits for no other
        mine = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(primary_host=mine, active_processes={mine})
        self._orbax = ocp.StandardCheckpointer(
            async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
            multiprocessing_options=alone,
        )
        self._worker = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._pending: concurrent.futures.Future[None] | None = None

    def save(self, step: int, state: PyTree) -> None:
        """Begin to save the arrays of `state`; the save before this one is ended first.

        The checkpoint becomes visible when it is whole, at the latest on return from `wait`.
        """
        self.wait()
        # on the host, whence they cannot be changed: JAX's arrays are immutable
        arrays = {name: np.asarray(storable(x)) for name, x in name_leaves(state).items()}
        self._pending = self._worker.submit(self._write, step, arrays)

    def wait(self) -> None:
        """End the save that was begun; raise what it raised."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _write(self, step: int, arrays: dict[str, np.ndarray]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        target, temporary = self.folder / str(step), self.folder / f"{TEMPORARY}{step}"
        temporary.mkdir()
        self._orbax.save(temporary / _ARRAYS, arrays)
        self._orbax.wait_until_finished()
        hashes = {str(p.relative_to(temporary)): _sha256(p) for p in _files(temporary)}
        write_atomically(temporary / _MANIFEST, json.dumps(hashes, indent=1))
        if target.exists():  # a damaged one, or one that a resumed run makes again
            shutil.rmtree(target)
        os.replace(temporary, target)
        for old in self.steps()[self.keep :]:
            shutil.rmtree(self.folder / str(old))

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, whole or not, latest first."""
        if not self.folder.is_dir():
            return []
        found = [int(p.name) for p in self.folder.iterdir() if p.name.isdigit()]
        return sorted(found, reverse=True)

    def restore_latest(
        self, like: PyTree, report: Callable[[str], None]
    ) -> tuple[int, PyTree] | None:
        """The latest whole checkpoint, as its step and state, or None if there is none.

        Arguments:
            like: a state with the same structure, shapes and types.
            report: called with one line for every damaged checkpoint that is passed over.
        """
        self.wait()
        for step in self.steps():
            damage = self.damage(step)
            if damage is None:
                return step, self._restore(step, like)
            report(f"checkpoint {step} is damaged ({damage}); trying an earlier one")
        return None

    def damage(self, step: int) -> str | None:
        """What is wrong with a checkpoint, in words, or None if every byte is as written."""
        folder = self.folder / str(step)
        try:
            hashes = json.loads((folder / _MANIFEST).read_text())
        except (OSError, ValueError):
            return f"its {_MANIFEST} is missing or torn"
        if not isinstance(hashes, dict) or not hashes:
            return f"its {_MANIFEST} is torn"
        found = {str(p.relative_to(folder)) for p in _files(folder)} - {_MANIFEST}
        if strange := found ^ set(hashes):
            return f"{min(strange)} is missing or was added"
        for name, sha256 in hashes.items():
            if _sha256(folder / name) != sha256:
                return f"{name} has another checksum than when it was written"
        return None

    def _restore(self, step: int, like: PyTree) -> PyTree:
        arrays, static = eqx.partition(like, eqx.is_array)
        named = name_leaves(like)
        shapes = {n: jax.eval_shape(storable, leaf) for n, leaf in named.items()}
        empty = {n: np.empty(leaf.shape, leaf.dtype) for n, leaf in shapes.items()}
        stored = self._orbax.restore(self.folder / str(step) / _ARRAYS, empty)
        leaves = [as_was(stored[n], leaf) for n, leaf in named.items()]
        return eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), leaves), static)

    def _sweep(self) -> None:
        """Remove what a killed run left half written."""
        for path in self.folder.glob(f"{TEMPORARY}*"):
            shutil.rmtree(path)

    def close(self) -> None:
        """End the save that was begun, and the threads; raise what the save raised."""
        try:
            self.wait()
        finally:
            self._worker.shutdown()
            self._orbax.close()


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def _sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def storable(leaf: Any) -> Any:
    """Typed keys are stored as the words that they are."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def as_was(stored: Any, leaf: Any) -> Any:
    # by way of the host: an array bound to a device would have every program compiled again
    raw = jnp.asarray(np.asarray(stored))
    return jax.random.wrap_key_data(raw, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else raw
