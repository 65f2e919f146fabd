"""Counts out of normalised values: where RNA was only scaled and log-transformed, its counts are still there."""

import numpy as np
from scipy import sparse

from regulonformer.errors import InputError

# A value is a whole number of the cell's smallest one to this relative error; float32 files are good to 1e-6.
TOLERANCE = 1e-3
# More cells than this that are no multiples of their smallest value say that the values are something else.
FAILING_SHARE = 0.01


def recover_counts(path, values: sparse.csr_matrix) -> tuple[sparse.csr_matrix, list[str]]:
    """Take log1p of scaled counts back to counts: expm1 of a cell's values over the smallest of them.

    The smallest count of a cell is taken for 1. A cell whose smallest count was 2 or more and divides all others comes
    back too small by that factor, which nothing in the values can tell.

    Parameters
    ----------
    path
        File to name in errors.
    values
        Cells x genes; a matrix that holds counts already is left as it is.

    Returns
    -------
    scipy.sparse.csr_matrix
        int32 counts.
    list of str
        What was done, and the share of cells and values that are no multiples (they are rounded).

    Raises
    ------
    InputError
        If values are negative, not finite, or no such multiples in more than `FAILING_SHARE` of the cells.
    """
    if _are_counts(values):
        return values.astype(np.int32), []
    fix = "Give raw counts, for instance in layers['counts']; recover needs log1p of counts scaled per cell"
    if not np.isfinite(values.data).all() or (values.data < 0).any():
        raise InputError(path, "holds values below zero or not finite, which are no logarithm of counts", fix)
    scaled = np.expm1(values.data.astype(np.float64))
    sizes = np.diff(values.indptr)
    filled = np.flatnonzero(sizes)
    # Rows without a value would shift the others.
    smallest = np.minimum.reduceat(scaled, values.indptr[filled]) if len(filled) else scaled
    ratio = scaled / np.repeat(smallest, sizes[filled])
    counts = np.rint(ratio)
    fails = np.abs(ratio - counts) > TOLERANCE * ratio
    cells = np.unique(np.repeat(filled, sizes[filled])[fails])
    shares = f"{len(cells) / max(len(filled), 1):.2%} of the cells and {fails.mean():.2%} of the values"
    if len(cells) > FAILING_SHARE * len(filled):
        problem = f"{shares} are no whole multiples of the smallest value of their cell"
        raise InputError(path, f"ingest/counts is recover, but {problem}", fix)
    if counts.max(initial=0) > np.iinfo(np.int32).max:
        raise InputError(path, f"would hold a count of {counts.max():g}", fix)
    found = sparse.csr_matrix((counts.astype(np.int32), values.indices, values.indptr), shape=values.shape)
    note = f"RNA counts were recovered from log1p of scaled counts; {shares} are no whole multiples and were rounded"
    return found, [note]


def presence(path, values: sparse.csr_matrix) -> tuple[sparse.csr_matrix, list[str]]:
    """Open or not, 1 wherever a value is above 0, of peak values that are no counts; counts are left as they are.

    Raises
    ------
    InputError
        If values are negative or not finite.
    """
    if _are_counts(values):
        return values.astype(np.int32), []
    if not np.isfinite(values.data).all() or (values.data < 0).any():
        fix = "Give counts, or values that are 0 where a peak is closed"
        raise InputError(path, "holds peak values below zero or not finite", fix)
    found = sparse.csr_matrix((np.ones(values.nnz, np.int32), values.indices, values.indptr), shape=values.shape)
    return found, ["ATAC values are no counts: 1 where a value is above 0, since counts cannot be recovered from them"]


def _are_counts(values: sparse.csr_matrix) -> bool:
    """Whether all values are whole and none is negative."""
    return bool(np.isfinite(values.data).all() and (values.data >= 0).all() and (values.data % 1 == 0).all())
