"""Couplings: how the draws of one estimate depend on one another.

Draws are made in *groups*. Within a group they are coupled, so that their errors cancel; different
groups are independent. A coupled draw is a function of one uniform for each variable, by inverse
transform (`Invertible.quantile`), and the uniforms of a group are what is coupled. Each draw taken
alone has the law of q, so means over the draws are unbiased; what needs *independent* draws, such
as a baseline made of the other costs, takes them from the other groups.

What is promised: for a cost that is monotone in every variable (for categories, in their number),
the mean of antithetic or stratified draws has no more variance than that of as many independent
ones. A score-function *gradient* averages f(b)·∂log q(b), which is monotone for a single bit, but
in general is not: for a standard normal variable and f(x) = x it is x², and an antithetic pair is
then worth a single draw.
"""

import abc
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PyTree

from .. import gumbel
from .._errors import InvalidArgumentError, complain, describe
from .._types import PRNGKey


class AbstractCoupling(eqx.Module):
    """How the draws of one estimate depend on one another.

    *Laws:* every draw has the law of q; draws of different groups are independent.
    """

    @abc.abstractmethod
    def size(self, num: int, least: int) -> int:
        """Draws in a group, when `num` draws are to make at least `least` groups."""

    @abc.abstractmethod
    def sample(self, key: PRNGKey, q: Any, num: int, least: int = 1) -> PyTree:
        """`num` draws of the `Joint` q, group after group, without gradient. The key is consumed.

        Each leaf has shape (num,) + batch + event.
        """

    @abc.abstractmethod
    def rsample(self, key: PRNGKey, q: Any, num: int, least: int = 1) -> PyTree:
        """The same, differentiable in the leaves of q."""


class Independent(AbstractCoupling):
    """Independent draws, each a group of its own: no coupling. The default.

    Example:
        >>> import expectax as ex
        >>> ex.LeaveOneOut(2) == ex.LeaveOneOut(2, coupling=ex.Independent())
        True
    """

    def size(self, num, least):
        del num, least
        return 1

    def sample(self, key, q, num, least=1):
        del least
        return q.sample(key, num)

    def rsample(self, key, q, num, least=1):
        del least
        return q.rsample(key, num)


class AbstractInversion(AbstractCoupling):
    """A coupling of the uniforms behind the draws."""

    @abc.abstractmethod
    def group(
        self, key: PRNGKey, size: int, shape: tuple[int, ...], dtype: DTypeLike
    ) -> Float[Array, "size ..."]:
        """The uniforms of one group for each entry of `shape`, whose last axis is the variables.

        *Laws:* each is uniform on the open interval (0, 1); those of one draw are independent over
        `shape`, so that a draw of many variables has the law of q; those at different places of
        `shape` before its last axis are independent altogether.
        """

    def uniforms(
        self, key: PRNGKey, num: int, size: int, shape: tuple[int, ...], dtype: DTypeLike
    ) -> Float[Array, "num ..."]:
        """The uniforms of `num` draws in groups of `size`, group after group."""
        grouped = self.group(key, size, (num // size, *shape), dtype)
        return jnp.moveaxis(grouped, 0, 1).reshape((num, *shape))

    def sample(self, key, q, num, least=1):
        return jax.lax.stop_gradient(self.rsample(key, jax.lax.stop_gradient(q), num, least))

    def rsample(self, key, q, num, least=1):
        return q.quantile(q.uniforms(key, num, self.size(num, least), self))


class AbstractGrouped(AbstractInversion):
    """An inversion whose groups have the size that its user wants."""

    group_size: int | None = eqx.field(default=None, static=True)

    def __check_init__(self):
        given, kind = self.group_size, type(self).__name__
        if given is None or (isinstance(given, int) and given >= 1):
            return
        raise InvalidArgumentError(
            complain(
                f"{kind} was given group_size={given!r}",
                "it is how many draws are coupled together",
                f"pass {kind}(4), or {kind}() to couple as many as can be",
            )
        )

    def size(self, num, least):
        return self.group_size or num // least


class Antithetic(AbstractInversion):
    """Antithetic pairs: the uniforms u of one draw and 1 − u of the other, for every variable.

    For a monotone cost the two errors have opposite signs: the variance is at most that of two
    independent draws, and 0 for a cost that is linear in a symmetric variable.

    Example:
        >>> import jax, numpyro.distributions as dist, expectax as ex
        >>> q, pair = dist.Normal(3.0, 1.0), ex.ScoreFunction(2, coupling=ex.Antithetic())
        >>> print(f"{ex.expect(jax.random.key(0), q, lambda x: 2 * x, pair):.4f}")
        6.0000

    Reference: Hammersley & Morton (1956).
    """

    def size(self, num, least):
        del num, least
        return 2

    def group(self, key, size, shape, dtype):
        del size
        u = gumbel.open_uniform(key, shape, dtype)
        return jnp.stack([u, 1 - u])


class Stratified(AbstractGrouped):
    """Stratified draws: for each variable, one uniform from each of n equal parts of (0, 1).

    Which draw gets which part is shuffled for each variable by itself (a Latin hypercube), so that
    the variables of one draw stay independent.

    Arguments:
        group_size: n, how many draws are stratified together, which divides their number; None for
            all of them, or half where an estimator needs two groups.

    Example:
        >>> import jax, numpyro.distributions as dist, expectax as ex
        >>> q, four = dist.Uniform(), ex.ScoreFunction(4, coupling=ex.Stratified())
        >>> _, u = ex.expect(jax.random.key(0), q, lambda u: (u, u), four, has_aux=True)
        >>> sorted((4 * u).astype(int).tolist())  # one in each quarter
        [0, 1, 2, 3]

    Reference: McKay, Beckman & Conover (1979).
    """

    def group(self, key, size, shape, dtype):
        shuffle, within = jax.random.split(key)
        jitter = gumbel.open_uniform(within, (size, *shape), dtype)
        return _place(_shuffled(shuffle, size, shape), jitter, size)


class Systematic(AbstractGrouped):
    """Systematic draws: as `Stratified`, at the same random place within each of the n parts.

    For one variable, n equidistant points with a random start. Smoother than `Stratified` where the
    cost is monotone or smooth in one variable; with two or more variables that the cost couples
    there is no promise, even if it is monotone.

    Arguments:
        group_size: n, as for `Stratified`.

    Example:
        >>> import jax, numpyro.distributions as dist, expectax as ex
        >>> q, four = dist.Uniform(), ex.ScoreFunction(4, coupling=ex.Systematic())
        >>> _, u = ex.expect(jax.random.key(0), q, lambda u: (u, u), four, has_aux=True)
        >>> [round(float(b - a), 5) for a, b in zip(sorted(u), sorted(u)[1:])]
        [0.25, 0.25, 0.25]

    Reference: Madow & Madow (1944).
    """

    def group(self, key, size, shape, dtype):
        shuffle, within = jax.random.split(key)
        return _place(
            _shuffled(shuffle, size, shape), gumbel.open_uniform(within, shape, dtype), size
        )


class QuasiRandom(AbstractGrouped):
    """Quasi-random draws: a Sobol net over all variables, scrambled anew for every estimate.

    Owen's nested scrambling, exact: in base 2 each digit is flipped by a random bit that belongs to
    the digits before it; beyond the net's own digits, every point moves by itself. Each point is
    uniform in the unit cube; each variable by itself is stratified, and so are, approximately,
    all combinations of few variables.

    Arguments:
        group_size: n, as for `Stratified`; best a power of two.

    Raises:
        InvalidArgumentError: more variables (of one batch element) than there are direction
            numbers, 21201.

    Example:
        >>> import jax, numpyro.distributions as dist, expectax as ex
        >>> q, four = dist.Uniform(), ex.ScoreFunction(4, coupling=ex.QuasiRandom())
        >>> _, u = ex.expect(jax.random.key(0), q, lambda u: (u, u), four, has_aux=True)
        >>> sorted((4 * u).astype(int).tolist())
        [0, 1, 2, 3]

    Reference: Sobol (1967), direction numbers of Joe & Kuo (2008) through SciPy; Owen (1995).
    """

    def group(self, key, size, shape, dtype):
        scramble, within = jax.random.split(key)
        num_digits = (size - 1).bit_length()
        points = _sobol(num_digits, shape[-1])[:size]
        cells = _scrambled(scramble, points, num_digits, shape)
        return _place(cells, gumbel.open_uniform(within, (size, *shape), dtype), 2**num_digits)


def _shuffled(key: PRNGKey, size: int, shape: tuple[int, ...]) -> Int[Array, "size ..."]:
    """0 … size − 1 along the first axis, in an order of its own for each entry of `shape`."""
    ordered = jnp.arange(size).reshape((size,) + (1,) * len(shape))
    ordered = jnp.broadcast_to(ordered, (size, *shape))
    return jax.random.permutation(key, ordered, axis=0, independent=True)


def _place(cell: Int[Array, "size ..."], within: Float[Array, "..."], num: int) -> Array:
    """The uniform (cell + within) / num, kept from rounding to 0 or 1."""
    half_step = jnp.finfo(within.dtype).eps / 2
    return jnp.clip((cell + within) / num, half_step, 1 - half_step)


@functools.cache
def _sobol(num_digits: int, num_dims: int) -> Int[np.ndarray, "N D"]:
    """The first 2^num_digits Sobol points, as whole numbers of that many binary digits."""
    from scipy.stats import qmc  # slow to import, and not needed by anything else

    if num_dims > qmc.Sobol.MAXDIM:
        raise InvalidArgumentError(
            complain(
                f"QuasiRandom was given {num_dims} variables",
                f"Sobol's direction numbers are known for {qmc.Sobol.MAXDIM}",
                "pass coupling=Stratified(), which has no limit",
            )
        )
    points = qmc.Sobol(d=max(1, num_dims), scramble=False).random_base2(num_digits)
    return np.asarray(points[:, :num_dims] * 2**num_digits, int)


def _scrambled(
    key: PRNGKey, points: Int[np.ndarray, "size D"], num_digits: int, shape: tuple[int, ...]
) -> Int[Array, "size ..."]:
    """Nested scrambling, anew for each entry of `shape`, whose last axis is D."""
    # one random bit for each node of the binary tree: 2^level of them at each level
    flips = jax.random.bits(key, (max(1, 2**num_digits - 1), *shape), jnp.uint8) & 1
    flips = flips.astype(int)
    size, num_dims = points.shape
    spread = (size, *(1,) * (len(shape) - 1), num_dims)
    out = jnp.zeros((size, *shape), int)
    for level in range(num_digits):
        node = 2**level - 1 + (points >> (num_digits - level))  # the digits before this one
        digit = (points >> (num_digits - 1 - level)) & 1
        index = jnp.broadcast_to(node.reshape(spread), (size, *shape))
        flip = jnp.take_along_axis(flips, index, axis=0)
        out = 2 * out + (digit.reshape(spread) ^ flip)
    return out


def check_coupling(owner: Any, coupling: Any, num: int, least: int) -> None:
    """Raise unless `num` draws can be coupled so, in at least `least` independent groups.

    Arguments:
        owner: the estimator, for the message.
        coupling: what its user passed.
        num: its number of draws.
        least: how many groups it needs.
    """
    name = type(owner).__name__
    if not isinstance(coupling, AbstractCoupling):
        given = coupling.__name__ if isinstance(coupling, type) else describe(coupling)
        raise InvalidArgumentError(
            complain(
                f"{name} was given coupling={given}",
                "a coupling is an object that says how the draws depend on one another",
                "pass Antithetic(), Stratified(), Systematic(), QuasiRandom() or Independent()",
            )
        )
    size, kind = coupling.size(num, least), type(coupling).__name__
    fewest = 2 if isinstance(coupling, AbstractInversion) else 1  # one uniform couples nothing
    if size >= fewest and num % size == 0 and num // size >= least:
        return
    size = max(size, fewest)
    why = f"{kind} couples draws in groups of {size}"
    if least > 1:
        why += f", and {name} takes the baseline of a draw from other groups: it needs {least}"
    raise InvalidArgumentError(
        complain(
            f"{name} was given {num} draws with coupling={kind}",
            why,
            f"pass a multiple of {size}, at least {least * size}",
        )
    )
