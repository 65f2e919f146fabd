"""Peaks and other genomic intervals: BED files and "chr-start-end" names. Coordinates are 0-based, half-open."""

import csv
import gzip
import re
from pathlib import Path

import numpy as np
import pandas as pd

from regulonformer.errors import UNREADABLE, InputError

# Longer numbers are no positions, and would not fit into an integer.
_NAME = r"^(?P<chrom>.+)-(?P<start>\d{1,10})-(?P<end>\d{1,10})$"
_HEADER = re.compile(r"^(#|track\b|browser\b|\s*$)")
# The further columns depend on the kind of BED.
BED_COLUMNS = ["chrom", "start", "end", "name", "score", "strand"]
NARROW_PEAK_COLUMNS = ("signal", "p_value", "q_value", "summit")
# Positions are 32-bit in BAM, tabix and pyranges.
LAST_POSITION = np.iinfo(np.int32).max


def peak_names(peaks: pd.DataFrame) -> pd.Index:
    """Names "chr-start-end" of the rows of a table with chrom, start, end."""
    start, end = peaks["start"].astype(str), peaks["end"].astype(str)
    return pd.Index((peaks["chrom"].astype(str) + "-" + start + "-" + end).to_numpy(), dtype=object)


def normalise_names(names) -> np.ndarray:
    """Write peak names as "chr-start-end" whether they came as "chr:start-end", "chr_start_end" or so already."""
    return (
        pd.Series(np.asarray(names, dtype=object))
        .str.replace(r"[:_-](\d+)[_-](\d+)$", r"-\1-\2", regex=True)
        .to_numpy()
    )


def parse_names(names, *, strict: bool = True, where="peak names") -> pd.DataFrame:
    """Split "chr-start-end" names into a table with chrom (str), start, end (int64).

    Parameters
    ----------
    names
        Peak names.
    strict
        If False, a name that is no interval gets chrom "" and start = end = 0.
    where
        File to name in the error.

    Raises
    ------
    InputError
        If a name is no interval and `strict`.
    """
    parts = pd.Series(np.asarray(names, dtype=object)).astype(str).str.extract(_NAME)
    bad = parts["chrom"].isna()
    if strict and bad.any():
        value = str(np.asarray(names)[bad.to_numpy()][0])
        raise InputError(where, f"peak name {value!r} is not an interval", "Name peaks chr:start-end")
    parts["chrom"] = parts["chrom"].fillna("").astype(object)
    parts[["start", "end"]] = parts[["start", "end"]].fillna("0").astype(np.int64)
    return parts


def with_chr(names) -> pd.Series:
    """Peak names with "chr" before the numbered, sex and mitochondrial chromosomes that lack it; MT becomes chrM."""
    names = pd.Series(names, dtype=object).str.replace(r"^MT(?=[:_-])", "M", regex=True)
    return names.str.replace(r"^(?=(?:\d+|[XYM])[:_-])", "chr", regex=True)


def read_bed(path) -> pd.DataFrame:
    """Read a BED or narrowPeak file (plain or gzip), skipping comment, track and browser lines.

    Returns
    -------
    pandas.DataFrame
        chrom, start, end and as many further BED columns as the file has, in file order. A narrowPeak file (exactly ten
        columns, the last within the interval in all lines) ends with signal, p_value, q_value (-log10 of both) and
        summit (bp from start, -1 for none).

    Raises
    ------
    InputError
        If the file cannot be read, a line has fewer than three columns, or its coordinates are no interval.
    """
    if not Path(path).exists():
        raise InputError(path, "file not found", "Check the path")
    try:
        with _open_text(path) as handle:
            table = _read_columns(handle)
    except pd.errors.EmptyDataError:
        return pd.DataFrame(
            {"chrom": pd.Series(dtype=object), "start": pd.Series(dtype=np.int64), "end": pd.Series(dtype=np.int64)}
        )
    except UNREADABLE as error:
        raise InputError(
            path, f"not a tab-separated BED file ({error})", "Write chrom, start, end with tabs"
        ) from error
    if table.shape[1] < 3:
        raise InputError(path, f"has {table.shape[1]} tab-separated columns", "Write chrom, start, end with tabs")
    table.columns = [BED_COLUMNS[i] if i < len(BED_COLUMNS) else f"column{i + 1}" for i in range(table.shape[1])]
    table = _check_intervals(path, table)
    if table.shape[1] == 10:
        summit = pd.to_numeric(table["column10"], errors="coerce")
        if ((summit >= -1) & (summit < table["end"] - table["start"]) & (summit % 1 == 0)).all():
            table["column10"] = summit.astype(np.int64)
            table = table.rename(columns=dict(zip(table.columns[6:], NARROW_PEAK_COLUMNS, strict=True)))
    return table


def _open_text(path):
    opened = gzip.open if str(path).endswith((".gz", ".bgz")) else open
    return opened(path, "rt", encoding="utf-8")


def _read_columns(handle) -> pd.DataFrame:
    """Columns by number of a BED file, after the lines of its head."""
    start = handle.tell()
    while (line := handle.readline()) and _HEADER.match(line):
        start = handle.tell()
    handle.seek(start)
    # A quote is a character like any other, and a chromosome may be called NA.
    return pd.read_csv(
        handle, sep="\t", header=None, dtype={0: str}, low_memory=False, quoting=csv.QUOTE_NONE, na_filter=False
    )


def _check_intervals(path, table: pd.DataFrame) -> pd.DataFrame:
    start, end = (pd.to_numeric(table[name], errors="coerce") for name in ("start", "end"))
    is_interval = (start >= 0) & (start < end) & (end <= LAST_POSITION) & (start % 1 == 0) & (end % 1 == 0)
    if not is_interval.all():
        line = " ".join(table.loc[is_interval.idxmin(), ["chrom", "start", "end"]].astype(str))
        problem = f"{int((~is_interval).sum())} lines are no interval, first {line!r}"
        raise InputError(path, problem, "Give whole numbers, 0 <= start < end")
    table["start"], table["end"] = start.astype(np.int64), end.astype(np.int64)
    return table


def sort_peaks(peaks: pd.DataFrame) -> pd.DataFrame:
    """Sort by chromosome (as text), start and end, as `sort -k1,1 -k2,2n -k3,3n` does."""
    return peaks.sort_values(["chrom", "start", "end"], kind="stable", ignore_index=True)


def write_peaks(peaks: pd.DataFrame, path) -> None:
    """Write chrom, start, end, name ("chr-start-end") and score as BED."""
    table = peaks[["chrom", "start", "end"]].copy()
    table["name"] = peak_names(peaks)
    table["score"] = peaks["score"].to_numpy() if "score" in peaks else 0
    table.to_csv(path, sep="\t", header=False, index=False, lineterminator="\n", float_format="%.6g")


def chromosome_lengths(fai) -> dict[str, int]:
    """Chromosome lengths (bp) from a FASTA index."""
    table = pd.read_csv(fai, sep="\t", header=None, usecols=[0, 1], names=["chrom", "length"], dtype={0: str})
    return dict(zip(table["chrom"], table["length"].astype(int), strict=True))


def as_ranges(table: pd.DataFrame, **columns):
    """Turn chrom, start, end into a PyRanges, with further columns given by name."""
    import pyranges as pr

    frame = pd.DataFrame(
        {
            "Chromosome": table["chrom"].astype(str).to_numpy(),
            "Start": table["start"].to_numpy(),
            "End": table["end"].to_numpy(),
        }
    )
    return pr.PyRanges(frame.assign(**columns))


def merge_overlapping(peaks: pd.DataFrame) -> pd.DataFrame:
    """Merge peaks that share a base; chrom, start, end, sorted."""
    if peaks.empty:
        return peaks[["chrom", "start", "end"]]
    # slack=-1: peaks that only touch stay apart.
    merged = as_ranges(peaks).merge(slack=-1).df
    table = merged.rename(columns={"Chromosome": "chrom", "Start": "start", "End": "end"})[["chrom", "start", "end"]]
    return sort_peaks(table.astype({"chrom": str, "start": np.int64, "end": np.int64}))
