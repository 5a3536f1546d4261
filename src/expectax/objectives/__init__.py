"""Losses written with `expect`, and bounds to evaluate a model by. They take the estimator."""

from ._bounds import hard_elbo as hard_elbo, importance_bound as importance_bound
from ._elbo import elbo as elbo, neg_elbo as neg_elbo
