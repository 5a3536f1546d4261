"""From what the user passed to views: the one place that knows NumPyro's class names."""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from .._errors import IncompatibleError, InvalidArgumentError, complain
from .._numerics import finite_logits, log_odds, log_probability, working_dtype
from ._base import Changeable, Reparameterized, Scored, Solvable, View
from ._bernoulli import BernoulliView
from ._categorical import CategoricalView, OneHotView
from ._factorized import Binary, OneHot
from ._generic import (
    EnumerableView,
    GenericView,
    ReparameterizedView,
    concrete_support,
    strip,
)
from ._implicit import implicit_view
from ._joint import Joint
from ._one_hot import OneHotCategorical
from ._plackett_luce import PlackettLuce, PlackettLuceView, TopK, TopKView
from ._signed import (
    ExponentialView,
    GammaView,
    GeometricLogitsView,
    GeometricView,
    NormalView,
    PoissonView,
    SignedBinomialView,
    SignedCategoricalView,
    SignedEnumerableBinomialView,
    named_view,
)
from ._structures import PerturbAndMAP, structure_view
from ._subset import Subset, SubsetView


def _is_distribution(x: Any) -> bool:
    return isinstance(x, dist.Distribution)


def _float(x: Any) -> jax.Array:
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.result_type(float))


_NAMED: dict[type, Any] = {
    dist.Normal: NormalView,
    dist.Exponential: ExponentialView,
    dist.Gamma: GammaView,
    dist.Poisson: PoissonView,
    dist.GeometricProbs: GeometricView,
    dist.GeometricLogits: GeometricLogitsView,
}
"""Families whose weak derivatives are known; by their very class, for a subclass differs."""


def view(q: dist.Distribution) -> View:
    """The view of one NumPyro distribution."""
    base: Any = strip(q)
    shape = (*q.batch_shape, *q.event_shape)
    num_batch_dims = len(q.batch_shape)
    if isinstance(base, dist.MaskedDistribution) and base._mask is not True:
        raise IncompatibleError(
            complain(
                f"q holds a masked {type(strip(base.base_dist)).__name__}",
                "where it is masked, its log-probability of 0 is not that of what it draws",
                "pass the distribution without mask(): its draws that do not count leave the cost "
                "as it is, if f or log_joint multiplies by the mask",
            )
        )

    if isinstance(base, dist.BernoulliLogits | dist.BernoulliProbs):
        by_logits = isinstance(base, dist.BernoulliLogits)
        logits = _float(base.logits) if by_logits else log_odds(_float(base.probs))
        return BernoulliView(jnp.broadcast_to(logits, shape), num_batch_dims)
    if isinstance(base, OneHotCategorical):
        return OneHotView(jnp.broadcast_to(_float(base.logits), shape), num_batch_dims)
    if isinstance(base, Subset | TopK | PlackettLuce):
        return _set_view(base, shape, num_batch_dims)
    if isinstance(base, PerturbAndMAP):
        return structure_view(base, shape, num_batch_dims)
    if isinstance(base, dist.CategoricalLogits | dist.CategoricalProbs):
        by_logits = isinstance(base, dist.CategoricalLogits)
        weights = _float(base.logits) if by_logits else log_probability(_float(base.probs))
        weights = jnp.broadcast_to(weights, (*shape, weights.shape[-1]))
        return SignedCategoricalView(weights, num_batch_dims)  # type: ignore[call-arg]
    if isinstance(base, dist.BinomialLogits | dist.BinomialProbs):
        by_logits = isinstance(base, dist.BinomialLogits)
        logits = _float(base.logits) if by_logits else log_odds(_float(base.probs))
        logits, support = jnp.broadcast_to(logits, shape), concrete_support(base)
        rest = (base.total_count, q, num_batch_dims)
        if support is None:
            return SignedBinomialView(logits, *rest)  # type: ignore[call-arg]
        return SignedEnumerableBinomialView(logits, *rest, support)  # type: ignore[call-arg]
    if type(base) in _NAMED:
        return named_view(_NAMED[type(base)], q)
    implicit = implicit_view(q)
    if implicit is not None:
        return implicit
    if q.has_rsample and not q.is_discrete:
        return ReparameterizedView(q)
    if base.has_enumerate_support and base.event_dim == 0:
        support = concrete_support(base)
        if support is not None:
            return EnumerableView(q, support=support)
    return GenericView(q)


def _set_view(base: Any, shape: tuple[int, ...], num_batch_dims: int) -> View:
    """The view of a distribution over sets or orders, batch and event shape together `shape`."""
    given = _float(base.logits)
    logits = finite_logits(given.astype(working_dtype(given.dtype)))
    if isinstance(base, PlackettLuce):  # one score for all places
        logits = jnp.broadcast_to(logits[..., None, :], (*shape[:-2], 1, shape[-1]))
        kind: Any = PlackettLuceView
    else:
        logits = jnp.broadcast_to(logits, shape)
        kind = SubsetView if isinstance(base, Subset) else TopKView
    return kind(logits=logits, k=base.k, num_batch_dims=num_batch_dims, dtype=given.dtype)


def joint(q: Any) -> Joint:
    """The views of a distribution, or of a pytree of them with one batch shape."""
    leaves, structure = jax.tree.flatten_with_path(q, is_leaf=_is_distribution)
    if not leaves:
        raise InvalidArgumentError(
            complain(
                f"q has no distribution in it: {q!r}",
                "an expectation needs at least one random choice",
                "pass a NumPyro distribution, or a dict or tuple of them",
            )
        )
    for path, leaf in leaves:
        if not _is_distribution(leaf):
            raise InvalidArgumentError(
                complain(
                    f"q{jax.tree_util.keystr(path)} is a {type(leaf).__name__}",
                    "q must be a NumPyro distribution, or a pytree whose leaves all are",
                    "pass numpyro.distributions.Bernoulli(logits=...), "
                    "expectax.OneHotCategorical(logits=...) or the like",
                )
            )
    shapes = {leaf.batch_shape for _, leaf in leaves}
    if len(shapes) > 1:
        sites = ", ".join(f"q{jax.tree_util.keystr(p)}: {d.batch_shape}" for p, d in leaves)
        raise InvalidArgumentError(
            complain(
                f"the sites of q have different batch shapes ({sites})",
                "they are drawn jointly, one draw of every site for each batch element",
                "use .to_event(n) for axes that are variables, and .expand(batch_shape) for sites "
                "shared by the batch",
            )
        )
    return Joint(
        sites=tuple(view(leaf) for _, leaf in leaves),
        structure=structure,
        batch_shape=shapes.pop(),
        names=tuple(
            f"{type(leaf).__name__} at q{jax.tree_util.keystr(path)}"
            if path
            else type(strip(leaf)).__name__
            for path, leaf in leaves
        ),
    )


def _advice(capability: type, site: View) -> str:
    if isinstance(site, CategoricalView) and issubclass(OneHotView, capability):
        return "expectax.OneHotCategorical(logits=...) in place of the integer Categorical"
    if isinstance(site, SubsetView) and issubclass(capability, Solvable):
        return "expectax.TopK(logits, k), whose draws are; or StraightThrough(), LeaveOneOut()"
    if isinstance(site, Solvable) and not isinstance(site, Scored):
        direct = "" if isinstance(site, Changeable) else "; DirectArgmax() tries at most 32768"
        return f"PerturbedArgmax() or ImplicitMLE(), which ask for draws alone{direct}"
    if capability is Binary:
        return "Bernoulli variables, or an estimator for categories: REBAR, LeaveOneOut"
    if capability is OneHot:
        return "OneHotCategorical variables, or an estimator for bits: DisARM, ARMS, LeaveOneOut"
    if capability is Reparameterized and _is_discrete(site):
        return "an estimator for discrete variables: DisARM, LeaveOneOut, REBAR, Enumerate"
    if isinstance(site, Reparameterized):
        return "Pathwise(), or ScoreFunction() and LeaveOneOut() where f has no derivative"
    return "ScoreFunction() or LeaveOneOut(), which serve every distribution"


def _is_discrete(site: View) -> bool:
    return not isinstance(site, GenericView) or site.distribution.is_discrete


def _lacking(capability: type[View], site: View) -> str:
    """Why a site does not have a capability, in words that follow "it needs ..., and "."""
    if capability is not Reparameterized or not isinstance(site, GenericView):
        return capability.lacking
    base: Any = strip(site.distribution)
    if _is_discrete(site) or isinstance(base, dist.MixtureSameFamily | dist.MixtureGeneral):
        known = "of independent normal or logistic variables"
        return capability.lacking if _is_discrete(site) else f"only mixtures {known} have one"
    dropped = sorted(set(base.arg_constraints) - set(base.reparametrized_params))
    if not dropped:
        return capability.lacking
    return f"its sampler drops the derivative in {', '.join(dropped)}"


def require(q: Joint, capability: type[View], estimator: Any) -> None:
    """Raise unless every site of q has the capability that the estimator needs."""
    for site, name in zip(q.sites, q.names, strict=True):
        if not isinstance(site, capability):
            why = _lacking(capability, site)
            raise IncompatibleError(
                complain(
                    f"{type(estimator).__name__} cannot serve {name}",
                    f"it needs a `{capability.__name__}` distribution, and {why}",
                    f"pass {_advice(capability, site)}",
                )
            )
