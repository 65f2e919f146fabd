"""Gene tasks as files: genes, or pairs of genes, with a label."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from regulonformer.errors import InputError
from regulonformer.gene_names import GeneNames
from regulonformer.io.store import read_tsv
from regulonformer.prior.network import fit_to_genes, read_network

MIN_ROWS = 20  # of each label; fewer teach nothing
LAYOUT = "Give columns gene, label, or gene, partner, label (1 or 0), or a network of TFs and targets"


@dataclass(frozen=True)
class GeneTask:
    """Genes, or pairs of genes, with a label.

    Attributes
    ----------
    genes
        Rows x 1 or x 2: row numbers of the genes in the vocabulary.
    label
        True or false, per row. All are true where false pairs are still to be drawn.
    unknown
        Rows of the file that name a gene that is not measured.
    repeated
        Rows of the file that say once more what another one says.
    """

    genes: np.ndarray
    label: np.ndarray
    unknown: int = 0
    repeated: int = 0

    @property
    def draws_pairs(self) -> bool:
        """Whether false pairs are still to be drawn."""
        return self.genes.shape[1] == 2 and bool(self.label.all())

    @property
    def fewest(self) -> int:
        """Rows of the label that has fewer of them, or true pairs where false ones are still to be drawn."""
        true = int(self.label.sum())
        return true if self.draws_pairs else min(true, len(self.label) - true)


def read_task(path, names: GeneNames) -> GeneTask:
    """Read a gene task, or a network in any layout of `read_network`, whose edges are then the true pairs.

    Raises
    ------
    InputError
        If it has neither layout, labels other than 0 and 1, both for the same genes, or too few known genes.
    """
    table = read_tsv(path)
    if not {"gene", "label"} <= set(table.columns):
        edges = read_network(path, list("ABCDE"))[0]
        kept, counts = fit_to_genes(edges, names, path, False)
        genes = _rows_of(kept, ["source", "target"], names)
        lost = counts["network_targets_not_in_matrix"] + counts["network_edges_of_unmeasured_tfs"]
        return _checked(GeneTask(genes, np.ones(len(genes), bool), lost), path)
    if not table["label"].isin(["0", "1"]).all():
        raise InputError(path, "labels other than 0 and 1", LAYOUT)
    rows = _rows_of(table, [column for column in ("gene", "partner") if column in table], names)
    known = (rows >= 0).all(1)
    if rows.shape[1] == 2:
        known &= rows[:, 0] != rows[:, 1]
    labelled = np.column_stack([rows, table["label"] == "1"])[known]
    first = np.sort(np.unique(labelled, axis=0, return_index=True)[1])
    genes, label = labelled[first, :-1], labelled[first, -1].astype(bool)
    _, once, times = np.unique(genes, axis=0, return_index=True, return_counts=True)
    if (times > 1).any():
        example = " and ".join(names.symbols[row] for row in genes[once[times > 1][0]])
        problem = f"{(times > 1).sum()} genes or pairs have both labels, such as {example}"
        raise InputError(path, problem, "Keep one row of each")
    return _checked(GeneTask(genes, label, int((~known).sum()), len(labelled) - len(first)), path)


def _rows_of(table: pd.DataFrame, columns: list[str], names: GeneNames) -> np.ndarray:
    """Row numbers of the genes of some columns, -1 for an unknown name."""
    return np.stack([names.find(table[column])["row"].loc[table[column]].to_numpy() for column in columns], axis=1)


def _checked(task: GeneTask, path) -> GeneTask:
    """Refuse a task that has too few rows of a label."""
    if task.fewest < MIN_ROWS:
        problem = f"{task.fewest} measured genes or pairs of a label, {task.unknown} rows name genes not measured"
        raise InputError(path, problem, f"Give at least {MIN_ROWS} of each label, by symbols of this species")
    return task


def without_pairs(task: GeneTask, pairs: np.ndarray) -> GeneTask:
    """The task without some pairs, such as those of the model's prior (pairs x 2, either way round)."""
    taken = _codes(np.concatenate([pairs, pairs[:, ::-1]])) if len(pairs) else []
    kept = ~np.isin(_codes(task.genes), taken)
    return replace(task, genes=task.genes[kept], label=task.label[kept])


def _codes(pairs: np.ndarray) -> np.ndarray:
    return pairs[:, 0].astype(np.int64) * 2**31 + pairs[:, 1]
