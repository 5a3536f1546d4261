"""The sequence-GAN experiment: its turns, its start, its oracle's files, and a run in small."""

import dataclasses
import io
import json
import os
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich.console

from expectax.lab.data import files, oracle as published, text
from expectax.lab.errors import UsageError
from expectax.lab.experiments import EXPERIMENTS, _seqgan_data, _seqgan_task, seqgan
from expectax.lab.experiments._training import only
from expectax.lab.experiments._training_plan import Asked
from expectax.models import lstm_generator
from expectax.testing import check_mean

from .deaths import changed_in_small, leave_copies

PNG = b"\x89PNG\r\n\x1a\n"
SMALL = seqgan.plan(Asked(quick=True)).contenders[1].task
"""The quick version's: what is compiled for it serves all tests."""


@pytest.fixture(scope="module", autouse=True)
def few_sequences():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_seqgan_data, "NUM_SEQUENCES", 400)
        yield


def console():
    return rich.console.Console(file=io.StringIO(), width=120)


def test_the_plan_has_every_contender_and_the_published_figures_where_they_belong():
    plan = seqgan.plan(Asked(data="oracle-5000"))
    named = {contender.name: contender for contender in plan.contenders}
    assert set(named) == set(_seqgan_task.LEARNERS)
    assert named["mle"].published == {"oracle_nll": "9.038"}
    assert named["mle"].task.steps == named["seqgan"].task.pretraining == 120 * 156
    assert not named["mle"].note
    assert named["seqgan"].note
    assert not any(c.published for c in seqgan.plan(Asked()).contenders)
    assert {c.evaluations for c in plan.contenders} == {"0 + 0", "1 + 304", "1 + 0"}
    assert [c.name for c in only(plan, ("seqgan-loo",)).contenders] == ["mle", "seqgan-loo"]
    assert [c.name for c in only(plan, ("mle",)).contenders] == ["mle"]
    with pytest.raises(UsageError, match="2,500 steps train the judge alone"):
        seqgan.plan(Asked(steps=2_500)).contenders[1].task.check()


def test_the_generator_has_its_turn_after_the_judges():
    task = dataclasses.replace(SMALL, warm_up=3, judge_steps=2)
    turns = [step for step in range(10) if task.generates(np.asarray(step))]
    assert turns == [3, 6, 9]


@pytest.fixture(scope="module")
def states():
    """Before the first step, after the judge's first steps, and after the generator's."""
    data = SMALL.load()
    program = _seqgan_task.train.program(SMALL)
    found = [program.init(data)]
    for num in (SMALL.warm_up, 1):
        found.append(program.advance(found[-1], data, num))
    return data, [state.seeds.learned for state in found]


def test_all_start_where_maximum_likelihood_ends_seed_by_seed(states):
    data, (learned, *_) = states
    plain = dataclasses.replace(data, start=None)
    program = _seqgan_task.train.program(SMALL.beginning)
    state = program.advance(program.init(plain), plain, SMALL.pretraining)
    ends = state.seeds.learned.generator
    assert jnp.any(ends.embedding[0] != ends.embedding[1])
    np.testing.assert_array_equal(learned.generator.embedding, ends.embedding)
    np.testing.assert_array_equal(learned.lagged.embedding, ends.embedding)


def test_the_judge_stays_in_the_generators_turn_and_the_generator_in_the_judges(states):
    _, at = states
    same = lambda a, b: all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))
    assert same(at[0].generator, at[1].generator)
    assert same(at[0].lagged, at[1].lagged)
    assert not same(at[0].judge, at[1].judge)
    assert same(at[1].judge, at[2].judge)
    moved = at[2].generator.embedding - at[1].generator.embedding
    assert np.any(moved)
    follows = at[2].lagged.embedding - at[1].lagged.embedding
    np.testing.assert_allclose(follows, 0.2 * moved, atol=1e-6)
    assert same(at[0].start, at[2].start)


@pytest.mark.parametrize("learner", [x for x in _seqgan_task.LEARNERS if x != "mle"])
def test_each_learner_moves_the_generator_and_a_constant_reward_does_not_on_average(
    states, learner
):
    learned = jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, states[1][0])
    task = dataclasses.replace(SMALL, learner=learner, num_draws=64)

    @eqx.filter_jit
    def slopes(learned):
        def slope(key):
            loss = lambda bias: task.generator_loss(eqx.tree_at(where, learned, bias), key)
            return jax.grad(loss)(where(learned))

        return jax.lax.map(slope, jax.random.split(jax.random.key(0), num))

    num = 500 if learner == "constant" else 1
    where = lambda learned: learned.generator.readout.bias
    found = np.asarray(slopes(learned))
    assert np.isfinite(found).all()
    assert np.abs(found).max() > 1e-4
    if learner == "constant":
        errors = found.std(0, ddof=1) / np.sqrt(num)
        assert np.all(np.abs(found.mean(0)) < 4.5 * errors)


def test_the_relaxed_draws_are_what_their_names_say():
    logits = jnp.broadcast_to(jnp.array([0.3, -0.5, 1.0]), (40_000, 3))
    probs = np.asarray(jax.nn.softmax(logits[0]))

    def first(choose):
        def draw(logits):
            found = choose(jax.random.key(0), logits)
            return jnp.sum(found[:, 0]), found

        slope, found = jax.jit(jax.grad(draw, has_aux=True))(logits)
        return np.asarray(found), np.asarray(slope)

    hard, slope = first(_seqgan_task.straight_through)
    assert np.unique(np.round(hard, 5)).tolist() == [0, 1]
    check_mean(hard, probs, scale=1.0)
    np.testing.assert_allclose(slope[0], probs[0] * (np.eye(3)[0] - probs), atol=1e-6)
    soft, slope = first(_seqgan_task.gumbel_softmax)
    np.testing.assert_allclose(soft.sum(-1), 1, atol=1e-5)
    winners = (soft == soft.max(-1, keepdims=True)).astype(float)
    check_mean(winners, probs, scale=1.0)
    np.testing.assert_allclose(slope[:, 0], 2 * soft[:, 0] * (1 - soft[:, 0]), atol=1e-5)


def test_the_experiment_in_small(tmp_path, monkeypatch):
    experiment = EXPERIMENTS["seqgan"]
    leave_copies(monkeypatch, tmp_path / "cut")
    experiment.run(tmp_path / "run", True, console())
    read = lambda name: json.loads((tmp_path / "run" / name).read_text())
    mle, curves = read("mle/results.json"), read("curves.json")["mle"]
    for figure in ("oracle_nll", "held_out_nll"):
        assert np.mean(curves[figure], axis=0)[0] - np.mean(mle[figure]) > 0.1
    # colder draws are likelier, and say less of what there is
    assert np.mean(mle["oracle_nll_at_0.7"]) < np.mean(mle["oracle_nll"])
    assert np.mean(mle["held_out_nll_at_0.7"]) > np.mean(mle["held_out_nll"])
    ours = read("seqgan-loo/results.json")
    began = np.mean(read("curves.json")["seqgan-loo"]["held_out_nll"], axis=0)[0]
    np.testing.assert_allclose(began, np.mean(mle["held_out_nll"]), rtol=1e-4)
    change = np.array(ours["oracle_nll"]) - np.array(mle["oracle_nll"])
    np.testing.assert_allclose(ours["oracle_nll_change"], change, atol=0.15)
    assert (tmp_path / "run" / "seqgan.png").read_bytes().startswith(PNG)
    quantities = {row["quantity"] for row in read("results.json")["rows"]}
    assert "NLL of held-out data under the model, drawn at temperature 0.7" in quantities
    assert changed_in_small("seqgan", "seqgan-loo", tmp_path / "run", tmp_path / "cut") == []
    # others start where maximum likelihood ends, whatever of it was trained before
    starts = [
        _seqgan_task.pretrained(SMALL.beginning, path)
        for path in (None, tmp_path / "cut" / "mle", tmp_path / "run" / "mle")
    ]
    for other in starts[1:]:
        assert all(map(np.array_equal, jax.tree.leaves(starts[0]), jax.tree.leaves(other)))


# real text


def test_characters_are_judged_by_the_trigrams_of_the_whole_text(tmp_path, monkeypatch):
    lines = {
        "train": b" no it was n't \n a cat sat on a mat \n",
        "test": b" a cat was on it all day \n",
    }
    known = {}
    for part, raw in lines.items():
        (tmp_path / f"ptb.{part}.txt").write_bytes(raw)
        known[part] = files.DataFile(f"ptb.{part}.txt", files.sha256_of(raw), len(raw))
    monkeypatch.setattr(text, "PTB", known)
    train, _, alphabet = text.characters_of_ptb(tmp_path)
    assert "".join(alphabet[i] for i in train) == "no it was n't\na cat sat on a mat"
    data = _seqgan_data.sequences("ptb-characters", tmp_path)
    assert data.train.shape == data.test.shape == (400, 20)
    assert data.num_tokens == len(alphabet)
    assert "".join(alphabet[i] for i in data.test[0]) == "a cat was on it all "
    number = {c: i for i, c in enumerate(alphabet)}
    found = np.exp(data.oracle.log_prob(jnp.array([number[c] for c in "a cat"])))
    tiny, size = _seqgan_data._SMOOTHING, len(alphabet)
    share = lambda count, total: (count + tiny) / (total + tiny * size)
    # of the letters, "a" 6 of 32; after "a" a blank twice of six times; after "a " c, not d; …
    want = [share(6, 32), share(2, 6), share(1, 2), share(1, 1), share(1, 1)]
    np.testing.assert_allclose(found, want, rtol=1e-5)


# the published oracle


def weights():
    """Arrays of the published names and shapes."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    arrays = {"embedding": draw(5000, 32), "W_out": draw(32, 5000), "b_out": draw(5000)}
    for gate in "ifoc":
        arrays |= {f"W_{gate}": draw(32, 32), f"U_{gate}": draw(32, 32), f"b_{gate}": draw(32)}
    return arrays


def test_the_published_weights_stand_where_their_equations_say(tmp_path, monkeypatch):
    arrays = weights()
    np.savez(tmp_path / "oracle_lstm.npz", **arrays)
    raw = (tmp_path / "oracle_lstm.npz").read_bytes()
    known = dataclasses.replace(published.ORACLE, sha256=files.sha256_of(raw))
    monkeypatch.setattr(published, "ORACLE", known)
    model = published.read_oracle(tmp_path)
    log_prob = jax.jit(lambda model, x: model.log_prob(x))
    sigma, tokens = lambda x: 1 / (1 + np.exp(-x)), [17, 4, 4999]
    h = c = np.zeros(32)
    want = []
    for before, token in zip([0, *tokens], tokens, strict=False):
        x = arrays["embedding"][before]
        sums = {g: x @ arrays[f"W_{g}"] + h @ arrays[f"U_{g}"] + arrays[f"b_{g}"] for g in "ifoc"}
        c = sigma(sums["f"]) * c + sigma(sums["i"]) * np.tanh(sums["c"])
        h = sigma(sums["o"]) * np.tanh(c)
        logits = h @ arrays["W_out"] + arrays["b_out"]
        want.append(logits[token] - np.log(np.exp(logits).sum()))
    np.testing.assert_allclose(log_prob(model, jnp.array(tokens)), want, rtol=1e-4)
    (tmp_path / "oracle_lstm.npz").write_bytes(raw[:-1])
    with pytest.raises(UsageError, match="truncated, altered"):
        published.read_oracle(tmp_path)


@pytest.mark.parametrize("raw", [b"", b"1 2\n", b"1 2 9\n", b"1 2 x\n", b"1 -2 0\n"])
def test_what_is_no_text_of_sequences_is_refused(raw):
    with pytest.raises(UsageError, match="numbers from 0 to 8"):
        published.parse_tokens(raw, pathlib.Path("x"), 3, 9)


def test_the_published_samples_are_as_likely_as_their_oracle_says():
    named = os.environ.get(files.DATA_DIR)
    beside = pathlib.Path(__file__).parents[2].parent / "shared" / "data"
    folder = pathlib.Path(named) if named else beside
    if not published.ORACLE.is_in(folder / "seqgan-oracle"):
        pytest.skip(f"the published oracle is not at hand: set {files.DATA_DIR}")
    model, samples = published.read_oracle(folder), published.read_samples(folder)
    assert samples.shape == (9984, 20)
    nll = jax.jit(lambda model, x: _seqgan_data.nll(model.log_prob, x))
    assert abs(nll(model, jnp.asarray(samples)) - 5.761) < 0.001
    drawn = jax.jit(lambda key: _seqgan_data.draws(key, model, 2_000))(jax.random.key(0))
    assert abs(nll(model, drawn) - 5.754) < 0.05


def test_a_generator_is_its_own_oracle():
    @jax.jit
    def both(key):
        model = lstm_generator(key, 50, 8, 20, scale=1.0)
        drawn = _seqgan_data.draws(key, model, 150)
        assert drawn.shape == (150, 20)
        return _seqgan_data.nll(model.log_prob, drawn), -jnp.mean(model.log_prob(drawn))

    got, want = both(jax.random.key(1))
    np.testing.assert_allclose(got, want, rtol=1e-5)
