"""Binary VAEs by leave-one-out and what has been added to it: double control variates, RODEO.

Reference: Titsias & Shi (2022), "Double control variates for gradient estimation in discrete latent
variable models"; Shi, Zhou, Hwang, Titsias & Mackey (2022), "Gradient estimation with discrete
Stein operators", section 6.1. One layer of 200 bits between networks of two layers of 200 leaky
rectifiers; the networks see pictures and bits as they are, and the prior is uniform for good.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import expectax as ex

from ..._trees import add_axis
from ...distributions import joint
from ...models import (
    BinaryVAE,
    Network,
    PixelBias,
    binary_vae,
    leaky_rectifier,
    with_zero_last_layer,
)
from ...objectives import neg_elbo
from .. import vae
from ..data import Dataset
from ..estimators import Setting, build
from ..task import Values
from ._shared_point import variances
from ._training import TrainingExperiment
from ._training_plan import Asked, Contender, Plan
from ._vae_tasks import FIGURES, PANELS, AbstractVAETask

NAME = "stein-vae"
STEPS = 1_000_000
DATA = ("mnist", "fashion", "omniglot")
RODEO = "discrete-stein"

EVALUATIONS = {
    "disarm": "2 + 0",
    "leave-one-out": "{0} + 0",
    "double-control-variate": "{0} + {0}",
    RODEO: "{0} + 1",
}

RATIOS = {"double-control-variate": "0.97", RODEO: "0.78"}
"""Published: the variance of the encoder's gradient over DisARM's, MNIST, two draws."""

PROTOCOL = (
    "A binary VAE, {latents} bits between networks of {hidden} leaky rectifiers, on {data}, "
    "binarized afresh at each use; the networks see pictures and bits as they are, and the prior "
    "is uniform. Batch 100, {steps:,} steps of Adam {rate:g} for everything, {seeds}; two "
    "draws a step, or three (-3). ELBOs are from hard draws, over all training pictures and over "
    "the test set. RODEO's surrogate is a learned function of f's linear expansion about the mean "
    "of q, α l + r(l, f(mean)) with r of 100 leaky rectifiers: one more evaluation of f, there. f: "
    "evaluations of f for one step, at hard draws + elsewhere. The variance is that of "
    "{gradients:,} gradients of one batch, at each contender's own final parameters; the ratios "
    "are of variances at DisARM's final parameters, where each control variate has learned anew "
    "with the model held, for {tuning:,} steps of Adam from 1e-2 to 0."
)


class Surrogate(eqx.Module):
    """RODEO's h(b) = α l(b) + r(l(b), f(μ)), with l(b) = f'(μ)·(b − μ) and μ the mean of q.

    Reference: Shi et al. (2022), section 4, with the expansion about μ in place of another draw.
    """

    slope: Float[Array, ""]
    network: Network
    typical: Float[Array, ""]
    spread: Float[Array, ""]

    def __init__(self, setting: Setting):
        network = Network(2, 1, (100,), leaky_rectifier, key=setting.key)
        self.slope = jnp.zeros(())
        self.network = with_zero_last_layer(network)
        self.typical = setting.typical
        self.spread = setting.spread

    def at(self, model: BinaryVAE, x: Float[Array, "B P"], num_samples: int) -> ex.DiscreteStein:
        """RODEO for a batch. The model is held: h may know f, but does not move it."""
        held: BinaryVAE = jax.lax.stop_gradient(model)
        q = joint(held.posterior(x))
        total = lambda z: _sum_and_each(q.log_prob(add_axis(z))[0] - held.log_joint(x, z))
        mean = jax.lax.stop_gradient(q.mean)
        slope, at_mean = jax.grad(total, has_aux=True)(mean)
        h = jax.tree_util.Partial(_surrogate, self, slope, mean, at_mean)
        return ex.DiscreteStein(num_samples, surrogate=h)


def _sum_and_each(costs: Array) -> tuple[Array, Array]:
    return jnp.sum(costs), costs


def _surrogate(
    h: Surrogate,
    slope: Float[Array, "*B D"],
    mean: Float[Array, "*B D"],
    at_mean: Float[Array, "*B"],
    b: Float[Array, "*B D"],
) -> Float[Array, "*B"]:
    typical, spread = jax.lax.stop_gradient((h.typical, h.spread))
    linear = jnp.sum(slope * (b - mean), axis=-1)
    seen = jnp.stack([linear, at_mean - typical], axis=-1) / spread
    return h.slope * linear + spread * h.network(seen)[..., 0]


@dataclasses.dataclass(frozen=True)
class F3(AbstractVAETask):
    """One contender's run."""

    estimator: str = "disarm"
    num_samples: int = 2
    compared: tuple[str, ...] = ()
    """whose variances are measured at the final parameters, as ratios to this contender's"""
    tuning_steps: int = 3_000
    """that each of them learns for there"""
    data: str = "mnist"
    data_dir: pathlib.Path | None = None
    binarization: str | None = "dynamic"
    steps: int = STEPS
    batch_size: int = 100
    seed: int = 0
    num_seeds: int = 5
    num_latents: int = 200
    hidden: tuple[int, ...] = (200, 200)
    learning_rate: float = 1e-3

    def init(self, key, data):
        make = functools.partial(
            binary_vae,
            num_latents=self.num_latents,
            hidden=self.hidden,
            demean=False,
            signed=False,
            pixel_bias=PixelBias.NONE,
            uniform_prior=True,
        )
        begun = vae.begin(key, data, make, "disarm", {})
        return self.with_estimator(key, begun.model, data, self.estimator)

    def with_estimator(self, key: Any, model: Any, data: Dataset, name: str) -> vae.Learned:
        """The model, and this estimator as it is before its first step."""
        setting = vae.setting(key, model, data)
        if name == RODEO:
            return vae.Learned(model, Surrogate(setting))  # type: ignore[arg-type]
        options: dict[str, Any] = {} if name == "disarm" else {"num_samples": self.num_samples}
        if name == "double-control-variate":
            options["scale"] = 0.0
        return vae.Learned(model, build(name, setting, options))

    def objective(self, learned, batch, key, step):
        del step
        model, estimator = learned.model, learned.estimator
        if not isinstance(estimator, Surrogate):
            return vae.objective(learned, batch, key)
        log_joint = lambda z: model.log_joint(batch, z)
        rodeo = estimator.at(model, batch, self.num_samples)
        return jnp.mean(neg_elbo(key, model.posterior(batch), log_joint, rodeo))

    def optimizers(self):
        import optax

        return {"": optax.adam(self.learning_rate)}

    def finish(self, key, learned, data):
        figures_key, begin_key, ratios_key = jax.random.split(key, 3)
        figures = super().finish(figures_key, learned, data)
        names = (self.estimator, *self.compared) if self.compared else ()
        begun = {n: self.with_estimator(begin_key, learned.model, data, n) for n in names}
        found = variances(ratios_key, self, data, begun, self.tuning_steps)
        return figures | _ratios(found, self.estimator)

    def words(self, name: str) -> str:
        known = {ratio_name(e): f"variance of {e}'s gradient over disarm's" for e in EVALUATIONS}
        return known.get(name) or super().words(name)

    @property
    def title(self) -> str:
        return f"{NAME}, {self.estimator}"


def ratio_name(estimator: str) -> str:
    """The figure that is this estimator's variance over DisARM's."""
    return f"variance_ratio_of_{estimator.replace('-', '_')}"


def _ratios(found: dict[str, Array], reference: str) -> Values:
    return {ratio_name(name): x / found[reference] for name, x in found.items()}


def plan(asked: Asked) -> Plan:
    """The experiment as asked for."""
    others = ("leave-one-out", *RATIOS)
    task = F3(
        data=asked.one_of(DATA),
        data_dir=asked.data_dir,
        steps=asked.choose("steps", STEPS, 200),
        num_seeds=asked.choose("num_seeds", 5, 2),
        num_latents=32 if asked.quick else 200,
        hidden=(40, 40) if asked.quick else (200, 200),
        tuning_steps=20 if asked.quick else 3_000,
    )
    disarm = dataclasses.replace(task, compared=(RODEO,) if asked.quick else others)
    published = {ratio_name(name): ratio for name, ratio in RATIOS.items()}
    contenders = [
        Contender(
            "disarm", disarm, EVALUATIONS["disarm"], published if task.data == "mnist" else {}
        )
    ]
    for num, end in ((2, ""), (3, "-3")):
        for name in others:
            mine = dataclasses.replace(task, estimator=name, num_samples=num)
            contenders.append(Contender(f"{name}{end}", mine, EVALUATIONS[name].format(num)))
    if asked.quick:
        contenders = contenders[:1]  # which meets RODEO there
    protocol = PROTOCOL.format(
        latents=task.num_latents, hidden=" and ".join(map(str, task.hidden)), data=task.data,
        steps=task.steps, rate=task.learning_rate, seeds=task.seeds, tuning=task.tuning_steps,
        gradients=task.num_gradients,
    )  # fmt: skip
    figures = (*FIGURES, *map(ratio_name, others))
    return Plan(protocol, tuple(contenders), figures, PANELS, STEPS, tolerance=0.06, counted=True)


EXPERIMENT = TrainingExperiment(
    NAME, "leave-one-out and more: DisARM, double control variates, discrete Stein operators", plan
)
