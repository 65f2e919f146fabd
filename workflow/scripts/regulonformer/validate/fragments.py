"""Whether a fragment file is whole, sorted, indexed and in 10x's layout, by its index and a sample of its lines."""

import os
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice

from regulonformer.io.fragments import chromosomes
from regulonformer.validate.bgzf import compression, is_closed, read_head, sample_text
from regulonformer.validate.findings import Findings

SAMPLED_BLOCKS = 24
HEAD = 1 << 18
# Coordinates and counts are read as int32.
LARGEST_NUMBER = 2**31 - 1


@dataclass
class FragmentSample:
    """What a sample of a fragment file holds.

    Attributes
    ----------
    contigs
        Chromosomes that the index names.
    barcodes
        Barcode -> number of sampled fragments.
    ends
        Chromosome -> largest end seen (bp).
    faults
        Kind of fault -> the first line that has it, and how many have.
    n_columns
        Columns of the first fragment, which all others must have too; 0 before it.
    """

    contigs: list[str] = field(default_factory=list)
    barcodes: Counter = field(default_factory=Counter)
    ends: dict[str, int] = field(default_factory=dict)
    faults: dict[str, tuple[str, int]] = field(default_factory=dict)
    n_columns: int = 0

    @property
    def n_fragments(self) -> int:
        """Number of sampled fragments."""
        return self.barcodes.total()


def read_fragments(path, findings: Findings) -> FragmentSample:
    """Judge a fragment file and return a sample of it.

    Raises nothing for a bad file: what is wrong stands in the findings.
    """
    sample = FragmentSample()
    with findings.reading("fragments.unreadable", path, "Copy or download the file again"):
        kind = compression(path)
        if kind == "bgzip":
            _judge_end(path, findings)
        else:
            _say_not_bgzip(path, kind, findings)
        scan_lines(sample_text(path, SAMPLED_BLOCKS) if kind == "bgzip" else [read_head(path, HEAD)[0]], sample)
        if kind == "bgzip":
            _judge_index(path, sample, findings)
    _judge_lines(path, sample, findings)
    return sample


def _judge_end(path, findings: Findings) -> None:
    if not is_closed(path):
        fix = "Copy or download it again; if it is all there is, write it anew with bgzip and tabix"
        findings.error("fragments.truncated", path, "the file is cut off: its closing block is missing", fix)


def _say_not_bgzip(path, kind: str, findings: Findings) -> None:
    if kind == "plain":
        message, pack = "is not compressed", f"bgzip {path}"
    else:
        message = "is compressed with gzip, which cannot be read by region"
        pack = f"gunzip -c {path} | bgzip > new.tsv.gz"
    findings.error("fragments.not_bgzip", path, message, f"Run: {pack}; then index it with tabix -p bed")


def scan_lines(pieces: list[bytes], sample: FragmentSample) -> None:
    """Take in the lines of pieces that follow one another in the file, noting the first fault of each kind."""
    chrom, last, left, begun = None, 0, set(), False
    for piece in pieces:
        for line in piece.split(b"\n"):
            if not line.strip() or (line.startswith(b"#") and not begun):
                continue
            begun = True
            fragment = _parse(line, sample)
            if fragment is None:
                continue
            name, start, end, barcode = fragment
            if name != chrom:
                left.add(chrom)
                chrom, last = name, 0
            if start < last or name in left:
                _fault(sample, "unsorted", line)
            last = start
            sample.barcodes[barcode] += 1
            sample.ends[name] = max(end, sample.ends.get(name, 0))
    if any(b"\r\n" in piece for piece in pieces):
        _fault(sample, "crlf", b"")


def _parse(line: bytes, sample: FragmentSample) -> tuple[str, int, int, str] | None:
    """Chromosome, start, end and barcode of a line, or None after noting what is wrong with it."""
    fields = line.removesuffix(b"\r").split(b"\t")
    if not 4 <= len(fields) <= 6 or len(fields) != (sample.n_columns or len(fields)):
        return _fault(sample, "columns", line)
    sample.n_columns = len(fields)
    if not all(map(_is_number, [*fields[1:3], *fields[4:5]])):
        return _fault(sample, "numbers", line)
    try:
        name, barcode = fields[0].decode(), fields[3].decode()
    except UnicodeDecodeError:
        return _fault(sample, "columns", line)
    if not name or not barcode:
        return _fault(sample, "columns", line)
    start, end = int(fields[1]), int(fields[2])
    if start < 0 or end <= start:
        return _fault(sample, "intervals", line)
    return name, start, end, barcode


def _is_number(value: bytes) -> bool:
    # Python would also take " 5", "+5" and "1_000" for numbers.
    return value.removeprefix(b"-").isdigit() and int(value) <= LARGEST_NUMBER


def _fault(sample: FragmentSample, kind: str, line: bytes) -> None:
    first, n = sample.faults.get(kind, (line[:80].decode(errors="replace"), 0))
    sample.faults[kind] = (first, n + 1)


def _judge_lines(path, sample: FragmentSample, findings: Findings) -> None:
    """Say what is wrong with the sampled lines."""
    anew = "| bgzip > new.tsv.gz; then index it with tabix -p bed"
    layout = "Write chrom, start, end, barcode[, count[, strand]] in every line"
    says = {
        "columns": ("lines do not have 4 to 6 tab-separated columns, each line as many as the first", layout),
        "numbers": (f"lines have a start, end or count that is no whole number up to {LARGEST_NUMBER:,}", layout),
        "intervals": ("fragments are empty or negative", "Remove them, or give start and end 0-based and half-open"),
        "unsorted": (
            "fragments are not sorted by position",
            f"Run: gunzip -c {path} | grep -v '^#' | sort -k1,1 -k2,2n {anew}",
        ),
    }
    for kind, (message, fix) in says.items():
        if kind in sample.faults:
            first, n = sample.faults[kind]
            findings.error(f"fragments.{kind}", path, f"{n:,} sampled {message}, first {first!r}", fix)
    if "crlf" in sample.faults:
        fix = f"Run: gunzip -c {path} | tr -d '\\r' {anew}"
        findings.error("fragments.crlf", path, "lines end as on Windows (CRLF)", fix)
    if not sample.n_fragments and not findings.has_error(str(path)):
        fix = "Leave this library out of the sample sheet, or give the fragment file of the whole run"
        findings.error("fragments.empty", path, "the file has no fragments", fix)


def _judge_index(path, sample: FragmentSample, findings: Findings) -> None:
    """Whether the tabix index is there, belongs to this file and knows its chromosomes."""
    index, fix = f"{path}.tbi", f"Run: tabix -f -p bed {path}"
    if not os.path.isfile(index):
        findings.error("fragments.unindexed", path, "the fragment file has no index (.tbi)", fix)
        return
    with findings.reading("fragments.index_unreadable", index, fix):
        sample.contigs = chromosomes(path)
        if missing := sorted(set(sample.ends) - set(sample.contigs)):
            message = f"the index does not know {missing[0]!r}, which the fragments have"
            findings.error("fragments.index_contigs", index, message, f"The index is of another file. {fix}")
    if os.path.getmtime(index) < os.path.getmtime(path) - 1:
        findings.warning("fragments.index_old", index, "the index is older than the fragment file", fix)


def extend_ends(path, sample: FragmentSample, lengths: dict[str, set[int]]) -> None:
    """Look with the index whether fragments reach beyond given positions, and take the larger ends into the sample.

    Parameters
    ----------
    path
        Fragment file whose index is sound.
    sample
        Changed in place: `ends`.
    lengths
        Chromosome -> positions (bp) to look beyond.
    """
    import pysam

    with pysam.TabixFile(str(path)) as handle:
        for name in set(sample.contigs) & lengths.keys():
            for length in lengths[name]:
                for row in islice(handle.fetch(name, length), 1):
                    sample.ends[name] = max(sample.ends.get(name, 0), int(row.split("\t")[2]))
