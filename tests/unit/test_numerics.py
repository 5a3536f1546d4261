"""The elementwise functions, above all where everyone starts: at exactly zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from expectax._numerics import (
    FLOOR,
    finite_logits,
    log_odds,
    log_probability,
    softplus,
    working_dtype,
)

POINTS = np.array([-1e4, -90.0, -20.0, -1.5, -1e-3, -0.0, 0.0, 1e-3, 0.7, 15.0, 88.0, 1e4])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softplus_and_its_derivatives_match_scipy(dtype: str):
    with jax.enable_x64(True):
        x = jnp.asarray(POINTS, dtype)
        value = softplus(x)
        slope = jax.vmap(jax.grad(softplus))(x)
        curvature = jax.vmap(jax.grad(jax.grad(softplus)))(x)
    assert value.dtype == slope.dtype == curvature.dtype == dtype
    limits = np.finfo(dtype)
    p = special.expit(POINTS)
    # the value is right to a few units in its own last place, also deep in the tail, where a
    # single-precision exp underflows; the derivatives are differences, right to those of one
    expected = np.logaddexp(0.0, POINTS)
    np.testing.assert_allclose(value, expected, rtol=16 * limits.eps, atol=limits.tiny)
    np.testing.assert_allclose(slope, p, rtol=0, atol=4 * limits.eps)
    np.testing.assert_allclose(curvature, p * special.expit(-POINTS), rtol=0, atol=4 * limits.eps)


def test_softplus_at_zero_is_right_to_second_order_where_the_usual_form_is_not():
    usual = lambda x: jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))
    for zero in (0.0, -0.0):
        assert jax.grad(softplus)(zero) == 0.5
        assert jax.grad(jax.grad(softplus))(zero) == 0.25
        assert jax.jvp(jax.grad(softplus), (zero,), (1.0,))[1] == 0.25
    assert jax.grad(usual)(0.0) != 0.5  # so the line above can fail


def test_infinite_logits_become_finite_and_receive_no_gradient():
    x = jnp.array([-jnp.inf, -3.0, 0.0, 2.0, jnp.inf])
    np.testing.assert_array_equal(finite_logits(x), [-FLOOR, -3.0, 0.0, 2.0, FLOOR])
    gradient = jax.grad(lambda x: jnp.sum(finite_logits(x) ** 2))(x)
    np.testing.assert_array_equal(gradient, [0.0, -6.0, 0.0, 4.0, 0.0])


def test_certain_probabilities_have_infinite_logits_and_no_gradient():
    p = jnp.array([0.0, 1e-6, 0.3, 0.5, 1.0])
    inside = np.asarray(p)[1:-1].astype(float)
    np.testing.assert_array_equal(log_odds(p)[jnp.array([0, 4])], [-np.inf, np.inf])
    np.testing.assert_allclose(log_odds(p)[1:-1], special.logit(inside), rtol=1e-6, atol=1e-7)
    slope = jax.vmap(jax.grad(log_odds))(p)
    np.testing.assert_array_equal(slope[jnp.array([0, 4])], [0.0, 0.0])
    np.testing.assert_allclose(slope[1:-1], 1 / (inside * (1 - inside)), rtol=1e-6)

    np.testing.assert_array_equal(log_probability(p)[jnp.array([0, 4])], [-np.inf, 0.0])
    np.testing.assert_allclose(log_probability(p)[1:-1], np.log(inside), rtol=1e-6)
    slope = jax.vmap(jax.grad(log_probability))(p)
    np.testing.assert_allclose(slope, [0.0, *(1 / inside), 1.0], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_the_floor_stands_for_impossible_in_every_type(dtype: str):
    with jax.enable_x64(True):
        masked = jnp.asarray(-FLOOR, dtype)
        assert jnp.exp(masked) == 0
        assert jnp.isfinite(jnp.asarray(-FLOOR, working_dtype(dtype)) / 1e-3)
        assert jnp.finfo(working_dtype(dtype)).bits == max(32, jnp.finfo(dtype).bits)
