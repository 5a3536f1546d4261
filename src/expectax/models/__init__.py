"""Equinox modules: parameters, log-densities, and q-builders. No estimator and no objective."""

from ._attention import (
    GlimpseNetwork as GlimpseNetwork,
    Glimpses as Glimpses,
    Retina as Retina,
    glimpse_network as glimpse_network,
)
from ._builders import (
    binary_vae as binary_vae,
    categorical_vae as categorical_vae,
    linear_vae as linear_vae,
    nonlinear_vae as nonlinear_vae,
)
from ._dbm import (
    DBM as DBM,
    MeanField as MeanField,
    dbm as dbm,
    doubled_hidden as doubled_hidden,
    doubled_visible as doubled_visible,
    stacked as stacked,
)
from ._gaussian import GaussianVAE as GaussianVAE, gaussian_vae as gaussian_vae
from ._hierarchy import (
    HierarchicalVAE as HierarchicalVAE,
    LayeredPosterior as LayeredPosterior,
    hierarchical_vae as hierarchical_vae,
)
from ._labelled_mixture import (
    LabelledMixture as LabelledMixture,
    labelled_mixture as labelled_mixture,
)
from ._language import (
    Found as Found,
    LogBilinear as LogBilinear,
    Rows as Rows,
    SkipGram as SkipGram,
    log_bilinear as log_bilinear,
    look_up as look_up,
    nearest_words as nearest_words,
    skip_gram as skip_gram,
)
from ._layers import (
    Network as Network,
    PixelBias as PixelBias,
    leaky_rectifier as leaky_rectifier,
    with_zero_last_layer as with_zero_last_layer,
)
from ._patch_mask import PatchMask as PatchMask, patch_mask as patch_mask
from ._prediction import (
    StructuredPrediction as StructuredPrediction,
    halves as halves,
    structured_prediction as structured_prediction,
)
from ._rbm import (
    RBM as RBM,
    AnnealedEstimate as AnnealedEstimate,
    annealed_importance as annealed_importance,
    log_partition as log_partition,
    rbm as rbm,
)
from ._semi_supervised import (
    SemiSupervisedVAE as SemiSupervisedVAE,
    semi_supervised_vae as semi_supervised_vae,
)
from ._sequence import (
    LSTMGenerator as LSTMGenerator,
    TextCNN as TextCNN,
    lstm_generator as lstm_generator,
    text_cnn as text_cnn,
)
from ._structured import (
    AbstractStructuredVAE as AbstractStructuredVAE,
    ChainVAE as ChainVAE,
    StructuredVAE as StructuredVAE,
    chain_vae as chain_vae,
    structured_vae as structured_vae,
)
from ._vae import (
    AbstractVAE as AbstractVAE,
    BinaryVAE as BinaryVAE,
    CategoricalVAE as CategoricalVAE,
)
