"""Published experiments, run again: *published | ours ± s.e. | verdict*.

To add one: a module with an `Experiment`, and a line here.
"""

from . import (
    categorical_vae,
    control_variates,
    dbm,
    direct_vae,
    disarm_vae,
    gaussian_mean,
    gaussian_vae,
    hard_attention,
    nce,
    one_bit,
    rbm,
    rebar_vae,
    reinmax,
    reparameterizations,
    semi_supervised,
    seqgan,
    stein_vae,
    structured_prediction,
    structured_vae,
    temperature,
    two_hundred_bits,
    wake_sleep,
)
from ._base import Experiment as Experiment
from ._training import TrainingExperiment as TrainingExperiment, tailored as tailored

EXPERIMENTS: dict[str, Experiment | TrainingExperiment] = {
    experiment.name: experiment
    for experiment in (
        one_bit.EXPERIMENT,
        gaussian_mean.EXPERIMENT,
        two_hundred_bits.EXPERIMENT,
        temperature.EXPERIMENT,
        control_variates.EXPERIMENT,
        reparameterizations.EXPERIMENT,
        disarm_vae.EXPERIMENT,
        categorical_vae.EXPERIMENT,
        reinmax.EXPERIMENT,
        direct_vae.EXPERIMENT,
        rebar_vae.EXPERIMENT,
        stein_vae.EXPERIMENT,
        structured_prediction.EXPERIMENT,
        gaussian_vae.EXPERIMENT,
        structured_vae.EXPERIMENT,
        semi_supervised.EXPERIMENT,
        seqgan.EXPERIMENT,
        nce.EXPERIMENT,
        hard_attention.EXPERIMENT,
        wake_sleep.EXPERIMENT,
        rbm.EXPERIMENT,
        dbm.EXPERIMENT,
    )
}
"""By name, as `expectax reproduce` reads them."""
