"""Wake-sleep's expected updates against sums over every dream and every draw."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import expectax as ex
from expectax.distributions import joint
from expectax.objectives import (
    neg_elbo,
    reweighted_wake_sleep,
    sleep_loss,
    wake_loss,
    wake_sleep,
)
from expectax.testing import check_mean, gather, over_keys
from expectax.testing._gates import default_scale

pytestmark = pytest.mark.usefixtures("float64")

X = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
Z = np.array(list(itertools.product([0.0, 1.0], repeat=2)))
EVERY_X = np.array(list(itertools.product([0.0, 1.0], repeat=3)))


def bits(logits):
    return dist.Bernoulli(logits=logits).to_event(1)


def params():
    rng = np.random.default_rng(1)
    shapes = {"prior": (2,), "down": (2, 3), "up": (3, 2), "bias": (2,)}
    return {name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}


def posterior(p, x):
    return bits(jnp.asarray(x) @ p["up"] + p["bias"])


def log_joint(p, x, z):
    return bits(p["prior"]).log_prob(z) + bits(z @ p["down"]).log_prob(x)


def table(p, x):
    """log p(x, z) and log q(z | x) of every z, each (4, B)."""
    z = jnp.broadcast_to(Z[:, None], (4, len(x), 2))
    return log_joint(p, x, z), posterior(p, x).log_prob(z)


def dream(p, key):
    first, second = jax.random.split(key)
    held = jax.lax.stop_gradient(p)
    z = joint(bits(held["prior"])).sample(first, 3)
    x = joint(bits(z @ held["down"])).sample(second, 1)[0]
    return posterior(p, x).log_prob(z)


def exact_wake(p):
    log_p, log_q = table(p, X)
    return -jnp.sum(jnp.exp(jax.lax.stop_gradient(log_q)) * log_p)


def exact_sleep(p):
    log_p, log_q = table(p, EVERY_X)
    return -jnp.sum(jnp.exp(jax.lax.stop_gradient(log_p)) * log_q)


def test_the_expected_update_is_that_of_both_phases():
    p = params()
    truth = jax.jit(jax.grad(lambda p: exact_wake(p) + len(X) * exact_sleep(p)))(p)

    def update(key):
        def loss(p):
            f = lambda z: log_joint(p, X, z)
            return wake_sleep(key, posterior(p, X), f, lambda key: dream(p, key)).sum()

        return jax.grad(loss)(p)

    moments = gather(over_keys(update), jax.random.key(0), scale=default_scale(truth))
    check_mean(moments, truth)


def test_each_phase_leaves_the_other_model_alone():
    p, key = params(), jax.random.key(0)
    f = lambda p: lambda z: log_joint(p, X, z)
    wake = jax.jit(jax.grad(lambda p: wake_loss(key, posterior(p, X), f(p)).sum()))(p)
    sleep = jax.jit(jax.grad(lambda p: sleep_loss(key, lambda key: dream(p, key))))(p)
    moved = lambda gradient: {name for name, leaf in gradient.items() if np.any(leaf)}
    assert moved(wake) == {"prior", "down"}
    assert moved(sleep) == {"up", "bias"}


def test_the_wake_phase_is_the_elbos_gradient_in_p_and_the_sleep_phase_is_not_in_q():
    p = params()
    elbo = lambda p: neg_elbo(
        jax.random.key(0), posterior(p, X), lambda z: log_joint(p, X, z), ex.Enumerate()
    )
    gradients = lambda p: [
        jax.grad(f)(p) for f in (lambda p: elbo(p).sum(), exact_wake, exact_sleep)
    ]
    truth, wake, sleep = jax.jit(gradients)(p)
    np.testing.assert_allclose(wake["down"], truth["down"], rtol=1e-10)
    cosine = jnp.sum(sleep["up"] * truth["up"]) / (
        jnp.linalg.norm(sleep["up"]) * jnp.linalg.norm(truth["up"])
    )
    assert abs(cosine) < 0.98


NUM = 3


def exact_reweighted(p):
    """The mean over all sets of three draws, weights and draws taken as given."""
    log_p, log_q = table(p, X)
    which = np.array(list(itertools.product(range(4), repeat=NUM)))
    held_p, held_q = jax.lax.stop_gradient((log_p, log_q))
    share = jax.nn.softmax(held_p[which] - held_q[which], axis=1)
    loss = -jnp.sum(share * (log_p[which] + log_q[which]), axis=1)
    return jnp.sum(jnp.exp(held_q[which].sum(1)) * loss)


def exact_bound(p):
    log_p, log_q = table(p, X)
    which = np.array(list(itertools.product(range(4), repeat=NUM)))
    bound = jax.nn.logsumexp(log_p[which] - log_q[which], axis=1) - jnp.log(NUM)
    return -jnp.sum(jnp.exp(log_q[which].sum(1)) * bound)


def test_reweighted_wake_sleep_has_its_expected_update_and_the_bounds_gradient_in_p():
    p = params()
    truth, bound = jax.jit(lambda p: (jax.grad(exact_reweighted)(p), jax.grad(exact_bound)(p)))(p)
    for name in ("prior", "down"):
        np.testing.assert_allclose(truth[name], bound[name], rtol=1e-10, err_msg=name)

    def update(key):
        f = lambda p: lambda z: log_joint(p, X, z)
        loss = lambda p: reweighted_wake_sleep(key, posterior(p, X), f(p), NUM).sum()
        return jax.grad(loss)(p)

    moments = gather(over_keys(update), jax.random.key(1), scale=default_scale(truth))
    check_mean(moments, truth)


def test_one_particle_trains_q_only_in_dreams():
    p, key = params(), jax.random.key(5)

    @jax.jit
    def three(key):
        q, f, dreams = posterior(p, X), lambda z: log_joint(p, X, z), lambda key: dream(p, key)
        alone = reweighted_wake_sleep(key, q, f, 1)
        added = sleep_loss(jax.random.split(key)[1], dreams)
        return alone, reweighted_wake_sleep(key, q, f, 1, dreams), added

    alone, beside, added = three(key)
    np.testing.assert_allclose(beside - alone, np.full(2, added), rtol=1e-10)
    assert added > 0.1
    with pytest.raises(ex.InvalidArgumentError, match="at least 1"):
        reweighted_wake_sleep(key, bits(jnp.zeros(2)), jnp.sum, 0)
