"""`expectax data`: what it lists, fetches, verifies and draws."""

import functools
import http.server
import re
import threading

import numpy as np
import pytest
from matplotlib.image import imread

from expectax import cli
from expectax.lab import data
from expectax.lab.data.files import DATA_DIR, DataFile, sha256_of
from expectax.lab.data.sheet import choose
from expectax.lab.data.sources import Form, Raw, Source

NAMES = ("train", "test", "labels")


def run(*argv: object) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main(["data", *map(str, argv)])
    return int(stop.value.code or 0)


@pytest.fixture
def files():
    generator = np.random.default_rng(0)
    return {
        "train": generator.integers(0, 256, (40, 20), np.uint8).tobytes(),
        "test": generator.integers(0, 256, (30, 20), np.uint8).tobytes(),
        "labels": (np.arange(40) % 3).astype(np.uint8).tobytes(),
    }


def parse(found) -> Raw:
    array = lambda name: np.frombuffer(found[name][0], np.uint8)
    labels = array("labels") if "labels" in found else None
    return Raw(array("train").reshape(-1, 20), array("test").reshape(-1, 20), train_labels=labels)


@pytest.fixture(autouse=True)
def little(tmp_path, monkeypatch, files):
    """The only data sets: the digits, and a little one that a server on this machine has."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("EXPECTAX_OFFLINE", raising=False)
    monkeypatch.setenv(DATA_DIR, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "served").mkdir()
    for name, raw in files.items():
        (tmp_path / "served" / name).write_bytes(raw)
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    handler = functools.partial(quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        known = [
            DataFile(
                name, sha256_of(raw), len(raw), (f"{address}/{name}",), False, name == "labels"
            )
            for name, raw in files.items()
        ]
        source = Source(
            title="Little",
            folder="little",
            forms=(Form(tuple(known), parse),),
            shape=(4, 5),
            grey=True,
            binarizations=("dynamic", "threshold", "grey"),
            split="40 train, 30 test",
            licence="ours",
            classes=("zero", "one", "two"),
        )
        kept = dict(data.DATASETS)
        data.DATASETS.clear()
        data.DATASETS.update(digits=kept["digits"], little=source)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield tmp_path / "home" / "little"
        server.shutdown()
        thread.join()
        data.DATASETS.clear()  # one by one they would come back in another order
        data.DATASETS.update(kept)


def row(out: str, name: str) -> str:
    """What the list says of a data set, on one line."""
    lines = [line for line in out.splitlines() if line.strip()]
    start = next(i for i, line in enumerate(lines) if line.split()[0] == name)
    return " ".join(" ".join(lines[start : start + 3]).split())


def test_the_list_tells_where_each_set_is_and_in_what_state(little, files, capsys):
    def listed() -> str:
        assert run() == 0
        return capsys.readouterr().out

    out = listed()
    assert "comes with the installation" in row(out, "digits")
    assert str(little.parent) in out
    for words in ("not here: expectax data fetch little", "40 train, 30 test", "dynamic", "ours"):
        assert words in row(out, "little")
    assert run("fetch", "little") == 0
    capsys.readouterr()
    out = listed()
    for words in ("verified, 1 kB", "4×5"):
        assert words in row(out, "little")
    assert re.search(rf"^little +{little}$", out, re.M)  # on a line of its own, to be copied
    (little / "labels").unlink()
    (little / "test").write_bytes(files["test"][:-1])
    assert "verified: train; altered: test; missing: labels, 1 kB" in row(listed(), "little")
    assert run("list", "little") == 0
    assert "digits" not in capsys.readouterr().out
    assert run("list", "digits") == run("list", "digits", "--data-dir", little) == 0


def test_fetch_brings_what_load_and_verify_then_find(little, files, capsys, tmp_path):
    assert run("fetch", "little") == 0
    out = capsys.readouterr().out
    for name, raw in files.items():
        assert (little / name).read_bytes() == raw
        assert f"verified, {little / name}" in out
    assert run("verify") == run("verify", "little") == 0
    for name, raw in files.items():
        assert f"{little / name}  verified  {sha256_of(raw)}" in capsys.readouterr().out or name
    assert run("fetch", "little", "--data-dir", tmp_path / "mine") == 0
    assert len(data.load("little", tmp_path / "mine").train) == 40
    assert run("fetch", "digits") == run("verify", "digits") == 0


@pytest.mark.parametrize("spoil", ["missing", "truncated", "altered"])
def test_verify_names_a_spoiled_file_and_both_checksums(little, files, capsys, spoil):
    run("fetch", "little")
    path = little / "test"
    raw = {"truncated": files["test"][:-5], "altered": files["test"][::-1]}.get(spoil)
    path.unlink() if raw is None else path.write_bytes(raw)
    capsys.readouterr()
    for argv in (["verify", "little"], ["verify"]):
        assert run(*argv) == 2
        out, err = capsys.readouterr()
        assert f"{little / 'train'}  verified" in out
        assert str(path) in err
        assert err.count("\n") == 1
        assert sha256_of(files["test"]) in err
        assert raw is None or sha256_of(raw) in err


def test_verify_goes_without_labels_and_tells_an_empty_folder(little, capsys, tmp_path):
    run("fetch", "little")
    (little / "labels").unlink()
    assert run("verify", "little") == 0
    assert f"{little / 'labels'}  missing" in capsys.readouterr().out
    assert run("verify", "--data-dir", tmp_path) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_a_server_that_lies_is_told_in_one_line(little, files, capsys, tmp_path):
    (tmp_path / "served" / "train").write_bytes(files["train"][::-1])
    assert run("fetch", "little") == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for words in (
        str(little / "train"),
        sha256_of(files["train"]),
        sha256_of(files["train"][::-1]),
    ):
        assert words in err
    assert not little.exists() or not any(little.iterdir())


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["frob"], "list, fetch, verify or show"),
        (["show"], "no NAME"),
        (["fetch"], "digits or little"),
        (["show", "cifar"], "digits or little"),
        (["verify", "cifar"], "digits or little"),
        (["show", "little", "--binarization", "static"], "grey levels"),
        (["show", "digits", "--output", "no/such.png"], "no such folder"),
    ],
)
def test_a_mistake_is_one_line_with_status_2(argv, words, capsys):
    assert run(*argv) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err
    assert not out


def test_show_draws_a_sheet_and_overwrites_nothing(capsys, tmp_path):
    assert run("show", "little") == 0
    assert "little.png" in capsys.readouterr().out
    dynamic = imread(tmp_path / "little.png")
    assert min(dynamic.shape[:2]) > 400
    assert dynamic.std() > 0.1  # there is ink on it
    assert run("show", "little") == 2
    assert "overwritten" in capsys.readouterr().err
    for how in ("threshold", "grey"):
        assert run("show", "little", "--binarization", how, "--output", f"{how}.png") == 0
    shades = {how: imread(tmp_path / f"{how}.png")[..., 0] for how in ("grey", "threshold")}
    between = {how: np.mean((x > 0.3) & (x < 0.8)) for how, x in shades.items()}
    assert between["grey"] > 2 * between["threshold"]


def test_the_sheet_has_a_row_for_each_class_or_each_in_turn():
    generator = np.random.default_rng(0)
    labels = np.arange(300) % 3
    chosen = choose(generator, 300, labels, 3)
    assert np.array_equal(labels[chosen], np.repeat([0, 1, 2], 10))
    assert len(set(chosen.tolist())) == 30
    labels = np.arange(300) % 50
    assert np.array_equal(labels[choose(generator, 300, labels, 50)], np.tile(np.arange(50), 2))
    assert len(set(choose(generator, 300, None, 0).tolist())) == 100
    assert len(choose(generator, 30, None, 0)) == 30
