"""Expectax: the gradient of an expectation over random choices, in JAX."""

from . import gumbel as gumbel
from ._errors import (
    ExpectaxError as ExpectaxError,
    HigherOrderError as HigherOrderError,
    IncompatibleError as IncompatibleError,
    InvalidArgumentError as InvalidArgumentError,
    UnderpoweredError as UnderpoweredError,
)
from ._expect import expect as expect
from .diagnostics import (
    BiasedError as BiasedError,
    Comparison as Comparison,
    ComparisonRow as ComparisonRow,
    LeafReport as LeafReport,
    Moments as Moments,
    UnbiasedReport as UnbiasedReport,
    check_unbiased as check_unbiased,
    compare as compare,
    gradient_moments as gradient_moments,
)
from .distributions import OneHotCategorical as OneHotCategorical
from .estimators import (
    ARM as ARM,
    NVIL as NVIL,
    REBAR as REBAR,
    RELAX as RELAX,
    AbstractEstimator as AbstractEstimator,
    Claims as Claims,
    DirectArgmax as DirectArgmax,
    DisARM as DisARM,
    Enumerate as Enumerate,
    Estimate as Estimate,
    GumbelSoftmax as GumbelSoftmax,
    LeaveOneOut as LeaveOneOut,
    MuProp as MuProp,
    Pathwise as Pathwise,
    ScoreFunction as ScoreFunction,
    StraightThrough as StraightThrough,
    StraightThroughGumbelSoftmax as StraightThroughGumbelSoftmax,
)

__version__ = "0.1.0"
