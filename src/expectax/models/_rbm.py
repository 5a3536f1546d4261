"""The restricted Boltzmann machine, its exact partition function, and an estimate of it.

Axes: B data batch or parallel chains (any number of leading axes), V visible units, H hidden units,
n chains of an estimate.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer
from jaxtyping import Array, Float, PRNGKeyArray

from .._errors import InvalidArgumentError, complain
from .._numerics import softplus
from ._layers import data_logits

_MOST_UNITS = 25
"""2^25 settings of the smaller side are summed at most."""

_CHUNK_UNITS = 12
"""2^12 of them at a time."""


class RBM(eqx.Module):
    """p(v, h) = exp(−E(v, h)) / Z of bits v and h, with E(v, h) = −aᵀv − bᵀh − vᵀW h.

    Attributes:
        weights: W.
        visible_bias: a.
        hidden_bias: b.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = rbm(jax.random.key(0), jnp.full(16, 0.3), num_hidden=4)
        >>> v = jnp.zeros((5, 16))
        >>> model.free_energy(v).shape, model.gibbs(jax.random.key(1), v, 3).shape
        ((5,), (5, 16))

    Reference: Smolensky (1986); Hinton (2002).
    """

    weights: Float[Array, "V H"]
    visible_bias: Float[Array, "V"]
    hidden_bias: Float[Array, "H"]

    def energy(self, v: Float[Array, "*B V"], h: Float[Array, "*B H"]) -> Float[Array, "*B"]:
        """E(v, h)."""
        return -(v @ self.visible_bias) - jnp.sum(h * self.hidden_logits(v), axis=-1)

    def free_energy(self, v: Float[Array, "*B V"]) -> Float[Array, "*B"]:
        """F(v) = −log Σ_h exp(−E(v, h)) = −aᵀv − Σ softplus(b + Wᵀv): log p(v) = −F(v) − log Z."""
        return -(v @ self.visible_bias) - jnp.sum(softplus(self.hidden_logits(v)), axis=-1)

    def hidden_logits(self, v: Float[Array, "*B V"]) -> Float[Array, "*B H"]:
        """b + Wᵀv."""
        return v @ self.weights + self.hidden_bias

    def visible_logits(self, h: Float[Array, "*B H"]) -> Float[Array, "*B V"]:
        """a + W h."""
        return h @ self.weights.T + self.visible_bias

    def hidden_given(self, v: Float[Array, "*B V"]) -> dist.Distribution:
        """p(h | v), exactly: independent bits."""
        return dist.Bernoulli(logits=self.hidden_logits(v)).to_event(1)  # type: ignore[return-value]

    def visible_given(self, h: Float[Array, "*B H"]) -> dist.Distribution:
        """p(v | h), exactly: independent bits."""
        return dist.Bernoulli(logits=self.visible_logits(h)).to_event(1)  # type: ignore[return-value]

    def hidden_marginals(self, v: Float[Array, "*B V"]) -> Float[Array, "*B H"]:
        """p(h_j = 1 | v) of each hidden unit."""
        return jax.nn.sigmoid(self.hidden_logits(v))

    def hidden_map(self, v: Float[Array, "*B V"]) -> Float[Array, "*B H"]:
        """The most probable h given v; where a unit is undecided, 0."""
        logits = self.hidden_logits(v)
        return (logits > 0).astype(logits.dtype)

    def gibbs(
        self, key: PRNGKeyArray, v: Float[Array, "*B V"], num_steps: int
    ) -> Float[Array, "*B V"]:
        """v after `num_steps` of block Gibbs, h ~ p(h | v) and v ~ p(v | h); without gradient.

        Each row is a chain of its own. The key is consumed.
        """
        held = jax.lax.stop_gradient(self)

        def step(v: Array, key: PRNGKeyArray) -> tuple[Array, None]:
            for_h, for_v = jax.random.split(key)
            h = _bits(for_h, held.hidden_logits(v))
            return _bits(for_v, held.visible_logits(h)), None

        start = jax.lax.stop_gradient(v).astype(self.weights.dtype)
        return jax.lax.scan(step, start, jax.random.split(key, num_steps))[0]


def rbm(key: PRNGKeyArray, mean: Float[Array, "V"], num_hidden: int, scale: float = 0.01) -> RBM:
    """A machine that starts close to independent visible units with the mean of the data.

    Arguments:
        key: consumed.
        mean: the mean of the training data, shape (V,), in [0, 1].
        num_hidden: H.
        scale: standard deviation of the weights.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> rbm(jax.random.key(0), jnp.full(16, 0.3), num_hidden=4).weights.shape
        (16, 4)

    Reference: Hinton (2012), "A practical guide to training restricted Boltzmann machines", 8.
    """
    weights = scale * jax.random.normal(key, (mean.size, num_hidden))
    return RBM(weights, data_logits(mean), jnp.zeros(num_hidden))


def log_partition(model: RBM) -> Float[Array, ""]:
    """log Z, exactly: the smaller side's settings are listed, in chunks, the other side summed out.

    Differentiable: its gradient is minus the expectation of the energy's.

    Raises:
        InvalidArgumentError: the smaller side has more than 25 units.

    Example:
        >>> import jax.numpy as jnp
        >>> nothing = RBM(jnp.zeros((3, 2)), jnp.zeros(3), jnp.zeros(2))
        >>> print(f"{log_partition(nothing):.4f}")  # 5 log 2
        3.4657
    """
    if model.weights.shape[0] < model.weights.shape[1]:  # F sums out what is called hidden
        listed = model
    else:
        listed = RBM(model.weights.T, model.hidden_bias, model.visible_bias)
    num = listed.weights.shape[0]
    if num > _MOST_UNITS:
        raise InvalidArgumentError(
            complain(
                f"log_partition was given a machine whose smaller side has {num} units",
                f"it lists 2^{num} settings, and 2^{_MOST_UNITS} are the most",
                "estimate it with annealed_importance()",
            )
        )
    low = min(num, _CHUNK_UNITS)
    digits = jnp.arange(num)

    @jax.checkpoint
    def step(total: Array, chunk: Array) -> tuple[Array, None]:
        number = chunk * 2**low + jnp.arange(2**low)
        settings = ((number[:, None] >> digits) & 1).astype(listed.weights.dtype)
        return jnp.logaddexp(total, jax.nn.logsumexp(-listed.free_energy(settings))), None

    start = jnp.full((), -jnp.inf, listed.weights.dtype)
    return jax.lax.scan(step, start, jnp.arange(2 ** (num - low)))[0]


class AnnealedEstimate(eqx.Module):
    """log Z by annealed importance sampling, and how far it can be trusted.

    Attributes:
        log_z: log of the mean weight. The mean weight is unbiased for Z, so its log is too small on
            average, and log-probabilities of data computed with it are too large.
        standard_error: of `log_z`, by the delta method. Too small where a few chains carry the
            weight.
        effective_sample_size: (Σw)² / Σw², from 1 to n.
        log_weights: of each chain.
    """

    log_z: Float[Array, ""]
    standard_error: Float[Array, ""]
    effective_sample_size: Float[Array, ""]
    log_weights: Float[Array, "n"]


def annealed_importance(
    key: PRNGKeyArray,
    model: RBM,
    num_chains: int,
    betas: Float[Array, "steps"],
    base_logits: Float[Array, "V"] | None = None,
) -> AnnealedEstimate:
    """log Z, estimated by chains that go from independent visible bits to the model.

    log w = Σ_k [F_k(v_k) − F_k+1(v_k)] + log Z_0, with v_0 from the base and v_k+1 a step of Gibbs
    from v_k in the machine at β_k+1: weights βW, biases βb and (1 − β)·base + βa. Without gradient.

    Arguments:
        key: consumed.
        model: the machine.
        num_chains: n ≥ 2.
        betas: from 0 to 1, never falling; the more, the smaller the error.
        base_logits: of the independent visible bits at β = 0, finite; the data's logits are a good
            choice, and zeros, uniform bits, the default.

    Raises:
        InvalidArgumentError: fewer chains than two, which have no spread; betas that do not lead
            from 0 to 1, or base logits that are not finite, where their values are known.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> nothing = RBM(jnp.zeros((3, 2)), jnp.zeros(3), jnp.zeros(2))
        >>> out = annealed_importance(jax.random.key(0), nothing, 10, jnp.linspace(0, 1, 5))
        >>> print(f"{out.log_z:.4f} {out.effective_sample_size:.1f}")
        3.4657 10.0

    Reference: Neal (2001); Salakhutdinov & Murray (2008), eq. 13-16.
    """
    if num_chains < 2:
        raise InvalidArgumentError(
            complain(
                f"annealed_importance was asked for with {num_chains} chains",
                "its error is judged by the spread of their weights",
                "pass num_chains of at least 2",
            )
        )
    _check_path(betas, base_logits)
    model = jax.lax.stop_gradient(model)
    bias = model.visible_bias
    base = jnp.zeros_like(bias) if base_logits is None else base_logits.astype(bias.dtype)
    base = jax.lax.stop_gradient(base)
    betas = betas.astype(bias.dtype)
    first, rest = jax.random.split(key)
    v = _bits(first, jnp.broadcast_to(base, (num_chains, base.size)))

    def step(carry: tuple[Array, Array], inputs: tuple[Array, Array, Array]):
        v, log_w = carry
        key, before, after = inputs
        # the logits at any β are β times these: one product with W serves both energies
        up = model.hidden_logits(v)
        grown = jnp.sum(softplus(after * up) - softplus(before * up), axis=-1)
        gained = (after - before) * (v @ (bias - base)) + grown
        for_h, for_v = jax.random.split(key)
        h = _bits(for_h, after * up)
        down = (1 - after) * base + after * model.visible_logits(h)
        return (_bits(for_v, down), log_w + gained), None

    num_hidden = model.hidden_bias.size
    log_z0 = num_hidden * jnp.log(2.0) + jnp.sum(softplus(base))
    keys = jax.random.split(rest, len(betas) - 1)
    start = (v, jnp.full(num_chains, log_z0, v.dtype))
    (_, log_w), _ = jax.lax.scan(step, start, (keys, betas[:-1], betas[1:]))
    log_z = jax.nn.logsumexp(log_w) - jnp.log(num_chains)
    relative = jnp.exp(log_w - log_z)  # of mean 1
    error = jnp.std(relative, ddof=1) / jnp.sqrt(num_chains)
    size = num_chains / jnp.mean(relative**2)
    return AnnealedEstimate(log_z, error, size, log_w)


def _check_path(betas: Any, base_logits: Any) -> None:
    """Raise unless the path leads from the base to the model, which no weight would betray."""
    if not isinstance(betas, Tracer):
        path = np.asarray(betas)
        leads = path.ndim == 1 and path.size > 1 and (np.diff(path) >= 0).all()
        if not leads or abs(path[0]) > 1e-6 or abs(path[-1] - 1) > 1e-6:
            ends = f" from {path.flat[0]:g} to {path.flat[-1]:g}" if path.size else ""
            raise InvalidArgumentError(
                complain(
                    f"annealed_importance was given betas of shape {path.shape}{ends}",
                    "the weights are those of a path from the base, β = 0, to the model, β = 1",
                    "pass jnp.linspace(0, 1, 1_000), or others that never fall from 0 to 1",
                )
            )
    known = base_logits is not None and not isinstance(base_logits, Tracer)
    if known and not np.isfinite(np.asarray(base_logits)).all():
        raise InvalidArgumentError(
            complain(
                "annealed_importance was given base logits that are not finite",
                "a bit that is certain at β = 0 is not on the way to one that is free",
                "clip them: jnp.clip(base_logits, -7, 7)",
            )
        )


def _bits(key: PRNGKeyArray, logits: Float[Array, "..."]) -> Float[Array, "..."]:
    return jax.random.bernoulli(key, jax.nn.sigmoid(logits)).astype(logits.dtype)
