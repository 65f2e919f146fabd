"""Recall: what the cells most like a cell look like, as features of that cell."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TEMPERATURE = 0.05  # of cosine similarities: 0.02 and 0.1 did worse by log-loss on cortex cells, 15 neighbours too
SAME = 1 - 1e-5  # similarity from which on a remembered cell is taken for the cell itself
FEWEST = 200  # cells below which nothing is remembered: their neighbours are not alike enough


class Recall(nn.Module):
    """Mean features of remembered cells, weighted by their likeness to a cell.

    A shallow cell shows few of its transcripts; its neighbours show others (the idea of smoothing over neighbours:
    MAGIC, van Dijk 2018). All remembered cells take part with the softmax of their cosine similarity, as in attention,
    so that attributions flow through. Only training cells are remembered: a prediction does not depend on which other
    cells are predicted. A training cell does not recall itself.

    Parameters
    ----------
    n_cells
        Remembered cells M.
    n_features
        Features K of each.
    """

    def __init__(self, n_cells: int, n_features: int) -> None:
        super().__init__()
        self.register_buffer("cells_MK", torch.zeros(n_cells, n_features))

    def forward(self, features_BK: Tensor) -> Tensor:
        """Recalled features, B x K; zero for a cell without features of its own, whose modality is missing."""
        likeness_BM = F.normalize(features_BK, dim=1) @ F.normalize(self.cells_MK, dim=1).T
        weight_BM = (likeness_BM.masked_fill(likeness_BM > SAME, -torch.inf) / TEMPERATURE).softmax(1)
        return weight_BM @ self.cells_MK * features_BK.any(1, keepdim=True)
