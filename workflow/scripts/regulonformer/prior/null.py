"""The null of a link: the same gene with peaks that are alike but cannot regulate it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from regulonformer.prior.peak_sequences import read_sequences

# Bins of matched peaks: at most this many by accessibility, times by GC, with this many peaks in each at least.
MAX_ACCESSIBILITY_BINS, MAX_GC_BINS, PEAKS_PER_BIN = 10, 5, 100
# With fewer matched peaks than this, mean and spread of a gene's null come from all its unrelated peaks.
MIN_NULL = 20
# Share of a bin's peaks that the null may take; the others are left to check the p-values with.
NULL_SHARE = 0.8
# On a single chromosome, a peak this many windows away counts as unrelated.
FAR_WINDOWS = 2
# Null values are counted in bins of z this wide, between -RANGE and RANGE. Counting keeps billions in little memory.
STEP, RANGE = 0.005, 100.0
# Below this many null values the tails are those of the normal distribution.
MIN_TAIL = 1000
GENES_PER_BLOCK = 512


def gc_content(fasta, peaks: pd.DataFrame) -> np.ndarray:
    """Share of G and C among the known bases of every peak, NaN without any.

    Parameters
    ----------
    fasta
        Genome with a .fai beside it.
    peaks
        chrom, start, end.

    Raises
    ------
    InputError
        If no peak has sequence (see `peak_sequences.read_sequences`).
    """
    sequences, _ = read_sequences(fasta, peaks)
    strong = np.array([s.count(b"G") + s.count(b"C") for s in sequences], dtype=float)
    known = np.array([len(s) - s.count(b"N") for s in sequences])
    return np.divide(strong, known, out=np.full(len(strong), np.nan), where=known > 0)


def matching_bins(mean_accessibility: np.ndarray, gc: np.ndarray | None = None) -> np.ndarray:
    """Bins of peaks alike in mean accessibility and, where given, GC content.

    Ranked by accessibility into equal bins, and within each by GC, with 100 peaks or more in each.

    Parameters
    ----------
    mean_accessibility
        Per peak.
    gc
        Share of G and C per peak, NaN where unknown (taken as the median); or None.

    Returns
    -------
    numpy.ndarray
        Bin of every peak, int64.
    """
    n_bins = max(1, len(mean_accessibility) // PEAKS_PER_BIN)
    n_gc = 1 if gc is None else int(np.clip(np.sqrt(n_bins / 2), 1, MAX_GC_BINS))
    level = _equal_bins(mean_accessibility, int(np.clip(n_bins // n_gc, 1, MAX_ACCESSIBILITY_BINS)))
    if n_gc == 1:
        return level
    gc = np.where(np.isnan(gc), np.nanmedian(gc), gc)
    bins = level * n_gc
    for value in np.unique(level):
        rows = np.flatnonzero(level == value)
        bins[rows] += _equal_bins(gc[rows], n_gc)
    return bins


def _equal_bins(values: np.ndarray, n_bins: int) -> np.ndarray:
    ranks = stats.rankdata(values, method="ordinal") - 1
    return (ranks * n_bins // len(values)).astype(np.int64)


def unrelated_test(peak_table: pd.DataFrame, gene_table: pd.DataFrame, window_bp: int):
    """Function (peaks, genes) -> bool, elementwise: whether a peak is too far from a gene to regulate it.

    That is, on another chromosome; where all peaks are on one, further away than two windows.
    """
    chrom = pd.factorize(pd.concat([peak_table["chrom"], gene_table["chrom"]]).astype(str))[0]
    peak_chrom, gene_chrom = chrom[: len(peak_table)], chrom[len(peak_table) :]
    centre = ((peak_table["start"] + peak_table["end"]) // 2).to_numpy()
    tss = pd.to_numeric(gene_table["tss"]).to_numpy(dtype=float)
    if len(np.unique(peak_chrom)) > 1:
        return lambda peak, gene: peak_chrom[peak] != gene_chrom[gene]
    return lambda peak, gene: np.abs(centre[peak] - tss[gene]) > FAR_WINDOWS * window_bp


@dataclass
class MatchedNull:
    """What unrelated pairs look like.

    Attributes
    ----------
    mean, spread
        Genes x bins: mean of a gene's correlation with unrelated peaks of a bin, and the standard deviation of a new
        one around it. NaN for a gene without unrelated peaks.
    counts
        Null z-values in bins of width `STEP` from -`RANGE`, int64.
    peaks
        Rows of the peaks drawn.
    """

    mean: np.ndarray
    spread: np.ndarray
    counts: np.ndarray
    peaks: np.ndarray

    @property
    def n(self) -> int:
        """Number of null values."""
        return int(self.counts.sum())

    def tails(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probability under the null of a value at least as large, and at least as small, as every z; never zero.

        (1 + null values beyond) / (1 + null values), pooled over all genes (North et al. 2002, doi:10.1086/341527).
        """
        if self.n < MIN_TAIL:
            return stats.norm.sf(z), stats.norm.cdf(z)
        position, below = _bin_of(z), np.cumsum(self.counts)
        upper = self.n - below[position] + self.counts[position]
        return (1 + upper) / (1 + self.n), (1 + below[position]) / (1 + self.n)

    def p_values(self, z: np.ndarray) -> np.ndarray:
        """Two-sided p-value of every z: twice the smaller tail."""
        return np.minimum(1, 2 * np.minimum(*self.tails(z)))


def _bin_of(z: np.ndarray) -> np.ndarray:
    return (np.clip(np.floor(z / STEP), -RANGE / STEP, RANGE / STEP - 1) + RANGE / STEP).astype(np.int64)


def matched_null(
    peaks: np.ndarray, genes: np.ndarray, bins: np.ndarray, unrelated, *, null_peaks: int, rng: np.random.Generator
) -> MatchedNull:
    """Correlate every gene with random peaks that cannot regulate it, bin by bin.

    A gene's null values in a bin are standardised as an observed one will be: by mean and spread of the others,
    z_i = (r_i - mean without i) / (spread without i x sqrt(1 + 1 / (n - 1))), the externally studentised residual
    (Cook & Weisberg 1982, Residuals and Influence in Regression, section 2.2). So an observed z that belongs to the
    null is exchangeable with them, whatever the shape of the distribution and however few peaks there are.

    Parameters
    ----------
    peaks, genes
        Features x components (see `denoise`).
    bins
        Bin of every peak, -1 for peaks that are left out.
    unrelated
        See `unrelated_test`.
    null_peaks
        Peaks drawn in all, spread over the bins.
    rng
        numpy Generator.
    """
    n_bins = bins.max() + 1
    members = [np.flatnonzero(bins == level) for level in range(n_bins)]
    share = max(1, null_peaks // n_bins)
    sizes = [min(share, int(np.ceil(NULL_SHARE * len(rows)))) for rows in members]
    drawn = [np.sort(rng.choice(rows, size, replace=False)) for rows, size in zip(members, sizes, strict=True)]
    drawn = np.concatenate(drawn)
    starts = np.searchsorted(bins[drawn], np.arange(n_bins))
    mean, spread = np.full((2, len(genes), n_bins), np.nan)
    counts = np.zeros(int(2 * RANGE / STEP), dtype=np.int64)
    varies = np.flatnonzero(genes.any(axis=1))
    for start in range(0, len(varies), GENES_PER_BLOCK):
        block = varies[start : start + GENES_PER_BLOCK]
        usable = unrelated(drawn[None], block[:, None])
        correlation = (genes[block] @ peaks[drawn].T).astype(float)
        mean[block], spread[block], z = _studentise(correlation, usable, starts)
        counts += np.bincount(_bin_of(z), minlength=len(counts))
    return MatchedNull(mean, spread, counts, drawn)


def _studentise(values, usable, starts):
    """Mean, spread and null z-values of a block of genes; columns of a bin lie side by side, from `starts` on."""
    n = np.add.reduceat(usable, starts, axis=1, dtype=float)
    # Genes with too few matched peaks fall back on all of theirs.
    n = np.where(n < MIN_NULL, 0, n)
    width = np.diff(np.append(starts, values.shape[1]))
    values = np.where(usable, values, 0)
    total, squares = np.add.reduceat(values, starts, axis=1), np.add.reduceat(values**2, starts, axis=1)
    n_all = usable.sum(axis=1, dtype=float)[:, None]
    few = (n == 0) & (n_all >= MIN_NULL)
    total, squares = (np.where(few, s.sum(axis=1, keepdims=True), s) for s in (total, squares))
    n = np.where(few, n_all, n)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / np.where(n > 0, n, np.nan)
        scatter = np.maximum(squares - n * mean**2, 0)
        spread = np.sqrt(scatter / (n - 1) * (1 + 1 / n))
        each_n, each_mean, each_scatter = (np.repeat(s, width, axis=1) for s in (n, mean, scatter))
        residual = (values - each_mean) * each_n / (each_n - 1)
        without = each_scatter - residual**2 * (each_n - 1) / each_n
        z = residual / np.sqrt(without / (each_n - 2) * (1 + 1 / (each_n - 1)))
    return mean, spread, z[usable & np.isfinite(z)]


def control_pairs(bins, genes, null: MatchedNull, unrelated, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Random pairs that cannot be links and are not in the null, to check the p-values with.

    Parameters
    ----------
    bins
        Bin of every peak, -1 for peaks that are left out.
    genes
        Features x components; genes that do not vary are left out.
    null
        Its peaks are left out.
    unrelated
        See `unrelated_test`.
    n
        Pairs drawn; related ones among them are dropped.
    rng
        numpy Generator.

    Returns
    -------
    pandas.DataFrame
        peak, gene (row numbers).
    """
    free = np.setdiff1d(np.flatnonzero(bins >= 0), null.peaks)
    peak, gene = rng.choice(free, n if len(free) else 0), rng.choice(np.flatnonzero(genes.any(axis=1)), n)
    pairs = pd.DataFrame({"peak": peak, "gene": gene[: len(peak)]})
    return pairs[unrelated(*pairs.to_numpy().T)].reset_index(drop=True)


def standardise_pairs(pairs: pd.DataFrame, bins: np.ndarray, null: MatchedNull, n_components: int):
    """Standardise the correlation of every pair against the null of its gene and bin.

    Parameters
    ----------
    pairs
        peak, gene (row numbers), correlation.
    bins
        Bin of every peak, -1 for peaks that are left out.
    null
        See `matched_null`.
    n_components
        Components of the profiles: without unrelated peaks r x sqrt(components) stands in for z.

    Returns
    -------
    z
        Per pair; 0 where peak or gene do not vary.
    n_without_null
        Pairs without unrelated peaks to compare with.
    """
    gene, level = pairs["gene"].to_numpy(), bins[pairs["peak"].to_numpy()]
    correlation = pairs["correlation"].to_numpy()
    mean, spread = null.mean[gene, level], null.spread[gene, level]
    known = spread > 0
    z = np.where(known, (correlation - mean) / np.where(known, spread, 1), correlation * np.sqrt(n_components))
    silent = (level < 0) | (correlation == 0)
    return np.where(silent, 0.0, z), int((~known & ~silent).sum())
