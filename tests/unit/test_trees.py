"""Arithmetic on pytrees whose leading axes are (draws and) the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from expectax import _trees

RANDOM = np.random.default_rng(0)
ONE = {"a": RANDOM.normal(size=(2, 3)), "b": (RANDOM.normal(size=(2, 4, 5)),)}
TWO = jax.tree.map(lambda x: RANDOM.normal(size=x.shape), ONE)
WEIGHTS = np.array([2.0, -3.0])


def as_jax(tree):
    return jax.tree.map(jnp.asarray, tree)


@pytest.mark.parametrize("keep", [0, 1, 2, 3])
def test_sum_events_keeps_the_leading_axes(keep: int):
    x = RANDOM.normal(size=(2, 3, 4))
    expected = x.sum(axis=tuple(range(keep, 3)))
    out = _trees.sum_events(jnp.asarray(x), keep)
    assert out.shape == (2, 3, 4)[:keep]
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_expand_to_appends_axes_and_scale_aligns_on_the_left():
    assert _trees.expand_to(jnp.zeros(2), jnp.zeros((2, 4, 5))).shape == (2, 1, 1)
    assert _trees.expand_to(jnp.zeros(()), jnp.zeros((2, 4))).shape == (1, 1)
    scaled = _trees.scale(jnp.asarray(WEIGHTS), as_jax(ONE))
    np.testing.assert_allclose(scaled["a"], WEIGHTS[:, None] * ONE["a"], rtol=1e-6)
    np.testing.assert_allclose(scaled["b"][0], WEIGHTS[:, None, None] * ONE["b"][0], rtol=1e-6)


def test_dot_is_the_inner_product_of_each_batch_element():
    out = _trees.dot(as_jax(ONE), as_jax(TWO), 1)
    by_hand = [
        sum(np.sum(x[i] * y[i]) for x, y in zip(*map(jax.tree.leaves, (ONE, TWO)), strict=True))
        for i in range(2)
    ]
    assert out.shape == (2,)
    np.testing.assert_allclose(out, by_hand, rtol=1e-5)
    np.testing.assert_allclose(_trees.dot(as_jax(ONE), as_jax(TWO), 0), sum(by_hand), rtol=1e-5)


def test_sum_leaves_adds_every_leaf():
    tree = (jnp.array([1.0, 2.0]), {"x": jnp.array(10.0)}, [jnp.array([100.0, 200.0])])
    np.testing.assert_array_equal(_trees.sum_leaves(tree), [111.0, 212.0])
    np.testing.assert_array_equal(_trees.sum_leaves({"only": jnp.array([5.0])}), [5.0])


def test_stacks_of_draws():
    tree = as_jax(ONE)
    stack = _trees.add_axis(tree)
    assert jax.tree.map(jnp.shape, stack) == {"a": (1, 2, 3), "b": ((1, 2, 4, 5),)}
    back = _trees.first(stack)
    jax.tree.map(np.testing.assert_array_equal, back, tree)

    both = _trees.concatenate(stack, _trees.add_axis(as_jax(TWO)))
    assert both["a"].shape == (2, 2, 3)
    mean = _trees.mean_draws(both)
    by_hand = jax.tree.map(lambda x, y: (x + y) / 2, ONE, TWO)
    jax.tree.map(lambda m, h: np.testing.assert_allclose(m, h, rtol=1e-5), mean, by_hand)


def test_size_counts_arrays_and_shapes():
    assert _trees.size_of(as_jax(ONE)) == 6 + 40
    assert _trees.size_of((jax.ShapeDtypeStruct((3, 2), jnp.float32), jnp.zeros(()))) == 7
    assert _trees.size_of(()) == 0
