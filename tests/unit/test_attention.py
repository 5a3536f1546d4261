"""Hard attention: glimpses against NumPy; gradients against quadrature and sums over masks."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import expectax as ex
from expectax.models import Retina, glimpse_network, patch_mask
from expectax.objectives import (
    PathwiseLocations,
    ScoreLeaveOneOut,
    ScoreWithBaseline,
    glimpse_loss,
    masked_loss,
    mistake,
    surprise,
)
from expectax.testing import Gate, check_mean, gather, over_keys
from expectax.testing._gates import default_scale

pytestmark = pytest.mark.usefixtures("float64")

RNG = np.random.default_rng(0)


def plain_glimpse(picture, retina, location):
    """Every pixel of every scale by itself: the mean of a block, 0 outside, hats between."""
    found = []
    for scale in range(retina.num_scales):
        step = 2**scale
        small = retina.width // step
        level = np.array(
            [
                [picture[i * step : (i + 1) * step, j * step : (j + 1) * step].mean()
                 for j in range(small)]
                for i in range(small)
            ]
        )  # fmt: skip
        corner = (np.clip(location, -1, 1) + 1) / 2 * small - retina.size / 2
        hat = lambda at, small=small: np.maximum(0, 1 - np.abs(np.arange(small) - at))
        for i, j in itertools.product(range(retina.size), repeat=2):
            found.append(hat(corner[0] + i) @ level @ hat(corner[1] + j))
    return np.array(found)


@pytest.mark.parametrize("sizes", [(8, 3, 1), (8, 4, 3), (12, 5, 2), (4, 6, 1)])
def test_a_glimpse_is_what_plain_loops_see(sizes):
    retina = Retina(*sizes)
    pictures = RNG.normal(size=(3, retina.width**2))
    locations = RNG.uniform(-1.2, 1.2, size=(5, 3, 2))
    locations[0] = [[-1, 1], [0, 0], [3, -0.5]]
    got = jax.jit(lambda x, at: retina.glimpse(retina.scene(x), at))(pictures, locations)
    assert got.shape == (5, 3, retina.num_values)
    for r, b in itertools.product(range(5), range(3)):
        picture = pictures[b].reshape(retina.width, -1)
        want = plain_glimpse(picture, retina, locations[r, b])
        np.testing.assert_allclose(got[r, b], want, atol=1e-12)
    one = retina.glimpse(retina.scene(pictures[0]), locations[1, 0])
    np.testing.assert_allclose(one, got[1, 0], atol=1e-12)


def test_a_glimpse_has_the_slope_of_its_differences():
    retina, picture = Retina(8, 4, 2), RNG.normal(size=64)
    location, step = np.array([0.13, -0.41]), 1e-6
    see = jax.jit(lambda at: retina.glimpse(retina.scene(jnp.asarray(picture)), at))
    slope = jax.jacobian(see)(location)
    for axis in range(2):
        ahead, behind = (see(location + sign * step * np.eye(2)[axis]) for sign in (1, -1))
        np.testing.assert_allclose(slope[:, axis], (ahead - behind) / (2 * step), atol=1e-7)


# glimpses: two of them, at pictures of 4 × 4. With a small spread around the middle every drawn
# location lies between the same pixels and no unit of the net changes sides, so that the costs are
# smooth in the noise, and sums over Gauss-Hermite nodes are integrals to many digits.

NUM_GLIMPSES, SPREAD = 2, 0.05
X = np.random.default_rng(1).normal(size=(2, 16))
Y = np.array([2, 0])
WEIGHTS = np.array([1.0, -0.4])


@functools.cache
def network():
    made = glimpse_network(
        jax.random.key(0), Retina(4, size=3), 3,
        num_features=3, hidden=3, num_states=3, spread=SPREAD,
    )  # fmt: skip
    rng = np.random.default_rng(3)

    def moved(x):
        # weights are small beside biases, so that no unit changes sides
        weight, bias = 0.3 * x, 2.0 * rng.choice([-1.0, 1.0, 1.0], size=x.shape)
        return jnp.asarray(weight + 0.1 * bias if x.ndim == 2 else bias)

    floats, rest = eqx.partition(made, eqx.is_inexact_array)
    model = eqx.combine(jax.tree.map(moved, floats), rest)
    near = lambda m: (m.locate.layers[0].weight, m.locate.layers[0].bias)
    return eqx.tree_at(near, model, replace_fn=lambda x: 0.02 * x)


def affine(network, *, rectify):
    """The layers written out."""

    def apply(x):
        for layer in network.layers[:-1]:
            x = jnp.maximum(x @ layer.weight.T + layer.bias, 0)
        x = x @ network.layers[-1].weight.T + network.layers[-1].bias
        return jnp.maximum(x, 0) if rectify else x

    return apply


def twin(model, draw):
    """Means, locations, baselines and class logits, glimpse by glimpse; `draw` places each."""
    corners = jnp.arange(4)
    state = jnp.zeros((2, 3))
    means, locations, baselines = [], [], []
    for t in range(NUM_GLIMPSES):
        mean = jnp.tanh(affine(model.locate, rectify=False)(state))
        location = draw(t, mean)
        baselines.append(affine(model.judge, rectify=False)(state)[:, 0])
        at = (location + 1) * 2 - 1.5
        pixel = at[..., None] + jnp.arange(3)  # (B, 2, 3)
        hat = jnp.maximum(0, 1 - jnp.abs(corners - pixel[..., None]))
        seen = jnp.einsum("bip,bpq,bjq->bij", hat[:, 0], X.reshape(2, 4, 4), hat[:, 1])
        what = affine(model.what, rectify=True)(seen.reshape(2, 9))
        where = affine(model.where, rectify=False)(location)
        both = jnp.concatenate([what * where, state], -1)
        state = affine(model.core, rectify=True)(both)
        means.append(mean)
        locations.append(location)
    logits = affine(model.classify, rectify=False)(state)
    return means, jnp.stack(locations), jnp.stack(baselines), logits


def nodes(order):
    """Noise of shape (256, T, 1, B, 2), the same for both pictures, and its weights, 0 at the end.

    With 4 nodes or fewer to an axis, all in arrays of one shape: one compiled program serves.
    """
    points, weights = np.polynomial.hermite_e.hermegauss(order)
    grid = np.array(list(itertools.product(points, repeat=2 * NUM_GLIMPSES)))
    weight = np.array(list(itertools.product(weights, repeat=2 * NUM_GLIMPSES))).prod(-1)
    noise, unused = grid.reshape(-1, NUM_GLIMPSES, 1, 1, 2) * np.ones((2, 1)), 256 - order**4
    noise = np.concatenate([noise, np.zeros((unused, *noise.shape[1:]))])
    return noise, np.concatenate([weight / weight.sum(), np.zeros(unused)])


def doubt(logits, y):
    """A cost that is smooth, and not what the classifier descends."""
    return 1 - jnp.sum(jax.nn.softmax(logits) * jax.nn.one_hot(y, 3), -1)


def nothing(logits, y):
    """A cost that leaves the locations alone."""
    del y
    return 0.0 * logits[..., 0]


def integral(model, cost, noise, weight):
    """The loss whose gradient is meant: its locations follow the model, and so does the class.

    If they descend different costs, each holds the other fixed.
    """
    held = jax.lax.stop_gradient(model)

    def one(noise):
        moving = lambda t, mean: mean + SPREAD * noise[t, 0]
        if cost is surprise:
            return surprise(twin(model, moving)[-1], Y)
        locations = twin(model, moving)[1]
        still = jax.lax.stop_gradient(locations)
        classified = surprise(twin(model, lambda t, _: still[t])[-1], Y)
        paid = cost(twin(held, lambda t, _: locations[t])[-1], Y)
        return classified + paid - jax.lax.stop_gradient(paid)

    return weight @ jax.vmap(one)(noise)


def but_judge(tree):
    return tree.what, tree.where, tree.core, tree.locate, tree.classify


@functools.cache
def program(cost):
    """The value and the gradient of the integral, from noise and weights."""
    loss = lambda model, *nodes: jnp.sum(WEIGHTS * integral(model, cost, *nodes))
    return eqx.filter_jit(eqx.filter_value_and_grad(loss))


@functools.cache
def truth(cost, order=4):
    with jax.enable_x64(True):
        return program(cost)(network(), *nodes(order))


def test_the_integral_is_one():
    fine, coarse = (jax.tree.leaves(but_judge(truth(surprise, order)[1])) for order in (4, 3))
    for leaf, other in zip(fine, coarse, strict=True):
        assert np.abs(leaf).max() > 1e-4
        np.testing.assert_allclose(other, leaf, rtol=1e-9, atol=1e-9 * np.abs(leaf).max())


HOW = {
    "baseline": (ScoreWithBaseline(), surprise),
    "baseline, another cost": (ScoreWithBaseline(cost=doubt), doubt),
    "locator alone": (ScoreWithBaseline(locator_alone=True), surprise),
    "pathwise": (PathwiseLocations(), surprise),
}


@pytest.mark.parametrize("name", HOW)
def test_the_mean_over_the_noise_is_the_gradient(name):
    gradient, cost = HOW[name]
    noise, weight = nodes(4)

    def loss(model):
        look = lambda noise: model.look(X, noise, gradient.carried, gradient.consulted)
        return jnp.sum(
            WEIGHTS * (weight @ jax.vmap(lambda noise: gradient.loss(look(noise), Y))(noise))
        )

    value, got = eqx.filter_jit(eqx.filter_value_and_grad(loss))(network())
    np.testing.assert_allclose(value, truth(surprise)[0], rtol=1e-9)
    _, want = truth(cost)
    if name == "locator alone":  # of which nothing is left out
        want = eqx.tree_at(lambda g: g.locate, truth(nothing)[1], want.locate)
    for ours, exact in zip(*(jax.tree.leaves(but_judge(g)) for g in (got, want)), strict=True):
        np.testing.assert_allclose(ours, exact, rtol=1e-5, atol=1e-6 * np.abs(exact).max())
    if name == "pathwise":
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(got.judge))
        return

    def error(judge):
        model = eqx.tree_at(lambda m: m.judge, network(), judge)

        def one(noise):
            draw = lambda t, mean: mean + SPREAD * noise[t, 0]
            *_, baselines, logits = twin(model, draw)
            return jnp.sum((baselines - cost(logits, Y)) ** 2, axis=0)

        return jnp.sum(jnp.abs(WEIGHTS) * (weight @ jax.vmap(one)(noise)))

    exact = eqx.filter_jit(eqx.filter_grad(error))(network().judge)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got.judge, exact)


def test_drawn_rollouts_and_their_leave_one_out_are_unbiased():
    model = network()

    def loss(model, key):
        how = ScoreLeaveOneOut(3)
        return jnp.sum(WEIGHTS * glimpse_loss(key, model, X, Y, how, NUM_GLIMPSES))

    _, want = truth(surprise)
    chosen = lambda tree: (tree.locate, tree.core)
    draw = over_keys(lambda key: chosen(eqx.filter_grad(loss)(model, key)))
    scale = default_scale(chosen(want))
    moments = gather(draw, jax.random.key(0), scale=scale)
    check_mean(moments, chosen(want), scale=scale, gate=Gate(), what="glimpses")


def test_a_path_has_the_laws_and_the_class_of_its_locations():
    model = network()
    noise = jax.random.normal(jax.random.key(4), (NUM_GLIMPSES, 5, 2, 2))
    path = eqx.filter_jit(lambda model: model.look(X, noise))(model)

    @jax.jit
    def one(noise):
        means, locations, *rest = twin(model, lambda t, mean: mean + SPREAD * noise[t])
        log_probs = dist.Normal(jnp.stack(means), SPREAD).to_event(1).log_prob(locations)
        return locations, log_probs, *rest

    locations, log_probs, baselines, logits = jax.vmap(one, 1)(noise)
    np.testing.assert_allclose(path.locations, locations.swapaxes(1, 2), rtol=1e-9)
    np.testing.assert_allclose(path.log_probs, log_probs.swapaxes(1, 2), rtol=1e-9)
    np.testing.assert_allclose(path.baselines, baselines.swapaxes(1, 2), rtol=1e-9)
    np.testing.assert_allclose(path.class_logits, logits, rtol=1e-9)


# masks


def mask():
    made = patch_mask(jax.random.key(0), width=4, size=2, num_classes=3, hidden=(4,))
    floats, rest = eqx.partition(made, eqx.is_inexact_array)
    rng = np.random.default_rng(5)
    moved = jax.tree.map(lambda x: jnp.asarray(x + 0.4 * rng.normal(size=x.shape)), floats)
    return eqx.combine(moved, rest)


def summed(model, price):
    """The loss of every mask of four patches, by its chance."""
    logits = affine(model.encoder, rectify=False)(X)
    total = 0.0
    for bits in itertools.product([0.0, 1.0], repeat=4):
        b = jnp.array(bits)
        chance = jnp.prod(jnp.where(b == 1, jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits)), -1)
        shown = X.reshape(2, 4, 4) * jnp.kron(b.reshape(2, 2), jnp.ones((2, 2)))
        classes = affine(model.classifier, rectify=False)(shown.reshape(2, 16))
        total += chance * (-jax.nn.log_softmax(classes)[jnp.arange(2), Y] + price * sum(bits))
    return jnp.sum(WEIGHTS * total)


def test_the_loss_of_masks_is_the_sum_over_them():
    model, price, key = mask(), 0.3, jax.random.key(1)
    loss = lambda m, key, how: jnp.sum(WEIGHTS * masked_loss(key, m, X, Y, how, price))
    value, want = eqx.filter_jit(eqx.filter_value_and_grad(summed))(model, price)
    both = eqx.filter_jit(eqx.filter_value_and_grad(loss))
    got, gradient = both(model, key, ex.Enumerate())
    np.testing.assert_allclose(got, value, rtol=1e-10)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), gradient, want)
    draw = over_keys(lambda key: eqx.filter_grad(loss)(model, key, ex.DisARM()).encoder)
    scale = default_scale(want.encoder)
    moments = gather(draw, key, scale=scale)
    check_mean(moments, want.encoder, scale=scale, gate=Gate(), what="mask")


def test_what_is_hidden_is_not_seen():
    model = mask()
    bits = jnp.array([1.0, 0.0, 0.0, 1.0])
    hidden = jnp.kron(1 - bits.reshape(2, 2), jnp.ones((2, 2))).reshape(-1)
    other = X + 5 * hidden
    np.testing.assert_array_equal(model.class_logits(X, bits), model.class_logits(other, bits))
    seen = model.class_logits(X + 5 * (1 - hidden), bits)
    assert np.abs(seen - model.class_logits(X, bits)).max() > 0.1


def test_costs_of_classes():
    logits = jnp.array([[[0.0, 1.0, 0.5], [2.0, 0.0, 0.0]], [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]])
    np.testing.assert_array_equal(mistake(logits, Y), [[1, 0], [0, 1]])
    want = -dist.Categorical(logits=logits).log_prob(Y)
    np.testing.assert_allclose(surprise(logits, Y), want, rtol=1e-12)


def test_what_cannot_work_is_refused():
    with pytest.raises(ex.InvalidArgumentError, match="halved"):
        Retina(6, 2, 3)
    with pytest.raises(ex.InvalidArgumentError, match="divides the width"):
        patch_mask(jax.random.key(0), 28, 5, 10)
    model, key = network(), jax.random.key(0)
    with pytest.raises(ex.InvalidArgumentError, match="ScoreWithBaseline"):
        glimpse_loss(key, model, X, Y, ex.ScoreFunction())
    with pytest.raises(ex.InvalidArgumentError, match="at least 1 of each"):
        glimpse_loss(key, model, X, Y, PathwiseLocations(), 0)
    with pytest.raises(ex.InvalidArgumentError, match="at least 2 rollouts"):
        glimpse_loss(key, model, X, Y, ScoreLeaveOneOut(1))
