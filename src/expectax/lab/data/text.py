"""Running text as numbers of words: the Penn Treebank files, and a language that is known."""

import collections
import pathlib

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .files import DataFile, folder_of, malformed

END = "<eos>"
"""The word that ends each line."""

PTB = {
    part: DataFile(f"ptb.{part}.txt", sha256, size)
    for part, size, sha256 in (
        ("train", 5101618, "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf"),
        ("valid", 399782, "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2"),
        ("test", 449945, "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0"),
    )
}
"""The language-model files of Mikolov's preprocessing. Their text belongs to the Penn Treebank,
whose owners restrict copies: they are read where you put them, and never downloaded."""


class Corpus(eqx.Module):
    """Texts in one vocabulary, where words are numbered by falling frequency in the first.

    Attributes:
        train, valid, test: numbers of words, in the order of the text.
        counts: how often each word stands in `train`.
        words: the vocabulary.
        summary: one line for people.
        law: p(w | c), a row for each c, where the language is known and c is the last word alone.
    """

    train: Int[Array, "N"] = eqx.field(converter=jnp.asarray)
    valid: Int[Array, "M"] = eqx.field(converter=jnp.asarray)
    test: Int[Array, "L"] = eqx.field(converter=jnp.asarray)
    counts: Int[Array, "V"] = eqx.field(converter=jnp.asarray)
    words: tuple[str, ...] = eqx.field(static=True)
    summary: str = eqx.field(static=True)
    law: Float[Array, "V V"] | None = None

    @property
    def unigram(self) -> Float[Array, "V"]:
        """The share of each word in `train`."""
        return self.counts / jnp.sum(self.counts)


def load_ptb(data_dir: pathlib.Path | None = None) -> Corpus:
    """Penn Treebank: 929,589 training, 73,760 validation and 82,430 test words, 10,000 distinct.

    Arguments:
        data_dir: the folder with `ptb.train.txt`, `ptb.valid.txt` and `ptb.test.txt`, or the one
            above it; by default EXPECTAX_DATA_DIR or the user's cache.

    Raises:
        UsageError: a file is missing, truncated or altered.
    """
    folder = folder_of("ptb", data_dir)
    texts = {}
    for part, file in PTB.items():
        texts[part] = words_of(file.read(folder), file.locate(folder))
    return corpus(texts, "Penn Treebank, Mikolov's preprocessing, lines ended by <eos>")


def characters_of_ptb(
    data_dir: pathlib.Path | None = None,
) -> tuple[Int[np.ndarray, "N"], Int[np.ndarray, "L"], str]:
    """The training and the test text of the Penn Treebank files as numbers of characters.

    Lines lose the spaces at their ends, and are parted by newlines.

    Arguments:
        data_dir: that of `load_ptb`; the validation text is not read.

    Raises:
        UsageError: a file is missing, truncated or altered.

    Returns:
        Both texts, and the characters that the numbers stand for.
    """
    folder = folder_of("ptb", data_dir)
    texts = []
    for part in ("train", "test"):
        text = PTB[part].read(folder).decode("utf-8")
        texts.append("\n".join(line.strip() for line in text.splitlines()))
    alphabet = "".join(sorted(set("".join(texts))))
    codes = np.array([ord(c) for c in alphabet])
    # by their numbers: the alphabet is sorted
    numbers = [
        np.searchsorted(codes, np.frombuffer(text.encode("utf-32-le"), "<u4")).astype(np.int32)
        for text in texts
    ]
    return numbers[0], numbers[1], alphabet


def words_of(raw: bytes, path: pathlib.Path) -> list[str]:
    """The words of a text, each line followed by `END`; `path` is for the error's message.

    Example:
        >>> words_of(b" no it was n't \\n black monday\\n", pathlib.Path("x"))
        ['no', 'it', 'was', "n't", '<eos>', 'black', 'monday', '<eos>']
    """
    try:
        lines = raw.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise malformed(path, "is no text", str(error)) from error
    return [word for line in lines for word in (*line.split(), END)]


def corpus(texts: dict[str, list[str]], summary: str) -> Corpus:
    """The corpus of three texts, `train`, `valid` and `test`, with the vocabulary of the first.

    Raises:
        KeyError: another text has a word that the first lacks.
    """
    counted = collections.Counter(texts["train"]).most_common()  # ties: as first met
    number = {word: i for i, (word, _) in enumerate(counted)}
    coded = {part: np.array([number[w] for w in text], np.int32) for part, text in texts.items()}
    counts = np.array([count for _, count in counted], np.int32)
    return Corpus(counts=counts, words=tuple(number), summary=summary, **coded)  # type: ignore[arg-type]


def markov(num_words: int = 20, length: int = 40_000, seed: int = 0) -> Corpus:
    """A language in which the next word depends on the last alone, with known probabilities.

    p(w | c) ∝ exp(a normal number) / (1 + w): some words are rare, as in any language. The text is
    drawn from that law; `valid` and `test` have a quarter of `length`.

    Arguments:
        num_words: V.
        length: of the training text.
        seed: of the language and of the texts.

    Example:
        >>> text = markov(num_words=3, length=1000)
        >>> text.train.shape, text.test.shape, text.law.shape
        ((1000,), (250,), (3, 3))
    """
    random = np.random.default_rng(seed)
    law = np.exp(random.standard_normal((num_words, num_words))) / (1 + np.arange(num_words))
    law /= law.sum(1, keepdims=True)
    edges = np.cumsum(law, axis=1)
    text, last = [], 0
    for u in random.random(length + 2 * (length // 4)):
        last = min(int(np.searchsorted(edges[last], u, side="right")), num_words - 1)
        text.append(last)
    ends = (length, length + length // 4)
    train, valid, test = np.split(np.array(text, np.int32), ends)
    return Corpus(
        train,
        valid,
        test,
        np.maximum(np.bincount(train, minlength=num_words), 1),
        tuple(f"w{i}" for i in range(num_words)),
        f"{num_words} words, each drawn given the last",
        jnp.asarray(law, dtype=float),
    )
