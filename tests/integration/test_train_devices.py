"""The batch over eight virtual devices, and over two processes: the same run as on one device.

Devices are fixed when JAX starts, so each of these has processes of its own.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from expectax import cli
from expectax.lab.config import TrainConfig

FIGURES = """
import jax.numpy as jnp
from expectax.lab.config import TrainConfig

# compiling is most of what this test does: figures that see everything learned, and cost nothing
def figures(self, key, learned, data):
    model = learned.model
    return {"test_elbo": jnp.sum(model.encoder.layers[0].weight**2) + jnp.sum(model.prior_logits)}

TrainConfig.measure = TrainConfig.finish = figures
TrainConfig.pictures = lambda self, key, learned, data: {}
TrainConfig.draw = lambda *_: []
"""
PROGRAM = (
    FIGURES
    + """
import pathlib, shutil, sys
import equinox as eqx, jax, numpy as np, optax
from expectax.lab import devices
from expectax.lab.errors import UsageError
from expectax.lab.loop import Run
from expectax.lab.run_folder import RunFolder

assert jax.device_count() == 8
root = pathlib.Path(sys.argv[1])


RATE = 0.02

class Plain(TrainConfig):
    # a step of plain descent moves every parameter by its gradient, times the rate
    def optimizers(self):
        return {"": optax.sgd(RATE), "estimator": optax.sgd(RATE * 1e-4)}

    @property
    def every(self):
        return 6


task = Plain(estimator="rebar", num_latents=6, batch_size=16, num_seeds=2, steps=18)
learned = lambda state: jax.device_get(devices.local(state.seeds.learned))
floats = lambda state: jax.tree.leaves(eqx.filter(learned(state), eqx.is_inexact_array))
runs = {num: Run(task, num_devices=num) for num in (1, 8)}
gradients = {}
for num, run in runs.items():
    after = run._advance(run.start, 1)
    arrays = jax.tree.leaves(eqx.filter(after, eqx.is_array))
    assert all(x.sharding.is_fully_replicated for x in arrays)
    assert all(len(x.sharding.device_set) == num for x in arrays)
    gradients[num] = [(a - b) / RATE for a, b in zip(floats(after), floats(run.start), strict=True)]
assert sum(np.any(g != 0) for g in gradients[1]) > 5
for one, other in zip(*gradients.values(), strict=True):
    assert np.allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(one).max() + 1e-5)
print("gradients agree")

# the compiler is told: each device has 16 / 8 rows; what cannot be spread evenly stays whole
rows = devices.replicate(jnp.arange(16.0), runs[8].mesh)
with devices.on(runs[8].mesh):
    shards = jax.jit(devices.over_devices)(rows).addressable_shards
    assert [shard.data.shape for shard in shards] == [(2,)] * 8
    assert jax.jit(devices.over_devices)(jnp.arange(13.0)).sharding.is_fully_replicated
assert devices.mesh_for(10).size == 5
for batch_size, num in ((10, 4), (16, 9), (16, 0)):
    try:
        devices.mesh_for(batch_size, num)
    except UsageError as error:
        assert "--batch-size 10" in str(error) or "--num-devices" in str(error)
    else:
        raise AssertionError
print("batches are spread, or refused")

# begun on one device, gone on with on eight, ended on one
folder = RunFolder(root / "run")
folder.create(task)
runs[1].train(folder)
unbroken = {row["step"]: row for row in folder.rows() if row["seed"] == 1}
for last, num in ((6, 8), (12, 1)):
    for checkpoint in folder.checkpoints.iterdir():
        if int(checkpoint.name) > last:
            shutil.rmtree(checkpoint)
    results = runs[num].train(folder)
    assert (results.num_devices, results.steps_taken) == (num, 18 - last)
    for row in folder.rows():
        if row["seed"] == 1:
            for name, value in unbroken[row["step"]].items():
                assert value is None or np.isclose(row[name], value, rtol=0.02), (name, row)
print("a run goes on over other devices")
"""
)
COMMAND = f"{FIGURES}\nfrom expectax import cli; cli.main()"

OPTIONS = [
    "train", "--steps", "12", "--num-latents", "4", "--batch-size", "8", "--estimator",
    "leave-one-out",
]  # fmt: skip


def run_python(*argv: str, cache: pathlib.Path, devices: int) -> subprocess.Popen:
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, *argv],
        env={
            **os.environ,
            "XLA_FLAGS": flags,
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    try:
        out, err = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 0, err[-3000:]
    return out


def test_eight_devices_take_the_steps_of_one(tmp_path):
    out = finish(run_python("-c", PROGRAM, str(tmp_path), cache=tmp_path / "cache", devices=8))
    assert len(out.splitlines()) == 3, out


def two_processes(folder: pathlib.Path, *more: str) -> list[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", "2", "--process-id"]
    options = ["-c", COMMAND, *OPTIONS, "--run-dir", str(folder), *more, *both]
    cache = folder.parent / "cache"
    processes = [run_python(*options, str(i), cache=cache, devices=1) for i in (0, 1)]
    return [finish(process) for process in processes]


@pytest.fixture
def one_process(monkeypatch):
    for name in ("measure", "finish", "pictures", "draw"):
        monkeypatch.setattr(TrainConfig, name, getattr(TrainConfig, name))
    exec(FIGURES, {})

    def run(*options: str) -> None:
        with pytest.raises(SystemExit) as stop:
            cli.main(options)
        assert not stop.value.code

    return run


def test_two_processes_make_one_run_which_one_process_can_go_on_with(tmp_path, one_process):
    alone, together = tmp_path / "alone", tmp_path / "together"
    first, second = two_processes(together)
    assert "2, the batch spread over them" in first
    said = [line for line in second.splitlines() if not line.startswith("[Gloo]")]
    assert said == []
    one_process(*OPTIONS, "--run-dir", str(alone))
    folders = sorted(p.name for p in (together / "checkpoints").iterdir())
    assert folders == ["10", "11", "12"]

    def same() -> bool:
        """Float noise apart; everything is written once."""
        rows = [
            [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            for folder in (together, alone)
        ]
        assert [row["step"] for row in rows[0]] == list(range(13))
        pairs = [(a[name], b[name]) for a, b in zip(*rows, strict=True) for name in b]
        return all(a == b or np.isclose(a, b, rtol=0.02) for a, b in pairs)

    assert same()
    spoil = lambda: (together / "checkpoints" / "12" / "manifest.json").unlink()
    spoil()
    one_process("train", "--run-dir", str(together), "--resume")
    assert same()
    spoil()
    first, second = two_processes(together, "--resume")
    assert "for 1 steps" in first
    assert same()
