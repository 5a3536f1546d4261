"""What sums over many outcomes needs memory for a chunk of them, not for all."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest

import expectax as ex

LIMIT = 2**31  # bytes


def peak(num_bits, estimator, num_hidden=64):
    """Bytes of temporary memory of one gradient, as the compiler plans them."""
    weight = jnp.full((num_bits, num_hidden), 0.1)

    def loss(logits, weight, key):
        q = dist.Bernoulli(logits=logits).to_event(1)
        cost = lambda b: jnp.sum(jnp.tanh(b @ weight))
        return ex.expect(key, q, cost, estimator)

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
    compiled = gradient.lower(jnp.zeros(num_bits), weight, jax.random.key(0)).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(
    ("num_bits", "estimator"), [(20, ex.Enumerate()), (2000, ex.LocalExpectation())]
)
def test_a_million_outcomes_or_two_thousand_variables_fit_in_two_gigabytes(num_bits, estimator):
    assert peak(num_bits, estimator) < LIMIT


def test_what_is_kept_for_an_outcome_is_its_cost():
    few, many = peak(17, ex.Enumerate(chunk_size=2**12)), peak(20, ex.Enumerate(chunk_size=2**12))
    assert many - few < 3 * 4 * (2**20 - 2**17)  # its cost, and at most two other numbers
    whole = peak(17, ex.Enumerate(chunk_size=2**17))
    assert whole > 8 * few  # so that the line above can fail
