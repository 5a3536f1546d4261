"""Objectives where weights vanish, counts are large, numbers are whole, and shapes do not fit."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from jax.scipy.special import logsumexp

import expectax as ex
from expectax.distributions import Joint
from expectax.models import (
    Retina,
    annealed_importance,
    binary_vae,
    glimpse_network,
    linear_vae,
    nearest_words,
    patch_mask,
    rbm,
    semi_supervised_vae,
)
from expectax.models._sequence import draw_categorical
from expectax.objectives import (
    VIMCO,
    DoublyReparameterized,
    ScoreLeaveOneOut,
    contrastive_divergence,
    fit_each,
    glimpse_loss,
    hard_elbo,
    importance_bound,
    kl_divergence,
    label_loss,
    labelled_neg_elbo,
    leave_one_out,
    masked_loss,
    mean_field_contrastive_divergence,
    neg_elbo,
    neg_multi_sample_bound,
    negative_sampling,
    noise_contrastive,
    persistent_contrastive_divergence,
    reweighted_wake_sleep,
    rollout_returns,
    sleep_loss,
    trajectory_loss,
    wake_loss,
)
from expectax.objectives._multi_sample import _without_each

KEY = jax.random.key(0)


def bits(logits):
    return dist.Bernoulli(logits=logits).to_event(1)


@pytest.mark.parametrize("mask", [-1e9, -jnp.inf])
@pytest.mark.parametrize("num", [3, 5])
def test_what_the_others_make_does_not_know_ones_own_weight(mask, num):
    log_w = np.array([mask, -80.0, -81.0, -82.0, -83.0])[:num]
    rest = np.delete(log_w, 0)
    truth = float(logsumexp(np.append(rest, rest.mean()))) - np.log(num)
    found = _without_each(jnp.asarray(log_w, jnp.float32))
    assert found[0] == pytest.approx(truth, abs=1e-4)
    assert np.isfinite(found).all()


def drawn(*rows):
    """Particles that are these, one batch element and one bit each."""
    return mock.patch.object(Joint, "sample", return_value=jnp.array(rows)[:, None, None])


IMPOSSIBLE = lambda z: jnp.where(z[..., 0] > 0.5, -jnp.inf, -1.0)


@pytest.mark.parametrize("rows", [(1.0, 0.0), (0.0, 1.0, 1.0), (1.0, 0.0, 0.0)])
def test_an_impossible_particle_leaves_vimco_finite(rows):
    def loss(logit):
        q = bits(logit[None, None])
        return neg_multi_sample_bound(KEY, q, IMPOSSIBLE, len(rows), VIMCO())[0]

    with drawn(*rows):
        value, slope = jax.value_and_grad(loss)(0.3)
    share = rows.count(0.0) / len(rows)
    log_w = -1.0 - float(jax.nn.log_sigmoid(-0.3))
    assert value == pytest.approx(-(np.log(share) + log_w), rel=1e-5)
    assert np.isfinite(slope)


def test_with_all_others_impossible_no_baseline_is_taken_off():
    def loss(logit, num):
        return neg_multi_sample_bound(KEY, bits(logit[None, None]), IMPOSSIBLE, num, VIMCO())[0]

    with drawn(1.0, 0.0):
        slope = jax.grad(loss)(0.3, 2)
    # the bound is log w / 2; the first's others make the same log w, the second's nothing
    log_w = -1.0 - float(jax.nn.log_sigmoid(-0.3))
    bound = log_w - np.log(2)
    p = 1 / (1 + np.exp(-0.3))
    first, second, weight = (bound - log_w) * (1 - p), bound * -p, p
    assert slope == pytest.approx(-(first + second + weight), rel=1e-5)


def test_an_impossible_particle_costs_reweighted_wake_sleep_nothing():
    def loss(logit):
        return reweighted_wake_sleep(KEY, bits(logit[None, None]), IMPOSSIBLE, 2)[0]

    with drawn(1.0, 0.0):
        value, slope = jax.value_and_grad(loss)(0.3)
    assert value == pytest.approx(1.0 - float(jax.nn.log_sigmoid(-0.3)), rel=1e-6)
    assert slope == pytest.approx(1 / (1 + np.exp(-0.3)), rel=1e-6)


def test_a_loss_that_is_not_a_number_stays_so():
    q = bits(jnp.zeros((1, 1)))
    assert jnp.isnan(reweighted_wake_sleep(KEY, q, lambda z: z[:, 0] * jnp.nan, 3)).all()


def test_noise_of_negative_sampling_needs_draws_alone():
    class Draws(dist.Distribution):
        def sample(self, key, sample_shape=()):
            return jax.random.randint(key, sample_shape, 0, 3)

    words = jnp.array([0, 1, 2])
    loss = negative_sampling(KEY, lambda w: 0.0 * w, words, Draws(), 2)
    np.testing.assert_allclose(loss, np.full(3, 3 * np.log(2)), rtol=1e-6)


def test_parameters_of_a_fit_may_be_plain_numbers():
    law = lambda p: dist.Normal(p, 1.0)
    log_joint = lambda z: -0.5 * (z - 2.0) ** 2
    found = fit_each(KEY, 0.3, law, log_joint, ex.Pathwise(), optax.sgd(0.5), 60)
    assert found == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize("bound", [importance_bound, hard_elbo])
@pytest.mark.parametrize("level", [-90.3, -3000.3])
def test_many_draws_do_not_drift(bound, level):
    log_joint = lambda z: level + 0 * z.sum(-1) - jnp.log(2.0)
    value = jax.jit(bound, static_argnums=(2, 3))(KEY, bits(jnp.zeros(1)), log_joint, 500_000)
    assert value == pytest.approx(level, rel=3e-7)


def test_draws_of_weight_zero_count_in_the_bound_and_all_of_them_make_it_minus_infinity():
    q = bits(jnp.zeros(1))
    value = importance_bound(KEY, q, IMPOSSIBLE, 20_000)
    assert value == pytest.approx(-1.0, abs=0.05)  # log (½ · e⁻¹ / ½)
    never = lambda z: jnp.full(z.shape[:-1], -jnp.inf)
    assert importance_bound(KEY, q, never, 10) == -jnp.inf
    assert hard_elbo(KEY, q, IMPOSSIBLE, 100) == -jnp.inf


def test_sleep_pushes_no_encoder_that_is_right_already():
    model = linear_vae(KEY, jnp.full(6, 0.3), num_latents=2)
    model = jax.tree.map(jnp.zeros_like, model)  # p(z) and q(z | x) are uniform
    x, z = model.sample_joint(jax.random.key(1), 10_000)
    slope = jax.grad(lambda m: sleep_loss(KEY, lambda _: m.log_posterior(x, z)))(model)
    assert jnp.abs(slope.encoder.layers[-1].bias).max() < 0.02


SHAPED = {
    "neg_elbo": lambda q, f: neg_elbo(KEY, q, f, ex.Enumerate()),
    "importance_bound": lambda q, f: importance_bound(KEY, q, f, 3),
    "hard_elbo": lambda q, f: hard_elbo(KEY, q, f),
    "estimator": lambda q, f: neg_multi_sample_bound(KEY, q, f, 4, ex.ScoreFunction()),
    "vimco": lambda q, f: neg_multi_sample_bound(KEY, q, f, 4, VIMCO()),
    "wake": lambda q, f: wake_loss(KEY, q, f),
    "reweighted": lambda q, f: reweighted_wake_sleep(KEY, q, f, 4),
}


@pytest.mark.parametrize("wrong", [jnp.sum, lambda z: z], ids=["of the batch", "a column"])
@pytest.mark.parametrize("name", SHAPED)
def test_a_log_joint_of_another_shape_is_refused(name, wrong):
    q = bits(jnp.zeros((4, 1)))  # as many as particles
    with pytest.raises(ex.InvalidArgumentError, match=r"log_joint returned shape.*\n.*each batch"):
        SHAPED[name](q, wrong)
    assert SHAPED[name](q, lambda z: z[:, 0]).shape == (4,)


def test_of_reparameterized_draws_too():
    q = dist.Normal(jnp.zeros(4), 1.0)
    with pytest.raises(ex.InvalidArgumentError, match="log_joint returned shape"):
        neg_multi_sample_bound(KEY, q, jnp.sum, 4, DoublyReparameterized())


@pytest.mark.parametrize("name", ["neg_elbo", "importance_bound", "hard_elbo", "reweighted"])
def test_a_law_without_log_probability_is_refused_by_name(name):
    q = ex.PerturbAndMAP(jnp.zeros((4, 3)), ex.SubsetSolver(1))
    with pytest.raises(ex.IncompatibleError, match=r"log q\(z\)"):
        SHAPED[name](q, lambda z: z.sum(-1))


def test_scores_and_noise_have_the_shape_of_the_data():
    words = jnp.array([0, 1, 2])
    for noise, score in (
        (dist.Categorical(logits=jnp.zeros(4)), lambda w: jnp.zeros((*w.shape, 1))),
        (dist.Categorical(logits=jnp.zeros((1, 4))), lambda w: 0.0 * w),
    ):
        with pytest.raises(ex.InvalidArgumentError, match="each datum has one score"):
            noise_contrastive(KEY, score, words, noise, 2)


@pytest.mark.parametrize("objective", [noise_contrastive, negative_sampling])
def test_words_that_are_ruled_out_cost_nothing_as_noise(objective):
    table = jnp.array([0.3, -jnp.inf, -jnp.inf, -jnp.inf])
    noise = dist.Categorical(logits=jnp.zeros(4))

    def loss(shift):
        return objective(KEY, lambda w: table[w] + shift, jnp.array([0]), noise, 50)[0]

    value, slope = jax.value_and_grad(loss)(0.0)
    odds = 0.3 - (np.log(50 / 4) if objective is noise_contrastive else 0.0)
    first = noise.sample(KEY, (50, 1))
    hits = int(jnp.sum(first == 0))
    assert value == pytest.approx(np.log1p(np.exp(-odds)) + hits * np.log1p(np.exp(odds)), rel=1e-5)
    assert np.isfinite(slope)


def test_whole_rewards_and_a_baseline_that_is_none():
    rewards, log_probs = jnp.array([[0, 1], [1, 1], [0, 0]]), jnp.full((3, 2), -1.0)
    for baseline in (0.5, leave_one_out(rewards)):
        loss = lambda lp, returns, c=baseline: trajectory_loss(lp, returns, c)
        whole = jax.grad(loss)(log_probs, rewards)
        np.testing.assert_array_equal(whole, jax.grad(loss)(log_probs, rewards.astype(float)))
    slope = jax.grad(lambda c: trajectory_loss(log_probs, rewards, c))(0.5)
    assert slope == pytest.approx(2 * (0.5 * 6 - 3) / 3)
    assert jax.grad(lambda c: trajectory_loss(log_probs, rewards, c))(0.25) == pytest.approx(-1.0)


def test_no_token_of_weight_zero_is_drawn():
    # found by a search: rounding makes what is left of the uniform in its block negative
    logits = [0.35502759, -0.78415209, 1.7070158, -1.5627923, -np.inf, -1.2249655, 0.95774419]
    logits += [1.8009747, -np.inf, 0.64725161, 0.79012686, -0.56998366, -np.inf, -1.0450934]
    logits = jnp.array([*logits, 1.0100155, 0.26676133])
    tokens = draw_categorical(KEY, jnp.broadcast_to(logits, (200_000, 16)))
    assert np.isfinite(logits[jnp.unique(tokens)]).all()
    # the same, whatever the machine rounds: a uniform that falls just before a block
    with mock.patch("jax.random.uniform", return_value=jnp.float32(0.5)):
        half = jnp.where(jnp.arange(16) == 8, -jnp.inf, jnp.log(jnp.linspace(0.1, 0.9, 16)))
        assert int(draw_categorical(KEY, half)) != 8


@pytest.mark.parametrize("estimator", [ex.DisARM(), ex.Enumerate(), ex.LeaveOneOut(2)])
def test_a_fit_inside_a_loss_has_no_gradient(estimator):
    def outer(w):
        log_joint = lambda z: jnp.sum(w * z, axis=-1)
        phi = fit_each(KEY, jnp.zeros((2, 2)), bits, log_joint, estimator, optax.sgd(0.1), 5)
        return jnp.sum(wake_loss(KEY, bits(phi), log_joint)), phi

    slope, phi = jax.grad(outer, has_aux=True)(jnp.ones((2, 2)))
    assert jnp.abs(phi).max() > 0
    z = -slope  # of −w · z at the wake phase's draw
    assert set(np.unique(z)) <= {0.0, 1.0}


@pytest.mark.parametrize(
    "betas", [(0.1, 1.0), (0.0, 0.9), (1.0, 0.0), (0.0,), (1.0,), (0.0, 0.6, 0.5, 1.0), ()]
)
def test_annealing_leads_from_the_base_to_the_model(betas):
    model = rbm(KEY, jnp.full(6, 0.3), 3)
    with pytest.raises(ex.InvalidArgumentError, match="β = 0"):
        annealed_importance(KEY, model, 10, jnp.array(betas))


def test_annealing_starts_where_every_bit_is_free_and_has_no_gradient_there():
    model, betas = rbm(KEY, jnp.full(6, 0.3), 3), jnp.linspace(0.0, 1.0, 20)
    run = lambda base: annealed_importance(KEY, model, 10, betas, base).log_z
    with pytest.raises(ex.InvalidArgumentError, match="not finite"):
        run(jnp.array([0.0, -jnp.inf, 0.0, 0.0, 0.0, 0.0]))
    assert jnp.abs(jax.grad(run)(jnp.full(6, -1.0))).max() == 0
    assert jnp.isfinite(jax.jit(run)(jnp.full(6, -1.0)))


def test_classes_are_ruled_out_and_labels_are_classes():
    ruled_out = jnp.array([[0.0, 1.0, -jnp.inf]])
    model = patch_mask(KEY, 8, 4, 3)
    x = jnp.zeros((3, 64))
    loss = jax.vmap(lambda y: masked_loss(KEY, model, x[:1], y[None], ex.DisARM())[0])
    assert np.isfinite(loss(jnp.arange(3))).all()
    assert np.isnan(loss(jnp.array([3, -1]))).all()
    from expectax.objectives._attention import surprise

    assert surprise(ruled_out, jnp.array([0]))[0] == pytest.approx(np.log1p(np.e), rel=1e-6)
    assert surprise(ruled_out, jnp.array([2]))[0] == jnp.inf
    assert np.isfinite(jax.grad(lambda t: surprise(t, jnp.array([0]))[0])(ruled_out)).all()


@pytest.mark.parametrize("style", [0, 2])
def test_labels_that_are_numbers_are_refused(style):
    model = semi_supervised_vae(KEY, jnp.full(6, 0.3), 3, style, (4,))
    x, labels = jnp.ones((3, 6)), jnp.arange(3)
    with pytest.raises(ex.InvalidArgumentError, match="one_hot"):
        label_loss(KEY, model, x, labels, ex.Enumerate())
    with pytest.raises(ex.InvalidArgumentError, match="one_hot"):
        labelled_neg_elbo(KEY, model, x, labels, ex.Pathwise() if style else None)
    assert label_loss(KEY, model, x, jax.nn.one_hot(labels, 3), ex.Enumerate()).shape == (3,)


def test_a_prior_for_more_than_q_is_refused():
    q, p = dist.Normal(0.0, 1.0), dist.Normal(jnp.zeros(3), 1.0)
    with pytest.raises(ex.InvalidArgumentError, match="batch shape"):
        kl_divergence(q, p)
    with pytest.raises(ex.InvalidArgumentError, match="batch shape"):
        kl_divergence(dist.Normal(jnp.zeros(2), 1.0), p)
    with pytest.raises(ex.InvalidArgumentError, match="batch shape"):
        kl_divergence(bits(jnp.zeros(2)), bits(jnp.zeros((3, 2))))
    assert kl_divergence(p, q).shape == (3,)


class Coin:
    """A policy that is no pytree."""

    def begin(self, shape):
        return jnp.zeros(shape)

    def advance(self, state, tokens):
        return state + tokens

    def draw(self, key, state):
        return jax.random.bernoulli(key, 0.5, state.shape).astype(int)


def test_a_policy_may_be_any_object():
    tokens = jnp.array([[1, 1, 0], [0, 0, 0]])
    ones = lambda x: jnp.sum(x, axis=-1).astype(float)
    returns = rollout_returns(KEY, Coin(), tokens, ones, 2_000)
    np.testing.assert_allclose(returns, [[2.0, 2.5, 2.0], [1.0, 0.5, 0.0]], atol=0.08)


def test_a_chain_that_does_not_move_is_refused():
    model, x = rbm(KEY, jnp.full(6, 0.3), 3), jnp.zeros((2, 6))
    for steps, run in (
        (0, lambda: contrastive_divergence(KEY, model, x, 0)),
        (-1, lambda: persistent_contrastive_divergence(KEY, model, x, x, -1)),
        (-1, lambda: mean_field_contrastive_divergence(KEY, model, x, x, -1)),
    ):
        with pytest.raises(ex.InvalidArgumentError, match=f"{steps} steps of the chain"):
            run()
    loss, chains = persistent_contrastive_divergence(KEY, model, x, x + 1, 0)  # moved before
    np.testing.assert_array_equal(chains, x + 1)
    np.testing.assert_allclose(loss, model.free_energy(x) - model.free_energy(x + 1)[0], rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.bfloat16, jnp.float32])
def test_glimpses_are_computed_in_the_type_of_the_weights(dtype):
    model = glimpse_network(KEY, Retina(8, size=4), 3, num_features=4, hidden=4, num_states=4)
    x, y = jnp.ones((2, 64), dtype), jnp.array([0, 2])
    loss = glimpse_loss(KEY, model, x, y, ScoreLeaveOneOut(2), num_glimpses=2)
    assert loss.dtype == jnp.float32
    plain = glimpse_loss(KEY, model, jnp.ones((2, 64)), y, ScoreLeaveOneOut(2), num_glimpses=2)
    np.testing.assert_array_equal(loss, plain)


@pytest.mark.usefixtures("float64")
def test_pictures_in_float32_serve_a_model_in_float64():
    model = glimpse_network(KEY, Retina(8, size=4), 3, num_features=4, hidden=4, num_states=4)
    x, y = jnp.ones((2, 64), jnp.float32), jnp.array([0, 2])
    loss = glimpse_loss(KEY, model, x, y, ScoreLeaveOneOut(2), num_glimpses=2)
    assert loss.dtype == jnp.float64


@pytest.mark.parametrize("num", [0, 3, 4])
def test_a_word_is_no_neighbor_of_itself(num):
    with pytest.raises(ex.InvalidArgumentError, match="from 1 to 2"):
        nearest_words(jnp.eye(3), jnp.array([0]), num)


def test_a_model_without_latents_is_refused():
    with pytest.raises(ex.InvalidArgumentError, match="0 latents"):
        binary_vae(KEY, jnp.full(6, 0.3), num_latents=0)
