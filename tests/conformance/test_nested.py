"""Layers with learned control variates: the layer inside at its hard draw, or relaxed with it.

An outer `REBAR` evaluates f at a relaxed draw, and inside f the inner layer is drawn hard, given
that relaxed draw. Relaxing the inner layer as well is another control variate, the whole relaxed
program; `RELAX` takes it as it takes any. Both are published (Tucker et al. 2017, section 3.3), and
both are unbiased.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest

import expectax as ex
from expectax.testing import Gate, check_mean, gather, over_keys
from expectax.testing._catalog import two_layers_of_bits
from expectax.testing._gates import batch_scale, default_scale
from expectax.testing._problems import curved_cost
from expectax.testing._trial import cast

pytestmark = pytest.mark.usefixtures("float64")


class RelaxedProgram(eqx.Module):
    """η f(σ_τ(z), σ_τ(y)): both layers relaxed, the inner one with the noise of its hard draw."""

    log_temperature: jax.Array
    scale: jax.Array
    cost: dict
    noise: jax.Array

    def __call__(self, z):
        f, noise = jax.lax.stop_gradient((self.cost, self.noise))
        temperature = jnp.exp(self.log_temperature)
        outer = jax.nn.sigmoid(z / temperature)
        inner = jax.nn.sigmoid((outer @ f["weight"] + f["bias"] + noise) / temperature)
        return self.scale * curved_cost(f, jnp.concatenate([outer, inner], axis=-1))


def value(params, control, key):
    """E[f] over the two layers, shape batch; `control` holds log τ and η of the outer layer."""
    f = params["f"]
    first, second = jax.random.split(key)

    def inside(z):
        q = dist.Bernoulli(logits=z @ f["weight"] + f["bias"]).to_event(1)
        cost = lambda y: curved_cost(f, jnp.concatenate([z, y], axis=-1))
        return ex.expect(second, q, cost, ex.REBAR(0.5))

    if control is None:
        outer = ex.REBAR(0.5)
    else:  # the noise that the inner REBAR draws from the same key
        noise = ex.gumbel.logistic(second, (1, *params["q"].shape), jnp.float64)[0]
        outer = ex.RELAX(RelaxedProgram(control["log_temperature"], control["scale"], f, noise))
    return ex.expect(first, dist.Bernoulli(logits=params["q"]).to_event(1), inside, outer)


def problem():
    layers = two_layers_of_bits()
    return layers, cast(layers.params, jnp.float64)


CONTROL = {"log_temperature": jnp.log(0.5), "scale": jnp.ones(())}


@pytest.mark.parametrize("control", [None, CONTROL], ids=["inner hard", "inner relaxed"])
def test_the_gradients_of_both_layers_are_unbiased(control):
    layers, params = problem()
    loss = lambda p, key: jnp.sum(layers.weights * value(p, cast(control, jnp.float64), key))
    truth = jax.grad(lambda p: jnp.sum(layers.weights * layers.exact(p)))(params)
    scale = {"q": batch_scale(truth["q"], 1), "f": default_scale(truth["f"])}
    program = over_keys(lambda key: jax.grad(loss)(params, key))
    moments = gather(program, jax.random.key(0), scale=scale)
    check_mean(moments, truth, scale=scale, gate=Gate(), what="two layers")


def test_the_whole_relaxed_program_is_learned_beside_the_model():
    """Its leaves receive the derivative of the second moment, by differences on the same draws."""
    _, params = problem()
    keys = jax.random.split(jax.random.key(1), 64)
    control = cast(CONTROL, jnp.float64)

    @jax.jit
    def received(control):
        total = lambda c, key: jnp.sum(value(params, c, key))
        each = jax.vmap(jax.grad(total), in_axes=(None, 0))(control, keys)
        return jax.tree.map(lambda g: jnp.mean(g, axis=0), each)

    @jax.jit
    def second_moment(control):
        total = lambda q, key: jnp.sum(value({**params, "q": q}, control, key))
        return jnp.mean(
            jnp.sum(jax.vmap(jax.grad(total), in_axes=(None, 0))(params["q"], keys) ** 2, (1, 2))
        )

    given = received(control)
    for name in control:
        at = lambda h, name=name: second_moment({**control, name: control[name] + h})
        slope = (at(1e-5) - at(-1e-5)) / 2e-5
        assert abs(slope) > 1e-3
        assert abs(given[name] - slope) < 1e-5 * abs(slope)


def test_the_temperature_of_rebar_above_a_first_order_layer_is_refused():
    """Its gradient would differentiate the inner estimate twice."""
    _, params = problem()

    def loss(outer, key):
        inside = lambda z: ex.expect(
            key, dist.Bernoulli(logits=z).to_event(1), lambda y: jnp.sum(y * z, -1), ex.DisARM()
        )
        q = dist.Bernoulli(logits=params["q"]).to_event(1)
        return jnp.sum(ex.expect(jax.random.fold_in(key, 1), q, inside, outer))

    with pytest.raises(ex.HigherOrderError):
        jax.eval_shape(jax.grad(loss), ex.REBAR(), jax.random.key(0))
    held = lambda scale, key: loss(
        eqx.tree_at(lambda e: e.scale, ex.REBAR(), scale), key
    )  # η and the model are learned all the same
    assert jnp.isfinite(jax.grad(held)(1.0, jax.random.key(0)))
