"""10x matrices as text: matrix.mtx with barcodes.tsv and features.tsv (genes.tsv before v3) beside, plain or gzip."""

import gzip
from pathlib import Path

from regulonformer.errors import InputError

MTX_NAMES = ("matrix.mtx.gz", "matrix.mtx")
BLOCK = 1 << 18  # entries parsed at a time


def find_mtx(folder) -> str | None:
    """The matrix file of a MEX folder, if it has one."""
    for name in MTX_NAMES:
        if (Path(folder) / name).is_file():
            return str(Path(folder) / name)
    return None


def is_mtx(path) -> bool:
    """Whether a path names a matrix file of this layout."""
    return str(path).endswith((".mtx", ".mtx.gz"))


def read_mex_names(path):
    """Names beside a matrix.mtx: barcodes, and features with id, name, type, and the interval where there is one.

    Parameters
    ----------
    path
        The matrix file; a prefix before "matrix.mtx", as in GEO's archives, is expected of the other files too.

    Returns
    -------
    regulonformer.io.contents.Contents

    References
    ----------
    https://www.10xgenomics.com/support/software/cell-ranger/latest/analysis/outputs/cr-outputs-mex-matrices
    """
    from regulonformer.io.contents import Contents, feature_table

    barcodes = _read_table(_beside(path, "barcodes.tsv"))
    table = _read_table(_beside(path, "features.tsv", "genes.tsv"))
    columns = {"id": table[0], "name": table[min(1, table.shape[1] - 1)]}
    if table.shape[1] > 2:
        columns["type"] = table[2]
    if table.shape[1] >= 6:
        known = table[3] != ""
        columns["interval"] = (table[3] + ":" + table[4] + "-" + table[5]).where(known, "")
    return Contents("10x mtx", barcodes[0].tolist(), feature_table(**columns), [])


def read_mex_counts(path, contents):
    """Counts, barcodes x features, read in blocks: four bytes per entry besides the result's eight."""
    import numpy as np
    import pandas as pd
    from scipy import sparse

    from regulonformer.io.contents import as_counts, finish

    shape = (len(contents.barcodes), len(contents.features))
    with _open(path) as handle:
        n = _read_size(path, handle, shape)
        cells, features, counts = (np.empty(n, np.int32) for _ in range(3))
        sizes = np.zeros(shape[0], np.int64)  # entries per barcode
        end = 0
        types = {0: np.int64, 1: np.int64}
        blocks = pd.read_csv(handle, sep=r"\s+", header=None, dtype=types, chunksize=BLOCK) if n else ()
        for block in blocks:
            start, end = end, end + len(block)
            if end > n:
                break
            _check_places(path, block, shape)
            features[start:end], cells[start:end] = block[0] - 1, block[1] - 1
            counts[start:end] = as_counts(path, block[2].to_numpy())
            sizes += np.bincount(block[1] - 1, minlength=shape[0])
    if end != n:
        problem = f"announces {n} counts and holds {'more' if end > n else f'only {end}'}"
        raise InputError(path, problem, "The file is damaged: copy or write it again")
    if (cells[1:] < cells[:-1]).any():
        order = np.argsort(cells, kind="stable")
        features, counts = features[order], counts[order]
    del cells
    indptr = np.append(0, sizes.cumsum())
    return finish(path, sparse.csr_matrix((counts, features, indptr), shape=shape))


def _open(path):
    return gzip.open(path, "rb") if str(path).endswith(".gz") else open(path, "rb")


def _beside(path, *names: str) -> Path:
    """The file of one of these names, plain or gzip, in the folder of the matrix."""
    prefix = Path(path).name.partition("matrix.mtx")[0] if "matrix.mtx" in Path(path).name else ""
    wanted = [f"{prefix}{name}{suffix}" for name in names for suffix in (".gz", "")]
    for name in wanted:
        if Path(path).with_name(name).is_file():
            return Path(path).with_name(name)
    raise InputError(path, f"no {' or '.join(wanted[1::2])} beside it", "Keep the files of the matrix folder together")


def _read_table(path):
    """Tab-separated text as it is: no header, no quotes, no missing values."""
    import csv

    import pandas as pd

    try:
        return pd.read_csv(path, sep="\t", header=None, dtype=str, quoting=csv.QUOTE_NONE, na_filter=False)
    except pd.errors.EmptyDataError:
        return pd.DataFrame({0: pd.Series(dtype=str)})


def _read_size(path, handle, shape: tuple[int, int]) -> int:
    """Number of entries, from the lines before them; the file's size must be that of the names beside it."""
    banner = handle.readline().decode().lower().split()
    if banner[:3] != ["%%matrixmarket", "matrix", "coordinate"] or banner[3:] not in (
        ["integer", "general"],
        ["real", "general"],
    ):
        fix = "Its first line must be '%%MatrixMarket matrix coordinate integer general'"
        raise InputError(path, f"not a sparse matrix of counts (first line {' '.join(banner)[:80]!r})", fix)
    line = handle.readline()
    while line.startswith(b"%"):
        line = handle.readline()
    n_features, n_barcodes, n = map(int, line.split())
    if (n_barcodes, n_features) != shape:
        problem = (
            f"has {n_features} features and {n_barcodes} barcodes, but {shape[1]} and {shape[0]} are named beside it"
        )
        raise InputError(path, problem, "Keep the three files of one matrix together")
    if not 0 <= n <= n_features * n_barcodes:
        raise InputError(path, f"announces {n} counts", "The file is damaged: copy or write it again")
    return n


def _check_places(path, block, shape: tuple[int, int]) -> None:
    """Lines are feature, barcode, count; the first two count from 1."""
    if block.shape[1] != 3:
        raise InputError(path, f"has lines of {block.shape[1]} numbers", "Lines are feature, barcode, count")
    inside = block[0].between(1, shape[1]) & block[1].between(1, shape[0])
    if not inside.all():
        feature, barcode = block.loc[inside.idxmin(), [0, 1]].astype(int)
        problem = f"has a count for feature {feature} and barcode {barcode}, of {shape[1]} and {shape[0]}"
        raise InputError(path, problem, "The file is damaged: copy or write it again")
