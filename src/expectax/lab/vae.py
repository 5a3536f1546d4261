"""What training a VAE means: parts of a task that several experiments share."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..distributions import joint
from ..models import AbstractVAE
from ..objectives import hard_elbo, importance_bound, neg_elbo
from . import estimators
from .data import Dataset
from .evaluate import gradient_variance, mean_over_rows

_MODEL, _FACTORY, _START = 2, 3, 4  # what a seed's keys are for; the loop's uses are 0 and 1
_ENOUGH = 5000  # draws that make a point of the curves smooth, over all its pictures


class Learned(eqx.Module):
    """What the optimisers train."""

    model: AbstractVAE
    estimator: estimators.AbstractFactory


def begin(
    key: PRNGKeyArray, data: Dataset, make_model: Any, estimator: str, options: dict[str, Any]
) -> Learned:
    """A model and the factory of its estimator before the first step.

    Arguments:
        key: the seed's.
        data: pictures.
        make_model: from a key and the mean picture to the model.
        estimator: a key of `estimators.RECIPES`.
        options: of the estimator.
    """
    model = make_model(jax.random.fold_in(key, _MODEL), data.mean)
    return Learned(model, estimators.build(estimator, setting(key, model, data), options))


def setting(key: PRNGKeyArray, model: AbstractVAE, data: Dataset) -> estimators.Setting:
    """What an estimator's factory is built for: this model, as it is now.

    Arguments:
        key: the seed's.
        model: before training or later.
        data: pictures.
    """
    q_key, x_key = jax.random.split(jax.random.fold_in(key, _START))
    x = data.binarize(x_key, data.train[:: max(1, len(data.train) // 200)])
    costs = -hard_elbo(q_key, model.posterior(x), lambda z: model.log_joint(x, z))
    return estimators.Setting(
        key=jax.random.fold_in(key, _FACTORY),
        center=data.mean,
        draw=joint(model.prior()).example(),
        typical=jnp.mean(costs),
        spread=jnp.maximum(jnp.std(costs), 1e-3),
    )


def objective(learned: Learned, x: Float[Array, "B P"], key: PRNGKeyArray) -> Float[Array, ""]:
    """What is minimised: an estimate of −ELBO, in nats, mean over the batch."""
    model = learned.model
    costs = neg_elbo(key, model.posterior(x), lambda z: model.log_joint(x, z), learned.estimator(x))
    return jnp.mean(costs)


def evaluations(learned: Learned, x: Float[Array, "B P"]) -> int:
    """How often the objective's gradient evaluates the cost, for the whole batch."""
    q = joint(learned.model.posterior(x))
    count = learned.estimator(x).evaluations(q)
    return len(x) * (count.hard + count.auxiliary)


def mean_elbo(
    key: PRNGKeyArray, model: AbstractVAE, data: Dataset, rows: Array, num_samples: int = 1
) -> Float[Array, ""]:
    """The ELBO of rows of pictures, in nats a picture, from `num_samples` draws for each."""
    bound = functools.partial(hard_elbo, num_samples=num_samples)
    return mean_over_rows(key, rows, eqx.Partial(_bound, bound, model, data))


def mean_bound(
    key: PRNGKeyArray, model: AbstractVAE, data: Dataset, rows: Array, num_samples: int
) -> Float[Array, ""]:
    """The m-sample bound of rows of pictures, in nats a picture; m is `num_samples`."""
    bound = functools.partial(importance_bound, num_samples=num_samples)
    return mean_over_rows(key, rows, eqx.Partial(_bound, bound, model, data))


def _bound(bound: Any, model: AbstractVAE, data: Dataset, key: PRNGKeyArray, row: Array) -> Array:
    x_key, z_key = jax.random.split(key)
    x = data.binarize(x_key, row)
    return bound(z_key, model.posterior(x), lambda z: model.log_joint(x, z))


def curves(
    key: PRNGKeyArray, learned: Learned, data: Dataset, batch_size: int
) -> dict[str, Float[Array, ""]]:
    """One point of the curves.

    `train_elbo` and `test_elbo` are from hard draws at the present parameters, whatever the
    estimator, over the test set and as many training pictures; `gradient_variance` is that of the
    encoder's gradient for a batch of the first training pictures: the encoder is where the
    estimator's gradient goes.
    """
    train_key, test_key, x_key, key = jax.random.split(key, 4)
    draws = max(1, _ENOUGH // len(data.test))
    subset = data.train[: len(data.test)]
    x = data.binarize(x_key, data.train[:batch_size])
    loss = eqx.Partial(_of_batch, x)
    where = lambda tree: tree.model.encoder
    return {
        "train_elbo": mean_elbo(train_key, learned.model, data, subset, draws),
        "test_elbo": mean_elbo(test_key, learned.model, data, data.test, draws),
        "gradient_variance": gradient_variance(key, loss, learned, where),
    }


def _of_batch(x: Array, learned: Learned, key: PRNGKeyArray) -> Array:
    return objective(learned, x, key)


def pictures(
    key: PRNGKeyArray, model: Any, infer: Any, data: Dataset, num: int = 36
) -> dict[str, Float[Array, "num P"]]:
    """Test pictures, their reconstructions, and draws from the prior.

    Arguments:
        key: consumed.
        model: has `decode` and `sample_prior`.
        infer: from pictures to the law of what they are decoded from.
        data: pictures.
        num: of each.
    """
    x_key, z_key, prior_key = jax.random.split(key, 3)
    rows = data.test[jnp.linspace(0, len(data.test) - 1, num).astype(int)]
    x = data.binarize(x_key, rows)
    z = joint(infer(x)).sample(z_key, 1)[0]
    return {
        "data": x,
        "reconstructions": model.decode(z),
        "prior": model.sample_prior(prior_key, num),
    }
