"""Losses for data of which some have labels."""

from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._errors import InvalidArgumentError, complain
from .._expect import expect
from .._types import PRNGKey
from ..estimators import AbstractEstimator
from ._analytic import neg_elbo_analytic_kl
from ._elbo import neg_elbo


class Labelled(Protocol):
    """p(y) p(z) p(x | y, z) and q(y | x) q(z | x, y): a label y and a style z, or a label alone."""

    def label_posterior(self, x: Any) -> Any:
        """q(y | x), a NumPyro distribution with the batch of x."""
        ...

    def style_posterior(self, x: Any, y: Any) -> Any:
        """q(z | x, y), likewise; None if there is no style."""
        ...

    def log_label_prior(self, y: Any) -> Float[Array, "*batch"]:
        """log p(y)."""
        ...

    def style_prior(self) -> Any:
        """p(z), whose KL divergence from q(z | x, y) is known in closed form."""
        ...

    def log_likelihood(self, x: Any, y: Any, z: Any = None) -> Float[Array, "*batch"]:
        """log p(x | y, z), or log p(x | y)."""
        ...


def labelled_neg_elbo(
    key: PRNGKey, model: Labelled, x: Any, y: Any, style: AbstractEstimator | None = None
) -> Float[Array, "*batch"]:
    """An estimate of −ELBO(x, y) = −log p(y) + KL(q(z | x, y) ‖ p(z)) − E_q[log p(x | y, z)].

    It bounds −log p(x, y) from above. Without style it is −log p(x, y), and nothing is drawn. It
    does not depend on q(y | x): add `label_loss`, or −log q(y | x), to train that too.

    Arguments:
        key: consumed.
        model: a `Labelled`, such as `expectax.models.SemiSupervisedVAE`.
        x: the data, with its batch axes in front.
        y: their labels, as q(y | x) would draw them: one-hot.
        style: how the gradient of the style's expectation is estimated, such as `Pathwise()`; for
            a model without style, None.

    Returns:
        Shape batch, in nats.

    Raises:
        IncompatibleError: the estimator cannot serve q(z | x, y), or no closed form is known of its
            KL divergence.
        InvalidArgumentError: a model with style and no estimator for it, or labels that are not
            one-hot.

    Example:
        >>> import jax, jax.numpy as jnp, expectax as ex
        >>> from expectax.models import semi_supervised_vae
        >>> model = semi_supervised_vae(jax.random.key(0), jnp.full(6, 0.3), 3, 2, (4,))
        >>> x, y = jnp.ones((5, 6)), jax.nn.one_hot(jnp.arange(5) % 3, 3)
        >>> labelled_neg_elbo(jax.random.key(1), model, x, y, ex.Pathwise()).shape
        (5,)

    Reference: Kingma et al. (2014), eq. 6.
    """
    _check_labels(model, x, y)
    q = model.style_posterior(x, y)
    if q is None:
        return -model.log_label_prior(y) - model.log_likelihood(x, y)
    likelihood = lambda z: model.log_likelihood(x, y, z)
    rest = neg_elbo_analytic_kl(key, q, model.style_prior(), likelihood, style)  # type: ignore[arg-type]
    return rest - model.log_label_prior(y)


def unlabelled_neg_elbo(
    key: PRNGKey,
    model: Labelled,
    x: Any,
    label: AbstractEstimator,
    style: AbstractEstimator | None = None,
) -> Float[Array, "*batch"]:
    """An estimate of −ELBO(x) = E_q(y|x)[log q(y | x) − ELBO(x, y)], in nats, to be minimised.

    The label is a latent variable like any other: `label` decides whether it is summed out
    (`Enumerate()`), drawn hard (`LeaveOneOut(2)`, `DirectArgmax()`) or relaxed (`GumbelSoftmax()`).
    All labels share the noise of the style.

    Arguments:
        key: consumed.
        model: a `Labelled`, such as `expectax.models.SemiSupervisedVAE`.
        x: the data, with its batch axes in front.
        label: how the gradient of the label's expectation is estimated.
        style: how that of the style's is, as for `labelled_neg_elbo`.

    Returns:
        Shape batch, in nats; right to first order, as `neg_elbo` is.

    Raises:
        IncompatibleError: an estimator cannot serve its law.
        InvalidArgumentError: a model with style and no estimator for it.

    Example:
        >>> import jax, jax.numpy as jnp, expectax as ex
        >>> from expectax.models import semi_supervised_vae
        >>> model = semi_supervised_vae(jax.random.key(0), jnp.full(6, 0.3), 3, 2, (4,))
        >>> key, x = jax.random.key(1), jnp.ones((5, 6))
        >>> unlabelled_neg_elbo(key, model, x, ex.Enumerate(), ex.Pathwise()).shape
        (5,)

    Reference: Kingma et al. (2014), eq. 7.
    """
    label_key, style_key = jax.random.split(key)
    log_joint = lambda y: -labelled_neg_elbo(style_key, model, x, y, style)
    return neg_elbo(label_key, model.label_posterior(x), log_joint, label)


def label_loss(
    key: PRNGKey,
    model: Labelled,
    x: Any,
    y: Float[Array, "*batch C"],
    estimator: AbstractEstimator,
) -> Float[Array, "*batch"]:
    """An estimate of E_q(y'|x)[1 − ⟨y', y⟩], the chance that a label drawn from q is wrong.

    Between 0 and 1, unlike −log q(y | x): what the published semi-supervised objective of direct
    optimization adds for labelled data, with the estimator of the unlabelled.

    Arguments:
        key: consumed.
        model: a `Labelled`, such as `expectax.models.SemiSupervisedVAE`.
        x: the data, with its batch axes in front.
        y: their labels, one-hot.
        estimator: how the gradient is estimated; `Enumerate()` for 1 − q(y | x) itself.

    Returns:
        Shape batch.

    Raises:
        IncompatibleError: the estimator cannot serve q(y | x).
        InvalidArgumentError: labels that are not one-hot.

    Example:
        >>> import jax, jax.numpy as jnp, expectax as ex
        >>> from expectax.models import semi_supervised_vae
        >>> model = semi_supervised_vae(jax.random.key(0), jnp.full(6, 0.3), 3, 0, (4,))
        >>> x, y = jnp.ones((5, 6)), jax.nn.one_hot(jnp.arange(5) % 3, 3)
        >>> label_loss(jax.random.key(1), model, x, y, ex.DirectArgmax()).shape
        (5,)

    Reference: Lorberbom et al. (2019), section 5.3.
    """
    _check_labels(model, x, y)
    wrong = lambda drawn: 1 - jnp.sum(drawn * y, axis=-1)
    return expect(key, model.label_posterior(x), wrong, estimator)


def _check_labels(model: Labelled, x: Any, y: Any) -> None:
    """Raise unless labels have the shape of draws from q(y | x): integers would broadcast."""
    law: Any = eqx.filter_eval_shape(model.label_posterior, x)
    wanted = (*law.batch_shape, *law.event_shape)
    if jnp.shape(y) != wanted:
        raise InvalidArgumentError(
            complain(
                f"labels have shape {jnp.shape(y)}, where q(y | x) draws shape {wanted}",
                "each label is as q(y | x) would draw it",
                "pass jax.nn.one_hot(labels, num_classes) for labels that are numbers",
            )
        )
