"""Views of NumPyro's distributions by capability, and the distributions it lacks."""

from ._alias import AliasTable as AliasTable
from ._base import (
    Averaged as Averaged,
    Changeable as Changeable,
    Enumerable as Enumerable,
    Invertible as Invertible,
    Relaxable as Relaxable,
    Reparameterized as Reparameterized,
    Scored as Scored,
    Signed as Signed,
    Solvable as Solvable,
    View as View,
)
from ._couplings import (
    AbstractCoupling as AbstractCoupling,
    Antithetic as Antithetic,
    Independent as Independent,
    QuasiRandom as QuasiRandom,
    Stratified as Stratified,
    Systematic as Systematic,
    check_coupling as check_coupling,
)
from ._factorized import Binary as Binary, Factorized as Factorized, OneHot as OneHot
from ._joint import Joint as Joint
from ._one_hot import OneHotCategorical as OneHotCategorical
from ._plackett_luce import PlackettLuce as PlackettLuce, TopK as TopK
from ._solvers import (
    AbstractSolver as AbstractSolver,
    AssignmentSolver as AssignmentSolver,
    ChainSolver as ChainSolver,
    PairwiseSolver as PairwiseSolver,
    SpanningTreeSolver as SpanningTreeSolver,
    SubsetSolver as SubsetSolver,
)
from ._structures import PerturbAndMAP as PerturbAndMAP
from ._subset import Subset as Subset
from ._views import joint as joint, require as require
