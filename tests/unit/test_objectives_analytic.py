"""The ELBO with a KL divergence in closed form, against the sampled one and against sums."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.stats import multivariate_normal

import expectax as ex
from expectax.distributions import joint
from expectax.objectives import kl_divergence, neg_elbo, neg_elbo_analytic_kl
from expectax.testing import Gate, check_mean, gather, over_keys
from expectax.testing._gates import default_scale

pytestmark = pytest.mark.usefixtures("float64")

# x = W z + noise, z standard normal: evidence and posterior are known
W = np.array([[0.9, -0.4], [0.3, 0.8], [-0.5, 0.6]])
NOISE = 0.7
X = np.array([[0.5, -1.0, 0.8], [1.2, 0.3, -0.4]])


def prior():
    return dist.Normal(jnp.zeros(2), 1.0).to_event(1)


def log_likelihood(w, z):
    return dist.Normal(z @ w.T, NOISE).to_event(1).log_prob(X)


def loss(params, key, objective):
    q = dist.Normal(params["loc"], jnp.exp(params["log_scale"])).to_event(1)
    if objective is neg_elbo:
        log_joint = lambda z: log_likelihood(params["w"], z) + prior().log_prob(z)
        return neg_elbo(key, q, log_joint, ex.Pathwise()).sum()
    likelihood = lambda z: log_likelihood(params["w"], z)
    return neg_elbo_analytic_kl(key, q, prior(), likelihood, ex.Pathwise()).sum()


def exact(params):
    """−ELBO by hand: the likelihood is quadratic in z."""
    m, s, w = params["loc"], jnp.exp(params["log_scale"]), params["w"]
    kl = 0.5 * jnp.sum(m**2 + s**2 - 1 - 2 * params["log_scale"], axis=-1)
    error = jnp.sum((X - m @ w.T) ** 2, axis=-1) + s**2 @ jnp.sum(w**2, axis=0)
    return jnp.sum(kl + 0.5 * error / NOISE**2 + 1.5 * jnp.log(2 * jnp.pi * NOISE**2))


def far():
    loc = jnp.array([[2.0, -1.5], [-1.0, 2.5]])
    return {"loc": loc, "log_scale": jnp.array([[0.3, -0.2], [-0.4, 0.2]]), "w": jnp.asarray(W)}


def test_both_have_the_exact_gradient_and_the_closed_form_has_less_noise_far_from_the_optimum():
    params, truth = far(), jax.grad(exact)(far())
    scale, variance = default_scale(truth), {}
    for objective in (neg_elbo, neg_elbo_analytic_kl):
        draw = over_keys(lambda key, f=objective: jax.grad(loss)(params, key, f))
        moments = gather(draw, jax.random.key(0), scale=scale, fewest=100_000)
        check_mean(moments, truth, scale=scale, gate=Gate(), what=objective.__name__)
        variance[objective] = jax.tree.map(jnp.sum, moments.variance)
    sampled, closed = variance[neg_elbo], variance[neg_elbo_analytic_kl]
    assert closed["log_scale"] < 0.9 * sampled["log_scale"]
    assert np.isclose(closed["w"], sampled["w"], rtol=0.05)  # the prior knows nothing of W


def test_at_the_best_q_the_bound_is_the_evidence():
    """With orthogonal columns the posterior is of the family: the bound is then log p(x)."""
    w = np.array([[0.9, 0.0], [0.0, 0.8], [0.0, 0.6]])
    precision = np.diag(w.T @ w) / NOISE**2 + 1
    params = {
        "loc": jnp.asarray(X @ w / NOISE**2 / precision),
        "log_scale": jnp.broadcast_to(-0.5 * jnp.log(precision), (2, 2)),
        "w": jnp.asarray(w),
    }
    covariance = w @ w.T + NOISE**2 * np.eye(3)
    evidence = multivariate_normal(np.zeros(3), covariance).logpdf(X).sum()
    assert np.isclose(exact(params), -evidence, rtol=1e-12)
    # the sampled one has no variance there: neither its value nor q's gradient
    value, gradient = jax.value_and_grad(loss)(params, jax.random.key(0), neg_elbo)
    assert np.isclose(value, -evidence, rtol=1e-12)
    assert np.allclose(gradient["loc"], 0, atol=1e-12)
    draw = over_keys(lambda key: loss(params, key, neg_elbo_analytic_kl))
    scale = jnp.abs(jnp.asarray(evidence))
    moments = gather(draw, jax.random.key(1), scale=scale)
    check_mean(moments, jnp.asarray(-evidence), scale=scale, gate=Gate(), what="bound")


def choices(kind, seed, batch=()):
    logits = jnp.asarray(np.random.default_rng(seed).normal(size=(*batch, 2, 3)))
    if kind == "bits":
        return dist.Bernoulli(logits=logits).to_event(2)
    if kind == "probabilities":
        return dist.Bernoulli(probs=jax.nn.sigmoid(logits)).to_event(2)
    return ex.OneHotCategorical(logits=logits).to_event(1)


@pytest.mark.parametrize("kind", ["bits", "probabilities", "hots"])
def test_of_choices_it_is_the_sum_over_outcomes_and_the_prior_is_shared_by_the_batch(kind):
    q, p = choices(kind, 0, (4,)), choices(kind, 1)
    views = joint(q)
    z = views.outcome(jnp.arange(views.num_outcomes))
    table = q.log_prob(z)
    want = jnp.sum(jnp.exp(table) * (table - p.log_prob(z)), axis=0)
    assert want.shape == (4,)
    assert np.allclose(kl_divergence(q, p), want, rtol=1e-10)
    assert np.all(np.abs(kl_divergence(p, p)) < 1e-12)


def test_trees_are_summed_and_bits_may_have_a_cost_with_its_gradient():
    q = {"a": dist.Normal(jnp.array([0.5, 1.0]), 2.0), "b": dist.Bernoulli(logits=jnp.ones(2))}
    p = {"a": dist.Normal(0.0, 1.0), "b": dist.Bernoulli(logits=0.3)}
    parts = kl_divergence(q["a"], p["a"]) + kl_divergence(q["b"], p["b"])
    assert np.allclose(kl_divergence(q, p), parts, rtol=1e-12)

    def both(logits, objective):
        q, p = dist.Bernoulli(logits=logits).to_event(1), choices("bits", 1)
        p = dist.Bernoulli(logits=p.base_dist.logits[0]).to_event(1)
        f = lambda z: jnp.sin(z @ jnp.array([1.0, 2.0, 3.0]))
        if objective is neg_elbo:
            f_joint = lambda z: f(z) + p.log_prob(z)
            return neg_elbo(jax.random.key(0), q, f_joint, ex.Enumerate())
        return neg_elbo_analytic_kl(jax.random.key(0), q, p, f, ex.Enumerate())

    logits = jnp.array([0.4, -1.0, 0.0])
    one, two = (jax.value_and_grad(both)(logits, f) for f in (neg_elbo, neg_elbo_analytic_kl))
    assert np.allclose(one[0], two[0], rtol=1e-12)
    assert np.allclose(one[1], two[1], rtol=1e-10)


def test_what_has_no_closed_form_and_priors_of_another_shape_are_refused():
    normal = dist.Normal(0.0, 1.0)
    with pytest.raises(ex.IncompatibleError, match="Cauchy from Normal"):
        kl_divergence(dist.Cauchy(0.0, 1.0), normal)
    with pytest.raises(ex.InvalidArgumentError, match="different structures"):
        kl_divergence(normal, {"z": normal})
    with pytest.raises(ex.InvalidArgumentError, match="event shapes"):
        kl_divergence(normal, dist.Normal(jnp.zeros(2), 1.0).to_event(1))
