"""Independent bits and categories: the capability that most estimators for discrete q need."""

import abc
from typing import ClassVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Int

from .._numerics import push
from .._types import PRNGKey
from ._base import Averaged, Changeable, Enumerable, Relaxable, Signed


class Factorized(Enumerable, Averaged, Changeable, Relaxable, Signed):
    """Independent bits or categories with logits θ.

    *Laws:* `score(b)` is the derivative of `log_prob(b)`; `residual(z, a)` is unbiased for
    ∂/∂θ E[c(z) − E[c(z) | harden(z)]] when a = ∂c/∂z.
    """

    lacking: ClassVar[str] = "it is not made of independent Bernoulli or one-hot variables"

    @abc.abstractmethod
    def score(self, draw: Float[Array, "S ..."]) -> Float[Array, "S ..."]:
        """∂log q(b)/∂θ = b − E[b]."""

    @property
    @abc.abstractmethod
    def variables(self) -> Int[np.ndarray, "..."]:
        """Which variable each logit of the event belongs to, numbered from 0: shape event."""

    @abc.abstractmethod
    def pull(
        self, at: Float[Array, "S ..."], cotangent: Float[Array, "S ..."]
    ) -> Float[Array, "S ..."]:
        """J(a) g, the derivative of the mean if the mean were a: a (1 − a) g, or a g − a (a·g)."""

    @abc.abstractmethod
    def conditional(self, key: PRNGKey, draw: Array, num: int) -> Float[Array, "S ..."]:
        """Perturbed logits given one hard draw (batch + event): `harden` of each is the draw."""

    @abc.abstractmethod
    def gap(self, draw: Float[Array, "S ..."], gap: Array) -> Float[Array, "S ..."]:
        """The least shift of θ after which the draw leads every other value by at least `gap`."""

    @abc.abstractmethod
    def residual(
        self, perturbed: Float[Array, "S ..."], cotangent: Float[Array, "S ..."]
    ) -> Float[Array, "S ..."]:
        """∂/∂θ [c(z) − c(z̃)] from a = ∂c/∂z, with z̃ the coupled conditional draw."""

    @abc.abstractmethod
    def presentable(self, perturbed: Float[Array, "S ..."]) -> Float[Array, "S ..."]:
        """Perturbed logits as a network may see them: impossible categories read 0, not −1e4."""

    @abc.abstractmethod
    def differences(self, draw: Array, deltas: Float[Array, "N *batch"]) -> Float[Array, "..."]:
        """Arrange f(changed) − f(draw), for all changes, as one number per logit.

        For bits f(1) − f(0); for categories f(category) − f(draw), zero at the draw.
        """

    def winner(self, perturbed, draw, gains):
        return self.harden(push(perturbed, self.differences(draw, gains), self.logits))

    # Signed: every other value is a point, and the exact derivative given the other variables

    @property
    def parameters(self):
        return self.logits

    @property
    def num_points(self):
        return self.num_changes

    def triples(self, key, draw):
        del key, draw
        return ()

    def point(self, draw, triples, index):
        del triples
        return self.change(draw, index)

    def weak_derivative(self, draw, triples, deltas):
        del triples
        mean = lambda logits: eqx.tree_at(lambda view: view.logits, self, logits).mean
        out, pull = jax.vjp(mean, self.logits)
        return pull(self.differences(draw, deltas).astype(out.dtype))[0]


class Binary(Factorized):
    """`Factorized`, and each variable is a bit whose logit is its log-odds."""

    lacking: ClassVar[str] = "it is not made of Bernoulli variables"


class OneHot(Factorized):
    """`Factorized`, and each variable is a one-hot vector over the last axis of the event."""

    lacking: ClassVar[str] = "it is not made of one-hot variables"

    @property
    def num_categories(self) -> int:
        """C, masked categories included."""
        return self.logits.shape[-1]
