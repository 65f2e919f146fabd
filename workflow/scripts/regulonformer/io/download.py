"""Fetch a file by its URL: resumed after a cut, checked against its checksum, never left half written."""

import gzip
import logging
import math
import os
import shutil
import ssl
import time
import zlib
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from regulonformer import __version__
from regulonformer.errors import InputError
from regulonformer.io.store import file_hash
from regulonformer.log import progress

# Some servers refuse urllib's own name.
HEADERS = {"User-Agent": f"regulonformer/{__version__}"}
ATTEMPTS = 5
LONGEST_WAIT_S = 60
TIMEOUT_S = 60
CHUNK_BYTES = 1_000_000
# What may pass by itself.
PASSING = (URLError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
PASSING_STATUS = {408, 416, 425, 429}


def download(
    url: str,
    path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    unpack: str | None = None,
    first_wait_s: float = 1.0,
) -> None:
    """Download a file, or keep the one that is there if it has the checksum.

    While it is on its way the file is called `<path>.part`. A later call goes on where an earlier one was cut, if the
    server still has the same version (RFC 9110, sections 13.1.5 and 14). Proxies are taken from the environment.

    Parameters
    ----------
    url
        http, https or file.
    path
        Where the file goes; missing folders are made.
    sha256, md5
        Checksums of the file as the server sends it, in hex. Without one the SHA-256 is logged.
    unpack
        `gzip` to store the file uncompressed.
    first_wait_s
        Seconds before the second attempt. The wait doubles with every attempt in a row that brings nothing new.

    Raises
    ------
    InputError
        If the file cannot be had or is not the one that was asked for; names URL, path and the way out.
    """
    path = Path(path)
    wanted = {name: digest for name, digest in {"sha256": sha256, "md5": md5}.items() if digest}
    if wanted and not unpack and path.is_file() and all(file_hash(path, name) == wanted[name] for name in wanted):
        logging.info("%s is here already and has the checksum", path)
        return
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        by_hand = f"download it by hand, {'unpack it, ' if unpack else ''}and save it as {path}"
        _fetch_patiently(url, part, first_wait_s, by_hand)
        _check(url, part, wanted)
        os.replace(_gunzip(url, part) if unpack == "gzip" else part, path)
        _discard(part)
    except OSError as error:
        raise InputError(path, f"could not be written ({error})", "Check permissions and free space") from None


def _fetch_patiently(url: str, part: Path, wait_s: float, by_hand: str) -> None:
    """Fetch with pauses between attempts; only attempts that bring the file no further count against the limit."""
    failures, furthest = 0, _size(part)
    while True:
        try:
            return _fetch(url, part)
        except PASSING as error:
            failures = 1 if _size(part) > furthest else failures + 1
            furthest = max(furthest, _size(part))
            if _is_final(error) or failures == ATTEMPTS:
                fix = f"Check the URL, the network and https_proxy; or {by_hand}"
                raise InputError(url, f"could not be downloaded ({_words(error)})", fix) from None
            wait = min(wait_s * 2 ** (failures - 1), LONGEST_WAIT_S)
            logging.info("%s: %s; trying again in %.0f s", url, _words(error), wait)
            time.sleep(wait)


def _fetch(url: str, part: Path) -> None:
    """Fetch what is missing of a file.

    Raises
    ------
    ConnectionError
        If fewer bytes came than were announced, next to all that urllib raises.
    """
    done, version = _so_far(url, part)
    resume = {"Range": f"bytes={done}-", "If-Range": version} if done else {}
    try:
        response = urlopen(Request(url, headers=HEADERS | resume), timeout=TIMEOUT_S)
    except HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range") == f"bytes */{done}":
            return  # Nothing is missing: an earlier run was killed right before its last step.
        _discard(part)
        raise
    with response:
        done = _start(response, done)
        length = response.headers.get("Content-Length")
        length = int(length) if length else None
        _check_space(part.parent, length or 0)
        if not done:
            # Old bytes go before the new version is noted: killed in between, nothing can be joined wrongly.
            _discard(part)
            _note_version(url, part, response.headers)
        came = _append(response, part, length)
    if length is not None and came != length:
        raise ConnectionError(f"cut after {done + came:,} of {done + length:,} bytes")


def _so_far(url: str, part: Path) -> tuple[int, str]:
    """Bytes to go on from, and the version they belong to; 0 where that version is unknown."""
    file = _version_file(part)
    if not (part.is_file() and file.is_file()):
        return 0, ""
    known_url, version = file.read_text().split("\n", 1)
    return (part.stat().st_size, version) if known_url == url else (0, "")


def _start(response, done: int) -> int:
    """First byte of the answer: servers that do not resume, and those with a new version, send the file from 0."""
    if getattr(response, "status", None) != 206:
        return 0
    span = response.headers.get("Content-Range", "")
    if not span.startswith(f"bytes {done}-"):
        raise ConnectionError(f"asked for bytes from {done}, the server sent {span or 'others'}")
    return done


def _note_version(url: str, part: Path, headers) -> None:
    """Keep what tells this version from others; a weak ETag cannot join bytes."""
    version = headers.get("ETag", "")
    if not version.startswith('"'):
        version = headers.get("Last-Modified", "")
    if version:
        _version_file(part).write_text(f"{url}\n{version}")


def _append(response, part: Path, length: int | None) -> int:
    """Write the body piece by piece; returns the number of bytes."""
    chunks = _read(response)
    if length:
        label = f"Downloading {part.name.removesuffix('.part')}"
        chunks = progress(chunks, math.ceil(length / CHUNK_BYTES), label, "megabyte")
    with open(part, "ab") as file:
        return sum(file.write(chunk) for chunk in chunks)


def _read(response):
    """Body in pieces. An OSError in here is the network's, whereas one of the writer is the disk's."""
    try:
        while chunk := response.read(CHUNK_BYTES):
            yield chunk
    except OSError as error:
        raise ConnectionError(str(error)) from error


def _check(url: str, part: Path, wanted: dict[str, str]) -> None:
    """Compare checksums, and delete a file that has others; tell the checksum where none was given."""
    if not wanted:
        logging.info("%s has the sha256 %s; name it in the config to pin this file", url, file_hash(part))
    for name, digest in wanted.items():
        found = file_hash(part, name)
        if found != digest:
            _discard(part)
            problem = f"the file has the {name} {found}, and the config says {digest}; it was deleted"
            raise InputError(url, problem, "Check the URL; if the file was changed on purpose, correct the checksum")


def _gunzip(url: str, part: Path) -> Path:
    """Unpack a gzip file beside itself; returns the new file."""
    unpacked = part.with_suffix(".unpacked")
    try:
        with gzip.open(part) as packed, open(unpacked, "wb") as file:
            shutil.copyfileobj(packed, file, CHUNK_BYTES)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        unpacked.unlink()
        _discard(part)
        fix = "Leave out `unpack` if the file is not packed; otherwise run again, the file was deleted"
        raise InputError(url, f"not a complete gzip file ({error})", fix) from None
    return unpacked


def _check_space(folder: Path, length: int) -> None:
    free = shutil.disk_usage(folder).free
    if length > free:
        problem = f"{length / 1e9:.1f} GB are to be downloaded and {free / 1e9:.1f} GB are free"
        raise InputError(folder, problem, "Make room, or name another folder in `downloads`")


def _is_final(error: Exception) -> bool:
    """Whether another attempt would end the same way."""
    if isinstance(error, HTTPError):
        return error.code < 500 and error.code not in PASSING_STATUS
    return isinstance(error, URLError) and isinstance(error.reason, FileNotFoundError | IsADirectoryError)


def _words(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"HTTP {error.code} {error.reason}"
    return str(getattr(error, "reason", error)) or type(error).__name__


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")
