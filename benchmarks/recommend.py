"""Is what `ex.recommend` ranks first the best, by an independent long run?

For each built-in problem: the recommendation within its budget; then every estimator that it
ranked, with what it had learned, on new draws and new times, all in turn. The figure of a
recommendation is (variance × time of its first) / (least variance × time), both from the long run;
where some have no variance, the ratio of their times.

    python benchmarks/recommend.py [--budget 60] [--runs 60] [--only one-bit,gaussian]
        [--save figures.json]

With `--save`, figures are kept by problem, so that a later call with `--only` adds to them. On a
busy machine compiling takes longer: give it more budget.
"""

import argparse
import json
import pathlib

import jax

import expectax as ex
from expectax.diagnostics._loss import Setting
from expectax.diagnostics._table import markdown, number
from expectax.diagnostics._timing import Stopwatch
from expectax.lab.problems import PROBLEMS, Problem

WITHIN = 1.3
HOPELESS = 20.0  # times the best after a few runs: not worth the long run
FEW = 5
HEADER = (
    "problem",
    "ranked first",
    "its var × s",
    "best by the long run",
    "its var × s",
    "ratio",
    f"within {WITHIN}",
    "tried",
)


def long_run(problem: Problem, found: ex.Recommendation, seed: int, runs: int) -> dict:
    """(variance, seconds) by name, from draws and times of its own."""
    setting = Setting(jax.random.key(seed), problem.q, problem.f)
    watches: dict[str, Stopwatch] = {}
    for i, row in enumerate(found.rows):
        key = jax.random.fold_in(jax.random.key(seed), i)
        watches[row.name] = Stopwatch(key, setting.loss(row.estimator), setting.floats)
        watches[row.name].warm_up()

    def measured(watch: Stopwatch) -> tuple[float, float]:
        size = sum(float((mean**2).sum()) for mean in watch.mean)
        exact = watch.variance <= (64 * 2**-23) ** 2 * size  # no more than rounding
        return (0.0 if exact else watch.variance), watch.timing().step

    def in_turn(names: list[str], num: int) -> None:
        for _ in range(num):
            for name in names:
                watches[name].run()

    in_turn(list(watches), FEW)
    figures = {name: measured(watch) for name, watch in watches.items()}
    best = min(variance * seconds for variance, seconds in figures.values())
    alive = [
        n for n, (v, s) in figures.items() if v * s <= HOPELESS * best or n == next(iter(figures))
    ]
    for name in alive:
        watches[name].forget()
    in_turn(alive, runs)
    return {name: measured(watches[name]) for name in alive}


def judge(figures: dict[str, tuple[float, float]], first: str) -> tuple[str, float]:
    """The best by name, and how far the first is from it."""
    score = lambda name: (figures[name][0] * figures[name][1], figures[name][1])
    best = min(figures, key=score)
    mine, least = score(first), score(best)
    if least[0] == 0:
        return best, mine[1] / least[1] if mine[0] == 0 else float("inf")
    return best, mine[0] / least[0]


def one(name: str, budget: float, runs: int, seed: int) -> dict:
    problem = PROBLEMS[name](jax.random.key(seed))
    found = ex.recommend(jax.random.key(seed + 1), problem.q, problem.f, budget_seconds=budget)
    print(f"\n{name}: {problem.summary}\n{found}", flush=True)
    first = found.rows[0].name
    figures = long_run(problem, found, seed + 2, runs)
    best, ratio = judge(figures, first)
    missed = sum("not tried" in reason for _, reason in found.excluded)
    product = {n: v * s for n, (v, s) in figures.items()}
    return {
        "first": first,
        "first_product": product[first],
        "best": best,
        "best_product": product[best],
        "ratio": ratio,
        "tried": len(found.rows),
        "missed": missed,
    }


def table(figures: dict[str, dict]) -> str:
    rows = [
        [
            name,
            x["first"],
            number(x["first_product"]),
            x["best"],
            number(x["best_product"]),
            f"{x['ratio']:.2f}",
            "yes" if x["ratio"] <= WITHIN else "**no**",
            f"{x['tried']}" + (f" of {x['tried'] + x['missed']}" if x["missed"] else ""),
        ]
        for name, x in figures.items()
    ]
    good = sum(x["ratio"] <= WITHIN for x in figures.values())
    return f"{markdown(HEADER, rows)}\n\n{good} of {len(rows)} within {WITHIN}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(PROBLEMS))
    parser.add_argument("--save", type=pathlib.Path)
    given = parser.parse_args()
    kept = given.save is not None and given.save.exists()
    figures = json.loads(given.save.read_text(encoding="utf-8")) if kept else {}
    for name in given.only.split(","):
        figures[name] = one(name, given.budget, given.runs, given.seed)
        if given.save is not None:
            given.save.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    print("\n" + table({name: figures[name] for name in PROBLEMS if name in figures}))


if __name__ == "__main__":
    main()
