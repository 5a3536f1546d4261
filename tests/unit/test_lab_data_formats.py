"""The readers of public formats, and their refusals of what is something else."""

import io
import pathlib
import struct
import zipfile

import numpy as np
import pytest
import scipy.io
from PIL import Image

from expectax.lab.data import formats, published
from expectax.lab.data.files import sha256_of
from expectax.lab.errors import UsageError

HERE = pathlib.Path("folder/file")


def idx_bytes(array: np.ndarray) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


@pytest.mark.parametrize("shape", [(5,), (3, 4, 2)])
def test_an_idx_file_is_read_back(shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(formats.parse_idx(idx_bytes(array), HERE), array)


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"", "not an idx file"),
        (b"\0\0\x0d\x01" + b"\0\0\0\x01" + b"\0" * 4, "not an idx file"),  # floats
        (b"\0\0\x08\x03" + b"\0\0\0\x01", "not an idx file"),  # header cut
        (idx_bytes(np.zeros((2, 3), np.uint8))[:-1], "promises 6"),
        (idx_bytes(np.zeros((2, 3), np.uint8)) + b"\0", "promises 6"),
    ],
)
def test_bytes_that_are_no_idx_file_are_refused(raw, complaint):
    with pytest.raises(UsageError, match=complaint) as error:
        formats.parse_idx(raw, HERE)
    assert str(HERE) in str(error.value)


@pytest.mark.parametrize("separator", [" ", ","])
def test_a_text_of_bits_is_read_back(separator):
    bits = np.random.default_rng(0).integers(0, 2, (9, 7), dtype=np.uint8)
    text = "".join(separator.join(map(str, row)) + "\n" for row in bits.tolist())
    assert np.array_equal(formats.parse_bits(text.encode(), HERE, 7, separator), bits)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "holds 0 bytes"),
        (b"0 1\n1 0", "holds 7 bytes"),
        (b"0 1\n1 2\n", "line 2"),
        (b"0,1\n1 0\n", "line 1"),
        (b"0 1\n1 0 ", "line 2"),
    ],
)
def test_a_text_that_is_no_table_of_bits_is_refused_at_its_line(text, complaint):
    with pytest.raises(UsageError, match=complaint):
        formats.parse_bits(text, HERE, 2, " ")


def npz_bytes(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_an_npz_file_is_read_by_name_and_shape_and_never_unpickled():
    a = np.arange(6, dtype=np.uint8).reshape(2, 3)
    found = formats.parse_npz(npz_bytes(a=a, b=a), HERE, {"a": (-1, 3)})
    assert list(found) == ["a"]
    assert np.array_equal(found["a"], a)
    for raw, complaint in (
        (b"no zip at all", "not the npz"),
        (npz_bytes(b=a), "not the npz"),
        (npz_bytes(a=a.T), "shape"),
        (npz_bytes(a=a[0]), "shape"),
        (npz_bytes(a=np.array([{}, []], object)), "not the npz"),
        (npz_bytes(a=a)[:-30], "not the npz"),
    ):
        with pytest.raises(UsageError, match=complaint):
            formats.parse_npz(raw, HERE, {"a": (-1, 3)})


def mat_bytes(**arrays) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, arrays)
    return file.getvalue()


def chardata(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Upright pictures (n, 28, 28) in 256 levels, and alphabets."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (num, 28, 28)) / 255, generator.integers(0, 50, num)


def test_chardata_is_turned_upright_with_its_alphabets():
    (train, train_of), (test, test_of) = chardata(5, 0), chardata(3, 1)
    # a picture is stored column by column, in a column
    stored = lambda x: x.transpose(0, 2, 1).reshape(len(x), 784).T
    arrays = {
        "data": stored(train),
        "testdata": stored(test),
        "target": np.eye(50)[:, train_of],
        "testtarget": np.eye(50)[:, test_of],
    }
    found = formats.parse_chardata(mat_bytes(**arrays), HERE)
    assert np.array_equal(found["train"], np.rint(train * 255).reshape(5, 784))
    assert np.array_equal(found["test"], np.rint(test * 255).reshape(3, 784))
    assert np.array_equal(found["train_labels"], train_of)
    assert np.array_equal(found["test_labels"], test_of)
    assert found["train"].dtype == np.uint8
    for change, complaint in (
        ({"data": arrays["data"].T}, r"shape \(5, 784\)"),
        ({"data": 2 * arrays["data"]}, "values up to"),
        ({"testtarget": np.eye(49)}, "targets of shape"),
    ):
        with pytest.raises(UsageError, match=complaint):
            formats.parse_chardata(mat_bytes(**(arrays | change)), HERE)
    for raw in (b"", b"nothing" * 99, mat_bytes(data=train[0]), mat_bytes(**arrays)[:-99]):
        with pytest.raises(UsageError, match="not the mat file"):
            formats.parse_chardata(raw, HERE)


def zip_bytes(drawings: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("images_background/.DS_Store", b"not a drawing")
        for name, ink in drawings.items():
            png = io.BytesIO()
            Image.fromarray(~ink).save(png, "png")  # one bit a pixel, black on white
            archive.writestr(name, png.getvalue())
    return file.getvalue()


def test_drawings_are_averaged_over_areas_with_ink_bright():
    ink = np.random.default_rng(0).random((105, 105)) < 0.3
    ink[:30, :30] = True
    name = "images_background/Latin/character07/0012_20.png"
    raw = zip_bytes({name: ink})
    ((alphabet, character, drawer, picture),) = formats.parse_drawings(raw, HERE)
    assert (alphabet, character, drawer) == ("Latin", 11, 19)
    # every pixel in 4×4 parts, every cell the mean of 15×15 of them
    parts = np.kron(ink, np.ones((4, 4))).reshape(28, 15, 28, 15)
    assert np.array_equal(picture, np.rint(255 * parts.mean((1, 3))))
    assert np.all(picture[:8, :8] == 255)
    with pytest.raises(UsageError, match="105×105"):
        formats.parse_drawings(zip_bytes({name: ink[1:]}), HERE)
    with pytest.raises(UsageError, match="not a zip"):
        formats.parse_drawings(raw[:-40], HERE)


def test_the_zips_come_to_the_known_pictures_or_are_refused(monkeypatch):
    generator = np.random.default_rng(0)
    monkeypatch.setattr(published, "_CHARACTERS", 4)
    zips, images = [], np.zeros((4, 20, 28, 28), np.uint8)
    for part, alphabet, characters in (("b", "Latin", (0, 1)), ("e", "Greek", (2, 3))):
        drawings = {}
        for character in characters:
            for drawer in range(20):
                name = f"{part}/{alphabet}/character01/{character + 1:04}_{drawer + 1:02}.png"
                drawings[name] = generator.random((105, 105)) < 0.5
        raw = zip_bytes(drawings)
        zips.append((raw, HERE / part))
        for _, character, drawer, picture in formats.parse_drawings(raw, HERE):
            images[character, drawer] = picture
    monkeypatch.setattr(published, "_OMNIGLOT_PIXELS", sha256_of(images.tobytes()))
    found = published.OMNIGLOT.parse(dict(enumerate(zips)))
    again = published._split_omniglot(images, np.array([1, 1, 0, 0]))  # Greek before Latin
    assert found.train.shape == (60, 784)
    assert found.test.shape == (20, 784)
    for part in ("train", "test", "train_labels", "test_labels"):
        assert np.array_equal(getattr(found, part), getattr(again, part))
    with pytest.raises(UsageError, match="hold other drawings"):
        published.OMNIGLOT.parse(dict(enumerate([zips[0], zips[0]])))
