"""Losses written with `expect`, and bounds to evaluate a model by. They take the estimator."""

from ._analytic import (
    kl_divergence as kl_divergence,
    neg_elbo_analytic_kl as neg_elbo_analytic_kl,
)
from ._attention import (
    AbstractLocationGradient as AbstractLocationGradient,
    PathwiseLocations as PathwiseLocations,
    ScoreLeaveOneOut as ScoreLeaveOneOut,
    ScoreWithBaseline as ScoreWithBaseline,
    glimpse_loss as glimpse_loss,
    masked_loss as masked_loss,
    mistake as mistake,
    surprise as surprise,
)
from ._bounds import hard_elbo as hard_elbo, importance_bound as importance_bound
from ._contrastive_divergence import (
    UndirectedModel as UndirectedModel,
    contrastive_divergence as contrastive_divergence,
    persistent_contrastive_divergence as persistent_contrastive_divergence,
)
from ._elbo import elbo as elbo, neg_elbo as neg_elbo
from ._hierarchy import (
    Hierarchy as Hierarchy,
    hierarchical_bound as hierarchical_bound,
    hierarchical_hard_elbo as hierarchical_hard_elbo,
    hierarchical_neg_elbo as hierarchical_neg_elbo,
)
from ._mean_field import (
    VariationalModel as VariationalModel,
    mean_field_contrastive_divergence as mean_field_contrastive_divergence,
)
from ._multi_sample import (
    VIMCO as VIMCO,
    AbstractBoundGradient as AbstractBoundGradient,
    DoublyReparameterized as DoublyReparameterized,
    neg_multi_sample_bound as neg_multi_sample_bound,
)
from ._noise_contrastive import (
    negative_sampling as negative_sampling,
    noise_contrastive as noise_contrastive,
    told_apart as told_apart,
)
from ._per_datum import (
    Optimizer as Optimizer,
    amortization_gap as amortization_gap,
    fit_each as fit_each,
)
from ._prediction import (
    Generator as Generator,
    prediction_bound as prediction_bound,
    prediction_loss as prediction_loss,
)
from ._rollouts import (
    Policy as Policy,
    complete as complete,
    rollout_baseline as rollout_baseline,
    rollout_returns as rollout_returns,
)
from ._semi_supervised import (
    Labelled as Labelled,
    label_loss as label_loss,
    labelled_neg_elbo as labelled_neg_elbo,
    unlabelled_neg_elbo as unlabelled_neg_elbo,
)
from ._trajectory import (
    leave_one_out as leave_one_out,
    returns_to_go as returns_to_go,
    trajectory_loss as trajectory_loss,
)
from ._wake_sleep import (
    reweighted_wake_sleep as reweighted_wake_sleep,
    sleep_loss as sleep_loss,
    wake_loss as wake_loss,
    wake_sleep as wake_sleep,
)
