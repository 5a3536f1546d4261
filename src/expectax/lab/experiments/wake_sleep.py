"""Sigmoid belief nets of one to three layers: wake-sleep beside gradients of bounds.

Reference: Hinton, Dayan, Frey & Neal (1995), "The wake-sleep algorithm for unsupervised neural
networks"; Mnih & Gregor (2014), "Neural variational inference and learning in belief networks";
Bornschein & Bengio (2015), "Reweighted wake-sleep"; Mnih & Rezende (2016), "Variational inference
for Monte Carlo objectives". And how far the sleep phase's gradient is from the ELBO's; Cremer, Li &
Duvenaud (2018), "Inference suboptimality in variational autoencoders", for the amortization gap.
"""

import dataclasses
import functools
import pathlib
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

import expectax as ex

from ...models import HierarchicalVAE, hierarchical_vae
from ...objectives import (
    amortization_gap,
    fit_each,
    hierarchical_bound,
    hierarchical_hard_elbo,
    hierarchical_neg_elbo,
    sleep_loss,
)
from .. import vae
from ..data import Dataset
from ..evaluate import mean_over_rows
from ..task import Values
from ._gradient_angle import Cosine, gradient_cosine
from ._layered_controls import Controls
from ._training import TrainingExperiment
from ._training_plan import Asked, Contender, Plan
from ._training_plot import Panel
from ._vae_tasks import VAE_BLOCKS, AbstractPictureTask
from ._wake_sleep_exact import exact_cosine, shrunk
from ._wake_sleep_losses import METHODS, PARTICLES, Learned, dream_log_q, evaluations

NAME = "wake-sleep"
STEPS = 100_000
DATA = ("static-mnist",)
NETS = ((200,), (200, 200), (200, 200, 200))
RATES = {"wake-sleep": 1e-2, "reweighted": 6e-3, "vimco": 3e-3, "nvil": 3e-3, "disarm": 3e-3}
"""Of Adam at the first step."""

PUBLISHED = {
    "wake-sleep-200": "-120.8",
    "wake-sleep-200-200": "-107.7",
    "nvil-200": "-113.1",
    "nvil-200-200": "-99.8",
    "reweighted-200": "-103",
    "reweighted-200-200": "-93",
}
"""On test pictures. Wake-sleep's and NVIL's are ELBOs, read in a later paper's table; reweighted
wake-sleep's are from memory, good to a nat: bounds of far more draws than ours."""

PROTOCOL = (
    "Sigmoid belief nets on {data}, layers of {sizes} bits between affine maps, upwards (q) and "
    "downwards (p); input minus its mean, the pixels' biases start at the logit of the mean, those "
    "of all bits at {bias:g}; the prior is trained. Batch {batch}, {steps:,} steps of Adam, its "
    "rate falling to 0 along a cosine, from {rates}; {seeds}. wake-sleep: as many dreams as "
    "data; "
    "reweighted: {particles} particles train p and q, no dreams; vimco: {particles} particles; "
    "nvil: a baseline of 100 tanh units of the input for each layer, from {control:g}; disarm: two "
    "draws in each layer. ELBO and bound of {bound:,} draws are over all test pictures. f: "
    "evaluations of log p(x, z) for one step, at hard draws + in dreams. The cosine is between the "
    "sleep phase's gradient and that of −ELBO over the training pictures, both in q's parameters, "
    "at each contender's own parameters; its error is a jackknife's over groups of draws. The "
    "amortization gap is what the ELBO of {fitted:,} test pictures gains when each has a φ of its "
    "own, fitted from the encoder's by {fit_steps:,} steps of Adam with DisARM, the model held; "
    "its error is over pictures. {exact}The published runs had other optimisers and lengths."
)
EXACT = (
    "The pictures are digits shrunk to 3×3 bits, so that every picture with every setting of the "
    "bits is summed, and cosines are exact. "
)


@dataclasses.dataclass(frozen=True)
class BeliefNet(AbstractPictureTask):
    """One contender's run."""

    method: str = "wake-sleep"
    sizes: tuple[int, ...] = (200,)
    num_particles: int = PARTICLES
    data: str = "static-mnist"
    data_dir: pathlib.Path | None = None
    binarization: str | None = None
    shrink: bool = False
    """whether pictures have nine pixels, and cosines are exact"""
    steps: int = STEPS
    batch_size: int = 100
    seed: int = 0
    num_seeds: int = 3
    learning_rate: float = 3e-3
    control_rate: float = 5e-3
    hidden_bias: float = -3.0
    """of every bit under p and q before training"""
    num_points: int = 10
    """of the curves"""
    bound_samples: int = 1_000
    """m of the bound at the end"""
    num_fitted: int = 500
    """test pictures with a φ of their own"""
    fit_steps: int = 1000
    headline: ClassVar[tuple[str, ...]] = ("test_elbo", "sleep_cosine")
    blocks = VAE_BLOCKS

    @property
    def every(self) -> int:
        return max(1, self.steps // self.num_points)

    def load(self) -> Dataset:
        data = super().load()
        return shrunk(data) if self.shrink else data

    def init(self, key, data):
        model_key, key = jax.random.split(jax.random.fold_in(key, 2))
        model = hierarchical_vae(model_key, data.mean, self.sizes, signed=False)
        model = with_rare_bits(model, self.hidden_bias)
        return Learned(model, Controls("nvil", key, model, data) if self.method == "nvil" else None)

    def objective(self, learned, batch, key, step):
        del step
        return jnp.mean(METHODS[self.method](learned, batch, key, self.num_particles))

    def optimizers(self):
        import optax

        falling = lambda rate: optax.adam(optax.cosine_decay_schedule(rate, self.steps))
        return {"": falling(self.learning_rate), "controls": falling(self.control_rate)}

    def measure(self, key, learned, data):
        draws = max(1, 5_000 // len(data.test))
        return self._points(key, learned, data, draws, PARTICLES, (8, 4))

    def finish(self, key, learned, data):
        points_key, gap_key = jax.random.split(key)
        model = learned.model
        figures = self._points(points_key, learned, data, 10, self.bound_samples, (20, 20))
        if len(self.sizes) == 1:  # where a φ is all that there is of q
            # from all over: static MNIST's test set is sorted by digit
            rows = jnp.linspace(0, len(data.test) - 1, self.num_fitted).astype(int)
            x = data.binarize(gap_key, data.test[rows])
            gaps = gap_of_each(gap_key, model, x, self.fit_steps)
            figures["amortization_gap"] = jnp.mean(gaps)
            figures["amortization_gap_error"] = jnp.std(gaps, ddof=1) / jnp.sqrt(len(gaps))
        return figures

    def pictures(self, key, learned, data):
        model = learned.model
        return vae.pictures(key, model, functools.partial(model.posterior, 0), data)

    def _points(
        self,
        key: PRNGKeyArray,
        learned: Learned,
        data: Dataset,
        draws: int,
        particles: int,
        groups: tuple[int, int],
    ) -> Values:
        """Both bounds over the test set, and the cosine: exact, or from groups of draws."""
        elbo_key, bound_key, key = jax.random.split(key, 3)
        model, rows = learned.model, data.test
        figures: Values = {
            "test_elbo": mean_of(hierarchical_hard_elbo, elbo_key, model, data, rows, draws),
            f"test_bound_{particles}": mean_of(
                hierarchical_bound, bound_key, model, data, rows, particles
            ),
        }
        if self.shrink:
            return figures | {"sleep_cosine": exact_cosine(model, data.train.astype(float))}
        cosine = self.cosine(key, learned, data, *groups)
        error = {"sleep_cosine_error": cosine.standard_error}
        return figures | {"sleep_cosine": cosine.value} | error

    def cosine(
        self, key: PRNGKeyArray, learned: Learned, data: Dataset, groups: int, per_group: int
    ) -> Cosine:
        """Between the gradients of the sleep phase and of −ELBO in q's parameters, from draws."""
        num = 5 * self.batch_size

        def sleep(learned: Learned, key: Any) -> Array:
            return sleep_loss(key, lambda key: dream_log_q(key, learned.model, num))

        def neg_elbo(learned: Learned, key: Any) -> Array:
            rows_key, x_key, key = jax.random.split(key, 3)
            rows = jax.random.randint(rows_key, (num,), 0, len(data.train))
            x = data.binarize(x_key, data.train[rows])
            return jnp.mean(hierarchical_neg_elbo(key, learned.model, x, ex.DisARM()))

        where = lambda learned: learned.model.encoders
        return gradient_cosine(key, sleep, neg_elbo, learned, where, groups, per_group)

    def words(self, name: str) -> str:
        known = {
            f"test_bound_{self.bound_samples}": f"test {self.bound_samples:,}-sample bound",
            "sleep_cosine": "cosine of the sleep phase's gradient and the ELBO's",
            "sleep_cosine_error": "standard error of that cosine",
            "amortization_gap": "amortization gap",
            "amortization_gap_error": "standard error of that gap, over pictures",
        }
        return known.get(name) or super().words(name)

    def unit(self, name: str) -> str:
        return "nats a picture" if name.startswith("amortization") else super().unit(name)

    @property
    def title(self) -> str:
        return f"{NAME}, {self.method} {'–'.join(map(str, self.sizes))}"


def with_rare_bits(model: HierarchicalVAE, bias: float) -> HierarchicalVAE:
    """The net with this bias of every bit of every layer, under p and under q.

    At −3 bits are rare. Few at a time explain a picture, so that they are nearly independent given
    it, as q has them; from 0 wake-sleep ends several nats lower.
    """
    biases = lambda model: [
        model.prior_logits,
        *(network.layers[-1].bias for network in (*model.encoders, *model.decoders[1:])),
    ]
    return eqx.tree_at(biases, model, [jnp.full_like(b, bias) for b in biases(model)])


def mean_of(
    bound: Any, key: PRNGKeyArray, model: HierarchicalVAE, data: Dataset, rows: Array, num: int
) -> Float[Array, ""]:
    """A bound of rows of pictures from `num` draws for each, in nats a picture."""

    def of_row(key: Array, row: Array) -> Array:
        x_key, z_key = jax.random.split(key)
        return bound(z_key, model, data.binarize(x_key, row), num)

    return mean_over_rows(key, rows, of_row)


def gap_of_each(
    key: PRNGKeyArray, model: HierarchicalVAE, x: Float[Array, "B P"], num_steps: int
) -> Float[Array, "B"]:
    """The amortization gap of each picture, in nats, of a net of one layer."""
    import optax

    fit_key, gap_key = jax.random.split(key)
    bits: Any = lambda logits: dist.Bernoulli(logits=logits).to_event(1)
    log_p = lambda z: model.log_joint(x, (z,))
    start = model.posterior_logits(0, x)
    adam = optax.adam(optax.cosine_decay_schedule(0.1, num_steps))
    fitted = fit_each(fit_key, start, bits, log_p, ex.DisARM(), adam, num_steps)
    return amortization_gap(gap_key, bits(start), bits(fitted), log_p, num_samples=100)


def plan(asked: Asked) -> Plan:
    """The experiment as asked for."""
    data = asked.one_of(DATA)
    quick: dict[str, Any] = {
        "shrink": data == "digits",
        "bound_samples": 100,
        "num_fitted": 100,
        "fit_steps": 200,
        "hidden_bias": 0.0,
    }
    task = BeliefNet(
        data=data,
        data_dir=asked.data_dir,
        steps=asked.choose("steps", STEPS, 3_000),
        num_seeds=asked.choose("num_seeds", 3, 2),
        **(quick if asked.quick else {}),
    )
    bound = f"test_bound_{task.bound_samples}"
    nets = ((5,),) if asked.quick else NETS
    contenders = []
    for sizes in nets:
        for method in METHODS:
            name = "-".join(map(str, (method, *sizes)))
            figure = bound if method == "reweighted" else "test_elbo"
            known = name in PUBLISHED and data in DATA
            published = {figure: PUBLISHED[name]} if known else {}
            rate = RATES[method]
            mine = dataclasses.replace(task, method=method, sizes=sizes, learning_rate=rate)
            cost = evaluations(method, len(sizes))
            contenders.append(Contender(name, mine, cost, published, "theirs is of another length"))
    if asked.quick:
        contenders = [c for c in contenders if c.name in ("wake-sleep-5", "disarm-5")]
    protocol = PROTOCOL.format(
        data=data, sizes=" or ".join("–".join(map(str, sizes)) for sizes in nets),
        batch=task.batch_size, steps=task.steps, seeds=task.seeds,
        rates=", ".join(f"{rate:g} ({method})" for method, rate in RATES.items()),
        particles=PARTICLES, control=task.control_rate, bound=task.bound_samples,
        fitted=task.num_fitted, fit_steps=task.fit_steps, bias=task.hidden_bias,
        exact=EXACT if task.shrink else "",
    )  # fmt: skip
    panels = (
        Panel("test_elbo", "Test ELBO, nats a picture: mean ± s.e."),
        Panel("test_elbo", "The same, by the clock", clock=True),
        Panel(f"test_bound_{PARTICLES}", "Test 5-sample bound, nats a picture"),
        Panel("sleep_cosine", "Cosine of the sleep phase's gradient and the ELBO's"),
    )
    figures = (
        *("test_elbo", bound, "sleep_cosine", "sleep_cosine_error"),
        *("amortization_gap", "amortization_gap_error"),
    )
    return Plan(protocol, tuple(contenders), figures, panels, STEPS, tolerance=1.0, counted=True)


EXPERIMENT = TrainingExperiment(
    NAME, "sigmoid belief nets: wake-sleep, reweighted, NVIL, VIMCO, DisARM; two gradients' angle",
    plan,
)  # fmt: skip
