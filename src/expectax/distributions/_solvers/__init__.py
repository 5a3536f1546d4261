"""Exact solvers of structured argmax problems, one file each."""

from ._assignment import AssignmentSolver as AssignmentSolver
from ._base import AbstractSolver as AbstractSolver
from ._chain import ChainSolver as ChainSolver
from ._pairwise import PairwiseSolver as PairwiseSolver
from ._spanning_tree import SpanningTreeSolver as SpanningTreeSolver
from ._subset import SubsetSolver as SubsetSolver
