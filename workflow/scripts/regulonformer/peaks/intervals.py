"""Sorted search of fragments in peaks, and of cuts around transcription start sites, a whole batch at a time."""

import tempfile
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numba import njit
from scipy import sparse

from regulonformer.errors import InputError
from regulonformer.io.fragments import MITOCHONDRIA, FragmentBatch

# Chromosomes are laid end to end on one axis, this far apart (longer than any chromosome), so that one sorted
# search serves them all. Code -1, any other chromosome, lies before the axis, where nothing is found.
SPACING = 1 << 33
BUFFER = 1 << 19


def chromosome_names(*tables: pd.DataFrame | None) -> list[str]:
    """Chromosomes of tables with a column chrom (None for an absent one), and the mitochondrial names."""
    names = [name for table in tables if table is not None for name in table["chrom"].astype(str).unique()]
    return list(dict.fromkeys([*names, *MITOCHONDRIA]))


def on_axis(chrom: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Places on the common axis, int64."""
    return chrom.astype(np.int64) * SPACING + position


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
        codes = pd.Index(chromosomes).get_indexer(peaks["chrom"].astype(str))
        starts = on_axis(codes, peaks["start"].to_numpy(np.int64))
        self._order = np.argsort(starts, kind="stable").astype(np.int32)
        self._starts = starts[self._order]
        self._ends = on_axis(codes, peaks["end"].to_numpy(np.int64))[self._order]
        overlap = np.flatnonzero(self._starts[1:] < self._ends[:-1])
        if overlap.size:
            first, second = peaks.iloc[self._order[overlap[0]]], peaks.iloc[self._order[overlap[0] + 1]]
            pair = " and ".join(f"{row.chrom}-{row.start}-{row.end}" for row in (first, second))
            problem = f"{overlap.size} peaks overlap the one before, first {pair}"
            raise InputError("peaks", problem, "Merge them, or let the workflow make consensus peaks")

    def _ranges(self, chrom, start, end) -> tuple[np.ndarray, np.ndarray]:
        return _ranges(self._starts, self._ends, on_axis(chrom, start), on_axis(chrom, end))

    def overlaps_any(self, batch: FragmentBatch) -> np.ndarray:
        """Whether each fragment overlaps a peak."""
        first, last = self._ranges(batch.chrom, batch.start, batch.end)
        return last > first

    def overlaps(self, batch: FragmentBatch) -> tuple[np.ndarray, np.ndarray]:
        """All pairs (barcode, peak) in which a fragment overlaps a peak."""
        peak, times = _expand(*self._ranges(batch.chrom, batch.start, batch.end))
        return np.repeat(batch.barcode, times), self._order[peak]

    def insertions(self, batch: FragmentBatch) -> tuple[np.ndarray, np.ndarray]:
        """All pairs (barcode, peak) in which a Tn5 cut lies in a peak."""
        pairs = []
        for cut in (batch.start, batch.end - 1):
            peak, times = _expand(*self._ranges(batch.chrom, cut, cut + 1))
            pairs.append((np.repeat(batch.barcode, times), self._order[peak]))
        return tuple(np.concatenate(column) for column in zip(*pairs, strict=True))


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
        codes = pd.Index(chromosomes).get_indexer(sites["chrom"].astype(str))
        position = on_axis(codes, sites["tss"].to_numpy(np.int64))
        order = np.argsort(position, kind="stable")
        self._position = position[order]
        self._direction = np.where(sites["strand"].eq("-"), -1, 1)[order]

    def offsets(self, batch: FragmentBatch, reach: int) -> tuple[np.ndarray, np.ndarray]:
        """All pairs (barcode, offset) of Tn5 cuts within `reach` bp of a TSS, along the gene's strand."""
        pairs = []
        for cut in (batch.start, batch.end - 1):
            place = on_axis(batch.chrom, cut)
            # A site reaches the cut if the cut lies in [site - reach, site + reach]: windows that may overlap.
            site, times = _expand(*_ranges(self._position, self._position + 1, place - reach, place + reach + 1))
            offset = (np.repeat(place, times) - self._position[site]) * self._direction[site]
            pairs.append((np.repeat(batch.barcode, times), offset))
        return tuple(np.concatenate(column) for column in zip(*pairs, strict=True))


class CountBuffer:
    """Sums pairs (row, column) into a csr matrix; beside it there are never more than about `BUFFER` pairs in memory.

    Full buffers go to a temporary file (8 bytes per pair) as csr pieces, which are put together at the end.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape, self._pieces = shape, []
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the buffer
        self._rows, self._columns, self._waiting = [], [], 0

    def add(self, rows: np.ndarray, columns: np.ndarray) -> None:
        """Count each pair once more."""
        self._rows.append(rows)
        self._columns.append(columns)
        self._waiting += len(rows)
        if self._waiting >= BUFFER:
            self._put_away()

    def _put_away(self) -> None:
        if self._waiting:
            place = (np.concatenate(self._rows), np.concatenate(self._columns))
            piece = sparse.coo_matrix((np.ones(self._waiting, np.int32), place), shape=self._shape).tocsr()
            self._file.write(piece.indices.astype(np.int32))
            self._file.write(piece.data)
            self._pieces.append(np.diff(piece.indptr))
            self._rows, self._columns, self._waiting = [], [], 0

    def result(self) -> sparse.csr_matrix:
        """Hand over the counts, int32, columns sorted; the buffer cannot be used afterwards."""
        self._put_away()
        lengths = sum(self._pieces, np.zeros(self._shape[0], np.int64))
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        indices, data = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.int32)
        free = indptr[:-1].copy()  # per row, where the next piece goes
        self._file.seek(0)
        for piece in self._pieces:
            place = np.repeat(free - (np.cumsum(piece) - piece), piece) + np.arange(piece.sum())
            for whole in (indices, data):
                part = np.empty(len(place), np.int32)
                self._file.readinto(part)
                whole[place] = part
            free += piece
        self._file.close()
        matrix = sparse.csr_matrix((data, indices, indptr), shape=self._shape)
        matrix.sum_duplicates()
        return matrix


def _expand(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All integers of the ranges [first, last), one range after the other, and the length of each range."""
    times = last - first
    within = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    return np.repeat(first, times) + within, times


@njit(nogil=True, cache=True)
def _ranges(starts, ends, low, high):
    """First and one-past-last of disjoint sorted intervals that overlap each query [low, high)."""
    first, last = np.empty(len(low), np.int32), np.empty(len(low), np.int32)
    at = 0
    for i in range(len(low)):
        at = _first_above(ends, low[i], at)
        beyond = at
        while beyond < len(starts) and starts[beyond] < high[i]:
            beyond += 1
        first[i], last[i] = at, beyond
    return first, last


@njit(nogil=True, cache=True)
def _first_above(values, bound, near):
    """Index of the first of sorted values above a bound; steps that double from `near` make it quick nearby."""
    if near > 0 and values[near - 1] > bound:
        near = 0
    step = 1
    while near + step <= len(values) and values[near + step - 1] <= bound:
        near += step
        step *= 2
    while step > 0:
        if near + step <= len(values) and values[near + step - 1] <= bound:
            near += step
        step //= 2
    return near
