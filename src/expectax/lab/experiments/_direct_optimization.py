"""What the experiments with direct optimization through argmax have in common.

Reference: Lorberbom, Gane, Jaakkola & Hazan (2019), "Direct optimization through arg max for
discrete variational auto-encoder", section 5.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

EPOCH = 600
"""Steps, of batches of 100."""


def annealed(step: Int[Array, ""]) -> Float[Array, ""]:
    """The share of ε, or the temperature, at a step."""
    return jnp.maximum(0.1, jnp.exp(-1e-5 * (step // 500 * 500)))


def kl_to_uniform(logits: Float[Array, "*B K"]) -> Float[Array, "*B"]:
    """KL(softmax(logits) ‖ uniform), in nats."""
    log_q = jax.nn.log_softmax(logits)
    return jnp.sum(jnp.exp(log_q) * log_q, axis=-1) + jnp.log(logits.shape[-1])
