"""Rows of csr matrices that stay on disk (AnnData's backed matrices) or lie in memory."""

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

# Cells in memory at a time.
BLOCK_CELLS = 4096


def row_blocks(matrix, n_rows: int = BLOCK_CELLS) -> Iterator[sp.csr_matrix]:
    """All rows of a matrix, some at a time."""
    for start in range(0, matrix.shape[0], n_rows):
        yield sp.csr_matrix(matrix[start : start + n_rows])


def read_rows(matrix, rows) -> sp.csr_matrix:
    """Rows in any order; neighbours are read together.

    Parameters
    ----------
    matrix
        csr matrix on disk or in memory.
    rows
        Row numbers; -1 gives an empty row.
    """
    rows = np.asarray(rows)
    present = np.unique(rows[rows >= 0])
    runs = np.split(present, np.flatnonzero(np.diff(present) != 1) + 1)
    parts = [sp.csr_matrix(matrix[run[0] : run[-1] + 1]) for run in runs if len(run)]
    parts.append(sp.csr_matrix((1, matrix.shape[1]), dtype=matrix.dtype))
    place = np.where(rows < 0, len(present), np.searchsorted(present, rows))
    return sp.vstack(parts, format="csr")[place]
