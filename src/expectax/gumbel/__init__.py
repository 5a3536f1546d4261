"""The Gumbel toolbox.

Notation: θ logits, w = exp(θ), Z = Σ w; γ standard Gumbel, L standard logistic. A *perturbed logit*
is z = θ + γ (categories) or z = θ + L (bits).

Nearly everything here is one fact read in several ways: exp(−z_i) is an exponential clock of rate
w_i. The first clock to ring is drawn from softmax(θ) and rings at a time independent of which one
it is; after any ring the clocks that still run start afresh. Hence the max-trick, noise given the
winner, truncated Gumbels, sampling from the maximum down, and k draws without replacement.

- Noise, and noise given what it decided: `_noise`.
- Maxima and truncation: `_truncated`.
- The k largest, in order and as a set: `_top_k`.
- Relaxed sets, sorts and permutations: `_relaxed`.
"""

from ._noise import (
    argmax as argmax,
    conditional_gumbel as conditional_gumbel,
    conditional_logistic as conditional_logistic,
    gumbel as gumbel,
    gumbel_residual as gumbel_residual,
    logistic as logistic,
    logistic_residual as logistic_residual,
    open_uniform as open_uniform,
)
from ._relaxed import (
    relaxed_top_k as relaxed_top_k,
    sinkhorn as sinkhorn,
    soft_sort as soft_sort,
)
from ._top_k import (
    conditional_top_k as conditional_top_k,
    ordered_log_prob as ordered_log_prob,
    top_k as top_k,
    unordered_log_prob as unordered_log_prob,
)
from ._truncated import (
    maximum as maximum,
    top_down as top_down,
    truncated_gumbel as truncated_gumbel,
    with_maximum as with_maximum,
)
