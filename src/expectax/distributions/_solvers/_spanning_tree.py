"""Spanning trees, by Prim's algorithm."""

import itertools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ._base import ListedSolver


class SpanningTreeSolver(ListedSolver):
    """The spanning tree of greatest score over n ≥ 2 nodes, undirected, by Prim's algorithm.

    Scores, shape (n, n): of the edge between nodes i < j. What is not above the diagonal is
    ignored. Forbid an edge by −inf.

    Example:
        >>> import jax.numpy as jnp, expectax as ex
        >>> scores = jnp.zeros((3, 3)).at[0, 1].set(2.0).at[0, 2].set(-1.0).at[1, 2].set(0.5)
        >>> ex.SpanningTreeSolver().solve(scores).tolist()
        [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]

    Reference: Prim (1957); the list is by the sequences of Prüfer (1918).
    """

    score_ndim: ClassVar[int] = 2

    def fault(self, shape):
        return "" if shape[0] == shape[1] > 1 else "each of n ≥ 2 nodes needs a row and a column"

    def solve_one(self, scores):
        weight = jnp.triu(scores, 1) + jnp.triu(scores, 1).T

        def grow(_, state):
            tree, inside, best, link = state  # best: of an edge from each node to the tree
            node = jnp.argmax(jnp.where(inside, -jnp.inf, best))
            tree = tree.at[jnp.minimum(node, link[node]), jnp.maximum(node, link[node])].set(1)
            better = weight[node] > best
            best = jnp.where(better, weight[node], best)
            return tree, inside.at[node].set(True), best, jnp.where(better, node, link)

        n = scores.shape[0]
        start = (jnp.zeros_like(scores), jnp.arange(n) == 0, weight[0], jnp.zeros(n, int))
        return jax.lax.fori_loop(0, n - 1, grow, start)[0]

    def num_structures(self, shape):
        return shape[0] ** (shape[0] - 2)

    def listed(self, shape):
        n = shape[0]
        for code in itertools.product(range(n), repeat=n - 2):
            degree, edges = [1 + code.count(i) for i in range(n)], []
            for node in (*code, None):
                leaf = degree.index(1)
                degree[leaf] = 0
                other = degree.index(1) if node is None else node
                degree[other] -= 1
                edges.append(min(leaf, other) * n + max(leaf, other))
            yield sorted(edges)

    def used(self, shape):
        return np.triu(np.ones(shape, bool), 1)
