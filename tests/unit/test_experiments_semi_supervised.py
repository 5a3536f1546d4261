"""The semi-supervised experiment: its views, labels, bound, and a death in the middle."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import expectax as ex
from expectax.distributions import joint
from expectax.lab.errors import UsageError
from expectax.lab.experiments import _semi_supervised_task as task_of, semi_supervised
from expectax.lab.experiments._semi_supervised_views import Views
from expectax.lab.experiments._training_plan import Asked
from expectax.lab.loop import Run
from expectax.lab.run_folder import RunFolder
from expectax.models import LabelledMixture, labelled_mixture
from expectax.objectives import unlabelled_neg_elbo

from .deaths import changed_by_death, leave_copies

STILL = Views(turn=0.0, zoom=0.0, slant=0.0, move=0.0)


def moved(x):
    """x with every floating leaf moved at random, so that no start of zeros hides a fault."""
    leaves, tree = jax.tree.flatten(eqx.filter(x, eqx.is_inexact_array))
    keys = jax.random.split(jax.random.key(8), len(leaves))
    noisy = [a + 0.3 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    return eqx.combine(jax.tree.unflatten(tree, noisy), x)


@pytest.fixture(scope="module")
def mixture():
    mean = jax.random.uniform(jax.random.key(0), (9,))
    x = jax.random.bernoulli(jax.random.key(2), 0.4, (6, 9)).astype(jnp.float32)
    return moved(labelled_mixture(jax.random.key(1), mean, 3, 2, 5)), x


class Standardized(eqx.Module):
    """The same model with a standard normal style u = (z − μ_y) / σ_y, as M2 has it."""

    mixture: LabelledMixture

    def label_posterior(self, x):
        return self.mixture.label_posterior(x)

    def style_posterior(self, x, y):
        q = self.mixture.vae.posterior(x).base_dist
        scale = jnp.exp(y @ self.mixture.log_scales)
        loc = (q.loc - y @ self.mixture.locs) / scale
        return dist.Normal(loc, q.scale / scale).to_event(1)

    def log_label_prior(self, y):
        return -jnp.log(3.0) * jnp.sum(y, axis=-1)

    def style_prior(self):
        return dist.Normal(jnp.zeros(2), 1.0).to_event(1)

    def log_likelihood(self, x, y, z=None):
        style = y @ self.mixture.locs + jnp.exp(y @ self.mixture.log_scales) * z
        return self.mixture.vae.log_likelihood(x, style)


def test_the_bound_is_that_of_the_model_whose_decoder_sees_the_label(mixture):
    model, x = mixture
    draws = jax.random.split(jax.random.key(3), 20_000)

    def ours(key):
        bound = task_of.neg_elbo(key, model, x, model.label_posterior(x), ex.Enumerate())
        return jnp.mean(bound)

    def theirs(key):
        exact, style = ex.Enumerate(), ex.Pathwise()
        return jnp.mean(unlabelled_neg_elbo(key, Standardized(model), x, exact, style))

    one, other = (np.asarray(jax.jit(jax.vmap(f))(draws)) for f in (ours, theirs))
    error = np.sqrt((one.var(ddof=1) + other.var(ddof=1)) / len(draws))
    assert abs(one.mean() - other.mean()) <= 4 * error
    assert 4 * error <= 0.02 * one.std() * np.sqrt(len(x))


def test_the_label_moves_the_bound_by_the_exact_gradient(mixture):
    model, x = mixture
    costs = model.divergences(model.vae.posterior(x))
    logits = model.label_posterior(x).logits

    def by_hand(logits):
        q = jax.nn.softmax(logits)
        return jnp.sum(q * (costs + jnp.log(q) + jnp.log(3.0)))

    def ours(logits):
        q = ex.OneHotCategorical(logits=logits)
        return jnp.sum(task_of.neg_elbo(jax.random.key(0), model, x, q, ex.Enumerate()))

    np.testing.assert_allclose(jax.grad(ours)(logits), jax.grad(by_hand)(logits), atol=1e-4)


def test_a_view_shows_the_same_bits_somewhere_near():
    x = jnp.zeros((200, 81)).at[:, 4 * 9 + 6].set(1.0)
    key = jax.random.key(0)
    assert jnp.array_equal(STILL.draw(key, x), x)
    near = dataclasses.replace(STILL, move=2.0).draw(key, x).reshape(-1, 9, 9)
    assert jnp.all(near.sum((1, 2)) == 1)
    rows, columns = np.nonzero(near.any(0))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 6, 4, 8)
    mirrored = dataclasses.replace(STILL, mirror=True).draw(key, x)
    share = jnp.mean(mirrored[:, 4 * 9 + 2])
    assert 0.3 < share < 0.7
    assert jnp.all(mirrored[:, 4 * 9 + 6] == 1 - mirrored[:, 4 * 9 + 2])
    quarter = jnp.array([jnp.pi / 2, 0, 0, 0, 0])
    turned = dataclasses.replace(STILL, turn=float(quarter[0])).draw(key, x)
    assert jnp.sum(turned[:, 4 * 9 + 6]) < 60  # most are turned away


def test_as_many_labels_of_each_class_and_others_for_another_seed():
    labels = jax.random.randint(jax.random.key(0), (500,), 0, 10)
    first, second = (task_of.balanced_rows(jax.random.key(k), labels, 50) for k in (1, 2))
    assert len(set(first.tolist())) == 50
    assert jnp.all(jnp.bincount(labels[first], length=10) == 5)
    assert len(set(first.tolist()) & set(second.tolist())) < 25


def test_what_another_view_should_be_is_surer_balanced_and_fixed():
    probs = jnp.array([[0.6, 0.4], [0.9, 0.1]])
    np.testing.assert_allclose(task_of.wanted(probs, False)[0], [0.36 / 0.52, 0.16 / 0.52], 1e-5)
    balanced = task_of.wanted(probs, True)
    first = np.array([0.6 / 0.75, 0.4 / 0.25]) ** 2
    np.testing.assert_allclose(balanced[0], first / first.sum(), 1e-5)
    assert not jnp.any(jax.grad(lambda p: jnp.sum(task_of.wanted(p, True)[:, 0]))(probs))


def test_the_table_states_the_evaluations_of_its_estimators():
    q = joint(ex.OneHotCategorical(logits=jnp.zeros((2, 10))))
    for name, make in task_of.ESTIMATORS.items():
        count = make(1.0).evaluations(q)
        assert semi_supervised.EVALUATIONS[name] == f"{count.hard} + {count.auxiliary}"


def test_contenders_have_the_published_figures_and_each_ablation_lacks_more():
    plan = semi_supervised.plan(Asked(data="fashion", num_seeds=1))
    named = {contender.name: contender for contender in plan.contenders}
    assert named["direct-100"].published == {"test_accuracy": "67.2", "test_bound": "130.82"}
    assert not named["exact-100"].published
    lacks = [
        sum(
            getattr(named[f"exact-100{end}"].task, name) != value
            for name, value in semi_supervised.ABLATIONS["plain"].items()
        )
        for end in ("-agreeing", "-distorted", "-surprised", "-weighted", "-plain", "")
    ]
    assert lacks == [4, 3, 2, 1, 0, 5]


def test_a_death_in_the_middle_changes_no_bit(tmp_path, monkeypatch):
    task = task_of.FewLabels(
        data="digits", steps=30, batch_size=20, num_seeds=2, hidden=6, num_style=2, label_batch=10,
        estimator="direct",
    )  # fmt: skip
    run, whole, cut = Run(task), RunFolder(tmp_path / "it"), RunFolder(tmp_path / "cut" / "it")
    leave_copies(monkeypatch, tmp_path / "cut")
    whole.create(task)
    run.train(whole)
    assert changed_by_death(whole.path, cut.path, lambda: run.train(cut)) == []


def test_labels_that_cannot_be_had_are_refused():
    few = task_of.FewLabels(data="digits")
    for num_labels in (0, 55):
        with pytest.raises(UsageError, match="--num-labels"):
            dataclasses.replace(few, num_labels=num_labels).check()
    with pytest.raises(UsageError, match="a class of digits has no more"):
        dataclasses.replace(few, num_labels=5000).load()
