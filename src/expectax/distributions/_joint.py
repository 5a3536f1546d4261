"""A pytree of views drawn jointly: what an estimator is handed."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from .. import gumbel
from .._trees import sum_leaves
from .._types import PRNGKey
from ._generic import aligned, with_fixed_support
from ._inversion import require_quantile


class Joint(eqx.Module):
    """Independent sites with one batch shape.

    Every method of a single view is here for the whole tree: draws, noise, logits and cotangents
    are pytrees with the structure that the user gave to q, log-probabilities are summed.
    """

    sites: tuple[Any, ...]  # views; `require` has checked that they can do what is asked
    structure: Any = eqx.field(static=True)
    batch_shape: tuple[int, ...] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)

    @property
    def batch_ndim(self) -> int:
        """The number of batch axes."""
        return len(self.batch_shape)

    def opened(self) -> tuple[PyTree, Callable[[PyTree], "Joint"]]:
        """The floating leaves of the sites, and q as a function of them."""
        moving, fixed = eqx.partition(self.sites, eqx.is_inexact_array)
        close = lambda leaves: eqx.tree_at(lambda q: q.sites, self, eqx.combine(leaves, fixed))
        return moving, close

    def aligned(self) -> PyTree:
        """For each leaf of `opened`, whether each of its entries belongs to one batch element."""
        flags = [flag for site in self.sites for flag in aligned(site)]
        return jax.tree.unflatten(jax.tree.structure(self.opened()[0]), flags)

    def _pack(self, per_site: list[Any]) -> PyTree:
        return jax.tree.unflatten(self.structure, per_site)

    def _each(self, method: Callable[..., Any], *trees: PyTree) -> PyTree:
        columns = [self.structure.flatten_up_to(tree) for tree in trees]
        return self._pack([method(*row) for row in zip(self.sites, *columns, strict=True)])

    def _draw(self, method: Callable[..., Any], key: PRNGKey, num: int) -> PyTree:
        if len(self.sites) == 1:
            return self._pack([method(self.sites[0], key, num)])
        keys = jax.random.split(key, len(self.sites))
        return self._pack([method(s, k, num) for s, k in zip(self.sites, keys, strict=True)])

    # Scored
    def sample(self, key: PRNGKey, num: int) -> PyTree:
        """`num` joint draws, each leaf (num,) + batch + event."""
        return self._draw(lambda s, k, n: s.sample(k, n), key, num)

    def uniforms(self, key: PRNGKey, num: int, size: int, coupling: Any) -> PyTree:
        """Uniforms for `num` draws, coupled in groups of `size`: for `quantile`."""
        for site, name in zip(self.sites, self.names, strict=True):
            require_quantile(site, name, coupling)
        counts = [math.prod(s.uniform_shape[self.batch_ndim :]) for s in self.sites]
        dtypes = [jnp.promote_types(s.draw_dtype, jnp.float32) for s in self.sites]
        shape = (*self.batch_shape, sum(counts))
        # all sites at once: a net of points covers all variables of a draw
        u = coupling.uniforms(key, num, size, shape, jnp.result_type(*dtypes))
        ends = [sum(counts[: i + 1]) for i in range(len(counts))]
        parts = [u[..., end - n : end] for n, end in zip(counts, ends, strict=True)]
        return self._pack(
            [x.reshape((num, *s.uniform_shape)) for x, s in zip(parts, self.sites, strict=True)]
        )

    def quantile(self, uniforms: PyTree) -> PyTree:
        """The joint draws that uniforms decide, differentiable where the sites' are."""
        return self._each(lambda s, u: s.quantile(u), uniforms)

    def log_prob(self, value: PyTree) -> Float[Array, "S *batch"]:
        """log q summed over the sites; not to be differentiated in where a support ends."""
        return self.with_fixed_support(self.log_density(value))

    def log_density(self, value: PyTree) -> Float[Array, "S *batch"]:
        """The same, differentiable in everything: not for a gradient that is made of it alone."""
        return sum_leaves(self._each(lambda s, v: s.log_prob(v), value))

    def with_fixed_support(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """`x`, which refuses to be differentiated in where q can lie."""
        for site in self.sites:
            if hasattr(site, "distribution"):
                x = with_fixed_support(site.distribution, x)
        return x

    def example(self) -> PyTree:
        """Shape and type of one draw, batch + event."""
        return self._each(
            lambda s: jax.ShapeDtypeStruct((*s.batch_shape, *s.event_shape), s.draw_dtype)
        )

    # Enumerable
    @property
    def num_outcomes(self) -> int:
        """The number of joint outcomes."""
        return math.prod(s.num_outcomes for s in self.sites)

    def outcome(self, index: Int[Array, "S ..."]) -> PyTree:
        """The joint outcomes of these numbers, of shape (S,) or (S,) + batch."""
        drawn = []
        for site in self.sites:
            drawn.append(site.outcome(index % site.num_outcomes))
            index = index // site.num_outcomes
        return self._pack(drawn)

    def choose(
        self, key: PRNGKey, log_p: Float[Array, "N *batch"], num: int
    ) -> Int[Array, "S *batch"]:
        """The numbers of `num` distinct outcomes, drawn without replacement by Gumbel top-k.

        Arguments:
            key: consumed.
            log_p: of every outcome, normalised or not; −inf is never drawn before the others.
            num: how many; with 1, a plain draw.
        """
        perturbed = log_p + gumbel.gumbel(key, log_p.shape, log_p.dtype)
        if num == 1:  # much faster than the sort behind `top_k`
            return jnp.argmax(perturbed, axis=0, keepdims=True)
        return jnp.moveaxis(jax.lax.top_k(jnp.moveaxis(perturbed, 0, -1), num)[1], -1, 0)

    # Solvable
    @property
    def logits(self) -> PyTree:
        """θ of every site."""
        return self._each(lambda s: s.logits)

    @property
    def mean(self) -> PyTree:
        """E[b] of every site."""
        return self._each(lambda s: s.mean)

    def perturb(self, key: PRNGKey) -> PyTree:
        """z = θ + noise for one draw (no axis of draws), without gradient."""

        def one(site, key, num):
            return (jax.lax.stop_gradient(site.logits) + site.noise(key, num))[0]

        return self._draw(one, key, 1)

    def noise(self, key: PRNGKey, num: int) -> PyTree:
        """Standard noise for `num` draws."""
        return self._draw(lambda s, k, n: s.noise(k, n), key, num)

    def noise_score(self, noise: PyTree) -> PyTree:
        """The score of z = θ + noise with respect to θ."""
        return self._each(lambda s, e: s.noise_score(e), noise)

    def contract(self, left: PyTree, right: PyTree) -> PyTree:
        """The inner product within each variable; its axes are kept, with length one."""

        def one(site, a, b):
            return jnp.sum(a * b, axis=tuple(range(-site.variable_ndim, 0)), keepdims=True)

        return self._each(one, left, right)

    def harden(self, perturbed: PyTree) -> PyTree:
        """Hard draws from perturbed logits."""
        return self._each(lambda s, z: s.harden(z), perturbed)

    def relax(self, perturbed: PyTree, temperature: Array) -> PyTree:
        """Relaxed draws from perturbed logits."""
        return self._each(lambda s, z: s.relax(z, temperature), perturbed)

    def score(self, draw: PyTree) -> PyTree:
        """∂log q/∂θ at a draw, without gradient."""
        return jax.lax.stop_gradient(self._each(lambda s, b: s.score(b), draw))

    def pull(self, at: PyTree, cotangent: PyTree) -> PyTree:
        """J(a) g, the derivative of the mean if the mean were a."""
        return self._each(lambda s, a, g: s.pull(a, g), at, cotangent)

    def conditional(self, key: PRNGKey, draw: PyTree, num: int) -> PyTree:
        """`num` perturbed logits given one hard draw (no axis of draws), without gradient."""
        keys = self._pack(list(jax.random.split(key, len(self.sites))))
        given = lambda s, k, b: jax.lax.stop_gradient(s).conditional(k, b, num)
        return jax.lax.stop_gradient(self._each(given, keys, draw))

    def gap(self, draw: PyTree, gap: Array) -> PyTree:
        """The shift of θ after which the draw leads by `gap`, without gradient."""
        return jax.lax.stop_gradient(self._each(lambda s, b: s.gap(b, gap), draw))

    def residual(self, perturbed: PyTree, cotangent: PyTree) -> PyTree:
        """∂/∂θ [c(z) − c(z̃)] for a = ∂c/∂z; linear in a, θ held."""
        frozen = jax.lax.stop_gradient(self)
        return frozen._each(lambda s, z, a: s.residual(z, a), perturbed, cotangent)

    def presentable(self, perturbed: PyTree) -> PyTree:
        """Perturbed logits as a network may see them."""
        return self._each(lambda s, z: s.presentable(z), perturbed)

    def pull_mean(self, cotangent: PyTree) -> PyTree:
        """(∂E[b]/∂θ)ᵀ a: J a with J = diag(p) − p pᵀ, or p (1 − p) a for bits."""
        frozen = jax.lax.stop_gradient(self)

        def pull(site, a):
            mean = lambda logits: eqx.tree_at(lambda s: s.logits, site, logits).mean
            _, vjp = jax.vjp(mean, site.logits)
            return vjp(a.astype(site.draw_dtype))[0]

        return frozen._each(pull, cotangent)

    def each_in_turn(self, method: Callable[..., Any], *trees: PyTree) -> PyTree:
        """`method(site, *its entries, put)` for every site, where `put(x)` is the whole last tree
        with this site's entry replaced by x."""
        columns = [self.structure.flatten_up_to(tree) for tree in trees]
        out = []
        for i, site in enumerate(self.sites):
            last = columns[-1]
            put = lambda x, i=i, last=last: self._pack([*last[:i], x, *last[i + 1 :]])
            out.append(method(site, *(column[i] for column in columns), put))
        return self._pack(out)

    # Signed
    @property
    def parameters(self) -> PyTree:
        """The parameters of every site."""
        return self._each(lambda s: s.parameters)

    def triples(self, key: PRNGKey, draw: PyTree) -> PyTree:
        """The triples of every site at a draw (no axis of draws)."""
        keys = iter(jax.random.split(key, len(self.sites)))
        return self._each(lambda s, b: s.triples(next(keys), b), draw)

    # Reparameterized
    def rsample(self, key: PRNGKey, num: int) -> PyTree:
        """`num` joint draws, differentiable in the leaves."""
        return self._draw(lambda s, k, n: s.rsample(k, n), key, num)
