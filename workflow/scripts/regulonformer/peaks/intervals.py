"""Sorted search of fragments in peaks, and of cuts around transcription start sites, a whole batch at a time."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import sparse

from regulonformer.errors import InputError
from regulonformer.io.fragments import MITOCHONDRIA, FragmentBatch

# Chromosomes are laid end to end on one axis, this far apart (longer than any chromosome), so that one sorted
# search serves them all.
SPACING = 1 << 33
BUFFER = 4_000_000


def select(batch: FragmentBatch, keep: np.ndarray) -> FragmentBatch:
    """Fragments of a batch for which `keep` is true."""
    return FragmentBatch(*(column[keep] for column in batch))


def nuclear(batch: FragmentBatch, chromosomes: Sequence[str]) -> FragmentBatch:
    """Fragments of a batch that are not mitochondrial; `chromosomes` are the names of its codes."""
    mitochondrial = np.array([name in MITOCHONDRIA for name in chromosomes] + [False])  # the last for code -1
    return select(batch, ~mitochondrial[batch.chrom])


class PeakIndex:
    """Non-overlapping peaks, sorted on one axis, for searches by whole batches of fragments.

    Parameters
    ----------
    peaks
        Table with chrom, start, end; all its chromosomes are among `chromosomes`.
    chromosomes
        Names that the chromosome codes of fragment batches stand for.

    Raises
    ------
    InputError
        If peaks overlap.
    """

    def __init__(self, peaks: pd.DataFrame, chromosomes: Sequence[str]) -> None:
        codes = pd.Index(chromosomes).get_indexer(peaks["chrom"].astype(str)).astype(np.int64)
        starts = codes * SPACING + peaks["start"].to_numpy(np.int64)
        self._order = np.argsort(starts, kind="stable")
        self._starts = starts[self._order]
        self._ends = (codes * SPACING + peaks["end"].to_numpy(np.int64))[self._order]
        overlap = np.flatnonzero(self._starts[1:] < self._ends[:-1])
        if overlap.size:
            first, second = peaks.iloc[self._order[overlap[0]]], peaks.iloc[self._order[overlap[0] + 1]]
            pair = " and ".join(f"{row.chrom}-{row.start}-{row.end}" for row in (first, second))
            problem = f"{overlap.size} peaks overlap the one before, first {pair}"
            raise InputError("peaks", problem, "Merge them, or let the workflow make consensus peaks")

    def _range(self, batch: FragmentBatch) -> tuple[np.ndarray, np.ndarray]:
        """First and one-past-last sorted peak that each fragment overlaps."""
        offset = batch.chrom.astype(np.int64) * SPACING
        first = np.searchsorted(self._ends, offset + batch.start, side="right")
        last = np.searchsorted(self._starts, offset + batch.end, side="left")
        return first, np.where(batch.chrom >= 0, np.maximum(last, first), first)

    def overlaps_any(self, batch: FragmentBatch) -> np.ndarray:
        """Whether each fragment overlaps a peak."""
        first, last = self._range(batch)
        return last > first

    def overlaps(self, batch: FragmentBatch) -> tuple[np.ndarray, np.ndarray]:
        """All pairs (barcode, peak) in which a fragment overlaps a peak."""
        first, last = self._range(batch)
        peak, times = _expand(first, last)
        return np.repeat(batch.barcode, times), self._order[peak]

    def insertions(self, batch: FragmentBatch) -> tuple[np.ndarray, np.ndarray]:
        """All pairs (barcode, peak) in which a Tn5 cut lies in a peak."""
        chrom, barcode = np.tile(batch.chrom, 2).astype(np.int64), np.tile(batch.barcode, 2)
        cut = np.concatenate([batch.start, batch.end - 1])
        return self.overlaps(FragmentBatch(chrom, cut, cut + 1, barcode))


class TssIndex:
    """Transcription start sites, sorted on one axis.

    Parameters
    ----------
    tss
        Table with chrom, tss (0-based), strand; all its chromosomes are among `chromosomes`.
    chromosomes
        Names that the chromosome codes of fragment batches stand for.
    """

    def __init__(self, tss: pd.DataFrame, chromosomes: Sequence[str]) -> None:
        sites = tss.drop_duplicates(["chrom", "tss", "strand"])
        codes = pd.Index(chromosomes).get_indexer(sites["chrom"].astype(str)).astype(np.int64)
        position = codes * SPACING + sites["tss"].to_numpy(np.int64)
        order = np.argsort(position, kind="stable")
        self._position = position[order]
        self._direction = np.where(sites["strand"].eq("-"), -1, 1)[order]

    def offsets(self, batch: FragmentBatch, reach: int) -> tuple[np.ndarray, np.ndarray]:
        """All pairs (barcode, offset + reach) of Tn5 cuts within `reach` bp of a TSS, along the gene's strand."""
        cut = np.concatenate([batch.start, batch.end - 1])
        chrom, barcode = np.tile(batch.chrom, 2).astype(np.int64), np.tile(batch.barcode, 2)
        place = (chrom * SPACING + cut)[chrom >= 0]
        first = np.searchsorted(self._position, place - reach, side="left")
        last = np.searchsorted(self._position, place + reach, side="right")
        site, times = _expand(first, last)
        offset = (np.repeat(place, times) - self._position[site]) * self._direction[site]
        return np.repeat(barcode[chrom >= 0], times), offset + reach


class CountBuffer:
    """Sums pairs (row, column) into a csr matrix; holds the matrix and at most `BUFFER` pairs."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._total = sparse.csr_matrix(shape, dtype=np.int32)
        self._rows, self._columns, self._waiting = [], [], 0

    def add(self, rows: np.ndarray, columns: np.ndarray) -> None:
        """Count each pair once more."""
        self._rows.append(rows)
        self._columns.append(columns)
        self._waiting += len(rows)
        if self._waiting >= BUFFER:
            self._fold()

    def _fold(self) -> None:
        if self._waiting:
            place = (np.concatenate(self._rows), np.concatenate(self._columns))
            ones = np.ones(self._waiting, np.int32)
            self._total = self._total + sparse.coo_matrix((ones, place), shape=self._total.shape).tocsr()
            self._rows, self._columns, self._waiting = [], [], 0

    def result(self) -> sparse.csr_matrix:
        """Return the counts so far, int32, columns sorted."""
        self._fold()
        self._total.sort_indices()
        return self._total.astype(np.int32)


def _expand(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All integers of the ranges [first, last), one range after the other, and the length of each range."""
    times = last - first
    within = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    return np.repeat(first, times) + within, times
