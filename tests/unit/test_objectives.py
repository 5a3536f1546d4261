"""The ELBO and the bounds against sums over every outcome."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import expectax as ex
from expectax.distributions import joint
from expectax.objectives import elbo, hard_elbo, importance_bound, neg_elbo

B = 2
X = jnp.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])


def setting(kind: str):
    """Parameters, q of them, and log p(x, z) of them: nothing symmetric, nothing shared."""
    event = (3,) if kind == "bits" else (2, 3)
    keys = jax.random.split(jax.random.key(3), 3)
    params = {
        "logits": 0.5 * jax.random.normal(keys[0], (B, *event)),
        "prior": 0.5 * jax.random.normal(keys[1], event),
        "weights": 0.5 * jax.random.normal(keys[2], (int(np.prod(event)), 3)),
    }

    def q_of(params):
        if kind == "bits":
            return dist.Bernoulli(logits=params["logits"]).to_event(1)
        return ex.OneHotCategorical(logits=params["logits"]).to_event(1)

    def log_joint(params, z):
        if kind == "bits":
            prior = dist.Bernoulli(logits=params["prior"]).to_event(1)
        else:
            prior = ex.OneHotCategorical(logits=params["prior"]).to_event(1)
        pixels = z.reshape(*z.shape[: -len(event)], -1) @ params["weights"]
        return prior.log_prob(z) + dist.Bernoulli(logits=pixels).to_event(1).log_prob(X)

    return params, q_of, log_joint


def tables(kind, params):
    """log q and log p(x, ·) of every outcome, each (outcomes, B)."""
    _, q_of, log_joint = setting(kind)
    q = q_of(params)
    views = joint(q)
    z = views.outcome(jnp.arange(views.num_outcomes))
    return q.log_prob(z), jax.vmap(lambda z: log_joint(params, z))(z)


def exact_elbo(kind, params):
    log_q, log_p = tables(kind, params)
    return jnp.sum(jnp.exp(log_q) * (log_p - log_q), axis=0)


@pytest.mark.parametrize("kind", ["bits", "categories"])
def test_value_and_gradient_are_those_of_the_elbo_written_out(kind):
    params, q_of, log_joint = setting(kind)

    def loss(params):
        key = jax.random.key(0)
        return neg_elbo(key, q_of(params), lambda z: log_joint(params, z), ex.Enumerate()).sum()

    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    exact, truth = jax.jit(jax.value_and_grad(lambda p: -exact_elbo(kind, p).sum()))(params)
    assert np.isclose(value, exact, rtol=1e-5)
    for name in params:
        assert np.allclose(gradient[name], truth[name], atol=1e-5), name
        assert np.abs(truth[name]).max() > 0.02, name


def test_elbo_is_the_negative_of_neg_elbo():
    params, q_of, log_joint = setting("bits")
    arguments = (jax.random.key(1), q_of(params), lambda z: log_joint(params, z), ex.DisARM())
    assert jnp.array_equal(elbo(*arguments), -neg_elbo(*arguments))


@pytest.mark.parametrize("kind", ["bits", "categories"])
def test_bounds_have_the_means_that_they_must(kind):
    params, q_of, log_joint = setting(kind)
    q, f = q_of(params), lambda z: log_joint(params, z)
    num = 60_000
    keys = jax.random.split(jax.random.key(4), num)
    log_evidence = jax.nn.logsumexp(jax.jit(lambda p: tables(kind, p)[1])(params), axis=0)
    exact = jax.jit(lambda p: exact_elbo(kind, p))(params)

    @jax.jit
    def draw(keys):
        likelihood = lambda key: jnp.exp(importance_bound(key, q, f, 4) - log_evidence)
        return jax.lax.map(lambda k: (likelihood(k), hard_elbo(k, q, f, 3)), keys, batch_size=500)

    ratio, elbos = jax.device_get(draw(keys))
    # exp of the bound is unbiased for p(x), whatever the number of draws
    for drawn, truth in ((ratio, np.ones(B)), (elbos, exact)):
        error = drawn.std(0) / num**0.5
        assert np.all(4.5 * error < 0.02 * np.abs(truth))  # the check has power
        assert np.all(np.abs(drawn.mean(0) - truth) < 4.5 * error)
    # and the bound lies between the ELBO and log p(x)
    bound = (np.log(ratio) + log_evidence).mean(0)
    assert np.all(exact + 0.02 < bound)
    assert np.all(bound < log_evidence - 0.001)


def test_one_draw_is_the_same_in_both_bounds_and_neither_has_a_gradient():
    params, q_of, log_joint = setting("bits")

    def value(params, bound):
        return bound(jax.random.key(5), q_of(params), lambda z: log_joint(params, z), 1).sum()

    both = jax.jit(jax.value_and_grad(value), static_argnums=1)
    (one, g_one), (two, g_two) = both(params, importance_bound), both(params, hard_elbo)
    assert np.isclose(one, two, rtol=1e-6)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves((g_one, g_two)))


@pytest.mark.usefixtures("float64")
def test_bounds_keep_float64_and_widen_bfloat16():
    for dtype, out in ((jnp.float64, jnp.float64), (jnp.bfloat16, jnp.float32)):
        q = dist.Bernoulli(logits=jnp.zeros(2, dtype)).to_event(1)
        bound = importance_bound(jax.random.key(0), q, lambda z: jnp.sum(z), 3)
        assert bound.dtype == out


@pytest.mark.parametrize("bound", [importance_bound, hard_elbo])
def test_a_bound_of_no_draws_is_refused(bound):
    q = dist.Bernoulli(logits=jnp.zeros(2)).to_event(1)
    with pytest.raises(ex.InvalidArgumentError, match="at least 1"):
        bound(jax.random.key(0), q, lambda z: jnp.sum(z), 0)
