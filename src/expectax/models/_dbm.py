"""The deep Boltzmann machine with two hidden layers: mean field, and what it inherits from the RBM.

Axes: B data batch or parallel chains (any number of leading axes), V visible units, H units of the
first hidden layer, T of the second, the top.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._errors import InvalidArgumentError, complain
from .._numerics import softplus
from ._layers import data_logits
from ._rbm import RBM

Even = tuple[Float[Array, "*B V"], Float[Array, "*B T"]]
"""The layers that are independent given the first hidden one: (v, t)."""


class MeanField(eqx.Module):
    """q(h, t) = q(h) q(t) of independent bits, and how it was found.

    Attributes:
        hidden_logits: of q(h_j = 1).
        top_logits: of q(t_k = 1).
        num_steps: rounds until it moved less than the tolerance, or as many as were allowed.
    """

    hidden_logits: Float[Array, "*B H"]
    top_logits: Float[Array, "*B T"]
    num_steps: Int[Array, ""]


class DBM(eqx.Module):
    """p(v, h, t) = exp(−E(v, h, t)) / Z of bits, E = −aᵀv − bᵀh − cᵀt − vᵀW h − hᵀU t.

    Attributes:
        weights: W, between the visible and the first hidden layer.
        top_weights: U, between the first hidden layer and the second.
        visible_bias: a.
        hidden_bias: b.
        top_bias: c.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = dbm(jax.random.key(0), jnp.full(16, 0.3), num_hidden=4, num_top=3)
        >>> v = jnp.zeros((5, 16))
        >>> q = model.mean_field(v)
        >>> model.variational_free_energy(v, q).shape
        (5,)

    Reference: Salakhutdinov & Hinton (2009), "Deep Boltzmann machines".
    """

    weights: Float[Array, "V H"]
    top_weights: Float[Array, "H T"]
    visible_bias: Float[Array, "V"]
    hidden_bias: Float[Array, "H"]
    top_bias: Float[Array, "T"]

    @property
    def folded(self) -> RBM:
        """The same law as a restricted machine: (v, t) on its visible side, h on the hidden one.

        Layers two apart have no weights between them, so that `log_partition` and
        `annealed_importance` of it are those of this machine.
        """
        weights = jnp.concatenate([self.weights, self.top_weights.T])
        return RBM(weights, jnp.concatenate([self.visible_bias, self.top_bias]), self.hidden_bias)

    def energy(
        self, v: Float[Array, "*B V"], h: Float[Array, "*B H"], t: Float[Array, "*B T"]
    ) -> Float[Array, "*B"]:
        """E(v, h, t)."""
        below = v @ self.visible_bias + t @ self.top_bias
        return -below - jnp.sum(h * self.hidden_logits(v, t), axis=-1)

    def hidden_logits(
        self, v: Float[Array, "*B V"], t: Float[Array, "*B T"]
    ) -> Float[Array, "*B H"]:
        """b + Wᵀv + U t."""
        return v @ self.weights + t @ self.top_weights.T + self.hidden_bias

    def visible_logits(self, h: Float[Array, "*B H"]) -> Float[Array, "*B V"]:
        """a + W h."""
        return h @ self.weights.T + self.visible_bias

    def top_logits(self, h: Float[Array, "*B H"]) -> Float[Array, "*B T"]:
        """c + Uᵀh."""
        return h @ self.top_weights + self.top_bias

    def hidden_given(self, v: Float[Array, "*B V"], t: Float[Array, "*B T"]) -> dist.Distribution:
        """p(h | v, t), exactly: independent bits."""
        return _independent(self.hidden_logits(v, t))

    def visible_given(self, h: Float[Array, "*B H"]) -> dist.Distribution:
        """p(v | h), exactly: independent bits."""
        return _independent(self.visible_logits(h))

    def top_given(self, h: Float[Array, "*B H"]) -> dist.Distribution:
        """p(t | h), exactly: independent bits."""
        return _independent(self.top_logits(h))

    def free_energy(self, x: Even) -> Float[Array, "*B"]:
        """F(v, t) = −log Σ_h exp(−E(v, h, t)): log p(v, t) = −F(v, t) − log Z."""
        return self.folded.free_energy(jnp.concatenate(x, axis=-1))

    def gibbs(self, key: PRNGKeyArray, x: Even, num_steps: int) -> Even:
        """(v, t) after `num_steps` of block Gibbs, h ~ p(h | v, t), then v and t; no gradient.

        Each row is a chain of its own. The key is consumed.
        """
        moved = self.folded.gibbs(key, jnp.concatenate(x, axis=-1), num_steps)
        num = self.visible_bias.size
        return moved[..., :num], moved[..., num:]

    def mean_field(
        self, v: Float[Array, "*B V"], *, tolerance: float = 1e-2, most_steps: int = 50
    ) -> MeanField:
        """The q(h) q(t) nearest to p(h, t | v) that it can climb to; without gradient.

        Each round sets q(h) and then q(t) to the best there is given the other, so that the bound
        on log p(v) never falls. It starts with the bottom-up logits doubled, in place of the
        top-down ones, and ends when no probability moves by more than the tolerance.

        Arguments:
            v: data with batch shape.
            tolerance: of a probability.
            most_steps: rounds at most, 0 or more.

        Raises:
            InvalidArgumentError: fewer rounds than none.
        """
        if most_steps < 0:
            raise InvalidArgumentError(
                complain(
                    f"mean_field was given most_steps={most_steps}",
                    "there is nothing before its start",
                    "pass 0, which is the pass from below, or more",
                )
            )
        held, v = jax.lax.stop_gradient((self, v))
        below = v @ held.weights
        bias, sigmoid = held.hidden_bias, jax.nn.sigmoid
        first = 2 * below + bias
        start = MeanField(first, held.top_logits(sigmoid(first)), jnp.zeros((), int))

        def unsettled(carry: tuple[MeanField, Array]) -> Array:
            q, change = carry
            return (change > tolerance) & (q.num_steps < most_steps)

        def improve(carry: tuple[MeanField, Array]) -> tuple[MeanField, Array]:
            q, _ = carry
            hidden = below + sigmoid(q.top_logits) @ held.top_weights.T + bias
            top = held.top_logits(sigmoid(hidden))
            moved = lambda new, old: jnp.max(jnp.abs(sigmoid(new) - sigmoid(old)), initial=0.0)
            change = jnp.maximum(moved(hidden, q.hidden_logits), moved(top, q.top_logits))
            return MeanField(hidden, top, q.num_steps + 1), change

        most = jnp.full((), jnp.inf, below.dtype)
        return jax.lax.while_loop(unsettled, improve, (start, most))[0]

    def variational_free_energy(self, v: Float[Array, "*B V"], q: MeanField) -> Float[Array, "*B"]:
        """E_q[E(v, h, t)] − H(q), for any q: log p(v) ≥ −this − log Z.

        Its derivative in the machine, q held, is E_q[∂E]: q's entropy does not know the machine.
        """
        h, t = jax.nn.sigmoid(q.hidden_logits), jax.nn.sigmoid(q.top_logits)
        entropy = lambda logits, p: jnp.sum(softplus(logits) - p * logits, axis=-1)
        return self.energy(v, h, t) - entropy(q.hidden_logits, h) - entropy(q.top_logits, t)


def dbm(
    key: PRNGKeyArray,
    mean: Float[Array, "V"],
    num_hidden: int,
    num_top: int,
    scale: float = 0.01,
) -> DBM:
    """A machine that starts close to independent visible units with the mean of the data.

    Arguments:
        key: consumed.
        mean: the mean of the training data, shape (V,), in [0, 1].
        num_hidden: H.
        num_top: T.
        scale: standard deviation of the weights.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> dbm(jax.random.key(0), jnp.full(16, 0.3), num_hidden=4, num_top=3).top_weights.shape
        (4, 3)
    """
    first, second = jax.random.split(key)
    draw = lambda key, *shape: scale * jax.random.normal(key, shape)
    weights = draw(first, mean.size, num_hidden), draw(second, num_hidden, num_top)
    return DBM(*weights, data_logits(mean), jnp.zeros(num_hidden), jnp.zeros(num_top))


def doubled_visible(model: RBM) -> RBM:
    """The machine that sees two copies of v, by the same weights: its hidden units hear 2 Wᵀv.

    In pre-training it stands for the first two layers of a deep machine: what the second hidden
    layer will say is not known yet, and another copy of the data takes its place. Its visible side
    is (v, v').

    Reference: Salakhutdinov & Hinton (2009), section 3.1.
    """
    weights = jnp.concatenate([model.weights, model.weights])
    return RBM(weights, jnp.concatenate(2 * [model.visible_bias]), model.hidden_bias)


def doubled_hidden(model: RBM) -> RBM:
    """The machine with two copies of its hidden units, by the same weights: likewise at the top."""
    weights = jnp.concatenate([model.weights, model.weights], axis=1)
    return RBM(weights, model.visible_bias, jnp.concatenate(2 * [model.hidden_bias]))


def stacked(first: RBM, second: RBM) -> DBM:
    """The deep machine of two that were trained apart, the first below the second.

    Its law of h is the geometric mean of those that the two had, `doubled_visible(first)` and
    `doubled_hidden(second)`, made to sum to one: half of the evidence from below, half from above.

    Arguments:
        first: of v and h.
        second: of h, which it calls visible, and t.

    Raises:
        InvalidArgumentError: the second does not stand on the hidden units of the first.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from expectax.models import rbm
        >>> first = rbm(jax.random.key(0), jnp.full(16, 0.3), num_hidden=4)
        >>> second = rbm(jax.random.key(1), jnp.full(4, 0.5), num_hidden=3)
        >>> stacked(first, second).top_weights.shape
        (4, 3)

    Reference: Salakhutdinov & Hinton (2012), "An efficient learning procedure for deep Boltzmann
    machines", section 3.
    """
    if first.hidden_bias.size != second.visible_bias.size:
        raise InvalidArgumentError(
            complain(
                f"stacked was given machines of {first.hidden_bias.size} hidden and "
                f"{second.visible_bias.size} visible units",
                "the first one's hidden units are what the second one sees",
                "pass machines that share them",
            )
        )
    shared = (first.hidden_bias + second.visible_bias) / 2
    weights = first.weights, second.weights
    return DBM(*weights, first.visible_bias, shared, second.hidden_bias)


def _independent(logits: Float[Array, "..."]) -> Any:
    return dist.Bernoulli(logits=logits).to_event(1)
