"""Sum the counts of a gene's peaks to its accessibility."""

import numpy as np
import pandas as pd
from scipy import sparse

from regulonformer.features import overlap_matrix

UPSTREAM, DOWNSTREAM = 1500, 500


def promoter_windows(tss: pd.DataFrame, *, upstream: int = UPSTREAM, downstream: int = DOWNSTREAM) -> pd.DataFrame:
    """Window from `upstream` bp before to `downstream` bp after each TSS, along the gene's strand.

    Returns
    -------
    pandas.DataFrame
        gene_id, symbol, chrom, start, end (0-based, half-open, cut at 0): [tss - upstream, tss + downstream)
        on the + strand and its mirror image (tss - downstream, tss + upstream] on the - strand.
    """
    site, minus = tss["tss"].to_numpy(np.int64), tss["strand"].eq("-").to_numpy()
    start = np.where(minus, site - downstream + 1, site - upstream)
    end = np.where(minus, site + upstream + 1, site + downstream)
    return tss[["gene_id", "symbol", "chrom"]].assign(start=np.maximum(start, 0), end=end)


def gene_accessibility(
    counts: sparse.spmatrix, peaks: pd.DataFrame, windows: pd.DataFrame, gene_of_window: np.ndarray, n_genes: int
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Sum, for each gene, the counts of all peaks that overlap one of its promoter windows: A = X M.

    M (peaks x genes) is 1 where a peak overlaps any window of the gene. A peak counts once per gene however many of the
    gene's windows it touches, and in full for every gene that shares it.

    Parameters
    ----------
    counts
        X, cells x peaks.
    peaks, windows
        Tables with chrom, start, end.
    gene_of_window
        Column of the result that each window belongs to; -1 for none.
    n_genes
        Number of genes.

    Returns
    -------
    scipy.sparse.csr_matrix
        A, int32, cells x genes.
    numpy.ndarray
        Number of peaks of each gene.
    """
    used = np.flatnonzero(gene_of_window >= 0)
    to_gene = sparse.csr_matrix(
        (np.ones(len(used), np.int32), (used, gene_of_window[used])), shape=(len(windows), n_genes)
    )
    membership = sparse.csr_matrix(overlap_matrix(peaks, windows) @ to_gene)
    membership.data = np.minimum(membership.data, 1).astype(np.int32)
    accessibility = sparse.csr_matrix(counts.astype(np.int32) @ membership)
    accessibility.sort_indices()
    return accessibility, np.asarray(membership.sum(axis=0)).ravel().astype(np.int64)
