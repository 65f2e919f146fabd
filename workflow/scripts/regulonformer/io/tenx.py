"""10x feature-barcode matrices in HDF5, as Cell Ranger and Cell Ranger ARC write them (v3) or once did (v2)."""

import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from regulonformer.errors import InputError
from regulonformer.io.contents import Contents, feature_table, finish, stack


def v2_genomes(file: h5py.File) -> list[str]:
    """Genomes of a v2 file, which has a group for each; empty for any other file."""
    return [name for name, group in file.items() if isinstance(group, h5py.Group) and "gene_names" in group]


def read_v3_names(path) -> Contents:
    """Names in a v3 file: one group `matrix`, features of all types and genomes in it.

    References
    ----------
    https://www.10xgenomics.com/support/software/cell-ranger/latest/analysis/outputs/cr-outputs-h5-matrices
    """
    with h5py.File(path) as file:
        matrix = file["matrix"]
        columns = {key: _text(matrix["features"][key]) for key in ("id", "name", "feature_type")}
        columns["type"] = columns.pop("feature_type")
        optional = {key: _text(matrix["features"][key]) for key in ("genome", "interval") if key in matrix["features"]}
        features = feature_table(**columns, **optional)
        barcodes = _text(matrix["barcodes"])
        _check_shape(path, matrix, features, barcodes)
    return Contents("10x h5 v3", barcodes, features, [])


def read_v3_counts(path, contents: Contents) -> sparse.csr_matrix:
    """Counts of a v3 file, barcodes x features."""
    with h5py.File(path) as file:
        return _read_group(path, file["matrix"], (len(contents.barcodes), len(contents.features)))


def read_v2_names(path) -> Contents:
    """Names in a v2 file (Cell Ranger before 3.0, RNA only): a group per genome, each with barcodes of its own."""
    features, barcodes = [], []
    with h5py.File(path) as file:
        for genome in v2_genomes(file):
            group = file[genome]
            features.append(feature_table(id=_text(group["genes"]), name=_text(group["gene_names"]), genome=genome))
            barcodes.append(_text(group["barcodes"]))
            _check_shape(path, group, features[-1], barcodes[-1])
    if len(barcodes) > 1:  # a barcode that is a cell in two genomes is one barcode
        barcodes = [list(dict.fromkeys(name for names in barcodes for name in names))]
    return Contents("10x h5 v2", barcodes[0], pd.concat(features, ignore_index=True), [])


def read_v2_counts(path, contents: Contents) -> sparse.csr_matrix:
    """Counts of all genomes of a v2 file, barcodes x genes."""
    with h5py.File(path) as file:
        groups = [(_text(file[genome]["barcodes"]), file[genome]) for genome in v2_genomes(file)]
        blocks = [(names, _read_group(path, group, (len(names), len(group["genes"])))) for names, group in groups]
    return stack(path, blocks, contents.barcodes) if len(blocks) > 1 else blocks[0][1]


def _text(dataset: h5py.Dataset) -> list[str]:
    return dataset.asstr("utf-8")[:].tolist()


def _check_shape(path, group: h5py.Group, features: pd.DataFrame, barcodes: list[str]) -> None:
    shape = tuple(group["shape"][:].tolist())
    if shape != (len(features), len(barcodes)):
        problem = f"says it has {shape} features and barcodes, but names {(len(features), len(barcodes))}"
        raise InputError(path, problem, "The file is damaged: copy or write it again")


def _read_group(path, group: h5py.Group, shape: tuple[int, int]) -> sparse.csr_matrix:
    """Features x barcodes by column is barcodes x features by row: the arrays are the same."""
    indptr = group["indptr"][:]
    # Before anything large is read: a damaged size must not fill the memory.
    if not len(indptr) == shape[0] + 1 or not indptr[-1] == len(group["data"]) == len(group["indices"]):
        raise InputError(path, "counts and barcodes differ in number", "The file is damaged: copy or write it again")
    index = np.int32 if indptr[-1] < np.iinfo(np.int32).max else np.int64
    indices = group["indices"].astype(index)[:]
    return finish(path, sparse.csr_matrix((group["data"][:], indices, indptr.astype(index)), shape=shape))
