"""The variational autoencoder of bits whose encoder scores pairs of them too.

Axes: B data batch (any number of leading axes), P pixels, n bits.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._errors import InvalidArgumentError, complain
from ..distributions import OneHotCategorical, PairwiseSolver, PerturbAndMAP
from ._builders import binary_vae
from ._layers import Network, with_zero_last_layer
from ._vae import BinaryVAE


class StructuredVAE(eqx.Module):
    """A binary VAE with scores of pairs: Σ_i φ_i(x) z_i + Σ_i<j φ_ij(x) z_i z_j.

    Two laws of z have these scores. `posterior` draws the setting of greatest score when Gumbel
    noise is added to each φ: one argmax a draw, but no probabilities. `gibbs` has the probabilities
    exp(score) / Σ exp(score), by listing all 2ⁿ settings: where a probability is asked for, as in
    the KL divergence, it stands in for the other, and with it as q every bound is a bound.

    Attributes:
        unstructured: the same model without scores of pairs. Its encoder gives the φ_i, which are
            the logits of its own q(z | x); prior and decoder are shared.
        pairs: from x − center to the φ_ij, row by row.

    Example:
        >>> import jax, jax.numpy as jnp, expectax as ex
        >>> model = structured_vae(jax.random.key(0), jnp.full(16, 0.3), 4, (8,))
        >>> x = jnp.zeros((5, 16))
        >>> cost = lambda s: -model.log_likelihood(x, s)
        >>> ex.expect(jax.random.key(1), model.posterior(x), cost, ex.DirectArgmax()).shape
        (5,)
    """

    unstructured: BinaryVAE
    pairs: Network

    @property
    def num_latents(self) -> int:
        """n."""
        return self.unstructured.prior_logits.shape[-1]

    def scores(self, x: Float[Array, "*B P"]) -> Float[Array, "*B n n"]:
        """φ_i(x) on the diagonal, φ_ij(x) above it, zeros below."""
        model = self.unstructured
        rows, columns = jnp.triu_indices(self.num_latents, 1)
        seen = model.centered(x)
        alone = model.encoder(seen)
        diagonal = alone[..., None] * jnp.eye(self.num_latents, dtype=alone.dtype)
        return diagonal.at[..., rows, columns].set(self.pairs(seen))

    def posterior(self, x: Float[Array, "*B P"]) -> PerturbAndMAP:
        """The structure of greatest perturbed score: event shape (n, n), bits on the diagonal."""
        return PerturbAndMAP(self.scores(x), PairwiseSolver())

    def bits(self, structure: Float[Array, "*B n n"]) -> Float[Array, "*B n"]:
        """The bits z of a structure: its diagonal."""
        return jnp.diagonal(structure, axis1=-2, axis2=-1)

    def log_likelihood(
        self, x: Float[Array, "*B P"], structure: Float[Array, "*B n n"]
    ) -> Float[Array, "*B"]:
        """log p(x | z), in nats, of a draw of `posterior`."""
        return self.unstructured.log_likelihood(x, self.bits(structure))

    def log_joint(
        self, x: Float[Array, "*B P"], structure: Float[Array, "*B n n"]
    ) -> Float[Array, "*B"]:
        """log p(x, z), in nats, of a draw of `posterior`."""
        return self.unstructured.log_joint(x, self.bits(structure))

    def gibbs(self, x: Float[Array, "*B P"]) -> OneHotCategorical:
        """The law with probabilities in proportion to exp(score), over all N = 2ⁿ settings."""
        scores = jnp.einsum("...ij,kij->...k", self.scores(x), self._structures)
        return OneHotCategorical(logits=scores)

    def bits_of(self, setting: Float[Array, "*B N"]) -> Float[Array, "*B n"]:
        """The bits z of a draw of `gibbs`; their mean, if it is relaxed."""
        return setting @ self.bits(self._structures)

    def gibbs_kl(self, x: Float[Array, "*B P"]) -> Float[Array, "*B"]:
        """KL(gibbs ‖ p(z)), in nats, by summing over all 2ⁿ settings."""
        log_q = jax.nn.log_softmax(self.gibbs(x).logits)
        log_p = self.unstructured.log_prior(self.bits(self._structures))
        return jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=-1)

    @property
    def _structures(self) -> Float[Array, "N n n"]:
        n = self.num_latents
        listed = PairwiseSolver().structure(jnp.arange(2**n), (n, n))
        return listed.astype(self.unstructured.prior_logits.dtype)


def structured_vae(
    key: PRNGKeyArray,
    mean: Float[Array, "P"],
    num_latents: int = 10,
    hidden: tuple[int, ...] = (300,),
    **options: Any,
) -> StructuredVAE:
    """A VAE of n bits with scores of pairs, which start at zero: it starts as without them.

    Arguments:
        key: consumed.
        mean: the mean of the training data, shape (P,), in [0, 1]; it sets the number of pixels.
        num_latents: n, from 2 to 15.
        hidden: sizes of the hidden layers of each encoder, and reversed of the decoder's.
        options: as in `binary_vae`.

    Returns:
        The model with its initial weights; `.unstructured` is the one to compare it with.

    Raises:
        InvalidArgumentError: a number of bits whose settings are too few to pair or too many to
            compare, or a pixel bias of another kind.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = structured_vae(jax.random.key(0), jnp.full(16, 0.3), 4, uniform_prior=True)
        >>> model.scores(jnp.zeros((5, 16))).shape
        (5, 4, 4)

    Reference: Lorberbom et al. (2019), section 5.2: a 2 × 2 table of a pair is, up to scores of its
    bits alone, one number.
    """
    if not 2 <= num_latents <= 15:
        raise InvalidArgumentError(
            complain(
                f"structured_vae was given {num_latents} latents",
                "all settings of its bits are compared, and a pair needs two",
                "pass 2 to 15",
            )
        )
    model_key, pairs_key = jax.random.split(key)
    model = binary_vae(model_key, mean, num_latents, hidden, **options)
    num_pairs = num_latents * (num_latents - 1) // 2
    activation = model.encoder.activation
    pairs = Network(mean.size, num_pairs, hidden, activation, key=pairs_key)
    return StructuredVAE(model, with_zero_last_layer(pairs))
