"""Estimators without Monte Carlo: their draws, or their noise, written out and summed.

Where all the randomness of an estimator is a finite draw, its mean is a finite sum over joint
draws. Where it is the uniform noise behind bits, its mean is an integral over a square, smooth on
pieces that are known: a quadrature with many digits. Either way the estimator runs inside `expect`
as ever, but on a `Joint` whose `sample` (or `noise`) returns what the script says.

The gradient of an estimate is linear in the incoming cotangent. So a script's probabilities enter
as cotangents, and one gradient of one weighted sum is the exact mean, for every parameter at once.
"""

import itertools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..distributions import Joint
from ..estimators import AbstractEstimator, Claims, Estimate, Evaluations
from ._problems import Params, Problem


class Unscripted(Exception):
    """An estimator asked for randomness that its script does not hold."""


class ScriptedJoint(Joint):
    """A `Joint` that returns given draws, or given noise, and refuses any other randomness."""

    draws: PyTree = None
    given_noise: PyTree = None
    choice: Array | None = None
    chances: list = eqx.field(static=True, default_factory=list)

    def _refuse(self, what: str) -> Any:
        raise Unscripted(f"the estimator asked for {what}")

    def sample(self, key: Any, num: int) -> PyTree:
        del key
        given = self._refuse("draws") if self.draws is None else self.draws
        return given if _length(given) == num else self._refuse(f"{num} draws")

    def noise(self, key: Any, num: int) -> PyTree:
        del key
        given = self._refuse("noise") if self.given_noise is None else self.given_noise
        return given if _length(given) == num else self._refuse(f"noise for {num} draws")

    def perturb(self, key: Any) -> PyTree:
        add = lambda theta, e: (jax.lax.stop_gradient(theta) + e)[0]
        return jax.tree.map(add, self.logits, self.noise(key, 1))

    def rsample(self, key: Any, num: int) -> PyTree:
        del key
        return self._refuse(f"{num} reparameterized draws")

    def uniforms(self, key: Any, num: int, size: int, coupling: Any) -> PyTree:
        del key, size, coupling
        return self._refuse(f"uniforms for {num} coupled draws")

    def choose(self, key: Any, log_p: Array, num: int) -> Array:
        del key
        if self.choice is None or len(self.choice) != num:
            return self._refuse(f"{num} outcomes without replacement")
        self.chances.append(_chance_of_order(log_p, self.choice))
        alone = self.choice.reshape((num,) + (1,) * self.batch_ndim)
        return jnp.broadcast_to(alone, (num, *self.batch_shape))


class RecordingJoint(Joint):
    """A `Joint` that notes what randomness it is asked for, and gives zeros.

    What is random in a program that runs on it is the estimator's own.
    """

    asked: list = eqx.field(static=True, default_factory=list)

    def _note(self, kind: str, method: Callable[..., PyTree], key: Any, num: int) -> PyTree:
        self.asked.append((kind, num))
        like = jax.eval_shape(lambda key: method(key, num), key)
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)

    def sample(self, key: Any, num: int) -> PyTree:
        return self._note("draws", super().sample, key, num)

    def noise(self, key: Any, num: int) -> PyTree:
        return self._note("noise", super().noise, key, num)

    def perturb(self, key: Any) -> PyTree:
        return self._note("noise", lambda key, _: super(RecordingJoint, self).perturb(key), key, 1)

    def rsample(self, key: Any, num: int) -> PyTree:
        return self._note("reparameterized draws", super().rsample, key, num)

    def uniforms(self, key: Any, num: int, size: int, coupling: Any) -> PyTree:
        draw = lambda key, num: super(RecordingJoint, self).uniforms(key, num, size, coupling)
        return self._note("coupled uniforms", draw, key, num)

    def choose(self, key: Any, log_p: Array, num: int) -> Array:
        return self._note(
            "choices", lambda k, n: super(RecordingJoint, self).choose(k, log_p, n), key, num
        )


class OnAnotherJoint(AbstractEstimator):
    """An estimator that is handed a recording or scripted `Joint` in place of the real one."""

    inner: AbstractEstimator
    replace: Callable[[Joint], Joint]

    @property
    def claims(self) -> Claims:  # type: ignore[override]
        return self.inner.claims

    def estimate(self, key: Any, q: Joint, f: Any) -> Estimate:
        replaced = self.replace(q)
        out = self.inner.estimate(key, replaced, f)
        # only where they are drawn is it known with what probability outcomes are chosen
        for chance in getattr(replaced, "chances", ()):
            out = eqx.tree_at(lambda o: o.value, out, out.value * jax.lax.stop_gradient(chance))
        return out

    def evaluations(self, q: Joint) -> Evaluations:
        return self.inner.evaluations(q)


def randomness(problem: Problem, params: Params, estimator: AbstractEstimator) -> tuple[str, int]:
    """What an estimator is random by: ("draws", S), ("noise", S), or ("nothing", 0).

    An estimator that draws more than once, or by itself besides, has ("several kinds", how many).
    """
    asked: list[tuple[str, int]] = []
    record = lambda q: RecordingJoint(q.sites, q.structure, q.batch_shape, q.names, asked)
    spied = OnAnotherJoint(estimator, record)
    gradient = jax.grad(lambda params, key: jnp.sum(problem.value(params, spied, key)))
    program = str(jax.make_jaxpr(gradient)(params, jax.random.key(0)))
    if "random_bits" in program:
        asked.append(("draws of its own", 1))
    if len(asked) > 1 or "draws of its own" in dict(asked):
        return "several kinds", len(asked)
    return asked[0] if asked else ("nothing", 0)


class Script(eqx.Module):
    """Given randomness, with a leading axis of scenes, and the probability of each.

    Attributes:
        draws: shape (scenes, S) + batch + event, or None.
        noise: the same for the noise, or None.
        probability: shape (scenes,) + batch; it sums to one for each batch element, but for
            choices, which bring their own.
        choice: the numbers of outcomes drawn without replacement, shape (scenes, S), or None.
    """

    draws: PyTree
    noise: PyTree
    probability: Float[Array, "scenes *batch"]
    choice: Array | None = None


def play(
    scene: Script, problem: Problem, params: Params, estimator: AbstractEstimator
) -> Float[Array, "*batch"]:
    """The estimate with one scene's randomness, differentiable like `expect`."""
    follow = lambda q: ScriptedJoint(
        q.sites, q.structure, q.batch_shape, q.names, scene.draws, scene.noise, scene.choice
    )
    return problem.value(params, OnAnotherJoint(estimator, follow), jax.random.key(0))


def expected_value(
    script: Script, problem: Problem, params: Params, estimator: AbstractEstimator
) -> Float[Array, "*batch"]:
    """The exact mean of the estimate; its derivatives are the exact means of the derivatives."""
    probability = jax.lax.stop_gradient(script.probability)
    values = jax.vmap(lambda scene: play(scene, problem, params, estimator))(script)
    return jnp.sum(probability * values, axis=0)


def script_of_draws(problem: Problem, num_samples: int) -> Script:
    """Every way in which `num_samples` independent draws can fall, with its probability."""
    chances = np.asarray(problem.probabilities(problem.params["q"]))  # type: ignore[misc]
    # the same outcome has different probabilities in different batch elements
    which = np.array(list(itertools.product(range(len(chances)), repeat=num_samples)), dtype=int)
    draws = jax.tree.map(lambda outcome: jnp.asarray(outcome[which]), problem.outcomes)
    return Script(draws, None, jnp.asarray(np.prod(chances[which], axis=1)))


def script_of_choices(problem: Problem, num: int) -> Script:
    """Every order in which `num` of the outcomes can be drawn without replacement."""
    total = len(problem.outcome_list)
    choice = np.array(list(itertools.permutations(range(total), num)), dtype=int)
    return Script(None, None, jnp.ones((len(choice), *problem.batch_shape)), jnp.asarray(choice))


def _chance_of_order(log_p: Float[Array, "N *batch"], choice: Array) -> Float[Array, "*batch"]:
    """The probability to draw these in this order: Π p(i) / (1 − what was drawn before)."""
    numbers = jnp.arange(len(log_p)).reshape((-1,) + (1,) * (log_p.ndim - 1))
    log_chance, left = jnp.zeros(log_p.shape[1:]), log_p
    for index in choice:
        log_chance = log_chance + left[index] - jax.nn.logsumexp(left, axis=0)
        left = jnp.where(numbers == index, -jnp.inf, left)
    return jnp.exp(log_chance)


def script_of_noise(problem: Problem, num_samples: int, nodes: int) -> Script:
    """Quadrature over the uniform noise u of bits, logit(u) being what the estimator is given.

    The interval is cut where a bit or its antithetic twin jumps, u = p and u = 1 − p. On each of
    the three pieces the rule is double-exponential, which crowds towards the ends, where the
    relaxed costs of rare bits bend.

    Arguments:
        problem: of bits with logits, a single site with one event axis at most.
        num_samples: draws, each with its own noise.
        nodes: of the rule, per piece.
    """
    logits = np.asarray(problem.params["q"])
    batch_ndim = len(problem.batch_shape)
    noise, mass = _logistic_rule(logits, nodes)  # (3 nodes,) + batch + event
    event = logits.shape[batch_ndim:]
    variables = list(np.ndindex(*event))
    scenes = itertools.product(range(len(noise)), repeat=num_samples * len(variables))
    which = np.array(list(scenes)).reshape((-1, num_samples, *event))
    given = np.empty((*which.shape[:2], *logits.shape))
    probability = np.ones((len(which), *problem.batch_shape))
    for v in variables:
        picked = which[(..., *v)]  # (scenes, S)
        at = (slice(None),) * batch_ndim + v
        given[(slice(None), slice(None), *at)] = noise[(picked, *at)]
        probability *= np.prod(mass[(picked, *at)], axis=1)
    return Script(None, jnp.asarray(given), jnp.asarray(probability))


def _logistic_rule(logits: np.ndarray, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes logit(u) and masses du of the rule, leading axis 3·nodes, for each variable."""
    t = np.linspace(-3.2, 3.2, nodes) if nodes > 1 else np.zeros(1)
    bend = np.pi / 2 * np.sinh(t)
    below, above = 1 / (1 + np.exp(-2 * bend)), 1 / (1 + np.exp(2 * bend))  # x and 1 − x, exactly
    weight = np.cosh(t) / np.cosh(bend) ** 2
    weight = weight / weight.sum()
    p = np.minimum(1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(logits)))
    cuts = [(np.zeros_like(p), p), (p, 1 - p), (1 - p, np.ones_like(p))]
    noise, mass = [], []
    for i, (start, stop) in enumerate(cuts):
        width = stop - start if i == 1 else p
        for x, rest, w in zip(below, above, weight, strict=True):
            u = start + width * x
            rest_of_one = (width * rest) if i == 2 else (1 - stop) + width * rest
            noise.append(np.log(u) - np.log(rest_of_one))
            mass.append(width * w)
    return np.stack(noise), np.stack(mass)


def _length(tree: PyTree) -> int:
    return jax.tree.leaves(tree)[0].shape[0]
