"""Activity of regulons in single cells: area under the recovery curve of targets, and weighted mean z of targets."""

import numpy as np
import pandas as pd
from scipy import sparse

from regulonformer.decompose import log_normalise
from regulonformer.io.rows import row_blocks

CELLS_PER_BLOCK = 512


def target_matrix(edges: pd.DataFrame, genes: pd.Index, tfs: list[str], weight) -> sparse.csr_matrix:
    """Weights of targets, genes x TFs.

    Parameters
    ----------
    edges
        source, target: one row per pair; targets that are no gene are left out.
    genes, tfs
        Rows and columns.
    weight
        Per edge.
    """
    row, column = genes.get_indexer(edges["target"]), pd.Index(tfs).get_indexer(edges["source"])
    known = (row >= 0) & (column >= 0)
    shape = (len(genes), len(tfs))
    return sparse.csr_matrix((np.asarray(weight, dtype=float)[known], (row[known], column[known])), shape=shape)


def aucell(counts, members: sparse.csr_matrix, top_share: float) -> np.ndarray:
    """Area under the recovery curve of every gene set among the highest genes of every cell, of the largest possible.

    AUCell (Aibar et al. 2017, doi:10.1038/nmeth.4463, Methods): genes are ranked from high to low in each cell; a
    member at rank i of the first n adds n - i. A gene that is not expressed recovers nothing, however few genes are.
    Genes of equal value add the mean of what their ranks add, so that the order of the genes does not matter.

    Parameters
    ----------
    counts
        csr, cells x genes, on disk or in memory; any scale that keeps the order within a cell.
    members
        Genes x sets: other than 0 for members.
    top_share
        Share of the genes within which recovery counts.

    Returns
    -------
    numpy.ndarray
        Cells x sets, float32, in [0, 1]; 0 for an empty set.
    """
    if not counts.shape[0]:
        return np.zeros((0, members.shape[1]), np.float32)
    n_top = int(np.clip(round(top_share * counts.shape[1]), 2, counts.shape[1]))
    is_member = (members != 0).astype(float)
    size = np.minimum(np.asarray(is_member.sum(axis=0)).ravel(), n_top - 1)
    largest = size * n_top - size * (size + 1) / 2
    blocks = [_gains(block, n_top) @ is_member for block in row_blocks(counts, CELLS_PER_BLOCK)]
    return (sparse.vstack(blocks).toarray() / np.maximum(largest, 1)).astype(np.float32)


def _gains(block: sparse.csr_matrix, n_top: int) -> sparse.csr_matrix:
    """n_top - rank of the expressed genes among the first n_top of every cell, equal ones their mean; cells x genes."""
    cell = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    order = np.lexsort((-block.data, cell))
    value, cell = block.data[order], cell[order]
    gain = np.maximum(n_top - 1 - (np.arange(len(order)) - block.indptr[cell]), 0) * (value > 0)
    is_new = np.append(True, (np.diff(value) != 0) | (np.diff(cell) != 0))[: len(order)]
    tie = np.cumsum(is_new) - 1
    mean = np.bincount(tie, gain) / np.bincount(tie)
    shared = np.empty(len(order))
    shared[order] = mean[tie]
    return sparse.csr_matrix((shared, block.indices, block.indptr), shape=block.shape)


def mean_z(counts, weights: sparse.csr_matrix) -> np.ndarray:
    """Weighted mean over a set of the z-scores of its genes: sum w z / sum |w|.

    z of log1p counts per 10,000 over all cells; a gene without variance has z = 0.

    Parameters
    ----------
    counts
        csr, cells x genes, on disk or in memory.
    weights
        Genes x sets; negative for genes that the TF represses.

    Returns
    -------
    numpy.ndarray
        Cells x sets, float32; 0 for an empty set.
    """
    if not counts.shape[0]:
        return np.zeros((0, weights.shape[1]), np.float32)
    total, squares = np.zeros(counts.shape[1]), np.zeros(counts.shape[1])
    for block in row_blocks(counts):
        values = log_normalise(block).astype(np.float64)
        total += np.asarray(values.sum(axis=0)).ravel()
        squares += np.asarray(values.multiply(values).sum(axis=0)).ravel()
    mean = total / counts.shape[0]
    spread = np.sqrt(np.maximum(squares / counts.shape[0] - mean**2, 0))
    per_gene = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 1e-6)
    norm = np.maximum(np.asarray(abs(weights).sum(axis=0)).ravel(), 1e-12)
    scaled = sparse.csr_matrix(sparse.diags(per_gene) @ weights @ sparse.diags(1 / norm))
    shift = mean @ scaled
    blocks = [(log_normalise(block).astype(np.float64) @ scaled).toarray() for block in row_blocks(counts)]
    return (np.vstack(blocks) - shift).astype(np.float32)
