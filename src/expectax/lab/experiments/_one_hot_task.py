"""VAEs of one-hot latents, trained by any estimator that serves them."""

import functools

from ...models import categorical_vae
from .. import vae
from ..estimators import options_of
from ._vae_tasks import AbstractVAETask


class AbstractOneHotTask(AbstractVAETask):
    """D one-hot variables of C categories; uniform prior, encoder with two hidden layers.

    Attributes:
        estimator: a key of `RECIPES`.
        num_samples: draws a step; None for an estimator that has no such option.
        num_latents: D.
        num_categories: C.
        hidden: sizes of the encoder's hidden layers, and reversed of the decoder's.
        learning_rate: of Adam.
    """

    estimator: str
    num_samples: int | None
    num_latents: int
    num_categories: int
    hidden: tuple[int, ...]
    learning_rate: float

    def init(self, key, data):
        make = functools.partial(
            categorical_vae,
            num_latents=self.num_latents,
            num_categories=self.num_categories,
            hidden=self.hidden,
            uniform_prior=True,
        )
        options = options_of(self.estimator, {"num_samples": self.num_samples})
        return vae.begin(key, data, make, self.estimator, options)

    def objective(self, learned, batch, key, step):
        del step
        return vae.objective(learned, batch, key)

    def optimizers(self):
        import optax

        return {"": optax.adam(self.learning_rate)}
