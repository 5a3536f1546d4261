"""The gradients of the multi-sample bound: exact sums over every set of draws, and quadrature."""

import itertools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import expectax as ex
from expectax.distributions import Joint, joint
from expectax.objectives import VIMCO, DoublyReparameterized, neg_multi_sample_bound

pytestmark = pytest.mark.usefixtures("float64")

KINDS = ("bits", "categories")


def params_of(kind):
    """Parameters of q and p, each batch element its own, and one that the two share."""
    rng = np.random.default_rng(4)
    shape = (2, 2) if kind == "bits" else (2, 3)
    draw = lambda *shape: jnp.asarray(1.2 * rng.normal(size=shape))
    return {"q": draw(*shape), "p": draw(*shape[1:]), "w": draw(shape[1]), "both": draw()}


def q_of(kind, params):
    logits = params["q"] + params["both"] * jnp.arange(params["q"].shape[1])
    if kind == "bits":
        return dist.Bernoulli(logits=logits).to_event(1)
    return ex.OneHotCategorical(logits=logits)


def log_joint(params, z):
    data = jnp.array([0.7, -1.3])  # one number for each batch element
    return z @ params["p"] - 0.5 * (data - params["both"] * jnp.tanh(z @ params["w"]) * 2) ** 2


def scenes(kind, params, num):
    """Every way in which `num` draws can fall, (scenes, num, B, event), and its log-probability."""
    views = joint(q_of(kind, params))
    outcomes = views.outcome(jnp.arange(views.num_outcomes))
    which = np.array(list(itertools.product(range(views.num_outcomes), repeat=num)))
    draws = outcomes[which]
    return draws, jax.vmap(views.log_prob)(draws).sum(1)


def exact(kind, params, num):
    """−E[log mean w], the sum written out."""
    draws, log_q = scenes(kind, params, num)
    each = jax.vmap(jax.vmap(lambda z: log_joint(params, z)))(draws)
    log_w = each - jax.vmap(joint(q_of(kind, params)).log_prob)(draws)
    bound = jax.nn.logsumexp(log_w, axis=1) - jnp.log(num)
    return -jnp.sum(jnp.exp(log_q) * bound, axis=0).sum()


def mean_of(kind, params, num, gradient):
    """The mean of the objective over every set of draws, with the mean of its derivatives."""
    draws, log_q = jax.lax.stop_gradient(scenes(kind, params, num))
    one_site_each = not isinstance(gradient, VIMCO)

    def play(draws):
        given = [z[None] for z in draws] if one_site_each else draws
        with mock.patch.object(Joint, "sample", return_value=given):
            f = lambda z: log_joint(params, z)
            key = jax.random.key(0)
            return neg_multi_sample_bound(key, q_of(kind, params), f, num, gradient)

    return jnp.sum(jnp.exp(log_q) * jax.vmap(play)(draws), axis=0).sum()


def assert_close(got, want):
    for name in want:
        assert np.abs(want[name]).max() > 0.02, f"{name} hardly matters"
        np.testing.assert_allclose(got[name], want[name], rtol=1e-10, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num", [2, 3])
def test_vimco_and_the_score_function_have_the_gradient_of_the_bound(kind, num):
    params = params_of(kind)
    both = lambda f: jax.jit(jax.value_and_grad(f))(params)
    value, truth = both(lambda p: exact(kind, p, num))
    for gradient in (VIMCO(), ex.ScoreFunction()):
        mean, got = both(lambda p, g=gradient: mean_of(kind, p, num, g))
        assert np.isclose(mean, value, rtol=1e-12)
        assert_close(got, truth)


def test_vimco_is_right_to_second_order():
    params = params_of("bits")
    direction = {"q": jnp.array([[1.0, -0.4], [0.3, 2.0]]), "p": jnp.array([0.2, 1.0])}
    moved = lambda f, t: f(params | {k: params[k] + t * direction[k] for k in direction})
    second = lambda f: jax.jit(jax.grad(jax.grad(lambda t: moved(f, t))))(0.0)
    truth = second(lambda p: exact("bits", p, 2))
    assert np.isclose(second(lambda p: mean_of("bits", p, 2, VIMCO())), truth, rtol=1e-10)


def test_without_either_of_its_terms_vimco_would_be_wrong():
    params = params_of("bits")
    truth = jax.jit(jax.grad(lambda p: exact("bits", p, 3)))(params)["both"]

    def second_term(p):
        draws, log_q = jax.lax.stop_gradient(scenes("bits", params, 3))
        each = jax.vmap(jax.vmap(lambda z: log_joint(p, z)))(draws)
        log_w = each - jax.vmap(joint(q_of("bits", p)).log_prob)(draws)
        return -jnp.sum(jnp.exp(log_q) * jax.nn.logsumexp(log_w, axis=1), axis=0).sum()

    weights = jax.jit(jax.grad(second_term))(params)["both"]
    assert min(abs(weights), abs(truth - weights)) > 0.1 * abs(truth)


def test_vimco_is_what_its_formula_says_for_the_draws_it_made():
    params, num = params_of("bits"), 4
    f = lambda z: log_joint(params, z)

    def loss(logits, key):
        q = dist.Bernoulli(logits=logits).to_event(1)
        return neg_multi_sample_bound(key, q, f, num, VIMCO()).sum()

    @jax.jit
    def made(key):
        q = q_of("bits", params)
        logits = q.base_dist.logits
        draws = joint(q).sample(key, num)
        score, log_w = draws - jax.nn.sigmoid(logits), jax.vmap(f)(draws) - q.log_prob(draws)
        return jax.grad(loss)(logits, key), score, log_w

    got, score, log_w = map(np.asarray, made(jax.random.key(3)))
    bound = np.log(np.exp(log_w).mean(0))
    share = np.exp(log_w) / np.exp(log_w).sum(0)
    want = 0.0
    for k in range(num):
        replaced = log_w.copy()
        replaced[k] = np.delete(log_w, k, axis=0).mean(0)
        signal = bound - np.log(np.exp(replaced).mean(0))
        want = want - (signal - share[k])[:, None] * score[k]
    np.testing.assert_allclose(got, want, rtol=1e-9)


def normal_params():
    return {"loc": jnp.array([0.4, -1.1]), "log_sd": jnp.array([-0.3, 0.2]), "p": jnp.array(0.2)}


def of_normals(params, gradient=None, nodes=50):
    """The objective's mean over two normal draws by quadrature; without a gradient, the bound."""
    x, mass = np.polynomial.hermite_e.hermegauss(nodes)
    noise = jnp.array(list(itertools.product(x, repeat=2)))[..., None]  # (scenes, K, 1)
    mass = jnp.array(list(itertools.product(mass, repeat=2))).prod(1) / (2 * np.pi)
    loc, sd = params["loc"], jnp.exp(params["log_sd"])
    q = dist.Normal(loc, sd)
    f = lambda z: dist.Normal(0.0, 1.5).log_prob(z) - params["p"] * (z - 0.8) ** 2

    def play(noise):
        draws = loc + sd * noise
        if gradient is None:
            log_w = jax.vmap(f)(draws) - q.log_prob(draws)
            return -jax.nn.logsumexp(log_w, axis=0) + jnp.log(2)
        apart = isinstance(gradient, ex.Pathwise)  # it draws its K variables one after the other
        given = itertools.cycle([e[None] for e in noise] if apart else [noise])
        reparameterized = lambda q, *_, **__: q.loc + q.scale * next(given)
        with mock.patch.object(dist.Normal, "sample", reparameterized):
            return neg_multi_sample_bound(jax.random.key(0), q, f, 2, gradient)

    return jnp.sum(mass[:, None] * jax.vmap(play)(noise), axis=0).sum()


def test_doubly_reparameterized_and_pathwise_have_the_gradient_of_the_bound():
    params = normal_params()
    value, truth = jax.jit(jax.value_and_grad(of_normals))(params)
    fine = jax.jit(jax.value_and_grad(lambda p: of_normals(p, nodes=80)))(params)
    np.testing.assert_allclose(fine[0], value, rtol=1e-8)  # the quadrature has converged
    for gradient in (DoublyReparameterized(), ex.Pathwise()):
        mean, got = jax.jit(jax.value_and_grad(lambda p, g=gradient: of_normals(p, g)))(params)
        assert np.isclose(mean, value, rtol=1e-12)
        for name in truth:
            assert np.abs(truth[name]).max() > 0.02, name
            np.testing.assert_allclose(got[name], truth[name], rtol=1e-6, atol=1e-7, err_msg=name)


def test_at_the_posterior_the_doubly_reparameterized_gradient_has_no_noise():
    def loss(loc, key, gradient):
        q = dist.Normal(loc, 1.0)
        f = lambda z: dist.Normal(0.3, 1.0).log_prob(z)
        return neg_multi_sample_bound(key, q, f, 4, gradient)

    noise = lambda g: jax.jit(jax.grad(loss), static_argnums=2)(0.3, jax.random.key(1), g)
    assert abs(noise(DoublyReparameterized())) < 1e-12
    assert abs(noise(ex.Pathwise())) > 1e-3


def test_what_cannot_work_is_refused():
    q, f, key = dist.Bernoulli(logits=jnp.zeros(2)).to_event(1), jnp.sum, jax.random.key(0)
    with pytest.raises(ex.InvalidArgumentError, match="at least 2"):
        neg_multi_sample_bound(key, q, f, 1, VIMCO())
    with pytest.raises(ex.InvalidArgumentError, match="at least 1"):
        neg_multi_sample_bound(key, q, f, 0, ex.ScoreFunction())
    with pytest.raises(ex.IncompatibleError, match="DoublyReparameterized cannot serve"):
        neg_multi_sample_bound(key, q, f, 2, DoublyReparameterized())
    with pytest.raises(ex.InvalidArgumentError, match="VIMCO"):
        neg_multi_sample_bound(key, q, f, 2, "vimco")
