"""Is a gradient biased, how noisy is it, and what does it cost: for any estimator and any loss."""

from ._compare import compare as compare
from ._comparison import Comparison as Comparison, ComparisonRow as ComparisonRow
from ._moments import Moments as Moments, gradient_moments as gradient_moments
from ._recommend import recommend as recommend
from ._recommendation import (
    Excluded as Excluded,
    Recommendation as Recommendation,
    RecommendationRow as RecommendationRow,
)
from ._report import (
    BiasedError as BiasedError,
    LeafReport as LeafReport,
    UnbiasedReport as UnbiasedReport,
)
from ._unbiased import check_unbiased as check_unbiased
