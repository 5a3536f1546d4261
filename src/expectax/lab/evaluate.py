"""How good a model is, and how noisy its gradient: everything here leaves the state as it is."""

import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from ..diagnostics import gradient_moments
from ..distributions import joint
from ..models import AbstractVAE, Network
from ..objectives import hard_elbo, importance_bound
from .data import Dataset
from .train import Learned, TrainState, each_seed, objective

_AT_ONCE = 500  # pictures evaluated at once
_ENOUGH = 5000  # draws that make a point of the curves smooth, over all its pictures
_DRAWS = 32  # gradients drawn for their variance
_EVALUATION = 1 << 20  # folded into a seed's key: no use that training makes of it


def _mean_bound(
    bound: Callable[..., Array],
    key: PRNGKeyArray,
    model: AbstractVAE,
    data: Dataset,
    rows: UInt8[Array, "N P"],
) -> Float[Array, ""]:
    """The mean over pictures of a bound, `bound(key, q, log_joint)`, in nats."""

    def one(row_and_key: tuple[Array, PRNGKeyArray]) -> Array:
        row, key = row_and_key
        x_key, z_key = jax.random.split(key)
        x = data.binarize(x_key, row)
        return bound(z_key, model.posterior(x), lambda z: model.log_joint(x, z))

    keys = jax.random.split(key, len(rows))
    return jnp.mean(jax.lax.map(one, (rows, keys), batch_size=min(_AT_ONCE, len(rows))))


def gradient_variance(
    key: PRNGKeyArray, learned: Learned, x: Float[Array, "B P"]
) -> Float[Array, ""]:
    """The variance of the gradient summed over the encoder's parameters.

    The draws of the latents are redrawn with everything else fixed; the encoder is where the
    estimator's gradient goes.
    """
    loss = eqx.Partial(_encoder_loss, learned, x)
    encoder = learned.model.encoder
    return gradient_moments(key, loss, encoder, num_draws=_DRAWS, chunk_size=1).total_variance


def _encoder_loss(
    learned: Learned, x: Float[Array, "B P"], encoder: Network, key: PRNGKeyArray
) -> Float[Array, ""]:
    return objective(eqx.tree_at(lambda tree: tree.model.encoder, learned, encoder), x, key)


@eqx.filter_jit
def measure(state: TrainState, data: Dataset, batch_size: int) -> dict[str, Float[Array, "seeds"]]:
    """One point of the curves, for each seed.

    `train_elbo` and `test_elbo` are from hard draws at the present parameters, whatever the
    estimator, over the test set and as many training pictures; `gradient_variance` is that of a
    batch of the first training pictures.
    """

    def one(seed):
        key = jax.random.fold_in(jax.random.fold_in(seed.key, _EVALUATION), state.step)
        train_key, test_key, x_key, key = jax.random.split(key, 4)
        model = seed.learned.model
        subset = data.train[: len(data.test)]
        elbo = functools.partial(hard_elbo, num_samples=max(1, _ENOUGH // len(data.test)))
        x = data.binarize(x_key, data.train[:batch_size])
        return {
            "train_elbo": _mean_bound(elbo, train_key, model, data, subset),
            "test_elbo": _mean_bound(elbo, test_key, model, data, data.test),
            "gradient_variance": gradient_variance(key, seed.learned, x),
        }

    return each_seed(one)(state.seeds)


@eqx.filter_jit
def final_bounds(
    state: TrainState, data: Dataset, num_samples: int
) -> tuple[Float[Array, "seeds"], Float[Array, "seeds"]]:
    """The test set's ELBO (10 draws a picture) and `num_samples`-sample bound, for each seed."""

    def one(seed):
        key = jax.random.fold_in(jax.random.fold_in(seed.key, _EVALUATION + 1), state.step)
        mean = functools.partial(_mean_bound, key=key, model=seed.learned.model, data=data)
        elbo = functools.partial(hard_elbo, num_samples=10)
        bound = functools.partial(importance_bound, num_samples=num_samples)
        return mean(elbo, rows=data.test), mean(bound, rows=data.test)

    return each_seed(one)(state.seeds)


@eqx.filter_jit
def pictures(state: TrainState, data: Dataset, num: int) -> dict[str, Float[Array, "num P"]]:
    """Test pictures, their reconstructions, and draws from the prior, of the first seed."""
    seed = jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, state.seeds)
    model, key = seed.learned.model, jax.random.fold_in(seed.key, _EVALUATION + 2)
    x_key, z_key, prior_key = jax.random.split(key, 3)
    rows = data.test[jnp.linspace(0, len(data.test) - 1, num).astype(int)]
    x = data.binarize(x_key, rows)
    z = joint(model.posterior(x)).sample(z_key, 1)[0]
    return {
        "data": x,
        "reconstructions": model.decode(z),
        "prior": model.sample_prior(prior_key, num),
    }
