"""The checks of what an estimator estimates, and of what it claims."""

import math
import re
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from .._errors import HigherOrderError, IncompatibleError
from .._expect import expect
from ..distributions import OneHotCategorical, joint
from ..distributions._bernoulli import BernoulliView
from ._compile import quick
from ._gates import check_biased, check_mean, gather
from ._moments import over_keys
from ._scripts import (
    Script,
    expected_value,
    randomness,
    script_of_choices,
    script_of_draws,
    script_of_noise,
)
from ._trial import Inapplicable, Trial, assert_same, cast, check

_MOST_SCENES = 25_000  # of finite draws: four draws of twelve outcomes
_MOST_NODES = 85_000  # of the quadrature: 96 for each piece of two bits, which gives 1e-10


def _mean_of(trial: Trial, part: str, *, unbiased: bool, name: str = "own", **changed: Any) -> None:
    moments, truth, scale = trial.moments(name, **changed)
    trial.count(truth[part])
    decide = check_mean if unbiased else check_biased
    what = f"{trial.name}: {part}"
    decide(moments[part], truth[part], scale=scale[part], gate=trial.gate, what=what)


@check(every_problem=True)
def value_mean(trial: Trial) -> None:
    """The mean value is E[f]; where f meets relaxed draws only, the bias is there."""
    _mean_of(trial, "value", unbiased=trial.evaluations.hard > 0)


@check(every_problem=True)
def gradient_mean(trial: Trial) -> None:
    """The mean gradient in q's parameters is that of E[f]; a claimed bias is there."""
    _mean_of(trial, "q", unbiased=trial.claims.unbiased)


@check(every_problem=True)
def cost_parameters(trial: Trial) -> None:
    """The mean gradient in f's own parameters is that of E[f], where f meets hard draws."""
    _mean_of(trial, "f", unbiased=trial.evaluations.hard > 0)


def _simple(trial: Trial) -> Any:
    """The parameters whose cost is as simple as a biased estimator needs to be exact, or None."""
    known = {"linear f": trial.problem.linear, "quadratic f": trial.problem.quadratic}
    make = known.get(trial.claims.exact_for)
    return None if make is None else cast(make(), jnp.float64)


@check(every_problem=True)
def finite_draws(trial: Trial) -> None:
    """Summed over every draw (or the uniform noise of bits), value and gradient are exact."""
    params = trial.params if trial.claims.unbiased else _simple(trial)
    if params is None:
        raise Inapplicable("its gradient is not claimed to be exact for any f")
    script, tolerance = _script(trial)
    truth = trial.exact(params)

    def loss(params):
        value = expected_value(script, trial.problem, params, trial.estimator)
        return jnp.sum(trial.weights * value), value

    gradient = jax.value_and_grad(loss, has_aux=True)
    (_, value), grads = quick(gradient)(params)
    assert_same({"value": value, **grads}, truth, f"{trial.name}, all draws", tolerance)


def _script(trial: Trial) -> tuple[Script, float]:
    """The script of this estimator's randomness, and how exact a sum over it is."""
    problem = trial.problem
    kind, num = randomness(problem, trial.params, trial.estimator)
    if not problem.outcome_list:
        raise Inapplicable("the problem's draws are not finite")
    if kind == "nothing":
        return script_of_draws(problem, 0), 1e-10
    if kind == "draws" and _num_scenes(trial, num) <= _MOST_SCENES:
        return script_of_draws(problem, num), 1e-10
    if kind == "choices" and num * _num_scenes(trial, num) <= _MOST_SCENES:
        return script_of_choices(problem, num), 1e-10
    sites = joint(problem.make_q(trial.params["q"])).sites
    if kind == "noise" and problem.in_logits and [type(s) for s in sites] == [BernoulliView]:
        nodes = min(96, int(_MOST_NODES ** (1 / (num * math.prod(sites[0].event_shape))) / 3))
        if nodes == 96:
            return script_of_noise(problem, num, nodes), 1e-10
    raise Inapplicable(f"its randomness ({num} of {kind}) has no short list")


def _num_scenes(trial: Trial, num_samples: int) -> int:
    return len(trial.problem.outcome_list) ** num_samples


@check(every_problem=True)
def constant_cost(trial: Trial) -> None:
    """A constant cost gives exactly zero gradient, if the estimator claims it."""
    if not trial.claims.zero_for_constant:
        raise Inapplicable("it does not claim zero gradient for a constant cost")
    moments = trial.few("constant", cast(trial.problem.constant(), jnp.float64))
    for bound in (moments.low["q"], moments.high["q"]):
        worst = max(float(np.max(np.abs(x))) for x in jax.tree.leaves(bound))
        assert worst == 0, f"{trial.name}: a constant cost has gradients up to {worst:.3g}"


@check()
def added_constant(trial: Trial) -> None:
    """A constant added to f changes no gradient, where a constant cost has none."""
    if not trial.claims.zero_for_constant:
        raise Inapplicable("it does not claim zero gradient for a constant cost")
    offset = trial.params["f"]["offset"]
    more = offset + 10 * (1 + np.arange(offset.size).reshape(offset.shape))  # each element its own
    shifted = {**trial.params, "f": {**trial.params["f"], "offset": more}}
    key = trial.key("added")
    before, after = (trial.one(p, trial.estimator, key) for p in (trial.params, shifted))
    assert_same(after["q"], before["q"], f"{trial.name}, a constant added to f")


@check(every_problem=True)
def masked_category(trial: Trial) -> None:
    """The gradient in a logit of −inf is exactly zero, and finite everywhere else."""
    masked = jax.tree.map(np.isneginf, trial.params["q"])
    if not any(bool(np.any(m)) for m in jax.tree.leaves(masked)):
        raise Inapplicable("no category of this problem is masked")
    moments = trial.few("masked", trial.params)
    for bound in (moments.low, moments.high):
        leaves = jax.tree.leaves(bound)
        assert all(bool(np.all(np.isfinite(x))) for x in leaves), f"{trial.name}: not finite"
        jax.tree.map(lambda x, m: _assert_zero(x[m], trial.name), bound["q"], masked)


def _assert_zero(x: Any, name: str) -> None:
    assert bool(np.all(x == 0)), f"{name}: a masked category has gradient {x}"


@check()
def exact_for(trial: Trial) -> None:
    """A biased estimator is exact where it says so: for linear costs, or in a limit."""
    claims, limit = trial.claims, re.search(r"as (\w+) → 0", trial.claims.exact_for)
    if claims.unbiased or not claims.exact_for:
        raise Inapplicable("it makes no such claim")
    if limit is None:
        simple = _simple(trial)
        assert simple is not None, f"nobody checks exact_for={claims.exact_for!r}"
        _mean_of(trial, "q", unbiased=True, name=claims.exact_for, params=simple)
        return
    where = lambda e: getattr(e, limit[1])
    closer = eqx.tree_at(where, trial.estimator, where(trial.estimator) / 8)
    if claims.exact_for.startswith("linear f "):
        # both at once: on these costs the bias is there, and vanishes in the limit
        linear = cast(trial.problem.linear(), jnp.float64)
        far = _bias(trial, "linear f", params=linear)
        near = _bias(trial, limit[0], params=linear, estimator=closer)
    else:
        far, near = _bias(trial, "own"), _bias(trial, limit[0], estimator=closer)
    # At an eighth of the way the bias is an eighth (or, at second order, less); half is certain.
    assert near < 0.5 * far, f"{trial.name}: bias {far:.3g}, and {near:.3g} {limit[0]}"


def _bias(trial: Trial, name: str, **changed: Any) -> float:
    """The largest relative bias of the gradient, each batch element on its own scale."""
    moments, truth, scale = trial.moments(name, **changed)
    relative = lambda m, t, s: np.max(np.abs(m - t) / s)
    with np.errstate(divide="ignore", invalid="ignore"):
        off = jax.tree.map(relative, moments.mean["q"], truth["q"], scale["q"])
    trial.gate.require_power(moments["q"], scale["q"], f"{trial.name} {name}")
    return float(max(jax.tree.leaves(off)))


@check()
def evaluations(trial: Trial) -> None:
    """f is called as often as claimed: in all for a gradient, at hard draws only for a value."""
    calls = [0]

    def tick(_: Any) -> None:
        calls[0] += 1

    def loss(params, estimator, key):
        def cost(draw):
            # it is called for each draw if its operand depends on it: on every site
            jax.debug.callback(tick, draw)
            return trial.problem.cost(params["f"], draw)

        return jnp.sum(expect(key, trial.problem.make_q(params["q"]), cost, estimator))

    def count(program: Any) -> int:
        calls[0] = 0
        arguments = (trial.params, trial.estimator, trial.key("evaluations"))
        jax.block_until_ready(quick(program)(*arguments))
        jax.effects_barrier()
        return calls[0]

    claimed = trial.evaluations
    for_gradient, for_value = count(jax.grad(loss)), count(loss)
    everything = claimed.hard + claimed.auxiliary
    assert for_gradient == everything, f"{trial.name}: {for_gradient} calls, {everything} claimed"
    alone = claimed.hard or claimed.auxiliary
    assert for_value == alone, f"{trial.name}: {for_value} calls for a value, {alone} claimed"


@check()
def differentiability(trial: Trial) -> None:
    """f's slope in the draw is used if, and only if, the estimator says that f must have one."""
    problem, key = trial.problem, trial.key("slope")

    def gradient(change):
        def loss(params, key):
            cost = lambda draw: change(problem.cost, params["f"], draw)
            value = expect(key, problem.make_q(params["q"]), cost, trial.estimator)
            return jnp.sum(trial.weights * value)

        return jax.device_get(quick(jax.grad(loss))(trial.params, key)["q"])

    smooth = gradient(lambda cost, f, draw: cost(f, draw))
    flat = gradient(lambda cost, f, draw: cost(f, jax.lax.stop_gradient(draw)))
    if not trial.claims.differentiable:
        assert_same(flat, smooth, f"{trial.name} without the slope of f")
        whole = gradient(lambda cost, f, draw: jnp.floor(5 * cost(f, draw)).astype(jnp.int32))
        rounded = gradient(lambda cost, f, draw: jnp.floor(5 * cost(f, draw)))
        assert_same(whole, rounded, f"{trial.name} with a whole-numbered cost")
        return
    moved = jax.tree.map(lambda a, b: np.max(np.abs(a - b)), smooth, flat)
    assert max(map(float, jax.tree.leaves(moved))) > 0, f"{trial.name} never uses the slope of f"


_CANDIDATES: tuple[Any, ...] = (
    lambda: OneHotCategorical(logits=jnp.zeros(3)),
    lambda: dist.Categorical(logits=jnp.zeros(3)),
    lambda: dist.Bernoulli(logits=0.0),
    lambda: dist.Normal(0.0, 1.0),
)


@check()
def capability(trial: Trial) -> None:
    """A q that lacks what the estimator needs is refused; one that has it is not."""
    needs = trial.claims.needs
    sites = joint(trial.problem.make_q(trial.params["q"])).sites
    has = all(isinstance(site, needs) for site in sites)
    assert has, f"{trial.name}: the problem does not offer {needs.__name__}"
    lacks = [make for make in _CANDIDATES if not isinstance(joint(make()).sites[0], needs)]
    if not lacks:
        return  # every distribution has it
    make = lacks[0]
    cost = lambda x: jnp.asarray(0.0 * jnp.sum(x), float)
    try:
        jax.eval_shape(lambda: expect(trial.key("refuse"), make(), cost, trial.estimator))
    except IncompatibleError:
        return
    raise AssertionError(f"{trial.name} served a q that is not {needs.__name__}")


@check()
def derivative_order(trial: Trial) -> None:
    """Second and third derivatives are right, or they raise.

    Exactly, where the draws can be summed; by streamed draws, of the second, where they cannot.
    """
    arguments = (trial.params, trial.estimator, trial.key("order"))
    line = _line(trial)
    if trial.claims.order == 1:
        first = jax.grad(lambda params, *rest: trial.loss(params, *rest)[0])
        for again in (jax.jacfwd(first), jax.jacrev(first)):
            try:
                jax.eval_shape(again, *arguments)
            except HigherOrderError:
                continue
            raise AssertionError(f"{trial.name}: a second derivative did not raise")
        return

    def along(value):
        loss = lambda params: jnp.sum(trial.weights * value(params))
        second = lambda params: _hessian_line(loss, params, line)
        third = lambda params: jax.jvp(lambda p: second(p)[0], (params,), (line,))[1]
        return lambda params: {"second": second(params)[1], "third": third(params)}

    truth = jax.device_get(quick(along(trial.problem.exact))(trial.params))
    try:
        script, tolerance = _script(trial)
    except Inapplicable:
        value = lambda key: lambda p: trial.problem.value(p, trial.estimator, key)
        second = lambda key: {"second": along(value(key))(trial.params)["second"]}
        _streamed(trial, second, {"second": truth["second"]})
        return
    value = lambda p: expected_value(script, trial.problem, p, trial.estimator)
    found = quick(along(value))(trial.params)
    assert_same(found, truth, f"{trial.name}, derivatives of order 2 and 3", 10 * tolerance)


def _hessian_line(loss: Any, params: Any, line: Any) -> tuple[Any, Any]:
    """The second derivative along a line, and the Hessian times the line."""
    product = jax.jvp(jax.grad(loss), (params,), (line,))[1]
    terms = jax.tree.map(lambda a, b: jnp.sum(a * b), product, line)
    return sum(jax.tree.leaves(terms)), product


def _line(trial: Trial) -> Any:
    """A direction in the space of all parameters."""
    random = np.random.default_rng(0)
    return jax.tree.map(lambda x: random.normal(size=x.shape) / 2, trial.params)


def _streamed(trial: Trial, sample: Any, truth: Any) -> None:
    """Gates for a quantity of its own, by a program of its own."""
    most = lambda tree: max(float(np.max(np.abs(x))) for x in jax.tree.leaves(tree))
    scale = {order: jax.tree.map(lambda _: most(t), t) for order, t in truth.items()}  # noqa: B023
    program, key = over_keys(sample), trial.key("derivatives")
    moments = gather(program, key, scale=scale, gate=trial.gate)
    trial.count(truth)
    check_mean(moments, truth, scale=scale, gate=trial.gate, what=f"{trial.name}, derivatives")
