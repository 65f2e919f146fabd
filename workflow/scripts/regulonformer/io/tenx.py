"""Read 10x feature-barcode matrices (HDF5) into one table per modality."""

import logging
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from regulonformer.errors import InputError
from regulonformer.io.peaks import normalise_names, parse_names

GENES, PEAKS = "Gene Expression", "Peaks"


class TenxMatrix(NamedTuple):
    """Counts of one library, split by modality; both tables have the same barcodes in the same order.

    Attributes
    ----------
    rna
        AnnData, barcodes x genes, csr int32 counts; var index = unique symbol; var: gene_id and, where the file has
        gene intervals, chrom, start, end.
    atac
        AnnData, barcodes x peaks, csr int32 counts; var index "chr-start-end"; var: chrom, start, end.
        None where the file has no peaks.
    notes
        What was renamed or left out, in words.
    """

    rna: object
    atac: object | None
    notes: list[str]


def read_10x(path) -> TenxMatrix:
    """Read a 10x HDF5 matrix, splitting it by feature type.

    Features may come in any order: only the column `feature_type` decides what is a gene and what is a peak.

    Parameters
    ----------
    path
        `filtered_feature_bc_matrix.h5` as Cell Ranger or Cell Ranger ARC writes it.

    Raises
    ------
    InputError
        If the file is no 10x matrix, has no genes, repeats a barcode, or holds counts that are not whole numbers.

    References
    ----------
    https://www.10xgenomics.com/support/software/cell-ranger/latest/analysis/outputs/cr-outputs-h5-matrices
    """
    data = _read_h5(path)
    if not data.obs_names.is_unique:
        twice = data.obs_names[data.obs_names.duplicated()][0]
        raise InputError(path, f"barcode {twice!r} occurs more than once", "Give the matrix of one library per row")
    data.X = _counts(path, data.X)
    types = data.var["feature_types"].astype(str) if "feature_types" in data.var else pd.Series(GENES, data.var_names)
    notes = [f"{n} features of type {kind!r} were left out" for kind, n in _other_types(types)]
    is_gene, is_peak = (types == GENES).to_numpy(), (types == PEAKS).to_numpy()
    if not is_gene.any():
        raise InputError(path, "no feature of type 'Gene Expression'", "Give the matrix with both modalities")
    rna, renamed = _genes(data[:, is_gene])
    if renamed:
        notes.append(f"{renamed} repeated gene symbols were made unique with a suffix")
    atac = _peaks(path, data[:, is_peak]) if is_peak.any() else None
    logging.info("%s: %d barcodes, %d genes, %d peaks", path, data.n_obs, is_gene.sum(), is_peak.sum())
    for note in notes:
        logging.info("%s: %s", path, note)
    return TenxMatrix(rna, atac, notes)


def cell_ids(sample: str, barcodes) -> pd.Index:
    """Cell ids that are unique over libraries: the barcode, prefixed with its sample unless it already is."""
    prefix = f"{sample}_"
    return pd.Index([name if name.startswith(prefix) else prefix + name for name in map(str, barcodes)], dtype=object)


def _read_h5(path):
    """Read with scanpy, turning its many errors into one."""
    import warnings

    import scanpy as sc

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Variable names are not unique")
            warnings.filterwarnings("ignore", message="Observation names are not unique")
            return sc.read_10x_h5(path, gex_only=False)
    except FileNotFoundError:
        raise InputError(path, "file not found", "Check the path in the sample sheet") from None
    except Exception as error:  # h5py, scanpy and anndata raise a dozen kinds for a damaged file
        problem = (
            f"not a readable 10x HDF5 matrix ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        )
        raise InputError(path, problem, "Give filtered_feature_bc_matrix.h5 of Cell Ranger ARC") from error


def _counts(path, matrix) -> sparse.csr_matrix:
    """Make counts csr int32 with sorted columns."""
    matrix = sparse.csr_matrix(matrix)
    counts = matrix.astype(np.int32)
    if (counts.data != matrix.data).any() or (counts.data < 0).any():
        raise InputError(path, "holds values that are not counts", "Give raw counts, not normalised values")
    counts.eliminate_zeros()
    counts.sort_indices()
    return counts


def _other_types(types: pd.Series) -> list[tuple[str, int]]:
    counts = types[~types.isin([GENES, PEAKS])].value_counts().sort_index()
    return list(counts.items())


def _genes(view):
    """RNA table with unique symbols, and how many symbols were renamed."""
    import anndata

    var = pd.DataFrame({"gene_id": view.var["gene_ids"].astype(str).to_numpy()}, index=view.var_names.astype(str))
    if "interval" in view.var:
        # Cell Ranger ARC gives each gene's interval; an empty string where it knows none.
        place = parse_names(normalise_names(view.var["interval"].astype(str)), strict=False)
        if (place["chrom"] != "").any():
            var[["chrom", "start", "end"]] = place.to_numpy()
            var[["start", "end"]] = var[["start", "end"]].astype(np.int64)
    rna = anndata.AnnData(view.X.copy(), obs=pd.DataFrame(index=view.obs_names.copy()), var=var)
    renamed = int(rna.var_names.duplicated().sum())
    rna.var_names_make_unique()
    return rna, renamed


def _peaks(path, view):
    """ATAC table with peaks named "chr-start-end"."""
    import anndata

    names = normalise_names(view.var_names.astype(str))
    var = parse_names(names, where=path)
    var.index = pd.Index(names, dtype=object)
    if not var.index.is_unique:
        twice = var.index[var.index.duplicated()][0]
        raise InputError(path, f"peak {twice!r} occurs more than once", "Remove the repeated peaks from the matrix")
    return anndata.AnnData(view.X.copy(), obs=pd.DataFrame(index=view.obs_names.copy()), var=var)
