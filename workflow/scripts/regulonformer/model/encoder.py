"""The Regulonformer: genes as tokens, a pooling token for the cell, alternating regulon and explorer layers."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regulonformer.model.attention import ExplorerPooling, RegulonPooling, SlotAttention, pool_slots
from regulonformer.model.batch import CellBatch, RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.embedding import INITIAL_STD, TokenEmbedding
from regulonformer.model.heads import CountHeads

# A cell differs from the silent genome by a few genes per slot: without a gain their share drowns in what all cells
# have in common, and pretraining takes several times the steps to leave the floor.
ACTIVE_GAIN = 10.0


class Encoded(NamedTuple):
    """Output of the encoder.

    Attributes
    ----------
    tokens_BTD
        States of the batch's tokens; zero where padded.
    cell_BD
        State of the pooling token: the cell embedding.
    attention
        For each layer the attention of the pooling token over its slots (B x S, rows sum to 1); None unless asked for.
    """

    tokens_BTD: Tensor
    cell_BD: Tensor
    attention: list[Tensor] | None = None


class Layer(nn.Module):
    """One pre-norm block: read the slots, then feed forward, each on a residual branch.

    Parameters
    ----------
    config
        Sizes.
    pooling
        Module that gives the pooling weights, N x S, from the gene vectors, N x D.
    """

    def __init__(self, config: ModelConfig, pooling: nn.Module) -> None:
        super().__init__()
        self.pooling = pooling
        self.attention_norm = nn.LayerNorm(config.width)
        self.slot_norm = nn.LayerNorm(config.width)
        self.active_gain = nn.Parameter(torch.tensor(ACTIVE_GAIN))
        self.attention = SlotAttention(config.width, config.heads)
        self.feed_forward_norm = nn.LayerNorm(config.width)
        self.fc1 = nn.Linear(config.width, config.feed_forward * config.width)
        self.fc2 = nn.Linear(config.feed_forward * config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def slots(self, normed_BTD, silent_VND, gene_vectors_ND, genes_BT, pad_BT, pattern_B) -> Tensor:
        """Slots of this layer, B x S x D, before the projections to keys and values."""
        weights_NS, silent_VND = self.pooling(gene_vectors_ND), self.attention_norm(silent_VND)
        return self.slot_norm(
            pool_slots(weights_NS, normed_BTD, silent_VND, genes_BT, pad_BT, pattern_B, self.active_gain)
        )

    def update(self, states_BQD: Tensor, normed_BQD: Tensor, slots_BSD: Tensor) -> Tensor:
        """States after attention and feed-forward, B x Q x D."""
        states_BQD = states_BQD + self.dropout(self.attention(normed_BQD, slots_BSD))
        hidden = F.gelu(self.fc1(self.feed_forward_norm(states_BQD)))
        return states_BQD + self.dropout(self.fc2(hidden))


class Regulonformer(nn.Module):
    """Transformer over the active genes of a cell; silent genes stay in their input state.

    Parameters
    ----------
    config
        Sizes.
    n_genes
        Genes N of the vocabulary.
    regulons
        Edges of the regulon layers.
    gene_log_mean_N2
        log of each gene's share of all counts in the training cells, per modality: where the heads start from.
    gene_log_dispersion_N2
        log of the inverse dispersion (NB size) the heads start from; 0 if not given.
    gene_vectors_ND
        Gene vectors to start from; random if not given.
    """

    def __init__(
        self,
        config: ModelConfig,
        n_genes: int,
        regulons: RegulonEdges,
        gene_log_mean_N2: Tensor,
        gene_log_dispersion_N2: Tensor | None = None,
        gene_vectors_ND: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config, self.n_genes = config, n_genes
        self.register_buffer("tf_S", regulons.tf_S.clone())
        self.embedding = TokenEmbedding(config, n_genes, gene_vectors_ND)
        self.cell_token = nn.Parameter(torch.randn(config.width) * INITIAL_STD)
        self.layers = nn.ModuleList(
            Layer(
                config,
                RegulonPooling(regulons, n_genes) if kind == "regulon" else ExplorerPooling(config.width, config.slots),
            )
            for kind in config.layers
        )
        self.final_norm = nn.LayerNorm(config.width)
        self.heads = CountHeads(config.width, gene_log_mean_N2, gene_log_dispersion_N2)

    def forward(self, batch: CellBatch, dense: bool = False, attention: bool = False) -> Encoded:
        """Encode a batch of cells.

        Parameters
        ----------
        batch
            Active genes of each cell.
        dense
            Compute every gene of the vocabulary as a token: the slow reference. The output still lists the tokens of
            `batch`.
        attention
            Also return the attention of the pooling token over the slots of each layer.

        Returns
        -------
        Encoded
        """
        if dense:
            encoded = self.forward(batch.every_gene(self.n_genes), attention=attention)
            at_BTD = batch.genes_BT[..., None].expand(-1, -1, self.config.width)
            tokens_BTD = encoded.tokens_BTD.gather(1, at_BTD).masked_fill(batch.pad_BT[..., None], 0.0)
            return encoded._replace(tokens_BTD=tokens_BTD)

        # Cells that lack the same modality share one silent genome.
        patterns_VM, pattern_B = batch.missing_BM().unique(dim=0, return_inverse=True)
        silent_VND = self.embedding.silent(patterns_VM)
        gene_vectors_ND = self.embedding.gene_vectors.weight
        states_BQD = torch.cat(
            [self.cell_token.expand(len(batch.genes_BT), 1, -1), self.embedding(batch)], dim=1
        )  # the pooling token comes first
        read = []
        for layer in self.layers:
            normed_BQD = layer.attention_norm(states_BQD)
            slots_BSD = layer.slots(
                normed_BQD[:, 1:], silent_VND, gene_vectors_ND, batch.genes_BT, batch.pad_BT, pattern_B
            )
            if attention:
                read.append(layer.attention.weights(normed_BQD[:, 0], slots_BSD))
            states_BQD = layer.update(states_BQD, normed_BQD, slots_BSD)
        states_BQD = self.final_norm(states_BQD)
        tokens_BTD = states_BQD[:, 1:].masked_fill(batch.pad_BT[..., None], 0.0)
        return Encoded(tokens_BTD, states_BQD[:, 0], read if attention else None)
