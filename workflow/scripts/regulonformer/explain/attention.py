"""How much a cell, and its genes, attend to each regulon."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from regulonformer.model.batch import CellBatch

BATCH_CELLS = 16


@torch.inference_mode()
def regulon_attention(encoder: nn.Module, read: Callable[[np.ndarray], CellBatch], rows: np.ndarray) -> np.ndarray:
    """Attention over the regulon slots, of the pooling token and of all genes of a cell; mean of heads and layers.

    Parameters
    ----------
    encoder
        `Regulonformer` (adapted or not).
    read
        Gives the `CellBatch` of an array of corpus rows.
    rows
        Rows of the cells in the corpus.

    Returns
    -------
    numpy.ndarray
        2 x cells x S, float32: of the pooling token, and the mean over the genes that are active in the cell. Each sums
        to 1 over the slots. S is 0 for a model without regulon layers.
    """
    layers = [number for number, kind in enumerate(encoder.config.layers) if kind == "regulon"]
    found = np.zeros((2, len(rows), len(encoder.tf_S) if layers else 0), np.float32)
    for start in range(0, len(rows), BATCH_CELLS) if layers else ():
        at = slice(start, start + BATCH_CELLS)
        batch = read(rows[at])
        of_cell = encoder(batch, attention="cell", read_BT=batch.genes_BT[:, :0]).attention
        found[0, at] = torch.stack([of_cell[number] for number in layers]).mean(0).numpy()
        active_BT1 = (~batch.pad_BT)[..., None]
        of_genes_BTS = encoder.gene_attention(batch) * active_BT1
        found[1, at] = (of_genes_BTS.sum(1) / active_BT1.sum(1).clamp_min(1)).numpy()
    return found
