"""Equinox modules: parameters, log-densities, and q-builders. No estimator and no objective."""

from ._layers import Network as Network, with_zero_last_layer as with_zero_last_layer
from ._vae import (
    AbstractVAE as AbstractVAE,
    BinaryVAE as BinaryVAE,
    CategoricalVAE as CategoricalVAE,
    categorical_vae as categorical_vae,
    linear_vae as linear_vae,
    nonlinear_vae as nonlinear_vae,
)
