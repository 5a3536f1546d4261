"""The checks of how an estimator composes: the same numbers under every transformation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..distributions import joint
from ._compile import quick
from ._gates import check_mean
from ._trial import Inapplicable, Trial, assert_same, cast, check

_NUM_COPIES = 3


@check()
def value_alone(trial: Trial) -> None:
    """The value without a derivative is the value with one, for the same key."""
    key = trial.key("value")
    alone = quick(trial.problem.value)(trial.params, trial.estimator, key)
    assert_same(
        alone, trial.one(trial.params, trial.estimator, key)["value"], f"{trial.name}, value alone"
    )


@check()
def batch_elements(trial: Trial) -> None:
    """Entry i of the value, and its gradient, depend on entry i of the parameters alone."""
    if not trial.problem.batch_shape:
        raise Inapplicable("the problem has no batch")
    key, num = trial.key("batch"), trial.problem.batch_shape[0]

    def outcome(params):
        out = trial.one(params, trial.estimator, key)
        return {"value": out["value"], "q": out["q"]}

    mine = lambda x: getattr(x, "shape", ())[:1] == (num,)
    # another first element, in q and in those of f's parameters that belong to it
    change = lambda x: np.concatenate([x[:1] * 0.7 + 0.1, x[1:]]) if mine(x) else x
    before, after = outcome(trial.params), outcome(jax.tree.map(change, trial.params))
    others = lambda tree: jax.tree.map(lambda x: np.asarray(x)[1:], tree)
    assert_same(others(after), others(before), f"{trial.name}, other batch elements")


@check()
def eager(trial: Trial) -> None:
    """Without `jit`, the same."""
    arguments = (trial.params, trial.estimator, trial.key("eager"))
    assert_same(trial.draw(*arguments), trial.one(*arguments), f"{trial.name}, eager and jit")


def _copies(trial: Trial, name: str) -> tuple[Any, PyTree, PyTree]:
    """Several keys, parameters that differ a little, and the draws made one at a time."""
    keys = jax.random.split(trial.key(name), _NUM_COPIES)
    factors = 1 + 0.1 * np.arange(_NUM_COPIES)
    params = jax.tree.map(lambda x: np.stack([x * a for a in factors]), trial.params)
    each = [
        trial.one(jax.tree.map(lambda x, i=i: x[i], params), trial.estimator, keys[i])
        for i in range(_NUM_COPIES)
    ]
    return keys, params, jax.tree.map(lambda *x: np.stack(x), *each)


@check()
def vmap(trial: Trial) -> None:
    """`vmap` over keys and parameters gives what a loop gives."""
    keys, params, each = _copies(trial, "vmap")
    many = quick(jax.vmap(trial.draw, in_axes=(0, None, 0)))(params, trial.estimator, keys)
    assert_same(many, each, f"{trial.name}, vmap and loop")


@check()
def grad_of_vmap(trial: Trial) -> None:
    """The gradient of a vmapped loss is the vmapped gradient."""
    keys, params, each = _copies(trial, "grad of vmap")

    def total(params):
        losses, values = jax.vmap(trial.loss, in_axes=(0, None, 0))(params, trial.estimator, keys)
        return jnp.sum(losses), values

    (_, values), grads = quick(jax.value_and_grad(total, has_aux=True))(params)
    assert_same({"value": values, **grads}, each, f"{trial.name}, grad of vmap and vmap of grad")


@check()
def scan(trial: Trial) -> None:
    """Gradient steps inside `lax.scan` are those of a Python loop."""
    keys = jax.random.split(trial.key("scan"), _NUM_COPIES)

    def step(params, key):
        out = trial.draw(params, trial.estimator, key)
        return _descend(params, out), out["value"]

    scanned = quick(lambda params: jax.lax.scan(step, params, keys))(trial.params)
    params, values = trial.params, []
    for key in keys:
        out = trial.one(params, trial.estimator, key)
        params = _descend(params, out)
        values.append(out["value"])
    assert_same(scanned, (params, np.stack(values)), f"{trial.name}, scan and loop")


def _descend(params: PyTree, grads: dict[str, PyTree]) -> PyTree:
    return jax.tree.map(lambda x, g: x - 0.02 * g, params, {name: grads[name] for name in params})


@check()
def checkpoint(trial: Trial) -> None:
    """`jax.checkpoint` changes nothing."""
    arguments = (trial.params, trial.estimator, trial.key("checkpoint"))
    gradient = jax.value_and_grad(jax.checkpoint(trial.loss), has_aux=True)
    (_, value), grads = quick(gradient)(*arguments)
    one = trial.one(*arguments)
    assert_same({"value": value, **grads}, one, f"{trial.name}, checkpoint")


@check()
def no_retrace(trial: Trial) -> None:
    """A second call, with other keys, parameters and learned leaves, traces nothing."""
    trial.one(trial.params, trial.estimator, trial.key("first call"))
    before = trial.traces
    is_float = lambda x: jnp.issubdtype(jnp.result_type(x), jnp.inexact)
    step = lambda x: x * 1.01 if is_float(x) else x
    trial.one(
        jax.tree.map(step, trial.params),
        jax.tree.map(step, trial.estimator),
        trial.key("second call"),
    )
    assert trial.traces == before, f"{trial.name}: the second call traced f again"


@check()
def key_reuse(trial: Trial) -> None:
    """No key is used twice, by JAX's own checker."""
    arguments = (trial.params, trial.estimator, trial.key("reuse"))
    with jax.debug_key_reuse(True):
        try:
            jax.block_until_ready(quick(lambda *x: trial.draw(*x))(*arguments))
        except jax.errors.KeyReuseError as error:
            raise AssertionError(f"{trial.name} uses a key twice: {error}") from error


@check()
def legacy_key(trial: Trial) -> None:
    """A legacy uint32 key gives what the typed key of the same bits gives."""
    key = trial.key("legacy")
    legacy = quick(trial.draw)(trial.params, trial.estimator, jax.random.key_data(key))
    typed = trial.one(trial.params, trial.estimator, key)
    assert_same(legacy, typed, f"{trial.name}, legacy key")


@check()
def dtypes(trial: Trial) -> None:
    """In float32 and bfloat16: the value has f's type, gradients the parameters'; all finite.

    At extreme parameters too: p = 0 and 1 to all digits.
    """
    with jax.enable_x64(False):
        estimator = cast(trial.estimator, jnp.float32, jnp.asarray)
        for dtype in (jnp.float32, jnp.bfloat16):
            params = cast(trial.problem.params, dtype)
            program = quick(lambda *x: trial.draw(*x))
            extreme = {**params, "q": jax.tree.map(lambda x: x * 10, params["q"])}
            settings = [params, extreme] if trial.problem.in_logits else [params]
            like = {"value": _cost_type(trial, params), **params}
            expected = jax.tree.map(lambda x: x.dtype, like)
            for setting in settings:
                out = program(setting, estimator, jax.random.key(3))
                where = f"{trial.name} in {jnp.dtype(dtype).name}"
                jax.tree_util.tree_map_with_path(_has_type(where), out, expected)


def _cost_type(trial: Trial, params: Any) -> Any:
    """What f returns for a draw of q: NumPyro's own draws may be wider than its parameters."""
    example = joint(trial.problem.make_q(params["q"])).example()
    return jax.eval_shape(trial.problem.cost, params["f"], example)


def _has_type(where: str) -> Any:
    def one(path, leaf, dtype):
        what = where + jax.tree_util.keystr(path)
        assert leaf.dtype == dtype, f"{what} has type {leaf.dtype}, not {dtype}"
        assert bool(np.all(np.isfinite(leaf))), f"{what} is not finite: {leaf}"

    return one


@check()
def nested(trial: Trial) -> None:
    """An expectation inside f, in a second layer: unbiased for the parameters of both."""
    if trial.problem.layers is None:
        raise Inapplicable("the problem has no second layer")
    inner = Trial(trial.estimator, trial.problem.layers, gate=trial.gate)
    if not trial.claims.unbiased:
        out = inner.one(inner.params, inner.estimator, inner.key("nested"))
        finite = [bool(np.all(np.isfinite(x))) for x in jax.tree.leaves(out)]
        assert all(finite), f"{inner.name}: not finite"
        return
    moments, truth, scale = inner.moments("own")
    trial.count(truth)
    check_mean(moments, truth, scale=scale, gate=trial.gate, what=inner.name)
