"""Counts of cells as model input."""

import numpy as np
import scipy.sparse as sp
import torch

from regulonformer.corpus.shards import Corpus
from regulonformer.model.batch import MISSING, OBSERVED, CellBatch

TARGET_SUM = 10_000.0


def log_normalise(counts: np.ndarray, library: np.ndarray) -> np.ndarray:
    """log1p of counts per 10,000.

    Parameters
    ----------
    counts
        Cells x anything.
    library
        Total counts per cell. The full library, also when genes are masked later: a masked gene is then visible in
        the values of the others only through a total that pretraining is given anyway.
    """
    scale = TARGET_SUM / np.maximum(library, 1.0)
    return np.log1p(counts * scale[:, None])


def encode(
    rna: sp.csr_matrix, atac: sp.csr_matrix, library: np.ndarray, missing: np.ndarray | None = None
) -> CellBatch:
    """Make a batch of the genes that are active in each cell in any modality.

    Parameters
    ----------
    rna, atac
        Counts, cells x genes of the vocabulary.
    library
        Total counts per cell, cells x (RNA, accessibility).
    missing
        Whether a cell lacks a modality altogether, cells x (RNA, accessibility); none does if not given.

    Returns
    -------
    CellBatch
        Genes in vocabulary order, padded to the longest cell (at least one position).
    """
    n_cells = rna.shape[0]
    missing = np.zeros((n_cells, 2), bool) if missing is None else np.asarray(missing, bool)
    counts = [matrix.toarray().astype(np.float32) for matrix in (rna, atac)]
    for modality in range(2):
        counts[modality][missing[:, modality]] = 0.0
    cell, gene = np.nonzero((counts[0] != 0) | (counts[1] != 0))
    length = np.bincount(cell, minlength=n_cells)
    position = np.arange(len(cell)) - np.repeat(np.cumsum(length) - length, length)

    def padded(values, dtype):
        full = np.zeros((n_cells, max(1, length.max(initial=0))), dtype)
        full[cell, position] = values
        return full

    genes_BT = padded(gene, np.int64)
    counts_BT = [padded(matrix[cell, gene], np.float32) for matrix in counts]
    values_BT = [log_normalise(counts_BT[m], library[:, m]).astype(np.float32) for m in range(2)]
    state_BT = [np.where(missing[:, m, None], MISSING, OBSERVED).repeat(genes_BT.shape[1], axis=1) for m in range(2)]
    pad_BT = ~padded(True, bool)
    arrays = (genes_BT, *values_BT, *state_BT, pad_BT, *counts_BT, np.asarray(library, np.float32))
    return CellBatch(*(torch.from_numpy(array) for array in arrays))


def encode_cells(corpus: Corpus, indices) -> CellBatch:
    """Make a batch of some cells of a corpus, by row number."""
    return encode(*corpus.rows(indices), corpus.library[indices], corpus.missing[indices])
