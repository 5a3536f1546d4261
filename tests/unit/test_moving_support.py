"""Laws whose support moves with their parameters: log q alone does not know the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import expectax as ex
from expectax.objectives import (
    DoublyReparameterized,
    neg_elbo,
    neg_multi_sample_bound,
    reweighted_wake_sleep,
    wake_loss,
)

KEY = jax.random.key(0)

MOVING = {
    "uniform": lambda p: dist.Uniform(p[0], p[1]),
    "log-uniform": lambda p: dist.LogUniform(p[0], p[1]).expand((1,)).to_event(1),
    "truncated normal": lambda p: dist.TruncatedNormal(0.0, 1.0, low=p[0], high=p[1]),
    "Pareto": lambda p: dist.Pareto(p[0], p[1]),
}
STILL = {
    "uniform": lambda _: dist.Uniform(0.0, 1.0),
    "its ends held": lambda p: dist.Uniform(*jax.lax.stop_gradient(p)),
    "truncated normal": lambda p: dist.TruncatedNormal(p[0], p[1], low=-1.0, high=1.0),
    "Beta": lambda p: dist.Beta(p[0], p[1]),
    "gamma": lambda p: dist.Gamma(p[0], p[1]),
}
SCORED = {
    "score": ex.ScoreFunction(),
    "leave-one-out": ex.LeaveOneOut(2),
    "optimal": ex.OptimalBaseline(3),
    "coupled": ex.ScoreFunction(coupling=ex.Antithetic(), num_samples=2),
}
PARAMS = jnp.array([0.5, 2.0])


def loss(p, key, make, estimator):
    q = make(p)
    cost = lambda z: (p[0] * z**2).reshape(*q.batch_shape, -1).sum(-1)
    return ex.expect(key, q, cost, estimator)


@pytest.mark.parametrize("name", SCORED)
@pytest.mark.parametrize("law", MOVING)
def test_a_gradient_made_of_log_q_is_refused_where_the_support_moves(law, name):
    make, estimator = MOVING[law], SCORED[name]
    if name == "coupled" and law == "Pareto":
        pytest.skip("its coupling is refused before")
    with pytest.raises(ex.IncompatibleError, match="where its support ends"):
        jax.jit(jax.grad(lambda p: loss(p, KEY, make, estimator)))(PARAMS)
    assert jnp.isfinite(loss(PARAMS, KEY, make, estimator))  # the value is right
    with pytest.raises(ex.IncompatibleError, match="where its support ends"):  # and of a batch
        jax.grad(lambda p: jax.vmap(lambda p: loss(p, KEY, make, estimator))(p).sum())(PARAMS[None])


@pytest.mark.parametrize("name", ["score", "leave-one-out", "optimal"])
@pytest.mark.parametrize("law", STILL)
def test_where_it_stays_nothing_is_refused(law, name):
    gradient = jax.jit(jax.grad(lambda p: loss(p, KEY, STILL[law], SCORED[name])))(PARAMS)
    assert np.isfinite(gradient).all()
    assert gradient[0] != 0  # of the cost


@pytest.mark.parametrize("estimator", [ex.Pathwise(), ex.LeaveOneOut(2)])
def test_a_bound_that_leaves_out_the_slope_of_log_q_is_refused_there_too(estimator):
    bound = lambda s, make: neg_elbo(KEY, make(s), lambda z: -0.5 * z**2, estimator)
    with pytest.raises(ex.IncompatibleError, match="where its support ends"):
        jax.grad(bound)(0.3, lambda s: dist.Uniform(-jnp.exp(s), jnp.exp(s)))
    jax.grad(bound)(0.3, lambda s: dist.Normal(s, 1.0))
    held = lambda s: wake_loss(KEY, dist.Uniform(-jnp.exp(s), 3.0), lambda z: -0.5 * z**2)
    assert jax.grad(held)(0.3) == 0  # q is taken as given


def test_pathwise_gradients_know_where_the_support_ends():
    keys = jax.random.split(KEY, 4_000)
    mean = lambda p: jax.vmap(
        lambda key: ex.expect(key, MOVING["uniform"](p), lambda z: z**2, ex.Pathwise())
    )(keys).mean()
    np.testing.assert_allclose(jax.grad(mean)(PARAMS), [1.0, 1.5], atol=0.08)


def test_numbers_in_a_law_are_no_parameters():
    """A truncated normal with Python numbers for ends, which no gradient goes into."""
    make = lambda p: dist.TruncatedNormal(p[0], 1.0, low=-1.0, high=1.0)
    arrays = lambda p: dist.TruncatedNormal(p[0], 1.0, low=jnp.float32(-1), high=jnp.float32(1))
    # under jit a number stays one, and stop_gradient makes it an array
    gradient = lambda m, e: jax.jit(jax.grad(lambda p: loss(p, KEY, m, e)))(PARAMS)
    one, other = (gradient(m, ex.OptimalBaseline(3)) for m in (make, arrays))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    for estimator in (ex.FiniteDifference(0.1), ex.LAX(lambda z: 0.3 * z)):
        assert np.isfinite(gradient(make, estimator)).all()


def test_what_differentiates_the_draws_or_draws_from_elsewhere_is_served():
    law = lambda s: dist.Uniform(-jnp.exp(s), jnp.exp(s))
    log_joint = lambda z: -0.5 * z**2

    def bound(s, gradient):
        return neg_multi_sample_bound(KEY, law(s), log_joint, 3, gradient)

    value = lambda s: float(bound(s, ex.Pathwise()))
    slope = (value(0.31) - value(0.29)) / 0.02  # the same noise
    assert jax.grad(bound)(0.3, ex.Pathwise()) == pytest.approx(slope, rel=1e-2)
    with pytest.raises(ex.IncompatibleError, match="where its support ends"):
        jax.grad(bound)(0.3, DoublyReparameterized())

    def inclusive(s):  # p is Uniform(0, 1), inside of q's support
        q, p = dist.Uniform(-jnp.exp(s), 2.0), lambda z: jnp.where((z > 0) & (z < 1), 0, -jnp.inf)
        return reweighted_wake_sleep(KEY, q, p, 200)

    assert jax.grad(inclusive)(0.3) == pytest.approx(np.exp(0.3) / (2 + np.exp(0.3)), rel=1e-4)


def test_a_density_that_vanishes_at_its_ends_is_served():
    """A log-normal shifted by p: the score is unbiased, though the support moves."""
    base, shift = dist.LogNormal(0.0, 0.5), dist.transforms.AffineTransform
    positive = dist.constraints.positive
    law = lambda p: dist.TransformedDistribution(base, shift(p, 1.0, domain=positive))
    keys = jax.random.split(KEY, 4_000)

    def mean(p, estimator):
        each = lambda key: ex.expect(key, law(p), jnp.tanh, estimator)
        return jax.vmap(each)(keys).mean()

    slopes = [jax.grad(mean)(0.5, e) for e in (ex.Pathwise(), ex.LeaveOneOut(4))]
    np.testing.assert_allclose(*slopes, atol=0.02)
