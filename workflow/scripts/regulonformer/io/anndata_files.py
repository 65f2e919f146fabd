"""Counts in h5ad and h5mu files, whoever wrote them; names are read without the counts."""

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem
from scipy import sparse

from regulonformer.errors import InputError
from regulonformer.io.contents import GENES, PEAKS, Contents, feature_table, finish, stack

# Where the tools of the field keep what 10x calls id, name, type, genome and interval.
COLUMNS = {
    "id": ("gene_ids", "gene_id", "ensembl_id", "ensembl"),
    "name": ("feature_name", "gene_symbols", "gene_symbol", "gene_name"),
    "type": ("feature_types", "feature_type"),
    "genome": ("genome",),
    "interval": ("interval",),
}
TYPES = {"GEX": GENES, "ATAC": PEAKS}
MODALITIES = {"rna": GENES, "gex": GENES, "atac": PEAKS, "peaks": PEAKS}
COUNTED = {"": (GENES, PEAKS), "rna": (GENES,), "atac": (PEAKS,)}
PLACE = ("spatial_x", "spatial_y")
_STABLE_ID = r"ENS[A-Z]*G\d{6,}(\.\d+)?"
_INTERVAL = r".+[:_-]\d+[_-]\d+"


def read_h5ad_names(path) -> Contents:
    """Names in an h5ad file."""
    with h5py.File(path) as file:
        barcodes, features = _read_names(file)
    return Contents("h5ad", barcodes, features, [])


def read_h5ad_counts(path, contents: Contents, *, raw: bool = True, layer: str | None = None) -> sparse.csr_matrix:
    """Counts of an h5ad file: of a layer, or of layers["counts"] if there is one, else X; any values unless `raw`."""
    with h5py.File(path) as file:
        if layer and f"layers/{layer}" not in file:
            fix = "Give an h5ad with layers['spliced'] and layers['unspliced'], or set ingest/second_modality"
            raise InputError(path, f"has no layers[{layer!r}]", f"{fix}: accessibility")
        return _read_counts(path, file, raw, layer)


def read_h5mu_names(path, modality: str = "") -> Contents:
    """Names in an h5mu file: the barcodes that all modalities with genes or peaks share, in the order of the first.

    With a `modality`, "rna" or "atac", those of it alone: a cell need not be in the other one.
    """
    with h5py.File(path) as file:
        modalities = [_read_names(group, _modality_type(name)) for name, group in file["mod"].items()]
    chosen = [barcodes for barcodes, features in modalities if _is_counted(features, modality)]
    # A file without the modality that is asked for keeps its cells; that it lacks it is told by who reads the library.
    counted = chosen or [barcodes for barcodes, features in modalities if _is_counted(features)] or [[]]
    shared = set(counted[0]).intersection(*counted[1:])
    lost = len(set().union(*counted)) - len(shared)
    notes = [f"{lost} barcodes that lack a modality were left out"] if lost else []
    features = pd.concat([features for _, features in modalities], ignore_index=True)
    return Contents("h5mu", [name for name in counted[0] if name in shared], features, notes)


def read_h5mu_counts(path, contents: Contents, *, raw: bool = True) -> sparse.csr_matrix:
    """Counts (any values unless `raw`) of the modalities with genes or peaks, side by side; others stay empty."""
    blocks = []
    with h5py.File(path) as file:
        for name, group in file["mod"].items():
            barcodes, features = _read_names(group, _modality_type(name))
            if _is_counted(features):
                blocks.append((barcodes, _read_counts(path, group, raw)))
            else:
                blocks.append((barcodes, sparse.csr_matrix((len(barcodes), len(features)), dtype=np.int32)))
    return stack(path, blocks, contents.barcodes)


def read_cell_table(path, modality: str = "") -> pd.DataFrame | None:
    """Columns of `obs` as text, "" where a value is missing.

    In an h5mu the first table that has a column wins: that of all cells, then that of `modality` ("rna" or "atac"),
    which has all cells that take part. A column is never put together of several tables: they may not mean the same.

    Returns
    -------
    pandas.DataFrame or None
        By barcode; None where a file, of whatever layout, has no such table.
    """
    if not h5py.is_hdf5(path):
        return None
    with h5py.File(path) as file:
        modalities = list(file["mod"].items()) if "mod" in file else []
        if modality:
            modalities.sort(
                key=lambda item: not _is_counted(_read_names(item[1], _modality_type(item[0]))[1], modality)
            )
        groups = [file, *(group for _, group in modalities)]
        tables = [read_elem(group["obs"]) for group in groups if "obs" in group]
    if not tables:
        return None
    found = pd.DataFrame(index=tables[0].index.astype(str))
    for table in tables:
        # A barcode that is there twice is refused where counts are read.
        table = table[~table.index.duplicated()].set_axis(table.index[~table.index.duplicated()].astype(str))
        for name in [str(name) for name in table if str(name) not in found]:
            values = table[name].reindex(found.index).astype(object)
            found[name] = values.where(values.notna(), "").astype(str)
    return found


def read_places(path) -> pd.DataFrame | None:
    """Where the cells of a spatial data set lie: obsm["spatial"] of an h5ad or h5mu file.

    Returns
    -------
    pandas.DataFrame or None
        `PLACE` (first two coordinates, in the file's unit) by barcode; None where a file, of whatever layout, has none.

    Raises
    ------
    InputError
        If it has fewer than two columns or values that are not numbers.
    """
    if not h5py.is_hdf5(path):
        return None
    with h5py.File(path) as file:
        groups = [file, *(file["mod"].values() if "mod" in file else ())]
        group = next((group for group in groups if "obsm/spatial" in group), None)
        if group is None:
            return None
        places = np.asarray(read_elem(group["obsm/spatial"]))
        barcodes = _text(group["obs"][group["obs"].attrs["_index"]])
    if places.ndim != 2 or places.shape[1] < 2 or not np.issubdtype(places.dtype, np.number):
        problem = f'obsm["spatial"] is {places.dtype} of shape {places.shape}'
        raise InputError(path, problem, "Give numbers, cells x 2 coordinates")
    return pd.DataFrame(places[:, :2].astype(float), index=barcodes, columns=list(PLACE))


def _modality_type(name: str) -> str:
    return MODALITIES.get(name.lower(), name)


def _is_counted(features: pd.DataFrame, modality: str = "") -> bool:
    return features["type"].isin(COUNTED[modality]).any()


def _read_names(group: h5py.Group, default_type: str | None = None) -> tuple[list[str], pd.DataFrame]:
    """Barcodes and features of one AnnData."""
    obs, var = group["obs"], group["var"]
    index = _text(var[var.attrs["_index"]])
    present = {ours: next((key for key in keys if key in var), None) for ours, keys in COLUMNS.items()}
    columns = {ours: _text(var[key]) for ours, key in present.items() if key is not None}
    if "id" not in columns:
        columns["id"] = index if "name" in columns else index.where(index.str.fullmatch(_STABLE_ID), "")
    names = columns.get("name", index)
    columns["name"] = names.where(names != "", index)
    if default_type is None:
        default_type = PEAKS if len(index) and index.str.fullmatch(_INTERVAL).all() else GENES
    columns["type"] = columns["type"].replace(TYPES) if "type" in columns else default_type
    return _text(obs[obs.attrs["_index"]]).tolist(), feature_table(**columns)


def _text(element) -> pd.Series:
    """A column of a table as text; "" where a value is missing."""
    values = pd.Series(read_elem(element)).astype(object)
    return values.where(values.notna(), "").astype(str)


def _read_counts(path, group: h5py.Group, raw: bool, layer: str | None = None) -> sparse.csr_matrix:
    key = f"layers/{layer or 'counts'}"
    key = key if key in group else "X"
    if key not in group:
        raise InputError(path, "has neither X nor layers['counts']", "Write the raw counts to layers['counts']")
    matrix = read_elem(group[key])
    if sparse.issparse(matrix):
        matrix.check_format(full_check=True)  # before a conversion that trusts it
    return finish(path, sparse.csr_matrix(matrix), raw=raw)
