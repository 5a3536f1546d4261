"""The language experiment: its steps, what it measures, and all of it in small."""

import dataclasses
import json
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from expectax import cli
from expectax.distributions import AliasTable
from expectax.lab.data.text import markov
from expectax.lab.experiments import EXPERIMENTS, _language_tasks as tasks, nce
from expectax.lab.experiments._skip_gram_task import Nearby
from expectax.lab.experiments._training_plan import Asked
from expectax.models import LogBilinear, look_up
from expectax.objectives import negative_sampling, noise_contrastive

from .deaths import changed_in_small, leave_copies

SMALL = {"data": "markov", "batch_size": 6, "num_dimensions": 4, "steps": 100}
PNG = b"\x89PNG\r\n\x1a\n"


def begun(task):
    """The data, a model away from its start, and a batch."""
    data = task.load()
    model = task.init(jax.random.key(0), data)
    moved = lambda x: x + 0.3 * jax.random.normal(jax.random.key(x.size), x.shape)
    return data, jax.tree.map(moved, model), task.batch(jax.random.key(2), data, jnp.arange(6) * 7)


@pytest.mark.parametrize(
    ("task", "objective"),
    [
        (tasks.NoiseContrastive(num_noise=3, **SMALL), noise_contrastive),
        (tasks.NoiseContrastive(num_noise=3, noise="uniform", **SMALL), noise_contrastive),
        (tasks.SharedNoise(num_noise=3, **SMALL), noise_contrastive),
        (Nearby(num_noise=3, **SMALL), negative_sampling),
    ],
    ids=["unigram", "uniform", "shared", "skip-gram"],
)
def test_the_loss_of_a_step_is_the_objective_of_the_library(task, objective):
    """The same draws of noise: `sample` gives those of the batch."""
    data, model, batch = begun(task)
    draws = batch.words[:, 1:].T
    same = bool(jnp.all(draws == draws[:, :1]))
    assert same == isinstance(task, tasks.SharedNoise)

    def written(model):
        score = lambda words: model.scores(batch.context, words)
        with mock.patch.object(AliasTable, "sample", return_value=draws):
            losses = objective(jax.random.key(0), score, batch.words[:, 0], data.noise, 3)
        return jnp.mean(losses)

    key, step = jax.random.key(1), jnp.asarray(0)
    ours = lambda model: task.objective(model, batch, key, step)
    got, want = (jax.jit(jax.value_and_grad(f))(model) for f in (ours, written))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6), got, want)
    value, after, _ = jax.jit(task.learn)(model, task.memory(model), batch, key, step)
    np.testing.assert_allclose(value, want[0], rtol=1e-5)
    still = set(range(20)) - set(batch.words.ravel().tolist())
    name = "outputs" if isinstance(task, Nearby) else "word_vectors"
    moved = np.any(getattr(after, name) != getattr(model, name), axis=1)
    assert set(np.flatnonzero(~moved)) == still
    assert 0 < len(still) < 20


def test_noise_and_contexts_are_those_of_the_text():
    task = tasks.NoiseContrastive(num_noise=4, num_context=3, **SMALL)
    data, _, batch = begun(task)
    text = np.asarray(data.corpus.train)
    for row, context, words in zip(range(0, 42, 7), batch.context, batch.words, strict=True):
        assert context.tolist() == text[row : row + 3].tolist()
        assert words[0] == text[row + 3]
    shares = data.corpus.counts / data.corpus.counts.sum()
    np.testing.assert_allclose(batch.log_noise, np.log(4 * shares)[batch.words], rtol=1e-5)
    assert task.num_rows(data) == len(text) - 3
    context, word = task.at(data.corpus.train, jnp.asarray(task.num_rows(data) - 1))
    assert [*context.tolist(), int(word)] == text[-4:].tolist()


def test_words_near_are_within_the_window_on_both_sides_and_common_ones_are_thinned():
    task = Nearby(window=2, often=0.05, **SMALL)
    data = task.load()
    text = jnp.arange(500)
    batch = task.pairs(jax.random.key(0), data, text, jnp.arange(400))
    assert set((batch.words[:, 0] - batch.context).tolist()) == {-2, -1, 1, 2}
    assert np.asarray(batch.log_noise == 0).all()
    counts, kept = np.asarray(data.corpus.counts), np.bincount(data.corpus.train, minlength=20)
    stays = np.minimum(1, np.sqrt(0.05 * counts.sum() / counts))
    off = (kept - stays * counts) / np.sqrt(counts * stays * (1 - stays) + 1e-9)
    assert np.abs(off).max() < 5
    assert (stays < 0.8).any()
    np.testing.assert_allclose(data.noise.probs, counts**0.75 / np.sum(counts**0.75), rtol=1e-5)


def test_what_is_measured_is_perplexity_normalizer_and_divergence():
    """At the language's own law, unnormalized by a constant; written out word by word."""
    corpus = markov(num_words=5, length=800)
    law, shift = np.log(np.asarray(corpus.law)), 0.7
    # the last word of context alone predicts: one-hot vectors, and rows of the table
    positions = jnp.stack([jnp.zeros(5), jnp.ones(5)])
    biases = jnp.full(5, shift)
    model = LogBilinear(jnp.eye(5), jnp.asarray(law.T, jnp.float32), biases, positions)
    task = tasks.NoiseContrastive(**SMALL)
    judged = lambda model: task.judged(jax.random.key(0), model, corpus, corpus.test, "test")
    found = {name: float(x) for name, x in judged(model).items()}
    words = np.asarray(corpus.test)
    mean_loss = -np.mean(law[words[1:-1], words[2:]])
    assert found["test_perplexity"] == pytest.approx(np.exp(mean_loss), rel=1e-5)
    assert found["test_log_normalizer"] == pytest.approx(shift, rel=1e-5)
    assert found["test_spread"] == pytest.approx(0, abs=2e-3)
    assert found["test_divergence"] == pytest.approx(0, abs=1e-5)
    flat = dataclasses.replace(model, positions=jnp.zeros((2, 5)), biases=jnp.zeros(5))
    found = {name: float(x) for name, x in judged(flat).items()}
    assert found["test_perplexity"] == pytest.approx(5, rel=1e-5)
    of_context = np.log(5) + np.sum(np.exp(law) * law, axis=1)
    expected = of_context[words[1:-1]].mean()
    assert found["test_divergence"] == pytest.approx(expected, rel=1e-4)


def test_the_likelihood_is_that_of_the_normalized_scores():
    task = tasks.MaximumLikelihood(**SMALL)
    _, model, (context, word) = begun(task)
    loss = task.objective(model, (context, word), jax.random.key(0), jnp.asarray(0))
    scores = np.asarray(model.all_scores(context), np.float64)
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert float(loss) == pytest.approx(-np.log(p[np.arange(6), word]).mean(), rel=1e-5)


def test_the_rate_falls_in_a_line_and_the_published_contenders_are_there():
    full = nce.plan(Asked())
    tasks_of = {c.name: c.task for c in full.contenders}
    assert set(nce.PUBLISHED) < set(tasks_of)
    assert tasks_of["nce-25-uniform"].noise == "uniform"
    assert [tasks_of[f"nce-{k}"].num_noise for k in (1, 5, 25, 100)] == [1, 5, 25, 100]
    rates = [float(tasks_of["ml"].rate(step)) for step in (0, nce.EPOCH, nce.STEPS)]
    want = [tasks_of["ml"].learning_rate * x for x in (1, 0.8, 0)]
    np.testing.assert_allclose(rates, want, rtol=1e-5)


def test_the_quick_version_learns_the_language(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    leave_copies(monkeypatch, tmp_path / "cut")
    with pytest.raises(SystemExit) as stop:
        cli.main(["reproduce", "nce", "--quick", "--run-dir", "run"])
    assert stop.value.code == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    rows = {(row["name"], row["quantity"]): row["ours"] for row in results["rows"]}
    divergence = "KL(language ‖ model) in test contexts"
    assert rows["ml", divergence] < 0.01
    assert rows["nce-25", divergence] < 0.02
    assert rows["nce-25", divergence] < rows["nce-1", divergence]
    assert abs(rows["nce-25", "test log Z, mean over contexts"]) < 0.05
    assert (tmp_path / "run" / "nce.png").read_bytes().startswith(PNG)
    assert changed_in_small("nce", "nce-1", tmp_path / "run", tmp_path / "cut") == []


def test_skip_gram_leaves_its_neighbors(tmp_path):
    task = Nearby(**SMALL)
    data, model, _ = begun(task)
    shown = {n: np.asarray(x) for n, x in task.pictures(jax.random.key(0), model, data).items()}
    (path,) = task.draw(tmp_path, data, [], shown, {})
    lines = path.read_text().splitlines()
    assert len(lines) == 2 + 4
    assert lines[2].startswith("| w0 | w")
    assert "w0" not in lines[2].split("|")[2]
    value = task.measure(jax.random.key(0), model, data)["valid_loss"]
    assert np.isfinite(value)
    assert set(look_up(model, model.rows(jnp.array([1]), jnp.array([2])))) == {"vectors", "outputs"}
    assert EXPERIMENTS["nce"] is nce.EXPERIMENT
