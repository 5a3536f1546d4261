"""The operator: E_q[f], with a derivative. The only custom derivative rule of the library."""

import contextlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, PyTree
from numpyro.distributions.distribution import validation_enabled

from ._errors import HigherOrderError, InvalidArgumentError, complain, describe
from ._trees import vary, varying_axes
from ._types import CostFn, PRNGKey
from .distributions import Joint, joint, require
from .estimators._base import AbstractEstimator, Cost


def expect(
    key: PRNGKey,
    q: Any,
    f: CostFn,
    estimator: AbstractEstimator,
    *,
    has_aux: bool = False,
) -> Any:
    """An estimate of E_q[f], whose derivative estimates the gradient of E_q[f].

    Under `jax.grad`, with respect to everything that q and f depend on, closures included. The
    estimator's own leaves receive the gradient of what they minimise (the second moment of the
    gradient, or the squared error of a learned baseline), weighted by the absolute value of the
    incoming cotangent: they are minimised whether the caller minimises or maximises.

    Batch elements are independent: entry i of the cost may depend on draw i alone.

    Arguments:
        key: a typed or legacy key. It is consumed.
        q: a NumPyro distribution, or a pytree of them with one common batch shape: independent
            sites drawn jointly.
        f: from a draw, shape batch + event (or the same pytree of draws), to a cost of shape
            batch. With `has_aux=True`, to `(cost, aux)`. It is traced once. Draws of Bernoulli and
            one-hot variables are floating, so that f can be evaluated at relaxed ones.
        estimator: how the gradient is estimated.
        has_aux: whether f returns an auxiliary output.

    Returns:
        The estimate, shape batch; with `has_aux=True`, `(estimate, aux)`, where aux is that of the
        hard draws with a leading axis of draws, without gradient.

    Raises:
        IncompatibleError: the estimator cannot serve this distribution.
        InvalidArgumentError: a key, q, f or cost of the wrong kind or shape.
        HigherOrderError: a second derivative of an estimator that is right to first order only.

    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as dist, expectax as ex
        >>> def loss(logit, key):
        ...     q = dist.Bernoulli(logits=logit)
        ...     return ex.expect(key, q, lambda b: (b - 0.45) ** 2, ex.Enumerate())
        >>> value, gradient = jax.value_and_grad(loss)(0.0, jax.random.key(0))
        >>> print(f"{value:.4f} {gradient:.4f}")  # p (1 - p) (1 - 2t) = 0.025
        0.2525 0.0250

    Reference: Mohamed et al. (2020), "Monte Carlo gradient estimation in machine learning".
    """
    key = _check_key(key)
    _check_estimator(estimator)
    views = joint(q)
    require(views, estimator.claims.needs, estimator)
    between = estimator.claims.differentiable and estimator.evaluations(views).auxiliary > 0
    cost, dtype = _close(key, f, views, has_aux, between)
    value, aux = _apply_rule(key, (views, cost, estimator))
    value = value.astype(dtype)
    return (value, aux) if has_aux else value


def _apply_rule(
    key: PRNGKey, inputs: tuple[Joint, Cost, AbstractEstimator]
) -> tuple[Array, PyTree]:
    """The estimate, with the one custom derivative rule.

    `inputs` is everything that can be differentiated: q, f (by what it captured) and the
    estimator. The primal evaluates f at the hard draws only; `estimate` runs when a derivative
    is taken, and its result is differentiated by ordinary JAX.
    """
    leaves, static = eqx.partition(inputs, eqx.is_array)
    floats, others = eqx.partition(leaves, eqx.is_inexact_array)

    @jax.custom_jvp
    def rule(floats: PyTree, others: PyTree, key: PRNGKey):
        q, f, estimator = eqx.combine(floats, others, static)
        value, aux = estimator.value(key, q, f)
        return value, jnp.zeros_like(value), aux

    def derivative(primals: Any, tangents: Any):
        (floats, others, key), (tangents, _, _) = primals, tangents
        if inputs[2].claims.order == 1:
            floats = _first_order_only(floats, type(inputs[2]).__name__)
        # Leaves that nobody differentiates stay constants: no derivative of theirs is traced.
        perturbed = jax.tree.map(lambda t: not isinstance(t, SymbolicZero), tangents)
        moving, held = eqx.partition(floats, perturbed)

        def program(moving: PyTree):
            q, f, estimator = eqx.combine(moving, held, others, static)
            out = estimator.estimate(key, q, f)
            control = jnp.zeros_like(out.value) if out.control is None else out.control
            return (out.value, control), out.aux

        (value, control), (d_value, d_control), aux = jax.jvp(
            program, (moving,), (eqx.filter(tangents, perturbed),), has_aux=True
        )
        zero = jnp.zeros_like(control)
        return (value, zero, aux), (d_value, d_control, jax.tree.map(_zero_tangent, aux))

    rule.defjvp(derivative, symbolic_zeros=True)
    value, control, aux = rule(floats, others, key)
    learns = jax.tree.leaves(eqx.filter(inputs[2], eqx.is_inexact_array))
    return (weigh(value, control) if learns else value), aux


@jax.custom_vjp
def weigh(value: Array, control: Array) -> Array:
    """`value`; backwards, its cotangent goes to `value` and the cotangent's size to `control`.

    So what the estimator's leaves minimise is weighted by how much each batch element counts, and
    is minimised also by those who maximise E[f].
    """
    del control
    return value


weigh.defvjp(lambda value, _: (value, None), lambda _, g: (g, jnp.abs(g)))


def _zero_tangent(x: Array) -> Any:
    inexact = jnp.issubdtype(x.dtype, jnp.inexact)
    return jnp.zeros_like(x) if inexact else np.zeros(x.shape, jax.dtypes.float0)


def _first_order_only(tree: PyTree, name: str) -> PyTree:
    """The identity, which refuses to be differentiated.

    The derivative rule runs on plain values the first time a derivative is taken, and on traced
    ones only when a derivative of that derivative is asked for.
    """

    @jax.custom_jvp
    def refuse(x: Array) -> Array:
        return x

    @refuse.defjvp
    def _(_primals: Any, _tangents: Any):
        raise HigherOrderError(
            complain(
                f"a second derivative was taken through expect(..., {name}())",
                f"{name} is right to first order only: differentiating its gradient estimate again "
                "gives a number that is not the second derivative of the expectation",
                "use Enumerate(), LeaveOneOut(), ScoreFunction() or Pathwise(), which are right at "
                "any order; or, to use the first gradient as a constant, take it at "
                "jax.lax.stop_gradient(parameters)",
            )
        )

    return jax.tree.map(lambda x: refuse(x) if eqx.is_inexact_array(x) else x, tree)


def _check_key(key: Any) -> Any:
    dtype = getattr(key, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        typed = key
    elif dtype == jnp.uint32:
        typed = jax.random.wrap_key_data(key)
    else:
        raise InvalidArgumentError(
            complain(
                f"expect was given a key that is a {describe(key)}",
                "random draws need a JAX random key",
                "pass jax.random.key(seed)",
            )
        )
    if typed.shape != ():
        raise InvalidArgumentError(
            complain(
                f"expect was given {typed.shape[0]} keys at once",
                "it draws a whole batch from one key",
                "pass one key, or jax.vmap over keys",
            )
        )
    return typed


def _check_estimator(estimator: Any) -> None:
    if isinstance(estimator, AbstractEstimator):
        return
    given = estimator.__name__ if isinstance(estimator, type) else describe(estimator)
    instead = f"{given}(...)" if isinstance(estimator, type) else "ex.DisARM() or another"
    raise InvalidArgumentError(
        complain(
            f"expect was given {given} as its estimator",
            "the estimator must be an instance of an Expectax estimator",
            f"pass {instead}",
        )
    )


def _close(key: Any, f: Any, views: Joint, has_aux: bool, between: bool) -> tuple[Cost, jnp.dtype]:
    """Trace f once, take what it captured as leaves, and check what it returns.

    `between`: f will be evaluated between hard draws, where NumPyro's check of the support would
    turn a log-probability such as `q.log_prob(b)`, which is linear in b, into −inf.
    """
    if not callable(f):
        raise InvalidArgumentError(
            complain(f"expect was given {describe(f)} as f", "f is called", "pass a function")
        )
    axes = varying_axes((key, views))
    example = vary(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), views.example()), axes)
    with validation_enabled(False) if between else contextlib.nullcontext():
        closed = eqx.filter_closure_convert(f, example)
    out: Any = jax.eval_shape(closed, example)
    if has_aux and not (isinstance(out, tuple) and len(out) == 2):
        raise InvalidArgumentError(
            complain(
                f"f returned {describe(out)} with has_aux=True",
                "it must return a pair (cost, aux)",
                "return both, or drop has_aux",
            )
        )
    cost: Any = out[0] if has_aux else out
    shape = getattr(cost, "shape", None)
    if shape != views.batch_shape:
        what = f"shape {shape}" if shape is not None else describe(cost)
        raise InvalidArgumentError(
            complain(
                f"f returned a cost of {what}, where q has batch shape {views.batch_shape}",
                "f must give one cost for each batch element",
                "sum over the event axes in f, or move axes of q into its event with .to_event(n)",
            )
        )
    if jnp.issubdtype(cost.dtype, jnp.complexfloating):
        raise InvalidArgumentError(
            complain("f returned a complex cost", "costs are real", "return its real part")
        )
    floating = jnp.issubdtype(cost.dtype, jnp.inexact)
    return Cost(closed, has_aux, axes), cost.dtype if floating else jnp.result_type(float)
