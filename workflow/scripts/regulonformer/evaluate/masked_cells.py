"""Cells with part of their values hidden, as an objective hides them, taken apart for simple predictors."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch

from regulonformer.corpus.loader import stream
from regulonformer.corpus.sampler import length_sorted
from regulonformer.corpus.shards import Corpus


class Entries(NamedTuple):
    """Hidden entries of one modality: row of the cell, gene, count, and weight in the objective."""

    cell: np.ndarray
    gene: np.ndarray
    counts: np.ndarray
    weight: np.ndarray


@dataclass
class MaskedData:
    """Cells with part of their values hidden.

    Attributes
    ----------
    rows
        Row number of each cell in the corpus.
    visible
        Per modality the log-normalised values that are not hidden, cells x genes.
    hidden
        Per modality the hidden entries.
    library
        Total counts, cells x modalities.
    measured
        Which modalities a cell has at all, cells x modalities.
    """

    rows: np.ndarray
    visible: list[sp.csr_matrix]
    hidden: list[Entries]
    library: np.ndarray
    measured: np.ndarray

    def subset(self, chosen: np.ndarray) -> "MaskedData":
        """Some of the cells (bool per cell), in the same order."""
        number = np.cumsum(chosen) - 1
        kept = [chosen[entries.cell] for entries in self.hidden]
        hidden = [Entries(*(part[at] for part in e)) for e, at in zip(self.hidden, kept, strict=True)]
        hidden = [entries._replace(cell=number[entries.cell]) for entries in hidden]
        visible = [part[chosen] for part in self.visible]
        return MaskedData(self.rows[chosen], visible, hidden, self.library[chosen], self.measured[chosen])


def masked_batches(objective, corpus: Corpus, cells, batch_cells: int, place: tuple) -> Iterator:
    """Mask cells as the objective does, always in the same way; yields row numbers and prepared cells.

    Parameters
    ----------
    objective
        See `regulonformer.objectives`.
    corpus, cells
        Cells, and the row numbers of those wanted.
    batch_cells
        Cells per batch.
    place
        Seed and stream of the masks; those of the training's validation give the very entries of its curve.
    """
    lengths = corpus.cells["n_active"].to_numpy()[cells]
    for number, (rows, batch) in enumerate(stream(corpus, length_sorted(cells, lengths, batch_cells))):
        seed = int(np.random.default_rng([*place, number]).integers(2**31))
        yield rows, objective.prepare(batch, torch.Generator().manual_seed(seed))


def masked_data(batches, n_genes: int) -> MaskedData:
    """Take apart what is visible and what is hidden.

    Parameters
    ----------
    batches
        Row numbers and prepared cells of `masked_batches`.
    n_genes
        Genes N of the vocabulary.
    """
    rows, visible, hidden, library, measured, start = [], [[], []], [[], []], [], [], 0
    for numbers, prepared in batches:
        batch = prepared.batch
        genes_BT, library_B2 = batch.genes_BT.numpy(), batch.library_B2.double().numpy()
        for m, (values_BT, counts_BT) in enumerate(
            [(batch.rna_BT, batch.rna_counts_BT), (batch.atac_BT, batch.atac_counts_BT)]
        ):
            scored_BT = prepared.scored_BTM[..., m].numpy()
            cell, token = np.nonzero(scored_BT)
            weight = prepared.weight_BT.numpy()[cell, token]
            counts = counts_BT.numpy()[cell, token]
            hidden[m].append((cell + start, genes_BT[cell, token], counts, weight))
            # Hidden values are zero in the batch already; this does not rely on it.
            shown_BT = values_BT.double().numpy() * ~scored_BT * ~batch.pad_BT.numpy()
            cell, token = np.nonzero(shown_BT)
            part = (shown_BT[cell, token], (cell, genes_BT[cell, token]))
            visible[m].append(sp.csr_matrix(part, shape=(len(numbers), n_genes)))
        rows.append(numbers)
        library.append(library_B2)
        measured.append(~batch.missing_BM().numpy())
        start += len(numbers)
    return MaskedData(
        np.concatenate(rows),
        [sp.vstack(parts).tocsr() for parts in visible],
        [Entries(*map(np.concatenate, zip(*parts, strict=True))) for parts in hidden],
        np.concatenate(library),
        np.concatenate(measured),
    )
