"""Put the libraries of a run into one matrix per modality, a block of cells at a time."""

import logging
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import sparse

from regulonformer.errors import InputError
from regulonformer.io.rows import row_blocks


class Joined:
    """Libraries stacked to one matrix that is read in blocks; a feature that a library lacks is 0 there.

    Parameters
    ----------
    tables
        AnnData per library, raw counts in csr; may be backed.
    name
        Modality, for the log.
    min_cells
        Features seen in fewer cells are left out; None: none.

    Attributes
    ----------
    obs_names
        Cells of all libraries.
    var
        Features of the first library first, in its order, then what later ones add.
    counts
        features, not_in_all_libraries (features), differing_ids (features whose id differs between libraries),
        removed_in_few_cells, kept.

    Raises
    ------
    InputError
        If no feature is left.
    """

    def __init__(self, tables: list, name: str, min_cells: int | None) -> None:
        self.tables = tables
        self.obs_names = pd.Index([cell for table in tables for cell in table.obs_names])
        self.var, self.counts = join_features([table.var for table in tables])
        n_cells = np.zeros(len(self.var), np.int64)
        for table in tables:
            place = self.var.index.get_indexer(table.var_names)
            for block in row_blocks(table.X):
                n_cells[place] += np.bincount(block.indices[block.data > 0], minlength=table.n_vars)
        keep = n_cells >= (min_cells or 0)
        if not keep.any():
            problem = f"no feature is seen in {min_cells} cells"
            raise InputError("features", problem, "Lower features.min_cells_gene or _peak")
        self.var = self.var[keep]
        self.counts |= {"removed_in_few_cells": int((~keep).sum()), "kept": int(keep.sum())}
        logging.info("%s: %d cells x %d features; %s", name, len(self.obs_names), len(self.var), self.counts)

    def blocks(self) -> Iterator[sparse.csr_matrix]:
        """Counts of the next cells x features (int32, columns in order), until all cells are done."""
        for table in self.tables:
            column = self.var.index.get_indexer(table.var_names)
            known = np.flatnonzero(column >= 0)
            entries = (np.ones(len(known), np.int32), (known, column[known]))
            selection = sparse.csr_matrix(entries, shape=(table.n_vars, len(self.var)))
            for block in row_blocks(table.X):
                block = block.astype(np.int32) @ selection
                block.eliminate_zeros()
                block.sort_indices()
                yield block


def join_features(tables: list[pd.DataFrame]) -> tuple[pd.DataFrame, dict]:
    """Features of all libraries in order of first appearance, as first described; and how far libraries agree."""
    ids = pd.concat([var.get("gene_id", pd.Series(dtype=object)) for var in tables])
    differing = int((ids.groupby(level=0).nunique() > 1).sum()) if len(ids) else 0
    every = pd.concat(tables)
    libraries = every.index.value_counts()
    joined = every[~every.index.duplicated()]
    absent = int((libraries < len(tables)).sum())
    return joined, {"features": len(joined), "not_in_all_libraries": absent, "differing_ids": differing}
