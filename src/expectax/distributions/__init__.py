"""Views of NumPyro's distributions by capability, and the distributions it lacks."""

from ._base import (
    Binary as Binary,
    Enumerable as Enumerable,
    Relaxable as Relaxable,
    Reparameterized as Reparameterized,
    Scored as Scored,
)
from ._joint import Joint as Joint
from ._one_hot import OneHotCategorical as OneHotCategorical
from ._views import joint as joint, require as require
