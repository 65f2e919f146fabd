"""MuData of modalities, each of which holds the cells that it was measured in."""

import warnings

from regulonformer.io.rows import read_rows
from regulonformer.io.store import write_mudata

# gzip, because h5py's lzf gives other bytes each time; chunks that hold the counts of some dozen cells.
STORAGE = {"compression": "gzip", "compression_opts": 1}
BLOCK_STORAGE = STORAGE | {"chunks": (2**16,)}


def make_mudata(tables: dict, obs):
    """Put modalities under one cell table.

    Parameters
    ----------
    tables
        Modality -> AnnData of the cells that have it.
    obs
        Cell table of the whole, not copied to the modalities. Its cells come in the order of the first modality, then
        what the others add.

    Returns
    -------
    mudata.MuData
    """
    import mudata

    with mudata.set_options(pull_on_update=False), warnings.catch_warnings():
        # `rna` and `accessibility` share their gene names on purpose.
        warnings.simplefilter("ignore")
        data = mudata.MuData(tables)
    data.obs = obs.loc[data.obs_names].rename_axis(None)
    return data


def counts_of(data, modality: str, cells):
    """Counts of cells in one modality; cells that were not measured in it have an empty row.

    Parameters
    ----------
    data
        MuData, its matrices on disk or in memory.
    modality
        Name of the modality.
    cells
        Names of cells.

    Returns
    -------
    scipy.sparse.csr_matrix or None
        Cells x features; None where the data do not have the modality, or none of the cells does.
    """
    if modality not in data.mod:
        return None
    rows = data[modality].obs_names.get_indexer(cells)
    return read_rows(data[modality].X, rows) if (rows >= 0).any() else None


def paired_cells(data):
    """Names of the cells with both RNA and ATAC, in the order of the whole."""
    both = [data.obs_names.isin(data[name].obs_names) if name in data.mod else False for name in ("rna", "atac")]
    return data.obs_names[both[0] & both[1]]


def take_cells(table, keep, ids):
    """Copy the cells of one modality for which `keep` is true, under their cell ids (one for every row of `table`)."""
    kept = table[keep].copy()
    kept.obs_names = ids[keep]
    return kept


def write_in_blocks(path, obs, tables: dict, blocks) -> None:
    """Write an h5mu file whose counts never lie in memory as a whole.

    Parameters
    ----------
    path
        File to write; muon reads it like any other.
    obs
        Cell table of the whole.
    tables
        Modality -> AnnData without X.
    blocks
        Iterable of dict, modality -> counts (csr, int32) of the next cells of it.
    """
    import h5py
    import numpy as np
    from anndata.io import sparse_dataset, write_elem
    from scipy import sparse

    write_mudata(make_mudata(tables, obs), path)
    with h5py.File(path, "r+") as file:
        for name, table in tables.items():
            empty = sparse.csr_matrix((0, table.n_vars), dtype=np.int32)
            empty.indptr = empty.indptr.astype(np.int64)  # room for more than 2^31 counts
            write_elem(file[f"mod/{name}"], "X", empty, dataset_kwargs=BLOCK_STORAGE)
        for block in blocks:
            for name, counts in block.items():
                sparse_dataset(file[f"mod/{name}/X"]).append(counts)


def add_elements(path, modality: str | None, **elements) -> None:
    """Write further elements of one modality (such as obsm or var), or of the whole (None), into an h5mu file."""
    import h5py
    from anndata.io import write_elem

    with h5py.File(path, "r+") as file:
        for name, element in elements.items():
            write_elem(file[f"mod/{modality}"] if modality else file, name, element, dataset_kwargs=STORAGE)
