"""The operator itself: what it returns, what it differentiates, and what it refuses."""

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import expectax as ex
from expectax.testing import check_mean, gather, over_keys

KEY = jax.random.key(0)
# Most of the time is compiling, and nothing here runs long.
run = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": "0"})
WEIGHTS = jnp.array([1.0, -2.0, 0.5])


def bits(logits):
    """A batch of vectors of bits."""
    return dist.Bernoulli(logits=jnp.asarray(logits)).to_event(1)


def cost(b):
    """Shape (..., 3) to (...,)."""
    return (b @ WEIGHTS) ** 2


# What it returns


@pytest.mark.parametrize(
    ("estimator", "num_draws"),
    [
        (ex.ScoreFunction(3), 3),
        (ex.LeaveOneOut(2), 2),
        (ex.DisARM(2), 4),
        (ex.REBAR(), 1),
        (ex.MuProp(), 1),
        (ex.Enumerate(), 8),
        (ex.Enumerate(chunk_size=3), 8),
    ],
)
def test_aux_comes_back_for_the_hard_draws_with_an_axis_of_draws(estimator, num_draws):
    def loss(logits):
        def f(b):
            return cost(b), {"draw": b, "count": jnp.sum(b > 0.5, axis=-1)}

        value, aux = ex.expect(KEY, bits(logits), f, estimator, has_aux=True)
        return value.sum(), (value, aux)

    (_, (value, aux)), grads = run(jax.value_and_grad(loss, has_aux=True))(jnp.ones((5, 3)))
    assert value.shape == (5,)
    assert grads.shape == (5, 3)
    assert aux["draw"].shape == (num_draws, 5, 3)
    assert aux["count"].shape == (num_draws, 5)
    assert jnp.issubdtype(aux["count"].dtype, jnp.integer)
    assert set(np.unique(aux["draw"])) <= {0.0, 1.0}  # hard, and not the relaxed or the mean
    assert (aux["draw"].sum(-1) == aux["count"]).all()


def test_aux_without_a_derivative_is_that_of_the_value():
    f = lambda b: (cost(b), b)
    for estimator in (ex.REBAR(), ex.MuProp(), ex.DirectArgmax(), ex.DisARM()):
        value, draws = run(lambda x, e=estimator: ex.expect(KEY, bits(x), f, e, has_aux=True))(
            jnp.ones((2, 3))
        )
        np.testing.assert_allclose(value, cost(draws).mean(axis=0), rtol=1e-6)


def test_aux_carries_no_gradient():
    def loss(logits, weight):
        f = lambda b: (cost(b), weight * cost(b))
        return ex.expect(KEY, bits(logits), f, ex.ScoreFunction(), has_aux=True)[1].sum()

    grads = run(jax.grad(loss, argnums=(0, 1)))(jnp.ones((2, 3)), 2.0)
    assert all((g == 0).all() for g in grads)


def test_the_value_has_the_batch_shape_and_the_type_of_the_cost():
    def typed(batch, f, estimator):
        return jax.eval_shape(lambda: ex.expect(KEY, bits(jnp.ones((*batch, 3))), f, estimator))

    for batch in ((), (2,), (2, 4)):
        assert typed(batch, cost, ex.LeaveOneOut()).shape == batch
        assert typed(batch, lambda b: b.sum(-1) > 1, ex.DisARM()).dtype == jnp.float32
        assert typed(batch, lambda b: cost(b).astype(jnp.float16), ex.ARM()).dtype == "float16"


def test_whole_numbers_keep_their_digits_in_float64():
    with jax.enable_x64(True):
        large = 2**40 + 1
        value = ex.expect(KEY, bits(jnp.ones(3)), lambda _: jnp.int64(large), ex.DisARM())
        assert int(value) == large


def test_q_may_be_any_pytree_and_f_gets_the_same():
    q = (bits(jnp.zeros((4, 3))), {"k": ex.OneHotCategorical(logits=jnp.zeros((4, 2)))})

    def f(draw):
        b, rest = draw
        assert set(rest) == {"k"}
        return cost(b) + rest["k"][..., 0]

    assert jax.eval_shape(lambda: ex.expect(KEY, q, f, ex.REBAR())).shape == (4,)


def test_the_sites_of_a_pytree_are_independent():
    q = {
        "a": dist.Bernoulli(logits=jnp.zeros(10_000)),
        "b": dist.Bernoulli(logits=jnp.zeros(10_000)),
    }
    f = lambda d: (d["a"] == d["b"]) * 1.0
    same = run(lambda: ex.expect(KEY, q, f, ex.ScoreFunction()))()
    assert abs(same.mean() - 0.5) < 4.5 * 0.5 / math.sqrt(10_000)


def test_f_is_traced_once():
    calls = []

    def f(b):
        calls.append(1)
        return cost(b)

    gradient = jax.grad(lambda x: ex.expect(KEY, bits(x), f, ex.LeaveOneOut(4)))
    jax.eval_shape(gradient, jnp.ones(3))
    assert len(calls) == 1


# What it differentiates: the distribution itself, by whatever parameters it was made


def _binomial(logits, total):
    k = np.arange(total + 1)
    ways = np.array([math.comb(total, i) for i in k])
    p = jax.nn.sigmoid(logits)[..., None]
    return ways * p**k * (1 - p) ** (total - k)


BEND = jnp.array([0.3, 1.1, -0.7, 2.0, 0.2])
LOGITS = jnp.array([0.0, 0.8, -1.1])
PROBS = jnp.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
SCORES = jnp.array([[0.0, 0.0, 0.0], [1.0, -0.5, 0.3]])
pick = lambda k: BEND[k.astype(int)]
dot = lambda b: b @ BEND[:3]
# name: (q, f, the exact expectation of f written out)
EXACT = {
    "Bernoulli logits": (
        lambda: dist.Bernoulli(logits=LOGITS),
        lambda b: BEND[1] * b + 0.3,
        lambda q: BEND[1] * jax.nn.sigmoid(q.logits) + 0.3,
    ),
    "Bernoulli probs": (
        lambda: dist.Bernoulli(probs=PROBS[0]),
        lambda b: BEND[1] * b + 0.3,
        lambda q: BEND[1] * q.probs + 0.3,
    ),
    "OneHotCategorical logits": (
        lambda: ex.OneHotCategorical(logits=SCORES),
        dot,
        lambda q: jax.nn.softmax(q.logits) @ BEND[:3],
    ),
    "OneHotCategorical probs": (
        lambda: ex.OneHotCategorical(probs=PROBS),
        dot,
        lambda q: q._probs @ BEND[:3] / q._probs.sum(-1),
    ),
    "Categorical logits": (
        lambda: dist.Categorical(logits=SCORES),
        pick,
        lambda q: jax.nn.softmax(q.logits) @ BEND[:3],
    ),
    "Categorical probs": (
        lambda: dist.Categorical(probs=PROBS),
        pick,
        lambda q: q.probs @ BEND[:3] / q.probs.sum(-1),
    ),
    "DiscreteUniform": (lambda: dist.DiscreteUniform(0, 3), pick, lambda _: BEND[:4].mean()),
    "to_event": (
        lambda: dist.Bernoulli(logits=LOGITS).to_event(1),
        cost,
        lambda q: _all_bits(q.base_dist.logits),
    ),
    "expand": (
        lambda: dist.Bernoulli(logits=jnp.array(0.4)).expand((2, 3)).to_event(1),
        cost,
        lambda q: jnp.stack([_all_bits(jnp.repeat(q.base_dist.base_dist.logits, 3))] * 2),
    ),
}


def _all_bits(logits):
    """E[cost] over three bits: the square of the mean, and the variances."""
    p = jax.nn.sigmoid(logits)
    return (p @ WEIGHTS) ** 2 + (p * (1 - p)) @ WEIGHTS**2


def _differentiate(function, q):
    """The gradient of function(q).sum() in the floating leaves of a distribution, as a list."""
    floats, rest = eqx.partition(q, eqx.is_inexact_array)
    total = lambda floats: jnp.sum(function(eqx.combine(floats, rest)))
    return jax.tree.leaves(run(jax.grad(total))(floats))


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.usefixtures("float64")
def test_the_gradient_reaches_the_distribution_exactly(name):
    make, f, exact = EXACT[name]
    q = make()
    value = run(lambda: ex.expect(KEY, q, f, ex.Enumerate()))()
    np.testing.assert_allclose(value, run(exact)(q), rtol=1e-6)
    found = _differentiate(lambda q: ex.expect(KEY, q, f, ex.Enumerate()), q)
    wanted = _differentiate(exact, q)
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_grad_of_a_distribution_is_a_distribution():
    q = dist.Normal(jnp.array([0.0, 1.0]), jnp.array([1.0, 2.0]))
    grads = jax.grad(lambda q: ex.expect(KEY, q, lambda x: 3 * x, ex.Pathwise()).sum())(q)
    assert isinstance(grads, dist.Normal)
    np.testing.assert_allclose(grads.loc, 3.0)


RANDOM = {
    "Bernoulli at zero": (
        jnp.zeros(2),
        lambda x: dist.Bernoulli(logits=x),
        lambda b: 1.0 + 2.0 * b,
        lambda x: 1.0 + 2.0 * jax.nn.sigmoid(x),
    ),
    "Bernoulli probs": (
        jnp.array([0.3, 0.5]),
        lambda x: dist.Bernoulli(probs=x),
        lambda b: 0.5 + 2.0 * b,
        lambda x: 0.5 + 2.0 * x,
    ),
    "Categorical logits": (
        SCORES,
        lambda x: dist.Categorical(logits=x),
        lambda k: BEND[k + 1],
        lambda x: jax.nn.softmax(x) @ BEND[1:4],
    ),
    "Categorical probs": (
        PROBS,
        lambda x: dist.Categorical(probs=x),
        lambda k: BEND[k + 1],
        lambda x: x @ BEND[1:4] / x.sum(-1),
    ),
    "Binomial at zero": (
        jnp.array([0.0, 0.7]),
        lambda x: dist.Binomial(4, logits=x),
        lambda k: BEND[k],
        lambda x: _binomial(x, 4) @ BEND,
    ),
    "Binomial probs": (
        jnp.array([0.5, 0.2]),
        lambda x: dist.Binomial(4, probs=x),
        lambda k: BEND[k],
        lambda x: _binomial(jnp.log(x) - jnp.log1p(-x), 4) @ BEND,
    ),
    "Poisson": (
        jnp.array(1.5),
        lambda x: dist.Poisson(x),
        lambda k: jnp.exp(-0.5 * k),
        lambda x: jnp.exp(x * (jnp.exp(-0.5) - 1)),
    ),
    "Normal loc": (
        jnp.array([0.5, -1.0]),
        lambda x: dist.Normal(x, 0.7),
        lambda z: jnp.sin(z),
        lambda x: jnp.sin(x) * jnp.exp(-0.245),
    ),
    "Normal scale": (
        jnp.array([0.5, 0.8]),
        lambda x: dist.Normal(0.3, x),
        lambda z: z**2,
        lambda x: 0.09 + x**2,
    ),
    "Gamma": (
        jnp.array([2.5, 0.9]),
        lambda x: dist.Gamma(x, 1.5),
        lambda z: jnp.exp(-z),
        lambda x: (1.5 / 2.5) ** x,
    ),
    "to_event and expand": (
        jnp.array([0.4, 0.0]),
        lambda x: dist.Bernoulli(logits=x[:, None]).expand((2, 3)).to_event(1),
        cost,
        lambda x: jax.vmap(lambda t: _all_bits(jnp.repeat(t, 3)))(x),
    ),
}


@pytest.mark.parametrize("estimator", [ex.LeaveOneOut(4)], ids=["LeaveOneOut"])
@pytest.mark.parametrize("name", RANDOM)
def test_the_score_function_reaches_whatever_was_passed(name, estimator):
    """In float32, as it is used; NumPyro's own scores are wrong for bits at logits of zero."""
    x, make, f, exact = RANDOM[name]

    def sample(key):
        return jax.grad(lambda x: jnp.sum(ex.expect(key, make(x), f, estimator)))(x)

    truth = run(jax.grad(lambda x: jnp.sum(exact(x))))(x)
    moments = gather(over_keys(sample), KEY, scale=jnp.max(jnp.abs(truth)))
    with jax.enable_x64(True):
        check_mean(moments, truth, what=name)


def test_numpyros_own_log_probability_would_be_biased_at_zero():
    """The reason for the view of bits: a score of 0 and 1 (and not ±½) at logits of exactly 0."""
    score = jax.vmap(jax.grad(lambda x, b: dist.Bernoulli(logits=x).log_prob(b)), (None, 0))
    assert set(score(0.0, jnp.array([0.0, 1.0])).tolist()) != {-0.5, 0.5}


@pytest.mark.parametrize("estimator", [ex.REBAR(), ex.MuProp(), ex.DirectArgmax()])
def test_auxiliary_evaluations_send_no_gradient_into_f(estimator):
    def loss(weight):
        return ex.expect(KEY, bits(LOGITS), lambda b: weight * cost(b), estimator)

    value, gradient = run(jax.value_and_grad(loss))(2.0)
    np.testing.assert_allclose(gradient, value / 2, rtol=1e-6)


def test_what_f_captures_may_itself_be_traced():
    def loss(x, weight):
        f = lambda b: weight * cost(b) + jnp.sum(x)  # one x of a vmapped batch
        return ex.expect(KEY, bits(x), f, ex.Enumerate())

    xs, weights = jnp.stack([LOGITS, -LOGITS]), jnp.array([2.0, 3.0])
    gradient = jax.grad(loss, argnums=(0, 1))
    grads, one = run(jax.vmap(gradient))(xs, weights), run(gradient)
    for i in range(2):
        for a, b in zip(grads, one(xs[i], weights[i]), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-5)


def test_one_gradient_trains_the_model_and_the_estimator():
    estimator = ex.REBAR(baseline=0.5)

    def loss(logits, estimator):
        return ex.expect(KEY, bits(logits), cost, estimator).sum()

    model, control = run(jax.grad(loss, argnums=(0, 1)))(jnp.ones((4, 3)), estimator)
    assert model.shape == (4, 3)
    assert jax.tree.structure(control) == jax.tree.structure(estimator)
    assert all((leaf != 0).all() for leaf in jax.tree.leaves(control))


def test_a_baseline_network_trains_through_the_estimator():
    x = jnp.array([1.0, 2.0, -1.0])

    def loss(weight):
        q = dist.Bernoulli(logits=jnp.zeros(3))
        return ex.expect(KEY, q, lambda b: 3.0 + 0 * b, ex.ScoreFunction(2, weight * x)).sum()

    wanted = jnp.sum(-2 * (3.0 - 0.5 * x) * x)  # ∂ Σ (3 − w x)² / ∂w
    np.testing.assert_allclose(run(jax.grad(loss))(0.5), wanted, rtol=1e-6)


# Order


def _twice(estimator, q=bits):
    loss = lambda x: ex.expect(KEY, q(x), cost, estimator)
    return run(jax.hessian(loss))(LOGITS)


def test_the_hessian_of_enumerate_is_the_hessian():
    wanted = run(jax.hessian(_all_bits))(LOGITS)
    np.testing.assert_allclose(_twice(ex.Enumerate()), wanted, atol=1e-6)
    np.testing.assert_allclose(_twice(ex.Enumerate(chunk_size=3)), wanted, atol=1e-6)


def test_a_second_derivative_says_what_to_use_instead():
    with pytest.raises(ex.HigherOrderError, match=r"DisARM\(\)") as error:
        _twice(ex.DisARM())
    _has_three_parts(error)
    assert "Enumerate()" in str(error.value)


def test_a_first_gradient_at_stopped_parameters_may_be_differentiated_around():
    def loss(x):
        return jnp.sum(first(jax.lax.stop_gradient(x)) * x)

    # as the error says: not of the gradient, but of where it is taken
    first = jax.grad(lambda y: ex.expect(KEY, bits(y), cost, ex.DisARM()))
    np.testing.assert_allclose(run(jax.grad(loss))(LOGITS), run(first)(LOGITS), rtol=1e-6)


# What it refuses


def _has_three_parts(error):
    assert "\n  why: " in str(error.value)
    assert "\n  instead: " in str(error.value)


Q = dist.Bernoulli(logits=jnp.zeros((2, 3))).to_event(1)
REFUSED = {
    "key is an int": ((0, Q, cost, ex.DisARM()), "a key that is a int"),
    "key is a float array": ((jnp.zeros(2), Q, cost, ex.DisARM()), "type float32"),
    "several keys": ((jax.random.split(KEY, 5), Q, cost, ex.DisARM()), "5 keys at once"),
    "several legacy keys": (
        (jnp.zeros((5, 2), jnp.uint32), Q, cost, ex.DisARM()),
        "5 keys at once",
    ),
    "estimator is a class": ((KEY, Q, cost, ex.DisARM), r"pass DisARM\(...\)"),
    "estimator is a string": ((KEY, Q, cost, "disarm"), "was given str as its estimator"),
    "f is a number": ((KEY, Q, 3.0, ex.DisARM()), "float as f"),
    "cost keeps the event": ((KEY, Q, lambda b: b, ex.DisARM()), r"shape \(2, 3\), where"),
    "cost is a sum over the batch": (
        (KEY, Q, lambda b: b.sum(), ex.DisARM()),
        r"shape \(\), where",
    ),
    "cost is a tuple": ((KEY, Q, lambda b: (cost(b), b), ex.DisARM()), "a cost of tuple"),
    "cost is complex": ((KEY, Q, lambda b: cost(b) * 1j, ex.DisARM()), "complex"),
    "q is an array": ((KEY, jnp.zeros(3), cost, ex.DisARM()), "q is a"),
    "q is empty": ((KEY, {}, cost, ex.DisARM()), "no distribution"),
    "q has two batch shapes": (
        (KEY, {"a": Q, "b": dist.Bernoulli(logits=jnp.zeros(7))}, cost, ex.DisARM()),
        "different batch shapes",
    ),
    "too many outcomes": (
        (
            KEY,
            dist.Bernoulli(logits=jnp.zeros(40)).to_event(1),
            lambda b: b.sum(-1),
            ex.Enumerate(),
        ),
        "joint outcomes",
    ),
    "baseline of another shape": (
        (KEY, Q, cost, ex.ScoreFunction(baseline=jnp.zeros(3))),
        r"baseline of shape \(3,\)",
    ),
    "control variate keeps the event": ((KEY, Q, cost, ex.RELAX(jnp.tanh)), "control variate"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_in_three_parts(name):
    (key, q, f, estimator), message = REFUSED[name]
    with pytest.raises(ex.InvalidArgumentError, match=message) as error:
        jax.eval_shape(lambda: ex.expect(key, q, f, estimator))
    _has_three_parts(error)


def test_aux_must_be_asked_for_with_a_pair():
    with pytest.raises(ex.InvalidArgumentError, match="with has_aux=True") as error:
        ex.expect(KEY, Q, cost, ex.DisARM(), has_aux=True)
    _has_three_parts(error)


INCOMPATIBLE = {
    "relaxation of integers": (ex.REBAR(), lambda: dist.Categorical(logits=LOGITS), "OneHot"),
    "bits needed": (ex.DisARM(), lambda: ex.OneHotCategorical(logits=LOGITS), "Bernoulli"),
    "pathwise of bits": (ex.Pathwise(), lambda: dist.Bernoulli(logits=LOGITS), "DisARM"),
    "enumeration of reals": (ex.Enumerate(), lambda: dist.Normal(LOGITS, 1.0), r"Pathwise\(\)"),
    "enumeration of all counts": (ex.Enumerate(), lambda: dist.Poisson(1.0), "ScoreFunction"),
    "one site of several": (
        ex.ARM(),
        lambda: {"fine": bits(LOGITS), "not": dist.Poisson(1.0)},
        r"q\['not'\]",
    ),
}


@pytest.mark.parametrize("name", INCOMPATIBLE)
def test_a_pair_that_cannot_work_says_what_to_pass_instead(name):
    estimator, make, message = INCOMPATIBLE[name]
    with pytest.raises(ex.IncompatibleError, match=message) as error:
        ex.expect(KEY, make(), lambda b: 0.0 * b, estimator)
    _has_three_parts(error)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ex.ScoreFunction(0),
        lambda: ex.ScoreFunction(2.0),
        lambda: ex.LeaveOneOut(1),
        lambda: ex.DisARM(0),
        lambda: ex.Pathwise(0),
        lambda: ex.GumbelSoftmax(0.0),
        lambda: ex.StraightThroughGumbelSoftmax(-1.0),
        lambda: ex.REBAR(temperature=0.0),
        lambda: ex.DirectArgmax(0.0),
        lambda: ex.RELAX(3.0),
    ],
)
def test_an_illegal_size_is_refused_when_it_is_given(make):
    with pytest.raises(ex.InvalidArgumentError) as error:
        make()
    _has_three_parts(error)


# NVIL's normalisation, which divides the gradient by design


def test_nvil_divides_the_gradient_by_a_scale_above_one():
    gradient = run(jax.grad(lambda x, estimator: ex.expect(KEY, bits(x), cost, estimator)))
    plain = gradient(LOGITS, ex.NVIL(0.3))
    np.testing.assert_allclose(gradient(LOGITS, ex.NVIL(0.3, sd=2.0)), plain / 2, rtol=1e-6)
    np.testing.assert_allclose(gradient(LOGITS, ex.NVIL(0.3, sd=0.5)), plain, rtol=1e-6)


@pytest.mark.parametrize("estimator", [ex.ScoreFunction(), ex.REBAR(), ex.DisARM(), ex.Enumerate()])
def test_an_auxiliary_output_may_hold_plain_numbers(estimator):
    q = dist.Bernoulli(logits=jnp.zeros(2)).to_event(1)
    f = lambda b: (b.sum(-1), {"n": 3, "half": 0.5})
    _, aux = ex.expect(jax.random.key(0), q, f, estimator, has_aux=True)
    assert set(aux["n"].tolist()) == {3}
    assert set(aux["half"].tolist()) == {0.5}


@pytest.mark.parametrize("mask", [jnp.array([True, False]), np.array([True, False]), False])
def test_a_masked_law_is_refused(mask):
    logits = jnp.array([0.3, -0.2])
    for q in (
        dist.Bernoulli(logits=logits).mask(mask),
        dist.Normal(logits, 1.0).mask(mask).to_event(1),
    ):
        with pytest.raises(ex.IncompatibleError, match="multiplies by the mask"):
            ex.expect(jax.random.key(0), q, lambda z: z, ex.LeaveOneOut(2))
    whole = dist.Bernoulli(logits=logits).mask(True)
    assert ex.expect(jax.random.key(0), whole, lambda b: b, ex.LeaveOneOut(2)).shape == (2,)
