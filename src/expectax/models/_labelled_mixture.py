"""A VAE of a label and a style whose label is cheap to sum out.

Axes: B data batch (any number of leading axes), P pixels, C classes, D entries of the style.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro.distributions.kl import kl_divergence

from ..distributions import OneHotCategorical
from ._gaussian import GaussianVAE, gaussian_vae
from ._layers import Network, leaky_rectifier


class LabelledMixture(eqx.Module):
    """p(y) p(z | y) p(x | z) and q(y | x) q(z | x): y one-hot, z normal, pixels Bernoulli.

    p(y) is uniform, p(z | y) a normal of its own for each class. It is the model M2 of Kingma et
    al. (2014), p(x | y, u) with a standard normal u, whose decoder sees z = μ_y + σ_y u and no
    label. So a picture is decoded once, not once for each class, and all that depends on the label
    is KL(q(z | x) ‖ p(z | y)).

    Attributes:
        classifier: from x − mean to the logits of q(y | x).
        vae: q(z | x) and p(x | z).
        locs: the means of p(z | y).
        log_scales: the logarithms of its standard deviations.
    """

    classifier: Network
    vae: GaussianVAE
    locs: Float[Array, "C D"]
    log_scales: Float[Array, "C D"]

    def label_posterior(self, x: Float[Array, "*B P"]) -> OneHotCategorical:
        """q(y | x), event shape (C,)."""
        return OneHotCategorical(logits=self.classifier(self.vae.centered(x)))

    def style_prior(self) -> dist.Distribution:
        """p(z | y) of every y: batch shape (C,), event shape (D,)."""
        return dist.Normal(self.locs, jnp.exp(self.log_scales)).to_event(1)  # type: ignore[return-value]

    def divergences(self, q: dist.Distribution) -> Float[Array, "*B C"]:
        """KL(q(z | x) ‖ p(z | y)) for every y, in nats.

        Arguments:
            q: `vae.posterior(x)`.
        """
        normal = q.base_dist  # type: ignore[attr-defined]
        shape = (*q.batch_shape, *self.locs.shape)
        loc, scale = (jnp.broadcast_to(a[..., None, :], shape) for a in (normal.loc, normal.scale))
        return kl_divergence(dist.Normal(loc, scale).to_event(1), self.style_prior())


def labelled_mixture(
    key: PRNGKeyArray, mean: Float[Array, "P"], num_classes: int, num_style: int, hidden: int
) -> LabelledMixture:
    """The model before its first step: two hidden layers in the classifier, one in the others.

    Arguments:
        key: consumed.
        mean: the mean picture, in [0, 1].
        num_classes: C.
        num_style: D.
        hidden: units of each hidden layer.
    """
    classifier_key, vae_key, loc_key = jax.random.split(key, 3)
    return LabelledMixture(
        Network(mean.size, num_classes, (hidden, hidden), leaky_rectifier, key=classifier_key),
        gaussian_vae(vae_key, mean, num_style, (hidden,)),
        0.1 * jax.random.normal(loc_key, (num_classes, num_style)),  # alike, but not the same
        jnp.zeros((num_classes, num_style)),
    )
