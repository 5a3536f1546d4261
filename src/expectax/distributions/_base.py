"""What an estimator may ask of a distribution: capabilities, not class names.

A *view* presents one NumPyro distribution by what it can do. Its array leaves are the parameters
that the operator differentiates; how they came from what the user passed (logits or probs, a
broadcast, a cast) is ordinary JAX outside the custom rule, so gradients reach whatever was passed.

Shapes: `sample` and everything after it carry a leading axis S of draws, then the batch, then the
event. The capabilities:

- `Scored`: draws and log-probabilities. Every distribution that has a density.
- `Enumerable`: a finite number of outcomes, which can be listed.
- `Averaged`: a mean that is known and differentiable.
- `Solvable`: a draw is the maximiser of perturbed logits.
- `Changeable`: `Solvable`, and every other value of a variable can be tried.
- `Relaxable`: `Solvable`, and the maximiser can be relaxed at a temperature.
- `Factorized`: all of these, for independent bits or categories.
- `Binary`: `Factorized`, and every variable is a bit with a log-odds.
- `OneHot`: `Factorized`, and every variable is a one-hot vector over the last axis.
- `Reparameterized`: draws that can be differentiated through the parameters.
- `Signed`: the derivative of an expectation as a difference of two expectations.
- `Invertible`: draws that are increasing functions of uniforms, so that they can be coupled.

`lacking` completes the sentence "it needs a `…` distribution, and …" in error messages.
"""

import abc
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from .._types import PRNGKey


class View(eqx.Module):
    """What every view offers: shapes and draws."""

    lacking: ClassVar[str] = "it is not a distribution"

    @property
    @abc.abstractmethod
    def batch_shape(self) -> tuple[int, ...]:
        """The shape of the batch."""

    @property
    @abc.abstractmethod
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one draw of one batch element."""

    @abc.abstractmethod
    def sample(self, key: PRNGKey, num: int) -> Array:
        """`num` independent draws, shape (num,) + batch + event; no gradient flows through them."""

    @property
    def draw_dtype(self) -> jnp.dtype:
        """The type of a draw."""
        return jax.eval_shape(lambda key: self.sample(key, 1), jax.random.key(0)).dtype


class Scored(View):
    """Draws and log-probabilities.

    *Law:* the derivative of `log_prob` in the view's leaves has mean zero under `sample`.
    """

    lacking: ClassVar[str] = "its log-probability is not known"

    @abc.abstractmethod
    def log_prob(self, value: Array) -> Float[Array, "S *batch"]:
        """log q of a stack of draws, differentiable to any order in the leaves."""


class Invertible(View):
    """Draws by inverse transform, from one uniform for each variable.

    *Laws:* `quantile` of independent uniforms has the law of `sample`; each variable (of categories
    the number) is nondecreasing in its uniform; where the draws are continuous, `quantile` is
    differentiable in the leaves.
    """

    lacking: ClassVar[str] = "its draws are not known as increasing functions of uniforms"

    @property
    @abc.abstractmethod
    def uniform_shape(self) -> tuple[int, ...]:
        """Batch + variables: the shape of the uniforms that make one draw."""

    @abc.abstractmethod
    def quantile(self, uniform: Float[Array, "S ..."]) -> Array:
        """The draws that uniforms in the open interval (0, 1) decide."""


class Enumerable(Scored):
    """A finite number of outcomes.

    *Law:* the probabilities of `outcome(0)` … `outcome(num_outcomes - 1)` sum to one.
    """

    lacking: ClassVar[str] = "its outcomes cannot be listed"

    @property
    @abc.abstractmethod
    def num_outcomes(self) -> int:
        """The number of joint outcomes of one batch element."""

    @abc.abstractmethod
    def outcome(self, index: Int[Array, "S ..."]) -> Array:
        """The outcomes of these numbers, (S,) + batch + event.

        `index` has shape (S,), the same for all batch elements, or (S,) + batch.
        """


class Averaged(View):
    """A known mean.

    *Law:* `mean` is E[b] under `sample`, differentiable in the leaves; draws are floating.
    """

    lacking: ClassVar[str] = "its mean is not known as a function of logits"

    logits: eqx.AbstractVar[Array]

    @property
    @abc.abstractmethod
    def mean(self) -> Float[Array, "..."]:
        """E[b], shape batch + event."""


class Solvable(View):
    """Draws that maximise a perturbed score: b = argmax ⟨b, θ + noise⟩.

    *Law:* `harden` does not change when its argument is scaled by a positive number.
    """

    lacking: ClassVar[str] = "its draws are not the maximisers of perturbed scores"

    logits: eqx.AbstractVar[Array]

    def sample(self, key, num):
        return self.harden(jax.lax.stop_gradient(self.logits) + self.noise(key, num))

    @property
    @abc.abstractmethod
    def variable_ndim(self) -> int:
        """How many trailing axes of the event one variable has: scores that are solved together."""

    @abc.abstractmethod
    def noise(self, key: PRNGKey, num: int) -> Float[Array, "S ..."]:
        """Standard noise (logistic or Gumbel), shape (num,) + shape of `logits`."""

    @abc.abstractmethod
    def noise_score(self, noise: Float[Array, "S ..."]) -> Float[Array, "S ..."]:
        """−∂log density of the noise: the score of z = θ + noise with respect to θ."""

    @abc.abstractmethod
    def harden(self, perturbed: Float[Array, "S ..."]) -> Float[Array, "S ..."]:
        """The hard draw that perturbed logits decide."""


class Changeable(Solvable):
    """Draws whose variables can be given every other value, one variable at a time.

    *Law:* `winner(z, b, g(point) − g(b))` is, for each variable, the value b' that maximises
    ⟨features(b'), z⟩ + g(b'), the other variables being held at b.
    """

    lacking: ClassVar[str] = "the values of its variables cannot be listed"

    @property
    @abc.abstractmethod
    def num_changes(self) -> int:
        """The number of ways to change one variable of the event to another value."""

    @abc.abstractmethod
    def change(self, draw: Array, index: Int[Array, ""]) -> Array:
        """A single draw (batch + event) with the change of this number applied."""

    @abc.abstractmethod
    def winner(
        self, perturbed: Float[Array, "..."], draw: Array, gains: Float[Array, "N *batch"]
    ) -> Float[Array, "..."]:
        """The draw whose every variable wins with the gains of all changes; batch + event."""

    def features(self, draw: Array) -> Float[Array, "..."]:
        """What the scores of a draw are multiplied by, with the shape of `logits`: the draw."""
        return draw.astype(self.logits.dtype)


class Relaxable(Solvable):
    """Hard and relaxed draws from one noise.

    *Law:* `relax(z, τ)` is smooth in z, and becomes `harden(z)` as τ → 0.
    """

    lacking: ClassVar[str] = "it cannot be relaxed: it is not a Bernoulli or one-hot variable"

    @abc.abstractmethod
    def relax(self, perturbed: Float[Array, "S ..."], temperature: Array) -> Float[Array, "S ..."]:
        """The relaxed draw; as the temperature goes to 0 it becomes `harden`."""


class Signed(Scored):
    """The derivative of an expectation as a constant times a difference of two expectations.

    f is asked at `num_points` points, each a draw with one variable of the event moved.

    *Law:* the mean of `weak_derivative`, from f(point) − f(draw), is ∂E[f]/∂parameters.
    """

    lacking: ClassVar[str] = "its derivative is not known as a difference of two laws"

    @property
    @abc.abstractmethod
    def parameters(self) -> PyTree:
        """What the derivative is in: arrays that start with the axes of the batch, all finite."""

    @property
    @abc.abstractmethod
    def num_points(self) -> int:
        """The number of points."""

    @abc.abstractmethod
    def triples(self, key: PRNGKey, draw: Array) -> PyTree:
        """The constants, and positive and negative draws that share their noise with the draw.

        `draw` is a single draw, batch + event. The key is consumed.
        """

    @abc.abstractmethod
    def point(self, draw: Array, triples: PyTree, index: Int[Array, ""]) -> Array:
        """The point of this number, batch + event."""

    @abc.abstractmethod
    def weak_derivative(
        self, draw: Array, triples: PyTree, deltas: Float[Array, "N *batch"]
    ) -> PyTree:
        """From f(point) − f(draw) for all points to the derivative, with the parameters' shapes."""


class Reparameterized(Scored):
    """Draws that carry the derivative of a draw with respect to the parameters.

    *Law:* E[∂f(rsample)/∂θ] = ∂E[f]/∂θ for every smooth f.
    """

    lacking: ClassVar[str] = "its draws have no derivative with respect to its parameters"

    @abc.abstractmethod
    def rsample(self, key: PRNGKey, num: int) -> Array:
        """`num` draws, shape (num,) + batch + event, differentiable in the leaves."""
