"""The gates fail when they should, pass when they should, and are right for rare large draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import expectax as ex
from expectax.testing import Gate, check_biased, check_mean, merge, moments_of, over_keys, stream

pytestmark = pytest.mark.usefixtures("float64")
NUM = 200_000


def _normal(mean):
    return {"x": mean + jax.random.normal(jax.random.key(0), (NUM,), jnp.float64)}


def test_z_spends_the_false_alarm_budget():
    gate = Gate(false_alarm=0.01, comparisons=500)
    assert gate.comparisons * 2 * stats.norm.sf(gate.z) == pytest.approx(0.01)


def test_the_true_mean_passes_and_a_mean_that_is_five_percent_off_fails():
    check_mean(_normal(2.0), {"x": 2.0})
    with pytest.raises(AssertionError, match=r"\['x'\] is off by"):
        check_mean(_normal(1.9), {"x": 2.0})


def test_not_a_number_fails():
    with pytest.raises(AssertionError, match="not finite"):
        check_mean({"x": jnp.array([1.0, jnp.nan, 1.0])}, {"x": 1.0})


def test_too_few_draws_are_refused_even_if_the_mean_is_right():
    few = {"x": _normal(2.0)["x"][:100]}
    with pytest.raises(ex.UnderpoweredError, match="100 draws"):
        check_mean(few, {"x": 2.0})
    check_mean(few, {"x": 2.0}, scale={"x": 200.0})


def test_a_claimed_bias_must_be_there():
    arguments = {"scale": {"x": 2.0}, "gate": Gate(), "what": "x"}
    check_biased(moments_of(_normal(1.9)), {"x": 2.0}, **arguments)
    with pytest.raises(AssertionError, match="no bias was found"):
        check_biased(moments_of(_normal(2.0)), {"x": 2.0}, **arguments)


def test_without_variance_the_mean_must_be_exact():
    check_mean({"x": jnp.full(10, 0.1)}, {"x": 0.1})
    with pytest.raises(AssertionError):
        check_mean({"x": jnp.full(10, 0.1 + 1e-6)}, {"x": 0.1})


def test_draws_needed_is_enough_and_not_much_more():
    gate, pilot = Gate(), moments_of({"x": _normal(2.0)["x"][:4096]})
    needed = gate.draws_needed(pilot, {"x": 2.0})
    gate.require_power(moments_of({"x": _normal(2.0)["x"][:needed]}), {"x": 2.0}, "x")
    with pytest.raises(ex.UnderpoweredError):
        gate.require_power(moments_of({"x": _normal(2.0)["x"][: needed // 2]}), {"x": 2.0}, "x")


def test_nor_are_they_where_a_rare_draw_is_large():
    x = 500.0 * (np.random.default_rng(0).random(2**18) < 0.002)
    gate, pilot = Gate(), moments_of(x[: 2**13])
    needed = gate.draws_needed(pilot, 20.0)
    gate.require_power(moments_of(x[:needed]), 20.0, "x")
    with pytest.raises(ex.UnderpoweredError):
        gate.require_power(moments_of(x[: int(0.7 * needed)]), 20.0, "x")


def test_streamed_moments_are_those_of_all_draws_at_once():
    sample = lambda key: {"x": jax.random.normal(key, (3,), jnp.float64) + 1e3}
    chunks, key = 5, jax.random.key(1)
    streamed = stream(over_keys(sample), key, chunks, chunk=64)

    @jax.jit
    def everything(key):
        keys = [jax.random.split(jax.random.fold_in(key, i), 64) for i in range(chunks)]
        return jax.vmap(sample)(jnp.concatenate(keys))["x"]

    draws = np.asarray(everything(key))
    assert streamed.count == len(draws) == 320
    np.testing.assert_allclose(streamed["x"].mean, draws.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(streamed["x"].variance, draws.var(axis=0, ddof=1), rtol=1e-10)
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    np.testing.assert_allclose(streamed["x"].standard_error, error, rtol=1e-10)
    np.testing.assert_array_equal(streamed["x"].low, draws.min(axis=0))
    np.testing.assert_array_equal(streamed["x"].high, draws.max(axis=0))


def test_merging_does_not_depend_on_the_order():
    draws = np.asarray(_normal(5.0)["x"][:80])
    a, b, together = map(jax.device_get, map(jax.jit(moments_of), (draws[:10], draws[10:], draws)))
    for left, right, whole in zip(
        *map(jax.tree.leaves, (merge(a, b), merge(b, a), together)), strict=True
    ):
        np.testing.assert_allclose(left, right, rtol=1e-12)
        np.testing.assert_allclose(left, whole, rtol=1e-12)


def test_rare_large_draws_do_not_raise_false_alarms():
    """Bits of p = 1e-4 in 131,072 draws: 13 ones. The plain z-test is wrong there, ours is not."""
    n, p, repeats = 131_072, 1e-4, 20_000
    ones = np.random.default_rng(0).binomial(n, p, size=repeats)
    mean = ones / n
    bits = jnp.ones(repeats)
    moments = moments_of({"x": jnp.zeros((2, repeats))})
    moments = type(moments)(
        jnp.asarray(float(n)),
        {"x": jnp.asarray(mean)},
        {"x": jnp.asarray(n * mean * (1 - mean))},
        {"x": 0 * bits},
        {"x": bits},
    )
    excess = Gate().excess(moments, {"x": p * bits}, {"x": bits})["x"]
    assert (excess > 1).sum() == 0
    plain = np.abs(mean - p) / (Gate().z * np.sqrt(mean * (1 - mean) / n))
    assert (plain > 1).mean() > 100 * 2 * stats.norm.sf(Gate().z)
