"""Lines, compression, index and sampling of fragments."""

import gzip
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from sound_inputs import (
    BARCODES,
    fragment_lines,
    write_fragment_lines,
    wrong,
)

from regulonformer.validate.bgzf import EOF_BLOCK, READ_WHOLE, sample_text
from regulonformer.validate.fragments import SAMPLED_BLOCKS


def test_comments_and_four_to_six_columns_are_fine(inputs):
    for extra in ("", "\t1", "\t1\t+"):
        lines = [line.rsplit("\t", 1)[0] + extra for line in fragment_lines()]
        inputs.write_fragments(["# id=a", "# primary_contig=chr1", *lines])
        assert wrong(inputs.found()) == []


LAST = f"chr2\t20000\t20100\t{BARCODES[0]}\t1"


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([*fragment_lines(), "chr2\t20000\t20100"], "fragments.columns"),
        ([*fragment_lines(), f"{LAST}\t+\t9"], "fragments.columns"),
        ([*fragment_lines(), LAST.replace("20100", "x")], "fragments.numbers"),
        ([*fragment_lines(), LAST.replace("20100", "20_100")], "fragments.numbers"),
        (["\r".join(fragment_lines())], "fragments.columns"),
        ([*fragment_lines(), LAST.removesuffix("\t1")], "fragments.columns"),
        ([LAST.replace("chr2", "chr0") + "\t+", *fragment_lines()], "fragments.columns"),
        ([*fragment_lines(), LAST.removesuffix("1") + "."], "fragments.numbers"),
        ([*fragment_lines(), LAST.removesuffix("1") + "1.0"], "fragments.numbers"),
        ([*fragment_lines(), LAST.removesuffix("1") + "+"], "fragments.numbers"),
        ([*fragment_lines(), LAST.replace("20100", "2147483648")], "fragments.numbers"),
        ([*fragment_lines(), LAST.replace("20100", "20000")], "fragments.intervals"),
        ([*fragment_lines(), LAST.replace("20100", "1")], "fragments.intervals"),
        ([*fragment_lines(), LAST.replace("20000", "-3")], "fragments.intervals"),
        ([LAST, *fragment_lines()], "fragments.unsorted"),
        (fragment_lines()[::-1], "fragments.unsorted"),
        ([f"{line}\r" for line in fragment_lines()], "fragments.crlf"),
        (["# nothing"], "fragments.empty"),
    ],
)
def test_faults_of_lines(inputs, lines, code):
    inputs.write_fragments(lines, index=False)
    found = inputs.found()
    assert found[code]["level"] == "error" and found[code]["file"] == str(inputs.fragments)


def test_gzip_and_plain_text_in_place_of_bgzip(inputs):
    text = "\n".join(fragment_lines()).encode()
    inputs.fragments.write_bytes(gzip.compress(text))
    assert "bgzip" in inputs.found()["fragments.not_bgzip"]["fix"]
    inputs.fragments.write_bytes(text)
    assert "is not compressed" in inputs.found()["fragments.not_bgzip"]["message"]


def test_missing_and_foreign_index(inputs):
    index = Path(f"{inputs.fragments}.tbi")
    stale = index.read_bytes()
    inputs.write_fragments([*fragment_lines(), f"chr3\t1\t9\t{BARCODES[0]}\t1"])
    index.write_bytes(stale)
    assert "'chr3'" in inputs.found()["fragments.index_contigs"]["message"]
    index.write_bytes(b"nonsense")
    assert "tabix -p bed" in inputs.found()["fragments.index_unreadable"]["fix"]
    index.unlink()
    assert "tabix -f -p bed" in inputs.found()["fragments.unindexed"]["fix"]


def test_index_older_than_its_file(inputs):
    os.utime(f"{inputs.fragments}.tbi", (1, 1))
    assert wrong(inputs.found()) == ["fragments.index_old"]


def many_fragments(path, n):
    """A sorted file that is larger than what is read whole."""
    rng = np.random.default_rng(0)
    starts = np.sort(rng.integers(0, 200_000_000, n))
    names = rng.choice(BARCODES, n)
    lengths = rng.integers(30, 900, n)
    lines = [f"chr1\t{s}\t{s + w}\t{b}\t1" for s, w, b in zip(starts, lengths, names, strict=True)]
    write_fragment_lines(path, lines)
    return lines


def test_a_large_file_is_sampled_over_its_whole_length(tmp_path):
    path = tmp_path / "f.tsv.gz"
    lines = many_fragments(path, 400_000)
    assert path.stat().st_size > READ_WHOLE
    pieces = sample_text(path, 8)
    sampled = [line for piece in pieces for line in piece.decode().splitlines()]
    assert len(pieces) == 9 and len(sampled) < len(lines) / 10
    places = {line: at for at, line in enumerate(lines)}
    at = [places[line] for line in sampled]
    assert at == sorted(at) and at[-1] > 0.9 * len(lines)


def bgzf(text: bytes, level: int, size: int) -> bytes:
    """Start of a text as BGZF blocks of a compression level, `size` bytes or a block more (SAM, section 4.1)."""
    packed, at = b"", 0
    while len(packed) < size:
        part, packer = text[at : at + 65_280], zlib.compressobj(level, wbits=-15)
        body = packer.compress(part) + packer.flush()
        head = EOF_BLOCK[:16] + struct.pack("<H", 18 + len(body) + 8 - 1)
        packed, at = packed + head + body + struct.pack("<II", zlib.crc32(part), len(part)), at + len(part)
    return packed + EOF_BLOCK


@pytest.mark.parametrize("level", [0, 1, 6])
@pytest.mark.parametrize("size", [READ_WHOLE + 1, 2_100_000, 2_200_000, 2_300_000])
def test_sorted_files_just_large_enough_to_be_sampled_are_sorted(inputs, level, size):
    """Sampled blocks lie behind the start that is read, and each is read once, whatever the compression."""
    lines = [f"chr1\t{50 * i}\t{50 * i + 40}\t{BARCODES[i % 40]}\t1\n" for i in range(size // 4)]
    packed = bgzf("".join(lines).encode(), level, size)
    inputs.fragments.write_bytes(packed)
    whole = gzip.decompress(packed)
    assert READ_WHOLE < len(packed) < READ_WHOLE + 300_000
    pieces = sample_text(inputs.fragments, SAMPLED_BLOCKS)
    starts = [int(line.split(b"\t")[1]) for piece in pieces for line in piece.splitlines()]
    assert starts == sorted(set(starts)) and starts[-1] > 0.9 * 50 * whole.count(b"\n")
    assert not {"fragments.unsorted", "fragments.columns", "fragments.unreadable"} & inputs.found(fasta=None).keys()


def test_damage_in_the_middle_of_a_large_file_and_a_lost_end(inputs):
    many_fragments(inputs.fragments, 400_000)
    whole = inputs.fragments.read_bytes()
    spoilt = bytearray(whole)
    # One bit in each stretch of 16 kB in the second half, so that every block there is hit.
    for at in range(len(whole) // 2, len(whole) - 100, 16_000):
        spoilt[at] ^= 64
    inputs.fragments.write_bytes(spoilt)
    assert "fragments.unreadable" in inputs.found()
    inputs.fragments.write_bytes(whole[: len(whole) // 2])
    assert "closing block" in inputs.found()["fragments.truncated"]["message"]
