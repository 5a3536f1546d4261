"""The problems of the battery. Functions, so that importing costs nothing."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from .._expect import expect
from ._problems import (
    RARE,
    Layers,
    Params,
    Problem,
    Site,
    cost_params,
    curved_cost,
    discrete,
    outer_weights,
)


@functools.cache
def bits() -> Problem:
    """Two bits, four batch elements: asymmetric, logits of exactly 0, p = 1e-4, p = 1 − 1e-4."""
    logits = np.array([[0.8, -1.3], [0.0, 0.0], [RARE, 1.1], [-0.6, -RARE]])
    return discrete("bits", Site("bits", "logits", (2,)), logits, 741, two_layers_of_bits())


@functools.cache
def hots() -> Problem:
    """Two one-hot variables: asymmetric; logits of exactly 0; a masked and a rare category."""
    logits = np.array(
        [
            [[0.9, -0.4, 0.2], [-1.0, 0.5, 0.3]],
            [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
            [[-np.inf, 0.6, -0.8], [RARE, 0.4, 0.0]],
        ]
    )
    return discrete("hots", Site("hot", "logits", (2, 3)), logits, 90)


@functools.cache
def tree() -> Problem:
    """A dict of two bits and a one-hot variable, by probabilities (of the latter, unnormalised)."""
    sites = {"bit": Site("bits", "probs", (2,)), "hot": Site("hot", "probs", (3,))}
    probs = {
        "bit": np.array([[0.3, 0.85], [0.6, 0.15]]),
        "hot": np.array([[0.2, 0.5, 0.9], [1.0, 0.3, 0.4]]),
    }
    return discrete("tree", sites, probs, 491)


@functools.cache
def single() -> Problem:
    """One bit: no batch, no event."""
    return discrete("single", Site("bits", "logits", ()), np.array(0.7), 412)


@functools.cache
def two_layers_of_bits() -> Layers:
    """z₁ two bits, z₂ two bits whose logits are linear in z₁, and a cost of both."""
    rng = np.random.default_rng(233)
    logits = np.array([[0.8, -1.3], [0.0, 0.4], [-0.9, 0.2]])
    weight, bias = np.array([[1.1, -0.7], [0.4, 0.9]]), np.array([-0.3, 0.5])
    f = {"weight": weight, "bias": bias, **cost_params(rng, (3,), 4)}
    pairs = [np.array(o) for o in itertools.product([0.0, 1.0], repeat=2)]

    def nested(params, outer, inner, key):
        f = params["f"]
        first, second = jax.random.split(key)

        def inside(z):
            q = dist.Bernoulli(logits=z @ f["weight"] + f["bias"]).to_event(1)
            cost = lambda y: curved_cost(f, jnp.concatenate([z, y], axis=-1))
            return expect(second, q, cost, inner)

        return expect(first, dist.Bernoulli(logits=params["q"]).to_event(1), inside, outer)

    def exact(params: Params) -> Array:
        f, total = params["f"], 0.0
        chance = lambda logits, z: jnp.prod(jax.nn.sigmoid(jnp.where(z == 1, logits, -logits)), -1)
        for z, y in itertools.product(pairs, repeat=2):
            both = jnp.broadcast_to(np.concatenate([z, y]), (*params["q"].shape[:-1], 4))
            p = chance(params["q"], z) * chance(z @ f["weight"] + f["bias"], y)
            total = total + p * curved_cost(f, both)
        return jnp.asarray(total)

    def reference(params: Params) -> np.ndarray:
        f, total = params["f"], np.zeros(3)
        bit = lambda t, b: 1 / (1 + np.exp(t - 2 * t * b))
        chance = lambda logits, z: np.prod([bit(t, b) for t, b in zip(logits, z, strict=True)])
        for i in range(3):
            for z, y in itertools.product(pairs, repeat=2):
                p = chance(params["q"][i], z) * chance(z @ f["weight"] + f["bias"], y)
                x = np.concatenate([z, y])
                t = x @ f["curve"]
                line = f["offset"][i] + f["slope"][i] @ x
                total[i] += p * (line + t**2 + f["wave"] * np.sin(3 * t))
        return total

    return Layers(
        name="two layers of bits",
        params={"q": logits, "f": f},
        weights=outer_weights((3,)),
        nested=nested,
        exact=exact,
        reference=reference,
    )


# Continuous problems: closed forms, checked by Gauss quadrature


@functools.cache
def gaussian() -> Problem:
    """A dict of a normal variable and a pair of them, with a cost that couples all three."""
    params = {
        "q": {
            "x": {"loc": np.array([-1.0, 0.4]), "scale": np.array([0.7, 1.2])},
            "y": {
                "loc": np.array([[-0.8, 0.3], [0.6, 0.4]]),
                "scale": np.array([[1.2, 1.0], [0.6, 0.6]]),
            },
        },
        "f": {
            "offset": np.array([0.2, 0.3]),
            "curve": np.array([-0.5, 0.4, 0.6, 0.3]),
            "slope": np.array([[-0.8, 0.6], [-0.3, -0.8]]),
        },
    }

    def make_q(q):
        return {"x": dist.Normal(**q["x"]), "y": dist.Normal(**q["y"]).to_event(1)}

    def cost(f, z):
        x, y, a = z["x"], z["y"], f["curve"]
        line = f["offset"] + jnp.sum(f["slope"] * y, axis=-1)
        square = a[0] * x**2 + a[3] * jnp.sum(y**2, axis=-1)
        return line + square + a[1] * jnp.sin(x) + a[2] * x * y[..., 0]

    def exact(params: Params) -> Array:
        (x, y), f = (params["q"]["x"], params["q"]["y"]), params["f"]
        m, v, a = x["loc"], x["scale"] ** 2, f["curve"]
        line = f["offset"] + jnp.sum(f["slope"] * y["loc"], axis=-1)
        wave = a[1] * jnp.sin(m) * jnp.exp(-v / 2)
        square = a[0] * (m**2 + v) + a[3] * jnp.sum(y["loc"] ** 2 + y["scale"] ** 2, axis=-1)
        return line + square + wave + a[2] * m * y["loc"][..., 0]

    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    grid = np.stack(np.meshgrid(nodes, nodes, nodes, indexing="ij"), -1).reshape(-1, 3)
    mass = np.prod(np.stack(np.meshgrid(*[weights] * 3, indexing="ij"), -1), -1).ravel()

    def reference(params: Params) -> np.ndarray:
        (x, y), f = (params["q"]["x"], params["q"]["y"]), params["f"]
        xs = x["loc"] + x["scale"] * grid[:, None, 0]
        ys = y["loc"] + y["scale"] * grid[:, None, 1:]
        a, line = f["curve"], f["offset"] + np.sum(f["slope"] * ys, axis=-1)
        square = a[0] * xs**2 + a[3] * np.sum(ys**2, axis=-1)
        costs = line + square + a[1] * np.sin(xs) + a[2] * xs * ys[..., 0]
        return mass @ costs / mass.sum()

    return Problem(
        name="gaussian",
        params=params,
        weights=outer_weights((2,)),
        make_q=make_q,
        cost=cost,
        exact=exact,
        reference=reference,
        layers=_two_gaussian_layers(),
    )


def _two_gaussian_layers() -> Layers:
    """x ~ N(m, s²), y ~ N(w x, r²), cost a x y + b y²."""
    params = {
        "q": {"loc": np.array([0.7, -0.4]), "scale": np.array([0.8, 1.2])},
        "f": {
            "weight": np.array([0.9, -0.5]),
            "width": np.array([0.7, 1.1]),
            "curve": np.array([0.6, 0.8]),
        },
    }

    def nested(params, outer, inner, key):
        f = params["f"]
        first, second = jax.random.split(key)

        def inside(x):
            cost = lambda y: f["curve"][0] * x * y + f["curve"][1] * y**2
            return expect(second, dist.Normal(f["weight"] * x, f["width"]), cost, inner)

        return expect(first, dist.Normal(**params["q"]), inside, outer)

    def exact(params: Params) -> Array:
        q, f = params["q"], params["f"]
        second_moment = q["loc"] ** 2 + q["scale"] ** 2
        square = f["weight"] ** 2 * second_moment + f["width"] ** 2
        return f["curve"][0] * f["weight"] * second_moment + f["curve"][1] * square

    nodes, weights = np.polynomial.hermite_e.hermegauss(12)

    def reference(params: Params) -> np.ndarray:
        q, f = params["q"], params["f"]
        x = q["loc"] + q["scale"] * nodes[:, None, None]
        y = f["weight"] * x + f["width"] * nodes[None, :, None]
        costs = f["curve"][0] * x * y + f["curve"][1] * y**2
        mass = np.outer(weights, weights)[..., None]
        return np.sum(mass * costs, axis=(0, 1)) / mass.sum()

    return Layers(
        name="two gaussian layers",
        params=params,
        weights=outer_weights((2,)),
        nested=nested,
        exact=exact,
        reference=reference,
    )


@functools.cache
def gamma() -> Problem:
    """A gamma variable, whose pathwise derivative is implicit."""
    params = {
        "q": {"concentration": np.array([2.5, 0.9, 6.0]), "rate": np.array([1.5, 0.8, 3.0])},
        "f": {
            "offset": np.array([0.3, -0.2, 0.5]),
            "curve": np.array([0.1, -3.0]),
        },
    }

    def cost(f, x):
        return f["offset"] + f["curve"][0] * x**2 + f["curve"][1] * jnp.exp(-x)

    def exact(params: Params) -> Array:
        k, r = params["q"]["concentration"], params["q"]["rate"]
        f = params["f"]
        square = f["curve"][0] * k * (k + 1) / r**2
        return f["offset"] + square + f["curve"][1] * jnp.exp(k * (jnp.log(r) - jnp.log1p(r)))

    def reference(params: Params) -> np.ndarray:
        from scipy.special import roots_genlaguerre  # SciPy comes with JAX

        f, out = params["f"], []
        for i, (k, r) in enumerate(zip(*params["q"].values(), strict=True)):
            x, mass = roots_genlaguerre(60, k - 1)
            x = x / r
            costs = f["offset"][i] + f["curve"][0] * x**2 + f["curve"][1] * np.exp(-x)
            out.append(mass @ costs / mass.sum())
        return np.array(out)

    return Problem(
        name="gamma",
        params=params,
        weights=outer_weights((3,)),
        make_q=lambda q: dist.Gamma(**q),
        cost=cost,
        exact=exact,
        reference=reference,
    )


ALL = (bits, hots, tree, single, gaussian, gamma)
"""Every problem."""
