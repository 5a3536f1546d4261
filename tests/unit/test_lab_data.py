"""Data sets: their files and refusals, their binarizations, and the real ones where at hand."""

import gzip
import hashlib
import os
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from expectax._errors import InvalidArgumentError
from expectax.lab import data
from expectax.lab.data import catalog, fetch, files, published
from expectax.lab.data.files import DataFile, sha256_of
from expectax.lab.data.sources import Form, Raw, Source
from expectax.lab.errors import UsageError


def little_source(forms, **changes) -> Source:
    """A data set of 4×5 pictures."""
    facts = {
        "title": "Little",
        "folder": "little",
        "forms": tuple(forms),
        "shape": (4, 5),
        "grey": True,
        "binarizations": ("dynamic", "threshold", "grey"),
        "split": "7 train, 3 test",
        "licence": "ours",
        "classes": ("even", "odd"),
    }
    return Source(**(facts | changes))


def parse_little(found) -> Raw:
    """Pictures and, if they are there, labels, as bare bytes."""
    array = lambda name: np.frombuffer(found[name][0], np.uint8)
    labels = array("labels") if "labels" in found else None
    return Raw(array("train").reshape(-1, 20), array("test").reshape(-1, 20), train_labels=labels)


@pytest.fixture
def little(tmp_path, monkeypatch):
    """A folder with a little data set, known by its checksums."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "little"
    folder.mkdir()
    arrays, known = {}, []
    for name, num in (("train", 7 * 20), ("test", 3 * 20), ("labels", 7)):
        arrays[name] = generator.integers(0, 2 if name == "labels" else 256, num, dtype=np.uint8)
        raw = arrays[name].tobytes()
        (folder / name).write_bytes(raw)
        known.append(DataFile(name, sha256_of(raw), len(raw), optional=name == "labels"))
    source = little_source([Form(tuple(known), parse_little)])
    monkeypatch.setitem(data.DATASETS, "little", source)
    return folder, known, arrays


def test_files_are_found_in_the_folder_and_in_the_one_above(little):
    folder, _, arrays = little
    for data_dir in (folder, folder.parent):
        found = data.load("little", data_dir)
        assert found.shape == (4, 5)
        assert found.grey
        train = arrays["train"].reshape(7, 20)
        assert np.array_equal(found.train, train)
        assert np.array_equal(found.test, arrays["test"].reshape(3, 20))
        assert np.array_equal(found.train_labels, arrays["labels"])
        assert found.train_labels.dtype == jnp.int32
        assert found.test_labels is None
        assert found.valid is None
        assert np.allclose(found.mean, train.mean(0) / 255)


def test_without_a_folder_the_environments_is_taken(little, monkeypatch):
    folder, _, arrays = little
    monkeypatch.setenv(files.DATA_DIR, str(folder.parent))
    assert np.array_equal(data.load("little").test.ravel(), arrays["test"])


def spoil_nothing(path):
    path.unlink()


def spoil_length(path):
    path.write_bytes(path.read_bytes()[:-3])


def spoil_a_bit(path):
    packed = bytearray(path.read_bytes())
    packed[len(packed) // 2] ^= 1
    path.write_bytes(bytes(packed))


@pytest.mark.parametrize("spoil", [spoil_nothing, spoil_length, spoil_a_bit])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_missing_truncated_or_altered_file_is_named_with_both_checksums(little, spoil, which):
    folder, known, _ = little
    path = folder / known[which].name
    spoil(path)
    if spoil is spoil_nothing and known[which].optional:
        assert data.load("little", folder).train_labels is None
        return
    with pytest.raises(UsageError) as error:
        data.load("little", folder.parent)
    assert str(path) in str(error.value)
    assert known[which].sha256 in str(error.value)
    if path.exists():
        assert sha256_of(path.read_bytes()) in str(error.value)


def test_a_gzipped_copy_is_known_by_what_is_in_it(tmp_path):
    text = b"0 1 1\n1 0 0\n"
    file = DataFile("bits.amat", sha256_of(text), len(text), zipped=True)
    (tmp_path / "bits.amat.gz").write_bytes(gzip.compress(text, 1))
    assert file.read(tmp_path) == text
    (tmp_path / "bits.amat.gz").write_bytes(gzip.compress(text[:-1], 1))
    with pytest.raises(UsageError, match="11 bytes of the published file's 12"):
        file.read(tmp_path)
    (tmp_path / "bits.amat.gz").write_bytes(gzip.compress(text, 1)[:-4])
    with pytest.raises(UsageError, match=r"bits.amat.gz cannot be unzipped"):
        file.read(tmp_path)
    (tmp_path / "bits.amat").write_bytes(text)  # the file itself comes before a copy
    assert file.read(tmp_path) == text


def test_the_form_with_most_files_is_read_and_the_others_are_named(tmp_path, monkeypatch):
    form = lambda name: Form(
        (DataFile(name, sha256_of(name.encode()), len(name)),),
        lambda found: Raw(*[np.full((1, 20), len(found[name][0]), np.uint8)] * 2),
    )
    monkeypatch.setitem(data.DATASETS, "two", little_source([form("first"), form("second")]))
    with pytest.raises(UsageError, match=r"first cannot be read(.|\n)* read from second too"):
        data.load("two", tmp_path)
    (tmp_path / "second").write_bytes(b"second")
    assert data.load("two", tmp_path).train[0, 0] == 6
    (tmp_path / "first").write_bytes(b"first")
    assert data.load("two", tmp_path).train[0, 0] == 5


def test_unknown_data_lists_the_known():
    with pytest.raises(UsageError, match=r"digits, mnist, fashion, .* or nltcs"):
        data.load("cifar")


def test_every_published_file_is_described_whole_and_each_once():
    described = [f for s in data.DATASETS.values() for form in s.forms for f in form.files]
    sums = [f.sha256 for f in described if f.sha256 is not None]
    assert len(sums) == len(described) - 1  # chardata.mat has none
    assert all(len(bytes.fromhex(s)) == 32 for s in sums)
    assert len(set(sums)) == len(sums) == 4 + 4 + 3 + 2 + 1 + 3 + 1
    for file in described:
        assert file.size > 0 or file.sha256 is None
        assert all(url.endswith(f"/{file.name}") for url in file.urls)
    # every set that has files can be had by one command, but for the one without a checksum
    for name, source in data.DATASETS.items():
        for file in source.forms[0].files if source.forms else ():
            assert file.urls
            assert file.sha256 or name == "omniglot-chardata"


def test_digits_are_split_by_rule_and_thresholded():
    from sklearn.datasets import load_digits

    levels, labels = load_digits(return_X_y=True)
    digits = data.load("digits")
    assert digits.shape == (8, 8)
    assert not digits.grey
    assert (len(digits.train), len(digits.test)) == (1438, 359)
    held_out = np.arange(1797) % 5 == 4
    assert np.array_equal(digits.train, levels[~held_out] >= 8)
    assert np.array_equal(digits.test, levels[held_out] >= 8)
    assert np.array_equal(digits.train_labels, labels[~held_out])
    assert np.array_equal(digits.test_labels, labels[held_out])
    bits = digits.binarize(jax.random.key(0), digits.train[:3])
    assert bits.dtype == jnp.float32
    assert np.array_equal(bits, digits.train[:3])
    grey = data.load("digits", binarization="grey")
    values = grey.binarize(jax.random.key(0), grey.train)
    assert np.abs(np.asarray(values) - levels[~held_out] / 16).max() < 0.5 / 255 + 1e-6


@pytest.mark.parametrize("pixels", [6, 7])
def test_grey_levels_are_the_probabilities_of_bits(pixels):
    levels = jnp.array([0, 1, 64, 128, 254, 255, 200], jnp.uint8)[:pixels]
    grey = data.Dataset(levels[None], levels[None], shape=(1, pixels), grey=True, summary="")
    num = 200_000
    bits = np.asarray(grey.binarize(jax.random.key(0), jnp.tile(levels, (num, 1))))
    p = np.asarray(levels) / 255
    error = np.sqrt(p * (1 - p) / num)
    assert np.all(4.5 * error < 0.01)
    assert np.all(np.abs(bits.mean(0) - p) < 4.5 * error + 2e-5)
    assert set(np.unique(bits)) == {0.0, 1.0}
    # pixels that share a word of random bits are independent
    correlation = np.corrcoef(bits[:, 2], bits[:, 3])[0, 1]
    assert abs(correlation) < 4.5 / num**0.5
    again = grey.binarize(jax.random.key(1), jnp.tile(levels, (num, 1)))
    assert np.any(again != bits)


def test_each_binarization_makes_of_the_pictures_what_it_says(little):
    folder, _, arrays = little
    levels = arrays["train"].reshape(7, 20)
    made = {}
    for how in ("dynamic", "threshold", "grey"):
        found = data.load("little", folder, how)
        assert found.binarization == how
        assert data.BINARIZATIONS[how] in found.summary
        made[how] = np.asarray(found.binarize(jax.random.key(0), found.train))
        assert made[how].dtype == np.float32
        mean = {"threshold": levels >= 127.5}.get(how, levels / 255).mean(0)
        assert np.allclose(found.mean, mean, atol=1e-6)
    assert np.array_equal(made["threshold"], levels / 255 >= 0.5)
    assert np.allclose(made["grey"], levels / 255, atol=1e-7)
    assert set(np.unique(made["dynamic"])) == {0.0, 1.0}
    assert not np.array_equal(made["dynamic"], made["threshold"])
    assert np.array_equal(data.load("little", folder).binarize(jax.random.key(0), levels),
                          made["dynamic"])  # fmt: skip


@pytest.mark.parametrize(
    ("name", "how", "complaint"),
    [
        ("mnist", "static", r"static was asked of --data mnist(.|\n)*grey levels(.|\n)*dynamic or"),
        ("static-mnist", "dynamic", r"bits already(.|\n)*--binarization static"),
        ("nltcs", "grey", "bits already"),
        ("digits", "static", "grey levels"),
        ("mnist", "dinamic", "static, dynamic, threshold or grey"),
    ],
)
def test_a_binarization_that_the_pictures_cannot_have_is_refused(name, how, complaint, tmp_path):
    with pytest.raises(UsageError, match=complaint):
        data.load(name, tmp_path, how)  # before any file is looked for


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"train": np.zeros((7, 19), np.uint8)}, r"\(7, 19\)"),
        ({"test": np.zeros((3, 4, 5), np.uint8)}, r"\(3, 4, 5\)"),
        ({"valid": np.zeros((2, 21), np.uint8)}, r"\(2, 21\)"),
        ({"train_labels": np.zeros(6)}, "7 pictures"),
        ({"test_labels": np.zeros((3, 2))}, "3 pictures"),
    ],
)
def test_pictures_and_labels_that_do_not_fit_are_refused(change, complaint):
    parts = {
        "train": np.zeros((7, 20), np.uint8),
        "test": np.zeros((3, 20), np.uint8),
        "valid": np.zeros((2, 20), np.uint8),
        "train_labels": np.zeros(7),
        "test_labels": np.zeros(3),
    }
    data.Dataset(**parts, shape=(4, 5), grey=True, summary="")
    with pytest.raises(InvalidArgumentError, match=complaint):
        data.Dataset(**(parts | change), shape=(4, 5), grey=True, summary="")


def test_defaults_are_as_the_data_are_used():
    defaults = {name: catalog.chosen_binarization(name, None) for name in data.DATASETS}
    assert defaults == {
        "digits": "threshold",
        "mnist": "dynamic",
        "fashion": "dynamic",
        "static-mnist": "static",
        "omniglot": "dynamic",
        "omniglot-chardata": "dynamic",
        "nltcs": "static",
    }


def test_omniglot_is_split_by_drawer_and_any_first_rows_are_a_fair_sample():
    images = np.zeros((1623, 20, 1, 2), np.uint16)
    images[..., 0, 0] = np.arange(1623)[:, None]
    images[..., 0, 1] = np.arange(20)
    raw = published._split_omniglot(images, np.arange(1623) // 40)
    for rows, labels, drawers in (
        (raw.train, raw.train_labels, range(15)),
        (raw.test, raw.test_labels, range(15, 20)),
    ):
        pairs = {(int(character), int(drawer)) for character, drawer in rows}
        assert pairs == {(c, d) for c in range(1623) for d in drawers}
        assert np.array_equal(labels, rows[:, 0] // 40)
        some = np.sort(rows[:50, 0])  # spread over the characters as evenly as can be
        assert np.diff(some).max() < 3 * 1623 / 50


# ---- the real files, where they are at hand ----


def at_hand() -> pathlib.Path | None:
    """EXPECTAX_DATA_DIR as it was when the tests began, or `shared/data` beside the checkout."""
    named = os.environ.get(files.DATA_DIR)
    beside = pathlib.Path(__file__).parents[2].parent / "shared" / "data"
    return pathlib.Path(named) if named else beside if beside.is_dir() else None


def real(name: str, how: str | None = None) -> data.Dataset:
    """A published data set, or the test is skipped and says which is missing."""
    folder, source = at_hand(), data.DATASETS[name]
    here = folder is not None and any(
        all(f.is_in(folder / source.folder) for f in form.files) for form in source.forms
    )
    if not here:
        pytest.skip(f"{source.title} is not at hand: set {files.DATA_DIR}")
    return data.load(name, folder, how)


COUNTS = {
    "mnist": (
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    ),
    "fashion": ([6000] * 10, [1000] * 10),
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_published_labels_are_counted_right(name):
    found = real(name)
    train, test = COUNTS[name]
    assert np.bincount(found.train_labels).tolist() == train
    assert np.bincount(found.test_labels).tolist() == test
    assert found.train.shape == (60000, 784)
    assert found.test.shape == (10000, 784)
    assert len(data.DATASETS[name].classes) == 10


@pytest.mark.parametrize(("name", "clip", "nats"), [("static-mnist", 1e-3, -205.95),
                                                    ("nltcs", 0, -9.234)])  # fmt: skip
def test_independent_pixels_give_the_known_log_probability(name, clip, nats):
    found = real(name)
    p = np.clip(np.asarray(found.train, np.float64).mean(0), clip, 1 - clip)
    x = np.asarray(found.test, np.float64)
    assert abs((x @ np.log(p) + (1 - x) @ np.log1p(-p)).mean() - nats) < 0.006
    assert found.valid is not None
    sizes = [len(found.train), len(found.valid), len(found.test)]
    assert sizes == {"static-mnist": [50000, 10000, 10000], "nltcs": [16181, 2157, 3236]}[name]


def test_omniglot_has_its_drawings_ink_and_alphabets():
    found = real("omniglot")
    assert (found.train.shape, found.test.shape) == ((24345, 784), (8115, 784))
    ink = [np.asarray(part, np.float64).sum() / 255 / 784 for part in (found.train, found.test)]
    assert abs(sum(ink) / 32460 - 0.0805) < 5e-4
    assert len(np.bincount(found.train_labels)) == len(data.DATASETS["omniglot"].classes) == 50
    # every character was drawn by every drawer
    assert np.array_equal(np.bincount(found.train_labels), 3 * np.bincount(found.test_labels))


def test_nltcs_reads_the_same_from_its_text_and_from_its_arrays(tmp_path):
    arrays = real("nltcs")
    for part, rows in (("train", arrays.train), ("valid", arrays.valid), ("test", arrays.test)):
        text = "".join(",".join(map(str, row)) + "\n" for row in np.asarray(rows).tolist())
        (tmp_path / f"nltcs.{part}.data").write_text(text)
    text = data.load("nltcs", tmp_path)  # so the checksums of the published text are right
    assert np.array_equal(text.train, arrays.train)
    assert np.array_equal(text.valid, arrays.valid)
    assert np.array_equal(text.test, arrays.test)
    assert hashlib.sha256((tmp_path / "nltcs.train.data").read_bytes()).hexdigest().startswith("e5")


def test_the_page_describes_every_set_as_it_is():
    page = (pathlib.Path(__file__).parents[2] / "docs" / "data.md").read_text()
    first, _ = page.split("## Where files lie")
    rows = {row.split("`")[1]: row for row in first.splitlines() if row.startswith("| `")}
    for name, source in data.DATASETS.items():
        cells = [cell.strip() for cell in rows[name].strip("|").split("|")]
        assert cells[3] == ", ".join(source.binarizations)
        counts = re.findall(r"[\d,]{3,}\d", source.split)
        assert [count for count in counts if count in cells[2]] == counts
        for form in source.forms:
            assert all(f"`{file.name}`" in page for file in form.files)
            assert f"`{source.folder}`" in page
    assert f"`{files.DATA_DIR}`" in page
    assert f"`{fetch.OFFLINE}`" in page
