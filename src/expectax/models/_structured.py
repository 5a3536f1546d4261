"""The variational autoencoder of bits whose encoder scores pairs of them too.

Axes: B data batch (any number of leading axes), P pixels, n bits.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._errors import InvalidArgumentError, complain
from ..distributions import ChainSolver, OneHotCategorical, PairwiseSolver, PerturbAndMAP
from ._builders import binary_vae
from ._layers import Network, with_zero_last_layer
from ._vae import BinaryVAE


class AbstractStructuredVAE(eqx.Module):
    """A binary VAE with scores of pairs: Σ_i φ_i(x) z_i + Σ_ij φ_ij(x) z_i z_j over some i < j.

    Two laws of z have these scores. `posterior` draws the structure of greatest score when Gumbel
    noise is added to its entries: one argmax a draw, but no probabilities. `gibbs` has the
    probabilities exp(score) / Σ exp(score), by listing all 2ⁿ settings: where a probability is
    asked for, as in the KL divergence, it stands in for the other, and with it as q every bound is
    a bound.

    Attributes:
        unstructured: the same model without scores of pairs. Its encoder gives the φ_i, which are
            the logits of its own q(z | x); prior and decoder are shared.
        pairs: from x − center to the φ_ij, in the order of `edges`.
    """

    unstructured: eqx.AbstractVar[BinaryVAE]
    pairs: eqx.AbstractVar[Network]

    @property
    @abc.abstractmethod
    def edges(self) -> tuple[np.ndarray, np.ndarray]:
        """The pairs that have a score: all i, and with each its j > i."""

    @abc.abstractmethod
    def posterior(self, x: Float[Array, "*B P"]) -> PerturbAndMAP:
        """The structure of greatest perturbed score."""

    @abc.abstractmethod
    def bits(self, structure: Float[Array, "..."]) -> Float[Array, "*B n"]:
        """The bits z of a structure."""

    @property
    def num_latents(self) -> int:
        """n."""
        return self.unstructured.prior_logits.shape[-1]

    def scores(self, x: Float[Array, "*B P"]) -> Float[Array, "*B n n"]:
        """φ_i(x) on the diagonal, φ_ij(x) above it, zeros elsewhere."""
        model = self.unstructured
        rows, columns = self.edges
        seen = model.centered(x)
        alone = model.encoder(seen)
        diagonal = alone[..., None] * jnp.eye(self.num_latents, dtype=alone.dtype)
        return diagonal.at[..., rows, columns].set(self.pairs(seen))

    def log_likelihood(
        self, x: Float[Array, "*B P"], structure: Float[Array, "..."]
    ) -> Float[Array, "*B"]:
        """log p(x | z), in nats, of a draw of `posterior`."""
        return self.unstructured.log_likelihood(x, self.bits(structure))

    def log_joint(
        self, x: Float[Array, "*B P"], structure: Float[Array, "..."]
    ) -> Float[Array, "*B"]:
        """log p(x, z), in nats, of a draw of `posterior`."""
        return self.unstructured.log_joint(x, self.bits(structure))

    def gibbs(self, x: Float[Array, "*B P"]) -> OneHotCategorical:
        """The law with probabilities in proportion to exp(score), over all N = 2ⁿ settings."""
        z = self.settings
        features = z[:, :, None] * z[:, None, :]  # below the diagonal there are no scores
        scores = jnp.einsum("...ij,kij->...k", self.scores(x), features)
        return OneHotCategorical(logits=scores)

    def bits_of(self, setting: Float[Array, "*B N"]) -> Float[Array, "*B n"]:
        """The bits z of a draw of `gibbs`; their mean, if it is relaxed."""
        return setting @ self.settings

    def gibbs_kl(self, x: Float[Array, "*B P"]) -> Float[Array, "*B"]:
        """KL(gibbs ‖ p(z)), in nats, by summing over all 2ⁿ settings."""
        log_q = jax.nn.log_softmax(self.gibbs(x).logits)
        log_p = self.unstructured.log_prior(self.settings)
        return jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=-1)

    @property
    def settings(self) -> Float[Array, "N n"]:
        """All settings of the bits: bit i of number k is (k >> i) & 1."""
        n = self.num_latents
        listed = (jnp.arange(2**n)[:, None] >> jnp.arange(n)) & 1
        return listed.astype(self.unstructured.prior_logits.dtype)


class StructuredVAE(AbstractStructuredVAE):
    """All pairs have a score; the structure has z on its diagonal and z_i z_j above it.

    Attributes:
        unstructured, pairs: as of every `AbstractStructuredVAE`; pairs row by row.

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
    def edges(self):
        return np.triu_indices(self.num_latents, 1)

    def posterior(self, x):
        return PerturbAndMAP(self.scores(x), PairwiseSolver())

    def bits(self, structure):
        return jnp.diagonal(structure, axis1=-2, axis2=-1)


class ChainVAE(AbstractStructuredVAE):
    """Neighbors have a score; the structure is the path z_1 … z_n, found by Viterbi's algorithm.

    Attributes:
        unstructured, pairs: as of every `AbstractStructuredVAE`; pairs from the first on.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = chain_vae(jax.random.key(0), jnp.full(16, 0.3), 4, (8,))
        >>> model.posterior(jnp.zeros((5, 16))).event_shape
        (3, 2, 2)
    """

    unstructured: BinaryVAE
    pairs: Network

    @property
    def edges(self):
        first = np.arange(self.num_latents - 1)
        return first, first + 1

    def posterior(self, x):
        scores = self.scores(x)
        alone = jnp.diagonal(scores, axis1=-2, axis2=-1)
        states = jnp.stack([jnp.zeros_like(alone), alone], axis=-1)
        both = jnp.array([[0, 0], [0, 1]], scores.dtype)
        transitions = scores[..., *self.edges][..., None, None] * both
        solver = ChainSolver()
        return PerturbAndMAP(solver.scores(states, transitions), solver)

    def bits(self, structure):
        return ChainSolver().states(structure)[..., 1]


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
    return StructuredVAE(*_parts(key, mean, num_latents, hidden, _num_pairs, options))


def chain_vae(
    key: PRNGKeyArray,
    mean: Float[Array, "P"],
    num_latents: int = 10,
    hidden: tuple[int, ...] = (300,),
    **options: Any,
) -> ChainVAE:
    """A VAE of n bits with scores of neighbors, which start at zero: it starts as without them.

    Arguments:
        key, mean, num_latents, hidden, options: as in `structured_vae`.

    Returns:
        The model with its initial weights; `.unstructured` is the one to compare it with.

    Raises:
        InvalidArgumentError: as of `structured_vae`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = chain_vae(jax.random.key(0), jnp.full(16, 0.3), 4, uniform_prior=True)
        >>> model.pairs(jnp.zeros((5, 16))).shape
        (5, 3)

    Reference: Lorberbom et al. (2019), section 5.2; Viterbi (1967).
    """
    return ChainVAE(*_parts(key, mean, num_latents, hidden, lambda n: n - 1, options))


def _num_pairs(n: int) -> int:
    return n * (n - 1) // 2


def _parts(
    key: PRNGKeyArray,
    mean: Array,
    num_latents: int,
    hidden: tuple[int, ...],
    num_pairs: Callable[[int], int],
    options: dict[str, Any],
) -> tuple[BinaryVAE, Network]:
    """The model without pairs, and the network of their scores."""
    if not 2 <= num_latents <= 15:
        raise InvalidArgumentError(
            complain(
                f"a structured VAE was asked for with {num_latents} latents",
                "all settings of its bits are compared, and a pair needs two",
                "pass 2 to 15",
            )
        )
    model_key, pairs_key = jax.random.split(key)
    model = binary_vae(model_key, mean, num_latents, hidden, **options)
    activation = model.encoder.activation
    pairs = Network(mean.size, num_pairs(num_latents), hidden, activation, key=pairs_key)
    return model, with_zero_last_layer(pairs)
