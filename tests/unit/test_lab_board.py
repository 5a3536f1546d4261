"""TensorBoard's files hold what the metrics hold, also after a death and a resumption."""

import struct

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from expectax.lab.config import TrainConfig
from expectax.lab.loop import Run
from expectax.lab.run_folder import RunFolder

CONFIG = TrainConfig(steps=4, num_latents=2, batch_size=10, num_seeds=2)


def scalars(folder) -> dict[str, dict[int, float]]:
    """All scalars of all event files, by tag and step; a repeated point is an error."""
    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.iterdir()):
        raw, at = path.read_bytes(), 0
        while at < len(raw):
            (length,) = struct.unpack_from("<Q", raw, at)
            event = Event()
            event.ParseFromString(raw[at + 12 : at + 12 + length])
            for value in event.summary.value:
                points = found.setdefault(value.tag, {})
                assert event.step not in points
                points[event.step] = value.simple_value
            at += 16 + length
    return found


def test_the_board_is_the_metrics_also_when_resumed(tmp_path, monkeypatch):
    for name in ("pictures", "draw"):
        monkeypatch.setattr(TrainConfig, name, lambda *_: {})
    monkeypatch.setattr(TrainConfig, "finish", TrainConfig.measure)
    folder = RunFolder(tmp_path / "run")
    folder.create(CONFIG)
    run = Run(CONFIG)
    run.train(folder, tensorboard=True)
    board = folder.path / "tensorboard"

    def same() -> bool:
        found, rows = scalars(board), folder.rows()
        for name in ("objective", "test_elbo", "gradient_variance"):
            for seed in (0, 1):
                mine = {r["step"]: r[name] for r in rows if r["seed"] == seed and r[name]}
                assert found[f"{name}/seed_{seed}"] == pytest.approx(mine, rel=1e-5)
            both = [[r[name] for r in rows if r["step"] == step] for step in found[name]]
            assert list(found[name].values()) == pytest.approx(np.mean(both, axis=1), rel=1e-5)
            error = np.abs(np.subtract(*np.transpose(both))) / 2
            errors = list(found[f"{name}/standard_error"].values())
            assert errors == pytest.approx(error, rel=1e-3, abs=1e-5)
        assert list(found["test_elbo"]) == [0, 1, 2, 3, 4]
        return True

    assert same()
    # killed after the point at 4, before its checkpoint: it is taken again
    (folder.checkpoints / "4" / "manifest.json").unlink()
    (file,) = board.iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    run.train(folder, tensorboard=True)
    assert same()
    # another time without
    run.train(folder)
    assert same()
