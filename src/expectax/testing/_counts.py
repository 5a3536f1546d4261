"""A problem over counts, whose outcomes cannot be listed.

`exact` is a closed form: moments and probability generating functions, E[aⁿ] = exp(λ(a − 1)) of a
Poisson count and p/(1 − (1 − p) a) of a geometric one. `reference` sums a truncated grid in NumPy.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from ._problems import Params, Problem, outer_weights

_TRIALS = 4  # of the binomial
_COUNTS = {
    "q": {
        "poisson": np.array([1.7, 0.05, 6.0]),
        "binomial": np.array([0.0, -1.2, 0.9]),
        "geometric": np.array([[0.45, 0.8], [0.35, 0.6], [0.7, 0.5]]),
    },
    "f": {
        "offset": np.array([0.3, -0.2, 0.5]),
        "slope": np.array([[0.8, -0.6, 0.5, 0.4], [1.1, 0.9, -0.3, 0.7], [-0.4, 0.5, 1.2, -0.8]]),
        "curve": np.array([1.5, -0.05, 0.2, 0.6]),
    },
}


@functools.cache
def counts() -> Problem:
    """A dict of a Poisson count, a binomial one and two geometric ones; rates small and large."""

    def make_q(q: Any) -> Any:
        return {
            "poisson": dist.Poisson(q["poisson"]),
            "binomial": dist.Binomial(_TRIALS, logits=q["binomial"]),
            "geometric": dist.GeometricProbs(q["geometric"]).to_event(1),
        }

    def cost(f: Any, draw: Any) -> Array:
        n, m, k = (draw[name] * 1.0 for name in ("poisson", "binomial", "geometric"))
        a, (first, second) = f["curve"], (k[..., 0], k[..., 1])
        line = f["offset"] + f["slope"][:, 0] * n + f["slope"][:, 1] * m
        line = line + jnp.sum(f["slope"][:, 2:] * k, axis=-1)
        # aⁿ for a negative a is |a|ⁿ with the sign of an even or odd count
        wave = 0.6**n * 0.7**m * jnp.cos(jnp.pi * m) * 0.5**first
        squares = a[1] * n**2 + a[2] * n * first
        return line + squares + a[0] * wave + a[3] * m * 0.5**second

    def exact(params: Params) -> Array:
        rate, p = params["q"]["poisson"], jax.nn.sigmoid(params["q"]["binomial"])
        success, f = params["q"]["geometric"], params["f"]
        failures = (1 - success) / success
        of_poisson = jnp.exp(rate * (0.6 - 1))
        of_binomial = (1 + p * (-0.7 - 1)) ** _TRIALS
        of_geometric = success / (1 - (1 - success) * 0.5)
        a = f["curve"]
        line = f["offset"] + f["slope"][:, 0] * rate + f["slope"][:, 1] * _TRIALS * p
        line = line + jnp.sum(f["slope"][:, 2:] * failures, axis=-1)
        squares = a[1] * (rate + rate**2) + a[2] * rate * failures[:, 0]
        wave = a[0] * of_poisson * of_binomial * of_geometric[:, 0]
        return line + squares + wave + a[3] * _TRIALS * p * of_geometric[:, 1]

    def reference(params: Params) -> np.ndarray:
        from scipy import stats  # SciPy comes with JAX

        f, q, out = params["f"], params["q"], []
        n, m, k = np.arange(60.0), np.arange(_TRIALS + 1.0), np.arange(120.0)
        n, m, k = np.meshgrid(n, m, k, indexing="ij")
        a = f["curve"]
        for i in range(3):
            chance = 1 / (1 + np.exp(-q["binomial"][i]))
            law = stats.poisson.pmf(n, q["poisson"][i]) * stats.binom.pmf(m, _TRIALS, chance)
            first, second = (stats.geom.pmf(k + 1, x) for x in q["geometric"][i])
            s = f["slope"][i]
            line = f["offset"][i] + s[0] * n + s[1] * m + s[2] * k
            line = line + a[1] * n**2 + a[2] * n * k
            wave = a[0] * 0.6**n * (-0.7) ** m * 0.5**k
            out.append(np.sum(law * first * (line + wave)))
            out[-1] += np.sum(law * second * (s[3] * k + a[3] * m * 0.5**k))
        return np.array(out)

    return Problem(
        name="counts",
        params=_COUNTS,
        weights=outer_weights((3,)),
        make_q=make_q,
        cost=cost,
        exact=exact,
        reference=reference,
    )
