"""Views of NumPyro's distributions by capability, and the distributions it lacks."""

from ._base import (
    Averaged as Averaged,
    Binary as Binary,
    Enumerable as Enumerable,
    Factorized as Factorized,
    OneHot as OneHot,
    Relaxable as Relaxable,
    Reparameterized as Reparameterized,
    Scored as Scored,
    Solvable as Solvable,
    View as View,
)
from ._joint import Joint as Joint
from ._one_hot import OneHotCategorical as OneHotCategorical
from ._views import joint as joint, require as require
