"""Learning of tables at a price that does not grow with them: only the rows that a step touches.

`jax.grad` of a loss in a table of V rows is V rows, nearly all of them zero, and an optimiser goes
over all of them. Here the loss is a function of the rows that were looked up; its gradient is
theirs, and is added to theirs:

    found = look_up(model, rows)
    value, gradients = jax.value_and_grad(loss)(found)
    model, sums = descend(model, sums, rows, gradients, rate)

Inside a compiled loop, or with donated arguments, nothing else of the tables moves.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..models import Found, Rows

if TYPE_CHECKING:
    import optax

Model = TypeVar("Model", bound=eqx.Module)

Sums = dict[str, Float[Array, "V"]]
"""The squares of its gradients that a row has seen, by the name of its table."""

START = 0.1
"""Where those sums begin: the first gradients of a row, of rare words above all, are no scale."""


def begin(model: eqx.Module, start: float = START) -> Sums:
    """The sums before the first step, of every table of the model."""
    names = [field.name for field in dataclasses.fields(model)]
    return {name: jnp.full(len(getattr(model, name)), start) for name in names}


def descend(
    model: Model, sums: Sums, rows: Rows, gradients: Found, rate: Float[Array, ""] | float
) -> tuple[Model, Sums]:
    """A step of row-wise Adagrad, on these rows: G_r ← G_r + mean(g²), row ← row − rate g / √G_r.

    A row that is named several times has each of its gradients counted in G_r as one of its own,
    and all of them subtracted; a table named `...` has all its rows touched once.

    Arguments:
        model: its fields are tables.
        sums: G.
        rows: as the model names them.
        gradients: at those rows, of the shapes that `look_up` gave.
        rate: of learning.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from expectax.models import look_up, skip_gram
        >>> model = skip_gram(jax.random.key(0), 50, num_dimensions=8)
        >>> rows = model.rows(jnp.array([3, 7]), jnp.array([[4, 4], [1, 2]]))
        >>> loss = lambda found: jnp.sum((model.score_rows(found) - 1) ** 2)
        >>> gradients = jax.grad(loss)(look_up(model, rows))
        >>> after, sums = descend(model, begin(model), rows, gradients, 0.1)
        >>> jnp.any(after.outputs != model.outputs, axis=1).nonzero()[0].tolist()
        [1, 2, 4]

    Reference: Duchi, Hazan & Singer (2011), with one rate for each row.
    """
    tables, after = {}, dict(sums)
    for name, row in rows.items():
        table, gradient = getattr(model, name), gradients[name]
        after[name] = sums[name].at[row].add(_mean_square(gradient, table.ndim - 1))
        scale = rate * jax.lax.rsqrt(after[name][row])
        scale = scale.reshape(*scale.shape, *(1,) * (table.ndim - 1))
        tables[name] = table.at[row].add(-scale * gradient)
    return dataclasses.replace(model, **tables), after


def row_adagrad(rate: "optax.ScalarOrSchedule", start: float = START) -> Any:
    """The same for optax: whole tables, with the gradients of all their rows.

    Where every row of a table is touched by a step, as by the gradient of a full softmax.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> table = jnp.zeros((3, 2))
        >>> rule = row_adagrad(0.1, start=0.0)
        >>> gradient = jnp.array([[3.0, 3.0], [2.0, -1.0], [0.5, 0.5]])
        >>> updates, _ = rule.update(gradient, rule.init(table))
        >>> print(updates.round(3))
        [[-0.1   -0.1  ]
         [-0.126  0.063]
         [-0.1   -0.1  ]]
    """
    import optax

    def init(params: Any) -> Any:
        return jax.tree.map(lambda table: jnp.full(len(table), start), params)

    def update(gradients: Any, sums: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        more = jax.tree.map(lambda g: _mean_square(g, g.ndim - 1), gradients)
        sums = jax.tree.map(jnp.add, sums, more)

        def scaled(gradient: Array, total: Array) -> Array:
            total = total.reshape(-1, *(1,) * (gradient.ndim - 1))
            positive = total > 0  # a row without any gradient stays, though it begins at 0
            return jnp.where(positive, gradient * jax.lax.rsqrt(jnp.where(positive, total, 1)), 0)

        return jax.tree.map(scaled, gradients, sums), sums

    return optax.chain(
        optax.GradientTransformation(init, update),  # type: ignore[arg-type]
        optax.scale_by_learning_rate(rate),
    )


def _mean_square(gradient: Array, num_axes: int) -> Array:
    """Over the last axes, those of a row."""
    return jnp.mean(gradient**2, axis=tuple(range(-num_axes, 0))) if num_axes else gradient**2
