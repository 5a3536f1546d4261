"""Published experiments, run again: *published | ours ± s.e. | verdict*.

To add one: a module with an `Experiment`, and a line here.
"""

from . import (
    control_variates,
    gaussian_mean,
    one_bit,
    reparameterizations,
    temperature,
    two_hundred_bits,
)
from ._base import Experiment as Experiment

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        one_bit.EXPERIMENT,
        gaussian_mean.EXPERIMENT,
        two_hundred_bits.EXPERIMENT,
        temperature.EXPERIMENT,
        control_variates.EXPERIMENT,
        reparameterizations.EXPERIMENT,
    )
}
"""By name, as `expectax reproduce` reads them."""
