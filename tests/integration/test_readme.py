"""The README's Python runs as printed, given the model that it leaves to the reader."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest

README = pathlib.Path(__file__).parents[2] / "README.md"


def _encode(params, x):
    return x @ params["encoder"]


def _log_joint(params, x, z):
    pixels = dist.Bernoulli(logits=(2 * z - 1) @ params["decoder"]).to_event(1)
    return pixels.log_prob(x) + dist.Bernoulli(logits=jnp.zeros_like(z)).to_event(1).log_prob(z)


@pytest.fixture
def names():
    one, two, three = jax.random.split(jax.random.key(0), 3)
    params = {
        "encoder": jax.random.normal(one, (6, 3)),
        "decoder": jax.random.normal(two, (3, 6)),
    }
    x = jax.random.bernoulli(three, 0.4, (5, 6)).astype(float)
    return {
        "encode": _encode,
        "log_joint": _log_joint,
        "params": params,
        "x": x,
        "key": jax.random.key(1),
    }


@pytest.mark.parametrize(
    "estimator",
    ["ex.DisARM()", "ex.REBAR()", "ex.GumbelSoftmax(temperature=0.5)", "ex.Enumerate()"],
)
def test_the_example_runs_with_each_estimator_it_names(names, estimator):
    (block,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.S | re.M)
    assert "ex.DisARM()" in block
    exec(block.replace("ex.DisARM()", estimator), names)
    assert jnp.isfinite(names["value"])
    gradient = names["grads"]["encoder"]
    assert gradient.shape == (6, 3)
    assert jnp.abs(gradient).max() > 0


def test_every_estimator_it_lists_is_public():
    import expectax as ex

    (row,) = re.findall(r"^\| estimators \| (.*?) \|$", README.read_text(), re.M)
    listed = set(re.findall(r"`(\w+)`", row))
    public = {
        name
        for name, value in vars(ex).items()
        if isinstance(value, type)
        and issubclass(value, ex.AbstractEstimator)
        and value is not ex.AbstractEstimator
    }
    assert listed == public
