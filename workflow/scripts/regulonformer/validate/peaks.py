"""Whether the peaks of a library are intervals, each there once, in order and apart."""

import numpy as np
import pandas as pd

from regulonformer.io.peaks import normalise_names, parse_names, read_bed
from regulonformer.validate.bgzf import read_head
from regulonformer.validate.findings import Findings, judge_line_ends

FIX = "Write chrom, start, end with tabs, 0-based and half-open"


def read_intervals(path, code: str, findings: Findings) -> pd.DataFrame | None:
    """Intervals of a BED file; None where it cannot be read."""
    table = None
    with findings.reading(f"{code}.unreadable", path, FIX):
        table = read_bed(path)[["chrom", "start", "end"]]
        judge_line_ends(f"{code}.crlf", path, read_head(path, 4096)[0], findings)
    return table


def read_given_peaks(path, findings: Findings) -> pd.DataFrame | None:
    """Peaks of a BED file; None where it cannot be read."""
    peaks = read_intervals(path, "peaks", findings)
    if peaks is not None and peaks.empty:
        findings.error("peaks.empty", path, "the file has no peaks", "Leave the column peaks empty, or give the peaks")
    elif peaks is not None and (repeated := peaks[peaks.duplicated()]).size:
        fix = "They will be merged"
        findings.warning("peaks.duplicated", path, f"{len(repeated):,} peaks are repeated, {_first(repeated)}", fix)
    return peaks


def read_matrix_peaks(names: list[str], path, findings: Findings) -> pd.DataFrame | None:
    """Peaks of a matrix, from their names; None where these are no intervals."""
    peaks = None
    with findings.reading("peaks.unreadable", path, "Name peaks chr:start-end"):
        peaks = parse_names(normalise_names(names), where=path)
    if peaks is None:
        return None
    # Which of the columns of a repeated peak holds its counts, nobody knows.
    if (repeated := peaks[peaks.duplicated()]).size:
        fix = "Remove the repeated peaks from the matrix"
        findings.error(
            "matrix.duplicated_peaks", path, f"{len(repeated):,} peaks are repeated, {_first(repeated)}", fix
        )
    if (bad := peaks[peaks["end"] <= peaks["start"]]).size:
        message = f"{len(bad):,} peaks are empty or negative, {_first(bad)}"
        findings.error("peaks.intervals", path, message, FIX)
    return peaks


def judge_order(peaks: pd.DataFrame, path, findings: Findings) -> None:
    """Whether peaks are sorted and lie apart; which the run puts right itself."""
    codes, _ = pd.factorize(peaks["chrom"])
    start, end = peaks["start"].to_numpy(), peaks["end"].to_numpy()
    order = np.lexsort((end, start, codes))
    if (order != np.arange(len(order))).any():
        findings.note("peaks.unsorted", path, "peaks are not sorted by position", "They will be sorted")
    chrom, start, end = codes[order], start[order], end[order]
    same = (chrom[1:] == chrom[:-1]) & (start[1:] == start[:-1]) & (end[1:] == end[:-1])
    # An earlier peak may reach over several that follow, so that the largest end so far decides.
    reach = pd.Series(end).groupby(chrom).cummax().to_numpy()
    overlapping = int(((chrom[1:] == chrom[:-1]) & (start[1:] < reach[:-1]) & ~same).sum())
    if overlapping:
        message = f"{overlapping:,} of {len(peaks):,} peaks overlap one before them"
        findings.warning("peaks.overlapping", path, message, "Overlapping peaks will be merged")


def _first(peaks: pd.DataFrame) -> str:
    chrom, start, end = peaks.iloc[0]
    return f"first {chrom}:{start}-{end}"


def largest_ends(intervals: pd.DataFrame) -> dict[str, int]:
    """Chromosome -> largest end (bp)."""
    return intervals.groupby("chrom")["end"].max().astype(int).to_dict()
