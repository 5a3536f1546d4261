"""The triples of every family: their mean is the derivative, for costs with a jump too.

The truth is a sum, or a quadrature, of f times NumPyro's density, differentiated by JAX. It shares
nothing with the triples.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import expectax as ex
from expectax.distributions import Signed, joint
from expectax.testing import Gate, check_mean, gather, over_keys

pytestmark = pytest.mark.usefixtures("float64")


@dataclasses.dataclass(frozen=True)
class Family:
    """A family with two settings of its parameters as the batch.

    Attributes:
        make: from the parameters to q, batch shape (2,).
        params: a dict of arrays of shape (2,), or (2, C).
        support: the points and masses by which a density is summed.
    """

    make: Callable[[Any], Any]
    params: dict[str, np.ndarray]
    support: tuple[np.ndarray, np.ndarray]


def whole(num: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(float(num)), np.ones(num)


def line(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre, in pieces between which the cost may jump, crowded towards 0."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    inner = {-6, -4, -2, 0, 1e-9, 1e-6, 1e-4, 0.01, 0.1, 0.5, JUMP, 3, 6, 12, 24}
    cuts = np.array(sorted({low, high, *(c for c in inner if low < c < high)}))
    middle, half = (cuts[1:] + cuts[:-1]) / 2, (cuts[1:] - cuts[:-1]) / 2
    points = middle[:, None] + half[:, None] * nodes
    return points.ravel(), (half[:, None] * weights).ravel()


JUMP = 0.6
FAMILIES = {
    "bits by probs": Family(
        lambda p: dist.Bernoulli(**p), {"probs": np.array([0.3, 0.8])}, whole(2)
    ),
    "categories": Family(
        lambda p: dist.Categorical(**p, validate_args=False),
        {"logits": np.array([[0.4, -1.0, 0.8, 0.0], [0.9, 0.3, -np.inf, -0.5]])},
        whole(4),
    ),
    "binomial by probs": Family(
        lambda p: dist.Binomial(3, **p), {"probs": np.array([0.3, 0.85])}, whole(4)
    ),
    "poisson": Family(lambda p: dist.Poisson(**p), {"rate": np.array([1.4, 3.0])}, whole(40)),
    "geometric": Family(
        lambda p: dist.GeometricProbs(**p), {"probs": np.array([0.4, 0.75])}, whole(150)
    ),
    "geometric by logits": Family(
        lambda p: dist.GeometricLogits(**p), {"logits": np.array([-0.5, 0.8])}, whole(150)
    ),
    "exponential": Family(
        lambda p: dist.Exponential(**p), {"rate": np.array([0.6, 1.8])}, line(0, 80)
    ),
    "normal": Family(
        lambda p: dist.Normal(**p),
        {"loc": np.array([0.9, -0.3]), "scale": np.array([0.8, 1.4])},
        line(-15, 15),
    ),
    "gamma": Family(
        lambda p: dist.Gamma(**p),
        {"concentration": np.array([1.2, 4.0]), "rate": np.array([0.8, 2.0])},
        line(0, 60),
    ),
    "shared and expanded": Family(
        lambda p: dist.Normal(p["loc"][0], p["scale"][0]).expand((2,)),
        {"loc": np.array([0.9]), "scale": np.array([0.8])},
        line(-15, 15),
    ),
}
COSTS = {
    "smooth": lambda x: jnp.sin(1.3 * x) + 0.4 * x,
    "a jump": lambda x: jnp.where(x > JUMP, 1.0, -0.5),
}
WEIGHTS = np.array([1.0, -0.7])


def exact(family: Family, params: Any, f: Any) -> Any:
    """E[f], shape (2,), by the density."""
    points, mass = family.support
    points = points.astype(int) if family.make(params).is_discrete else points
    density = jnp.exp(family.make(params).log_prob(points[:, None]))
    return jnp.sum((mass * f(points))[:, None] * density, axis=0)


def gradients(value: Any, params: Any) -> Any:
    """By cost, the gradient of the weighted sum of value(params, f) over the batch."""
    one = lambda f: jax.grad(lambda p: jnp.sum(WEIGHTS * value(p, f)))(params)
    return {name: one(f) for name, f in COSTS.items()}


def check(family: Family, what: str, factor: float = 1.0) -> None:
    """The mean of `factor` times the estimate is the derivative."""
    params, gate = jax.tree.map(jnp.asarray, family.params), Gate()
    truth = jax.jit(lambda p: gradients(lambda p, f: exact(family, p, f), p))(params)
    # a density that is 0 has no derivative in a logit of −inf
    masked = jax.tree.map(jnp.isneginf, params)
    truth = {name: jax.tree.map(lambda t, m: jnp.where(m, 0, t), x, masked)
             for name, x in truth.items()}  # fmt: skip
    scale = jax.tree.map(lambda t: jnp.max(jnp.abs(t)), truth)

    def sample(key, params):
        value = lambda p, f: ex.expect(key, family.make(p), f, ex.MeasureValued())
        return jax.tree.map(lambda g: factor * g, gradients(value, params))

    moments = gather(over_keys(sample), jax.random.key(5), params, scale=scale, gate=gate)
    check_mean(moments, truth, scale=scale, gate=gate, what=what)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_mean_of_the_triples_is_the_derivative(name):
    check(FAMILIES[name], name)


def test_a_constant_that_is_a_little_off_is_seen():
    with pytest.raises(AssertionError, match="is off by"):
        check(FAMILIES["poisson"], "broken", factor=1.04)


def test_one_evaluation_of_f_serves_the_whole_batch():
    evaluations = lambda q: ex.MeasureValued().evaluations(joint(q))
    for num in (2, 500):
        q = {
            "normal": dist.Normal(jnp.zeros((num, 4)), 1.0).to_event(1),
            "gamma": dist.Gamma(jnp.ones((num, 3)), 1.0).to_event(1),
            "bits": dist.Bernoulli(logits=jnp.zeros((num, 5))).to_event(1),
            "categories": dist.Categorical(logits=jnp.zeros((num, 2, 7))).to_event(1),
        }
        assert evaluations(q).hard == 1
        assert evaluations(q).auxiliary == 4 * 3 + 3 * 2 + 5 + 2 * 6


def test_a_family_without_triples_is_refused_and_a_subclass_is_not_taken_for_its_parent():
    q = dist.VonMises(0.0, 1.0)
    with pytest.raises(ex.IncompatibleError, match=r"VonMises.*\n.*difference of two laws"):
        ex.expect(jax.random.key(0), q, jnp.cos, ex.MeasureValued())
    chi2 = joint(dist.Chi2(jnp.array([2.0]))).sites[0]  # a Gamma by inheritance
    assert not isinstance(chi2, Signed)


def test_values_outside_the_support_are_never_tried():
    # n = 0 trials, and draws at both ends of the range
    def cost(x):
        return jnp.where((x >= 0) & (x <= n), 1.0 * x, jnp.nan)

    n = jnp.array([0, 1, 2, 2])
    q = lambda logits: dist.Binomial(n, logits=logits)
    loss = lambda logits, key: ex.expect(key, q(logits), cost, ex.MeasureValued()).sum()
    keys = jax.random.split(jax.random.key(0), 200)
    gradients = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(jnp.array([0.3, 0, 9.0, -9.0]), keys)
    assert jnp.isfinite(gradients).all()
    assert (gradients[:, 0] == 0).all()
    assert np.allclose(gradients[:, 1], 0.25)  # n p (1 − p)
