"""Mean and variance of a stochastic gradient, streamed: memory does not grow with the draws."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._errors import InvalidArgumentError, complain, describe
from .._numerics import working_dtype
from .._trees import size_of
from .._types import PRNGKey

LossFn = Callable[[Any, Any], Any]
"""A stochastic loss: (params, key) to a scalar."""

Leaves = list[Array]

_MOST_AT_ONCE = 1024
_MOST_ELEMENTS = 2**22
# From about here on one gradient fills a CPU, and its batched matrix products are the slower ones.
_FILLS_A_CPU = 2**14


class Moments(eqx.Module):
    """Elementwise mean and variance of a stochastic gradient.

    The trees have the structure of the parameters, with None in place of what was not
    differentiated.

    Attributes:
        mean: of the draws.
        variance: of one draw, the unbiased estimate Σ (g − mean)² / (num_draws − 1).
        standard_error: of the mean, √(variance / num_draws).
        num_draws: how many gradients were drawn.
    """

    mean: PyTree
    variance: PyTree
    standard_error: PyTree
    num_draws: int = eqx.field(static=True)

    @property
    def total_variance(self) -> Float[Array, ""]:
        """The variance summed over every parameter: E‖g − E g‖²."""
        return _total(self.variance)

    @property
    def squared_norm(self) -> Float[Array, ""]:
        """‖E g‖², without the part that noise adds to ‖mean‖²; not below zero."""
        noise = self.total_variance / self.num_draws
        squares = jax.tree.map(lambda m: m**2, self.mean)
        return jnp.maximum(_total(squares) - noise, 0.0)

    @property
    def signal_to_noise(self) -> Float[Array, ""]:
        """‖E g‖ / √(E‖g − E g‖²) of one draw; infinite without noise, 0 without a gradient."""
        signal, noise = self.squared_norm, self.total_variance
        ratio = jnp.sqrt(signal / jnp.where(noise > 0, noise, 1.0))
        return jnp.where(noise > 0, ratio, jnp.where(signal > 0, jnp.inf, 0.0))


def gradient_moments(
    key: PRNGKey,
    loss: LossFn,
    params: PyTree,
    *,
    num_draws: int,
    chunk_size: int | None = None,
) -> Moments:
    """Mean, variance and standard error of `jax.grad(loss)(params, key)` over keys.

    Gradients are drawn in chunks and merged, so memory depends on `chunk_size` and not on
    `num_draws`. Draw i uses `fold_in(key, i)`: the same draws whatever the chunks. The program is
    compiled once for each function `loss`; another number of draws compiles nothing.

    Arguments:
        key: a typed or legacy key. It is consumed.
        loss: (params, key) to a scalar.
        params: any pytree. Its floating leaves are differentiated, the others held.
        num_draws: at least 2.
        chunk_size: how many gradients to hold at once; by default as many as make about four
            million numbers, at most 1024, and on a CPU one if it has more than 16 thousand. Lower
            it where the loss itself needs much memory.

    Returns:
        `Moments`, of at least single precision.

    Raises:
        InvalidArgumentError: a loss that is not a real scalar, parameters without a floating leaf,
            or a count that is too small.

    Example:
        >>> import jax, numpyro.distributions as dist, expectax as ex
        >>> def loss(logit, key):
        ...     q = dist.Bernoulli(logits=logit)
        ...     return ex.expect(key, q, lambda b: (b - 0.45) ** 2, ex.LeaveOneOut(2))
        >>> moments = ex.gradient_moments(jax.random.key(0), loss, 0.0, num_draws=4000)
        >>> bool(abs(moments.mean - 0.025) < 4 * moments.standard_error)  # p (1 − p) (1 − 2t)
        True
        >>> print(f"{moments.variance:.4f}")  # Δ² p (1 − p) / 2 − g² = 0.0006
        0.0006

    Reference:
        Chan, Golub & LeVeque (1983), "Algorithms for computing the sample variance".
    """
    check_count("gradient_moments", "num_draws", num_draws, 2)
    floats, held = split_params(params)
    check_loss(loss, params, key)
    chunk = chunk_of(size_of(floats), num_draws) if chunk_size is None else chunk_size
    check_count("gradient_moments", "chunk_size", chunk, 1)
    mean, squares = _stream(key, loss, floats, held, jnp.asarray(num_draws), chunk)
    variance = jax.tree.map(lambda s: s / (num_draws - 1), squares)
    error = jax.tree.map(lambda v: jnp.sqrt(v / num_draws), variance)
    return Moments(mean, variance, error, num_draws)


@eqx.filter_jit
def _stream(
    key: PRNGKey, loss: LossFn, floats: PyTree, held: PyTree, num_draws: Array, chunk: int
) -> tuple[PyTree, PyTree]:
    """Mean and Σ (g − mean)² over draws 0 … num_draws − 1, a chunk of draws at a time."""

    def widened(floats: PyTree, key: PRNGKey) -> PyTree:
        gradient = gradient_of(loss, held)(floats, key)
        return jax.tree.map(lambda g: g.astype(working_dtype(g.dtype)), gradient)

    def merge(i: Array, so_far: tuple[Leaves, Leaves]) -> tuple[Leaves, Leaves]:
        index = i * chunk + jnp.arange(chunk)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
        draws = jax.tree.leaves(jax.vmap(widened, (None, 0))(floats, keys))
        # the last chunk may reach beyond the last draw
        pair = functools.partial(_merge_leaf, index < num_draws, i * chunk)
        merged = [pair(*leaf) for leaf in zip(draws, *so_far, strict=True)]
        return [mean for mean, _ in merged], [squares for _, squares in merged]

    leaves, structure = jax.tree.flatten(floats)
    zeros = [jnp.zeros(x.shape, working_dtype(x.dtype)) for x in leaves]
    steps = (num_draws + chunk - 1) // chunk
    mean, squares = jax.lax.fori_loop(0, steps, merge, (zeros, zeros))
    return jax.tree.unflatten(structure, mean), jax.tree.unflatten(structure, squares)


def _merge_leaf(
    valid: Array, count: Array, draws: Array, mean: Array, squares: Array
) -> tuple[Array, Array]:
    """Chan's merge of (count, mean, Σ (g − mean)²) with one more chunk of draws."""
    new = jnp.sum(valid).astype(mean.dtype)
    inside = valid.reshape((-1,) + (1,) * mean.ndim)
    new_mean = jnp.sum(jnp.where(inside, draws, 0), axis=0) / new
    new_squares = jnp.sum(jnp.where(inside, (draws - new_mean) ** 2, 0), axis=0)
    old = count.astype(mean.dtype)
    share, delta = new / (old + new), new_mean - mean
    return mean + delta * share, squares + new_squares + delta**2 * (old * share)


def add_draw(count: Array, draw: Array, mean: Array, squares: Array) -> tuple[Array, Array]:
    """Welford's update of mean and Σ (g − mean)² of `count` draws by one more."""
    draw = draw.astype(mean.dtype)
    delta = draw - mean
    mean = mean + delta / (count + 1).astype(mean.dtype)
    return mean, squares + delta * (draw - mean)


def _total(tree: PyTree) -> Float[Array, ""]:
    return jnp.sum(jnp.stack([jnp.sum(leaf) for leaf in jax.tree.leaves(tree)]))


def chunk_of(elements: int, num_draws: int) -> int:
    """How many draws to hold at once, where one needs so many elements."""
    if elements > _FILLS_A_CPU and jax.default_backend() == "cpu":
        return 1
    return min(num_draws, _MOST_AT_ONCE, max(1, _MOST_ELEMENTS // max(1, elements)))


def gradient_of(loss: LossFn, held: PyTree) -> Callable[[PyTree, Any], PyTree]:
    """The gradient in the floating leaves, as a function of them and of the key."""
    return jax.grad(lambda floats, key: loss(eqx.combine(floats, held), key))


def split_params(params: PyTree) -> tuple[PyTree, PyTree]:
    """The floating leaves, as arrays, and the rest."""
    # not equinox's is_inexact_array_like, which fails on traced values
    floating = lambda leaf: eqx.is_inexact_array(leaf) or isinstance(leaf, float | complex)
    floats, held = eqx.partition(params, floating)
    floats = jax.tree.map(jnp.asarray, floats)
    leaves = jax.tree.leaves(floats)
    if leaves and not any(jnp.iscomplexobj(leaf) for leaf in leaves):
        return floats, held
    raise InvalidArgumentError(
        complain(
            f"the parameters (a {describe(params)}) have "
            + ("complex leaves" if leaves else "no floating leaf"),
            "moments are those of the derivative with respect to real floating leaves",
            "pass a pytree with at least one real floating array",
        )
    )


def check_loss(loss: LossFn, params: PyTree, key: PRNGKey) -> None:
    """Raise unless loss(params, key) is a real scalar."""
    out = eqx.filter_eval_shape(loss, params, key)
    if getattr(out, "shape", None) == () and jnp.issubdtype(out.dtype, jnp.floating):
        return
    raise InvalidArgumentError(
        complain(
            f"the loss returned {describe(out)}",
            "its gradient is taken, so it must be a real scalar",
            "return one number: reduce the batch with .mean() or .sum(), and drop auxiliary output",
        )
    )


def check_count(function: str, name: str, given: object, least: int) -> None:
    """Raise unless a count is an integer of at least `least`."""
    if isinstance(given, int) and not isinstance(given, bool) and given >= least:
        return
    raise InvalidArgumentError(
        complain(
            f"{function} was given {name}={given!r}",
            f"it needs a whole number, at least {least}",
            f"pass {name}={max(least, 1000)}" if name == "num_draws" else f"pass {name}={least}",
        )
    )
