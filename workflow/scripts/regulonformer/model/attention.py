"""Attention of every token to a few slots that are pooled from the genes (Linformer: Wang et al. 2020, 2006.04768)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regulonformer.model.batch import RegulonEdges

# Spread of explorer logits at the start: a slot then reads some dozens of genes, not the mean of all of them.
EXPLORER_LOGIT_STD = 2.0


class RegulonPooling(nn.Module):
    """One slot per regulon; its weights over the TF and the targets start from the prior and are learned from there.

    Parameters
    ----------
    regulons
        Edges from slots to genes.
    n_genes
        Genes N of the vocabulary.
    """

    def __init__(self, regulons: RegulonEdges, n_genes: int) -> None:
        super().__init__()
        self.n_genes, self.n_slots = n_genes, len(regulons.tf_S)
        self.register_buffer("slot_E", regulons.slot_E.clone())
        self.register_buffer("gene_E", regulons.gene_E.clone())
        self.edge_logits = nn.Parameter(regulons.weight_E.float().log())

    def forward(self, gene_vectors_ND: Tensor) -> Tensor:
        """Pooling weights, N x S; each column sums to 1 over the genes of its regulon."""
        logits_NS = self.edge_logits.new_full((self.n_genes, self.n_slots), -torch.inf)
        return logits_NS.index_put((self.gene_E, self.slot_E), self.edge_logits).softmax(0)


class ExplorerPooling(nn.Module):
    """Free slots over all genes, of low rank: a query vector per slot meets the vector of each gene.

    Parameters
    ----------
    width
        Width D.
    n_slots
        Slots S.
    """

    def __init__(self, width: int, n_slots: int) -> None:
        super().__init__()
        self.slot_queries = nn.Parameter(torch.randn(n_slots, width) * EXPLORER_LOGIT_STD)

    def forward(self, gene_vectors_ND: Tensor) -> Tensor:
        """Pooling weights, N x S; each column sums to 1 over all genes."""
        genes_ND = F.layer_norm(gene_vectors_ND, gene_vectors_ND.shape[-1:])
        return (genes_ND @ self.slot_queries.T / math.sqrt(genes_ND.shape[-1])).softmax(0)


def pool_slots(weights_NS, states_BTD, silent_VND, genes_BT, pad_BT, pattern_B, gain=1.0) -> Tensor:
    """Pool the states of all N genes into slots at the cost of the T active ones.

    The pool of a cell is that of the silent genome, computed once per batch, with the share of the active genes
    exchanged: sum_n P[n,s] silent[n] + gain * sum_t P[g_t,s] (state[t] - silent[g_t]). With a gain of 1 that is the
    pool over all genes; a larger one reads what is special to the cell more strongly.

    Parameters
    ----------
    weights_NS
        Pooling weights P.
    states_BTD
        States of the active genes.
    silent_VND
        States of silent genes, for each pattern of missing modalities.
    genes_BT, pad_BT
        Gene tokens, and where there is none.
    pattern_B
        Pattern of each cell.
    gain
        Factor on the difference to the silent genome.

    Returns
    -------
    Tensor
        Slots, B x S x D.
    """
    background_VSD = weights_NS.T @ silent_VND
    row_BT = genes_BT + pattern_B[:, None] * len(weights_NS)
    change_BTD = states_BTD - F.embedding(row_BT, silent_VND.flatten(0, 1))
    change_BTD = change_BTD.masked_fill(pad_BT[..., None], 0.0)
    # F.embedding and index_select, because their backward passes sum in a fixed order.
    change_BSD = F.embedding(genes_BT, weights_NS).transpose(1, 2) @ change_BTD
    return background_VSD.index_select(0, pattern_B) + gain * change_BSD


class SlotAttention(nn.Module):
    """Multi-head attention from tokens to slots.

    Keys and values are projected after pooling: that costs S projections per cell instead of one per gene.

    Parameters
    ----------
    width
        Width D.
    heads
        Heads H.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.o_proj = nn.Linear(width, width)

    def forward(self, queries_BTD: Tensor, slots_BSD: Tensor) -> Tensor:
        """Read the slots; returns B x T x D."""
        q, k, v = (
            self._split(part) for part in (self.q_proj(queries_BTD), self.k_proj(slots_BSD), self.v_proj(slots_BSD))
        )
        read_BHTd = F.scaled_dot_product_attention(q, k, v)
        return self.o_proj(read_BHTd.transpose(1, 2).flatten(2))

    def weights(self, query_BD: Tensor, slots_BSD: Tensor) -> Tensor:
        """Attention of one token per cell over the slots, mean of the heads; returns B x S, rows sum to 1."""
        q, k = self._split(self.q_proj(query_BD[:, None])), self._split(self.k_proj(slots_BSD))
        return (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1).mean(1)[:, 0]

    def _split(self, states_BTD: Tensor) -> Tensor:
        """Split the width into heads: B x H x T x D/H."""
        return states_BTD.unflatten(-1, (self.heads, -1)).transpose(1, 2)
