"""Vectors of genes: of the model's table, of its regulons, and what it makes of each gene in every cell state."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch

from regulonformer.log import progress
from regulonformer.model.batch import CellBatch

STATIC, REGULON, CONTEXTUAL = "static", "regulon", "contextual"
FIXED = ("gene", "kind", "state", "n_cells")


@torch.no_grad()
def contextual_vectors(
    model, batches: Iterable[tuple[np.ndarray, CellBatch]], n_batches: int, state_of_cell: np.ndarray, n_states: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean state of each gene's token over the cells of each state in which the gene is active.

    Parameters
    ----------
    model
        Encoder.
    batches
        Row numbers of the cells, and the cells.
    n_batches
        How many there are.
    state_of_cell
        Code of each cell's state, by row number; -1 for cells that are left out.
    n_states
        Number of states.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        States x N x D, zero for a gene that is active in no cell of the state; and the number of cells, states x N.
    """
    sums = torch.zeros(n_states * model.n_genes, model.config.width)
    times = torch.zeros(n_states * model.n_genes)
    place = model.cell_token.device
    for rows, batch in progress(batches, n_batches, "gene vectors", unit="batch"):
        tokens_BTD = model(batch.to(place)).tokens_BTD.cpu().float()
        state_B = torch.as_tensor(state_of_cell[rows])
        shown_BT = ~batch.pad_BT & (state_B >= 0)[:, None]
        at_X = (state_B[:, None] * model.n_genes + batch.genes_BT)[shown_BT]
        sums.index_add_(0, at_X, tokens_BTD[shown_BT])
        times.index_add_(0, at_X, torch.ones(len(at_X)))
    means = (sums / times.clamp_min(1)[:, None]).unflatten(0, (n_states, model.n_genes))
    return means.numpy(), times.unflatten(0, (n_states, model.n_genes)).long().numpy()


@torch.no_grad()
def regulon_vectors(model) -> tuple[np.ndarray, np.ndarray]:
    """What a TF is as a regulator: the mean vector of its regulon, by the weights with which the model pools it.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        Gene token of each TF that was measured, and its vector, TFs x D (mean over regulon layers); none without such
        layers.
    """
    vectors_ND, tfs = model.embedding.gene_vectors.weight, model.tf_S.numpy()
    kinds = zip(model.layers, model.config.layers, strict=True)
    weights = [layer.pooling.weights(vectors_ND) for layer, kind in kinds if kind == "regulon"]
    if not weights:
        return np.zeros(0, int), np.zeros((0, vectors_ND.shape[1]), np.float32)
    pooled_SD = torch.stack(weights).mean(0).T @ vectors_ND
    return tfs[tfs >= 0], pooled_SD.numpy()[tfs >= 0]


def vector_table(symbols, static_ND: np.ndarray, regulons: tuple, states: list[str], contextual: tuple) -> pd.DataFrame:
    """One row per gene (static), per TF with a regulon, and per gene and state in which any cell shows it (contextual).

    Parameters
    ----------
    symbols
        Genes N.
    static_ND
        Vectors of the model's table.
    regulons
        See `regulon_vectors`.
    states
        Names of the states.
    contextual
        See `contextual_vectors`.

    Returns
    -------
    pandas.DataFrame
        gene, kind, state (of contextual vectors), n_cells (of those), v0, v1, ... (float32).
    """
    (tfs, regulon_TD), (means, n_cells) = regulons, contextual
    state, gene = np.nonzero(n_cells)
    columns = [f"v{d}" for d in range(static_ND.shape[1])]
    parts = [
        (np.arange(len(symbols)), STATIC, "", 0, static_ND),
        (tfs, REGULON, "", 0, regulon_TD),
        (gene, CONTEXTUAL, np.asarray(states, object)[state], n_cells[state, gene], means[state, gene]),
    ]
    tables = []
    for token, kind, state_of, cells, vectors in parts:
        names = {"gene": np.asarray(symbols, object)[token], "kind": kind, "state": state_of, "n_cells": cells}
        values = pd.DataFrame(vectors.astype(np.float32), columns=columns)
        tables.append(pd.concat([pd.DataFrame(names, index=values.index), values], axis=1))
    return pd.concat(tables, ignore_index=True)


def read_vectors(table: pd.DataFrame, kind: str, symbols, min_cells: int = 1) -> dict[str, np.ndarray]:
    """Take vectors of one kind out of a table again, in the order of some genes.

    Parameters
    ----------
    table
        See `vector_table`.
    kind
        `STATIC`, `REGULON` or `CONTEXTUAL`.
    symbols
        Genes.
    min_cells
        A gene that fewer cells of a state show has no contextual vector there.

    Returns
    -------
    dict of str to numpy.ndarray
        Genes x D for each state ("" for the other kinds); NaN for a gene without a vector.
    """
    columns = [name for name in table.columns if name not in FIXED]
    kept = table[(table["kind"] == kind) & ((kind != CONTEXTUAL) | (table["n_cells"] >= min_cells))]
    return {
        state: rows.set_index("gene")[columns].reindex(symbols).to_numpy(np.float32)
        for state, rows in kept.groupby("state")
    }
