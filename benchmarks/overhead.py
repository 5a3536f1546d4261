"""What an estimator costs beside the deterministic floor, in one process on one machine.

One training step (draws, loss, all gradients, Adam) of a linear Bernoulli VAE 784–200–784, many
steps in one `lax.scan`. The floor sends the means σ(θ) through: one forward and one backward pass,
everything else the same. Runs are interleaved, warmed up for at least 300 steps, and each ratio is
the median over rounds of (estimator's time / floor's time in the same round), with its quartiles.

    python benchmarks/overhead.py [--batch-size 50] [--rounds 15] [--only disarm,rebar]

Times depend on the machine and on what else it does; the ratios are what to compare.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax

import expectax as ex
from expectax._numerics import softplus

PIXELS, LATENTS, WIDTH = 784, 200, 200


def init_model(key: jax.Array) -> dict[str, jax.Array]:
    one, two = jax.random.split(key)
    return {
        "encoder": jax.random.normal(one, (PIXELS, LATENTS)) * PIXELS**-0.5,
        "encoder_bias": jnp.zeros(LATENTS),
        "decoder": jax.random.normal(two, (LATENTS, PIXELS)) * LATENTS**-0.5,
        "decoder_bias": jnp.zeros(PIXELS),
        "prior": jnp.zeros(LATENTS),
    }


def encode(model: Any, x: jax.Array) -> jax.Array:
    return x @ model["encoder"] + model["encoder_bias"]


def negative_elbo_at(model: Any, x: jax.Array, theta: jax.Array, z: jax.Array) -> jax.Array:
    """log q(z) − log p(x, z), linear in z but for the decoder; fast tie-safe forms."""
    pixels = (2 * z - 1) @ model["decoder"] + model["decoder_bias"]
    log_likelihood = jnp.sum(x * pixels - softplus(pixels), axis=-1)
    log_prior = jnp.sum(z * model["prior"] - softplus(model["prior"]), axis=-1)
    log_q = jnp.sum(z * theta - softplus(theta), axis=-1)
    return log_q - log_prior - log_likelihood


def floor_loss(model: Any, estimator: Any, key: jax.Array, x: jax.Array) -> jax.Array:
    del estimator, key
    theta = encode(model, x)
    return jnp.mean(negative_elbo_at(model, x, theta, jax.nn.sigmoid(theta)))


def estimator_loss(model: Any, estimator: Any, key: jax.Array, x: jax.Array) -> jax.Array:
    theta = encode(model, x)
    q = dist.Bernoulli(logits=theta, validate_args=False).to_event(1)
    held = jax.lax.stop_gradient(theta)
    return jnp.mean(ex.expect(key, q, lambda z: negative_elbo_at(model, x, held, z), estimator))


def control_network(key: jax.Array) -> ex.RELAX:
    """RELAX's control variate: two tanh layers of 200 units."""

    def apply(params: Any, z: jax.Array) -> jax.Array:
        h = jnp.tanh(z @ params["w1"] + params["b1"])
        h = jnp.tanh(h @ params["w2"] + params["b2"])
        return h @ params["w3"]

    one, two = jax.random.split(key)
    params = {
        "w1": jax.random.normal(one, (LATENTS, WIDTH)) * LATENTS**-0.5,
        "b1": jnp.zeros(WIDTH),
        "w2": jax.random.normal(two, (WIDTH, WIDTH)) * WIDTH**-0.5,
        "b2": jnp.zeros(WIDTH),
        "w3": jnp.zeros(WIDTH),
    }
    return ex.RELAX(jax.tree_util.Partial(apply, params))


def contenders() -> dict[str, tuple[Callable[..., jax.Array], Any, float | None]]:
    """name → (loss, estimator, the ratio it should stay under)."""
    return {
        "floor": (floor_loss, None, None),
        "score-function": (estimator_loss, ex.ScoreFunction(baseline=0.0), None),
        "gumbel-softmax": (estimator_loss, ex.GumbelSoftmax(0.5), 1.4),
        "leave-one-out": (estimator_loss, ex.LeaveOneOut(2), 1.45),
        "disarm": (estimator_loss, ex.DisARM(), 1.4),
        "muprop": (estimator_loss, ex.MuProp(baseline=0.0), 1.9),
        "rebar": (estimator_loss, ex.REBAR(), 2.5),
        "relax": (estimator_loss, control_network(jax.random.key(7)), 2.3),
    }


def make_runner(
    loss: Callable[..., jax.Array], estimator: Any, data: jax.Array, batch_size: int, steps: int
) -> tuple[Callable[[Any], Any], Any]:
    """A compiled function that makes `steps` training steps, and its first state."""
    optimizer = optax.adam(1e-4)
    trained = (init_model(jax.random.key(0)), estimator)

    def step(state: Any, _: None) -> tuple[Any, jax.Array]:
        trained, moments, key, at = state
        key, sub = jax.random.split(key)
        x = jax.lax.dynamic_slice_in_dim(data, at, batch_size)
        value, grads = jax.value_and_grad(lambda t: loss(*t, sub, x))(trained)
        updates, moments = optimizer.update(grads, moments)
        at = (at + batch_size) % (data.shape[0] - batch_size)
        return (optax.apply_updates(trained, updates), moments, key, at), value

    @jax.jit
    def run(state: Any) -> Any:
        return jax.lax.scan(step, state, None, length=steps)[0]

    state = (trained, optimizer.init(trained), jax.random.key(1), jnp.zeros((), jnp.int32))
    return run, state


def measure(batch_size: int, steps: int, rounds: int, only: set[str] | None) -> dict[str, Any]:
    data = jax.random.bernoulli(jax.random.key(3), 0.2, (6000, PIXELS)).astype(jnp.float32)
    chosen = {k: v for k, v in contenders().items() if not only or k in only or k == "floor"}
    runners, states, times = {}, {}, {name: [] for name in chosen}
    for name, (loss, estimator, _) in chosen.items():
        runners[name], states[name] = make_runner(loss, estimator, data, batch_size, steps)
        for _ in range(-(-300 // steps)):  # warm up: the first seconds of a process are slow
            states[name] = jax.block_until_ready(runners[name](states[name]))
    for _ in range(rounds):
        for name, run in runners.items():
            start = time.perf_counter()
            states[name] = jax.block_until_ready(run(states[name]))
            times[name].append((time.perf_counter() - start) / steps * 1e3)
    floor = np.asarray(times["floor"])
    result = {}
    for name, (_, _, limit) in chosen.items():
        ratio = np.asarray(times[name]) / floor
        low, mid, high = np.quantile(ratio, [0.25, 0.5, 0.75])
        result[name] = {
            "milliseconds": float(np.median(times[name])),
            "ratio": float(mid),
            "quartiles": [float(low), float(high)],
            "goal": limit,
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--steps", type=int, default=100, help="steps in one scan")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", type=lambda s: set(s.split(",")), default=None)
    parser.add_argument("--json", help="also write the result here")
    options = parser.parse_args()
    result = measure(options.batch_size, options.steps, options.rounds, options.only)
    print(f"batch {options.batch_size}, {options.rounds} rounds of {options.steps} steps")
    print(f"{'':16s} {'ms/step':>8s} {'ratio':>7s}  {'quartiles':13s} goal")
    for name, row in result.items():
        low, high = row["quartiles"]
        goal = f"≤ {row['goal']:.2f}" if row["goal"] else ""
        print(
            f"{name:16s} {row['milliseconds']:8.3f} {row['ratio']:7.2f}  "
            f"{low:.2f} – {high:.2f}   {goal}"
        )
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
