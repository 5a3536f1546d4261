"""REBAR learns its temperature, scale and baseline in the same step as the model.

    python examples/03_learned_control_variate.py [--steps 2000]

The estimator is a pytree. Its leaves receive the gradient of the variance they cause, so one
`jax.grad` and one optimiser train both, and there is no hidden state to update in the wrong order.
"""

import argparse

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import optax

import expectax as ex


def loss(theta, estimator, key):
    q = dist.Bernoulli(logits=theta).to_event(1)
    return ex.expect(key, q, lambda b: jnp.sum((b - 0.49) ** 2, axis=-1), estimator)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2000)
    steps = parser.parse_args().steps
    optimizer = optax.adam(1e-2)
    trained = (jnp.zeros(5), ex.REBAR(temperature=0.5, scale=1.0, baseline=0.0))

    @jax.jit
    def step(carry, key):
        trained, moments = carry
        value, grads = jax.value_and_grad(lambda both: loss(*both, key))(trained)
        updates, moments = optimizer.update(grads, moments)
        return (optax.apply_updates(trained, updates), moments), value

    carry = (trained, optimizer.init(trained))
    keys = jax.random.split(jax.random.key(0), steps)
    for part in range(4):
        theta, rebar = carry[0]
        moments = ex.gradient_moments(
            jax.random.key(9), lambda t, key, e=rebar: loss(t, e, key), theta, num_draws=2000
        )
        print(
            f"step {part * steps // 4:5d}  exact loss {exact(theta):.5f}  gradient variance "
            f"{moments.variance.sum():.2e}  temperature {rebar.temperature:.2f}  "
            f"scale {rebar.scale:.2f}  baseline {rebar.baseline:.2f}"
        )
        carry, _ = jax.lax.scan(step, carry, keys[part * steps // 4 : (part + 1) * steps // 4])
    print(f"step {steps:5d}  exact loss {exact(carry[0][0]):.5f}  (the best is {5 * 0.49**2:.5f})")


def exact(theta):
    q = dist.Bernoulli(logits=theta).to_event(1)
    cost = lambda b: jnp.sum((b - 0.49) ** 2, axis=-1)
    return ex.expect(jax.random.key(0), q, cost, ex.Enumerate())


if __name__ == "__main__":
    main()
