"""The idx reader and its refusals, the digits, the binarization."""

import gzip
import hashlib
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from expectax.lab import data
from expectax.lab.errors import UsageError
from expectax.lab.idx import parse_idx, read_idx


def idx_bytes(array: np.ndarray) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder with a little data set in the public format, known by its checksums."""
    generator = np.random.default_rng(0)
    folder, files, arrays = tmp_path / "mnist", {}, {}
    folder.mkdir()
    for name, num in (("train-images-idx3-ubyte.gz", 7), ("t10k-images-idx3-ubyte.gz", 3)):
        arrays[name] = generator.integers(0, 256, (num, 4, 5), dtype=np.uint8)
        packed = gzip.compress(idx_bytes(arrays[name]))
        (folder / name).write_bytes(packed)
        files[name] = hashlib.sha256(packed).hexdigest()
    monkeypatch.setitem(data.DATASETS, "mnist", data._idx_dataset("MNIST", "mnist", files))
    return folder, files, arrays


def test_files_are_found_in_the_folder_and_in_the_one_above(published):
    folder, _, arrays = published
    for data_dir in (folder, folder.parent):
        found = data.load("mnist", data_dir)
        assert found.shape == (4, 5)
        assert found.grey
        train, test = arrays.values()
        assert np.array_equal(found.train, train.reshape(7, 20))
        assert np.array_equal(found.test, test.reshape(3, 20))
        assert np.allclose(found.mean, train.reshape(7, 20).mean(0) / 255)


def spoil_nothing(path):
    path.unlink()


def spoil_length(path):
    path.write_bytes(path.read_bytes()[:-9])


def spoil_a_bit(path):
    packed = bytearray(path.read_bytes())
    packed[len(packed) // 2] ^= 1
    path.write_bytes(bytes(packed))


@pytest.mark.parametrize("spoil", [spoil_nothing, spoil_length, spoil_a_bit])
@pytest.mark.parametrize("which", [0, 1])
def test_a_missing_truncated_or_altered_file_is_named_with_its_checksum(published, spoil, which):
    folder, files, _ = published
    name, sha256 = list(files.items())[which]
    spoil(folder / name)
    with pytest.raises(UsageError) as error:
        data.load("mnist", folder.parent)
    assert str(folder / name) in str(error.value)
    assert sha256 in str(error.value)


def test_data_that_needs_a_folder_says_so_and_unknown_data_lists_the_known():
    with pytest.raises(UsageError, match="--data-dir"):
        data.load("fashion")
    with pytest.raises(UsageError, match="digits, mnist or fashion"):
        data.load("cifar")


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
def test_bytes_that_are_no_idx_file_are_refused(tmp_path, raw, complaint):
    with pytest.raises(UsageError, match=complaint):
        parse_idx(raw, tmp_path / "x.gz")


def test_a_file_with_the_right_checksum_that_is_not_gzipped_is_refused(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(b"plain")
    with pytest.raises(UsageError, match="cannot be unzipped"):
        read_idx(path, hashlib.sha256(b"plain").hexdigest())


def test_the_published_checksums_are_written_out_whole_and_differ():
    sums = [*data._MNIST.values(), *data._FASHION.values()]
    assert all(len(bytes.fromhex(s)) == 32 for s in sums)
    assert len(set(sums)) == 4


def test_digits_are_split_by_rule_and_thresholded():
    from sklearn.datasets import load_digits

    levels = load_digits().data
    digits = data.load("digits")
    assert digits.shape == (8, 8)
    assert not digits.grey
    assert (len(digits.train), len(digits.test)) == (1438, 359)
    assert np.array_equal(digits.test[1], levels[9] >= 8)
    assert np.array_equal(digits.train[5], levels[6] >= 8)
    bits = digits.binarize(jax.random.key(0), digits.train[:3])
    assert bits.dtype == jnp.float32
    assert np.array_equal(bits, digits.train[:3])


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
