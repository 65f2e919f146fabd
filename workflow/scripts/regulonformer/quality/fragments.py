"""Quality of the ATAC side of every barcode, in one pass over its fragments."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numba import njit

from regulonformer.errors import InputError
from regulonformer.io.fragments import MITOCHONDRIA, FragmentBatch, chromosomes, stream_fragments
from regulonformer.io.peaks import merge_overlapping
from regulonformer.peaks.intervals import PeakIndex, TssIndex, chromosome_names, nuclear, on_axis, select

TSS_REACH, FLANK, HALF_WINDOW = 2000, 100, 5
TSS_PSEUDOCOUNT = 0.1
NUCLEOSOME_FREE, MONONUCLEOSOME = 147, 294
LENGTH_BIN, LENGTH_MAX = 10, 1000
# As in AMULET: one copy of each of two alleles explains two fragments at a site; longer ones are often misaligned.
PLOIDY, OVERLAP_LENGTH_MAX = 2, 900
NOT_AUTOSOMES = {*MITOCHONDRIA, "chrX", "chrY", "X", "Y"}


class FragmentQuality(NamedTuple):
    """What a fragment file says about its barcodes.

    Attributes
    ----------
    cells
        DataFrame by barcode, with the columns that `fragment_metrics` lists.
    summary
        Totals of the file, whether it is sorted by position, and the length and TSS profiles that the report draws.
    """

    cells: pd.DataFrame
    summary: dict


def fragment_metrics(
    fragments,
    barcodes: Sequence[str],
    *,
    tss: pd.DataFrame | None = None,
    peaks: pd.DataFrame | None = None,
    blacklist: pd.DataFrame | None = None,
    threads: int = 1,
) -> FragmentQuality:
    """Quality of the ATAC side in one pass over the fragments; all numbers leave mitochondrial fragments out.

    - n_fragments: unique fragments.
    - nucleosome_signal: mononucleosomal (147 to 293 bp) over nucleosome-free (below 147 bp) fragments, as Signac does;
      NaN without nucleosome-free fragments.
    - tss_enrichment: Tn5 cuts around all TSSs, +-2,000 bp along the strand; their mean per bp in the 11 bp at the TSS
      over their mean per bp in the outer 100 bp at both ends, plus 0.1 so that a cell with empty ends has a value. This
      is ENCODE's value at the centre, for a cell, and what `snapatac2.metrics.tsse` computes.
    - frip: share of fragments that overlap a peak; NaN without fragments.
    - blacklist_share: share of fragments that overlap a blacklisted region; NaN without fragments.
    - duplication_fragments: 1 - fragments / read pairs (column 5); NaN where the file does not tell read pairs.
    - n_overlap_sites: stretches of the genome that more than two fragments of the barcode cover, which one diploid cell
      hardly has and two cells in one droplet have (AMULET). Only fragments of autosomes (not X, Y, the mitochondrial
      chromosome, nor scaffolds, which have "_" or "." in their names), up to 900 bp long, outside the blacklist; sites
      that many cells share are not left out. Without a .tbi index only chromosomes of the tables below are known.
    - n_overlap_fragments: the fragments in which those sites were sought. Under AMULET's test the sites of a single
      cell are Poisson with the library's mean; these are the exposure of a test that allows for depth.

    The last two need a sorted file, and are NaN for one that is not.

    Parameters
    ----------
    fragments
        10x fragment file.
    barcodes
        Barcodes of the matrix.
    tss
        Table with chrom, tss, strand (from `read_tss`); None leaves tss_enrichment out.
    peaks
        Table with chrom, start, end; overlapping peaks are merged. None leaves frip out.
    blacklist
        Table with chrom, start, end; None leaves blacklist_share out.
    threads
        Threads that read; the result does not depend on them.

    References
    ----------
    ENCODE, https://www.encodeproject.org/data-standards/terms/#enrichment; Stuart et al. 2021, Nat Methods 18:1333;
    Thibodeau et al. 2021, Genome Biol 22:252 (AMULET).
    """
    names = list(dict.fromkeys([*chromosome_names(tss, peaks, blacklist), *_indexed_chromosomes(fragments)]))
    meter = QualityMeter(names, barcodes, tss=tss, peaks=peaks, blacklist=blacklist)
    for batch in stream_fragments(fragments, chromosomes=names, barcodes=barcodes, threads=threads):
        meter.add(batch)
    if not meter.is_sorted:
        logging.warning("%s: not sorted by position; overlap sites were not counted", fragments)
    return meter.result()


class QualityMeter:
    """Adds up the quality of barcodes batch by batch; for a pass that does more than measure.

    Parameters
    ----------
    chromosomes, barcodes
        Names that the codes of the batches stand for; all chromosomes of the tables are among them.
    tss, peaks, blacklist
        As for `fragment_metrics`.
    """

    def __init__(self, chromosomes: Sequence[str], barcodes: Sequence[str], *, tss=None, peaks=None, blacklist=None):
        self._chromosomes, self._barcodes, n_cells = list(chromosomes), barcodes, len(barcodes)
        self._peaks = None if peaks is None else PeakIndex(merge_overlapping(peaks), chromosomes)
        self._blacklist = None if blacklist is None else PeakIndex(merge_overlapping(blacklist), chromosomes)
        self._tss = None if tss is None else TssIndex(tss, chromosomes)
        tallies = ("fragments", "reads", "free", "mono", "in_peaks", "blacklisted", "tss", "flank", "autosomal")
        self._tally = {name: np.zeros(n_cells, np.int64) for name in tallies}
        self._lengths = np.zeros(LENGTH_MAX // LENGTH_BIN + 1, np.int64)
        self._profile = np.zeros(2 * TSS_REACH + 1, np.int64)
        self._autosomal = np.array([_is_autosome(name) for name in chromosomes] + [False])  # the last for code -1
        self._state, self._sites = np.full((n_cells, PLOIDY + 3), -1, np.int64), np.zeros(n_cells, np.int64)
        self._totals = {"total": 0, "in_cells": 0, "mitochondrial": 0}
        # Where the last fragment was, and how often fragments of each chromosome began.
        self._last, self._runs, self.is_sorted = (-1, 0), np.zeros(len(chromosomes), np.int64), True

    def add(self, batch: FragmentBatch) -> None:
        """Take in the next fragments of the file."""
        self._check_order(batch)
        known = select(batch, batch.barcode >= 0)
        inside = nuclear(known, self._chromosomes)
        self._totals["total"] += len(batch.start)
        self._totals["in_cells"] += len(known.start)
        self._totals["mitochondrial"] += len(known.start) - len(inside.start)
        size = inside.end - inside.start
        self._lengths += np.bincount(np.minimum(size, LENGTH_MAX) // LENGTH_BIN, minlength=len(self._lengths))
        self._count("fragments", inside.barcode)
        self._count("reads", inside.barcode, inside.reads)
        self._count("free", inside.barcode[size < NUCLEOSOME_FREE])
        self._count("mono", inside.barcode[(size >= NUCLEOSOME_FREE) & (size < MONONUCLEOSOME)])
        if self._peaks:
            self._count("in_peaks", inside.barcode[self._peaks.overlaps_any(inside)])
        clean = np.ones(len(size), bool)
        if self._blacklist:
            clean = ~self._blacklist.overlaps_any(inside)
            self._count("blacklisted", inside.barcode[~clean])
        if self._tss:
            self._add_cuts(inside)
        self._add_overlaps(select(inside, clean & self._autosomal[inside.chrom] & (size <= OVERLAP_LENGTH_MAX)))

    def _check_order(self, batch: FragmentBatch) -> None:
        """Notice fragments that start before the last one, and chromosomes that come again after another one."""
        chrom, start = (np.append(*pair) for pair in zip(self._last, (batch.chrom, batch.start), strict=True))
        begins = np.diff(chrom) != 0
        # Code -1 may be several chromosomes.
        backwards = ~begins & (np.diff(start) < 0) & (chrom[1:] >= 0)
        entered = chrom[1:][begins & (chrom[1:] >= 0)]
        self._runs += np.bincount(entered, minlength=len(self._runs))
        self._last = chrom[-1], start[-1]
        self.is_sorted &= not (backwards.any() or self._runs.max(initial=0) > 1)

    def _count(self, name: str, barcode: np.ndarray, weights: np.ndarray | None = None) -> None:
        counts = np.bincount(barcode, weights, minlength=len(self._barcodes))
        self._tally[name] += counts.astype(np.int64)

    def _add_cuts(self, batch: FragmentBatch) -> None:
        barcode, offset = self._tss.offsets(batch, TSS_REACH)
        self._profile += np.bincount(offset + TSS_REACH, minlength=len(self._profile))
        distance = np.abs(offset)
        self._count("tss", barcode[distance <= HALF_WINDOW])
        self._count("flank", barcode[distance > TSS_REACH - FLANK])

    def _add_overlaps(self, batch: FragmentBatch) -> None:
        self._count("autosomal", batch.barcode)
        start, end = on_axis(batch.chrom, batch.start), on_axis(batch.chrom, batch.end)
        _overlap_sites(batch.chrom, start, end, batch.barcode, self._state, self._sites)

    def result(self) -> FragmentQuality:
        """Metrics of all fragments so far."""
        tally = self._tally
        cells = pd.DataFrame({"n_fragments": tally["fragments"]}, index=pd.Index(self._barcodes, dtype=object))
        cells["nucleosome_signal"] = _ratio(tally["mono"], tally["free"])
        if self._peaks:
            cells["frip"] = _ratio(tally["in_peaks"], tally["fragments"])
        if self._blacklist:
            cells["blacklist_share"] = _ratio(tally["blacklisted"], tally["fragments"])
        cells["duplication_fragments"] = 1 - _ratio(tally["fragments"], tally["reads"])
        cells["n_overlap_sites"] = self._sites if self.is_sorted else np.nan
        cells["n_overlap_fragments"] = tally["autosomal"] if self.is_sorted else np.nan
        summary = self._totals | {"length_bin": LENGTH_BIN, "lengths": self._lengths.tolist(), "sorted": self.is_sorted}
        if self._tss:
            cells["tss_enrichment"] = tss_enrichment(tally["tss"], tally["flank"])
            # Every 10th position of the smoothed pile-up is enough to draw.
            summary["tss_profile"] = _smooth(self._profile)[::10].round(3).tolist()
        return FragmentQuality(cells, summary)


def tss_enrichment(centre: np.ndarray, flank: np.ndarray) -> np.ndarray:
    """TSS enrichment from the cuts in the 11 bp at the TSS, and in the outer 100 bp at both ends of the 4,001 bp."""
    return centre / (2 * HALF_WINDOW + 1) / (flank / (2 * FLANK) + TSS_PSEUDOCOUNT)


def _indexed_chromosomes(fragments) -> list[str]:
    try:
        return chromosomes(fragments)
    except InputError:
        return []


def _is_autosome(name: str) -> bool:
    return name not in NOT_AUTOSOMES and "_" not in name and "." not in name


@njit(nogil=True, cache=True)
def _overlap_sites(chrom, start, end, barcode, state, sites):
    """Count in `sites`, per barcode, the stretches that more than `PLOIDY` of its fragments cover.

    Fragments come by start, so the fragments so far are deeper than `PLOIDY` from a new start up to the last of their
    PLOIDY + 1 furthest ends. `state` (barcodes x PLOIDY + 3) carries over from batch to batch, per barcode: those ends,
    falling; the end of its last site; the chromosome they are on.
    """
    for i in range(len(start)):
        mine = state[barcode[i]]
        if mine[-1] != chrom[i]:
            mine[:-1], mine[-1] = -1, chrom[i]
        new = end[i]
        for k in range(PLOIDY + 1):
            if new > mine[k]:
                mine[k], new = new, mine[k]
        if mine[PLOIDY] > start[i]:
            # A site goes on where the next one would touch it.
            sites[barcode[i]] += mine[-2] < start[i]
            mine[-2] = mine[PLOIDY]


def _smooth(values: np.ndarray) -> np.ndarray:
    """Average over 11 positions; at the ends over those that exist."""
    window = np.ones(2 * HALF_WINDOW + 1)
    return np.convolve(values, window, mode="same") / np.convolve(np.ones(len(values)), window, mode="same")


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Quotient; NaN where the whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
