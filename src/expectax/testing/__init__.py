"""The conformance kit: is an estimator what it claims to be? For ours, and for yours.

    >>> import expectax as ex
    >>> from expectax.testing import check_estimator
    >>> results = check_estimator(ex.DisARM(), checks=["evaluations", "capability"])
    >>> {result.outcome for result in results}
    {'passed'}

- Problems with exact gradients: `bits`, `hots`, `tree`, `single`, `gaussian`, `gamma`,
  `counts`.
- Gates for random numbers: `Gate`, `check_mean`, `stream`.
- The battery: `check_estimator`, and by hand `Trial`, `run_check`, `CHECKS`.
- What the battery itself is tested with: `mutants`.
"""

from ._battery import (
    ConformanceError as ConformanceError,
    Result as Result,
    check_estimator as check_estimator,
    problems_for as problems_for,
    run_check as run_check,
)
from ._catalog import (
    bits as bits,
    gamma as gamma,
    gaussian as gaussian,
    hots as hots,
    single as single,
    tree as tree,
)
from ._continuous import angles as angles, mixtures as mixtures, tails as tails
from ._counts import counts as counts
from ._gates import (
    Gate as Gate,
    check_biased as check_biased,
    check_mean as check_mean,
    gather as gather,
)
from ._moments import (
    Moments as Moments,
    merge as merge,
    moments_of as moments_of,
    over_keys as over_keys,
    stream as stream,
)
from ._mutants import Mutant as Mutant, mutants as mutants
from ._problems import Layers as Layers, Problem as Problem, features as features
from ._scripts import (
    Script as Script,
    expected_value as expected_value,
    play as play,
    script_of_choices as script_of_choices,
    script_of_draws as script_of_draws,
    script_of_noise as script_of_noise,
)
from ._trial import CHECKS as CHECKS, Check as Check, Trial as Trial
