"""Experiments that train: contenders, deaths, tables that say what was not done, and the VAEs."""

import dataclasses
import io
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rich.console

import expectax as ex
from expectax import cli
from expectax.distributions import joint
from expectax.lab.errors import UsageError
from expectax.lab.estimators import RECIPES
from expectax.lab.experiments import (
    EXPERIMENTS,
    _direct_optimization,
    _training,
    direct_vae,
    disarm_vae,
    reinmax,
    tailored,
)
from expectax.lab.experiments._training import TrainingExperiment
from expectax.lab.experiments._training_plan import Asked, Contender, Plan
from expectax.lab.experiments._training_plot import Panel
from expectax.lab.experiments._training_table import judge
from expectax.lab.experiments._vae_tasks import AbstractPictureTask
from expectax.lab.journal import Journal
from expectax.lab.report.read import read_blocks
from expectax.lab.task import AbstractTask
from expectax.models import categorical_vae, linear_vae
from expectax.objectives import neg_elbo

from .deaths import changed_in_small, leave_copies

PNG = b"\x89PNG\r\n\x1a\n"


@dataclasses.dataclass(frozen=True)
class Mean(AbstractTask):
    """The mean of numbers, by noisy steps."""

    rate: float = 0.1
    steps: int = 100
    batch_size: int = 4
    seed: int = 0
    num_seeds: int = 3

    @property
    def every(self):
        return max(1, self.steps // 10)

    def load(self):
        return jnp.linspace(-1, 3, 20)

    def num_rows(self, data):
        return len(data)

    def batch(self, key, data, rows):
        return data[rows] + 0.1 * jax.random.normal(key, rows.shape)

    def init(self, key, data):
        del data
        return jax.random.normal(key)

    def objective(self, learned, batch, key, step):
        del key, step
        return jnp.mean((batch - learned) ** 2)

    def optimizers(self):
        return {"": optax.sgd(self.rate)}

    def measure(self, key, learned, data):
        del key
        return {"mean": learned, "error": (learned - jnp.mean(data)) ** 2}

    def unit(self, name):
        return "inches" if name == "mean" else ""


def plan(asked: Asked) -> Plan:
    task = Mean(steps=asked.choose("steps", 100, 10))
    contenders = (
        Contender("slow", task, "1 + 0", {"mean": "1.00"}),
        Contender("fast", dataclasses.replace(task, rate=0.3), "1 + 0", {"mean": "3.00"}),
    )
    panels = (Panel("error", "error", log=True), Panel("mean", "mean", clock=True))
    return Plan("The mean.", contenders, ("mean", "error"), panels, 100, tolerance=0.3)


EXPERIMENT = TrainingExperiment("mean", "a mean", plan)


def console() -> rich.console.Console:
    return rich.console.Console(record=True, width=150, file=io.StringIO())


def numbers(folder):
    """All that must not depend on deaths."""
    names = ("metrics.jsonl", "results.json", "config.json")
    return {(c, n): (folder / c / n).read_bytes() for c in ("slow", "fast") for n in names}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mean") / "run"
    EXPERIMENT.run(folder, False, console())
    return folder


def test_each_contender_has_its_rows_and_the_picture_its_curves(done):
    results = json.loads((done / "results.json").read_text())
    assert [(row["name"], row["quantity"]) for row in results["rows"]] == [
        *(("slow", "mean"), ("fast", "mean"), ("slow", "error"), ("fast", "error")),
        *(("slow", "ms a step and seed"), ("fast", "ms a step and seed")),
    ]
    assert [row["verdict"]["holds"] for row in results["rows"][:2]] == [True, False]
    assert results["rows"][0]["ours"] == pytest.approx(1.0, abs=0.3)
    assert results["rows"][0]["group"] == "mean, inches"
    assert results["settings"]["tasks"]["fast"]["rate"] == 0.3
    curves = json.loads((done / "curves.json").read_text())
    assert np.shape(curves["slow"]["mean"]) == (3, 11)
    assert len(curves["slow"]["seconds"]) == len(curves["slow"]["step"]) == 11
    assert (done / "mean.png").read_bytes().startswith(PNG)
    assert "| slow | 1 + 0 | mean | 1.00 |" in (done / "table.md").read_text()


@pytest.mark.parametrize("deaths", [(3, 7), (13,)])
def test_a_death_changes_no_bit(done, tmp_path, monkeypatch, deaths):
    kept = []
    keep = Journal.keep

    def dying(self, step, state):
        keep(self, step, state)
        kept.append(step)
        if len(kept) in deaths:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "keep", dying)
    again = dataclasses.replace(EXPERIMENT, resume=True)
    for _ in deaths:
        with pytest.raises(KeyboardInterrupt):
            again.run(tmp_path / "run", False, console())
    again.run(tmp_path / "run", False, console())
    assert len(kept) == 20  # no point twice
    assert numbers(tmp_path / "run") == numbers(done)
    again.run(tmp_path / "run", False, console())  # all is there: nothing is trained
    assert len(kept) == 20


def test_contenders_one_by_one_come_to_the_same(done, tmp_path):
    for only in ("fast",), ("slow",), ():
        again = tailored(EXPERIMENT, {"only": only}, resume=True, tensorboard=only == ("slow",))
        again.run(tmp_path / "run", False, console())
        # what was trained before stays in the table
        curves = json.loads((tmp_path / "run" / "curves.json").read_text())
        assert set(curves) == ({"fast"} if only == ("fast",) else {"fast", "slow"})
    assert numbers(tmp_path / "run") == numbers(done)
    boards = [path.parent.name for path in tmp_path.glob("run/*/tensorboard")]
    assert boards == ["slow"]


def test_what_cannot_work_is_refused_before_anything_is_written(done, tmp_path):
    asked = lambda **given: dataclasses.replace(EXPERIMENT, asked=Asked(**given))
    for experiment, word in (
        (asked(only=("slower",)), "slower"),
        (asked(steps=0), "--steps"),
        (asked(num_seeds=-1), "--num-seeds"),
        (tailored(EXPERIMENTS["disarm-vae"], {"data": "nltcs"}), "nltcs"),
    ):
        with pytest.raises(UsageError, match=word):
            experiment.run(tmp_path / "run", True, console())
        assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="not empty"):
        EXPERIMENT.run(done, False, console())
    before = numbers(done)
    with pytest.raises(UsageError, match="as it was begun"):
        dataclasses.replace(asked(steps=50), resume=True).run(done, False, console())
    assert numbers(done) == before
    with pytest.raises(UsageError, match="trains no model"):
        tailored(EXPERIMENTS["one-bit"], {"steps": 3})


def test_another_run_in_a_contenders_folder_is_refused(done):
    other = Contender("slow", Mean(rate=0.2), "1 + 0")
    with pytest.raises(UsageError, match="another run"):
        _training.train(other, done / "slow", console())


def test_a_verdict_says_what_was_not_done():
    whole = plan(Asked())
    full, short = whole.contenders[0], plan(Asked(steps=40)).contenders[0]
    near, wide = np.array([1.01, 1.02, 1.03]), np.array([0.0, 1.0, 2.0])
    assert judge(near, "1.00", whole, full).holds is True
    assert "DISAGREES within 0.3: −0.98" in judge(near, "2.00", whole, full).text
    assert judge(near, "2.00", whole, full).holds is False
    assert judge(wide, "1.00", whole, full).holds is False
    assert "underpowered" in judge(wide, "1.00", whole, full).text
    unjudged = {
        "40 of 100 steps (+1.02)": judge(near, "0.00", whole, short),
        "other split": judge(near, "1.00", whole, dataclasses.replace(full, note="other split")),
        "single seed": judge(near[:1], "1.00", whole, full),
        "": judge(near, "", whole, full),
    }
    for text, verdict in unjudged.items():
        assert verdict.holds is None
        assert text in verdict.text


def test_the_command_line_hands_over_what_was_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(EXPERIMENTS, "mean", EXPERIMENT)

    def run(*argv):
        with pytest.raises(SystemExit) as stop:
            cli.main(["reproduce", *argv])
        return stop.value.code

    assert run("mean", "--run-dir", "here", "--steps", "20", "--only", "fast") == 0
    assert run("mean", "--run-dir", "here", "--steps", "20", "--only", "fast") == 2
    assert run("mean", "--run-dir", "here", "--steps", "20", "--resume") == 0
    assert run("mean", "--run-dir", "here", "--steps", "30", "--resume") == 2
    assert run("one-bit", "--steps", "20") == 2
    settings = json.loads((tmp_path / "here" / "results.json").read_text())["settings"]
    assert settings["steps"] == {"slow": 20, "fast": 20}


def test_curves_are_drawn_by_evaluations_where_every_step_has_as_many():
    counted = set()
    for name, experiment in EXPERIMENTS.items():
        if isinstance(experiment, TrainingExperiment):
            for quick in (True, False):
                plan = experiment.plan(Asked(quick=quick))
                counted |= {name} if plan.counted else set()
                assert not plan.counted or all(c.per_datum > 0 for c in plan.contenders)
    trained = {n for n, e in EXPERIMENTS.items() if isinstance(e, TrainingExperiment)}
    # turns of a judge, words or steps of Gibbs, several expectations, layers within layers
    assert trained - counted == {"seqgan", "nce", "rbm", "dbm", "semi-supervised", "rebar-vae"}


# binary VAEs


def test_the_evaluations_that_the_table_states():
    q = joint(linear_vae(jax.random.key(0), jnp.full(9, 0.3), 4).posterior(jnp.zeros((2, 9))))
    for name in ("leave-one-out", "arm", "disarm"):
        recipe = RECIPES[name]
        count = recipe.estimator(**recipe.options).evaluations(q)
        assert disarm_vae.EVALUATIONS[name] == f"{count.hard} + {count.auxiliary}"
    count = RECIPES["relax"].estimator(jnp.sum).evaluations(q)
    # the relaxed cost is f's own, which RELAX cannot know
    assert disarm_vae.EVALUATIONS["relax"] == f"{count.hard} + {count.auxiliary + 1}"


def test_the_relaxed_cost_in_relax_leaves_no_bias_and_is_learned():
    task = disarm_vae.F2(estimator="relax", data="digits", num_latents=3, batch_size=2)
    data = task.load()
    learned = task.init(jax.random.key(1), data)
    last = lambda learned: learned.estimator.level.network.layers[-1].weight
    learned = eqx.tree_at(last, learned, 0.02 * jax.random.normal(jax.random.key(5), (1, 100)))
    x = task.batch(jax.random.key(2), data, jnp.array([3, 8]))

    where = lambda model: model.encoder.layers[-1].bias

    def exact(bias):
        model = eqx.tree_at(where, learned.model, bias)
        log_joint = lambda z: model.log_joint(x, z)
        q = model.posterior(x)
        return jnp.mean(neg_elbo(jax.random.key(0), q, log_joint, ex.Enumerate()))

    def ours(bias, key):
        moved = dataclasses.replace(learned, model=eqx.tree_at(where, learned.model, bias))
        return task.objective(moved, x, key, jnp.zeros((), int))

    bias = where(learned.model)
    report = ex.check_unbiased(
        jax.random.key(3), ours, bias, reference=jax.grad(exact), num_draws=80_000
    )
    report.raise_unless_unbiased()
    gradient = jax.grad(lambda e: task.objective(
        dataclasses.replace(learned, estimator=e), x, jax.random.key(4), jnp.zeros((), int)
    ))(learned.estimator)  # fmt: skip
    assert gradient.scale != 0
    assert gradient.log_temperature != 0


@pytest.mark.parametrize(
    ("name", "contender", "figure"),
    [
        ("disarm-vae", "disarm", "test_elbo"),
        ("categorical-vae", "leave-one-out", "test_elbo"),
        ("reinmax", "reinmax", "test_elbo"),
        ("direct-vae", "exact", "test_bound"),
        ("semi-supervised", "exact-100", "test_bound"),
    ],
)
def test_an_experiment_in_small(tmp_path, monkeypatch, name, contender, figure):
    only = (contender, "direct") if name == "direct-vae" else (contender,)
    experiment = dataclasses.replace(EXPERIMENTS[name], asked=Asked(only=only))
    leave_copies(monkeypatch, tmp_path / "cut")
    experiment.run(tmp_path / "run", True, console())
    figures = json.loads((tmp_path / "run" / contender / "results.json").read_text())
    curves = json.loads((tmp_path / "run" / "curves.json").read_text())
    better = np.mean(figures[figure]) - np.mean(curves[contender][figure], axis=0)[0]
    assert (better if figure == "test_elbo" else -better) > 0.1
    assert (tmp_path / "run" / f"{name}.png").read_bytes().startswith(PNG)
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    quantities = {row["quantity"] for row in rows}
    if name == "reinmax":
        assert "relative bias of straight-through, at these parameters" in quantities
    if name == "direct-vae":
        assert {"codes in use", "largest of the seeds"} <= quantities
    if name != "semi-supervised":  # whose own tests say so
        assert changed_in_small(name, only[-1], tmp_path / "run", tmp_path / "cut") == []


# pictures

PICTURED = [
    (name, contender)
    for name, experiment in EXPERIMENTS.items()
    if isinstance(experiment, TrainingExperiment)
    for contender in experiment.plan(Asked(quick=True)).contenders[-1:]
    if isinstance(contender.task, AbstractPictureTask) and name != "hard-attention"
]
"""The last contenders of all but the one that draws for itself where it looks."""


@pytest.mark.parametrize("contender", [c for _, c in PICTURED], ids=[name for name, _ in PICTURED])
def test_every_model_of_pictures_shows_what_it_draws(contender):
    task = contender.task
    data = task.load()
    of_key = lambda key: task.pictures(key, task.init(key, data), data)
    found = eqx.filter_eval_shape(of_key, jax.random.key(0))
    assert len(task.blocks) >= 3
    for block in task.blocks:
        assert found[block].shape[-1] == data.mean.size


def test_pictures_are_drawn_in_their_order_under_the_figure_of_test_pictures(tmp_path):
    task = direct_vae.plan(Asked(quick=True)).contenders[0].task
    data = task.load()
    shown = {
        name: np.full((4, data.mean.size), shade)
        for name, shade in (("data", 0.0), ("prior", 1.0), ("reconstructions", 0.4))
    }
    results = {"train_bound": [1.0], "test_bound": [2.0], "codes_in_use": [3.0]}
    (path,) = task.draw(tmp_path, data, [], shown, results)
    assert path.read_bytes().startswith(PNG)
    blocks = read_blocks(path.with_suffix(".npz"))
    assert [(title, float(x.mean().round(2))) for title, x in blocks.items()] == [
        ("test pictures", 0.0),
        ("reconstructions", 0.4),
        ("what each code decodes to", 1.0),
    ]


# one-hot latents


@pytest.fixture(scope="module")
def one_code():
    mean = jax.random.uniform(jax.random.key(0), (9,))
    model = categorical_vae(jax.random.key(1), mean, 1, 4, (5,))
    return model, jax.random.bernoulli(jax.random.key(2), 0.4, (6, 9)).astype(jnp.float32)


def test_the_table_of_costs_is_the_likelihood_at_every_code(one_code):
    model, x = one_code
    table = direct_vae.costs_of_codes(model, x)
    each = [-model.log_likelihood(x, jnp.broadcast_to(z, (6, 1, 4))) for z in jnp.eye(4)]
    np.testing.assert_allclose(table, jnp.stack(each, -1), rtol=1e-5)


def test_the_exact_step_and_bound_are_those_of_the_enumerated_elbo(one_code):
    model, x = one_code
    task = direct_vae.OneCode(estimator="exact", num_codes=4, first_steps=10, first_weight=20.0)

    def enumerated(model):
        # the cost holds log q, whose own derivative is zero in the mean
        log_joint = lambda z: model.log_likelihood(x, z) + model.log_prior(z)
        key = jax.random.key(0)
        return jnp.mean(neg_elbo(key, model.posterior(x), log_joint, ex.Enumerate()))

    ours = lambda model, step: task.objective(model, x, jax.random.key(0), jnp.asarray(step))
    arrays = lambda tree: jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))
    theirs = eqx.filter_grad(enumerated)(model)
    found = eqx.filter_grad(ours)(model, 10)
    kept = lambda grad: arrays((grad.encoder, grad.decoder))  # the prior is held uniform
    for one, other in zip(kept(found), kept(theirs), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    assert not np.any(found.prior_logits)
    bound = direct_vae.bounds(jax.random.key(0), model, x[:3], x)
    np.testing.assert_allclose(bound["test_bound"], enumerated(model), rtol=1e-5)
    logits = model.posterior(x).base_dist.logits[:, 0]
    used = {int(k) for k in jnp.argmax(logits, axis=-1)}
    assert bound["codes_in_use"] == len(used)
    more = ours(model, 0) - ours(model, 10)
    divergence = jnp.mean(_direct_optimization.kl_to_uniform(logits))
    np.testing.assert_allclose(more, 19 * divergence, rtol=1e-2)


def test_epsilon_is_renewed_every_five_hundred_steps():
    steps = jnp.array([0, 499, 500, 1_000_000])
    np.testing.assert_allclose(
        _direct_optimization.annealed(steps), [1, 1, np.exp(-0.005), 0.1], rtol=1e-6
    )


def test_the_bias_is_that_of_the_estimator(monkeypatch):
    task = reinmax.FourByEight(data="digits", num_latents=2, num_categories=3, hidden=(5,))
    data = task.load()
    model = task.init(jax.random.key(0), data).model
    moved = lambda x: x + 0.3 * jax.random.normal(jax.random.key(x.size), x.shape)
    model = eqx.tree_at(lambda m: m.decoder.layers, model, replace_fn=lambda layers: jax.tree.map(
        moved, layers))  # fmt: skip
    known = {"exact": ex.Enumerate, "fair": lambda: ex.LeaveOneOut(8), "st": ex.StraightThrough}
    monkeypatch.setattr(reinmax, "ESTIMATORS", known)
    found = {n: float(x) for n, x in reinmax.biases(jax.random.key(1), model, data).items()}
    assert found["bias_of_exact"] < 1e-4
    assert found["bias_of_fair"] < 0.03
    assert found["bias_of_st"] > 0.1
