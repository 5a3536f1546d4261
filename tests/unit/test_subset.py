"""`Subset`: its law, marginals, draws and slopes, by enumeration and closed forms."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.infer.util import log_density
from scipy import stats

import expectax as ex
from expectax.distributions import Averaged, Relaxable, Solvable, joint
from expectax.distributions._sets import unrank_order, unrank_set
from expectax.distributions._subset import log_sums

LOGITS = np.array([[0.9, -0.4, 0.2, -1.1, 2.0], [0.0, 0.0, 0.5, -np.inf, 0.3]])
SETS = np.array([np.eye(5)[list(s)].sum(axis=0) for s in itertools.combinations(range(5), 3)])
DRAWS = 200_000
Z, POWER = 4.5, 0.02


def by_hand() -> np.ndarray:
    """p of the ten sets, shape (10, 2)."""
    with np.errstate(invalid="ignore"):
        weights = np.array([[math.prod(np.exp(t[b == 1])) for t in LOGITS] for b in SETS])
    return weights / weights.sum(axis=0)


def test_shapes_support_and_the_list_of_outcomes():
    q = ex.Subset(jnp.asarray(LOGITS, jnp.float32), 3)
    assert (q.batch_shape, q.event_shape, q.event_dim) == ((2,), (5,), 1)
    full, short = q.enumerate_support(), q.enumerate_support(expand=False)
    assert (full.shape, short.shape) == ((10, 2, 5), (10, 1, 5))
    np.testing.assert_array_equal(short[:, 0], SETS)
    np.testing.assert_array_equal(full, np.broadcast_to(short, (10, 2, 5)))
    assert bool(q.support(full).all())
    for outside in ([1, 1, 0, 0, 0], [1.5, 1, 0.5, 0, 0], [3, 0, 0, 0, 0]):
        assert not bool(q.support(jnp.array(outside)))
    assert bool(q.support(q.support.feasible_like(jnp.ones((4, 5)))).all())
    assert q.support == ex.Subset(jnp.zeros(4), 3).support != ex.Subset(jnp.zeros(4), 2).support
    assert q.support.is_discrete


@pytest.mark.parametrize(("n", "k"), [(6, 1), (6, 3), (5, 5), (30, 2)])
def test_outcomes_are_numbered_without_gaps(n, k):
    sets = unrank_set(jnp.arange(math.comb(n, k)), n, k)
    expected = np.zeros((math.comb(n, k), n), bool)
    np.put_along_axis(expected, np.array(list(itertools.combinations(range(n), k))), True, axis=1)
    np.testing.assert_array_equal(sets, expected)


def test_late_numbers_of_a_long_list():
    last = math.comb(33, 16) - 1  # 1.2e9, with larger binomials on the way
    (found,) = unrank_set(jnp.array([last]), 33, 16)
    np.testing.assert_array_equal(found, np.arange(33) >= 17)


@pytest.mark.parametrize(("n", "k"), [(4, 4), (5, 2)])
def test_orders_are_numbered_without_gaps(n, k):
    rows = np.asarray(unrank_order(jnp.arange(math.perm(n, k)), n, k))
    assert rows.sum(axis=-1).min() == rows.sum(axis=-1).max() == 1
    found = {tuple(order) for order in rows.argmax(axis=-1).tolist()}
    assert found == set(itertools.permutations(range(n), k))


@pytest.mark.usefixtures("float64")
def test_law_marginals_and_entropy_are_those_by_enumeration():
    q, p = ex.Subset(jnp.asarray(LOGITS), 3), by_hand()
    log_p = q.log_prob(q.enumerate_support())
    np.testing.assert_allclose(jnp.exp(log_p), p, rtol=1e-12)
    mean = np.einsum("sb,sn->bn", p, SETS)
    np.testing.assert_allclose(q.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(q.variance, mean * (1 - mean), rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(q.entropy(), stats.entropy(p, axis=0), rtol=1e-12)
    assert q.mean[1, 3] == 0  # masked


@pytest.mark.usefixtures("float64")
def test_first_and_second_derivatives_are_the_moments():
    """∇ log p(b) = b − E[b] and ∇² log p(b) = −Cov(b)."""
    p = by_hand()
    mean = np.einsum("sb,sn->bn", p, SETS)
    for i, logits in enumerate(jnp.asarray(LOGITS)):
        f = lambda t: ex.Subset(t, 3, validate_args=False).log_prob(jnp.asarray(SETS[4]))
        possible = np.isfinite(LOGITS[i])
        slope, curve = jax.jit(jax.grad(f))(logits), jax.jit(jax.hessian(f))(logits)
        np.testing.assert_allclose(slope, (SETS[4] - mean[i]) * possible, rtol=1e-11, atol=1e-14)
        centered = SETS - mean[i]
        covariance = np.einsum("s,sm,sn->mn", p[:, i], centered, centered)
        np.testing.assert_allclose(curve, -covariance, rtol=1e-10, atol=1e-14)


def test_draws_have_the_frequencies_of_the_law():
    q, p = ex.Subset(jnp.asarray(LOGITS, jnp.float32), 3), by_hand()
    draws = jax.jit(lambda key: q.sample(key, (DRAWS,)))(jax.random.key(0))
    assert (draws.shape, draws.dtype) == ((DRAWS, 2, 5), jnp.float32)
    assert bool(q.support(draws).all())
    seen = (np.asarray(draws)[:, None] == SETS[:, None]).all(axis=-1).mean(axis=0)
    error = np.sqrt(p * (1 - p) / DRAWS)
    assert np.all(Z * error <= POWER * p.max(axis=0))
    assert np.all(np.abs(seen - p) <= Z * error)
    assert np.all(seen[p == 0] == 0)


def test_to_event_and_expand():
    q = ex.Subset(jnp.asarray(LOGITS, jnp.float32), 3)
    both = q.to_event(1)
    assert (both.batch_shape, both.event_shape) == ((), (2, 5))
    view = joint(both).sites[0]
    assert view.num_outcomes == 100
    outcomes = view.outcome(jnp.arange(100))
    p = jnp.exp(view.log_prob(outcomes))
    np.testing.assert_allclose(p, jnp.exp(both.log_prob(outcomes)), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-5)
    wide = ex.Subset(jnp.zeros(5), 2).expand((3,))
    view = joint(wide).sites[0]
    assert (view.batch_shape, view.event_shape, view.num_outcomes) == ((3,), (5,), 10)
    assert wide.sample(jax.random.key(0), (4,)).shape == view.sample(jax.random.key(0), 4).shape
    np.testing.assert_allclose(view.mean, np.full((3, 5), 0.4), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saturated_logits_stay_finite_and_sure(dtype):
    logits = jnp.array([-jnp.inf, 90.0, -80.0, 0.0, 1000.0, -jnp.inf], dtype)
    q = ex.Subset(logits, 3)
    draw = q.sample(jax.random.key(0))
    assert draw.tolist() == [0.0, 1.0, 0.0, 1.0, 1.0, 0.0]
    assert draw.dtype == q.mean.dtype == dtype
    assert float(q.log_prob(draw)) == 0.0
    np.testing.assert_allclose(np.asarray(q.mean, float), np.asarray(draw, float), atol=1e-30)
    f = lambda t: ex.Subset(t, 3).log_prob(draw)
    assert bool(jnp.isfinite(jax.grad(f)(logits)).all())
    assert float(q.entropy()) == 0.0
    everything = ex.Subset(jnp.array([0.0, -3.0]), 2)
    assert everything.sample(jax.random.key(1)).tolist() == [1.0, 1.0]
    assert float(everything.log_prob(jnp.ones(2))) == 0.0


def test_many_items_in_single_precision():
    logits = np.random.default_rng(0).normal(size=400) * 3
    with jax.enable_x64(True):
        exact = float(log_sums(jnp.asarray(logits), 40)[0])
    single = log_sums(jnp.asarray(logits, jnp.float32), 40)[0]
    assert abs(float(single) - exact) < 1e-5 * exact
    q = ex.Subset(jnp.asarray(logits, jnp.float32), 40)
    assert abs(float(q.mean.sum()) - 40) < 1e-2
    assert float(q.sample(jax.random.key(0)).sum()) == 40
    # equal weights: e_k is a binomial coefficient
    equal = log_sums(jnp.zeros(400), 40)[0]
    assert abs(float(equal) - math.log(math.comb(400, 40))) < 1e-3


def test_it_is_scored_averaged_and_listed_but_not_solved_by_perturbed_logits():
    view = joint(ex.Subset(jnp.zeros(4), 2)).sites[0]
    assert isinstance(view, Averaged)
    assert not isinstance(view, Solvable | Relaxable)
    cost = lambda b: jnp.sum(b, axis=-1)
    with pytest.raises(ex.IncompatibleError, match="TopK"):
        ex.expect(jax.random.key(0), ex.Subset(jnp.zeros(4), 2), cost, ex.GumbelSoftmax(0.5))


def test_wrong_arguments_are_refused():
    for k in (0, 5, 2.0, True):
        with pytest.raises(ex.InvalidArgumentError, match="whole number from 1 to 4"):
            ex.Subset(jnp.zeros(4), k)
    with pytest.raises(ex.InvalidArgumentError, match="runs over the items"):
        ex.Subset(jnp.zeros(()), 1)
    with pytest.raises(ValueError, match="logits"):
        ex.Subset(jnp.array([0.0, jnp.nan]), 1, validate_args=True)


def test_it_passes_through_transforms_and_numpyro_models():
    q = ex.Subset(jnp.zeros((2, 4)), 2)
    leaves, structure = jax.tree.flatten(q)
    assert [x.shape for x in leaves] == [(2, 4)]
    again = jax.tree.unflatten(structure, leaves)
    assert (again.k, again.batch_shape, again.event_shape) == (2, (2,), (4,))
    entropy = jax.jit(jax.vmap(lambda q: q.entropy()))(q)
    np.testing.assert_allclose(entropy, math.log(6), rtol=1e-5)

    def model():
        import numpyro

        b = numpyro.sample("b", ex.Subset(jnp.zeros(4), 2))
        numpyro.sample("x", dist.Normal(b.sum(), 1.0), obs=2.0)

    value = handlers.seed(model, 0)
    trace = handlers.trace(value).get_trace()
    density, _ = log_density(model, (), {}, {"b": trace["b"]["value"]})
    np.testing.assert_allclose(density, -math.log(6) + stats.norm.logpdf(0), rtol=1e-5)
