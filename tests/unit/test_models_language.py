"""Models of words against loops over words, and the rows that they look up."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import expectax as ex
from expectax.models import LogBilinear, log_bilinear, look_up, nearest_words, skip_gram

pytestmark = pytest.mark.usefixtures("float64")

V, D = 7, 3
CONTEXT = np.array([[1, 4], [4, 4], [0, 6], [2, 1], [5, 3]])
WORDS = np.array([[6, 0, 4, 4, 2], [1, 1, 3, 4, 0]])


def model(full):
    rng = np.random.default_rng(3)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape))
    positions = draw(2, D, D) if full else draw(2, D)
    return LogBilinear(draw(V, D), draw(V, D), draw(V), positions)


def written_out(model, context, word):
    """s(w; c), one word at a time."""
    matrices = [c if c.ndim == 2 else np.diag(c) for c in np.asarray(model.positions)]
    rows = np.asarray(model.context_vectors)
    expected = sum(c @ rows[w] for c, w in zip(matrices, context, strict=True))
    return expected @ np.asarray(model.word_vectors)[word] + float(model.biases[word])


@pytest.mark.parametrize("full", [False, True])
def test_scores_are_those_of_the_formula(full):
    made = model(full)
    every = [[written_out(made, c, w) for w in range(V)] for c in CONTEXT]
    np.testing.assert_allclose(made.all_scores(CONTEXT), every, rtol=1e-12)
    np.testing.assert_allclose(made.all_scores(CONTEXT[0]), every[0], rtol=1e-12)
    want = np.take_along_axis(np.array(every).T, WORDS, axis=0)
    np.testing.assert_allclose(made.scores(CONTEXT, WORDS), want, rtol=1e-12)
    np.testing.assert_allclose(made.scores(CONTEXT, WORDS[0]), want[0], rtol=1e-12)
    log_z = np.log(np.exp(every).sum(1))
    np.testing.assert_allclose(made.log_normalizer(CONTEXT), log_z, rtol=1e-12)


@pytest.mark.parametrize("made", [model(False), model(True), "skip-gram"], ids=str)
def test_the_gradient_in_the_rows_is_that_in_the_tables(made):
    if made == "skip-gram":
        context = CONTEXT[:, 0]
        made = skip_gram(jax.random.key(0), V, D)
        made = dataclasses.replace(made, outputs=model(False).word_vectors)
        want = np.einsum("bd,kbd->kb", made.vectors[context], made.outputs[WORDS])
        np.testing.assert_allclose(made.scores(context, WORDS), want, rtol=1e-12)
    else:
        context = CONTEXT
    weights = np.random.default_rng(1).normal(size=WORDS.shape)
    dense = jax.grad(lambda m: jnp.sum(weights * m.scores(context, WORDS)))(made)
    rows = made.rows(context, WORDS)
    loss = lambda found: jnp.sum(weights * made.score_rows(found))
    sparse = jax.grad(loss)(look_up(made, rows))
    assert set(rows) == {field.name for field in dataclasses.fields(made)}
    for name, row in rows.items():
        summed = np.zeros_like(getattr(made, name))
        np.add.at(summed, row, sparse[name])
        np.testing.assert_allclose(summed, getattr(dense, name), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("diagonal", [True, False])
def test_a_model_starts_as_the_unigram(diagonal):
    unigram = jnp.array([0.5, 0.3, 0.1, 0.1])
    made = log_bilinear(jax.random.key(0), unigram, 5, 3, diagonal=diagonal, scale=1e-9)
    assert made.positions.shape == ((3, 5) if diagonal else (3, 5, 5))
    context = jnp.array([0, 3, 1])
    np.testing.assert_allclose(jnp.exp(made.all_scores(context)), unigram, rtol=1e-6)
    context_vectors = made.context_vectors[context].sum(0)
    np.testing.assert_allclose(made.predicted(context), context_vectors, rtol=1e-12)
    with pytest.raises(ex.InvalidArgumentError, match="probability zero"):
        log_bilinear(jax.random.key(0), unigram.at[1].set(0.0))


def test_the_nearest_words_are_those_of_the_smallest_angle():
    vectors = np.random.default_rng(0).normal(size=(40, 4)) * np.arange(1, 41)[:, None]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    words, cosines = nearest_words(jnp.asarray(vectors), jnp.array([7, 0]), 5)
    for word, found, angle in zip((7, 0), words, cosines, strict=True):
        order = [i for i in np.argsort(-unit @ unit[word]) if i != word][:5]
        assert found.tolist() == order
        np.testing.assert_allclose(angle, (unit @ unit[word])[order], rtol=1e-12)
