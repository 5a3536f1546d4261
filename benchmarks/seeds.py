"""Several seeds at once beside one: how many times the time of one do eight take?

The task is that of `step.py`, by the lab's own program: `--num-seeds 8` beside `--num-seeds 1`.
Runs are interleaved and warmed up; the ratio is the median over rounds of times in the same round,
with its quartiles. A round of the one seed has as many steps as one of the eight has altogether,
so that what else the machine does falls on both alike.

    python benchmarks/seeds.py [--num-seeds 8] [--estimators disarm] [--rounds 11] [--small]
"""

import argparse
import dataclasses
import json

import numpy as np
from step import CONFIG, Contender, made_up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-seeds", type=int, default=8)
    parser.add_argument("--estimators", default="disarm", type=lambda names: names.split(","))
    parser.add_argument("--model", default="linear", help="linear or nonlinear")
    parser.add_argument("--steps", type=int, default=50, help="of a round of all seeds")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--small", action="store_true", help="few pictures, steps and rounds")
    parser.add_argument("--json", help="also write the result here")
    options = parser.parse_args()
    steps, rounds = (10, 2) if options.small else (options.steps, options.rounds)
    data = made_up(500, 100) if options.small else made_up(60_000, 10_000)
    many = options.num_seeds
    found = {}
    for name in options.estimators:
        task = dataclasses.replace(CONFIG, estimator=name, model=options.model)
        pair = [
            Contender(dataclasses.replace(task, num_seeds=num), data, steps * many // num)
            for num in (1, many)
        ]
        for contender in pair:
            for _ in range(-(-100 // steps)):  # the first seconds of a process are slow
                contender.round()
        times = np.array([[contender.round() for contender in pair] for _ in range(rounds)])
        low, middle, high = np.quantile(times[:, 1] / times[:, 0], [0.25, 0.5, 0.75])
        one, all_of_them = np.median(times, axis=0)
        print(
            f"{name}: one seed {one:.3f} ms/step, {many} seeds {all_of_them:.3f} ms/step, "
            f"ratio {middle:.2f} ({low:.2f} – {high:.2f})"
        )
        found[name] = {
            "milliseconds": {"1": one, str(many): all_of_them},
            "ratio": middle,
            "quartiles": [low, high],
        }
    if options.json:
        with open(options.json, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
