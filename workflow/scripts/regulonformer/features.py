"""Count fragments in peaks, and carry counts over to another peak set."""

import logging
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from regulonformer.errors import InputError
from regulonformer.io.fragments import MITOCHONDRIA, stream_fragments
from regulonformer.io.peaks import as_ranges
from regulonformer.peaks.intervals import CountBuffer, PeakIndex, nuclear, select


class Counted(NamedTuple):
    """Counts of one fragment file.

    Attributes
    ----------
    matrix
        csr int32, barcodes x peaks.
    n_fragments
        Fragments of each barcode, mitochondrial ones not counted.
    n_in_peaks
        Fragments of each barcode that overlap at least one peak.
    """

    matrix: sparse.csr_matrix
    n_fragments: np.ndarray
    n_in_peaks: np.ndarray


def count_fragments(
    fragments,
    peaks: pd.DataFrame,
    barcodes: Sequence[str],
    *,
    strategy: Literal["fragment", "insertion"] = "fragment",
) -> sparse.csr_matrix:
    """Count fragments of each barcode in each peak, in one pass and bounded memory.

    Parameters
    ----------
    fragments
        10x fragment file (0-based, half-open); every line counts once, whatever its read count.
    peaks
        Table with chrom, start, end (bp, 0-based, half-open) of peaks that do not overlap, in any order.
    barcodes
        Barcodes to count, as they are written in the fragment file.
    strategy
        "fragment": a fragment counts once for every peak it overlaps. "insertion": each of its two Tn5 cuts, at `start`
        and at `end - 1`, counts in the peak that contains it.

    Returns
    -------
    scipy.sparse.csr_matrix
        int32 counts, barcodes x peaks, in the order given.

    Raises
    ------
    InputError
        If peaks overlap, or a barcode is given twice.
    """
    return count_with_totals(fragments, peaks, barcodes, strategy=strategy).matrix


def count_with_totals(
    fragments, peaks: pd.DataFrame, barcodes: Sequence[str], *, strategy: str = "fragment"
) -> Counted:
    """Count as `count_fragments` does, and keep each barcode's totals for the fraction of fragments in peaks."""
    if strategy not in ("fragment", "insertion"):
        raise InputError("features.strategy", f"unknown strategy {strategy!r}", "Use 'fragment' or 'insertion'")
    if len(set(barcodes)) < len(barcodes):
        raise InputError(fragments, "a barcode to count was given twice", "Give every barcode once")
    chromosomes = list(dict.fromkeys([*peaks["chrom"].astype(str), *MITOCHONDRIA]))
    index, counts = PeakIndex(peaks, chromosomes), CountBuffer((len(barcodes), len(peaks)))
    n_fragments, n_in_peaks = np.zeros((2, len(barcodes)), np.int64)
    for batch in stream_fragments(fragments, chromosomes=chromosomes, barcodes=barcodes):
        batch = select(batch, batch.barcode >= 0)
        inside = nuclear(batch, chromosomes)
        n_fragments += np.bincount(inside.barcode, minlength=len(barcodes))
        n_in_peaks += np.bincount(inside.barcode[index.overlaps_any(inside)], minlength=len(barcodes))
        counts.add(*(index.overlaps(batch) if strategy == "fragment" else index.insertions(batch)))
    matrix = counts.result()
    logging.info(
        "%s: %d fragments of %d barcodes, %d counts", fragments, n_fragments.sum(), len(barcodes), matrix.sum()
    )
    return Counted(matrix, n_fragments, n_in_peaks)


def carry_counts(
    counts: sparse.spmatrix, peaks: pd.DataFrame, consensus: pd.DataFrame
) -> tuple[sparse.csr_matrix, int]:
    """Carry counts of a library's own peaks over to consensus peaks.

    Without fragments the true counts are out of reach: all counts of a peak are added to every consensus peak that it
    overlaps by at least one base. Peaks that overlap none are lost and counted.

    Parameters
    ----------
    counts
        cells x peaks.
    peaks, consensus
        Tables with chrom, start, end.

    Returns
    -------
    scipy.sparse.csr_matrix
        int32, cells x consensus peaks.
    int
        Number of peaks that overlap no consensus peak.
    """
    overlap = overlap_matrix(peaks, consensus)
    carried = sparse.csr_matrix(counts.astype(np.int32) @ overlap)
    carried.sort_indices()
    return carried, int((np.diff(overlap.indptr) == 0).sum())


def overlap_matrix(rows: pd.DataFrame, columns: pd.DataFrame) -> sparse.csr_matrix:
    """Binary int32 matrix (rows x columns): 1 where the intervals share a base."""
    shape = (len(rows), len(columns))
    if 0 in shape:
        return sparse.csr_matrix(shape, dtype=np.int32)
    left = as_ranges(rows, row=np.arange(shape[0]))
    joined = left.join(as_ranges(columns, column=np.arange(shape[1]))).df
    if joined.empty:
        return sparse.csr_matrix(shape, dtype=np.int32)
    pairs = joined[["row", "column"]].drop_duplicates()
    ones = np.ones(len(pairs), np.int32)
    return sparse.csr_matrix((ones, (pairs["row"].to_numpy(), pairs["column"].to_numpy())), shape=shape)
