"""The runs of the Gaussian-mean experiment, and what can be derived about them.

With μ = aθ + b, z = μ + ε and the gradient 2aμ of E[z²] = μ² + 1:

- score function a z² ε: E[g²] = a² E[(μ + ε)⁴ ε²] = a² (μ⁴ + 18μ² + 15), variance
  a² (μ⁴ + 14μ² + 15);
- leave-one-out, two draws, (a/2) D² (2μ + T) with D = ε₁ − ε₂ and T = ε₁ + ε₂ independent N(0, 2):
  E[g²] = (a²/4) E[D⁴] E[(2μ + T)²] = a² (12μ² + 6), variance a² (8μ² + 6);
- pathwise 2a z: variance 4a², whatever θ is.

Plain descent at rate r is linear in the mean, so E[θ] contracts by ρ = 1 − 2a²r a step whatever the
noise. Where the variance is α + βμ², E[μ²] ← (ρ² + a²r²β) E[μ²] + a²r²α.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, Key, PRNGKeyArray

import expectax as ex

from ..._expect import expect

SLOPE, OFFSET = 2.0, 3.0
OPTIMUM = -OFFSET / SLOPE
START = 0.0


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much to run.

    Attributes:
        num_draws: gradients drawn at every θ.
        num_runs: descents of each estimator, all at once.
        num_steps: of each descent.
        rate: of plain descent.
        thetas: where gradients are drawn.
    """

    num_draws: int = 200_000
    num_runs: int = 4_000
    num_steps: int = 400
    rate: float = 0.005
    thetas: tuple[float, ...] = tuple(np.linspace(-4.0, 1.0, 21).round(2).tolist())
    seed: int = 0


FULL = Settings()
QUICK = Settings(num_draws=50_000, num_runs=2_000, thetas=(-4.0, -2.75, OPTIMUM, -0.25, 1.0))


@dataclasses.dataclass(frozen=True)
class Contender:
    """An estimator with its closed forms.

    Attributes:
        name: in table and picture.
        estimator: what is asked for the gradient.
        variance: of the gradient, from μ.
        noise: (α, β) where the variance is α + βμ², else None.
    """

    name: str
    estimator: ex.AbstractEstimator
    variance: Callable[[Float[np.ndarray, "..."]], Float[np.ndarray, "..."]]
    noise: tuple[float, float] | None = None


SQUARE = SLOPE**2

CONTENDERS = (
    Contender("ScoreFunction", ex.ScoreFunction(), lambda mu: SQUARE * (mu**4 + 14 * mu**2 + 15)),
    Contender(
        "LeaveOneOut(2)",
        ex.LeaveOneOut(2),
        lambda mu: SQUARE * (8 * mu**2 + 6),
        (6 * SQUARE, 8 * SQUARE),
    ),
    Contender("Pathwise", ex.Pathwise(), lambda mu: 4 * SQUARE + 0 * mu, (4 * SQUARE, 0.0)),
)


def cost(
    theta: Float[Array, ""], estimator: ex.AbstractEstimator, key: PRNGKeyArray
) -> Float[Array, ""]:
    """An estimate of E[z²] whose gradient the estimator gives."""
    q = dist.Normal(SLOPE * theta + OFFSET, 1.0)
    return expect(key, q, lambda z: z**2, estimator)


def mean_of(theta: Any) -> Any:
    """μ = aθ + b, for a number or an array."""
    return SLOPE * theta + OFFSET


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured of one estimator: gradients at each θ, and θ along each descent."""

    gradients: Float[np.ndarray, "T S"]
    descents: Float[np.ndarray, "R N"]


def measure(contender: Contender, settings: Settings) -> Measured:
    """Draw gradients, and descend."""
    draws, walks = jax.random.split(jax.random.key(settings.seed))
    gradient = lambda theta, key: jax.grad(cost)(theta, contender.estimator, key)

    def descend(keys: Key[Array, "N"]):
        def step(theta: Array, key: PRNGKeyArray):
            after = theta - settings.rate * gradient(theta, key)
            return after, after

        return jax.lax.scan(step, jnp.asarray(START), keys)[1]

    shape = (len(settings.thetas), settings.num_draws)
    over_draws = jax.vmap(gradient, (None, 0))
    gradients = jax.jit(jax.vmap(over_draws))(
        jnp.asarray(settings.thetas), jax.random.split(draws, shape)
    )
    keys = jax.random.split(walks, (settings.num_runs, settings.num_steps))
    descents = np.asarray(jax.jit(jax.vmap(descend))(keys), np.float64)
    begin = np.full((settings.num_runs, 1), START)
    return Measured(np.asarray(gradients, np.float64), np.append(begin, descents, axis=1))


def excess(contender: Contender, settings: Settings) -> Float[np.ndarray, "N"] | None:
    """E[μ²] = E[loss] − 1 at every step, where the recursion closes."""
    if contender.noise is None:
        return None
    constant, quadratic = contender.noise
    noise = (SLOPE * settings.rate) ** 2
    contraction = (1 - 2 * SQUARE * settings.rate) ** 2 + noise * quadratic
    values = [float(mean_of(START) ** 2)]
    for _ in range(settings.num_steps):
        values.append(contraction * values[-1] + noise * constant)
    return np.asarray(values)
