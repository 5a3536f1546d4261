"""Running text: words, lines, numbers of words, and a language whose law is known."""

import os
import pathlib

import numpy as np
import pytest

from expectax.lab.data import files, text
from expectax.lab.errors import UsageError


def test_words_are_numbered_by_falling_frequency_in_the_training_text():
    lines = {
        "train": b" the cat sat \n the dog sat on the cat \n",
        "valid": b" the dog \n",
        "test": b"\n cat on cat\n",
    }
    texts = {part: text.words_of(raw, pathlib.Path(part)) for part, raw in lines.items()}
    found = text.corpus(texts, "two lines")
    assert found.words == ("the", "cat", "sat", "<eos>", "dog", "on")
    assert found.counts.tolist() == [3, 2, 2, 2, 1, 1]
    assert found.train.tolist() == [0, 1, 2, 3, 0, 4, 2, 5, 0, 1, 3]
    assert found.valid.tolist() == [0, 4, 3]
    assert found.test.tolist() == [3, 1, 5, 1, 3]
    np.testing.assert_allclose(found.unigram.sum(), 1, rtol=1e-6)
    assert found.law is None


def test_a_file_that_is_missing_or_altered_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"ptb\.train\.txt cannot be read"):
        text.load_ptb(tmp_path)
    (tmp_path / "ptb").mkdir()
    (tmp_path / "ptb" / "ptb.train.txt").write_bytes(b" aer banknote \n")
    with pytest.raises(UsageError, match=r"ptb\.train\.txt is truncated, altered or another"):
        text.load_ptb(tmp_path)
    with pytest.raises(UsageError, match="is no text"):
        text.words_of(b"\xff\xfe\x00", tmp_path / "x")


def test_the_known_language_has_its_law():
    """Counts of pairs of words beside the law, in standard errors; and all words are there."""
    found = text.markov(num_words=6, length=60_000, seed=3)
    law = np.asarray(found.law, np.float64)
    np.testing.assert_allclose(law.sum(1), 1, rtol=1e-6)
    assert (law > 0).all()
    words = np.asarray(found.train)
    pairs = np.zeros((6, 6))
    np.add.at(pairs, (words[:-1], words[1:]), 1)
    often = pairs.sum(1, keepdims=True)
    off = (pairs - often * law) / np.sqrt(often * law * (1 - law))
    assert np.abs(off).max() < 5
    spoiled = (pairs - often * np.roll(law, 1, axis=1)) / np.sqrt(often * law * (1 - law))
    assert np.abs(spoiled).max() > 20
    assert [len(x) for x in (found.train, found.valid, found.test)] == [60_000, 15_000, 15_000]
    assert found.counts.tolist() == np.bincount(words).tolist()


def test_the_penn_treebank_has_the_published_numbers_of_words():
    named = os.environ.get(files.DATA_DIR)
    beside = pathlib.Path(__file__).parents[2].parent / "shared" / "data"
    folder = pathlib.Path(named) if named else beside
    if not all(f.is_in(folder / "ptb") for f in text.PTB.values()):
        pytest.skip(f"the Penn Treebank files are not at hand: set {files.DATA_DIR}")
    found = text.load_ptb(folder)
    assert [len(x) for x in (found.train, found.valid, found.test)] == [929_589, 73_760, 82_430]
    assert len(found.words) == 10_000
    assert found.words[:3] == ("the", "<unk>", "<eos>")
    assert int(found.counts.sum()) == 929_589
    assert int(found.counts.min()) > 0
