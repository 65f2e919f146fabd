"""Count fragments in peaks, and carry counts over to another peak set."""

import logging
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from regulonformer.errors import InputError
from regulonformer.io.fragments import FragmentBatch, stream_fragments
from regulonformer.io.peaks import as_ranges
from regulonformer.peaks.intervals import CountBuffer, PeakIndex, chromosome_names, nuclear, select


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
    threads: int = 1,
) -> sparse.csr_matrix:
    """Count fragments of each barcode in each peak, in one pass and bounded memory.

    Coordinates are taken as they are: 10x has shifted them by +4/-5 bp to the middle of the Tn5 cut, and
    `snapatac2.pp.import_fragments` does not shift either. The counts equal those of `snapatac2.pp.make_peak_matrix`
    with the `counting_strategy` of the same name. Its default, "paired-insertion", counts one where both cuts of a
    fragment lie in the same peak (Miao & Kim 2024, Nat Methods 21:32); it is not offered here.

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
    threads
        Threads that read; the result does not depend on them.

    Returns
    -------
    scipy.sparse.csr_matrix
        int32 counts, barcodes x peaks, in the order given.

    Raises
    ------
    InputError
        If peaks overlap, or a barcode is given twice.
    """
    return count_with_totals(fragments, peaks, barcodes, strategy=strategy, threads=threads).matrix


def count_with_totals(
    fragments, peaks: pd.DataFrame, barcodes: Sequence[str], *, strategy: str = "fragment", threads: int = 1
) -> Counted:
    """Count as `count_fragments` does, and keep each barcode's totals for the fraction of fragments in peaks."""
    if len(set(barcodes)) < len(barcodes):
        raise InputError(fragments, "a barcode to count was given twice", "Give every barcode once")
    chromosomes = chromosome_names(peaks)
    counter = PeakCounter(peaks, chromosomes, len(barcodes), strategy=strategy)
    for batch in stream_fragments(fragments, chromosomes=chromosomes, barcodes=barcodes, threads=threads):
        counter.add(batch)
    counted = counter.result()
    totals = (counted.n_fragments.sum(), len(barcodes), counted.matrix.sum())
    logging.info("%s: %d fragments of %d barcodes, %d counts", fragments, *totals)
    return counted


class PeakCounter:
    """Adds up the counts of peaks batch by batch; for a pass that does more than count.

    Parameters
    ----------
    peaks, strategy
        As for `count_fragments`.
    chromosomes
        Names that the chromosome codes of the batches stand for.
    n_barcodes
        Number of barcodes that have a code.
    """

    def __init__(
        self, peaks: pd.DataFrame, chromosomes: Sequence[str], n_barcodes: int, *, strategy: str = "fragment"
    ) -> None:
        if strategy not in ("fragment", "insertion"):
            raise InputError("features.strategy", f"unknown strategy {strategy!r}", "Use 'fragment' or 'insertion'")
        index = PeakIndex(peaks, chromosomes)
        self._chromosomes, self._overlaps_any = list(chromosomes), index.overlaps_any
        self._pairs = index.overlaps if strategy == "fragment" else index.insertions
        self._counts = CountBuffer((n_barcodes, len(peaks)))
        self._n_fragments, self._n_in_peaks = np.zeros((2, n_barcodes), np.int64)

    def add(self, batch: FragmentBatch) -> None:
        """Take in the next fragments of the file."""
        batch = select(batch, batch.barcode >= 0)
        self._counts.add(*self._pairs(batch))
        inside = nuclear(batch, self._chromosomes)
        n_barcodes = len(self._n_fragments)
        self._n_fragments += np.bincount(inside.barcode, minlength=n_barcodes)
        self._n_in_peaks += np.bincount(inside.barcode[self._overlaps_any(inside)], minlength=n_barcodes)

    def result(self) -> Counted:
        """Hand over the counts of all fragments so far."""
        return Counted(self._counts.result(), self._n_fragments, self._n_in_peaks)


def carry_counts(
    counts: sparse.spmatrix, peaks: pd.DataFrame, consensus: pd.DataFrame
) -> tuple[sparse.csr_matrix, dict]:
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
    dict
        peaks_lost and counts_lost (peaks that overlap no consensus peak, and their counts), counts_repeated (counts
        that more than one consensus peak got, times the peaks beyond the first).
    """
    overlap = overlap_matrix(peaks, consensus)
    carried = sparse.csr_matrix(counts.astype(np.int32) @ overlap)
    carried.sort_indices()
    total, targets = np.asarray(counts.sum(axis=0)).ravel(), np.diff(overlap.indptr)
    lost = targets == 0
    return carried, {
        "peaks_lost": int(lost.sum()),
        "counts_lost": int(total[lost].sum()),
        "counts_repeated": int((total * np.maximum(targets - 1, 0)).sum()),
    }


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
