"""Stream 10x fragment files in batches, and write them."""

import gzip
import re
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from regulonformer.errors import InputError

COLUMNS = ["chrom", "start", "end", "barcode", "count", "strand"]
MITOCHONDRIA = ("chrM", "MT", "chrMT", "M")
BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
BGZF_BLOCK_HEADER = 18
REWRITE = "Write it again with bgzip; lines need chrom, start, end, barcode[, count[, strand]] with tabs"


class FragmentBatch(NamedTuple):
    """Some fragments in file order, coded: arrays of one length.

    Attributes
    ----------
    chrom
        Index into the chromosomes asked for; -1 for any other chromosome.
    start, end
        0-based, half-open coordinates (bp): Tn5 cut at `start` and at `end - 1`.
    barcode
        Index into the barcodes asked for; -1 for any other barcode.
    reads
        Read pairs that support the fragment (column 5); 0 where the file does not say.
    """

    chrom: np.ndarray
    start: np.ndarray
    end: np.ndarray
    barcode: np.ndarray
    reads: np.ndarray


def chromosomes(path) -> list[str]:
    """Chromosome names of an indexed fragment file, from its tabix index.

    Raises
    ------
    InputError
        If the index is missing or unreadable.
    """
    import pysam

    try:
        with pysam.TabixFile(str(path)) as handle:
            return list(handle.contigs)
    except (OSError, ValueError):
        fix = f"Run `tabix -p bed {path}` (after `bgzip`, if the file was compressed with plain gzip)"
        raise InputError(path, "has no readable .tbi index", fix) from None


def stream_fragments(
    path, *, chromosomes: Sequence[str], barcodes: Sequence[str], threads: int = 1, block_bytes: int = 1 << 19
) -> Iterator[FragmentBatch]:
    """Read a fragment file from its start to its end in batches of bounded memory, always the same ones.

    Comment lines at the top are skipped; 4 to 6 columns are read (chrom, start, end, barcode, read count, strand).

    Parameters
    ----------
    path
        Fragment file, plain, gzip or bgzip.
    chromosomes, barcodes
        Names that get a code.
    threads
        Threads that decompress (bgzip alone can be shared out) and parse, some batches ahead of the caller; 1 works in
        the caller's thread.
    block_bytes
        Bytes read from the file per batch.

    Raises
    ------
    InputError
        If the file cannot be read or was cut off, a line has another number of columns, or an interval is empty.

    References
    ----------
    https://support.10xgenomics.com/single-cell-multiome-atac-gex/software/pipelines/latest/output/fragments
    """
    import pyarrow as pa

    skip, n_columns = _layout(path)
    if n_columns == 0:
        return
    codes = (pa.array(list(chromosomes), pa.string()), pa.array(list(barcodes), pa.string()))
    parse = partial(_parse, path=path, columns=COLUMNS[:n_columns], codes=codes)
    try:
        with ThreadPoolExecutor(threads) as pool:
            compute = partial(_in_order, pool, ahead=threads) if threads > 1 else map
            yield from compute(parse, _whole_lines(_texts(path, block_bytes, compute), skip))
    except (pa.ArrowInvalid, OSError, EOFError) as error:
        # Arrow counts rows from the start of a batch: no help to find the line.
        reason = re.sub(r"Row #\d+: ", "", str(error).splitlines()[0])
        raise InputError(path, f"not a readable fragment file ({reason})", REWRITE) from error


def write_fragments(table, path, *, header: Sequence[str] = ()) -> None:
    """Write fragments sorted, bgzip-compressed and tabix-indexed.

    Parameters
    ----------
    table
        DataFrame with chrom, start, end, barcode and, if known, count.
    path
        `*.tsv.gz`; the index is written beside it as `*.tsv.gz.tbi`.
    header
        Lines to put first, without their leading "# ".
    """
    import pysam

    table = table.assign(count=table.get("count", 1))[COLUMNS[:5]]
    table = table.sort_values(COLUMNS[:4], kind="stable")
    with tempfile.TemporaryDirectory(dir=Path(path).parent) as folder:
        plain = Path(folder) / "fragments.tsv"
        with open(plain, "w") as handle:
            handle.writelines(f"# {line}\n" for line in header)
            table.to_csv(handle, sep="\t", header=False, index=False, lineterminator="\n")
        pysam.tabix_compress(str(plain), str(path), force=True)
    pysam.tabix_index(str(path), preset="bed", force=True)


def _is_gzip(path) -> bool:
    with open(path, "rb") as handle:
        return handle.read(2) == b"\x1f\x8b"


def _layout(path) -> tuple[int, int]:
    """Lines to skip at the top, and number of columns (0 for a file without fragments)."""
    try:
        with gzip.open(path, "rt") if _is_gzip(path) else open(path) as handle:
            for number, line in enumerate(handle):
                if line.startswith("#") or not line.strip():
                    continue
                n_columns = line.count("\t") + 1
                if not 4 <= n_columns <= 6:
                    raise InputError(
                        path, f"has {n_columns} columns", "Fragment files have 4 to 6 tab-separated columns"
                    )
                return number, n_columns
    except FileNotFoundError:
        raise InputError(path, "file not found", "Check the path in the sample sheet") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(path, f"not a readable fragment file ({error})", "Write it again with bgzip") from error
    return 0, 0


def _in_order(pool: ThreadPoolExecutor, function: Callable, items: Iterable, *, ahead: int) -> Iterator:
    """Like `map`, but the pool works on up to `ahead` items that nobody has asked for yet."""
    waiting = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _texts(path, block_bytes: int, compute: Callable) -> Iterator[bytes]:
    """Decompressed pieces of a file."""
    import pyarrow as pa

    with open(path, "rb") as handle:
        # Every BGZF block is a gzip file of its own, so pieces of whole blocks decompress apart from each other.
        if _bgzf_block_size(handle.read(BGZF_BLOCK_HEADER)):
            handle.seek(0)
            yield from compute(_inflate, _bgzf_blocks(path, handle, block_bytes))
            return
    with pa.input_stream(str(path), compression="gzip" if _is_gzip(path) else None) as handle:
        while text := handle.read(4 * block_bytes):
            yield text


def _bgzf_block_size(header: bytes) -> int:
    """Bytes of the BGZF block that starts with `header`; 0 if none does (SAM specification, section 4.1)."""
    bgzf = header[:4] == BGZF_END[:4] and header[10:16] == BGZF_END[10:16]
    return int.from_bytes(header[16:18], "little") + 1 if bgzf else 0


def _bgzf_blocks(path, handle, block_bytes: int) -> Iterator[bytes]:
    """Cut a BGZF file at the ends of its blocks, into pieces of about `block_bytes`."""
    rest, last = b"", b""
    while read := handle.read(block_bytes):
        data, end = rest + read, 0
        while len(data) - end >= BGZF_BLOCK_HEADER:
            size = _bgzf_block_size(data[end : end + BGZF_BLOCK_HEADER])
            if size == 0:
                raise InputError(path, "is damaged: a bgzip block is broken", "Copy it again from its source")
            if end + size > len(data):
                break
            end += size
        whole, rest = data[:end], data[end:]
        if whole:
            last = whole[-len(BGZF_END) :]
            yield whole
    if rest or last != BGZF_END:
        raise InputError(path, "was cut off: it lacks the end mark of bgzip", "Copy it again from its source")


def _inflate(piece: bytes) -> bytes:
    import pyarrow as pa

    return pa.CompressedInputStream(pa.BufferReader(piece), "gzip").read()


def _whole_lines(texts: Iterable[bytes], skip: int) -> Iterator[bytes]:
    """Cut pieces of text at the ends of lines, without the first `skip` lines."""
    rest = b""
    for text in texts:
        end = text.rfind(b"\n") + 1
        lines, rest = rest + text[:end], rest + text if end == 0 else text[end:]
        while skip and lines:
            lines, skip = lines[lines.index(b"\n") + 1 :], skip - 1
        if lines:
            yield lines
    if rest:
        yield rest


def _parse(text: bytes, *, path, columns: list[str], codes: tuple) -> FragmentBatch:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    number, name = pa.int32(), pa.string()
    types = dict(zip(columns, [name, number, number, name, number], strict=False))
    table = csv.read_csv(
        pa.py_buffer(text),
        # One block: the text is bounded as it is, and the thread is one of a pool.
        read_options=csv.ReadOptions(column_names=columns, block_size=len(text), use_threads=False),
        parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=csv.ConvertOptions(column_types=types, include_columns=list(types), null_values=[]),
        memory_pool=pa.system_memory_pool(),  # Arrow's own pool keeps much of what a batch gives back
    )
    start, end = table["start"].to_numpy(), table["end"].to_numpy()
    bad = (end <= start) | (start < 0)
    if bad.any():
        at = int(np.argmax(bad))
        value = f"{table['chrom'][at]}:{start[at]}-{end[at]}"
        raise InputError(path, f"fragment {value} is no interval", "Give 0 <= start < end")
    chrom, barcode = (
        pc.fill_null(pc.index_in(table[column], value_set=names), -1).to_numpy()
        for column, names in zip(("chrom", "barcode"), codes, strict=True)
    )
    reads = table["count"].to_numpy() if "count" in columns else np.zeros(len(start), np.int32)
    return FragmentBatch(chrom, start, end, barcode, reads)
