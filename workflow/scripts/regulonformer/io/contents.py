"""What every reader of count matrices returns: names first, counts on demand."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from regulonformer.errors import InputError

GENES, PEAKS = "Gene Expression", "Peaks"


class Contents(NamedTuple):
    """Names in a count matrix.

    Attributes
    ----------
    layout
        Name of the file's layout.
    barcodes
        One per row of the counts.
    features
        One row per column of the counts: id, name, type, genome, interval; "" where the file says nothing.
    notes
        What was left out, in words.
    """

    layout: str
    barcodes: list[str]
    features: pd.DataFrame
    notes: list[str]


def feature_table(*, name, id="", type=GENES, genome="", interval="") -> pd.DataFrame:
    """Features as text columns id, name, type, genome, interval, from arrays of one length or single values."""
    columns = {"id": id, "name": name, "type": type, "genome": genome, "interval": interval}
    # Arrays, because pandas would align series of different lengths instead of refusing them.
    arrays = {key: value if isinstance(value, str) else np.asarray(value, object) for key, value in columns.items()}
    return pd.DataFrame(arrays, index=pd.RangeIndex(len(name)), dtype=object)


def as_counts(path, values: np.ndarray) -> np.ndarray:
    """Numbers as int32.

    Raises
    ------
    InputError
        Names the first value that is negative, too large or not whole.
    """
    with np.errstate(invalid="ignore"):  # not-a-number becomes some integer, which the comparison finds
        counts = values.astype(np.int32, copy=False)
    wrong = (counts != values) | (counts < 0)
    if wrong.any():
        first = values[np.argmax(wrong)]
        fix = "Give raw counts, not normalised values; in h5ad and h5mu they may lie in layers['counts']"
        fix += ". Where only log1p of scaled counts is left, set ingest/counts: recover"
        raise InputError(path, f"holds {first}, which is not a count ({wrong.sum()} of {len(values)} values)", fix)
    return counts


def finish(path, matrix: sparse.csr_matrix, *, raw: bool = True) -> sparse.csr_matrix:
    """Check a sparse matrix as a file gave it, and make it int32 with sorted columns and without stored zeros.

    Parameters
    ----------
    path
        File to name in errors.
    matrix
        Changed in place.
    raw
        Whether values must be counts; else they stay as they are.

    Raises
    ------
    InputError
        If values are not counts, or an entry is stored twice.
    """
    matrix.check_format(full_check=True)
    if raw:
        matrix.data = as_counts(path, matrix.data)
    matrix.sort_indices()
    if not matrix.has_canonical_format:
        raise InputError(path, "holds a count twice for one barcode and feature", "Write the matrix again")
    matrix.eliminate_zeros()
    return matrix


def check_unique(path, what: str, values: Iterable[str], fix: str) -> None:
    """Raise an InputError that names the first value that occurs more than once."""
    index = pd.Index(values)
    if not index.is_unique:
        raise InputError(path, f"{what} {index[index.duplicated()][0]!r} occurs more than once", fix)


def check_barcodes(path, barcodes: list[str]) -> None:
    """Raise an InputError if a barcode occurs more than once."""
    check_unique(path, "barcode", barcodes, "Give the matrix of one library per row of the sample sheet")


def stack(path, blocks: Iterable[tuple[list[str], sparse.csr_matrix]], barcodes: list[str]) -> sparse.csr_matrix:
    """Put matrices side by side, their rows brought to the given barcodes.

    Parameters
    ----------
    path
        File to name in errors.
    blocks
        Barcodes and counts of each matrix. A barcode that it lacks gets an empty row there; one that is not asked for
        is left out.
    barcodes
        Rows of the result.
    """
    aligned = []
    for names, block in blocks:
        check_barcodes(path, names)
        # An empty last row stands for the barcodes that this matrix lacks.
        padded = sparse.vstack([block, sparse.csr_matrix((1, block.shape[1]), dtype=np.int32)], format="csr")
        aligned.append(padded[pd.Index(names).get_indexer(barcodes)])
    return sparse.hstack(aligned, format="csr")
