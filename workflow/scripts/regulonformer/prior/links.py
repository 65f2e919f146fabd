"""Peak-gene links: which peaks near a gene go with its expression more than chance would have it."""

import numpy as np
import pandas as pd
from scipy import stats

from regulonformer.io.peaks import as_ranges

# Promoter: from 1,500 bp upstream to 500 bp downstream of the TSS.
UPSTREAM_BP, DOWNSTREAM_BP = 1500, 500
ACCESSIBILITY_BINS, PEAKS_PER_BIN = 10, 300
# With fewer random peaks than this a gene's p-value comes from the t distribution instead.
MIN_NULL = 20
# p at which the association counts in full, and what a peak without association still counts.
FULL_P, LEAST_ASSOCIATION = 1e-3, 0.05
BLOCK = 4096
TIE = 1e-6
# On a single chromosome, a peak this many windows away counts as unrelated.
FAR_WINDOWS = 2


def candidate_pairs(genes: pd.DataFrame, peaks: pd.DataFrame, window_bp: int) -> pd.DataFrame:
    """All peaks whose centre lies within a window around a gene's TSS, on the same chromosome.

    Parameters
    ----------
    genes
        chrom ("" if unknown: no pairs), tss, strand.
    peaks
        chrom, start, end.
    window_bp
        Largest distance, in bp.

    Returns
    -------
    pandas.DataFrame
        peak, gene (row numbers), distance (bp from TSS to peak centre, positive downstream in the direction of
        transcription), is_promoter; sorted by gene and peak.
    """
    genes, peaks = genes.reset_index(drop=True), peaks.reset_index(drop=True)
    placed = genes[(genes["chrom"].astype(str) != "") & genes["tss"].notna()]
    centre = (peaks["start"] + peaks["end"]) // 2
    points = pd.DataFrame({"chrom": peaks["chrom"].astype(str), "start": centre, "end": centre + 1})
    tss = placed["tss"].astype(np.int64)
    windows = pd.DataFrame(
        {"chrom": placed["chrom"].astype(str), "start": np.maximum(tss - window_bp, 0), "end": tss + window_bp + 1}
    )
    joined = pd.DataFrame()
    if len(windows) and len(points):
        joined = (
            as_ranges(windows, gene=placed.index.to_numpy()).join(as_ranges(points, peak=peaks.index.to_numpy())).df
        )
    if joined.empty:
        empty = {"peak": np.int64, "gene": np.int64, "distance": np.int64, "is_promoter": bool}
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in empty.items()})
    pairs = joined[["peak", "gene"]].astype(np.int64).sort_values(["gene", "peak"], ignore_index=True)
    direction = np.where(genes["strand"].astype(str).to_numpy()[pairs["gene"]] == "-", -1, 1)
    start_of_gene = tss.loc[pairs["gene"]].to_numpy()
    edges = [
        direction * (peaks[side].to_numpy()[pairs["peak"]] - shift - start_of_gene)
        for side, shift in (("start", 0), ("end", 1))
    ]
    pairs["distance"] = direction * (centre.to_numpy()[pairs["peak"]] - start_of_gene)
    pairs["is_promoter"] = (np.maximum(*edges) >= -UPSTREAM_BP) & (np.minimum(*edges) <= DOWNSTREAM_BP)
    return pairs


def pair_correlations(peaks: np.ndarray, genes: np.ndarray, pairs: pd.DataFrame) -> np.ndarray:
    """Pearson correlation of every pair over metacells.

    Parameters
    ----------
    peaks, genes
        Features x metacells, standardised (see `metacells.standardise`).
    pairs
        peak, gene: row numbers.
    """
    peak, gene = pairs["peak"].to_numpy(), pairs["gene"].to_numpy()
    blocks = [slice(start, start + BLOCK) for start in range(0, len(pairs), BLOCK)]
    products = [np.einsum("pm,pm->p", peaks[peak[block]], genes[gene[block]]) for block in blocks]
    return np.clip(np.concatenate(products), -1, 1).astype(float) if products else np.empty(0)


def accessibility_bins(mean: np.ndarray) -> np.ndarray:
    """Bin peaks by rank of mean accessibility into equal bins, with about 300 peaks or more in each."""
    n_bins = int(np.clip(len(mean) // PEAKS_PER_BIN, 1, ACCESSIBILITY_BINS))
    ranks = stats.rankdata(mean, method="ordinal") - 1
    return (ranks * n_bins // len(mean)).astype(int)


def empirical_p_values(
    pairs, peak_table, gene_table, peaks, genes, mean_accessibility, *, window_bp, null_peaks, n_free, rng
):
    """Two-sided p-value of every correlation against the same gene's correlation with peaks that cannot regulate it.

    The null of a pair is its gene with random peaks of the same mean accessibility on other chromosomes (where all
    peaks are on one: further away than two windows). As the gene stays the same, a marker of an abundant cell type
    gains nothing from the many peaks of that type. p = (1 + peaks at least as correlated) / (1 + random peaks).

    Parameters
    ----------
    pairs
        peak, gene, correlation.
    peak_table, gene_table
        chrom, start, end of peaks; chrom, tss of genes.
    peaks, genes
        Features x metacells, standardised.
    mean_accessibility
        Per peak.
    window_bp
        Window of the pairs, bp.
    null_peaks
        Random peaks in all, spread over the bins of accessibility.
    n_free
        Degrees of freedom of a correlation, for genes with no random peak to compare with.
    rng
        numpy Generator.

    Returns
    -------
    p_values
        One per pair.
    n_parametric
        Pairs whose p-value comes from the t distribution.
    """
    bins = accessibility_bins(mean_accessibility)
    n_bins = bins.max() + 1
    unrelated = _unrelated_test(peak_table, gene_table, window_bp)
    strength, gene_of_pair = np.abs(pairs["correlation"].to_numpy()), pairs["gene"].to_numpy()
    bin_of_pair = bins[pairs["peak"].to_numpy()]
    p_values, n_parametric = np.ones(len(pairs)), 0
    for level in range(n_bins):
        members = np.flatnonzero(bins == level)
        drawn = np.sort(rng.choice(members, min(len(members), max(1, null_peaks // n_bins)), replace=False))
        in_bin = np.flatnonzero(bin_of_pair == level)
        for start in range(0, len(in_bin), BLOCK):
            block = in_bin[start : start + BLOCK]
            gene, row = np.unique(gene_of_pair[block], return_inverse=True)
            usable = unrelated(drawn, gene)
            null = np.where(usable, np.abs(genes[gene] @ peaks[drawn].T), -np.inf)
            # The margin lets ties be ties in single precision.
            higher = (null[row] >= strength[block, None] - TIE).sum(axis=1)
            n_null = usable.sum(axis=1)[row]
            few = n_null < MIN_NULL
            p_values[block] = np.where(few, correlation_p_values(strength[block], n_free), (1 + higher) / (1 + n_null))
            n_parametric += int(few.sum())
    return p_values, n_parametric


def _unrelated_test(peak_table, gene_table, window_bp):
    """Function (peaks, genes) -> bool matrix genes x peaks: whether a peak is too far from a gene to regulate it."""
    chrom = pd.factorize(pd.concat([peak_table["chrom"], gene_table["chrom"]]).astype(str))[0]
    peak_chrom, gene_chrom = chrom[: len(peak_table)], chrom[len(peak_table) :]
    centre = ((peak_table["start"] + peak_table["end"]) // 2).to_numpy()
    tss = pd.to_numeric(gene_table["tss"]).to_numpy(dtype=float)
    if len(np.unique(peak_chrom)) > 1:
        return lambda peak, gene: peak_chrom[peak][None] != gene_chrom[gene][:, None]
    return lambda peak, gene: np.abs(centre[peak][None] - tss[gene][:, None]) > FAR_WINDOWS * window_bp


def correlation_p_values(correlation: np.ndarray, n_free: int) -> np.ndarray:
    """Two-sided p-value of a Pearson correlation by its t distribution."""
    if n_free < 1:
        return np.ones(len(correlation))
    t = np.abs(correlation) * np.sqrt(n_free / np.maximum(1 - np.square(correlation), 1e-12))
    return 2 * stats.t.sf(t, n_free)


def link_scores(distance, is_promoter, p_value, decay_bp: float) -> np.ndarray:
    """Score of a link in [0, 1]: the geometric mean of proximity and association.

    Proximity is 1 in the promoter and exp(-|distance| / decay) elsewhere: contact falls with distance (activity by
    contact, Fulco et al. 2019, doi:10.1038/s41588-019-0538-0). Association is -log10(p) / 3, between 0.05 and 1: a
    peak next to a gene keeps a small score without association, because few cells prove nothing either way.

    Parameters
    ----------
    distance
        bp.
    is_promoter
        bool.
    p_value
        Of the correlation.
    decay_bp
        Distance over which proximity falls by the factor e.
    """
    proximity = np.where(is_promoter, 1.0, np.exp(-np.abs(distance) / decay_bp))
    association = np.clip(np.log10(np.maximum(p_value, 1e-300)) / np.log10(FULL_P), LEAST_ASSOCIATION, 1)
    return np.sqrt(proximity * association)
