"""Losses written with `expect`, and bounds to evaluate a model by. They take the estimator."""

from ._analytic import (
    kl_divergence as kl_divergence,
    neg_elbo_analytic_kl as neg_elbo_analytic_kl,
)
from ._bounds import hard_elbo as hard_elbo, importance_bound as importance_bound
from ._elbo import elbo as elbo, neg_elbo as neg_elbo
from ._hierarchy import (
    Hierarchy as Hierarchy,
    hierarchical_bound as hierarchical_bound,
    hierarchical_hard_elbo as hierarchical_hard_elbo,
    hierarchical_neg_elbo as hierarchical_neg_elbo,
)
from ._prediction import (
    Generator as Generator,
    prediction_bound as prediction_bound,
    prediction_loss as prediction_loss,
)
from ._semi_supervised import (
    Labelled as Labelled,
    label_loss as label_loss,
    labelled_neg_elbo as labelled_neg_elbo,
    unlabelled_neg_elbo as unlabelled_neg_elbo,
)
