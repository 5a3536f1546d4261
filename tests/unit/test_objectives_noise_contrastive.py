"""Noise-contrastive estimation: its expectation summed over all data and all noise."""

import itertools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import expectax as ex
from expectax.objectives import negative_sampling, noise_contrastive
from expectax.testing import check_mean

pytestmark = pytest.mark.usefixtures("float64")

NUM = 4
DATA = np.array([0.1, 0.4, 0.2, 0.3])
NOISES = {"uniform": np.full(NUM, 0.25), "unigram": np.array([0.4, 0.1, 0.3, 0.2])}


def expectation(objective, scores, noise, num_noise):
    """The mean of the loss of `scores`, one for each word."""
    draws = np.array(list(itertools.product(range(NUM), repeat=num_noise)))
    chance = jnp.asarray(noise[draws].prod(1))
    q = dist.Categorical(logits=jnp.log(noise))

    def play(draws):
        every = jnp.broadcast_to(draws[:, None], (num_noise, NUM))
        with mock.patch.object(type(q), "sample", return_value=every):
            score = lambda words: scores[words]
            return objective(jax.random.key(0), score, jnp.arange(NUM), q, num_noise)

    return jnp.sum(DATA * (chance @ jax.vmap(play)(jnp.asarray(draws))))


def written_out(scores, noise, num_noise):
    """E_data[−log σ(Δ)] + k E_q[−log(1 − σ(Δ))]."""
    odds = scores - jnp.log(num_noise * noise)
    data = DATA @ -jnp.log(jax.nn.sigmoid(odds))
    return data - num_noise * (noise @ jnp.log(1 - jax.nn.sigmoid(odds)))


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("num_noise", [1, 3])
def test_its_expectation_and_gradient_are_the_classifiers(name, num_noise):
    noise, scores = NOISES[name], jnp.array([0.3, -1.2, 0.8, 0.0])
    both = lambda f: jax.jit(jax.value_and_grad(f))(scores)
    got = both(lambda s: expectation(noise_contrastive, s, noise, num_noise))
    want = both(lambda s: written_out(s, noise, num_noise))
    np.testing.assert_allclose(got[0], want[0], rtol=1e-12)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-10)


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("num_noise", [1, 3])
def test_the_optimum_is_the_log_density_of_the_data(name, num_noise):
    """The loss is convex in the scores, so that a zero of its gradient is its minimum."""
    noise, log_data = NOISES[name], jnp.log(DATA)
    program = lambda f: jax.jit(lambda s: (jax.grad(f)(s), jax.hessian(f)(s)))
    slope, bend = program(lambda s: expectation(noise_contrastive, s, noise, num_noise))(log_data)
    np.testing.assert_allclose(slope, 0, atol=1e-12)
    assert np.linalg.eigvalsh(bend).min() > 0.01
    shifted = log_data - jnp.log(num_noise * noise)
    loss = lambda s: expectation(negative_sampling, s, noise, num_noise)
    slope, bend = program(loss)(shifted)
    np.testing.assert_allclose(slope, 0, atol=1e-12)
    assert np.linalg.eigvalsh(bend).min() > 0.01


def test_many_draws_of_noise_are_maximum_likelihood_with_the_normalizer_learned():
    """As k grows, the slope becomes that of −E[s] + Σ exp(s)."""
    scores = jnp.array([0.3, -1.2, 0.8, 0.0])
    noise = NOISES["unigram"]
    slope = jax.grad(lambda s: written_out(s, noise, 1e6))(scores)
    np.testing.assert_allclose(slope, np.exp(scores) - DATA, atol=1e-4)


def test_negative_sampling_is_the_case_of_odds_that_are_the_score():
    key, words = jax.random.key(4), jnp.array([2, 0, 1, 1, 3])
    q = dist.Categorical(logits=jnp.log(NOISES["unigram"]))
    scores = jnp.array([0.3, -1.2, 0.8, 0.0])
    odds = lambda w: scores[w]
    raised = lambda w: scores[w] + q.log_prob(w) + jnp.log(7)
    one = negative_sampling(key, odds, words, q, 7)
    np.testing.assert_allclose(one, noise_contrastive(key, raised, words, q, 7), rtol=1e-12)


def test_scores_of_a_context_and_noise_with_a_batch():
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(3, NUM)))
    score = lambda words: jnp.take_along_axis(rows, words[:, None], axis=1)[:, 0]
    noise = dist.Categorical(logits=-rows)
    words, key = jnp.array([1, 3, 0]), jax.random.key(1)
    loss = noise_contrastive(key, score, words, noise, 5)
    draws = noise.sample(key, (5,))
    odds = lambda w: score(w) - noise.log_prob(w) - jnp.log(5)
    want = -jnp.log(jax.nn.sigmoid(odds(words)))
    want -= sum(jnp.log(1 - jax.nn.sigmoid(odds(w))) for w in draws)
    np.testing.assert_allclose(loss, want, rtol=1e-10)


def test_continuous_data_and_noise():
    """At the data's own density the mean slope is zero: through a normalizer that is learned."""
    data, noise, num = dist.Normal(0.5, 0.7), dist.Normal(0.0, 1.5), 200_000
    truth = {"loc": 0.5, "log_sd": np.log(0.7), "c": -np.log(0.7 * np.sqrt(2 * np.pi))}

    def slope(key, p):
        first, second = jax.random.split(key)
        x = data.sample(first)

        def loss(p):
            score = lambda y: p["c"] - 0.5 * ((y - p["loc"]) / jnp.exp(p["log_sd"])) ** 2
            return noise_contrastive(second, score, x, noise, 2)

        return jax.grad(loss)(p)

    program = jax.jit(jax.vmap(slope, (0, None)))
    keys, zeros = jax.random.split(jax.random.key(2), num), dict.fromkeys(truth, jnp.zeros(()))
    size = dict.fromkeys(truth, jnp.ones(()))
    check_mean(program(keys, truth), zeros, scale=size, what="slope at the density")
    with pytest.raises(AssertionError, match="off by"):
        check_mean(program(keys, truth | {"c": truth["c"] + 0.2}), zeros, scale=size)


def test_no_noise_is_refused():
    q = dist.Categorical(logits=jnp.zeros(3))
    with pytest.raises(ex.InvalidArgumentError, match="at least 1"):
        noise_contrastive(jax.random.key(0), lambda w: 0.0 * w, jnp.zeros(2, int), q, 0)
