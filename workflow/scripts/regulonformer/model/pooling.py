"""Slots pooled from genes (Linformer: Wang et al. 2020, arXiv 2006.04768), at the cost of the genes a cell expresses.

The pool of a cell is that of the silent genome, computed once per batch, with the share of its active genes
exchanged: sum_n P[n,s] silent[n] + gain * sum_t P[g_t,s] (state[t] - silent[g_t]). With a gain of 1 that is the pool
over all genes; a larger one reads what is special to the cell more strongly. Each module here has weights P of its own
kind and gives both sums.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regulonformer.model.batch import CellBatch, RegulonEdges

# Spread of free logits at the start: a slot then reads some dozens of genes, not the mean of all of them.
FREE_LOGIT_STD = 2.0
# Logits are taken off the most that a gene could reach, so that none overflows, but not more, so that not all vanish.
MOST_LOGIT = 80.0


class Genome(NamedTuple):
    """What all cells of a batch share.

    Attributes
    ----------
    vectors_ND
        Gene vectors.
    silent_VND
        Normalised states of silent genes, for each of V patterns of missing modalities.
    """

    vectors_ND: Tensor
    silent_VND: Tensor


class Places(NamedTuple):
    """Which gene each state of a batch belongs to; Q = 1 + T, the pooling token first.

    Attributes
    ----------
    genes_BQ
        Gene of each state; N for the pooling token and for padding.
    pattern_B
        Pattern of missing modalities of each cell.
    place_BN
        Where in the flattened B x Q states a gene is; 0 (the first pooling token) where it is silent.
    """

    genes_BQ: Tensor
    pattern_B: Tensor
    place_BN: Tensor

    @classmethod
    def of(cls, batch: CellBatch, pattern_B: Tensor, n_genes: int) -> "Places":
        """Find the places of a batch."""
        n_cells = len(batch.genes_BT)
        genes_BQ = F.pad(batch.genes_BT.masked_fill(batch.pad_BT, n_genes), (1, 0), value=n_genes)
        each_BQ = torch.arange(genes_BQ.numel(), device=genes_BQ.device).view_as(genes_BQ)
        place_BN = each_BQ.new_zeros(n_cells, n_genes + 1).scatter_(1, genes_BQ, each_BQ)[:, :n_genes]
        return cls(genes_BQ, pattern_B, place_BN)

    def gather_silent(self, genome: Genome) -> Tensor:
        """States the genes of the batch would have if they were silent, B x Q x D."""
        n_genes = genome.silent_VND.shape[1]
        # What stands beside no gene is not pooled, so that any row will do.
        row_BQ = self.genes_BQ.clamp_max(n_genes - 1) + self.pattern_B[:, None] * n_genes
        # F.embedding and index_select, here and below, because their backward passes sum in a fixed order.
        return F.embedding(row_BQ, genome.silent_VND.flatten(0, 1))


class RegulonPooling(nn.Module):
    """One slot per regulon; its weights over the TF and the targets start from the prior and are learned from there.

    Parameters
    ----------
    regulons
        Edges from slots to genes, in the order of the slots.
    """

    def __init__(self, regulons: RegulonEdges) -> None:
        super().__init__()
        self.n_slots = len(regulons.tf_S)
        self.register_buffer("slot_E", regulons.slot_E.clone())
        self.register_buffer("gene_E", regulons.gene_E.clone())
        self.edge_logits = nn.Parameter(regulons.weight_E.float().log())

    def edge_weights(self) -> Tensor:
        """Weight of each edge; those of a slot sum to 1."""
        top_S = self.edge_logits.new_full((self.n_slots,), -torch.inf)
        top_S = top_S.scatter_reduce(0, self.slot_E, self.edge_logits.detach(), "amax")
        exp_E = (self.edge_logits - top_S[self.slot_E]).exp()
        sum_S = exp_E.new_zeros(self.n_slots).index_add(0, self.slot_E, exp_E)
        return exp_E / sum_S.index_select(0, self.slot_E)

    def weights(self, vectors_ND: Tensor) -> Tensor:
        """Pooling weights, N x S, for reading; each column sums to 1 over the genes of its regulon."""
        zeros_NS = vectors_ND.new_zeros(len(vectors_ND), self.n_slots)
        return zeros_NS.index_put((self.gene_E, self.slot_E), self.edge_weights().to(vectors_ND.dtype))

    def forward(self, change_BQD: Tensor, places: Places, genome: Genome) -> tuple[Tensor, Tensor]:
        """Pool of the silent genome, V x S x D, and of a cell's change to it, B x S x D."""
        weight_E = self.edge_weights().to(change_BQD.dtype)
        n_patterns, n_genes, _ = genome.silent_VND.shape
        first_S = torch.searchsorted(self.slot_E, torch.arange(self.n_slots, device=weight_E.device))

        row_VE = self.gene_E + torch.arange(n_patterns, device=weight_E.device)[:, None] * n_genes
        bags_VS = first_S + torch.arange(n_patterns, device=weight_E.device)[:, None] * len(weight_E)
        background = self._sum(genome.silent_VND, row_VE.flatten(), weight_E.repeat(n_patterns), bags_VS)

        # Only the edges to active genes: their share is what makes the cost follow what a cell expresses.
        place_BE = places.place_BN[:, self.gene_E]
        active_BE = place_BE > 0
        before_X = active_BE.flatten().cumsum(0) - active_BE.flatten().long()
        bags_BS = before_X.view_as(active_BE)[:, first_S]
        edge_X = active_BE.nonzero()[:, 1]
        change = self._sum(change_BQD, place_BE[active_BE], weight_E.index_select(0, edge_X), bags_BS)
        return background, change

    @staticmethod
    def _sum(states_VND: Tensor, row_X: Tensor, weight_X: Tensor, first_VS: Tensor) -> Tensor:
        """Weighted sums of rows; `first_VS` says where the edges of each slot begin."""
        sums = F.embedding_bag(
            row_X, states_VND.flatten(0, 1), first_VS.flatten(), mode="sum", per_sample_weights=weight_X
        )
        return sums.unflatten(0, first_VS.shape)


class FreePooling(nn.Module):
    """Free slots of low rank: a query vector per slot meets the vector of each gene.

    Parameters
    ----------
    width
        Width D.
    n_slots
        Slots S.
    n_tfs
        Pool from the first `n_tfs` genes alone (the TFs); None pools from all.
    """

    def __init__(self, width: int, n_slots: int, n_tfs: int | None = None) -> None:
        super().__init__()
        self.n_tfs = n_tfs
        self.slot_queries = nn.Parameter(torch.randn(n_slots, width) * FREE_LOGIT_STD)

    def logits(self, vectors_ND: Tensor) -> Tensor:
        """How well each gene that may be read suits each slot, less the most that a gene could; N x S (TFs x S)."""
        genes_ND = F.layer_norm(vectors_ND[: self.n_tfs], vectors_ND.shape[-1:])
        most_S = self.slot_queries.detach().norm(dim=1).clamp_max(MOST_LOGIT)
        return F.linear(genes_ND, self.slot_queries / math.sqrt(genes_ND.shape[-1]), -most_S)

    def weights(self, vectors_ND: Tensor) -> Tensor:
        """Pooling weights, N x S (TFs x S); each column sums to 1 over the genes that it may read."""
        return self.logits(vectors_ND).softmax(0)

    def forward(self, change_BQD: Tensor, places: Places, genome: Genome) -> tuple[Tensor, Tensor]:
        """Pool of the silent genome, V x S x D, and of a cell's change to it, B x S x D."""
        # The softmax over genes, divided at the end: a column of ones gives its sum in the product that is needed
        # anyway, which spares passes over N x S in both directions.
        share_NS = self.logits(genome.vectors_ND).exp_()
        silent_VNE = F.pad(genome.silent_VND[:, : len(share_NS)], (0, 1), value=1.0)
        # Transposed twice: of the two factors the states are the smaller one to copy.
        background_VSE = (silent_VNE.mT @ share_NS).mT
        background_VSD, total_S1 = background_VSE[..., :-1], background_VSE[0, :, -1:]
        if self.n_tfs is None:
            # What stands beside no gene, the pooling token and padding, is not pooled.
            no_gene_BQ = places.genes_BQ == len(share_NS)
            change_BQD = change_BQD.masked_fill(no_gene_BQ[..., None], 0.0)
            share_BQS = F.embedding(places.genes_BQ.masked_fill(no_gene_BQ, 0), share_NS)
            return background_VSD / total_S1, (change_BQD.mT @ share_BQS).mT / total_S1
        place_BF = places.place_BN[:, : self.n_tfs]
        change_BFD = F.embedding(place_BF, change_BQD.flatten(0, 1)).masked_fill((place_BF == 0)[..., None], 0.0)
        return background_VSD / total_S1, (change_BFD.mT @ share_NS).mT / total_S1
