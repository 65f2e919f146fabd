"""Downloads from a real server on this machine that cuts, refuses, forgets and changes its mind."""

import gzip
import hashlib
import logging
import re
import socket
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from regulonformer.errors import InputError
from regulonformer.io import download as module
from regulonformer.io.download import download

CONTENT = bytes(range(256)) * 10_000  # 2.56 MB: three pieces
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves one file as the server object tells it to, and notes what was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """Answer in the way that the test has set up."""
        server = self.server
        server.asked.append(dict(self.headers))
        if server.statuses:
            self.send_response(server.statuses.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start, total = self.first_byte(), len(server.content)
        if start >= total:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start + server.shift}-{total - 1}/{total}")
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else len(body)
        self.wfile.write(body[:cut])
        self.close_connection = True

    def first_byte(self):
        """Where the answer starts: the Range, if the file is still the one that the client has begun."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range", self.server.etag) == self.server.etag
        return int(asked[1]) if asked and same and self.server.ranges else 0

    def log_message(self, *_):
        """Keep the tests' output clean."""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """Nothing of this machine's own proxy, and nothing that urllib remembers of it."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)


@pytest.fixture
def server():
    """A server with a well-behaved file; tests change its attributes."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.etag, server.ranges, server.shift = CONTENT, '"one"', True, 0
    server.statuses, server.cuts, server.asked = [], [], []
    server.url = f"http://127.0.0.1:{server.server_port}/file.bin"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def target(tmp_path):
    """A path in a folder that does not exist yet."""
    return tmp_path / "resources" / "file.bin"


def fetch(url, target, **options):
    """Download without long waits."""
    download(url, target, first_wait_s=0.01, **options)


def alone(target):
    """Whether the file is all that is left in its folder."""
    return [file.name for file in target.parent.iterdir()] == [target.name]


def test_file_arrives_with_progress_and_its_checksum_is_told(server, target, caplog):
    caplog.set_level(logging.INFO)
    fetch(server.url, target)
    assert target.read_bytes() == CONTENT and alone(target)
    assert f"sha256 {SHA256}" in caplog.text
    assert "Downloading file.bin: 3/3 megabytes" in caplog.text
    assert server.asked[0]["User-Agent"].startswith("regulonformer/")


@pytest.mark.parametrize("checksums", [{"sha256": SHA256}, {"md5": MD5}, {"sha256": SHA256, "md5": MD5}])
def test_right_checksum_passes(server, target, checksums):
    fetch(server.url, target, **checksums)
    assert target.read_bytes() == CONTENT


def test_wrong_checksum_names_both_and_leaves_nothing(server, target):
    with pytest.raises(InputError, match="deleted") as error:
        fetch(server.url, target, sha256="0" * 64)
    assert all(word in str(error.value) for word in (server.url, SHA256, "0" * 64))
    assert list(target.parent.iterdir()) == []


def test_file_with_the_right_checksum_is_not_fetched_again(server, target):
    fetch(server.url, target)
    fetch(server.url, target, sha256=SHA256, md5=MD5)
    assert len(server.asked) == 1
    target.write_bytes(b"spoilt")
    fetch(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT


def test_cut_connection_goes_on_where_it_was(server, target):
    server.cuts = [1_000_000, 700_000]
    fetch(server.url, target, sha256=SHA256)
    assert [headers.get("Range") for headers in server.asked] == [None, "bytes=1000000-", "bytes=1700000-"]


def test_later_run_goes_on_where_an_earlier_one_gave_up(server, target, monkeypatch):
    server.cuts = [1_500_000]
    with monkeypatch.context() as patch, pytest.raises(InputError):
        patch.setattr(module, "ATTEMPTS", 1)
        fetch(server.url, target)
    assert not target.exists() and target.with_name("file.bin.part").stat().st_size == 1_500_000
    fetch(server.url, target, sha256=SHA256)
    assert server.asked[-1]["Range"] == "bytes=1500000-" and alone(target)


def test_many_cuts_are_no_failure_while_the_file_grows(server, target):
    server.cuts = [200_000] * 12
    fetch(server.url, target, sha256=SHA256)
    assert len(server.asked) == 13


def test_a_file_that_is_always_cut_at_the_same_byte_is_given_up(server, target):
    server.ranges, server.cuts = False, [1_000_000] * 100
    with pytest.raises(InputError, match="cut after 1,000,000 of 2,560,000 bytes"):
        fetch(server.url, target)
    assert not target.exists() and len(server.asked) == module.ATTEMPTS


def test_server_without_ranges_sends_all_again(server, target):
    server.ranges, server.cuts = False, [1_000_000]
    fetch(server.url, target, sha256=SHA256)
    assert server.asked[1]["Range"] == "bytes=1000000-" and target.read_bytes() == CONTENT


def test_new_version_is_not_joined_to_the_old_one(server, target):
    part = target.with_name("file.bin.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"old" * 1000)
    part.with_name("file.bin.part.version").write_text(f'{server.url}\n"zero"')
    fetch(server.url, target)
    assert server.asked[0]["If-Range"] == '"zero"' and target.read_bytes() == CONTENT


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_version_nothing_is_joined(server, target, etag):
    server.etag, server.cuts = etag, [1_000_000]
    fetch(server.url, target, sha256=SHA256)
    assert [headers.get("Range") for headers in server.asked] == [None, None]


def test_half_a_file_of_another_url_is_not_gone_on_with(server, target):
    server.cuts = [1_000_000] + [0] * 10
    with pytest.raises(InputError):
        fetch(server.url, target)
    server.cuts, server.content = [], CONTENT[::-1]
    fetch(server.url.replace("file.bin", "other.bin"), target)
    assert "Range" not in server.asked[-1] and target.read_bytes() == CONTENT[::-1]


def test_wrong_range_is_refused(server, target):
    server.cuts, server.shift = [1_000_000], 5
    with pytest.raises(InputError, match="asked for bytes from 1000000"):
        fetch(server.url, target)


def test_complete_part_needs_no_byte_more(server, target):
    part = target.with_name("file.bin.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT)
    part.with_name("file.bin.part.version").write_text(f'{server.url}\n"one"')
    fetch(server.url, target, sha256=SHA256)
    assert len(server.asked) == 1 and alone(target)


def test_part_longer_than_the_file_is_thrown_away(server, target):
    part = target.with_name("file.bin.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT + b"more")
    part.with_name("file.bin.part.version").write_text(f'{server.url}\n"one"')
    fetch(server.url, target)
    assert target.read_bytes() == CONTENT


def test_server_errors_are_waited_out(server, target, caplog):
    caplog.set_level(logging.INFO)
    server.statuses = [500, 503]
    fetch(server.url, target, sha256=SHA256)
    assert caplog.text.count("trying again") == 2


def test_waits_double(server, target, monkeypatch):
    waits = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    server.statuses = [500] * 100
    with pytest.raises(InputError, match="HTTP 500"):
        download(server.url, target)
    assert waits == [1, 2, 4, 8]


@pytest.mark.parametrize("status", [403, 404, 410])
def test_refusal_is_not_repeated(server, target, status):
    server.statuses = [status] * 9
    with pytest.raises(InputError, match=f"HTTP {status}"):
        fetch(server.url, target)
    assert len(server.asked) == 1


def test_offline_names_url_file_and_the_way_by_hand(target):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/genome.fa"
    with pytest.raises(InputError) as error:
        fetch(url, target, unpack="gzip")
    assert all(word in str(error.value) for word in (url, "refused", "by hand", "unpack it", f"save it as {target}"))


def test_proxy_of_the_environment_is_asked(server, target, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    fetch("http://data.example/file.bin", target, sha256=SHA256)
    assert server.asked[0]["Host"] == "data.example"


def test_gzip_is_unpacked_and_its_checksum_is_that_of_the_packed_file(server, target):
    # Two members in one file, as bgzip writes them.
    server.content = gzip.compress(CONTENT[:1000], mtime=0) + gzip.compress(CONTENT[1000:], mtime=0)
    fetch(server.url, target, sha256=hashlib.sha256(server.content).hexdigest(), unpack="gzip")
    assert target.read_bytes() == CONTENT and alone(target)


@pytest.mark.parametrize("content", [CONTENT, gzip.compress(CONTENT)[:-20]], ids=["not gzip", "truncated"])
def test_bad_gzip_is_told_and_deleted(server, target, content):
    server.content = content
    with pytest.raises(InputError, match="not a complete gzip file"):
        fetch(server.url, target, unpack="gzip")
    assert list(target.parent.iterdir()) == []


def test_file_url_is_copied(tmp_path, target):
    source = tmp_path / "source.bin"
    source.write_bytes(CONTENT)
    fetch(source.as_uri(), target, md5=MD5)
    assert target.read_bytes() == CONTENT and source.exists()


def test_missing_file_url_is_told_at_once(tmp_path, target, monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda _: pytest.fail("waited"))
    with pytest.raises(InputError, match="nothing.bin"):
        download((tmp_path / "nothing.bin").as_uri(), target)


def test_folder_that_cannot_be_made_is_told(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="could not be written"):
        fetch(server.url, tmp_path / "file" / "below.bin")


def test_full_disk_is_told_before_it_is_full(server, target, monkeypatch):
    free = module.shutil.disk_usage(target.parents[1])._replace(free=1_000_000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: free)
    with pytest.raises(InputError, match="are free"):
        fetch(server.url, target)
