"""Boltzmann machines in coordinates that are good to learn in.

With offsets near the means of the units, a step of the weights hardly moves those means, and biases
do not have to make up for it. The family is the same for any offsets; the gradient is another.

Reference: Montavon & Müller (2012), "Deep Boltzmann machines and the centering trick"; Melchior,
Fischer & Wiskott (2016), "How to center deep Boltzmann machines".
"""

import equinox as eqx
import jax
from jax.scipy.special import logit
from jaxtyping import Array, Float, PRNGKeyArray

from ...models import DBM, RBM


class Centered(eqx.Module):
    """−E = aᵀv + bᵀh + (v − μ)ᵀW(h − λ).

    Attributes:
        weights: W.
        visible_bias: a.
        hidden_bias: b.
        visible_offset: μ; not learned.
        hidden_offset: λ; not learned.
    """

    weights: Float[Array, "V H"]
    visible_bias: Float[Array, "V"]
    hidden_bias: Float[Array, "H"]
    visible_offset: Float[Array, "V"]
    hidden_offset: Float[Array, "H"]

    @property
    def machine(self) -> RBM:
        """The same law in the usual coordinates."""
        visible = self.visible_bias - self.weights @ self.hidden_offset
        hidden = self.hidden_bias - self.visible_offset @ self.weights
        return RBM(self.weights, visible, hidden)


def centered(key: PRNGKeyArray, below: Float[Array, "V"], above: Float[Array, "H"]) -> Centered:
    """A machine with about these means of its units, which are its offsets, before it is trained.

    Arguments:
        key: consumed.
        below: of v, between 0 and 1.
        above: of h, likewise.
    """
    weights = 0.01 * jax.random.normal(key, (below.size, above.size))
    return Centered(weights, logit(below), logit(above), below, above)


class CenteredDBM(eqx.Module):
    """−E = aᵀv + bᵀh + cᵀt + (v − μ)ᵀW(h − λ) + (h − λ)ᵀU(t − ν).

    Attributes:
        coordinates: W, U, a, b and c.
        offsets: μ, λ and ν; not learned.
    """

    coordinates: DBM
    offsets: tuple[Float[Array, "V"], Float[Array, "H"], Float[Array, "T"]]

    @property
    def machine(self) -> DBM:
        """The same law in the usual coordinates."""
        return _shifted(self.coordinates, self.offsets, -1.0)


def centered_at(
    model: DBM, offsets: tuple[Float[Array, "V"], Float[Array, "H"], Float[Array, "T"]]
) -> CenteredDBM:
    """A machine in coordinates with these offsets."""
    return CenteredDBM(_shifted(model, offsets, 1.0), offsets)


def _shifted(model: DBM, offsets: tuple[Array, Array, Array], sign: float) -> DBM:
    (v, h, t), w, u = offsets, model.weights, model.top_weights
    return DBM(
        w,
        u,
        model.visible_bias + sign * (w @ h),
        model.hidden_bias + sign * (v @ w + u @ t),
        model.top_bias + sign * (h @ u),
    )


def smoothed(mean: Float[Array, "V"]) -> Float[Array, "V"]:
    """The mean of the data, away from 0 and 1: no unit is impossible."""
    return 0.01 + 0.98 * mean
