"""Several sites, categories beside bits, and a cost that is a black box.

    python examples/02_one_word.py

q is a pytree of NumPyro distributions with one batch shape; f gets the same pytree of draws. The
gradient reaches whatever the distributions were built from, and f's own parameters too.
"""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

import expectax as ex


def loss(params, key, estimator):
    q = {
        "route": ex.OneHotCategorical(logits=params["route"]),  # [B, 4]
        "gates": dist.Bernoulli(logits=params["gates"]).to_event(1),  # [B, 3]
    }

    def cost(draw):  # one number for each of the B batch elements
        chosen = draw["route"] @ params["price"]
        return chosen + jnp.abs(draw["gates"].sum(-1) - 1.5) * (1 + chosen)

    return ex.expect(key, q, cost, estimator).mean()


def main():
    params = {
        "route": jnp.array([[0.0, 1.0, -1.0, 0.5], [2.0, 0.0, -jnp.inf, 0.0]]),  # one is masked
        "gates": jnp.array([[0.0, 1.0, -2.0], [0.3, 0.0, 0.7]]),
        "price": jnp.array([1.0, 2.0, 0.5, 3.0]),
    }
    exact = jax.grad(loss)(params, jax.random.key(0), ex.Enumerate())
    print("exact      gates:", exact["gates"][0], " price:", exact["price"])
    estimators = {"leave-one-out": ex.LeaveOneOut(4), "score": ex.ScoreFunction(4)}
    for name, estimator in estimators.items():
        many = jax.vmap(lambda key, e=estimator: jax.grad(loss)(params, key, e))
        grads = jax.jit(many)(jax.random.split(jax.random.key(1), 5000))
        mean = jax.tree.map(lambda g: g.mean(0), grads)
        print(f"{name:13s} gates:", mean["gates"][0], " price:", mean["price"])
    try:
        loss(params, jax.random.key(0), ex.DisARM())
    except ex.IncompatibleError as error:  # never a silent choice of another method
        print(f"\nDisARM on a one-hot site:\n{error}")


if __name__ == "__main__":
    main()
