"""Sum the counts of a gene's peaks to its accessibility.

With X the counts (cells x peaks), P the promoter peaks and L the linked peaks (both peaks x genes, 0 or 1):

    A = X (P or L)

The joint matrices hold A of the promoters alone, because links are computed from them; the corpus adds the links.
"""

import numpy as np
import pandas as pd
from scipy import sparse

from regulonformer.features import overlap_matrix
from regulonformer.io.peaks import parse_names

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


def promoter_peaks(
    peaks: pd.DataFrame, windows: pd.DataFrame, gene_of_window: np.ndarray, n_genes: int
) -> sparse.csr_matrix:
    """Find the peaks that share a base with a promoter window of a gene: P, peaks x genes, 0 or 1.

    A window that several genes share is there once for each of them, so that all of them get its peaks.

    Parameters
    ----------
    peaks, windows
        Tables with chrom, start, end.
    gene_of_window
        Gene (column of the result) of each window; -1 for none.
    n_genes
        Number of genes.
    """
    used = np.flatnonzero(gene_of_window >= 0)
    to_gene = sparse.csr_matrix(
        (np.ones(len(used), np.int32), (used, gene_of_window[used])), shape=(len(windows), n_genes)
    )
    return _binary(overlap_matrix(peaks, windows) @ to_gene)


def linked_peaks(links: pd.DataFrame, peaks, genes, min_score: float) -> sparse.csr_matrix:
    """Find the peaks that are linked to a gene and rise with its expression: L, peaks x genes, 0 or 1.

    A peak that falls when the gene rises is no part of what opens the gene, however sure the link.

    Parameters
    ----------
    links
        Table with peak, gene, correlation, score.
    peaks, genes
        Names of rows and columns; links that name others are left out.
    min_score
        Lowest score of a link.
    """
    row, column = pd.Index(peaks).get_indexer(links["peak"]), pd.Index(genes).get_indexer(links["gene"])
    used = (links["score"] >= min_score) & (links["correlation"] > 0) & (row >= 0) & (column >= 0)
    ones = np.ones(int(used.sum()), np.int32)
    return _binary(sparse.csr_matrix((ones, (row[used], column[used])), shape=(len(peaks), len(genes))))


def gene_accessibility(counts: sparse.spmatrix, *members: sparse.csr_matrix) -> sparse.csr_matrix:
    """Sum, for each gene, the counts of all peaks that belong to it: A = X (P or L).

    A peak counts once per gene, however many reasons it has to belong to it, and in full for every gene that shares it.

    Parameters
    ----------
    counts
        X, cells x peaks.
    members
        Peaks x genes: promoter peaks P, and where wanted linked peaks L.

    Returns
    -------
    scipy.sparse.csr_matrix
        A, int32, cells x genes.
    """
    accessibility = sparse.csr_matrix(counts.astype(np.int32) @ _binary(sum(members)))
    accessibility.sort_indices()
    return accessibility


def peaks_per_gene(*members: sparse.csr_matrix) -> np.ndarray:
    """Number of peaks of each gene; a peak counts once."""
    return np.asarray(_binary(sum(members)).sum(axis=0)).ravel().astype(np.int64)


def elements_of_genes(peaks, genes, *members: sparse.csr_matrix) -> pd.DataFrame:
    """List the peaks of each gene, so that peaks of other data can be assigned by place.

    Parameters
    ----------
    peaks, genes
        Names of rows and columns; peaks are called chr-start-end.
    members
        Peaks x genes: promoter peaks P, and where wanted linked peaks L.

    Returns
    -------
    pandas.DataFrame
        chrom, start, end (0-based, half-open), symbol; one row per peak and gene.
    """
    peak, gene = _binary(sum(members)).nonzero()
    return parse_names(peaks).iloc[peak].assign(symbol=np.asarray(genes, dtype=str)[gene]).reset_index(drop=True)


def _binary(matrix: sparse.spmatrix) -> sparse.csr_matrix:
    """1 wherever the matrix is not 0, int32."""
    matrix = sparse.csr_matrix(matrix)
    matrix.sum_duplicates()
    matrix.data = (matrix.data != 0).astype(np.int32)
    return matrix
