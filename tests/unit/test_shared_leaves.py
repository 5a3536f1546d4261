"""Parameters that batch elements share, also where their shape looks like that of the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import expectax as ex
from expectax.distributions import joint
from expectax.testing import Gate, check_mean, gather, over_keys

pytestmark = pytest.mark.usefixtures("float64")

LOC = np.array([0.8, -0.5])  # one for each variable of the event; the batch has two elements too
COST = np.array([[0.7, -1.1], [1.2, 0.4]])
WEIGHTS = np.array([1.0, -0.6])


def q_of(loc, scale=1.0):
    """Two batch elements of two Laplace variables, of one location for each variable."""
    return dist.Laplace(loc, scale).expand((2, 2)).to_event(1)


def control(weights, x):
    return weights * jnp.sum(x**2, axis=-1)


ESTIMATORS = {
    "OptimalBaseline": ex.OptimalBaseline(3),
    "LAX": ex.LAX(jax.tree_util.Partial(control, jnp.array([0.6, 0.3]))),
    "FiniteDifference": ex.FiniteDifference(0.05),  # of a cost that is a square: without bias
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_shared_parameter_receives_the_weighted_sum_over_the_batch(name):
    def sample(key, loc):
        f = lambda x: jnp.sum(COST * x**2, axis=-1)
        value = lambda loc: ex.expect(key, q_of(loc), f, ESTIMATORS[name])
        return jax.grad(lambda loc: jnp.sum(WEIGHTS * value(loc)))(loc)

    truth = 2 * LOC * (WEIGHTS @ COST)  # E[x²] = loc² + 2
    scale = np.abs(truth).max()
    program = over_keys(sample)
    moments = gather(program, jax.random.key(0), jnp.asarray(LOC), scale=scale, gate=Gate())
    check_mean(moments, truth, scale=scale, what=name)


def test_what_a_control_variate_minimises_adds_up_to_the_square_of_the_shared_gradient():
    f = lambda x: jnp.sum(COST * x**2, axis=-1)
    key = jax.random.key(1)

    def total(q, weights):
        estimator = ex.LAX(jax.tree_util.Partial(control, weights))
        return jnp.sum(ex.expect(key, q_of(*q), f, estimator))

    q = (jnp.asarray(LOC), jnp.array([1.0]))  # the scale counts too, trained or not
    sum_squares = lambda tree: sum(jnp.sum(g**2) for g in jax.tree.leaves(tree))
    square = jax.jit(lambda weights: sum_squares(jax.grad(total)(q, weights)))
    weights, step = np.array([0.6, 0.3]), 1e-5
    received = jax.jit(jax.grad(total, argnums=1))(q, jnp.asarray(weights))
    wanted = [(square(weights + h) - square(weights - h)) / (2 * step) for h in step * np.eye(2)]
    np.testing.assert_allclose(received, wanted, rtol=1e-6)
    assert np.abs(wanted).min() > 0.1


def test_which_leaves_belong_to_one_batch_element_each():
    def flags(q):
        """Shape of each leaf, and whether it is aligned."""
        views = joint(q)
        leaves = jax.tree.leaves(views.opened()[0])
        return {x.shape: a for x, a in zip(leaves, jax.tree.leaves(views.aligned()), strict=True)}

    full = jnp.zeros((2, 2))
    laplace = lambda loc, scale: dist.Laplace(loc, scale).to_event(1)
    assert flags(laplace(full, full + 1)) == {(2, 2): True}
    assert flags(q_of(jnp.asarray(LOC), jnp.ones(()))) == {(2,): False, (1,): False}
    assert flags(laplace(full, jnp.ones((2, 1)))) == {(2, 2): True, (2, 1): True}
    assert flags(laplace(full, jnp.ones((1, 2)))) == {(2, 2): True, (1, 2): False}
    normal = dist.MultivariateNormal(jnp.zeros((2, 2)), scale_tril=jnp.eye(2))
    assert flags(normal) == {(2, 2): True, (1, 2, 2): False}
    levels = dist.OrderedLogistic(jnp.zeros(3), jnp.array([-1.0, 1.0]))
    assert flags(levels) == {(3, 3): True}  # its view has the logits that it makes of both
    assert flags(dist.Bernoulli(logits=jnp.zeros((2, 3)))) == {(2, 3): True}
