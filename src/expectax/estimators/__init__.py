"""One file per estimator. The names are the public contract."""

from ._base import (
    AbstractEstimator as AbstractEstimator,
    Claims as Claims,
    Estimate as Estimate,
    Evaluations as Evaluations,
)
from .arm import ARM as ARM
from .direct_argmax import DirectArgmax as DirectArgmax
from .disarm import DisARM as DisARM
from .enumerate import Enumerate as Enumerate
from .gumbel_softmax import GumbelSoftmax as GumbelSoftmax
from .leave_one_out import LeaveOneOut as LeaveOneOut
from .muprop import MuProp as MuProp
from .nvil import NVIL as NVIL
from .pathwise import Pathwise as Pathwise
from .rebar import REBAR as REBAR
from .relax import RELAX as RELAX
from .score_function import ScoreFunction as ScoreFunction
from .straight_through import StraightThrough as StraightThrough
from .straight_through_gumbel_softmax import (
    StraightThroughGumbelSoftmax as StraightThroughGumbelSoftmax,
)
