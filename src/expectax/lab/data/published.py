"""Readers of the data sets' files, and what is known of each: size, checksum, addresses."""

from collections.abc import Mapping

import numpy as np

from .files import DataFile, malformed, sha256_of, unzip
from .formats import parse_bits, parse_chardata, parse_drawings, parse_idx, parse_npz
from .sources import Bytes, Form, Raw


def digits() -> Raw:
    """scikit-learn's 1797 handwritten digits, 17 levels."""
    from sklearn.datasets import load_digits  # a second to import, and only needed here

    sixteenths, labels = load_digits(return_X_y=True)
    # a level above 7 becomes one above 127: half of the ink is the threshold in both
    levels = ((sixteenths.astype(int) * 255 + 8) // 16).astype(np.uint8)
    # the set is ordered by writer: every fifth picture takes the test set from all of them
    held_out = np.arange(len(levels)) % 5 == 4
    return Raw(
        levels[~held_out],
        levels[held_out],
        train_labels=labels[~held_out],
        test_labels=labels[held_out],
    )


_IDX = {
    "train": "train-images-idx3-ubyte.gz",
    "test": "t10k-images-idx3-ubyte.gz",
    "train_labels": "train-labels-idx1-ubyte.gz",
    "test_labels": "t10k-labels-idx1-ubyte.gz",
}


def _parse_idx_files(files: Bytes) -> Raw:
    parts = {}
    for part, name in _IDX.items():
        if name in files:
            packed, path = files[name]
            array = parse_idx(unzip(path, packed), path)
            parts[part] = array.reshape(len(array), -1) if array.ndim > 1 else array
    return Raw(**parts)


def _idx_form(sums: Mapping[str, tuple[int, str]], addresses: tuple[str, ...]) -> Form:
    """The four files of MNIST and its kin, from the size and checksum of each part."""
    files = tuple(
        DataFile(
            _IDX[part],
            sha256,
            size,
            tuple(address + _IDX[part] for address in addresses),
            optional=part.endswith("labels"),
        )
        for part, (size, sha256) in sums.items()
    )
    return Form(files, _parse_idx_files)


MNIST = _idx_form(
    {
        "train": (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        "test": (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        "train_labels": (
            28881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        "test_labels": (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    },
    (
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
)
FASHION = _idx_form(
    {
        "train": (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        "test": (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        "train_labels": (
            29515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        "test_labels": (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    },
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ),
)


def _text_form(
    columns: int, separator: str, stem: str, sums: Mapping[str, tuple[int, str]], address: str
) -> Form:
    """Texts of bits, one a part of the split: STEM has the part's name for {}."""
    names = {part: stem.format(part) for part in sums}
    files = tuple(
        DataFile(names[part], sha256, size, (address + names[part],), zipped=True)
        for part, (size, sha256) in sums.items()
    )

    def parse(found: Bytes) -> Raw:
        return Raw(**{part: parse_bits(*found[n], columns, separator) for part, n in names.items()})

    return Form(files, parse)


STATIC_MNIST = _text_form(
    784,
    " ",
    "binarized_mnist_{}.amat",
    {
        "train": (78400000, "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
        "valid": (15680000, "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
        "test": (15680000, "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
    },
    "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
)
NLTCS = _text_form(
    16,
    ",",
    "nltcs.{}.data",
    {
        "train": (517792, "e547a7aedad1dd2f7177030881ab1b92c7e24ae5464c71a0f1f89daecaf52b30"),
        "valid": (69024, "93bbbf5c6febdc9bc6e5b5bfab636f4dc0685ab2896d24b23dd267794c3bfcf6"),
        "test": (103552, "f9ffa6b74b27dc03bee3203d157ee31079e80b13be40d0c0093d635c25aed523"),
    },
    "https://raw.githubusercontent.com/UCLA-StarAI/Density-Estimation-Datasets/master/datasets/nltcs/",
)
_NLTCS_NPZ = DataFile(
    "nltcs.npz", "a8420b36315e682f0eb471817d216293df38fa02173e2d4a2edf52fc3b79bc37", 45226
)


def _parse_nltcs(files: Bytes) -> Raw:
    sizes = {"train": (16181, 16), "valid": (2157, 16), "test": (3236, 16)}
    return Raw(**parse_npz(*files[_NLTCS_NPZ.name], sizes))


NLTCS_ARRAYS = Form((_NLTCS_NPZ,), _parse_nltcs)


_ZIPS = tuple(
    DataFile(
        f"images_{part}.zip",
        sha256,
        size,
        (f"https://github.com/brendenlake/omniglot/raw/master/python/images_{part}.zip",),
    )
    for part, size, sha256 in (
        (
            "background",
            9464212,
            "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
        ),
        (
            "evaluation",
            6462886,
            "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
        ),
    )
)
_OMNIGLOT_NPZ = DataFile(
    "omniglot28.npz", "cfe1f486d9c0f2114c6139701da5c93b6afff88f518c698133008a9f846ccc15", 4138123
)
_OMNIGLOT_PIXELS = "32b17fc95e1d2df254bab2e046f2d1f27d5d86c76ef550090a2add48aa21150d"
"""sha256 of the (1623, 20, 28, 28) pictures, which both forms must come to."""

_CHARACTERS, _DRAWERS, _TRAIN_DRAWERS = 1623, 20, 15
_STRIDE = 10007  # a prime near .41 of the rows: any first few rows are a fair sample of all


def _spread(rows: np.ndarray) -> np.ndarray:
    """Rows in an order in which neighbours come from all over the set."""
    return rows[np.arange(len(rows)) * _STRIDE % len(rows)]


def _split_omniglot(images: np.ndarray, alphabet: np.ndarray) -> Raw:
    """By drawer, from pictures (character, drawer, …) and each character's alphabet."""
    parts = {}
    for part, drawers in (
        ("train", slice(None, _TRAIN_DRAWERS)),
        ("test", slice(_TRAIN_DRAWERS, None)),
    ):
        pictures = images[:, drawers]
        labels = np.repeat(alphabet, pictures.shape[1])
        parts[part] = _spread(pictures.reshape(len(labels), -1))
        parts[f"{part}_labels"] = _spread(labels)
    return Raw(**parts)


def _parse_omniglot_npz(files: Bytes) -> Raw:
    shapes = {"images": (_CHARACTERS, _DRAWERS, 28, 28), "alphabet": (_CHARACTERS,)}
    return _split_omniglot(**parse_npz(*files[_OMNIGLOT_NPZ.name], shapes))


def _parse_omniglot_zips(files: Bytes) -> Raw:
    drawings = [d for raw, path in files.values() for d in parse_drawings(raw, path)]
    names = sorted({alphabet for alphabet, *_ in drawings})
    images = np.zeros((_CHARACTERS, _DRAWERS, 28, 28), np.uint8)
    alphabets = np.zeros(_CHARACTERS, np.uint8)
    for alphabet, character, drawer, picture in drawings:
        images[character, drawer] = picture
        alphabets[character] = names.index(alphabet)
    if (found := sha256_of(images.tobytes())) != _OMNIGLOT_PIXELS:
        _, path = next(iter(files.values()))
        promised = f"whose pictures have sha256 {found}, where {_OMNIGLOT_PIXELS} was expected"
        raise malformed(path, "and its fellow hold other drawings", promised)
    return _split_omniglot(images, alphabets)


OMNIGLOT = Form(_ZIPS, _parse_omniglot_zips)
OMNIGLOT_ARRAYS = Form((_OMNIGLOT_NPZ,), _parse_omniglot_npz)

# no checksum of it was published, so it is read where it lies and never downloaded
_CHARDATA = DataFile(
    "chardata.mat",
    None,
    0,
    ("https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat",),
)


def _parse_chardata(files: Bytes) -> Raw:
    arrays = parse_chardata(*files[_CHARDATA.name])
    return Raw(**{name: _spread(rows) for name, rows in arrays.items()})


CHARDATA = Form((_CHARDATA,), _parse_chardata)
