"""Two stochastic layers: an `expect` inside the cost of another, each with its own estimator.

    python examples/04_layers.py

The inner key is shared by all draws of the outer layer: unbiased, and it makes their noise common.
"""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

import expectax as ex


def loss(params, key, outer, inner):
    one, two = jax.random.split(key)
    first = dist.Bernoulli(logits=params["top"]).to_event(1)

    def below(z):
        second = dist.Bernoulli(logits=(2 * z - 1) @ params["down"]).to_event(1)
        cost = lambda h: (h.sum(-1) - 1.2) ** 2 + 0.3 * z.sum(-1) * h[..., 0]
        return ex.expect(two, second, cost, inner)

    return ex.expect(one, first, below, outer)


def main():
    params = {
        "top": jnp.array([0.0, 1.0]),
        "down": jnp.array([[0.5, -1.0, 0.2], [1.5, 0.3, -0.7]]),
    }
    exact = jax.grad(loss)(params, jax.random.key(0), ex.Enumerate(), ex.Enumerate())
    print("exact               ", exact["top"], exact["down"][0])
    for outer, inner in (
        (ex.DisARM(), ex.DisARM()),
        (ex.LeaveOneOut(2), ex.REBAR()),
        (ex.Enumerate(), ex.DisARM()),
    ):
        grad = lambda key, o=outer, i=inner: jax.grad(loss)(params, key, o, i)
        many = jax.jit(jax.vmap(grad))(jax.random.split(jax.random.key(1), 20_000))
        mean = jax.tree.map(lambda g: g.mean(0), many)
        print(
            f"{type(outer).__name__:>11s} {type(inner).__name__:8s}", mean["top"], mean["down"][0]
        )


if __name__ == "__main__":
    main()
