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
    Excluded as Excluded,
    LeafReport as LeafReport,
    Moments as Moments,
    Recommendation as Recommendation,
    RecommendationRow as RecommendationRow,
    UnbiasedReport as UnbiasedReport,
    check_unbiased as check_unbiased,
    compare as compare,
    gradient_moments as gradient_moments,
    recommend as recommend,
)
from .distributions import (
    AbstractSolver as AbstractSolver,
    Antithetic as Antithetic,
    AssignmentSolver as AssignmentSolver,
    ChainSolver as ChainSolver,
    Independent as Independent,
    OneHotCategorical as OneHotCategorical,
    PairwiseSolver as PairwiseSolver,
    PerturbAndMAP as PerturbAndMAP,
    PlackettLuce as PlackettLuce,
    QuasiRandom as QuasiRandom,
    SpanningTreeSolver as SpanningTreeSolver,
    Stratified as Stratified,
    Subset as Subset,
    SubsetSolver as SubsetSolver,
    Systematic as Systematic,
    TopK as TopK,
)
from .estimators import (
    AbstractEstimator as AbstractEstimator,
    Claims as Claims,
    Estimate as Estimate,
)
from .estimators.arm import ARM as ARM
from .estimators.arms import ARMS as ARMS
from .estimators.arsm import ARSM as ARSM
from .estimators.bit_flip import BitFlip as BitFlip
from .estimators.carms import CARMS as CARMS
from .estimators.coupled_categorical import CoupledCategorical as CoupledCategorical
from .estimators.direct_argmax import DirectArgmax as DirectArgmax
from .estimators.disarm import DisARM as DisARM
from .estimators.discrete_stein import DiscreteStein as DiscreteStein
from .estimators.double_control_variate import DoubleControlVariate as DoubleControlVariate
from .estimators.enumerate import Enumerate as Enumerate
from .estimators.finite_difference import FiniteDifference as FiniteDifference
from .estimators.gapped_straight_through import GappedStraightThrough as GappedStraightThrough
from .estimators.gumbel_rao import GumbelRao as GumbelRao
from .estimators.gumbel_softmax import GumbelSoftmax as GumbelSoftmax
from .estimators.implicit_mle import ImplicitMLE as ImplicitMLE
from .estimators.lax import LAX as LAX
from .estimators.leave_one_out import LeaveOneOut as LeaveOneOut
from .estimators.local_expectation import LocalExpectation as LocalExpectation
from .estimators.measure_valued import MeasureValued as MeasureValued
from .estimators.muprop import MuProp as MuProp
from .estimators.nvil import NVIL as NVIL
from .estimators.optimal_baseline import OptimalBaseline as OptimalBaseline
from .estimators.pathwise import Pathwise as Pathwise
from .estimators.perturbed_argmax import PerturbedArgmax as PerturbedArgmax
from .estimators.rebar import REBAR as REBAR
from .estimators.reinmax import ReinMax as ReinMax
from .estimators.relax import RELAX as RELAX
from .estimators.score_function import ScoreFunction as ScoreFunction
from .estimators.straight_through import StraightThrough as StraightThrough
from .estimators.straight_through_gumbel_softmax import (
    StraightThroughGumbelSoftmax as StraightThroughGumbelSoftmax,
)
from .estimators.sum_and_sample import SumAndSample as SumAndSample
from .estimators.unordered_set import UnorderedSet as UnorderedSet

__version__ = "0.1.0"
