"""The score function with an input-dependent baseline."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._trees import scale
from ..distributions import Scored
from ._base import (
    AbstractEstimator,
    Claims,
    Estimate,
    Evaluations,
    check_baseline,
    learnable,
    squared_error,
)


class NVIL(AbstractEstimator):
    """Neural variational inference: the score function with a baseline C(x) and a constant c.

    Estimates:
        (f(b) − C(x) − c) ∂log q(b)/∂θ, divided, if `sd` is given, by max(1, sd).
    Needs:
        `Scored`: every distribution. f need not be differentiable in the draw.
    Claims:
        Unbiased; with `sd` it is the gradient divided by max(1, sd), a factor that does not depend
        on the draw.
    Cost:
        1 evaluation of f.
    Arguments:
        baseline: C(x), of batch shape, as the caller's network computed it inside the loss; the
            network trains through it on the squared error (f(b) − C(x) − c)².
        constant: c, learned on the same squared error.
        sd: where to start the learned scale of the learning signal e = f(b) − C(x) − c, or None for
            no normalisation. The leaf is log sd, and minimises log sd + e²/(2 sd²), whose optimum
            is the root mean square of e; so there is no running average to keep.
    Raises:
        InvalidArgumentError: a baseline or constant that does not broadcast to the batch shape.
    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> def loss(weight, key, x):
        ...     q = dist.Bernoulli(logits=x)
        ...     return ex.expect(key, q, lambda b: 0 * b, ex.NVIL(weight * x)).sum()
        >>> float(jax.grad(loss)(0.5, jax.random.key(0), jnp.array([1.0, 2.0])))  # ∂Σ(0 − w x)²/∂w
        5.0

    Reference:
        Mnih & Gregor (2014), eq. 7 and section 2.3. They divide by a running average; the sd here
        is learned.
    """

    baseline: Float[Array, "..."] = eqx.field(converter=learnable)
    constant: Float[Array, "..."] = eqx.field(converter=learnable)
    log_sd: Float[Array, "..."] | None

    claims: ClassVar[Claims] = Claims(
        unbiased=True,
        needs=Scored,
        differentiable=False,
        cost="1",
        order=1,
        source="Mnih & Gregor 2014",
        learns="C, c: squared error; sd: likelihood",
    )

    def __init__(
        self,
        baseline: float | Float[Array, "..."],
        constant: float | Float[Array, "..."] = 0.0,
        *,
        sd: float | Float[Array, "..."] | None = None,
    ):
        self.baseline = baseline  # type: ignore[assignment]
        self.constant = constant  # type: ignore[assignment]
        self.log_sd = None if sd is None else jnp.log(jnp.asarray(sd, float))

    def estimate(self, key, q, f):
        draws = q.sample(key, 1)
        costs, aux = f(draws)
        c = check_baseline(self, self.baseline, costs) + check_baseline(self, self.constant, costs)
        held = jax.lax.stop_gradient(costs)
        signal = held - jax.lax.stop_gradient(c)
        control = squared_error(costs, c)
        weight = signal
        if self.log_sd is not None:
            log_sd = self.log_sd.astype(costs.dtype)
            weight = signal / jnp.maximum(1.0, jnp.exp(jax.lax.stop_gradient(log_sd)))
            control = control + log_sd + 0.5 * signal[0] ** 2 * jnp.exp(-2 * log_sd)
        log_q = q.log_prob(draws)
        zero = scale(weight, log_q - jax.lax.stop_gradient(log_q))
        return Estimate(costs[0] + zero[0], control, aux)

    def evaluations(self, q):
        del q
        return Evaluations(hard=1)
