"""Downloads, from a server on this machine that may be slow of truth, or not there at all."""

import http.server
import threading

import numpy as np
import pytest

from expectax.lab import data
from expectax.lab.data import fetch as fetching
from expectax.lab.data.fetch import fetch
from expectax.lab.data.files import DATA_DIR, DataFile, sha256_of
from expectax.lab.data.sources import Form, Raw, Source
from expectax.lab.errors import UsageError

BODY = bytes(range(200)) * 50
OTHER = BODY[::-1]


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the published bytes, others, fewer than it says, or fewer than there are."""

    asked: list[str]

    def do_GET(self):
        self.asked.append(self.path)
        kind = self.path.split("/")[1]
        if kind == "missing":
            self.send_error(404)
            return
        body = {"other": OTHER, "short": BODY[:700]}.get(kind, BODY)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:900] if kind == "cut" else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    """The address of a server, and the paths that it was asked for."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv(fetching.OFFLINE, raising=False)
    asked: list[str] = []
    handler = type("Mine", (Handler,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}", asked
        serving.shutdown()
        thread.join()


def published(*urls: str) -> DataFile:
    return DataFile("bits.bin", sha256_of(BODY), len(BODY), urls)


def test_a_file_is_downloaded_once(server, tmp_path):
    address, asked = server
    file, notes = published(f"{address}/good/bits.bin"), []
    for _ in range(2):
        path = fetch(file, tmp_path / "deep" / "folder", notes.append)
        assert path == tmp_path / "deep" / "folder" / "bits.bin"
        assert path.read_bytes() == BODY
    assert asked == ["/good/bits.bin"]
    assert notes == [f"downloading {address}/good/bits.bin"]


@pytest.mark.parametrize("bad", ["other", "short", "cut", "missing"])
def test_a_mirror_that_fails_gives_way_to_the_next(server, tmp_path, bad):
    address, asked = server
    file = published(f"{address}/{bad}/bits.bin", f"{address}/good/bits.bin")
    assert fetch(file, tmp_path).read_bytes() == BODY
    assert asked == [f"/{bad}/bits.bin", "/good/bits.bin"]


FAILURES = {
    "other": ["another file, 10,000 bytes with sha256", sha256_of(OTHER)],
    "short": ["truncated, 700 of 10,000 bytes", sha256_of(BODY[:700])],
    "cut": ["900"],
    "missing": ["404"],
}


@pytest.mark.parametrize("bad", FAILURES)
def test_what_fails_everywhere_is_told_in_three_parts_and_leaves_nothing(server, tmp_path, bad):
    address, _ = server
    urls = [f"{address}/{bad}/bits.bin", f"{address}/{bad}/again/bits.bin"]
    with pytest.raises(UsageError) as error:
        fetch(published(*urls), tmp_path)
    what, why, instead = str(error.value).split("\n")
    assert str(tmp_path / "bits.bin") in what
    assert sha256_of(BODY) in why
    for fragment in (*urls, *FAILURES[bad]):
        assert fragment in why
    assert "--data-dir" in instead
    assert not any(tmp_path.iterdir())


@pytest.mark.usefixtures("server")
def test_no_network_is_told_with_the_way_out(tmp_path):
    closed = "http://127.0.0.1:9/bits.bin"  # nobody listens on the discard port
    try:
        raise LookupError("what went before is no cause")
    except LookupError:
        with pytest.raises(UsageError) as error:
            fetch(published(closed), tmp_path)
    for fragment in ("bits.bin", sha256_of(BODY), f"{closed}: Connection refused", "--data-dir"):
        assert fragment in str(error.value)
    with pytest.raises(UsageError, match=r"nowhere\.invalid.*: .*(resolution|resolve|known)"):
        fetch(published("http://nowhere.invalid/bits.bin"), tmp_path)


def test_a_folder_that_cannot_be_written_is_told(server, tmp_path):
    address, _ = server
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UsageError, match=r"cannot be downloaded(.|\n)*--data-dir"):
        fetch(published(f"{address}/good/bits.bin"), tmp_path / "file")


def test_offline_nothing_is_asked_for(server, tmp_path, monkeypatch):
    address, asked = server
    monkeypatch.setenv(fetching.OFFLINE, "1")
    with pytest.raises(UsageError, match=r"EXPECTAX_OFFLINE is set(.|\n)*--data-dir") as error:
        fetch(published(f"{address}/good/bits.bin"), tmp_path)
    assert f"{address}/good/bits.bin" in str(error.value)
    assert sha256_of(BODY) in str(error.value)
    assert not asked


def test_what_cannot_be_known_again_is_never_asked_for(server, tmp_path):
    address, asked = server
    url = f"{address}/good/chardata.mat"
    with pytest.raises(UsageError, match=r"no checksum of it(.|\n)*--data-dir") as error:
        fetch(DataFile("chardata.mat", None, 0, (url,)), tmp_path)
    assert url in str(error.value)
    assert not asked
    with pytest.raises(UsageError, match="no address"):
        fetch(DataFile("bits.bin", sha256_of(BODY), 0), tmp_path)


def test_a_set_is_downloaded_where_no_folder_is_passed_and_mended_if_altered(
    server, tmp_path, monkeypatch, capsys
):
    address, asked = server
    monkeypatch.setenv(DATA_DIR, str(tmp_path))
    parse = lambda found: Raw(*[np.frombuffer(found["bits.bin"][0], np.uint8).reshape(-1, 20)] * 2)
    source = Source(
        title="Little",
        folder="little",
        forms=(Form((published(f"{address}/good/bits.bin"),), parse),),
        shape=(4, 5),
        grey=True,
        binarizations=("grey",),
        split="",
        licence="",
    )
    monkeypatch.setitem(data.DATASETS, "little", source)
    expected = np.frombuffer(BODY, np.uint8).reshape(-1, 20)
    assert np.array_equal(data.load("little").train, expected)
    assert np.array_equal(data.load("little").train, expected)
    assert len(asked) == 1
    assert capsys.readouterr().err == f"downloading {address}/good/bits.bin\n"
    stored = tmp_path / "little" / "bits.bin"
    stored.write_bytes(OTHER)
    with pytest.raises(UsageError, match="altered"):  # a folder that was passed is left alone
        data.load("little", tmp_path)
    assert stored.read_bytes() == OTHER
    assert np.array_equal(data.load("little").train, expected)
    assert stored.read_bytes() == BODY
    assert len(asked) == 2
