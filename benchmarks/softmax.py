"""What a step of learning costs as the vocabulary grows: noise contrast beside the full softmax.

The log-bilinear model of `expectax reproduce nce`: 100 dimensions, two words of context, 25 words
of noise, row-wise Adagrad. Texts are made up: words drawn independently, their shares ∝ 1 / rank. A
step by noise contrast draws its noise from an alias table, looks up the rows of its words, and
changes them; by the full softmax it goes over all words. All run in one process, warmed up, with
donated tables; runs are interleaved, and a ratio is the median over rounds of times in the same
round, with its quartiles. Uniform noise is the hardest on a memory: each row comes from anywhere.
With 500 words of noise for the whole batch a step has fewer rows, and a product of matrices.

    python benchmarks/softmax.py [--words 1000,10000,100000] [--rounds 9] [--small] [--png FILE]

Times depend on the machine and on what else it does; the ratios are what to compare.
"""

import argparse
import json
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from expectax.distributions import AliasTable
from expectax.lab import plots
from expectax.lab.data.text import Corpus
from expectax.lab.experiments._language_tasks import (
    AbstractLanguage,
    MaximumLikelihood,
    NoiseContrastive,
    SharedNoise,
    Text,
)

LENGTH = 200_000
TASKS: dict[str, AbstractLanguage] = {
    "nce, unigram noise": NoiseContrastive(batch_size=100),
    "nce, uniform noise": NoiseContrastive(batch_size=100, noise="uniform"),
    "nce, 500 shared": SharedNoise(batch_size=100, num_noise=500),
    "full softmax": MaximumLikelihood(batch_size=100),
}
FIRST = next(iter(TASKS))
COLORS = (plots.BLUE, plots.GREEN, "#7570b3", plots.ORANGE)


def made_up(num_words: int, uniform: bool) -> Text:
    """A text of words that come independently, the i-th with a share ∝ 1 / i."""
    shares = 1 / np.arange(1, num_words + 1)
    random = np.random.default_rng(0)
    text = random.choice(num_words, LENGTH, p=shares / shares.sum()).astype(np.int32)
    counts = np.bincount(text, minlength=num_words) + 1
    corpus = Corpus(text, text[:10], text[:10], counts, (), f"{num_words} words, made up")
    return Text(corpus, AliasTable(np.ones(num_words) if uniform else counts))


class Contender:
    """A task with its compiled program and its tables."""

    def __init__(self, task: AbstractLanguage, num_words: int):
        self.data = made_up(num_words, getattr(task, "noise", "") == "uniform")
        model = task.init(jax.random.key(0), self.data)
        self.state = model, task.memory(model)
        self.num_steps = 1

        def run(state: Any, data: Text, key: Any, num_steps: Any) -> Any:
            def step(i: Any, state: Any) -> Any:
                row_key, batch_key, key_i = jax.random.split(jax.random.fold_in(key, i), 3)
                rows = jax.random.randint(row_key, (task.batch_size,), 0, task.num_rows(data))
                batch = task.batch(batch_key, data, rows)
                return task.learn(*state, batch, key_i, jnp.asarray(0))[1:]

            return jax.lax.fori_loop(0, num_steps, step, state)

        self.run = jax.jit(run, donate_argnums=0)

    def round(self, seconds: float = 0.0) -> float:
        """Milliseconds a step; with `seconds`, as many steps a round from now on as take that."""
        began = time.perf_counter()
        key = jax.random.key(self.num_steps)
        self.state = jax.block_until_ready(self.run(self.state, self.data, key, self.num_steps))
        each = (time.perf_counter() - began) / self.num_steps
        if seconds:
            self.num_steps = max(1, round(seconds / each))
        return 1e3 * each


def compare(sizes: list[int], seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Times, and ratios to noise contrast with the smallest vocabulary."""
    contenders = {(name, n): Contender(task, n) for n in sizes for name, task in TASKS.items()}
    for contender in contenders.values():
        for _ in range(3):  # the first compiles, the second is warm enough to tell the pace
            contender.round(seconds)
    times = {which: [] for which in contenders}
    for _ in range(rounds):
        for which, contender in contenders.items():
            times[which].append(contender.round())
    found = []
    for (name, n), spent in times.items():
        ratios = np.divide(spent, times[FIRST, sizes[0]])
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75]).tolist()
        row = {"name": name, "words": n, "milliseconds": float(np.median(spent))}
        found.append(row | {"ratio": middle, "quartiles": [low, high]})
    return found


def draw(path: str, found: list[dict[str, Any]]) -> None:
    """The ratios over the vocabulary, both logarithmic."""
    with plots.style():
        canvas = plots.figure(6.4, 4.2)
        axes = canvas.subplots()
        for name, color in zip(TASKS, COLORS, strict=True):
            rows = [row for row in found if row["name"] == name]
            sizes, ratios = [row["words"] for row in rows], [row["ratio"] for row in rows]
            low, high = zip(*(row["quartiles"] for row in rows), strict=True)
            axes.fill_between(sizes, low, high, color=color, alpha=0.25, linewidth=0)
            axes.plot(sizes, ratios, "o-", color=color, label=name)
        axes.set(xscale="log", yscale="log", xlabel="words in the vocabulary")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_title("Time of a step, beside noise contrast with the fewest words")
        axes.legend()
        canvas.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    whole = lambda text: [int(word) for word in text.split(",")]
    parser.add_argument("--words", default=[1_000, 10_000, 100_000], type=whole)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="about, of a round of one")
    parser.add_argument("--small", action="store_true", help="few words and rounds")
    parser.add_argument("--json", help="also write the result here")
    parser.add_argument("--png", help="also draw it here")
    options = parser.parse_args()
    sizes, rounds = ([100, 1000], 2) if options.small else (options.words, options.rounds)
    seconds = 0.05 if options.small else options.seconds
    found = compare(sizes, seconds, rounds)
    print(f"batch 100, {rounds} rounds of about {seconds:g} s")
    print(f"{'':20s} {'words':>8s} {'ms/step':>8s} {'ratio':>7s}  quartiles")
    for row in found:
        low, high = row["quartiles"]
        print(
            f"{row['name']:20s} {row['words']:8,d} {row['milliseconds']:8.3f} "
            f"{row['ratio']:7.2f}  {low:.2f} – {high:.2f}"
        )
    if options.json:
        with open(options.json, "w") as file:
            json.dump(found, file, indent=1)
    if options.png:
        draw(options.png, found)


if __name__ == "__main__":
    main()
