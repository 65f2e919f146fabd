"""Find the genes of a matrix in the annotation: place, stable id and promoters."""

import numpy as np
import pandas as pd

from regulonformer.gene_names import ALIAS, CASE, ID, SYMBOL, UNKNOWN, GeneNames
from regulonformer.io.annotation import tss_position, without_version

TAKEN = "its gene is another feature already"
EMPTY = {"chrom": "", "tss": -1, "strand": "", "start": -1, "end": -1, "annotation_id": ""}


def place_genes(var: pd.DataFrame, genes: pd.DataFrame | None, aliases: pd.DataFrame | None = None) -> pd.DataFrame:
    """Find each gene of a matrix in the annotation: by stable id, then by symbol, alias, or symbol without its case.

    Where several annotated genes have a symbol, protein-coding ones come first, then file order. Each annotated gene
    goes to one feature, the one with the surest match.

    Parameters
    ----------
    var
        Indexed by symbol, with gene_id.
    genes
        Table of genes from `read_annotation`; None places nothing.
    aliases
        Table with alias and symbol, or None.

    Returns
    -------
    pandas.DataFrame
        gene_id, symbol, chrom, tss, strand, start, end, annotation_id; chrom and annotation_id are "" and positions -1
        where the annotation lacks the gene. match: `id`, `symbol`, `alias`, `case`, or why there is none. stable_id:
        the annotation's id or, where it has none, the matrix's own without version.
    """
    own_id = var["gene_id"].astype(str).to_numpy() if "gene_id" in var else var.index.to_numpy(str)
    placed = pd.DataFrame({"gene_id": own_id, "symbol": var.index.astype(str)}, index=var.index)
    # A matrix without ids repeats the symbol there, in which a dot is no version.
    stable_id = np.where(own_id == placed["symbol"], own_id, without_version(own_id))
    if genes is None or genes.empty:
        return placed.assign(**EMPTY, match=UNKNOWN, stable_id=stable_id)
    ranked = genes.assign(tss=tss_position(genes), other=genes["gene_type"].ne("protein_coding"))
    ranked = ranked.sort_values("other", kind="stable", ignore_index=True).rename(columns={"gene_id": "annotation_id"})
    row, match = surest_genes(placed, GeneNames(ranked["symbol"], ranked["annotation_id"], aliases))
    for column, empty in EMPTY.items():
        placed[column] = np.where(row >= 0, ranked[column].to_numpy()[row], empty)
    has_id = (row >= 0) & (ranked["annotation_id"] != ranked["symbol"]).to_numpy()[row]
    return placed.assign(match=match, stable_id=np.where(has_id, placed["annotation_id"], stable_id))


def surest_genes(features: pd.DataFrame, names: GeneNames) -> tuple[np.ndarray, np.ndarray]:
    """Find the gene of every feature: by id and by symbol, whichever is surer; no gene is given twice.

    Parameters
    ----------
    features
        Table with gene_id and symbol.
    names
        The genes that may be found.

    Returns
    -------
    tuple of numpy.ndarray
        Gene (row, -1 for none) of every feature, and how it was found or why not.
    """
    by_id = names.find(features["gene_id"]).loc[features["gene_id"]].reset_index(drop=True)
    by_symbol = names.find(features["symbol"]).loc[features["symbol"]].reset_index(drop=True)
    best = by_id.where(by_id["how"] == ID, by_symbol)
    row, match = best["row"].to_numpy(np.int64).copy(), best["how"].to_numpy(object).copy()
    # Sorting by how sure a match is makes the surest one the first, which stays.
    found = np.flatnonzero(row >= 0)
    sureness = pd.Series(match[found]).map({ID: 0, SYMBOL: 1, ALIAS: 2, CASE: 3}).to_numpy()
    found = found[np.argsort(sureness, kind="stable")]
    again = found[pd.Series(row[found]).duplicated().to_numpy()]
    row[again], match[again] = -1, TAKEN
    return row, match


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
