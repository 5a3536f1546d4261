"""Problems over sets and orders. Functions, so that importing costs nothing."""

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..distributions import PlackettLuce, Subset, TopK
from ._problems import RARE, Params, Problem, cost_params, curved_cost, features, outer_weights

# asymmetric; logits of exactly 0; a masked item; a rare one
_FOUR = np.array(
    [
        [0.9, -0.4, 0.2, -1.1],
        [0.0, 0.0, 0.0, 0.0],
        [0.5, -np.inf, -0.8, 0.3],
        [0.4, RARE, 1.2, 0.0],
    ]
)


@functools.cache
def subset() -> Problem:
    """Two of four items, p ∝ exp(b·θ)."""

    def probability(logits: Array, items: tuple[int, ...]) -> Array:
        weights = jnp.exp(logits)
        each = [math.prod(weights[..., i] for i in s) for s in itertools.combinations(range(4), 2)]
        return jnp.asarray(math.prod(weights[..., i] for i in items) / sum(each))

    def plain(weights: list[float], items: tuple[int, ...]) -> float:
        # independent bits with these odds, given that two are one
        odds = [w / (1 + w) for w in weights]
        bits = lambda s: math.prod(p if i in s else 1 - p for i, p in enumerate(odds))
        return bits(items) / sum(bits(s) for s in itertools.combinations(range(4), 2))

    return listed(
        "subset",
        _FOUR,
        lambda logits: Subset(logits, 2),
        {s: np.eye(4)[list(s)].sum(axis=0) for s in itertools.combinations(range(4), 2)},
        probability,
        plain,
        seed=57,
    )


@functools.cache
def top_set() -> Problem:
    """Two of four items drawn without replacement."""

    def probability(logits: Array, items: tuple[int, ...]) -> Array:
        p, (i, j) = jax.nn.softmax(logits), items
        # what is left is summed, not subtracted: items may take all the mass
        left = lambda taken: sum(p[..., m] for m in range(4) if m != taken)
        return p[..., i] * p[..., j] / left(i) + p[..., j] * p[..., i] / left(j)

    def plain(weights: list[float], items: tuple[int, ...]) -> float:
        return sum(_one_after_another(weights, order) for order in itertools.permutations(items))

    return listed(
        "top_set",
        _FOUR,
        lambda logits: TopK(logits, 2),
        {s: np.eye(4)[list(s)].sum(axis=0) for s in itertools.combinations(range(4), 2)},
        probability,
        plain,
        seed=58,
    )


@functools.cache
def permutation() -> Problem:
    """The orders of three items, as permutation matrices."""

    def probability(logits: Array, order: tuple[int, ...]) -> Array:
        p, (i, j, m) = jax.nn.softmax(logits), order
        return p[..., i] * p[..., j] / (p[..., j] + p[..., m])

    return listed(
        "permutation",
        _FOUR[:, :3],
        PlackettLuce,
        {o: np.eye(3)[list(o)] for o in itertools.permutations(range(3))},
        probability,
        _one_after_another,
        seed=59,
    )


def _one_after_another(weights: list[float], order: tuple[int, ...]) -> float:
    """The probability of draws without replacement in this order; the last of all is certain."""
    left, p = list(range(len(weights))), 1.0
    for i in order:
        p *= weights[i] / sum(weights[m] for m in left) if len(left) > 1 else 1.0
        left.remove(i)
    return p


def listed(
    name: str,
    logits: np.ndarray,
    make_q: Callable[[Any], Any],
    outcomes: Mapping[Any, np.ndarray],
    probability: Callable[[Array, Any], Array],
    plain: Callable[[Any, Any], float],
    seed: int,
) -> Problem:
    """A problem from a name of each outcome to its draw, and to its probability in two ways.

    `probability` has the logits, with the batch; `plain` has exp(logits) of one batch element.
    """
    batch = logits.shape[:1]
    draws = np.stack(list(outcomes.values()))
    event, num = draws.shape[1:], len(draws)
    params = {"q": logits, "f": cost_params(np.random.default_rng(seed), batch, draws[0].size)}
    full = np.broadcast_to(draws[:, None], (num, *batch, *event))

    def cost(f: Any, draw: Array) -> Float[Array, "..."]:
        return curved_cost(f, features(draw, 1))

    def probabilities(q: Array) -> Array:
        return jnp.stack([probability(jnp.asarray(q), items) for items in outcomes])

    def exact(params: Params) -> Array:
        costs = jax.vmap(lambda b: cost(params["f"], b))(jnp.asarray(full))
        return jnp.sum(probabilities(params["q"]) * costs, axis=0)

    def reference(params: Params) -> np.ndarray:
        f, total = params["f"], np.zeros(batch)
        for i, row in enumerate(params["q"]):
            weights = np.exp(row)
            for items, draw in outcomes.items():
                x = draw.ravel()
                t = float(np.dot(f["curve"], x))
                line = f["offset"][i] + float(np.dot(f["slope"][i], x))
                total[i] += plain(weights, items) * (line + t**2 + f["wave"] * math.sin(3 * t))
        return total

    return Problem(
        name=name,
        params=params,
        weights=outer_weights(batch),
        make_q=make_q,
        cost=cost,
        exact=exact,
        reference=reference,
        outcomes=full,
        probabilities=probabilities,
        outcome_list=tuple((draw,) for draw in draws),
        in_logits=True,
    )
