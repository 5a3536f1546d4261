"""Draws by inverse transform: categories from uniforms, and who can be drawn so."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._errors import IncompatibleError, complain
from ._base import Invertible


def inverse_cdf(
    probability: Float[Array, "*shape C"], uniform: Float[Array, "S *shape"]
) -> Int[Array, "S *shape"]:
    """The category that a uniform decides: the first whose cumulated probability reaches it.

    Its number increases with the uniform, which is what lets coupled uniforms cancel errors. The
    max-trick does not: a larger Gumbel noise of one category may move the winner up or down.
    """
    # rounding must neither choose what has probability 0 nor leave a uniform out of reach
    reach = jnp.where(probability > 0, jnp.cumsum(probability, axis=-1), -jnp.inf)
    reach = reach / jnp.max(reach, axis=-1, keepdims=True)
    return jnp.argmax(uniform[..., None] <= reach, axis=-1)


def require_quantile(site: Any, name: str, coupling: Any) -> None:
    """Raise unless the draws of a site are known as functions of uniforms."""
    why = Invertible.lacking
    if isinstance(site, Invertible):
        uniform = jax.ShapeDtypeStruct((1, *site.uniform_shape), jnp.result_type(float))
        try:
            jax.eval_shape(lambda u: site.quantile(u), uniform)  # a bound method is not hashable
        except (NotImplementedError, ImportError):  # NumPyro has some by an optional package
            why = "its inverse distribution function is not known"
        else:
            return
    raise IncompatibleError(
        complain(
            f"{type(coupling).__name__} cannot couple the draws of {name}",
            f"coupled draws are made from uniforms by inverse transform, and {why}",
            "pass coupling=Independent()",
        )
    )
