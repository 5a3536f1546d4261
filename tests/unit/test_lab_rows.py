"""Row-wise Adagrad: on the rows that a step touches, beside the same over whole tables."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import jaxprs_in_params

from expectax.lab.rows import begin, descend, row_adagrad
from expectax.models import LogBilinear, look_up

pytestmark = pytest.mark.usefixtures("float64")

V, D = 12, 3


def model(num_words=V):
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape))
    return LogBilinear(draw(num_words, D), draw(num_words, D), draw(num_words), draw(2, D))


def steps(made, rows, rate=0.3):
    """Two steps on the rows."""
    sums = begin(made, 0.2)
    loss = lambda found: jnp.sum(jnp.sin(made.score_rows(found)))
    for _ in range(2):
        gradients = jax.grad(loss)(look_up(made, rows))
        made, sums = descend(made, sums, rows, gradients, rate)
    return made, sums


def test_rows_that_are_met_once_are_learned_as_in_whole_tables():
    made = model()
    context, words = jnp.array([[0, 3], [5, 1]]), jnp.array([[2, 4], [6, 11], [7, 3]])
    found, sums = steps(made, made.rows(context, words))
    rule = row_adagrad(0.3, start=0.2)
    dense, state = made, rule.init(made)
    loss = lambda m: jnp.sum(jnp.sin(m.scores(context, words)))
    for _ in range(2):
        updates, state = rule.update(jax.grad(loss)(dense), state, dense)
        dense = optax.apply_updates(dense, updates)
    for name in sums:
        got, want = getattr(found, name), getattr(dense, name)
        np.testing.assert_allclose(got, want, rtol=1e-10)
        np.testing.assert_allclose(sums[name], getattr(state[0], name), rtol=1e-10)
        assert np.any(got != getattr(made, name))
    same = np.all(found.word_vectors == made.word_vectors, axis=1)
    assert np.flatnonzero(~same).tolist() == [2, 3, 4, 6, 7, 11]


def test_a_row_that_is_met_twice_has_both_gradients():
    """Written out: the squares are summed first, each as one of its own, then both are taken."""
    made = model()
    rows = {"word_vectors": jnp.array([4, 1, 4]), "biases": jnp.array([4, 1, 4])}
    gradient = {
        "word_vectors": jnp.array([[1.0, 0.0, 2.0], [3.0, 1.0, 1.0], [-1.0, 0.5, 0.0]]),
        "biases": jnp.array([0.5, 2.0, -2.0]),
    }
    after, sums = descend(made, begin(made, 0.2), rows, gradient, 0.3)
    total = 0.2 + 5 / 3 + 1.25 / 3
    moved = 0.3 * np.array([0.0, 0.5, 2.0]) / np.sqrt(total)
    np.testing.assert_allclose(made.word_vectors[4] - after.word_vectors[4], moved, rtol=1e-10)
    np.testing.assert_allclose(
        sums["word_vectors"][jnp.array([4, 1, 0])], [total, 0.2 + 11 / 3, 0.2]
    )
    np.testing.assert_allclose(
        made.biases[4] - after.biases[4], 0.3 * -1.5 / np.sqrt(0.2 + 4.25), rtol=1e-10
    )
    assert after.positions is made.positions


def large(program, *args, least):
    """The names of the operations that make something of at least so many numbers."""
    found = []

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            name = equation.primitive.name
            nothing = name == "convert_element_type" and equation.invars[0].aval.dtype == float
            if name in ("jit", "pjit"):
                for sub in jaxprs_in_params(equation.params):
                    walk(sub)
            elif not nothing and any(out.aval.size >= least for out in equation.outvars):
                found.append(name)

    walk(jax.make_jaxpr(program)(*args).jaxpr)
    return found


def test_nothing_but_the_tables_themselves_is_as_long_as_the_vocabulary():
    """A scatter in place: three tables and three sums. The gradient of tables is another matter."""
    made = model(5000)
    rows = made.rows(jnp.array([[0, 3], [5, 1]]), jnp.array([[2, 4], [6, 11]]))

    def sparse(made, sums):
        gradients = jax.grad(lambda found: jnp.sum(made.score_rows(found)))(look_up(made, rows))
        return descend(made, sums, rows, gradients, 0.1)

    assert large(sparse, made, begin(made), least=5000) == ["scatter-add"] * 6
    dense = lambda m: jax.grad(lambda m: jnp.sum(m.scores(jnp.array([1, 2]), jnp.array(3))))(m)
    assert "broadcast_in_dim" in large(dense, made, least=5000)


def test_a_row_without_gradient_stays():
    rule = row_adagrad(optax.constant_schedule(0.5), start=0.0)
    table = jnp.ones((3, 2))
    gradient = jnp.array([[0.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    updates, _ = rule.update(gradient, rule.init(table))
    np.testing.assert_allclose(updates, [[0, 0], [-0.5, -0.5], [0, -np.sqrt(0.5)]], rtol=1e-10)


def test_every_table_of_a_model_has_its_sums():
    made = model()
    shapes = {name: len(x) for name, x in begin(made).items()}
    assert shapes == {f.name: len(getattr(made, f.name)) for f in dataclasses.fields(made)}
