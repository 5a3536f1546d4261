"""What summing over many outcomes costs, beside evaluating f at as many points in batches.

    python benchmarks/streaming.py [--rounds N] [--small]

Prints, for `Enumerate` over 2^20 outcomes and `LocalExpectation` over 2,000 bits, the time of one
gradient in q's logits as a ratio to that of f alone at as many points (the same chunks, in one
compiled loop), medians of paired runs; and the memory that the compiler plans for.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

import expectax as ex


def paired(programs, rounds):
    """Median seconds of each program, run in turn, and the quartiles of the ratio of the two."""
    for program in programs:
        for _ in range(2):
            jax.block_until_ready(program())
    seconds = [[] for _ in programs]
    for _ in range(rounds):
        for program, own in zip(programs, seconds, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(program())
            own.append(time.perf_counter() - start)
    ratios = sorted(a / b for a, b in zip(*seconds, strict=True))
    quartiles = statistics.quantiles(ratios, n=4, method="inclusive") if rounds > 1 else ratios * 3
    return [statistics.median(s) for s in seconds], quartiles


def measure(name, num_bits, num_points, num_pixels, estimator, rounds):
    """One line: a gradient beside plain evaluations of f."""
    weight = jax.random.normal(jax.random.key(0), (num_bits, num_pixels)) / num_bits**0.5
    logits = jax.random.normal(jax.random.key(1), (num_bits,)) / 2

    def cost(b):  # a Bernoulli likelihood of `num_pixels` pixels, all of them off
        a = b @ weight
        return jnp.sum(0.5 * (a + jnp.abs(a)) + jnp.log1p(jnp.exp(-jnp.abs(a))))

    def loss(logits, key):
        q = dist.Bernoulli(logits=logits).to_event(1)
        return ex.expect(key, q, cost, estimator)

    chunk = max(1, min(num_points, 2**22 // num_bits))
    points = jax.random.bernoulli(jax.random.key(3), 0.5, (chunk, num_bits)).astype(float)

    def plain(points):
        # `0 * sum_` keeps the compiler from taking the evaluation out of the loop
        total = lambda _, sum_: sum_ + jnp.sum(jax.vmap(cost)(points + 0 * sum_))
        return jax.lax.fori_loop(0, -(-num_points // chunk), total, jnp.zeros(()))

    key = jax.random.key(2)
    gradient = jax.jit(jax.grad(loss)).lower(logits, key).compile()
    evaluate = jax.jit(plain).lower(points).compile()
    programs = [lambda: gradient(logits, key), lambda: evaluate(points)]
    (one, two), (low, ratio, high) = paired(programs, rounds)
    memory = gradient.memory_analysis().temp_size_in_bytes / 2**20
    print(
        f"{name:32} {1e6 * one / num_points:8.3f} µs a point, f alone {1e6 * two / num_points:8.3f}"
        f"   ratio {ratio:.2f} ({low:.2f}–{high:.2f})   {memory:6.0f} MiB"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--small", action="store_true", help="a few seconds' version")
    given = parser.parse_args()
    bits, variables = (12, 200) if given.small else (20, 2000)
    exact, local = ex.Enumerate(), ex.LocalExpectation()
    for pixels in (64, 784):
        exactly = (f"Enumerate, 2^{bits}, {pixels} pixels", bits, 2**bits, pixels, exact)
        locally = (
            *(f"LocalExpectation, {variables}, {pixels} pixels", variables, variables),
            *(pixels, local),
        )
        measure(*exactly, given.rounds)
        measure(*locally, given.rounds)
