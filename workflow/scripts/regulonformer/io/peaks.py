"""Peaks and other genomic intervals: BED files and "chr-start-end" names. Coordinates are 0-based, half-open."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from regulonformer.errors import InputError

_NAME = r"^(?P<chrom>.+)-(?P<start>\d+)-(?P<end>\d+)$"
_HEADER = re.compile(r"^(#|track\b|browser\b|\s*$)")
BED_COLUMNS = ["chrom", "start", "end", "name", "score", "strand", "signal", "p_value", "q_value", "summit"]


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


def read_bed(path) -> pd.DataFrame:
    """Read a BED or narrowPeak file (plain or gzip), skipping comment, track and browser lines.

    Returns
    -------
    pandas.DataFrame
        chrom, start, end and as many further BED columns as the file has, in file order.

    Raises
    ------
    InputError
        If a line has fewer than three columns, or its coordinates are no interval.
    """
    if not Path(path).exists():
        raise InputError(path, "file not found", "Check the path")
    skip = []
    with _open_text(path) as handle:
        for number, line in enumerate(handle):
            if not _HEADER.match(line):
                break
            skip.append(number)
    try:
        table = pd.read_csv(path, sep="\t", header=None, skiprows=skip, dtype={0: str}, comment=None, low_memory=False)
    except pd.errors.EmptyDataError:
        return pd.DataFrame(
            {"chrom": pd.Series(dtype=object), "start": pd.Series(dtype=np.int64), "end": pd.Series(dtype=np.int64)}
        )
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(
            path, f"not a tab-separated BED file ({error})", "Write chrom, start, end with tabs"
        ) from error
    if table.shape[1] < 3:
        raise InputError(path, f"has {table.shape[1]} tab-separated columns", "Write chrom, start, end with tabs")
    table.columns = [BED_COLUMNS[i] if i < len(BED_COLUMNS) else f"column{i + 1}" for i in range(table.shape[1])]
    return _check_intervals(path, table)


def _open_text(path):
    import gzip

    return gzip.open(path, "rt") if str(path).endswith((".gz", ".bgz")) else open(path)


def _check_intervals(path, table: pd.DataFrame) -> pd.DataFrame:
    start, end = pd.to_numeric(table["start"], errors="coerce"), pd.to_numeric(table["end"], errors="coerce")
    bad = start.isna() | end.isna() | (start < 0) | (end <= start)
    if bad.any():
        line = " ".join(table.loc[bad.idxmax(), ["chrom", "start", "end"]].astype(str))
        raise InputError(path, f"{int(bad.sum())} lines are no interval, first {line!r}", "Give 0 <= start < end")
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
