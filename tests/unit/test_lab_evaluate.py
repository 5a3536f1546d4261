"""Evaluation: streamed over rows and draws, it is the mean and the variance that it says."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logsumexp

from expectax.distributions import joint
from expectax.lab.evaluate import gradient_variance, mean_over_rows
from expectax.models import linear_vae
from expectax.objectives import importance_bound

MODEL = linear_vae(jax.random.key(0), jnp.linspace(0.1, 0.9, 12), num_latents=5)
X = jax.random.bernoulli(jax.random.key(1), 0.3, (7, 12)).astype(float)


@pytest.mark.parametrize("num", [4, 8, 11])
def test_the_mean_does_not_depend_on_how_many_rows_are_held(num):
    rows = {"x": jnp.arange(2.0 * num).reshape(num, 2), "y": jnp.arange(num)}
    noise = lambda key, row: {"m": row["x"].sum() * row["y"] + jax.random.normal(key)}
    found = [
        mean_over_rows(jax.random.key(2), rows, noise, at_once=at_once)["m"]
        for at_once in (1, 4, 100)
    ]
    keys = jax.random.split(jax.random.key(2), num)
    by_hand = np.mean([noise(keys[i], jax.tree.map(lambda x: x[i], rows))["m"] for i in range(num)])  # noqa: B023
    assert np.allclose(found, by_hand, rtol=1e-5)


def test_the_bound_is_the_log_of_the_mean_weight_of_its_draws():
    """Against the same draws all held at once."""
    q, num = MODEL.posterior(X), 50
    log_joint = lambda z: MODEL.log_joint(X, z)
    streamed = importance_bound(jax.random.key(3), q, log_joint, num)
    views = joint(q)
    draws = [views.sample(key, 1) for key in jax.random.split(jax.random.key(3), num)]
    weights = jnp.stack([log_joint(z[0]) - views.log_prob(z)[0] for z in draws])
    assert np.allclose(streamed, logsumexp(weights, axis=0) - jnp.log(num), atol=1e-4)


def test_memory_grows_neither_with_the_draws_nor_with_the_rows():
    def peak(num_samples, num_rows):
        rows = jax.ShapeDtypeStruct((num_rows, 12), jnp.float32)

        def bound(rows):
            one = lambda key, x: importance_bound(
                key, MODEL.posterior(x), lambda z: MODEL.log_joint(x, z), num_samples
            )
            return mean_over_rows(jax.random.key(0), rows, one, at_once=64)

        return jax.jit(bound).lower(rows).compile().memory_analysis().temp_size_in_bytes

    few, more = peak(10, 256), peak(10_000, 256)
    # a key for each draw of the rows that are held: 16 bytes; all draws of all rows would be 600 MB
    assert more < few + 64 * 10_000 * 20
    held = peak(10, 256) - peak(10, 128)
    assert held < 128 * 200  # keys and values of the rows, not their 5 × 10 draws


def test_the_gradient_variance_is_that_of_the_part_asked_for():
    """(w·ε)² has the gradient 2 (w·ε) ε; with w = (1, 0), ε normal: E‖g‖² − ‖E g‖² by hand."""
    learned = {"w": jnp.array([1.0, 0.0]), "other": jnp.ones(())}

    def loss(learned, key):
        noise = jax.random.normal(key, (2,))
        return jnp.dot(learned["w"], noise) ** 2 + 100 * noise[0] * learned["other"]

    found = eqx.filter_jit(gradient_variance)
    variance = functools.partial(found, jax.random.key(4), loss, learned, num_draws=20_000)
    # 4 E[ε₁² (ε₁² + ε₂²)] − 4 = 4 (3 + 1) − 4
    assert variance(lambda tree: tree["w"]) == pytest.approx(12, rel=0.1)
    assert variance(lambda tree: tree["other"]) == pytest.approx(100**2, rel=0.05)
    assert variance() == pytest.approx(100**2 + 12, rel=0.05)
