"""Wake-sleep and multi-sample bounds of two layers, against sums over every dream and path."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import expectax as ex
from expectax.models import hierarchical_vae
from expectax.objectives import (
    VIMCO,
    neg_multi_sample_bound,
    reweighted_wake_sleep,
    sleep_loss,
    wake_loss,
    wake_sleep,
)
from expectax.testing import check_mean, gather, over_keys
from expectax.testing._gates import default_scale

pytestmark = pytest.mark.usefixtures("float64")

X = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
PATHS = np.array(list(itertools.product([0.0, 1.0], repeat=4)))  # two bits in each layer
EVERY_X = np.array(list(itertools.product([0.0, 1.0], repeat=3)))
NUM = 2


@functools.cache
def model():
    """A small net with large, unequal weights: what is left out of a loss is missed."""
    with jax.enable_x64(True):
        made = hierarchical_vae(jax.random.key(0), jnp.array([0.2, 0.5, 0.9]), (2, 2))
        floats, rest = eqx.partition(made, eqx.is_inexact_array)
        rng = np.random.default_rng(7)
        moved = jax.tree.map(lambda x: jnp.asarray(x + 0.8 * rng.normal(size=x.shape)), floats)
        return eqx.combine(moved, rest)


def bits(logits):
    return dist.Bernoulli(logits=logits).to_event(1)


def tables(model, x):
    """log p(x, path) and log q(path | x) of every path, each (paths, B), by NumPyro."""
    center = jax.lax.stop_gradient(model.center)
    low, high = np.split(np.broadcast_to(PATHS[:, None], (16, len(x), 4)), 2, axis=-1)
    log_p = bits(model.prior_logits).log_prob(high)
    log_p += bits(model.decoders[1](2 * high - 1)).log_prob(low)
    log_p += bits(model.decoders[0](2 * low - 1)).log_prob(jnp.asarray(x))
    log_q = bits(model.encoders[0](x - center)).log_prob(low)
    log_q += bits(model.encoders[1](2 * low - 1)).log_prob(high)
    return log_p, log_q


def held(x):
    return jax.lax.stop_gradient(x)


def learned(tree):
    return tree.encoders, tree.decoders, tree.prior_logits


def gradient(loss):
    """Of a function of the model, in what is learned."""
    return lambda model: learned(eqx.filter_grad(loss)(model))


def q_of(model):
    return model.joint_posterior(jnp.asarray(X))


def log_joint(model):
    return lambda z: model.log_joint(jnp.asarray(X), model.split(z))


def dream(model):
    def log_q(key):
        x, z = model.sample_joint(key, 3)
        return model.joint_posterior(x).log_prob(z)

    return log_q


def check_update(loss, truth):
    """The mean of a loss's gradient against the truth, every leaf on a scale of its own or more."""
    own = default_scale(truth)
    least = max(map(float, jax.tree.leaves(own))) / 3
    scale = jax.tree.map(lambda x: jnp.maximum(x, least), own)
    draw = over_keys(lambda key: gradient(lambda m: jnp.sum(loss(m, key)))(model()))
    moments = gather(draw, jax.random.key(0), scale=scale)
    check_mean(moments, truth, scale=scale)
    assert least > 0.05


def frequencies(draws, probabilities):
    """Rows of bits are drawn as often as these probabilities say, the first bit the slowest."""
    num = draws.shape[-1]
    index = (np.asarray(draws, int) @ 2 ** np.arange(num)[::-1]).ravel()
    seen = np.bincount(index, minlength=2**num) / len(index)
    error = np.sqrt(probabilities * (1 - probabilities) / len(index))
    assert np.all(4.5 * error < 0.01)  # the check has power
    assert np.all(np.abs(seen - probabilities) < 4.5 * error + 1e-12)


def test_the_joint_posterior_is_q_of_all_layers():
    @jax.jit
    def found(model, key):
        q = q_of(model)
        assert (q.batch_shape, q.event_shape) == ((2,), (4,))
        paths = jnp.broadcast_to(PATHS[:, None], (16, 2, 4))
        return q.log_prob(paths), q.sample(key, (200, 500)), tables(model, X)[1]

    ours, draws, log_q = jax.device_get(found(model(), jax.random.key(1)))
    np.testing.assert_allclose(ours, log_q, rtol=1e-10)
    np.testing.assert_allclose(np.exp(log_q).sum(0), 1.0, rtol=1e-10)
    assert draws.shape == (200, 500, 2, 4)
    for row in range(2):
        frequencies(draws[:, :, row], np.exp(log_q[:, row]))


def test_dreams_are_drawn_from_the_joint():
    found = jax.jit(lambda m, key: (*m.sample_joint(key, 100_000), tables(m, EVERY_X)[0]))
    x, z, log_p = jax.device_get(found(model(), jax.random.key(2)))
    np.testing.assert_allclose(np.exp(log_p).sum(), 1.0, rtol=1e-10)
    frequencies(np.concatenate([z, x], axis=-1), np.exp(log_p).ravel())


def exact_wake(model):
    log_p, log_q = tables(model, X)
    return -jnp.sum(jnp.exp(held(log_q)) * log_p)


def exact_sleep(model):
    log_p, log_q = tables(model, EVERY_X)
    return -jnp.sum(jnp.exp(held(log_p)) * log_q)


def test_the_expected_update_is_that_of_both_phases():
    truth = jax.jit(gradient(lambda m: exact_wake(m) + len(X) * exact_sleep(m)))(model())
    check_update(lambda m, key: wake_sleep(key, q_of(m), log_joint(m), dream(m)), truth)


def test_each_phase_leaves_the_other_net_alone():
    wake = lambda key: gradient(lambda m: wake_loss(key, q_of(m), log_joint(m)).sum())
    sleep = lambda key: gradient(lambda m: sleep_loss(key, dream(m)))
    both = jax.jit(lambda m, key: (wake(key)(m), sleep(key)(m)))(model(), jax.random.key(0))
    moved = lambda tree: any(np.any(leaf) for leaf in jax.tree.leaves(tree))
    parts = [[moved(part) for part in tree] for tree in both]
    assert parts == [[False, True, True], [True, False, False]]


def pairs(model):
    """log p and log q of every pair of paths, (256, 2, B), and each pair's probability."""
    log_p, log_q = tables(model, X)
    which = np.array(list(itertools.product(range(16), repeat=NUM)))
    return log_p[which], log_q[which], jnp.exp(log_q[which].sum(1))


def exact_reweighted(model):
    log_p, log_q, chance = pairs(model)
    share = jax.nn.softmax(held(log_p - log_q), axis=1)
    return -jnp.sum(held(chance)[:, None] * share * (log_p + log_q))


def exact_bound(model):
    log_p, log_q, chance = pairs(model)
    return -jnp.sum(chance * (jax.nn.logsumexp(log_p - log_q, axis=1) - jnp.log(NUM)))


def test_the_reweighted_update_is_that_of_every_pair_of_paths():
    truth = jax.jit(gradient(exact_reweighted))(model())
    check_update(lambda m, key: reweighted_wake_sleep(key, q_of(m), log_joint(m), NUM), truth)


def test_the_bound_of_several_paths_has_its_gradient_by_vimco():
    truth = jax.jit(gradient(exact_bound))(model())
    bound = lambda m, key: neg_multi_sample_bound(key, q_of(m), log_joint(m), NUM, VIMCO())
    check_update(bound, truth)


def test_an_estimator_that_needs_more_than_draws_is_refused():
    z = lambda z: z.sum(-1)
    with pytest.raises(ex.IncompatibleError, match="DisARM cannot serve LayeredPosterior"):
        ex.expect(jax.random.key(0), q_of(model()), z, ex.DisARM())
    served = lambda m: ex.expect(jax.random.key(0), q_of(m), z, ex.LeaveOneOut(2))
    assert jax.eval_shape(served, model()).shape == (2,)
