"""The runs of the two-hundred-bits experiment, and the variance of its gradients in closed form.

With f(b) = 1/D Σ_j (b_j − t)², Δ = 1 − 2t, p = σ(θ), v = p (1 − p), the objective is
t² + Δ mean_j p_j and its gradient g_i = Δ v_i / D. For a bit (b − t)² = t² + Δ b, so every cost
that an estimator multiplies with the score is linear in the bits, a + 1/D Σ_j c_j b_j:

- plain score: a = t², c = Δ;
- MuProp, f(b) − f(p) − f'(p)·(b − p): a = t² − mean_j (p_j − t)² + mean_j 2 (p_j − t) p_j and
  c_j = Δ − 2 (p_j − t), with the gradient's mean put back as a constant;
- leave-one-out, two draws: the difference of two costs, a = 0 and c = Δ;
- double control variate, two draws: F_0 − F_1 with c_j = Δ − 2α (p_j − t), and
  α v_i (b_0i + b_1i − 2t) / D put back;
- DisARM: the difference over an antithetic pair, which differs with probability r = 2 (1 − m),
  m = max(p, 1 − p).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

import expectax as ex

from ..._expect import expect

NUM_BITS = 200
TARGET = 0.499
DELTA = 1.0 - 2.0 * TARGET
RATE, CONTROL_RATE = 1e-2, 5e-4


@dataclasses.dataclass(frozen=True)
class RMSprop:
    """One of the two RMSprops in use: θ ← θ − rate · g / (√ν + ε), ν ← decay ν + (1 − decay) g²."""

    name: str
    decay: float
    epsilon: float


KERAS = RMSprop("RMSprop as in Keras (decay 0.9, ε 1e-7)", 0.9, 1e-7)
PYTORCH = RMSprop("RMSprop as in PyTorch (decay 0.99, ε 1e-8)", 0.99, 1e-8)
OPTIMIZERS = (KERAS, PYTORCH)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much to run.

    Attributes:
        num_seeds: runs of each estimator with each optimiser, all at once.
        num_steps: of each run.
        steps_per_record: how often the logits are kept.
        measured_at: the steps at which the variance of the gradient is measured.
        num_chunks: of `CHUNK` gradients drawn for one such measurement.
    """

    num_seeds: int = 5
    num_steps: int = 2_000
    steps_per_record: int = 20
    measured_at: tuple[int, ...] = (0, 500)
    num_chunks: int = 200
    seed: int = 0


FULL = Settings()
QUICK = dataclasses.replace(FULL, num_chunks=40)
CHUNK = 1_000

Bits = Float[np.ndarray, "... D"]


@dataclasses.dataclass(frozen=True)
class Contender:
    """An estimator, with its closed form and its published figure.

    Attributes:
        name: in tables and pictures.
        build: the estimator at the start of a run; None for the exact gradient.
        published: the objective after 2,000 steps, as read off the figure.
        variance: of the gradient of each bit, from p and α; None where there is none.
        repeats: how many estimates are averaged, so that each contender has two draws.
        learns: whether the estimator's own leaves are trained.
    """

    name: str
    build: Callable[[], Any]
    published: str
    variance: Callable[[Bits, Float[np.ndarray, "..."]], Bits] | None
    repeats: int = 1
    learns: bool = False


def _others(x: Bits) -> Bits:
    """For each bit, the sum over the other bits."""
    return np.sum(x, axis=-1, keepdims=True) - x


def _gradient(p: Bits) -> Bits:
    return DELTA * p * (1 - p) / p.shape[-1]


def _one_score(p: Bits, constant: Any, slope: Bits) -> Bits:
    """Variance of (a + 1/D Σ c_j b_j)(b_i − p_i) for one draw."""
    size, v = p.shape[-1], p * (1 - p)
    slope = slope / size
    rest = constant + _others(slope * p)
    spread = _others(slope**2 * v)
    moment = p * (1 - p) ** 2 * ((rest + slope) ** 2 + spread)
    moment = moment + (1 - p) * p**2 * (rest**2 + spread)
    return moment - (slope * v) ** 2


def _score(p: Bits, alpha: Any) -> Bits:
    del alpha
    return _one_score(p, TARGET**2, np.full_like(p, DELTA)) / 2


def _muprop(p: Bits, alpha: Any) -> Bits:
    del alpha
    away = p - TARGET
    constant = TARGET**2 + np.mean(2 * away * p - away**2, axis=-1, keepdims=True)
    return _one_score(p, constant, DELTA - 2 * away) / 2


def _double(p: Bits, alpha: Float[np.ndarray, "..."]) -> Bits:
    """E[G²] − g² with d = b_0 − b_1, E d² = E d⁴ = 2v: see the module's docstring."""
    size, v, alpha = p.shape[-1], p * (1 - p), np.asarray(alpha)[..., None]
    c = DELTA - 2 * alpha * (p - TARGET)
    inside = (2 * v * c**2 + 4 * v * _others(c**2 * v)) / (4 * size**2)
    back = (alpha * v / size) ** 2 * (2 * v + 4 * (p - TARGET) ** 2)
    return inside + back + 2 * alpha * c * DELTA * (v / size) ** 2 - _gradient(p) ** 2


def _leave_one_out(p: Bits, alpha: Any) -> Bits:
    return _double(p, 0.0 * np.asarray(alpha))


def _disarm(p: Bits, alpha: Any) -> Bits:
    del alpha
    m = np.maximum(p, 1 - p)
    r = 2 * (1 - m)
    return (DELTA * m / (2 * p.shape[-1])) ** 2 * r * (1 + _others(r)) - _gradient(p) ** 2


CONTENDERS = (
    Contender("exact gradient", lambda: None, ".25100", None),
    Contender("ScoreFunction(2)", lambda: ex.ScoreFunction(2), ".2500", _score),
    Contender("MuProp, two draws", lambda: ex.MuProp(), ".2500", _muprop, repeats=2),
    Contender("LeaveOneOut(2)", lambda: ex.LeaveOneOut(2), ".25054", _leave_one_out),
    Contender("DisARM", lambda: ex.DisARM(), ".25056", _disarm),
    Contender(
        "DoubleControlVariate(2)",
        lambda: ex.DoubleControlVariate(2, scale=0.0),
        ".25100",
        _double,
        learns=True,
    ),
)


def objective(logits: Float[Array, "... D"]) -> Float[Array, "..."]:
    """E[f] exactly: mean of t² + Δ p."""
    return jnp.mean(TARGET**2 + DELTA * jax.nn.sigmoid(logits), axis=-1)


def negative(
    learned: tuple[Float[Array, "D"], Any], key: PRNGKeyArray, repeats: int
) -> Float[Array, ""]:
    """An estimate of −E[f], which is minimised; exact where there is no estimator."""
    logits, estimator = learned
    if estimator is None:
        return -objective(logits)
    q = dist.Bernoulli(logits=logits).to_event(1)
    f = lambda b: jnp.mean((b - TARGET) ** 2, axis=-1)
    one = lambda key: expect(key, q, f, estimator)
    return -jnp.mean(jax.vmap(one)(jax.random.split(key, repeats)))


@dataclasses.dataclass(frozen=True)
class Runs:
    """What is kept of one contender: axes optimiser, seed, record.

    Attributes:
        logits: with a last axis of bits.
        alpha: the scale of the double control variate; zero where there is none.
        ratio: measured variance of the gradient over its closed form, means over the bits, in the
            first run: for each time in `measured_at` and each chunk of redrawn gradients.
    """

    logits: Float[np.ndarray, "O R N D"]
    alpha: Float[np.ndarray, "O R N"]
    ratio: Float[np.ndarray, "M C"] | None

    @property
    def p(self) -> Float[np.ndarray, "O R N D"]:
        """P(b = 1)."""
        return 1.0 / (1.0 + np.exp(-self.logits))

    @property
    def objective(self) -> Float[np.ndarray, "O R N"]:
        """E[f] exactly, in float64."""
        return np.mean(TARGET**2 + DELTA * self.p, axis=-1)


def _rules(decay: Float[Array, ""], epsilon: Float[Array, ""], learns: bool) -> Any:
    """RMSprop for the logits, and for α where it learns."""
    scaled = optax.scale_by_rms(decay=decay, eps=epsilon, eps_in_sqrt=False)
    # published: α descends on the *mean* of g² over bits. ε is not small beside its gradient, so
    # that the mean is not the sum matters
    control = optax.chain(optax.scale(1 / NUM_BITS), scaled, optax.scale(-CONTROL_RATE))
    rules: dict[Any, Any] = {
        "logits": optax.chain(scaled, optax.scale(-RATE)),
        "control": control if learns else optax.set_to_zero(),
    }
    labels = lambda pair: ("logits", jax.tree.map(lambda _: "control", pair[1]))
    return optax.partition(rules, labels)


def simulate(contender: Contender, settings: Settings) -> Runs:
    """All runs of one contender in one compiled program, and the variance of its gradient."""
    walk, redraw = jax.random.split(jax.random.key(settings.seed))
    records = settings.num_steps // settings.steps_per_record
    keys = jax.random.split(walk, (settings.num_seeds, records, settings.steps_per_record))
    history = _ascend(contender)(
        keys,
        jnp.asarray([optimizer.decay for optimizer in OPTIMIZERS]),
        jnp.asarray([optimizer.epsilon for optimizer in OPTIMIZERS]),
    )
    logits = np.asarray(history[0], np.float64)
    scale = history[1].scale if contender.learns else np.zeros(logits.shape[:-1])
    kept = Runs(logits, np.asarray(scale, np.float64), None)
    if contender.variance is None:
        return kept
    at = np.asarray(settings.measured_at) // settings.steps_per_record
    p, alpha = kept.p[0, 0, at], kept.alpha[0, 0, at]
    learned = jax.tree.map(lambda x: x[0, 0, at], history)
    draws = jax.random.split(redraw, (settings.num_chunks, CHUNK))
    exact = DELTA * p * (1 - p) / NUM_BITS
    measured = _squared_errors(contender.repeats, learned, draws, jnp.asarray(exact))
    closed = np.mean(contender.variance(p, alpha), axis=-1, keepdims=True)
    return dataclasses.replace(kept, ratio=np.asarray(measured, np.float64) / closed)


def _ascend(contender: Contender) -> Callable[..., PyTree]:
    """The program from keys (seed, record, step) and the optimisers' constants to what was learned,
    leading axes optimiser, seed, record."""
    loss = lambda learned, key: negative(learned, key, contender.repeats)

    def run(keys: Any, decay: Any, epsilon: Any) -> PyTree:
        rules = _rules(decay, epsilon, contender.learns)
        learned: Any = (jnp.zeros(NUM_BITS), contender.build())

        def step(state: PyTree, key: PRNGKeyArray):
            learned, memory = state
            updates, memory = rules.update(jax.grad(loss)(learned, key), memory, learned)
            return (optax.apply_updates(learned, updates), memory), None

        def record(state: PyTree, keys: Any):
            return jax.lax.scan(step, state, keys)[0], state[0]

        begin: Any = (learned, rules.init(learned))
        end, history = jax.lax.scan(record, begin, keys)
        return jax.tree.map(lambda h, x: jnp.append(h, x[None], axis=0), history, end[0])

    return jax.jit(jax.vmap(jax.vmap(run, (0, None, None)), (None, 0, 0)))


def _squared_errors(
    repeats: int, learned: PyTree, keys: Any, exact: Float[Array, "M D"]
) -> Float[Array, "M C"]:
    """The mean of (G − g)² over bits and over each chunk of draws, at each kept state."""

    def one(at: PyTree, g: Float[Array, "D"], key: PRNGKeyArray):
        return jnp.mean((jax.grad(negative)(at, key, repeats)[0] + g) ** 2)  # G is that of −E[f]

    @jax.jit
    def chunks(learned: PyTree, exact: Float[Array, "M D"]):
        chunk = lambda at, g, keys: jnp.mean(jax.vmap(lambda key: one(at, g, key))(keys))
        state = lambda at, g: jax.lax.map(lambda keys_of_one: chunk(at, g, keys_of_one), keys)
        return jax.lax.map(lambda pair: state(*pair), (learned, exact))

    return chunks(learned, exact)
