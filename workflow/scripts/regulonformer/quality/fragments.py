"""Quality of the ATAC side of every barcode, in one pass over its fragments."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from regulonformer.io.fragments import MITOCHONDRIA, stream_fragments
from regulonformer.io.peaks import merge_overlapping
from regulonformer.peaks.intervals import CountBuffer, PeakIndex, TssIndex, nuclear, select

TSS_REACH, FLANK, HALF_WINDOW = 2000, 100, 5
TSS_PSEUDOCOUNT = 0.1
NUCLEOSOME_FREE, MONONUCLEOSOME = 147, 294
LENGTH_BIN, LENGTH_MAX = 10, 1000
ROWS_AT_ONCE = 512


class FragmentQuality(NamedTuple):
    """What a fragment file says about its barcodes.

    Attributes
    ----------
    cells
        DataFrame by barcode: n_fragments (mitochondrial ones not counted), nucleosome_signal, and, where TSSs and peaks
        are known, tss_enrichment and frip.
    summary
        Totals of the file, and the length and TSS profiles that the report draws.
    """

    cells: pd.DataFrame
    summary: dict


def fragment_metrics(
    fragments, barcodes: Sequence[str], *, tss: pd.DataFrame | None = None, peaks: pd.DataFrame | None = None
) -> FragmentQuality:
    """Quality of the ATAC side in one pass over the fragments.

    - n_fragments: unique fragments, mitochondrial ones left out.
    - nucleosome_signal: mononucleosomal (147 to 293 bp) over nucleosome-free (below 147 bp) fragments, as Signac does;
      NaN without nucleosome-free fragments.
    - tss_enrichment: Tn5 cuts around all TSSs, +-2,000 bp along the strand, averaged over 11 bp; its maximum over the
      mean per bp of the outer 100 bp at both ends, plus 0.1 so that a cell with empty ends has a value.
    - frip: share of fragments that overlap a peak; NaN without fragments.

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

    References
    ----------
    ENCODE, https://www.encodeproject.org/data-standards/terms/#enrichment; Stuart et al. 2021, Nat Methods 18:1333.
    """
    names = list(dict.fromkeys([*_chromosomes(tss), *_chromosomes(peaks), *MITOCHONDRIA]))
    tss_index = TssIndex(tss, names) if tss is not None else None
    peak_index = PeakIndex(merge_overlapping(peaks), names) if peaks is not None else None
    n_cells, n_bins = len(barcodes), LENGTH_MAX // LENGTH_BIN + 1
    counts = {name: np.zeros(n_cells, np.int64) for name in ("nuclear", "free", "mono", "in_peaks")}
    lengths, profile = np.zeros(n_bins, np.int64), CountBuffer((n_cells, 2 * TSS_REACH + 1))
    summary = {"total": 0, "in_cells": 0, "mitochondrial": 0, "length_bin": LENGTH_BIN}
    for batch in stream_fragments(fragments, chromosomes=names, barcodes=barcodes):
        known = select(batch, batch.barcode >= 0)
        inside = nuclear(known, names)
        summary["total"] += len(batch.start)
        summary["in_cells"] += len(known.start)
        summary["mitochondrial"] += len(known.start) - len(inside.start)
        size = inside.end - inside.start
        lengths += np.bincount(np.minimum(size, LENGTH_MAX) // LENGTH_BIN, minlength=n_bins)
        chosen = {"nuclear": slice(None), "free": size < NUCLEOSOME_FREE}
        chosen["mono"] = (size >= NUCLEOSOME_FREE) & (size < MONONUCLEOSOME)
        if peak_index:
            chosen["in_peaks"] = peak_index.overlaps_any(inside)
        for name, keep in chosen.items():
            counts[name] += np.bincount(inside.barcode[keep], minlength=n_cells)
        if tss_index:
            profile.add(*tss_index.offsets(inside, TSS_REACH))
    cells = pd.DataFrame({"n_fragments": counts["nuclear"]}, index=pd.Index(barcodes, dtype=object))
    cells["nucleosome_signal"] = _ratio(counts["mono"], counts["free"])
    if peak_index:
        cells["frip"] = _ratio(counts["in_peaks"], counts["nuclear"])
    summary["lengths"] = lengths.tolist()
    if tss_index:
        pile_up = profile.result()
        cells["tss_enrichment"] = tss_enrichment(pile_up)
        # Every 10th position of the smoothed pile-up is enough to draw.
        summary["tss_profile"] = _smooth(np.asarray(pile_up.sum(axis=0), float))[0, ::10].round(3).tolist()
    return FragmentQuality(cells, summary)


def tss_enrichment(pile_up: sparse.csr_matrix) -> np.ndarray:
    """TSS enrichment of each cell from its pile-up of cuts around all TSSs (cells x 4,001 positions)."""
    scores = np.zeros(pile_up.shape[0])
    for first in range(0, pile_up.shape[0], ROWS_AT_ONCE):
        dense = pile_up[first : first + ROWS_AT_ONCE].toarray().astype(float)
        ends = (dense[:, :FLANK].sum(axis=1) + dense[:, -FLANK:].sum(axis=1)) / (2 * FLANK)
        scores[first : first + ROWS_AT_ONCE] = _smooth(dense).max(axis=1) / (ends + TSS_PSEUDOCOUNT)
    return scores


def _smooth(rows: np.ndarray) -> np.ndarray:
    """Average over 11 positions; at the ends over those that exist."""
    n = rows.shape[1]
    summed = np.concatenate([np.zeros((len(rows), 1)), np.cumsum(rows, axis=1)], axis=1)
    low, high = np.maximum(np.arange(n) - HALF_WINDOW, 0), np.minimum(np.arange(n) + HALF_WINDOW + 1, n)
    return (summed[:, high] - summed[:, low]) / (high - low)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Quotient; NaN where the whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _chromosomes(table: pd.DataFrame | None) -> list[str]:
    return [] if table is None else list(table["chrom"].astype(str).unique())
