"""Counts of cells as model input."""

from functools import cache

import numpy as np
import scipy.sparse as sp
import torch

from regulonformer.corpus.shards import Corpus
from regulonformer.model.batch import MISSING, OBSERVED, CellBatch

TARGET_SUM = 10_000.0


def log_normalise(counts: sp.csr_matrix, library: np.ndarray) -> np.ndarray:
    """log1p of counts per 10,000 of the entries of a matrix, in their order (float32).

    Parameters
    ----------
    counts
        Cells x anything.
    library
        Total counts per cell. The full library, also when genes are masked later: a masked gene is then visible in
        the values of the others only through a total that pretraining is given anyway.
    """
    scale = np.float32(TARGET_SUM) / np.maximum(library, 1).astype(np.float32)
    return np.log1p(counts.data.astype(np.float32) * np.repeat(scale, np.diff(counts.indptr)))


def encode(
    rna: sp.csr_matrix, atac: sp.csr_matrix, library: np.ndarray, missing: np.ndarray | None = None
) -> CellBatch:
    """Make a batch of the genes that are active in each cell in any modality; cells x genes are never dense.

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
    n_cells, library = rna.shape[0], np.asarray(library)
    missing = np.zeros((n_cells, 2), bool) if missing is None else np.asarray(missing, bool)
    parts = []
    for m, matrix in enumerate((rna, atac)):
        matrix = _observed(matrix, missing[:, m])
        parts += [matrix.indptr, matrix.indices, matrix.data, log_normalise(matrix, library[:, m])]
    longest, fill = _kernels()
    marks = np.zeros(rna.shape[1], np.uint8)
    n_tokens = max(1, longest(marks, *parts[:2], *parts[4:6]))
    genes_BT, pad_BT = np.empty((n_cells, n_tokens), np.int64), np.empty((n_cells, n_tokens), bool)
    values, counts = (np.zeros((2, n_cells, n_tokens), np.float32) for _ in range(2))
    fill(marks, np.empty(rna.shape[1], np.int32), *parts, genes_BT, pad_BT, values, counts)
    states = [np.where(missing[:, m, None], MISSING, OBSERVED) for m in range(2)]
    return CellBatch(
        torch.from_numpy(genes_BT),
        *torch.from_numpy(values),
        *(torch.from_numpy(state).expand(n_cells, n_tokens) for state in states),
        torch.from_numpy(pad_BT),
        *torch.from_numpy(counts),
        torch.from_numpy(np.asarray(library, np.float32)),
    )


def encode_cells(corpus: Corpus, indices) -> CellBatch:
    """Make a batch of some cells of a corpus, by row number."""
    return encode(*corpus.rows(indices), corpus.library[indices], corpus.missing[indices])


def _observed(matrix: sp.csr_matrix, missing: np.ndarray) -> sp.csr_matrix:
    """Counts above zero of the cells that were measured, columns in order."""
    if missing.any():
        matrix = sp.csr_matrix(sp.diags(~missing, dtype=matrix.dtype) @ matrix)
    if not matrix.data.all():
        matrix = matrix.copy()
        matrix.eliminate_zeros()
    if not matrix.has_sorted_indices:
        matrix = matrix.sorted_indices()
    return matrix


@cache
def _kernels():
    """Compile the two loops over cells; they let go of the interpreter, so that threads can share the work.

    Both mark the active genes of one cell at a time in a vector over all genes. Merging the two sorted lists instead
    takes more than twice as long, because each step of a merge waits for the one before.
    """
    import numba

    @numba.njit(nogil=True, cache=True)
    def longest(marks, rna_indptr, rna_genes, atac_indptr, atac_genes):
        """Active genes of the cell that has most."""
        most = 0
        for cell in range(len(rna_indptr) - 1):
            rna = rna_genes[rna_indptr[cell] : rna_indptr[cell + 1]]
            atac = atac_genes[atac_indptr[cell] : atac_indptr[cell + 1]]
            for gene in rna:
                marks[gene] = 1
            shared = 0
            for gene in atac:
                shared += marks[gene]
            for gene in rna:
                marks[gene] = 0
            most = max(most, len(rna) + len(atac) - shared)
        return most

    @numba.njit(nogil=True, cache=True)
    def fill(
        marks, position, rna_indptr, rna_genes, rna_counts, rna_values, atac_indptr, atac_genes, atac_counts,
        atac_values, genes, pad, values, counts,
    ):  # fmt: skip
        """Write the active genes of each cell from the left; the rest is padding."""
        for cell in range(len(rna_indptr) - 1):
            rna = range(rna_indptr[cell], rna_indptr[cell + 1])
            atac = range(atac_indptr[cell], atac_indptr[cell + 1])
            for k in rna:
                marks[rna_genes[k]] = 1
            for k in atac:
                marks[atac_genes[k]] = 1
            n_active = 0
            for gene in range(len(marks)):
                position[gene] = n_active
                n_active += marks[gene]
            marks[:] = 0
            for k in rna:
                at = position[rna_genes[k]]
                genes[cell, at], counts[0, cell, at], values[0, cell, at] = rna_genes[k], rna_counts[k], rna_values[k]
            for k in atac:
                at = position[atac_genes[k]]
                genes[cell, at], counts[1, cell, at], values[1, cell, at] = (
                    atac_genes[k],
                    atac_counts[k],
                    atac_values[k],
                )
            pad[cell, :n_active], pad[cell, n_active:], genes[cell, n_active:] = False, True, 0

    return longest, fill
