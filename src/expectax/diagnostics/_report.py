"""What a test of a gradient found, leaf by leaf."""

import dataclasses
from typing import Literal

from .._errors import ExpectaxError, UnderpoweredError, complain
from ._table import aligned, number

Verdict = Literal["unbiased", "biased", "underpowered"]


class BiasedError(ExpectaxError, AssertionError):
    """A gradient estimate differs from its reference by more than chance allows."""


@dataclasses.dataclass(frozen=True)
class LeafReport:
    """The verdict on one leaf of the parameters.

    Attributes:
        path: where the leaf is.
        size: its number of entries.
        max_z: the largest |mean − reference| / SE over the entries; infinite where either is not
            finite.
        worst_index: the entry where it is attained.
        mean: the mean gradient at that entry.
        reference: the reference there.
        scale: the gradient's scale, against which power is measured.
        resolution: z_max · SE / scale at the noisiest entry: the relative bias that would be seen.
        verdict: "biased" if max_z > z_max; otherwise "unbiased" if resolution ≤ power; otherwise
            "underpowered".
    """

    path: str
    size: int
    max_z: float
    worst_index: tuple[int, ...]
    mean: float
    reference: float
    scale: float
    resolution: float
    verdict: Verdict


@dataclasses.dataclass(frozen=True)
class UnbiasedReport:
    """What `check_unbiased` found, leaf by leaf; `print` it for a table."""

    leaves: tuple[LeafReport, ...]
    num_draws: int
    z_max: float
    power: float

    @property
    def verdict(self) -> Verdict:
        """ "biased" if any leaf is, else "underpowered" if any leaf is, else "unbiased"."""
        found = {leaf.verdict for leaf in self.leaves}
        for verdict in ("biased", "underpowered"):
            if verdict in found:
                return verdict
        return "unbiased"

    @property
    def num_draws_needed(self) -> float:
        """About how many draws give every leaf the power asked for."""
        worst = max(leaf.resolution for leaf in self.leaves)
        return self.num_draws * max(1.0, (worst / self.power) ** 2)

    def raise_unless_unbiased(self) -> None:
        """Raise `BiasedError` or `UnderpoweredError`, with the table, unless all is well."""
        if self.verdict == "biased":
            raise BiasedError(
                complain(
                    f"a gradient estimate is biased\n{self}",
                    f"its mean is more than {self.z_max:.2f} standard errors from the reference",
                    "look at the leaf and entry named above; if the estimator claims a bias, this "
                    "is it",
                )
            )
        if self.verdict == "underpowered":
            raise UnderpoweredError(
                complain(
                    f"{self.num_draws} draws cannot show a bias of {self.power:.1%}\n{self}",
                    "a check that cannot fail proves nothing",
                    f"pass num_draws={number(self.num_draws_needed, 2)}, a larger `power`, or the "
                    "gradient's `scale` if a leaf's true gradient is zero",
                )
            )

    def __str__(self) -> str:
        header = ["leaf", "size", "max |z|", "at", "mean", "reference", "resolution", "verdict"]
        rows = [
            [
                leaf.path,
                str(leaf.size),
                number(leaf.max_z),
                str(list(leaf.worst_index)),
                number(leaf.mean, 4),
                number(leaf.reference, 4),
                f"{leaf.resolution:.2%}",
                leaf.verdict,
            ]
            for leaf in self.leaves
        ]
        settings = f"{self.num_draws} draws, z ≤ {self.z_max:.2f}, resolution ≤ {self.power:.2%}"
        return f"{aligned(header, rows)}\n{self.verdict} ({settings})"
