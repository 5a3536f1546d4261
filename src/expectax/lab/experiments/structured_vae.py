"""A VAE of n bits whose encoder scores the bits alone, or pairs of them too.

Reference: Lorberbom, Gane, Jaakkola & Hazan (2019), "Direct optimization through arg max for
discrete variational auto-encoder", section 5.2. All 2ⁿ settings are decoded once for the whole
batch, so costs and bounds are exact sums, and the exact gradient stands beside direct optimization.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import entr
from jaxtyping import Array, Float, Int, PRNGKeyArray

import expectax as ex

from ..._numerics import softplus
from ...distributions import joint
from ...models import AbstractStructuredVAE, chain_vae, structured_vae
from ...objectives import kl_divergence
from ..data import Dataset
from ..evaluate import mean_over_rows
from ..task import Values
from ._direct_optimization import EPOCH, annealed
from ._training import TrainingExperiment
from ._training_plan import Asked, Contender, Plan
from ._training_plot import Panel
from ._vae_tasks import VAE_BLOCKS, AbstractPictureTask

NAME = "structured-vae"
STEPS = 30 * EPOCH
DATA = ("mnist", "fashion")
NUM_SHOWN = 36

CONTENDERS = {
    "unstructured": ("unstructured", "direct"),
    "chain": ("chain", "direct"),
    "structured": ("structured", "direct"),
    "unstructured-exact": ("unstructured", "exact"),
    "structured-exact": ("structured", "exact"),
}
"""The encoder and the gradient, by name."""

PROTOCOL = (
    "A VAE of {latents} bits on {data} rounded at ½, uniform prior, encoder and decoder with "
    "{hidden} units (leaky rectifiers). Encoders: unstructured, a score of each bit; chain, of "
    "neighbors too, the argmax by Viterbi's algorithm; structured, of all pairs, the argmax by "
    "comparing all {settings} settings. Scores of pairs come from a network of their own with as "
    "many units, and start at zero. Batch {batch}, {steps:,} steps of Adam {rate:g}, {seeds}. "
    "Direct optimization: one draw is the argmax of perturbed scores, ε is exp(−1e-5 t), "
    "renewed every 500 steps, at least .1, and the KL divergence is that of the law with "
    "probabilities exp(score), in closed form. For the unstructured encoder that is the law of the "
    "draws; for the others it stands in for it, so what they train is no bound. *-exact sums over "
    "all settings under the law exp(score) itself. −ELBO is exact for every contender, with "
    "exp(score) as q: a bound, lower is better; beside it stands, where that is another law, the "
    "same with the reconstruction of draws by argmax. Correlation is KL(q ‖ product of its "
    "marginals), in nats. f: evaluations of f, the reconstruction, for one step at hard draws + "
    "elsewhere; hard settings share one decoding of all {settings}. No published figure is known "
    "to us; n is ours."
)


@dataclasses.dataclass(frozen=True)
class Bits(AbstractPictureTask):
    """One contender's run.

    Attributes:
        encoder: `unstructured`, `chain` or `structured`.
        gradient: `direct` or `exact`.
    """

    encoder: str = "structured"
    gradient: str = "direct"
    data: str = "mnist"
    data_dir: pathlib.Path | None = None
    binarization: str | None = "threshold"
    steps: int = STEPS
    batch_size: int = 100
    seed: int = 0
    num_seeds: int = 5
    num_latents: int = 8
    hidden: int = 300
    learning_rate: float = 1e-3
    headline = ("test_bound", "correlation")
    blocks = VAE_BLOCKS | {"reconstructions": "from their likeliest bits"}

    def init(self, key, data):
        # the unstructured encoder is the structured one whose scores of pairs stay at zero
        build = chain_vae if self.encoder == "chain" else structured_vae
        return build(key, data.mean, self.num_latents, (self.hidden,), uniform_prior=True)

    def objective(self, learned, batch, key, step):
        table = costs_of_settings(learned, batch)
        alone = learned.unstructured.posterior(batch)
        apart = self.encoder == "unstructured"
        divergence = (
            kl_divergence(alone, learned.unstructured.prior()) if apart else learned.gibbs_kl(batch)
        )
        if self.gradient == "exact":
            score = learned.unstructured.encoder(learned.unstructured.centered(batch))
            logits = score @ learned.settings.T if apart else learned.gibbs(batch).logits
            expected = jnp.sum(jax.nn.softmax(logits) * table, axis=-1)
        else:
            q = alone if apart else learned.posterior(batch)
            bits = (lambda z: z) if apart else learned.bits
            cost = lambda draw: looked_up(table, bits(draw))
            expected = ex.expect(key, q, cost, ex.DirectArgmax(annealed(step)))
        return jnp.mean(expected + divergence)

    def optimizers(self):
        import optax

        return {"": optax.adam(self.learning_rate)}

    def measure(self, key, learned, data):
        return self._bounds(key, learned, data.train[: len(data.test)], data.test)

    def finish(self, key, learned, data):
        return self._bounds(key, learned, data.train, data.test)

    def _bounds(self, key: Array, learned: Any, train: Array, test: Array) -> Values:
        found = bounds(key, learned, train, test)
        if self.encoder == "unstructured" or self.gradient == "exact":
            del found["test_by_argmax"]  # they have no draws of another law
        return found

    def pictures(self, key, learned, data):
        return pictures(key, learned, data)

    def words(self, name: str) -> str:
        known = {
            "test_by_argmax": "test −ELBO, but draws by argmax: no bound",
            "correlation": "correlation of the bits given a test picture",
        }
        return known.get(name) or super().words(name)

    def unit(self, name: str) -> str:
        return "nats" if name == "correlation" else super().unit(name)

    @property
    def title(self) -> str:
        exact = ", exact gradient" if self.gradient == "exact" else ""
        return f"{NAME}, {self.encoder}{exact}"


def costs_of_settings(
    model: AbstractStructuredVAE, x: Float[Array, "*B P"]
) -> Float[Array, "*B N"]:
    """−log p(x | z) at each of the 2ⁿ settings, in nats; each is decoded once for all pictures."""
    logits = model.unstructured.pixel_logits(model.settings)
    return jnp.sum(softplus(logits), axis=-1) - x @ logits.T


def number_of(bits: Float[Array, "*B n"]) -> Int[Array, "*B"]:
    """Where bits stand among all settings."""
    return (bits @ 2.0 ** jnp.arange(bits.shape[-1])).astype(jnp.int32)


def looked_up(table: Float[Array, "B N"], bits: Float[Array, "*S B n"]) -> Float[Array, "*S B"]:
    """The entries of a table at settings of the bits, any number of them for each row."""
    return table[jnp.arange(len(table)), number_of(bits)]


def correlation(model: AbstractStructuredVAE, x: Float[Array, "*B P"]) -> Float[Array, "*B"]:
    """KL(q ‖ product of q's marginals) of the law exp(score), in nats: 0 for independent bits."""
    log_q = jax.nn.log_softmax(model.gibbs(x).logits)
    q = jnp.exp(log_q)
    ones = jnp.clip(q @ model.settings, 0.0, 1.0)
    apart = entr(ones) + entr(1 - ones)
    return jnp.sum(apart, axis=-1) + jnp.sum(q * log_q, axis=-1)


def bounds(key: PRNGKeyArray, model: AbstractStructuredVAE, train: Array, test: Array) -> Values:
    """Exact −ELBO with the law exp(score) as q; with draws by argmax; and how far q is a product.

    The second is of one draw for each test picture.
    """

    def of_row(key: Array, row: Array) -> Array:
        del key
        x = row.astype(jnp.float32)
        q = jax.nn.softmax(model.gibbs(x).logits)
        return jnp.sum(q * costs_of_settings(model, x)) + model.gibbs_kl(x)

    def more_of_row(key: Array, row: Array) -> Values:
        x = row.astype(jnp.float32)
        drawn = model.bits(joint(model.posterior(x)).sample(key, 1)[0])
        cost = costs_of_settings(model, x)[number_of(drawn)]
        return {
            "test_bound": of_row(key, row),
            "test_by_argmax": cost + model.gibbs_kl(x),
            "correlation": correlation(model, x),
        }

    train_bound = mean_over_rows(key, train, of_row)
    return mean_over_rows(key, test, more_of_row) | {"train_bound": train_bound}


def pictures(
    key: PRNGKeyArray, model: AbstractStructuredVAE, data: Dataset
) -> dict[str, Float[Array, "num P"]]:
    """Test pictures, what their likeliest bits decode to, and draws from the prior."""
    x_key, key = jax.random.split(key)
    rows = data.test[jnp.linspace(0, len(data.test) - 1, NUM_SHOWN).astype(int)]
    x = data.binarize(x_key, rows)
    likeliest = model.settings[jnp.argmax(model.gibbs(x).logits, axis=-1)]
    return {
        "data": x,
        "reconstructions": model.unstructured.decode(likeliest),
        "prior": model.unstructured.sample_prior(key, NUM_SHOWN),
    }


def evaluations(encoder: str, gradient: str, num_latents: int) -> str:
    """Of f for one step, at hard draws + elsewhere."""
    settings = 2**num_latents
    if gradient == "exact":
        return f"{settings} + 0"
    return f"1 + {num_latents if encoder == 'unstructured' else settings}"


def plan(asked: Asked) -> Plan:
    """The experiment as asked for."""
    task = Bits(
        data=asked.one_of(DATA),
        data_dir=asked.data_dir,
        steps=asked.choose("steps", STEPS, 800),
        num_seeds=asked.choose("num_seeds", 5, 2),
        batch_size=25 if asked.quick else 100,
        num_latents=4 if asked.quick else 8,
        hidden=30 if asked.quick else 300,
    )
    contenders = tuple(
        Contender(
            name,
            dataclasses.replace(task, encoder=encoder, gradient=gradient),
            evaluations(encoder, gradient, task.num_latents),
        )
        for name, (encoder, gradient) in CONTENDERS.items()
        if not asked.quick or name == "structured"
    )
    protocol = PROTOCOL.format(
        latents=task.num_latents, data=task.data, hidden=task.hidden, batch=task.batch_size,
        settings=2**task.num_latents, steps=task.steps, rate=task.learning_rate,
        seeds=task.seeds,
    )  # fmt: skip
    panels = (
        Panel("test_bound", "Test −ELBO, nats a picture: mean ± s.e."),
        Panel("test_bound", "The same, by the clock", clock=True),
        Panel("correlation", "Correlation of the bits given a picture, nats"),
    )
    figures = ("test_bound", "test_by_argmax", "correlation", "train_bound")
    return Plan(protocol, contenders, figures, panels, 0, tolerance=0.5, counted=True)


EXPERIMENT = TrainingExperiment(
    NAME,
    "n bits: an unstructured encoder beside chains and all pairs, by direct optimization",
    plan,
)
