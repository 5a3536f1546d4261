"""The compiler beneath us computes what it is told.

jaxlib 0.10.2 does not, on CPU: it fuses a float32 sum with a product of what was summed, and beyond
32,768 elements the result is wrong, under `jit` and without a sound. Every gradient estimate has
that shape: a cost, times the score of the draw that it was summed from. That version is excluded in
pyproject.toml; this test is for the next one.
"""

import functools

import jax
import numpy as np
import pytest

# as users compile, whatever the other tests ask of the compiler
compiled = functools.partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 3,
        "xla_cpu_parallel_codegen_split_count": 32,
        "xla_cpu_use_fusion_emitters": True,
    },
)


@pytest.mark.parametrize("shape", [(4000, 8, 12), (3000, 12), (4096, 12), (20_000, 3), (400, 200)])
def test_a_sum_times_what_was_summed(shape):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    weights = rng.standard_normal(shape[1:]).astype(np.float32)
    product = lambda x, w: (w * x).sum(-1)[..., None] * x
    squares = lambda x, w: ((w * x).sum(-1) ** 2).sum()
    # float32 sums of a few hundred terms of size one: rounding stays well below a thousandth
    np.testing.assert_allclose(compiled(product)(x, weights), product(x, weights), atol=1e-3)
    derivative = 2 * (weights * x).sum(-1)[..., None] * weights
    np.testing.assert_allclose(compiled(jax.grad(squares))(x, weights), derivative, atol=1e-3)
