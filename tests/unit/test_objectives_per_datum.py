"""One φ per datum: the best factorised bound, found on a grid, and the amortization gap."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import expectax as ex
from expectax.objectives import amortization_gap, fit_each

pytestmark = pytest.mark.usefixtures("float64")

OUTCOMES = np.array(list(itertools.product([0.0, 1.0], repeat=3)))
TABLE = 1.2 * np.random.default_rng(3).normal(size=(4, 8)) - 2
"""log p(x_b, z) of four data and every setting of three bits."""


def bits(logits):
    return dist.Bernoulli(logits=logits).to_event(1)


def log_joint(z):
    """The table at z, rows as many as data."""
    here = jnp.prod(jnp.where(OUTCOMES == 1, z[..., None, :], 1 - z[..., None, :]), axis=-1)
    return jnp.sum(here * TABLE[: len(z)], axis=-1)


def bound(p, table):
    """The ELBO of probabilities p, (..., 3), against one row of the table."""
    q = np.prod(np.where(OUTCOMES == 1, p[..., None, :], 1 - p[..., None, :]), axis=-1)
    entropy = -np.sum(p * np.log(p) + (1 - p) * np.log(1 - p), axis=-1)
    return np.sum(q * table, axis=-1) + entropy


def best_bound(table):
    """The greatest of all on a grid, then raised to its top: one bit after the other, exactly."""
    side = np.linspace(0.005, 0.995, 67)
    grid = np.stack(np.meshgrid(side, side, side, indexing="ij"), axis=-1).reshape(-1, 3)
    p = grid[np.argmax(bound(grid, table))]
    for _ in range(300):
        for i in range(3):
            rest = np.delete(np.where(OUTCOMES == 1, p, 1 - p), i, axis=1).prod(axis=1)
            gain = np.sum(rest * table * (2 * OUTCOMES[:, i] - 1))
            p = np.where(np.arange(3) == i, 1 / (1 + np.exp(-gain)), p)
    return float(bound(p, table))


@functools.cache
def best():
    return np.array([best_bound(row) for row in TABLE])


def elbo(logits):
    return np.array([bound(p, row) for p, row in zip(jax.nn.sigmoid(logits), TABLE, strict=True)])


def fit(start, estimator, rate, num_steps):
    """Of as many data as there are rows."""
    adam = optax.adam(optax.cosine_decay_schedule(rate, num_steps))
    program = lambda key: fit_each(key, start, bits, log_joint, estimator, adam, num_steps)
    return jax.jit(program)(jax.random.key(0))


START = np.random.default_rng(4).normal(size=(4, 3))


@functools.cache
def fitted():
    with jax.enable_x64(True):
        return fit(START, ex.Enumerate(), 0.1, 1500)


def test_the_optimum_is_the_best_factorised_bound():
    np.testing.assert_allclose(elbo(fitted()), best(), atol=1e-7)
    evidence = np.log(np.exp(TABLE).sum(1))
    assert np.all(best() < evidence - 0.01)  # no product of bits is the posterior
    assert np.all(elbo(START) < best() - 0.1)


def test_noisy_gradients_come_near_it():
    short = best() - elbo(fit(START, ex.DisARM(), 0.1, 4000))
    assert np.all(short > 0)
    assert np.all(short < 0.004)


def test_each_datum_has_the_phi_that_it_has_alone():
    alone = fit(START[:2], ex.Enumerate(), 0.1, 1500)
    np.testing.assert_allclose(alone, fitted()[:2], atol=1e-10)


def test_parameters_may_be_a_tree_and_pass_no_gradient_on():
    posterior = lambda tree: bits(tree["shift"] * tree["scale"])
    rest = (posterior, log_joint, ex.Enumerate(), optax.sgd(0.3), 600)

    @jax.jit
    def fitted_and_slope(start):
        found, pull = jax.vjp(lambda tree: fit_each(jax.random.key(0), tree, *rest), start)
        return found, pull(found)

    start = {"shift": jnp.asarray(START), "scale": jnp.ones((4, 3))}
    found, (slope,) = fitted_and_slope(start)
    np.testing.assert_allclose(elbo(found["shift"] * found["scale"]), best(), atol=1e-3)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(slope))


def test_the_gap_is_the_difference_of_the_two_bounds():
    truth, num = best() - elbo(START), 20_000
    gap = lambda key: amortization_gap(key, bits(START), bits(fitted()), log_joint, 2)
    draws = jax.jit(jax.vmap(gap))(jax.random.split(jax.random.key(1), num))
    error = np.std(draws, axis=0) / num**0.5
    assert np.all(4.5 * error < 0.05 * truth.max())  # the check has power
    assert np.all(np.abs(draws.mean(0) - truth) < 4.5 * error)
