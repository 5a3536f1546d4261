"""`OneHotCategorical` as a NumPyro distribution."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.infer.util import log_density
from scipy import stats

import expectax as ex

LOGITS = np.array([[0.0, 0.5, -1.0], [2.0, 0.0, 0.0]], np.float32)
PROBS = np.array([[2.0, 1.0, 1.0], [0.1, 0.3, 0.6]], np.float32)  # the first row sums to four
SIMPLEX = PROBS / PROBS.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("by", ["logits", "probs"])
def test_everything_agrees_with_the_integer_categorical_and_with_scipy(by):
    q = ex.OneHotCategorical(**{by: jnp.asarray(LOGITS if by == "logits" else PROBS)})
    integers = dist.Categorical(
        **({"logits": jnp.asarray(LOGITS)} if by == "logits" else {"probs": SIMPLEX})
    )
    p = np.asarray(integers.probs, np.float64)
    assert (q.batch_shape, q.event_shape, q.event_dim) == ((2,), (3,), 1)
    np.testing.assert_allclose(q.probs, p, rtol=1e-6)
    np.testing.assert_allclose(q.mean, p, rtol=1e-6)
    np.testing.assert_allclose(q.variance, p * (1 - p), rtol=1e-6)
    np.testing.assert_allclose(q.entropy(), stats.entropy(p, axis=-1), rtol=1e-6)
    for index in range(3):
        one_hot = jax.nn.one_hot(jnp.full(2, index), 3)
        theirs = integers.log_prob(jnp.full(2, index))
        np.testing.assert_allclose(q.log_prob(one_hot), theirs, rtol=1e-5)


def test_the_support_is_the_unit_vectors():
    q = ex.OneHotCategorical(logits=jnp.asarray(LOGITS))
    full, short = q.enumerate_support(), q.enumerate_support(expand=False)
    assert full.shape == (3, 2, 3)
    assert short.shape == (3, 1, 3)
    np.testing.assert_array_equal(full, np.broadcast_to(short, (3, 2, 3)))
    np.testing.assert_array_equal(short[:, 0], np.eye(3))
    np.testing.assert_allclose(jnp.exp(q.log_prob(full)).sum(axis=0), [1.0, 1.0], rtol=1e-6)
    assert bool(q.support(full).all())
    for outside in ([0.5, 0.5, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]):
        assert not bool(q.support(jnp.array(outside)))
    assert bool(q.support(q.support.feasible_like(jnp.ones((4, 3)))).all())


def test_draws_are_one_hot_of_the_type_of_the_parameters_with_the_right_frequencies():
    q = ex.OneHotCategorical(logits=jnp.asarray(LOGITS))
    draws = jax.jit(lambda key: q.sample(key, (400_000,)))(jax.random.key(0))
    assert draws.shape == (400_000, 2, 3)
    assert bool(q.support(draws).all())
    p = np.asarray(q.probs, np.float64)
    error = np.sqrt(p * (1 - p) / 400_000)
    assert np.all(4.5 * error <= 0.02 * p.max(axis=-1, keepdims=True)), "underpowered"
    assert np.all(np.abs(np.asarray(draws).mean(axis=0, dtype=np.float64) - p) <= 4.5 * error)
    for dtype in (jnp.bfloat16, jnp.float16):
        narrow = ex.OneHotCategorical(logits=jnp.zeros(3, dtype))
        assert narrow.sample(jax.random.key(1)).dtype == dtype


def test_it_is_a_pytree_that_survives_flattening_jit_and_vmap():
    logits = jnp.asarray(LOGITS)
    value = jax.nn.one_hot(jnp.array([1, 2]), 3)
    for q in (ex.OneHotCategorical(logits=logits), ex.OneHotCategorical(probs=jnp.asarray(PROBS))):
        leaves, structure = jax.tree.flatten(q)
        assert len(leaves) == 1
        again = jax.tree.unflatten(structure, leaves)
        assert (again.batch_shape, again.event_shape) == ((2,), (3,))
        expected = q.log_prob(value)
        np.testing.assert_array_equal(again.log_prob(value), expected)
        jitted = jax.jit(lambda q: (q, q.log_prob(value)))(q)
        np.testing.assert_allclose(jitted[1], expected, rtol=1e-6)
        np.testing.assert_allclose(jitted[0].log_prob(value), expected, rtol=1e-6)
    rows = jax.vmap(lambda x, v: ex.OneHotCategorical(logits=x).log_prob(v))(logits, value)
    np.testing.assert_allclose(rows, ex.OneHotCategorical(logits).log_prob(value), rtol=1e-6)
    made = jax.vmap(lambda x: ex.OneHotCategorical(logits=x))(logits)
    drawn = jax.vmap(lambda q, key: q.sample(key))(made, jax.random.split(jax.random.key(0)))
    assert drawn.shape == (2, 3)


def test_expand_and_to_event():
    q = ex.OneHotCategorical(logits=jnp.asarray(LOGITS)).expand((4, 2)).to_event(1)
    assert (q.batch_shape, q.event_shape) == ((4,), (2, 3))
    value = q.sample(jax.random.key(0))
    assert value.shape == (4, 2, 3)
    assert q.log_prob(value).shape == (4,)


def test_it_works_in_numpyro_models():
    logits = jnp.asarray(LOGITS)

    def model(observed=None):
        with numpyro.plate("data", 2):
            numpyro.sample("z", ex.OneHotCategorical(logits=logits), obs=observed)

    trace = handlers.trace(handlers.seed(model, jax.random.key(0))).get_trace()
    value = trace["z"]["value"]
    assert value.shape == (2, 3)
    density, _ = log_density(model, (value,), {}, {})
    expected = ex.OneHotCategorical(logits=logits).log_prob(value).sum()
    np.testing.assert_allclose(density, expected, rtol=1e-6)


def test_masked_categories_are_never_drawn_and_leave_everything_else_finite():
    logits = jnp.array([0.3, -jnp.inf, 1.0])
    q = ex.OneHotCategorical(logits=logits, validate_args=True)
    draws = q.sample(jax.random.key(0), (1000,))
    assert float(draws[:, 1].sum()) == 0.0
    p = jax.nn.softmax(logits[jnp.array([0, 2])])
    np.testing.assert_allclose(q.entropy(), stats.entropy(p), rtol=1e-6)
    log_prob = q.log_prob(jnp.eye(3))
    np.testing.assert_allclose(log_prob[jnp.array([0, 2])], jnp.log(p), rtol=1e-6)
    assert log_prob[1] < -1e3
    for function in (
        lambda x: ex.OneHotCategorical(logits=x).log_prob(jnp.array([0.0, 0.0, 1.0])),
        lambda x: ex.OneHotCategorical(logits=x).entropy(),
    ):
        gradient = jax.grad(function)(logits)
        assert bool(jnp.isfinite(gradient).all())
        assert gradient[1] == 0.0
        assert abs(float(gradient[0])) > 0.01


def test_validation_catches_bad_parameters_and_bad_values():
    for bad in ([jnp.nan, 0.0], [jnp.inf, 0.0]):
        with pytest.raises(ValueError, match="invalid logits"):
            ex.OneHotCategorical(logits=jnp.array(bad), validate_args=True)
        ex.OneHotCategorical(logits=jnp.array(bad), validate_args=False)
    q = ex.OneHotCategorical(logits=jnp.zeros(3), validate_args=True)
    with pytest.warns(UserWarning, match="Out-of-support"):
        q.log_prob(jnp.array([0.5, 0.5, 0.0]))
    relaxed = ex.OneHotCategorical(logits=jnp.zeros(3), validate_args=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(
            relaxed.log_prob(jnp.array([0.5, 0.5, 0.0])), -np.log(3.0), rtol=1e-6
        )


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({}, ["neither", "two descriptions", "exactly one"]),
        ({"logits": np.zeros(2), "probs": np.ones(2)}, ["both", "two descriptions", "exactly one"]),
        ({"logits": np.float32(0.0)}, ["no axis", "categories", "batch + (C,)"]),
    ],
)
def test_wrong_arguments_are_refused_in_three_parts(arguments, parts):
    with pytest.raises(ex.InvalidArgumentError) as caught:
        ex.OneHotCategorical(**arguments)
    for part, line in zip(parts, str(caught.value).splitlines(), strict=True):
        assert part in line
