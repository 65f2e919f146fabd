"""Put the libraries of a run into one matrix per modality, a block of cells at a time."""

import logging
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import sparse

from regulonformer.errors import InputError
from regulonformer.io.annotation import without_version
from regulonformer.io.rows import row_blocks


class Joined:
    """Libraries stacked to one matrix that is read in blocks; a feature that a library lacks is 0 there.

    Parameters
    ----------
    tables
        AnnData per library that has the modality, raw counts in csr; may be backed. There may be none.
    empty
        Features of a cohort in which no library has the modality.
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
        features, not_in_all_libraries, renamed and differing_ids (from `join_features`), removed_in_few_cells, kept.

    Raises
    ------
    InputError
        If no feature is left.
    """

    def __init__(self, tables: list, name: str, min_cells: int | None, empty: pd.DataFrame | None = None) -> None:
        self.tables = tables
        if not tables:
            self.obs_names, self._columns = pd.Index([], dtype=object), []
            self.var = pd.DataFrame(index=pd.Index([], dtype=object)) if empty is None else empty
            self.counts = {"features": len(self.var), "kept": len(self.var)}
            logging.warning("%s: no library has this modality", name)
            return
        self.obs_names = pd.Index([cell for table in tables for cell in table.obs_names])
        self.var, self._columns, self.counts = join_features([table.var for table in tables])
        n_cells = np.zeros(len(self.var), np.int64)
        for table, column in zip(tables, self._columns, strict=True):
            for block in row_blocks(table.X):
                n_cells[column] += np.bincount(block.indices[block.data > 0], minlength=table.n_vars)
        keep = n_cells >= (min_cells or 0)
        if not keep.any():
            problem = f"no feature is seen in {min_cells} cells"
            raise InputError("features", problem, "Lower features.min_cells_gene or _peak")
        self.var = self.var[keep]
        self._columns = [np.where(keep, keep.cumsum() - 1, -1)[column] for column in self._columns]
        self.counts |= {"removed_in_few_cells": int((~keep).sum()), "kept": int(keep.sum())}
        logging.info("%s: %d cells x %d features; %s", name, len(self.obs_names), len(self.var), self.counts)

    def blocks(self) -> Iterator[sparse.csr_matrix]:
        """Counts of the next cells x features (int32, columns in order), until all cells are done."""
        for table, column in zip(self.tables, self._columns, strict=True):
            known = np.flatnonzero(column >= 0)
            entries = (np.ones(len(known), np.int32), (known, column[known]))
            selection = sparse.csr_matrix(entries, shape=(table.n_vars, len(self.var)))
            for block in row_blocks(table.X):
                block = block.astype(np.int32) @ selection
                block.eliminate_zeros()
                block.sort_indices()
                yield block


def join_features(tables: list[pd.DataFrame]) -> tuple[pd.DataFrame, list[np.ndarray], dict]:
    """Find the features that libraries share: by stable id; by name, where one of the two has no id.

    Symbols change from annotation to annotation, and a symbol of several genes stands for any of them; ids do not.

    Parameters
    ----------
    tables
        Features per library, indexed by a unique name. Genes have gene_id, or the symbol once more in its place.

    Returns
    -------
    joined
        Features in order of first appearance, as first described; a name that is taken gets a suffix.
    columns
        Per library, the row of `joined` of each of its features; no two are the same.
    counts
        features; not_in_all_libraries; renamed: features that a later library has under another name; differing_ids:
        features kept apart from an earlier one of that name, which has another id.
    """
    from anndata.utils import make_index_unique

    every, columns, new_features = pd.concat(tables), [], []
    names, ids = np.array([], object), np.array([], object)
    renamed = differing = 0
    for var in tables:
        own_names, own_ids = var.index.to_numpy(object), _stable_ids(var)
        column, by_name = _first_rows(ids, own_ids), _first_rows(names, own_names)
        differs = (by_name >= 0) & (own_ids != "") & (np.append(ids, "")[by_name] != "")
        column = np.where((column < 0) & ~differs & ~np.isin(by_name, column), by_name, column)
        new, known = np.flatnonzero(column < 0), np.flatnonzero(column >= 0)
        renamed += int((names[column[known]] != own_names[known]).sum())
        differing += int(differs[new].sum())
        ids[column[known]] = np.where(own_ids[known] != "", own_ids[known], ids[column[known]])
        column[new] = len(names) + np.arange(len(new))
        names, ids = np.append(names, own_names[new]), np.append(ids, own_ids[new])
        new_features.append(sum(map(len, columns)) + new)
        columns.append(column)
    joined = every.iloc[np.concatenate(new_features)]
    joined.index = make_index_unique(joined.index)
    absent = int((np.bincount(np.concatenate(columns)) < len(tables)).sum())
    counts = {"features": len(joined), "not_in_all_libraries": absent, "renamed": renamed, "differing_ids": differing}
    return joined, columns, counts


def _stable_ids(var: pd.DataFrame) -> np.ndarray:
    """Ids without version; "" for features without one, or whose id an earlier feature has in another version."""
    if "gene_id" not in var:
        return np.full(len(var), "", object)
    ids, names = var["gene_id"].astype(str).to_numpy(object), var.index.to_numpy(object)
    stable = without_version(ids)
    return np.where((ids == names) | stable.duplicated(), "", stable.to_numpy(object))


def _first_rows(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where each wanted value comes first among the known ones; -1 for "" and values that are not there."""
    rows = np.flatnonzero((known != "") & ~pd.Series(known).duplicated().to_numpy())
    return np.append(rows, -1)[pd.Index(known[rows]).get_indexer(wanted)]
