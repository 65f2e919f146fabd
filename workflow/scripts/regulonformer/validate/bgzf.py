"""Pieces of a compressed text file: its start, its end, and blocks spread between, without reading the whole.

BGZF is a chain of gzip members of at most 64 KiB that each know their length, closed by an empty one
(SAM/BAM specification, section 4.1, "The BGZF compression format").
"""

import gzip
import os
import struct
import zlib

EOF_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
MAGIC = b"\x1f\x8b\x08\x04"
LARGEST_BLOCK = 1 << 16
HEADER = 18
# A smaller file is read to its end, so that any damage shows; of a larger one, pieces are.
READ_WHOLE = 2 << 20
HEAD_BYTES = 1 << 18


def compression(path) -> str:
    """`bgzip`, `gzip` or `plain`, by the first bytes."""
    with open(path, "rb") as handle:
        start = handle.read(HEADER)
    if start[:2] != MAGIC[:2]:
        return "plain"
    return "bgzip" if start[:4] == MAGIC and start[12:16] == b"BC\x02\x00" else "gzip"


def is_closed(path) -> bool:
    """Whether a BGZF file ends with the empty block that its writer puts last."""
    with open(path, "rb") as handle:
        handle.seek(max(0, os.path.getsize(path) - len(EOF_BLOCK)))
        return handle.read() == EOF_BLOCK


def read_head(path, limit: int) -> tuple[bytes, bool]:
    """First bytes of the text in a plain or gzip file, whole lines only, and whether that is all of it.

    Raises
    ------
    OSError, EOFError, ValueError, zlib.error
        If the compressed data are damaged or cut off.
    """
    opener = open if compression(path) == "plain" else gzip.open
    with opener(path, "rb") as handle:
        text = handle.read(limit)
        complete = not handle.read(1)
    return (text, True) if complete else (text[: text.rfind(b"\n") + 1], False)


def sample_text(path, n_blocks: int) -> list[bytes]:
    """Whole lines from the start of a BGZF file and from blocks spread evenly over it, in file order.

    Parameters
    ----------
    path
        BGZF file; one of up to 2 MiB is read completely.
    n_blocks
        Blocks to read after the start, at most: none is read twice.

    Raises
    ------
    OSError, EOFError, ValueError, zlib.error
        If what was read is damaged, checksums included.
    """
    size = os.path.getsize(path)
    if size <= READ_WHOLE:
        return [read_head(path, 1 << 30)[0]]
    with open(path, "rb") as handle:
        head = gzip.GzipFile(fileobj=handle).read(HEAD_BYTES)
        pieces = [head[: head.rfind(b"\n") + 1]]
        # Only behind the bytes that the head came from, and never beyond the last whole block, of which the end of the
        # file is behind by two lengths at most. Places a block's length apart lead to different blocks.
        first, last = handle.tell(), size - 2 * LARGEST_BLOCK
        n_blocks = min(n_blocks, (last - first) // LARGEST_BLOCK)
        for i in range(1, n_blocks + 1):
            text = _block_after(handle, first + i * (last - first) // n_blocks)
            pieces.append(text[text.find(b"\n") + 1 : text.rfind(b"\n") + 1])
    return pieces


def _block_after(handle, offset: int) -> bytes:
    """Text of the first block that starts at or after an offset."""
    handle.seek(offset)
    window = handle.read(2 * LARGEST_BLOCK)
    at = window.find(MAGIC)
    while at >= 0 and window[at + 12 : at + 16] != b"BC\x02\x00":
        at = window.find(MAGIC, at + 1)
    if at < 0:
        raise ValueError(f"no block within {len(window)} bytes of byte {offset}")
    length = struct.unpack_from("<H", window, at + 16)[0] + 1
    text = zlib.decompress(window[at + HEADER : at + length - 8], wbits=-15)
    if zlib.crc32(text) != struct.unpack_from("<I", window, at + length - 8)[0]:
        raise ValueError(f"damaged block at byte {offset + at}: wrong checksum")
    return text
