"""The Gaussian VAE: an independent twin of each term, and a bound below the evidence."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import expectax as ex
from expectax.models import PixelBias, gaussian_vae
from expectax.objectives import importance_bound, neg_elbo_analytic_kl

MEAN = jnp.array([0.2, 0.5, 0.9])


def pictures():
    return ((jnp.arange(8)[:, None] >> jnp.arange(3)) & 1).astype(jnp.float32)


def test_terms_equal_numpyros_and_take_any_leading_axes():
    model = gaussian_vae(jax.random.key(0), MEAN, 2, (5,), pixel_bias=PixelBias.FIXED)
    x, z = pictures()[:6].reshape(2, 3, 3), jax.random.normal(jax.random.key(1), (2, 3, 2))
    logits = model.decoder(z) + jax.scipy.special.logit(jnp.clip(MEAN, 0.001, 0.999))
    twin = dist.Normal(0, 1).log_prob(z).sum(-1) + dist.Bernoulli(logits=logits).log_prob(x).sum(-1)
    assert np.allclose(model.log_joint(x, z), twin, atol=1e-5)
    assert np.allclose(model.prior().log_prob(z), model.log_prior(z), atol=1e-5)
    q = model.posterior(x)
    assert (q.batch_shape, q.event_shape) == ((2, 3), (2,))
    raw = model.encoder(x - MEAN)
    assert np.allclose(q.base_dist.loc, raw[..., :2], atol=1e-6)
    assert np.allclose(jnp.log(q.base_dist.scale), raw[..., 2:], atol=1e-5)


def test_trained_by_the_pathwise_gradient_its_bound_rises_towards_the_evidence_by_quadrature():
    model = gaussian_vae(jax.random.key(0), MEAN, 1, (8,), activation=jnp.tanh)
    x = pictures()[jnp.array([0, 0, 0, 7, 7, 3])]

    def loss(model, key):
        likelihood = lambda z: model.log_likelihood(x, z)
        q, prior = model.posterior(x), model.prior()
        return neg_elbo_analytic_kl(key, q, prior, likelihood, ex.Pathwise()).mean()

    @jax.jit
    def train(model):
        def step(model, key):
            gradient = jax.grad(loss)(model, key)
            return jax.tree.map(lambda p, g: p - 0.1 * g, model, gradient), None

        return jax.lax.scan(step, model, jax.random.split(jax.random.key(1), 1500))[0]

    nodes, weights = np.polynomial.hermite_e.hermegauss(60)

    @eqx.filter_jit
    def figures(model):
        log_w = jnp.log(weights / weights.sum())
        at_nodes = jax.vmap(lambda z: model.log_likelihood(x, jnp.full((6, 1), z)))(nodes)
        evidence = jax.nn.logsumexp(log_w[:, None] + at_nodes, axis=0).mean()
        bound = lambda m: importance_bound(
            jax.random.key(2), model.posterior(x), lambda z: model.log_joint(x, z), m
        ).mean()
        keys = jax.random.split(jax.random.key(3), 4000)
        elbo = -jnp.mean(jax.vmap(lambda k: loss(model, k))(keys))
        return elbo, bound(5000), evidence

    before, after = figures(model), figures(train(model))
    assert after[0] > before[0] + 0.5
    for elbo, bound, evidence in (before, after):
        assert elbo < evidence + 0.01
        assert abs(bound - evidence) < 0.03
    assert np.array_equal(train(model).center, MEAN)
