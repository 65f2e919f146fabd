"""Token states at the input: the vector of the gene plus one value vector per modality."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regulonformer.model.batch import MASKED, MISSING, MODALITIES, CellBatch
from regulonformer.model.config import ModelConfig

INITIAL_STD = 0.1
START_NOISE = 0.2


class TokenEmbedding(nn.Module):
    """Embed genes and their values.

    A value lies between two support points and gets the linear blend of their learned vectors, so that the embedding
    is continuous in the value and has a gradient (what integrated gradients need). MASK and MISSING have vectors of
    their own in each modality's table; they are no genes and share no id with one.

    Parameters
    ----------
    config
        Sizes.
    n_genes
        Genes N of the vocabulary.
    gene_vectors_ND
        Gene vectors to start from, of any scale; random if not given.
    """

    def __init__(self, config: ModelConfig, n_genes: int, gene_vectors_ND: Tensor | None = None) -> None:
        super().__init__()
        self.n_bins, self.value_max = config.value_bins, config.value_max
        self.gene_vectors = nn.Embedding(n_genes, config.width)
        # Rows: K support points (the first is the value zero), then MASK, then MISSING.
        self.value_vectors = nn.Parameter(torch.empty(len(MODALITIES), config.value_bins + 2, config.width))
        if gene_vectors_ND is None:
            nn.init.normal_(self.gene_vectors.weight, std=INITIAL_STD)
        else:
            self._start_from(gene_vectors_ND)
        nn.init.normal_(self.value_vectors, std=INITIAL_STD)

    @torch.no_grad()
    def _start_from(self, gene_vectors_ND: Tensor) -> None:
        """Take given vectors at the usual scale, with noise so that no two genes are the same."""
        scale = gene_vectors_ND.square().mean().sqrt().clamp_min(1e-8)
        nn.init.normal_(self.gene_vectors.weight, std=INITIAL_STD * START_NOISE)
        self.gene_vectors.weight += gene_vectors_ND.float() / scale * INITIAL_STD

    def forward(self, batch: CellBatch) -> Tensor:
        """Embed the tokens of a batch.

        Returns
        -------
        Tensor
            States at the input, B x T x D.
        """
        basis = torch.cat(
            [self._basis(batch.rna_BT, batch.rna_state_BT), self._basis(batch.atac_BT, batch.atac_state_BT)], dim=-1
        )
        # F.embedding, because its backward pass sums in a fixed order.
        return F.embedding(batch.genes_BT, self.gene_vectors.weight) + basis @ self.value_vectors.flatten(0, 1)

    def silent(self, missing_VM: Tensor) -> Tensor:
        """State of every gene that is silent, for each pattern of missing modalities.

        Parameters
        ----------
        missing_VM
            Which modality is missing in each of V patterns (bool).

        Returns
        -------
        Tensor
            States, V x N x D: what `forward` gives an observed zero (or a missing value).
        """
        row_VM = torch.where(missing_VM, self.n_bins + 1, 0)
        value_VD = sum(self.value_vectors[m].index_select(0, row_VM[:, m]) for m in range(len(MODALITIES)))
        return self.gene_vectors.weight[None] + value_VD[:, None]

    def _basis(self, values_BT: Tensor, state_BT: Tensor) -> Tensor:
        """Weights of the rows of a value table: hat functions at the support points, or MASK, or MISSING."""
        position_BT = values_BT.clamp(0, self.value_max) * ((self.n_bins - 1) / self.value_max)
        support_K = torch.arange(self.n_bins, device=values_BT.device)
        hats_BTK = (1 - (position_BT[..., None] - support_K).abs()).clamp_min(0)
        special_BT2 = torch.stack([state_BT == MASKED, state_BT == MISSING], dim=-1).to(hats_BTK.dtype)
        observed_BT1 = 1 - special_BT2.sum(-1, keepdim=True)
        return torch.cat([hats_BTK * observed_BT1, special_BT2], dim=-1)
