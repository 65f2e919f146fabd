"""What objectives that hide entries share: choosing them, hiding them, and finding them again to score them."""

from typing import NamedTuple

import torch
from torch import Tensor

from regulonformer.model.batch import MASKED, CellBatch


def choose(candidate_BT: Tensor, n_chosen_B: Tensor, generator: torch.Generator) -> Tensor:
    """Draw so many of each cell's candidates, uniformly and without replacement (bool, B x T).

    There must be no fewer candidates than are wanted. The same state of the generator gives the same choice.
    """
    order_BT = torch.rand(candidate_BT.shape, generator=generator).masked_fill(~candidate_BT, 2.0).argsort(1)
    first_BT = torch.arange(candidate_BT.shape[1]) < n_chosen_B[:, None]
    return torch.zeros_like(candidate_BT).scatter(1, order_BT, first_BT)


def hide(batch: CellBatch, hidden_BTM: Tensor) -> CellBatch:
    """Mark entries as masked, and take their values away, so that no model can read them."""
    return batch._replace(
        rna_state_BT=batch.rna_state_BT.masked_fill(hidden_BTM[..., 0], MASKED),
        atac_state_BT=batch.atac_state_BT.masked_fill(hidden_BTM[..., 1], MASKED),
        rna_BT=batch.rna_BT.masked_fill(hidden_BTM[..., 0], 0.0),
        atac_BT=batch.atac_BT.masked_fill(hidden_BTM[..., 1], 0.0),
    )


def reading_positions(scored_BTM: Tensor) -> Tensor:
    """Positions of the tokens that the loss reads, B x R (int64): all of which any entry is scored.

    A cell with fewer of them than another one has others at the end, which are not scored.
    """
    scored_BT = scored_BTM.any(-1)
    return scored_BT.byte().argsort(dim=1, descending=True, stable=True)[:, : int(scored_BT.sum(1).max())]


class ScoredTokens(NamedTuple):
    """Tokens of which any entry is scored: their cells and genes, and their places in a row of B x T or of B x R."""

    cells_X: Tensor
    genes_X: Tensor
    in_batch_X: Tensor
    in_read_X: Tensor


def scored_tokens(batch: CellBatch, scored_BTM: Tensor, read_BR: Tensor) -> ScoredTokens:
    """Find the tokens that are scored among those that are read."""
    scored_BR = scored_BTM.any(-1).gather(1, read_BR)
    cells_X, nth_X = scored_BR.nonzero(as_tuple=True)
    in_batch_X = cells_X * scored_BTM.shape[1] + read_BR[cells_X, nth_X]
    return ScoredTokens(cells_X, batch.genes_BT.flatten()[in_batch_X], in_batch_X, cells_X * read_BR.shape[1] + nth_X)
