"""A categorical variable whose draws cost the same however many categories there are."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.util import validate_sample

from .._errors import InvalidArgumentError, complain, describe


class AliasTable(Distribution):
    """A categorical variable of V fixed probabilities, drawn by Walker's alias method.

    The mass is cut into V columns of height 1 / V. Column i holds a share `cutoffs[i]` of category
    i, and the rest of it belongs to one other, `aliases[i]`. So a draw is a column, and a coin:

        i ~ uniform on 0 … V − 1,  u ~ uniform on [0, 1),  y = i if u < cutoffs[i] else aliases[i].

    A draw and a log-probability each look up one row, however large V is, where
    `dist.Categorical` compares all V. The table is made once, on the host, in V steps; a program
    takes it as an argument. It is no function of its probabilities that could be differentiated:
    for the noise of `noise_contrastive`, or anything else that is given.

    Arguments:
        probs: shape (V,), nonnegative, normalized here; numbers, not something traced.

    Shapes: no batch shape, no event shape. Draws are integers.

    Raises:
        InvalidArgumentError: `probs` is traced, has another shape, or entries that are negative or
            not finite, or none that is positive.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> noise = AliasTable([1.0, 4.0, 3.0])
        >>> noise.sample(jax.random.key(0), (2, 5)).shape
        (2, 5)
        >>> print(jnp.exp(noise.log_prob(jnp.array([0, 1, 1]))).round(3))
        [0.125 0.5   0.5  ]

    Reference: Walker (1977); Vose (1991), "A linear algorithm for generating random numbers with a
    given distribution", for the table in V steps.
    """

    arg_constraints = {}  # noqa: RUF012
    pytree_data_fields = ("cutoffs", "aliases", "log_probs")

    cutoffs: Float[Array, "V"]
    aliases: Int[Array, "V"]
    log_probs: Float[Array, "V"]

    def __init__(self, probs: Any, *, validate_args: bool | None = None):
        if isinstance(probs, Tracer):
            raise _refused(probs, "its table is made on the host, once", "probabilities as numbers")
        given = np.asarray(probs, np.float64)
        if given.ndim != 1 or not given.size:
            raise _refused(given, "it has one law and no batch", "probabilities of shape (V,)")
        if not (np.isfinite(given).all() and (given >= 0).all() and given.any()):
            raise _refused(given, "some are negative or not finite, or all are 0", "probabilities")
        p = given / given.sum()
        cutoffs, aliases = _table(p)
        with np.errstate(divide="ignore"):
            self.log_probs = jnp.asarray(np.log(p), dtype=float)
        self.cutoffs = jnp.asarray(cutoffs, dtype=float)
        self.aliases = jnp.asarray(aliases, dtype=jnp.int32)
        super().__init__(validate_args=validate_args)

    @property
    def num_categories(self) -> int:
        """V."""
        return len(self.log_probs)

    @property
    def probs(self) -> Float[Array, "V"]:
        """The probabilities, normalized."""
        return jnp.exp(self.log_probs)

    @constraints.dependent_property(is_discrete=True, event_dim=0)  # type: ignore[arg-type]
    def support(self) -> constraints.Constraint:  # type: ignore[override]
        return constraints.integer_interval(0, self.num_categories - 1)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Int[Array, "*sample"]:
        for_column, for_coin = jax.random.split(key)
        column = jax.random.randint(for_column, sample_shape, 0, self.num_categories)
        coin = jax.random.uniform(for_coin, sample_shape, self.cutoffs.dtype)
        return jnp.where(coin < self.cutoffs[column], column, self.aliases[column])

    @validate_sample
    def log_prob(self, value: Any) -> Float[Array, "*sample"]:
        return self.log_probs[value]


def _table(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cutoffs and aliases, by Vose's two stacks: columns that lack mass, and those with too much.

    Each step fills one column to the brim from one that has more, and is done with it.
    """
    cutoffs, aliases = np.ones(len(p)), np.arange(len(p))
    mass = (p * len(p)).tolist()
    lacking = [i for i, m in enumerate(mass) if m < 1]
    ample = [i for i, m in enumerate(mass) if m >= 1]
    while lacking and ample:
        poor, rich = lacking.pop(), ample[-1]
        cutoffs[poor], aliases[poor] = mass[poor], rich
        mass[rich] -= 1 - mass[poor]
        if mass[rich] < 1:
            lacking.append(ample.pop())
    return cutoffs, aliases  # what is left on either stack is 1 but for rounding


def _refused(given: Any, why: str, instead: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        complain(f"AliasTable was given {describe(given)}", why, f"pass {instead}")
    )
