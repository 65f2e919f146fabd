"""The linear path: what PCA and LSI know about a cell, straight from the input to the cell embedding."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regulonformer.model.batch import MASKED, MISSING, MODALITIES, CellBatch


class LinearPath(nn.Module):
    """Principal components of both modalities, and a learned linear layer from them to the cell embedding.

    The components are fixed. A hidden value counts as the mean of its gene, so that hiding moves a cell little; a
    missing modality gives zeros, the components of the mean cell. Before `start_from` all components are zero, and the
    path gives zero.

    Parameters
    ----------
    n_genes
        Genes N of the vocabulary.
    width
        Width D; the first half (rounded up) of the components is of RNA, the rest of accessibility.
    """

    def __init__(self, n_genes: int, width: int) -> None:
        super().__init__()
        self.sizes = [width - width // 2, width // 2]
        self.register_buffer("projection", torch.zeros(n_genes, width))
        self.register_buffer("mean", torch.zeros(n_genes, len(MODALITIES)))
        self.to_cell = nn.Linear(width, width, bias=False)

    def start_from(self, projection_ND: Tensor, mean_N2: Tensor) -> None:
        """Take projections of centred values onto components of unit variance, and the mean values."""
        self.projection.copy_(projection_ND)
        self.mean.copy_(mean_N2)

    def forward(self, batch: CellBatch) -> Tensor:
        """What the path adds to the cell embedding, B x D."""
        return self.to_cell(self.components(batch))

    def components(self, batch: CellBatch) -> Tensor:
        """Principal components of cells, B x D: of RNA, then of accessibility; zeros for a missing modality."""
        mean_BT2 = F.embedding(batch.genes_BT, self.mean)
        projections = F.embedding(batch.genes_BT, self.projection).split(self.sizes, dim=-1)
        centres = [part_NK.T @ self.mean[:, m] for m, part_NK in enumerate(self.projection.split(self.sizes, dim=-1))]
        values = [(batch.rna_BT, batch.rna_state_BT), (batch.atac_BT, batch.atac_state_BT)]
        parts = []
        for m, (values_BT, state_BT) in enumerate(values):
            known_BT = torch.where(state_BT == MASKED, mean_BT2[..., m], values_BT).masked_fill(batch.pad_BT, 0.0)
            components_BK = (known_BT[:, None] @ projections[m])[:, 0] - centres[m]
            parts.append(components_BK.masked_fill((state_BT == MISSING).any(1)[:, None], 0.0))
        return torch.cat(parts, dim=1)
