"""Put the libraries of a run into one matrix per modality, and place its genes on the genome."""

import logging

import numpy as np
import pandas as pd
from scipy import sparse

from regulonformer.errors import InputError
from regulonformer.io.annotation import tss_position


def concatenate(tables: list, name: str) -> tuple[object, dict]:
    """Stack libraries; a feature that a library lacks is 0 there.

    Parameters
    ----------
    tables
        AnnData per library, raw counts.
    name
        Modality, for the log.

    Returns
    -------
    anndata.AnnData
        csr int32 counts; features of the first library first, in its order, then what later ones add.
    dict
        Counts: features, features that not all libraries have, features whose id differs between libraries.
    """
    import anndata

    ids = pd.concat([table.var.get("gene_id", pd.Series(dtype=object)) for table in tables])
    differing = int((ids.groupby(level=0).nunique() > 1).sum()) if len(ids) else 0
    # Features in order of first appearance; anndata's outer join would sort them when they differ.
    features = pd.Index(list(dict.fromkeys(feature for table in tables for feature in table.var_names)), dtype=object)
    shared = tables[0].var_names
    for table in tables[1:]:
        shared = shared.intersection(table.var_names)
    merged = anndata.concat(tables, join="outer", merge="first", fill_value=0)[:, features].copy()
    merged.X = _csr(merged.X)
    first = pd.concat([table.var for table in tables])
    merged.var = first[~first.index.duplicated()].reindex(features)
    counts = {
        "features": len(features),
        "not_in_all_libraries": len(features) - len(shared),
        "differing_ids": differing,
    }
    logging.info("%s: %d cells x %d features; %s", name, merged.n_obs, merged.n_vars, counts)
    return merged, counts


def filter_features(table, min_cells: int | None) -> tuple[object, int]:
    """Leave out features seen in fewer than `min_cells` cells (None: none); the rest, and how many went.

    Raises
    ------
    InputError
        If no feature is left.
    """
    n_cells = np.asarray((table.X > 0).sum(axis=0)).ravel()
    keep = n_cells >= (min_cells or 0)
    if not keep.any():
        raise InputError(
            "features", f"no feature is seen in {min_cells} cells", "Lower features.min_cells_gene or _peak"
        )
    return table[:, keep].copy(), int((~keep).sum())


def place_genes(var: pd.DataFrame, genes: pd.DataFrame | None) -> pd.DataFrame:
    """Find each gene of a matrix in the annotation: by id without version first, then by symbol.

    Where several annotated genes have a symbol, protein-coding ones come first, then file order.

    Parameters
    ----------
    var
        Indexed by symbol, with gene_id.
    genes
        Table from `read_genes`; None places nothing.

    Returns
    -------
    pandas.DataFrame
        gene_id, symbol, chrom, tss, strand, start, end, annotation_id; chrom and annotation_id are "" and positions -1
        where the annotation lacks the gene.
    """
    own_id = var["gene_id"].astype(str).to_numpy() if "gene_id" in var else var.index.to_numpy(str)
    placed = pd.DataFrame({"gene_id": own_id, "symbol": var.index.astype(str)}, index=var.index)
    if genes is None or genes.empty:
        return placed.assign(chrom="", tss=-1, strand="", start=-1, end=-1, annotation_id="")
    ranked = genes.assign(tss=tss_position(genes), other=genes["gene_type"].ne("protein_coding"))
    ranked = ranked.sort_values("other", kind="stable", ignore_index=True)
    by_id = pd.Index(ranked["gene_id"]).get_indexer(pd.Series(own_id).str.replace(r"(?<=\d{6})\.\d+$", "", regex=True))
    symbols = ranked.drop_duplicates("symbol")
    by_symbol = pd.Index(symbols["symbol"]).get_indexer(placed["symbol"])
    row_of_symbol = np.append(symbols.index.to_numpy(), -1)[by_symbol]
    row = np.where(by_id >= 0, by_id, row_of_symbol)
    for column in ("chrom", "tss", "strand", "start", "end", "gene_id"):
        empty = -1 if column in ("tss", "start", "end") else ""
        values = ranked[column].to_numpy()[row]
        placed["annotation_id" if column == "gene_id" else column] = np.where(row >= 0, values, empty)
    return placed


def windows_to_genes(windows: pd.DataFrame, placed: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Give promoter windows to the genes of a matrix; windows of other genes are left out.

    Parameters
    ----------
    windows
        Table with gene_id, chrom, start, end.
    placed
        Genes of the matrix, from `place_genes`.

    Returns
    -------
    pandas.DataFrame
        Windows, one row per window and gene of the matrix.
    numpy.ndarray
        The gene (row of `placed`) of each.
    """
    known = pd.DataFrame({"gene_id": placed["annotation_id"].to_numpy(), "column": np.arange(len(placed))})
    pairs = windows.merge(known[known["gene_id"] != ""], on="gene_id")
    return pairs.drop(columns="column"), pairs["column"].to_numpy(np.int64)


def _csr(matrix) -> sparse.csr_matrix:
    """Make a matrix csr int32 with sorted columns."""
    matrix = sparse.csr_matrix(matrix).astype(np.int32)
    matrix.sort_indices()
    return matrix
