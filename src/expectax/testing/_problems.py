"""Small problems whose gradient is known exactly, each in two independent ways.

`Problem.exact` is E_q[f] as a differentiable function of the parameters, written out with plain
`jax.nn`: no view, no `log_prob` and no estimator of this library. `Problem.reference` is the same
number by plain Python loops or by quadrature in NumPy, so that the oracle itself has a check.

The cases that estimators get wrong are batch elements of one problem, so one compiled program
serves them all: asymmetric probabilities, logits of exactly zero, p = 1e-4 and 1 − 1e-4, masked
categories, costs with parameters of their own, outer weights of both signs.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from .._expect import expect
from ..distributions import OneHotCategorical
from ..estimators import AbstractEstimator

Params = dict[str, Any]
"""{"q": parameters of q, "f": parameters of the cost}, as NumPy arrays in float64."""

RARE = math.log(1e-4 / (1 - 1e-4))
"""The logit of p = 1e-4."""


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """An expectation with a known gradient.

    Attributes:
        name: in reports.
        params: {"q": ..., "f": ...}, float64.
        weights: how much each batch element counts in the loss, shape batch; of both signs.
        make_q: from params["q"] to q.
        cost: (params["f"], draw) to a cost of shape batch.
        exact: params to E_q[f], shape batch: differentiable, independent of the library.
        reference: the same by another road, in NumPy.
        outcomes: all joint outcomes with a leading axis, and from params["q"] to their
            probabilities, shape (outcomes,) + batch; None for continuous problems.
        outcome_list: the same outcomes of one batch element, the sites of each as a tuple.
        in_logits: whether params["q"] are logits, and nothing else.
        layers: the two-layer problem of this kind, for nested expectations.
    """

    name: str
    params: Params
    weights: np.ndarray
    make_q: Callable[[Any], Any]
    cost: Callable[[Any, Any], Array]
    exact: Callable[[Params], Array]
    reference: Callable[[Params], np.ndarray]
    outcomes: Any = None
    probabilities: Callable[[Any], Array] | None = None
    outcome_list: tuple[tuple[np.ndarray, ...], ...] = ()
    in_logits: bool = False
    layers: "Layers | None" = None

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The batch shape of q and of the cost."""
        return self.weights.shape

    def value(self, params: Params, estimator: AbstractEstimator, key: Any) -> Float[Array, "..."]:
        """The estimate of E_q[f], shape batch."""
        cost = lambda draw: self.cost(params["f"], draw)
        return expect(key, self.make_q(params["q"]), cost, estimator)

    def linear(self) -> Params:
        """These parameters with a cost that is linear in the draw."""
        return {"q": self.params["q"], "f": {**self.params["f"], "curve": self._zeros("curve")}}

    def quadratic(self) -> Params:
        """These parameters with a cost that is quadratic in the draw.

        The slope is reversed: as it is, some gradient would almost cancel, and any noise beside it
        be too much.
        """
        f = self.params["f"]
        return {"q": self.params["q"], "f": {**f, "wave": 0 * f["wave"], "slope": -f["slope"]}}

    def constant(self) -> Params:
        """These parameters with a cost that does not depend on the draw."""
        zeros = {name: self._zeros(name) for name in self.params["f"] if name != "offset"}
        return {"q": self.params["q"], "f": {**zeros, "offset": self.params["f"]["offset"]}}

    def _zeros(self, name: str) -> np.ndarray:
        return np.zeros_like(self.params["f"][name])


@dataclasses.dataclass(frozen=True, eq=False)
class Layers:
    """Two layers of random choices: an expectation inside the cost of another.

    Attributes:
        params, weights, exact, reference: as in `Problem`.
        nested: (params, outer estimator, inner estimator, key) to the estimate, shape batch.
    """

    name: str
    params: Params
    weights: np.ndarray
    nested: Callable[..., Array]
    exact: Callable[[Params], Array]
    reference: Callable[[Params], np.ndarray]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The batch shape of both layers."""
        return self.weights.shape

    def value(self, params: Params, estimator: AbstractEstimator, key: Any) -> Float[Array, "..."]:
        """The estimate, with the same estimator in both layers."""
        return self.nested(params, estimator, estimator, key)


# Discrete problems: a dict of sites of bits or one-hot variables, and one cost for all of them


@dataclasses.dataclass(frozen=True)
class Site:
    """One random variable of a discrete problem.

    Attributes:
        kind: "bits", or "hot" with the categories on the last axis.
        by: "logits" or "probs".
        event: event shape.
    """

    kind: str
    by: str
    event: tuple[int, ...]

    def distribution(self, x: Array) -> Any:
        """The distribution with these parameters, shape batch + event."""
        if self.kind == "bits":
            bits = dist.Bernoulli(logits=x) if self.by == "logits" else dist.Bernoulli(probs=x)
            return bits.to_event(len(self.event))
        return OneHotCategorical(**{self.by: x}).to_event(len(self.event) - 1)

    def probability(self, x: Array, outcome: np.ndarray) -> Float[Array, "..."]:
        """The probability of one outcome, shape batch."""
        if self.kind == "bits":
            p = jax.nn.sigmoid(x) if self.by == "logits" else x
            chosen = jnp.where(outcome == 1, p, 1 - p)
        else:
            p = jax.nn.softmax(x) if self.by == "logits" else x / jnp.sum(x, -1, keepdims=True)
            chosen = jnp.sum(p * outcome, axis=-1)
        num_batch_dims = x.ndim - len(self.event)
        return jnp.prod(chosen, axis=tuple(range(num_batch_dims, chosen.ndim)))

    def plain_probability(self, x: np.ndarray, outcome: np.ndarray) -> float:
        """The same for one batch element, with Python's own arithmetic."""
        p = 1.0
        if self.kind == "bits":
            for t, b in zip(x.ravel(), outcome.ravel(), strict=True):
                one = 1 / (1 + math.exp(-t)) if self.by == "logits" else t
                p *= one if b == 1 else 1 - one
            return p
        c = self.event[-1]
        for row, hot in zip(x.reshape(-1, c), outcome.reshape(-1, c), strict=True):
            weight = [math.exp(t) if self.by == "logits" else t for t in row]
            p *= sum(w for w, b in zip(weight, hot, strict=True) if b == 1) / sum(weight)
        return p

    def outcomes(self) -> list[np.ndarray]:
        """Every outcome, shape event."""
        if self.kind == "bits":
            values, num = [0.0, 1.0], math.prod(self.event)
        else:
            values, num = list(np.eye(self.event[-1])), math.prod(self.event[:-1])
        return [
            np.array(o, float).reshape(self.event) for o in itertools.product(values, repeat=num)
        ]


def features(draw: Any, batch_ndim: int) -> Float[Array, "... M"]:
    """All leaves of a draw in one vector per batch element."""
    leaves = [x.reshape((*x.shape[:batch_ndim], -1)) for x in jax.tree.leaves(draw)]
    return jnp.concatenate(leaves, axis=-1)


def curved_cost(f: dict[str, Array], x: Float[Array, "... M"]) -> Float[Array, "..."]:
    """offset + slope·x + t² + wave·sin 3t, t = curve·x: no symmetry; linear if curve = 0."""
    t = x @ f["curve"]
    line = f["offset"] + jnp.sum(f["slope"] * x, axis=-1)
    return line + t**2 + f["wave"] * jnp.sin(3 * t)


def cost_params(rng: np.random.Generator, batch: tuple[int, ...], size: int) -> dict[str, Any]:
    """Parameters of `curved_cost`, with magnitudes away from zero."""
    signs = rng.choice([-1.0, 1.0], size=(*batch, size))
    return {
        "offset": rng.uniform(-0.5, 0.5, size=batch),
        "slope": signs * rng.uniform(0.5, 1.5, size=(*batch, size)),
        "curve": rng.uniform(0.5, 0.9, size=size) * np.where(np.arange(size) % 3 == 1, -1, 1),
        "wave": np.ones(()),
    }


def discrete(
    name: str, sites: dict[str, Site] | Site, q: Any, seed: int, layers: Layers | None = None
) -> Problem:
    """A problem over bits and one-hot variables.

    Arguments:
        sites: one site, or a dict of them: the structure of q.
        q: parameters with that structure, each of shape batch + event.
        seed: of the cost's parameters.
    """
    is_site = lambda x: isinstance(x, Site)
    flat, structure = jax.tree.flatten(sites, is_leaf=is_site)
    columns = structure.flatten_up_to(q)
    batch = columns[0].shape[: columns[0].ndim - len(flat[0].event)]
    joint = list(itertools.product(*(site.outcomes() for site in flat)))
    stacked = [np.stack([o[i] for o in joint]) for i in range(len(flat))]
    full = [
        np.broadcast_to(x.reshape(len(joint), *(1,) * len(batch), *s.event),
                        (len(joint), *batch, *s.event)) for x, s in zip(stacked, flat, strict=True)
    ]  # fmt: skip
    outcomes = structure.unflatten(full)
    rng = np.random.default_rng(seed)
    size = sum(math.prod(s.event) for s in flat)

    def make_q(q: Any) -> Any:
        return jax.tree.map(lambda s, x: s.distribution(x), sites, q, is_leaf=is_site)

    def cost(f: Any, draw: Any) -> Array:
        return curved_cost(f, features(draw, len(batch)))

    def probabilities(q: Any) -> Array:
        columns = structure.flatten_up_to(q)
        rows = [
            math.prod(s.probability(x, b) for s, x, b in zip(flat, columns, o, strict=True))
            for o in joint
        ]
        return jnp.stack(rows)

    def exact(params: Params) -> Array:
        costs = jax.vmap(lambda b: cost(params["f"], b))(jax.tree.map(jnp.asarray, outcomes))
        return jnp.sum(probabilities(params["q"]) * costs, axis=0)

    def reference(params: Params) -> np.ndarray:
        columns, total = structure.flatten_up_to(params["q"]), np.zeros(batch)
        for o in joint:
            x = np.concatenate([b.ravel() for b in o])
            for i in np.ndindex(*batch):
                p = math.prod(
                    s.plain_probability(c[i], b) for s, c, b in zip(flat, columns, o, strict=True)
                )
                t = float(np.dot(params["f"]["curve"], x))
                line = params["f"]["offset"][i] + float(np.dot(params["f"]["slope"][i], x))
                total[i] += p * (line + t**2 + float(params["f"]["wave"]) * math.sin(3 * t))
        return total

    return Problem(
        name=name,
        params={"q": q, "f": cost_params(rng, batch, size)},
        weights=outer_weights(batch),
        make_q=make_q,
        cost=cost,
        exact=exact,
        reference=reference,
        outcomes=outcomes,
        probabilities=probabilities,
        outcome_list=tuple(joint),
        in_logits=all(s.by == "logits" for s in flat),
        layers=layers,
    )


def outer_weights(batch: tuple[int, ...]) -> np.ndarray:
    """How much each batch element counts: different, and of both signs."""
    size = math.prod(batch)
    return np.resize([1.0, -0.7, 1.3, 0.6], size).reshape(batch)
