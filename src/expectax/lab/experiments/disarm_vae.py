"""Binary VAEs on dynamically binarized pictures: estimators matched at two evaluations.

Reference: Dong, Mnih & Tucker (2020), "DisARM: an antithetic gradient estimator for binary latent
variables", section 6.1, and Yin & Zhou (2019). One layer of 200 bits between affine maps, or
between two layers of 200 leaky rectifiers each way; the encoder sees pictures minus their mean, the
decoder 2b − 1, and its bias starts at the logit of the mean picture; the prior's logits are trained
by plain gradient descent.
"""

import dataclasses
import pathlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import expectax as ex

from ..._numerics import softplus
from ...models import BinaryVAE, binary_vae
from ...objectives import neg_elbo
from .. import vae
from ..estimators import Level
from ._training import TrainingExperiment
from ._training_plan import Asked, Contender, Plan
from ._vae_tasks import FIGURES, PANELS, AbstractVAETask

NAME = "disarm-vae"
STEPS = 1_000_000
NONLINEAR, HIDDEN = "nonlinear-", (200, 200)
DATA = ("mnist", "fashion", "omniglot")

PUBLISHED = {
    "leave-one-out": {"mnist": "-116.57", "fashion": "-256.33", "omniglot": "-121.66"},
    "arm": {"mnist": "-117.66", "fashion": "-256.80", "omniglot": "-122.45"},
    "disarm": {"mnist": "-116.30", "fashion": "-255.97", "omniglot": "-121.15"},
    "relax": {"mnist": "-115.93", "fashion": "-255.83", "omniglot": "-120.79"},
    "nonlinear-leave-one-out": {"mnist": "-102.45"},
    "nonlinear-arm": {"mnist": "-107.32"},
    "nonlinear-disarm": {"mnist": "-102.56"},
    "nonlinear-relax": {"mnist": "-102.53"},
}
"""Train ELBO after a million steps, from memory of the paper's table: good to a few tenths."""

EVALUATIONS = {"leave-one-out": "2 + 0", "arm": "2 + 0", "disarm": "2 + 0", "relax": "1 + 1"}

PROTOCOL = (
    "A binary VAE on {data}, {how}: {latents} bits between affine maps, or (nonlinear-*) between "
    "networks of {hidden} leaky rectifiers; input minus its mean, the decoder sees 2b − 1 and "
    "starts at the logit of the mean picture, the prior is trained. Batch 50, {steps:,} steps of "
    "Adam 1e-4 (prior: gradient descent 1e-2; control variate: Adam 1e-3), {seeds}. ELBOs are from "
    "hard draws, over all training pictures and over the test set. "
    "RELAX's control variate is η f(σ(z/τ)) plus a network of 100 tanh units, η from 1, τ from ½. "
    "f: evaluations of f for one step, at hard draws + elsewhere. The variance is that of "
    "{gradients:,} gradients of one batch, at each contender's own final parameters. Published "
    "figures are from memory, good to a few tenths, after {published:,} steps."
)


class RelaxedCost(eqx.Module):
    """RELAX's control variate c(z) = η f(σ(z/τ)) + r(z): REBAR's, and a network beside it."""

    log_temperature: Float[Array, ""]
    scale: Float[Array, ""]
    level: Level

    def at(self, model: BinaryVAE, x: Float[Array, "B P"]) -> ex.RELAX:
        """RELAX for a batch. The model is held: c may know f, but does not move it."""
        logits = model.encoder(model.centered(x))
        held = jax.lax.stop_gradient((model, logits))
        return ex.RELAX(jax.tree_util.Partial(_control_variate, self, held, x))


def _control_variate(
    control: RelaxedCost, held: Any, x: Float[Array, "*B P"], z: Float[Array, "*B D"]
) -> Float[Array, "*B"]:
    model, logits = held
    soft = jax.nn.sigmoid(z / jnp.exp(control.log_temperature))
    log_q = jnp.sum(soft * logits - softplus(logits), axis=-1)
    relaxed = log_q - model.log_joint(x, soft)
    return control.scale * relaxed + control.level(x, jnp.tanh(z / 2))


@dataclasses.dataclass(frozen=True)
class F2(AbstractVAETask):
    """One contender's run."""

    estimator: str = "disarm"
    data: str = "mnist"
    data_dir: pathlib.Path | None = None
    binarization: str | None = "dynamic"
    steps: int = STEPS
    batch_size: int = 50
    seed: int = 0
    num_seeds: int = 5
    num_latents: int = 200
    hidden: tuple[int, ...] = ()
    """leaky rectifiers of the encoder, and reversed of the decoder"""
    learning_rate: float = 1e-4
    prior_rate: float = 1e-2
    control_rate: float = 1e-3

    def init(self, key, data):
        make = lambda key, mean: binary_vae(key, mean, self.num_latents, self.hidden)
        begun = vae.begin(key, data, make, self.estimator, {"hidden": 100} if self._relaxes else {})
        if not self._relaxes:
            return begun
        # the relaxed cost is about the cost already: the network starts at zero
        factory: Any = begun.estimator
        level = eqx.tree_at(lambda c: c.typical, factory.control, jnp.zeros(()))
        control = RelaxedCost(jnp.log(0.5 * jnp.ones(())), jnp.ones(()), level)
        return vae.Learned(begun.model, control)  # type: ignore[arg-type]

    @property
    def _relaxes(self) -> bool:
        return self.estimator == "relax"

    def objective(self, learned, batch, key, step):
        del step
        if not self._relaxes:
            return vae.objective(learned, batch, key)
        model = learned.model
        log_joint = lambda z: model.log_joint(batch, z)
        estimator = learned.estimator.at(model, batch)
        return jnp.mean(neg_elbo(key, model.posterior(batch), log_joint, estimator))

    def optimizers(self):
        import optax

        return {
            "model": optax.adam(self.learning_rate),
            "model.prior_logits": optax.sgd(self.prior_rate),
            "estimator": optax.adam(self.control_rate),
        }

    @property
    def title(self) -> str:
        return f"{NAME}, {NONLINEAR * bool(self.hidden)}{self.estimator}"


def plan(asked: Asked) -> Plan:
    """The experiment as asked for."""
    data = asked.one_of(DATA)
    task = F2(
        data=data,
        data_dir=asked.data_dir,
        steps=asked.choose("steps", STEPS, 200),
        num_seeds=asked.choose("num_seeds", 5, 2),
        num_latents=32 if asked.quick else 200,
    )
    note = "its split is ours" if data == "omniglot" else ""
    contenders = []
    for name, figures in PUBLISHED.items():
        estimator = name.removeprefix(NONLINEAR)
        hidden = HIDDEN if estimator != name else ()
        mine = dataclasses.replace(task, estimator=estimator, hidden=hidden)
        published = {"train_elbo": figures[data]} if data in figures else {}
        contenders.append(Contender(name, mine, EVALUATIONS[estimator], published, note))
    if asked.quick:
        contenders = [c for c in contenders if c.name == "disarm"]
    protocol = PROTOCOL.format(
        latents=task.num_latents, data=data, how="binarized afresh at each use",
        hidden=" and ".join(map(str, HIDDEN)), steps=task.steps, seeds=task.seeds,
        gradients=task.num_gradients, published=STEPS,
    )  # fmt: skip
    return Plan(protocol, tuple(contenders), FIGURES, PANELS, STEPS, tolerance=0.4, counted=True)


EXPERIMENT = TrainingExperiment(
    NAME, "binary VAEs at two evaluations a step: leave-one-out, ARM, DisARM, and RELAX", plan
)
