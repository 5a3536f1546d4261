"""Hard attention: a classifier that sees a picture by glimpses, and chooses each location itself.

Axes: B data batch (any number of leading axes), P pixels of a square picture, row by row; T
glimpses; C classes. Locations are (row, column), from −1 at the upper and the left edge
of the picture to 1 at the lower and the right one; the middle is 0.
"""

import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from .._errors import InvalidArgumentError, complain
from ._layers import Network, with_last_bias, with_zero_last_layer


class Retina(eqx.Module):
    """Square patches around a location, as many pixels each, and each twice as wide as the last.

    Scale k sees the mean of 2^k × 2^k pixels as one. Between pixels it interpolates bilinearly, so
    that a glimpse is a continuous, piecewise differentiable function of its location; outside the
    picture all is 0, and a location outside is moved to the edge.

    Attributes:
        width: of the picture, in pixels: a multiple of 2^(num_scales − 1).
        size: of a patch, in pixels of its scale.
        num_scales: how many patches.

    Example:
        >>> import jax.numpy as jnp
        >>> retina = Retina(width=4, size=2)
        >>> scene = retina.scene(jnp.arange(16.0))
        >>> retina.glimpse(scene, jnp.zeros(2)).tolist()
        [5.0, 6.0, 9.0, 10.0]
    """

    width: int = eqx.field(static=True)
    size: int = eqx.field(static=True)
    num_scales: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        if self.num_scales < 1 or self.size < 1 or self.width % 2 ** (self.num_scales - 1):
            raise InvalidArgumentError(
                complain(
                    f"a retina of {self.num_scales} scales, size {self.size}, was asked for on "
                    f"pictures of {self.width}×{self.width}",
                    "each scale halves the picture",
                    "pass positive numbers, and a width that can be halved so often",
                )
            )

    @property
    def num_values(self) -> int:
        """Of one glimpse."""
        return self.num_scales * self.size**2

    def scene(self, x: Float[Array, "*B P"]) -> tuple[Float[Array, "*B H H"], ...]:
        """The picture at every scale, framed by zeros: made once for all glimpses."""
        frame = [(0, 0)] * (x.ndim - 1) + [(self._frame, self._frame)] * 2
        found = []
        for scale in range(self.num_scales):
            step, small = 2**scale, self.width >> scale
            blocks = x.reshape(*x.shape[:-1], small, step, small, step)
            found.append(jnp.pad(jnp.mean(blocks, axis=(-3, -1)), frame))
        return tuple(found)

    def glimpse(
        self, scene: tuple[Float[Array, "*B H H"], ...], location: Float[Array, "*R 2"]
    ) -> Float[Array, "*R V"]:
        """What is seen at a location, all scales in a row.

        Arguments:
            scene: of pictures with batch axes B.
            location: with the same batch axes, or more before them: then each picture is looked at
                as often, and none is copied.
        """
        look = jnp.vectorize(self._patch, signature="(h,h),(t)->(n)", excluded={2})
        seen = [look(level, location, self.width >> k) for k, level in enumerate(scene)]
        return jnp.concatenate(seen, axis=-1)

    @property
    def _frame(self) -> int:
        """Pixels of 0 around each scale: as many as a glimpse at an edge reaches over it."""
        return (self.size + 1) // 2 + 1

    def _patch(self, level: Array, location: Array, width: int) -> Array:
        """Of one scale of one picture: all its pixels lie at one fraction between those there."""
        corner = (jnp.clip(location, -1, 1) + 1) / 2 * width - self.size / 2
        whole = jax.lax.stop_gradient(jnp.floor(corner))
        start = whole.astype(jnp.int32) + self._frame
        seen = jax.lax.dynamic_slice(level, (start[0], start[1]), (self.size + 1, self.size + 1))
        down, right = corner - whole
        rows = seen[:-1] + down * (seen[1:] - seen[:-1])
        return jnp.ravel(rows[:, :-1] + right * (rows[:, 1:] - rows[:, :-1]))


class Glimpses(eqx.Module):
    """A sequence of glimpses at each picture, and what came of it; the batch has the axes R.

    Attributes:
        locations: where it looked.
        log_probs: log π of each location given the glimpses before, at the location held fixed.
        baselines: what the cost was expected to be before each glimpse.
        class_logits: after the last one.
    """

    locations: Float[Array, "*R T 2"]
    log_probs: Float[Array, "*R T"]
    baselines: Float[Array, "*R T"]
    class_logits: Float[Array, "*R C"]


class GlimpseNetwork(eqx.Module):
    """A recurrent classifier that sees a picture by glimpses, and draws each next location itself.

    What is seen, and where, enters a recurrent state; from the state follow the law of the next
    location, Normal(tanh(mean), spread²), the baseline, and after the last glimpse the class. The
    state is 0 at first, so that the first location has a learned law of its own.

    Attributes:
        retina: what a glimpse sees.
        what: from a glimpse to features.
        where: from a location to what these features are multiplied by.
        core: from the features and the state to the next state.
        locate: from the state to the mean of the next location, before tanh.
        classify: from the state to the logits of the classes.
        judge: from the state, held fixed, to the expected cost.
        spread: the standard deviation of a location.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = glimpse_network(jax.random.key(0), Retina(28, size=8), num_classes=10)
        >>> noise = jax.random.normal(jax.random.key(1), (6, 5, 2))  # T = 6 at B = 5 pictures
        >>> path = model.look(jnp.zeros((5, 784)), noise)
        >>> path.locations.shape, path.class_logits.shape
        ((5, 6, 2), (5, 10))
    """

    retina: Retina
    what: Network
    where: Network
    core: Network
    locate: Network
    classify: Network
    judge: Network
    spread: float = eqx.field(static=True)

    def location_law(self, state: Float[Array, "*R H"]) -> dist.Distribution:
        """π: of the next location, given the glimpses so far. It may lie outside the picture."""
        mean = jnp.tanh(self.locate(state))
        return dist.Normal(mean, self.spread).to_event(1)  # type: ignore[return-value]

    def see(
        self,
        scene: tuple[Float[Array, "*B S S"], ...],
        location: Float[Array, "*R 2"],
        state: Float[Array, "*R H"],
    ) -> Float[Array, "*R H"]:
        """The state after another glimpse."""
        seen = jax.nn.relu(self.what(self.retina.glimpse(scene, location)))
        both = jnp.concatenate([seen * self.where(location), state], axis=-1)
        return jax.nn.relu(self.core(both))

    def look(
        self,
        x: Float[Array, "*B P"],
        noise: Float[Array, "T *R 2"],
        carried: Callable[[Array], Array] = jax.lax.stop_gradient,
        consulted: Callable[[Array], Array] = lambda state: state,
    ) -> Glimpses:
        """Look at each picture T times.

        Arguments:
            x: pictures.
            noise: standard normal, T glimpses of the batch R, which is B or has axes before it:
                then each picture is looked at as often, independently. Zeros look at the means.
            carried: how a drawn location enters what follows. By default it is held fixed, as the
                score function needs it; `lambda location: location` lets the gradient pass through.
            consulted: how the state enters the law of the next location. Held fixed, log π trains
                the locator alone.
        """
        hidden, dtype = self.judge.layers[0].in_features, self.core.layers[0].weight.dtype
        scene, noise = self.retina.scene(x.astype(dtype)), noise.astype(dtype)
        start = jnp.zeros((*noise.shape[1:-1], hidden), dtype)

        def step(state: Array, noise: Array) -> tuple[Array, tuple[Array, Array, Array]]:
            law = self.location_law(consulted(state))
            location = carried(law.mean + self.spread * noise)  # type: ignore[operator]
            log_prob = jnp.asarray(law.log_prob(jax.lax.stop_gradient(location)))
            # the baseline learns by itself: it must not bend the state to be predictable
            baseline = self.judge(jax.lax.stop_gradient(state))[..., 0]
            return self.see(scene, location, state), (location, log_prob, baseline)

        state, path = jax.lax.scan(step, start, noise)
        locations, log_probs, baselines = path
        last = lambda leaf: jnp.moveaxis(leaf, 0, -1)
        locations = jnp.moveaxis(locations, 0, -2)
        return Glimpses(locations, last(log_probs), last(baselines), self.classify(state))


def glimpse_network(
    key: PRNGKeyArray,
    retina: Retina,
    num_classes: int,
    *,
    num_features: int = 256,
    hidden: int = 128,
    num_states: int = 256,
    spread: float = 0.15,
) -> GlimpseNetwork:
    """A recurrent attention model with rectifiers.

    Arguments:
        key: consumed.
        retina: what a glimpse sees.
        num_classes: C.
        num_features: of what is seen and where.
        hidden: units of the layer before, of what and of where.
        num_states: size of the recurrent state.
        spread: the standard deviation of a location; half the picture is 1.

    Example:
        >>> import jax
        >>> model = glimpse_network(jax.random.key(0), Retina(60, size=12, num_scales=3), 10)
        >>> model.what.layers[0].in_features
        432

    Reference: Mnih, Heess, Graves & Kavukcuoglu (2014), "Recurrent models of visual attention",
    section 3. There the first location is uniform on the picture.
    """
    keys = jax.random.split(key, 6)
    layers = functools.partial(Network, activation=jax.nn.relu)
    what = layers(retina.num_values, num_features, (hidden,), key=keys[0])
    where = layers(2, num_features, (hidden,), key=keys[1])
    core = layers(num_features + num_states, num_states, key=keys[2])
    return GlimpseNetwork(
        retina=retina,
        what=_lively(what),
        where=with_last_bias(where, jnp.ones(num_features)),
        core=_remembering(core, num_states),
        locate=with_zero_last_layer(layers(num_states, 2, key=keys[3])),
        classify=layers(num_states, num_classes, key=keys[4]),
        judge=layers(num_states, 1, key=keys[5]),
        spread=spread,
    )


def _lively(network: Network) -> Network:
    """The network with weights of variance 2 / inputs (He et al., 2015), six times what they had.

    So what is seen arrives in the state with about the size that it had.
    """
    weights = lambda n: [layer.weight for layer in n.layers]
    return eqx.tree_at(weights, network, replace_fn=lambda w: 6**0.5 * w)


def _remembering(core: Network, num_states: int) -> Network:
    """The core with the identity from state to state (Le, Jaitly & Hinton, 2015).

    With small random weights there, what was seen first has all but vanished after six glimpses.
    """
    weight = core.layers[0].weight
    kept = jnp.eye(num_states, dtype=weight.dtype)
    weight = jnp.concatenate([weight[:, :-num_states], kept], axis=1)
    return eqx.tree_at(lambda c: c.layers[0].weight, core, weight)
