"""One file per estimator; the package's root exports each by name."""

from ._base import (
    AbstractEstimator as AbstractEstimator,
    Claims as Claims,
    Estimate as Estimate,
    Evaluations as Evaluations,
)
