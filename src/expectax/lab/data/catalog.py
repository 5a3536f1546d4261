"""The data sets there are.

To add one: its files and their reader in `published`, and a row here.
"""

from ..._errors import complain
from ..errors import UsageError, unknown
from .dataset import BINARIZATIONS
from .published import (
    CHARDATA,
    FASHION,
    MNIST,
    NLTCS,
    NLTCS_ARRAYS,
    OMNIGLOT,
    OMNIGLOT_ARRAYS,
    STATIC_MNIST,
    digits,
)
from .sources import Source

_GREY = ("dynamic", "threshold", "grey")
_NUMERALS = tuple("0123456789")
_CLOTHES = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "boot"),
)

DATASETS: dict[str, Source] = {
    "digits": Source(
        title="scikit-learn's digits",
        folder="",
        forms=(),
        shape=(8, 8),
        grey=True,
        binarizations=("threshold", "dynamic", "grey"),
        split="1,438 train, 359 test: every fifth is test",
        licence="Alpaydin, Kaynak; UCI, CC BY 4.0; comes with scikit-learn",
        classes=_NUMERALS,
        bundled=digits,
    ),
    "mnist": Source(
        title="MNIST",
        folder="mnist",
        forms=(MNIST,),
        shape=(28, 28),
        grey=True,
        binarizations=_GREY,
        split="60,000 train, 10,000 test: the published split",
        licence="LeCun, Cortes, Burges; no licence with the files",
        classes=_NUMERALS,
    ),
    "fashion": Source(
        title="Fashion-MNIST",
        folder="fashion-mnist",
        forms=(FASHION,),
        shape=(28, 28),
        grey=True,
        binarizations=_GREY,
        split="60,000 train, 10,000 test: the published split",
        licence="Zalando Research; MIT",
        classes=_CLOTHES,
    ),
    "static-mnist": Source(
        title="Static MNIST",
        folder="static-mnist",
        forms=(STATIC_MNIST,),
        shape=(28, 28),
        grey=False,
        binarizations=("static",),
        split="50,000 train, 10,000 validation, 10,000 test: the published split",
        licence="Larochelle's draw of MNIST; no licence with the files",
    ),
    "omniglot": Source(
        title="OMNIGLOT",
        folder="omniglot",
        forms=(OMNIGLOT, OMNIGLOT_ARRAYS),
        shape=(28, 28),
        grey=True,
        binarizations=_GREY,
        split="24,345 train, 8,115 test: drawers 1–15 and 16–20, our own split",
        licence="Lake, Salakhutdinov, Tenenbaum; MIT",
        classes=tuple(f"alphabet {i + 1}" for i in range(50)),
    ),
    "omniglot-chardata": Source(
        title="OMNIGLOT of the VAE papers",
        folder="omniglot",
        forms=(CHARDATA,),
        shape=(28, 28),
        grey=True,
        binarizations=_GREY,
        split="24,345 train, 8,070 test: Burda's split",
        licence="Lake, Salakhutdinov, Tenenbaum, MIT; as in yburda/iwae",
        classes=tuple(f"alphabet {i + 1}" for i in range(50)),
    ),
    "nltcs": Source(
        title="NLTCS",
        folder="nltcs",
        forms=(NLTCS, NLTCS_ARRAYS),
        shape=(1, 16),
        grey=False,
        binarizations=("static",),
        split="16,181 train, 2,157 validation, 3,236 test: the published split",
        licence="National Long Term Care Survey, via UCLA-StarAI; none stated",
    ),
}
"""The data sets by the name that --data takes."""


def chosen_binarization(name: str, asked: str | None) -> str:
    """The binarization of a data set: as asked, or its default.

    Raises:
        UsageError: there is no such binarization, or the data set cannot have it.
    """
    source = DATASETS[name]
    if asked is None:
        return source.binarizations[0]
    if asked not in BINARIZATIONS:
        raise unknown("binarization", asked, list(BINARIZATIONS))
    if asked not in source.binarizations:
        why = "are grey levels" if source.grey else "are bits already"
        raise UsageError(
            complain(
                f"--binarization {asked} was asked of --data {name}",
                f"its published pictures {why}",
                f"pass --binarization {' or '.join(source.binarizations)}, or another --data",
            )
        )
    return asked
