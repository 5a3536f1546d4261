"""One bit, one cost, and every way to differentiate its expectation.

    python examples/01_first_gradient.py [--draws 20000]

E[(b − t)²] for b ~ Bernoulli(σ(θ)) has gradient p (1 − p) (1 − 2t): we can see who is right, and
how noisy they are. `jax.grad` through a sampler is silently zero; change the estimator and nothing
else changes.
"""

import argparse

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

import expectax as ex

TARGET = 0.45


def cost(b):
    return (b - TARGET) ** 2


def naive(theta, key):
    return cost(jax.random.bernoulli(key, jax.nn.sigmoid(theta)).astype(float))


def loss(theta, key, estimator):
    return ex.expect(key, dist.Bernoulli(logits=theta), cost, estimator)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=20_000)
    keys = jax.random.split(jax.random.key(0), parser.parse_args().draws)
    theta = 0.5

    print(f"jax.grad through a sampler:  {jax.grad(naive)(theta, keys[0]):.4f}")
    exact = jax.grad(loss)(theta, keys[0], ex.Enumerate())
    print(f"exact gradient:              {exact:.4f}\n")
    print(f"{'estimator':32s} {'mean':>8s} {'± s.e.':>8s} {'variance':>9s}")
    for estimator in (
        ex.ScoreFunction(),
        ex.LeaveOneOut(2),
        ex.ARM(),
        ex.DisARM(),
        ex.REBAR(),
        ex.MuProp(),
        ex.GumbelSoftmax(temperature=0.5),
        ex.StraightThrough(),
    ):
        draws = jax.jit(jax.vmap(lambda key, e=estimator: jax.grad(loss)(theta, key, e)))(keys)
        error = jnp.std(draws) / len(keys) ** 0.5
        biased = "" if jnp.abs(draws.mean() - exact) < 4.5 * error + 1e-7 else "   <- biased"
        name = type(estimator).__name__
        print(f"{name:32s} {draws.mean():8.4f} {error:8.4f} {draws.var():9.5f}{biased}")


if __name__ == "__main__":
    main()
