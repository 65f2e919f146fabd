"""Cells of a user's own MuData or AnnData as model input."""

import logging
from collections.abc import Iterator

import numpy as np
import pandas as pd
import scipy.sparse as sp

from regulonformer.corpus.encoding import encode
from regulonformer.corpus.sampler import length_sorted
from regulonformer.errors import InputError
from regulonformer.gene_names import ID, SYMBOL, GeneNames
from regulonformer.io.peaks import normalise_names, parse_names
from regulonformer.io.rows import BLOCK_CELLS, read_rows
from regulonformer.matrices.accessibility import promoter_peaks
from regulonformer.matrices.genes import surest_genes
from regulonformer.model.batch import CellBatch
from regulonformer.pretrained import Pretrained

# Below this share of the model's genes, data are of another species or name genes in another way.
SMALLEST_SHARE = 0.5
# The layer in which raw counts are kept by custom while X is normalised.
COUNTS_LAYER = "counts"
ID_COLUMNS = ("stable_id", "gene_id", "gene_ids")


class Query:
    """Cells of a MuData or AnnData in terms of the genes of a model; counts are read in blocks.

    Counts are taken from the layer `counts` of a modality, else from its X. Genes are matched by id (columns stable_id,
    gene_id or gene_ids, or the names themselves), else by symbol. Accessibility of a gene is the sum of the peaks of
    `atac` that lie in the model's elements; without peaks, `accessibility` is taken as counts per gene.

    Genes that are no feature of `rna` or `accessibility` were not measured and are no token. A gene none of whose
    elements has a peak in `atac` stays, as a zero: peaks are called where the genome is open, so that none there says
    closed, although peaks that were called on other cells and carried over cannot tell it from unknown.

    Parameters
    ----------
    data
        MuData, or AnnData of RNA.
    pretrained
        Model.

    Attributes
    ----------
    obs
        Table of the cells.
    tokens
        Genes of the model that every modality given per gene has, in order.

    Raises
    ------
    InputError
        If there is nothing to read, or too little of it is known to the model.
    """

    def __init__(self, data, pretrained: Pretrained) -> None:
        tables = dict(data.mod) if hasattr(data, "mod") else {"rna": data}
        if not {"rna", "atac", "accessibility"} & set(tables):
            problem = f"no modality rna, atac or accessibility, but {', '.join(tables) or 'none'}"
            raise InputError("MuData", problem, "Name the modalities so")
        self.obs = data.obs
        self.rna = _rna(tables, pretrained.vocabulary)
        self.atac = _atac(tables, pretrained.vocabulary, pretrained.elements)
        self.tokens = _measured_by_all([self.rna, self.atac])

    def n_batches(self, batch_cells: int) -> int:
        """Number of batches that `batches` yields."""
        return sum(-(-len(block) // batch_cells) for block in self._blocks())

    def batches(self, batch_cells: int, panel_share=(1.0, 1.0)) -> Iterator[tuple[np.ndarray, CellBatch]]:
        """Encode all cells, those of similar length together.

        Parameters
        ----------
        batch_cells
            Cells per batch.
        panel_share
            Share of all counts that falls on the model's genes, per modality, if the model was cut to a panel: a
            cell's total is divided by it, so that values mean what they meant in training.

        Yields
        ------
        tuple of numpy.ndarray and CellBatch
            Row numbers in `obs`, and the cells.
        """
        for block in self._blocks():
            cells = self.obs.index[block]
            rna, atac = (part.counts(cells)[:, self.tokens] for part in (self.rna, self.atac))
            missing = np.column_stack([self.rna.lacks(cells), self.atac.lacks(cells)])
            library = np.asarray(np.column_stack([rna.sum(axis=1), atac.sum(axis=1)])) / panel_share
            n_active = ((rna != 0) + (atac != 0)).getnnz(axis=1)
            for rows in length_sorted(np.arange(len(block)), n_active, batch_cells):
                yield block[rows], encode(rna[rows], atac[rows], library[rows], missing[rows])

    def _blocks(self) -> list[np.ndarray]:
        """Row numbers of the cells that are read together."""
        return np.split(np.arange(len(self.obs)), range(BLOCK_CELLS, len(self.obs), BLOCK_CELLS))


def genes_of_features(var: pd.DataFrame, vocabulary: pd.DataFrame, where: str) -> sp.csr_matrix:
    """Match features to genes by id, else by symbol; returns features x genes, 0 or 1, at most one per row and column.

    Parameters
    ----------
    var
        Table of features, by name.
    vocabulary
        Token list.
    where
        Modality, for messages.

    Raises
    ------
    InputError
        If less than half of the genes are found.
    """
    ids = next((var[column] for column in ID_COLUMNS if column in var), var.index)
    features = pd.DataFrame({"gene_id": np.asarray(ids, dtype=str), "symbol": np.asarray(var.index, dtype=str)})
    gene, how = surest_genes(features, GeneNames(vocabulary["symbol"], vocabulary["gene_id"]))
    # Spelling without regard to case would take one species for another.
    used = np.flatnonzero(np.isin(how, [ID, SYMBOL]))
    by_id = int((how[used] == ID).sum())
    found = f"{len(used)} of the model's {len(vocabulary)} genes found ({by_id} by id, {len(used) - by_id} by symbol)"
    logging.info("%s: %s; %d features are no gene of the model", where, found, len(var) - len(used))
    if len(used) < SMALLEST_SHARE * len(vocabulary):
        fix = "Check species and gene names; for data of a smaller panel use cut_panel first"
        raise InputError(f"{where}.var", found, fix)
    return sp.csr_matrix((np.ones(len(used), np.int32), (used, gene[used])), shape=(len(var), len(vocabulary)))


def genes_of_peaks(names, elements: pd.DataFrame, vocabulary: pd.DataFrame) -> sp.csr_matrix:
    """Give peaks to the genes whose elements they share a base with; returns peaks x genes, 0 or 1.

    Parameters
    ----------
    names
        Names of the peaks, chr:start-end or chr-start-end.
    elements
        chrom, start, end, symbol.
    vocabulary
        Token list.

    Raises
    ------
    InputError
        If less than half of the genes that have elements get a peak.
    """
    peaks = parse_names(normalise_names(names), where="atac.var_names")
    token = pd.Series(vocabulary["token"].to_numpy(), index=vocabulary["symbol"])
    gene = elements["symbol"].map(token).to_numpy(np.int64)
    members = promoter_peaks(peaks, elements, gene, len(vocabulary))
    reached, possible = np.count_nonzero(members.getnnz(axis=0)), len(np.unique(gene))
    found = f"{reached} of the {possible} genes with elements have a peak"
    logging.info("atac: %s", found)
    if reached < SMALLEST_SHARE * possible:
        raise InputError("atac.var", found, "Check that peaks and model are of the same genome assembly")
    return members


class _Counts:
    """Raw counts of one modality, summed to genes of the model as they are read.

    Parameters
    ----------
    table
        AnnData.
    name
        Name of the modality.
    to_genes
        Features x genes, 0 or 1.
    per_gene
        Features are genes, so that a gene without a feature was not measured.

    Raises
    ------
    InputError
        If there are no counts, or cells share a name.
    """

    def __init__(self, table, name: str, to_genes: sp.csr_matrix, per_gene: bool) -> None:
        layer = COUNTS_LAYER in table.layers
        self.matrix = table.layers[COUNTS_LAYER] if layer else table.X
        self.where = f"{name}.layers[{COUNTS_LAYER!r}]" if layer else f"{name}.X"
        self.name, self.cells, self.to_genes = name, table.obs_names, to_genes
        self.measured = to_genes.getnnz(axis=0) > 0 if per_gene else np.ones(to_genes.shape[1], dtype=bool)
        if self.matrix is None:
            raise InputError(self.where, "there are no counts", f"Put them into X or into the layer {COUNTS_LAYER!r}")
        if not self.cells.is_unique:
            twice = self.cells[self.cells.duplicated()][0]
            raise InputError(f"{name}.obs_names", f"{twice!r} is there twice", "Call obs_names_make_unique()")

    def lacks(self, cells) -> np.ndarray:
        """Which cells were not measured."""
        return self.cells.get_indexer(cells) < 0

    def counts(self, cells) -> sp.csr_matrix:
        """Counts of some cells, cells x genes (int32); a cell that was not measured has none.

        Raises
        ------
        InputError
            If a value is no count.
        """
        block = read_rows(self.matrix, self.cells.get_indexer(cells))
        wrong = ~((block.data >= 0) & (block.data == np.floor(block.data)))
        if wrong.any():
            fix = f"Put raw integer counts into X or into the layer {COUNTS_LAYER!r}"
            raise InputError(self.where, f"the value {block.data[wrong][0]:.4g} is no count", fix)
        return sp.csr_matrix(block.astype(np.int32) @ self.to_genes)


def _measured_by_all(parts: list[_Counts]) -> np.ndarray:
    """Tokens of the genes that all modalities measured."""
    measured = np.logical_and.reduce([part.measured for part in parts])
    n_left, n_genes = np.count_nonzero(measured), len(measured)
    if n_left < n_genes:
        counts = ", ".join(f"{part.name} has {np.count_nonzero(part.measured)}" for part in parts)
        found = f"{n_left} of the model's {n_genes} genes were measured in every modality ({counts})"
        logging.info("%s; the others are cut", found)
        if n_left < SMALLEST_SHARE * n_genes:
            raise InputError("MuData", found, "Leave out a modality, or use cut_panel with the genes of both first")
    return np.flatnonzero(measured)


def _rna(tables: dict, vocabulary: pd.DataFrame) -> _Counts:
    return _per_gene(tables, "rna", vocabulary) if "rna" in tables else _none("rna", len(vocabulary))


def _atac(tables: dict, vocabulary: pd.DataFrame, elements: pd.DataFrame | None) -> _Counts:
    if "atac" in tables and elements is not None:
        to_genes = genes_of_peaks(tables["atac"].var_names, elements, vocabulary)
        return _Counts(tables["atac"], "atac", to_genes, per_gene=False)
    if "accessibility" in tables:
        return _per_gene(tables, "accessibility", vocabulary)
    if "atac" in tables:
        fix = "Add the modality `accessibility`, counts per gene, or leave out `atac`"
        raise InputError("atac", "the model was saved without the elements that peaks are assigned by", fix)
    return _none("accessibility", len(vocabulary))


def _per_gene(tables: dict, name: str, vocabulary: pd.DataFrame) -> _Counts:
    return _Counts(tables[name], name, genes_of_features(tables[name].var, vocabulary, name), per_gene=True)


def _none(name: str, n_genes: int) -> _Counts:
    """A modality that no cell has; it lacks cells, not genes."""
    import anndata

    logging.info("no %s in the data: it is missing for all cells", name)
    empty = anndata.AnnData(sp.csr_matrix((0, 0), dtype=np.int32))
    return _Counts(empty, name, sp.csr_matrix((0, n_genes), dtype=np.int32), per_gene=False)
