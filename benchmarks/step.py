"""What a training step of the lab costs: the linear DisARM VAE beside its deterministic floor.

784–200–784, batch 50, pictures binarized afresh, Adam 1e-4 and plain descent at 1e-2 for the prior
(Dong, Mnih & Tucker 2020). The floor is the same task, data, nets and optimisers, with one
evaluation where the latents are the posterior's means: no draws, one forward and one backward pass.
Both run in the lab's own program. Runs are interleaved and warmed up; the ratio is the median over
rounds of times in the same round, with its quartiles. `evaluation` is a point of the curves (train
and test bound, gradient variance), spread over the steps between two points of a run of 200,000.

    python benchmarks/step.py [--estimators disarm,leave-one-out] [--rounds 15] [--small]

Pictures are made up: random grey levels in the middle of a field of MNIST's size. Times depend on
the machine and on what else it does; the ratios are what to compare.
"""

import argparse
import dataclasses
import json
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from expectax.distributions import joint
from expectax.lab.config import TrainConfig
from expectax.lab.data import Dataset
from expectax.lab.train import TrainState, measure, program

STEPS = 200_000
CONFIG = TrainConfig(steps=STEPS, learning_rate=1e-4, prior_rate=1e-2, num_latents=200)


class Floor(TrainConfig):
    """The same without draws."""

    def objective(self, learned, batch, key, step):
        del key, step
        model = learned.model
        q = joint(model.posterior(batch))
        means = jax.nn.sigmoid(model.encoder(model.centered(batch)))
        return jnp.mean(q.log_prob(means[None])[0] - model.log_joint(batch, means))


def made_up(num_train: int, num_test: int) -> Dataset:
    """Grey pictures of MNIST's size, dark at the rim."""
    random = np.random.default_rng(0)
    field = np.zeros((num_train + num_test, 28, 28), np.uint8)
    lit = random.random((num_train + num_test, 20, 20)) < 0.4
    field[:, 4:24, 4:24] = lit * random.integers(0, 256, lit.shape)
    rows = field.reshape(len(field), -1)
    return Dataset(rows[:num_train], rows[num_train:], shape=(28, 28), grey=True, summary="made up")


class Contender:
    """A task with its compiled program and its state."""

    def __init__(self, task: TrainConfig, data: Dataset, steps: int):
        self.task, self.data, self.steps = task, data, steps
        self.advance = program(task).advance
        self.state: TrainState = program(task).init(data)

    def round(self) -> float:
        """Milliseconds a step."""
        began = time.perf_counter()
        self.state = jax.block_until_ready(self.advance(self.state, self.data, self.steps))
        return 1e3 * (time.perf_counter() - began) / self.steps

    def evaluation(self) -> float:
        """Milliseconds a step, of one point spread over the steps between two."""
        began = time.perf_counter()
        jax.block_until_ready(measure(self.task, self.state, self.data))
        return 1e3 * (time.perf_counter() - began) / self.task.every


def compare(names: list[str], data: Dataset, steps: int, rounds: int) -> dict[str, Any]:
    """Times and ratios by name."""
    tasks = {"floor": Floor(**dataclasses.asdict(CONFIG))}
    tasks |= {name: dataclasses.replace(CONFIG, estimator=name) for name in names}
    contenders = {name: Contender(task, data, steps) for name, task in tasks.items()}
    for contender in contenders.values():
        for _ in range(-(-300 // steps)):  # the first seconds of a process are slow
            contender.round()
    times = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, contender in contenders.items():
            times[name].append(contender.round())
    found = {}
    for name, contender in contenders.items():
        low, middle, high = np.quantile(np.divide(times[name], times["floor"]), [0.25, 0.5, 0.75])
        found[name] = {
            "milliseconds": float(np.median(times[name])),
            "ratio": float(middle),
            "quartiles": [float(low), float(high)],
        }
        if name != "floor":
            contender.evaluation()
            found[name]["evaluation"] = float(np.median([contender.evaluation() for _ in range(3)]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--estimators", default="disarm", type=lambda names: names.split(","))
    parser.add_argument("--steps", type=int, default=200, help="of a round")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--small", action="store_true", help="few pictures, steps and rounds")
    parser.add_argument("--json", help="also write the result here")
    options = parser.parse_args()
    steps, rounds = (20, 2) if options.small else (options.steps, options.rounds)
    data = made_up(500, 100) if options.small else made_up(60_000, 10_000)
    found = compare(options.estimators, data, steps, rounds)
    print(f"batch {CONFIG.batch_size}, {rounds} rounds of {steps} steps")
    print(f"{'':16s} {'ms/step':>8s} {'ratio':>7s}  {'quartiles':13s} + evaluation, ms/step")
    for name, row in found.items():
        low, high = row["quartiles"]
        evaluation = f"{row['evaluation']:.3f}" if "evaluation" in row else ""
        print(
            f"{name:16s} {row['milliseconds']:8.3f} {row['ratio']:7.2f}  "
            f"{low:.2f} – {high:.2f}   {evaluation}"
        )
    if options.json:
        with open(options.json, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
