"""A VAE of Gaussian latents by pathwise gradients: three ways to take the gradient of its KL.

The bound is one, E_q[log p(x | z)] − KL(q ‖ p). The KL divergence is known in closed form, or it is
sampled with the rest as log q(z | x) − log p(z); and of log q, which depends on the parameters
through z and directly, the direct part has mean zero and may be left out.

Reference: Kingma & Welling (2014), "Auto-encoding variational Bayes", section 2.3; Roeder, Wu &
Duvenaud (2017), "Sticking the landing", section 3. The protocol is the one-layer VAE of Burda,
Grosse & Salakhutdinov (2016), "Importance weighted autoencoders", section 5 and appendix D.
"""

import dataclasses
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

import expectax as ex

from ...models import GaussianVAE, gaussian_vae
from ...objectives import neg_elbo, neg_elbo_analytic_kl
from ..evaluate import gradient_variance
from ._training import TrainingExperiment
from ._training_plan import Asked, Contender, Plan
from ._vae_tasks import BOUND_SAMPLES, FIGURES, PANELS, AbstractVAETask

NAME = "gaussian-vae"
EPOCH = 3_000
NUM_STAGES = 8
STEPS = EPOCH * sum(3**stage for stage in range(NUM_STAGES))
DATA = ("mnist",)

PROTOCOL = (
    "A VAE of {latents} Gaussian latents on {data}, binarized afresh at each use: encoder and "
    "decoder of {hidden} tanh units, input minus its mean, the decoder starts at the logit of the "
    "mean picture. One draw by location and scale; batch {batch}, {steps:,} steps of Adam "
    "(ε 1e-4) whose rate is {rate:g} × 10^(−i/7) for 3^i epochs of 3,000 steps, i = 0, 1, …, "
    "{seeds}. Three gradients of one bound: with the KL divergence in closed form; with it "
    "sampled, log q(z | x) − log p(z); and sticking the landing, sampled without the part of the "
    "derivative of log q that does not go through z. ELBOs are from draws, over all training "
    "pictures and over the test set, for all three alike. f: evaluations of log p(x | z) for one "
    "step. Variances are those of {gradients:,} gradients of one batch; all three are measured at "
    "each run's final parameters, too. The published figure, from memory, has 5,000 draws in its "
    "bound and 9,840,000 steps."
)


@dataclasses.dataclass(frozen=True)
class OneLayer(AbstractVAETask):
    """One contender's run.

    Attributes:
        kl: a key of `LOSSES`: how the gradient of the KL divergence is taken.
    """

    kl: str = "closed-form-kl"
    data: str = "mnist"
    data_dir: pathlib.Path | None = None
    binarization: str | None = "dynamic"
    steps: int = STEPS
    batch_size: int = 20
    seed: int = 0
    num_seeds: int = 5
    num_latents: int = 50
    hidden: tuple[int, ...] = (200, 200)
    learning_rate: float = 1e-3

    def init(self, key, data):
        model = gaussian_vae(key, data.mean, self.num_latents, self.hidden, activation=jnp.tanh)
        return Learned(model)

    def objective(self, learned, batch, key, step):
        del step
        return loss(self.kl, key, learned.model, batch)

    def optimizers(self):
        import optax

        return {"": optax.adam(rate(self.learning_rate), eps=1e-4)}

    def finish(self, key, learned, data):
        key, x_key, noise_key = jax.random.split(key, 3)
        x = data.binarize(x_key, data.train[: self.batch_size])
        where = lambda learned: learned.model.encoder
        measured = lambda kl: gradient_variance(
            noise_key, eqx.Partial(_of_batch, kl, x), learned, where, self.num_gradients
        )
        return super().finish(key, learned, data) | {
            variance_name(kl): measured(kl) for kl in LOSSES
        }

    def words(self, name: str) -> str:
        known = {variance_name(kl): f"variance of {kl}, at these parameters" for kl in LOSSES}
        return known.get(name) or super().words(name)

    @property
    def title(self) -> str:
        return f"{NAME}, {self.kl}"


class Learned(eqx.Module):
    """What the optimiser trains."""

    model: GaussianVAE


def _closed_form(key: PRNGKeyArray, model: GaussianVAE, x: Array) -> Array:
    log_likelihood = lambda z: model.log_likelihood(x, z)
    q, prior = model.posterior(x), model.prior()
    return neg_elbo_analytic_kl(key, q, prior, log_likelihood, ex.Pathwise())


def _sampled(key: PRNGKeyArray, model: GaussianVAE, x: Array) -> Array:
    q = model.posterior(x)
    cost = lambda z: q.log_prob(z) - model.log_joint(x, z)
    return ex.expect(key, q, cost, ex.Pathwise())


def _sticking(key: PRNGKeyArray, model: GaussianVAE, x: Array) -> Array:
    log_joint = lambda z: model.log_joint(x, z)
    return neg_elbo(key, model.posterior(x), log_joint, ex.Pathwise())


LOSSES = {
    "closed-form-kl": _closed_form,
    "sampled-kl": _sampled,
    "sticking-the-landing": _sticking,
}
"""Three estimates of −ELBO, each with its own gradient, by the names of the contenders."""


def loss(
    kl: str, key: PRNGKeyArray, model: GaussianVAE, x: Float[Array, "B P"]
) -> Float[Array, ""]:
    """An estimate of −ELBO, in nats, mean over the batch; `kl` is a key of `LOSSES`."""
    return jnp.mean(LOSSES[kl](key, model, x))


def _of_batch(kl: str, x: Array, learned: Learned, key: Array) -> Array:
    return loss(kl, key, learned.model, x)


def variance_name(kl: str) -> str:
    """The figure that is the variance of this gradient."""
    return f"variance_of_{kl.replace('-', '_')}"


def rate(first: float):
    """The published schedule, from a step: `first` × 10^(−i/7) for 3^i epochs, i = 0, 1, …, 7."""
    import optax

    ends = [EPOCH * sum(3**i for i in range(stage + 1)) for stage in range(NUM_STAGES - 1)]
    return optax.piecewise_constant_schedule(first, dict.fromkeys(ends, 10 ** (-1 / 7)))


def plan(asked: Asked) -> Plan:
    """The experiment as asked for."""
    data = asked.one_of(DATA)
    task = OneLayer(
        data=data,
        data_dir=asked.data_dir,
        steps=asked.choose("steps", STEPS, 400),
        num_seeds=asked.choose("num_seeds", 5, 2),
        num_latents=5 if asked.quick else 50,
        hidden=(30,) if asked.quick else (200, 200),
        learning_rate=5e-3 if asked.quick else 1e-3,
    )
    figure = f"test_bound_{BOUND_SAMPLES}"
    contenders = tuple(
        Contender(
            kl,
            dataclasses.replace(task, kl=kl),
            "1 + 0",
            {figure: "-86.76"} if kl == "sampled-kl" and data == "mnist" else {},
            "theirs has 5,000 draws in the bound",
        )
        for kl in LOSSES
        if not asked.quick or kl == "closed-form-kl"  # at whose end all three are measured
    )
    protocol = PROTOCOL.format(
        latents=task.num_latents, data=data, hidden=" and ".join(map(str, task.hidden)),
        batch=task.batch_size, steps=task.steps, rate=task.learning_rate, seeds=task.seeds,
        gradients=task.num_gradients,
    )  # fmt: skip
    figures = (*FIGURES, *map(variance_name, LOSSES))
    return Plan(protocol, contenders, figures, PANELS, STEPS, tolerance=0.3, counted=True)


EXPERIMENT = TrainingExperiment(
    NAME, "Gaussian latents: the KL divergence in closed form, sampled, and without its score", plan
)
