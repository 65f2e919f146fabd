"""Stream 10x fragment files in batches, and write them."""

import gzip
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from regulonformer.errors import InputError

COLUMNS = ["chrom", "start", "end", "barcode", "count", "strand"]
MITOCHONDRIA = ("chrM", "MT", "chrMT", "M")


class FragmentBatch(NamedTuple):
    """Some fragments, coded: arrays of one length.

    Attributes
    ----------
    chrom
        Index into the chromosomes asked for; -1 for any other chromosome.
    start, end
        0-based, half-open coordinates (bp): Tn5 cut at `start` and at `end - 1`.
    barcode
        Index into the barcodes asked for; -1 for any other barcode.
    """

    chrom: np.ndarray
    start: np.ndarray
    end: np.ndarray
    barcode: np.ndarray


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
    path, *, chromosomes: Sequence[str], barcodes: Sequence[str], block_bytes: int = 16 << 20
) -> Iterator[FragmentBatch]:
    """Read a fragment file from its start to its end in batches of bounded memory.

    Comment lines at the top are skipped; 4 to 6 columns are read (chrom, start, end, barcode, read count, strand).

    Parameters
    ----------
    path
        Fragment file, plain, gzip or bgzip.
    chromosomes, barcodes
        Names that get a code.
    block_bytes
        Decompressed bytes per batch.

    Raises
    ------
    InputError
        If the file cannot be read, a line has another number of columns, or an interval is empty.

    References
    ----------
    https://support.10xgenomics.com/single-cell-multiome-atac-gex/software/pipelines/latest/output/fragments
    """
    import pyarrow as pa

    skip, n_columns = _layout(path)
    if n_columns == 0:
        return
    chrom_set, barcode_set = pa.array(list(chromosomes), pa.string()), pa.array(list(barcodes), pa.string())
    try:
        with pa.input_stream(str(path), compression="gzip" if _is_gzip(path) else None) as source:
            for batch in _reader(source, skip, n_columns, block_bytes):
                start, end = (batch.column(name).to_numpy() for name in ("start", "end"))
                if (end <= start).any() or (start < 0).any():
                    at = int(np.argmax((end <= start) | (start < 0)))
                    value = f"{batch.column('chrom')[at]}:{start[at]}-{end[at]}"
                    raise InputError(path, f"fragment {value} is no interval", "Give 0 <= start < end")
                yield FragmentBatch(
                    _codes(batch.column("chrom"), chrom_set), start, end, _codes(batch.column("barcode"), barcode_set)
                )
    except (pa.ArrowInvalid, OSError) as error:
        fix = "Write it again with bgzip; lines need chrom, start, end, barcode[, count[, strand]] with tabs"
        raise InputError(path, f"not a readable fragment file ({str(error).splitlines()[0]})", fix) from error


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


def _reader(source, skip: int, n_columns: int, block_bytes: int):
    import pyarrow as pa
    from pyarrow import csv

    text = pa.dictionary(pa.int32(), pa.string())
    types = {"chrom": text, "start": pa.int64(), "end": pa.int64(), "barcode": text}
    return csv.open_csv(
        source,
        read_options=csv.ReadOptions(column_names=COLUMNS[:n_columns], skip_rows=skip, block_size=block_bytes),
        parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=csv.ConvertOptions(column_types=types, include_columns=list(types)),
    )


def _codes(column, names) -> np.ndarray:
    """Code a dictionary-encoded column by the position of its values in `names`; -1 where absent."""
    import pyarrow.compute as pc

    known = pc.fill_null(pc.index_in(column.dictionary, value_set=names), -1).to_numpy()
    return known[column.indices.to_numpy()]
