"""The Regulonformer: genes as tokens, a pooling token for the cell, alternating regulon and explorer layers."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regulonformer.errors import InputError
from regulonformer.model.attention import SlotAttention
from regulonformer.model.batch import MODALITIES, CellBatch, RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.embedding import INITIAL_STD, TokenEmbedding
from regulonformer.model.fusion import Fusion
from regulonformer.model.heads import make_heads
from regulonformer.model.linear import LinearPath
from regulonformer.model.pooling import FreePooling, Genome, Places, RegulonPooling

# A cell differs from the silent genome by a few genes per slot: without a gain their share drowns in what all cells
# have in common, and pretraining takes several times the steps to leave the floor.
ACTIVE_GAIN = 10.0
# Linear parts of every layer, by name: what LoRA can adapt.
LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2")


class Encoded(NamedTuple):
    """Output of the encoder.

    Attributes
    ----------
    tokens_BTD
        States of the batch's tokens, or of those asked for (float32); zero where padded.
    cell_BD
        The cell embedding: state of the pooling token, plus the linear path if there is one (float32).
    attention
        For each layer the attention of the pooling token over its slots (B x S, rows sum to 1); None unless asked for.
    halves_MBD
        With fusion: what was fused, the embeddings of RNA and of accessibility alone, or what a student makes of one
        that is missing.
    """

    tokens_BTD: Tensor
    cell_BD: Tensor
    attention: list[Tensor] | None = None
    halves_MBD: Tensor | None = None


class Layer(nn.Module):
    """One pre-norm block: read the slots, then feed forward, each on a residual branch.

    Norms before linear layers have no weights of their own, which those layers would absorb; and linear layers have no
    biases (as in PaLM, Chowdhery et al. 2022, section 2).

    Parameters
    ----------
    config
        Sizes.
    pooling
        Module that pools the silent genome and a cell's change to it into slots.
    """

    def __init__(self, config: ModelConfig, pooling: nn.Module) -> None:
        super().__init__()
        self.pooling = pooling
        self.slot_norm = nn.LayerNorm(config.width)
        self.active_gain = nn.Parameter(torch.tensor(ACTIVE_GAIN))
        self.attention = SlotAttention(config.width, config.heads)
        self.fc1 = nn.Linear(config.width, config.feed_forward * config.width, bias=False)
        self.fc2 = nn.Linear(config.feed_forward * config.width, config.width, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def slots(self, change_BQD: Tensor, places: Places, genome: Genome) -> Tensor:
        """Slots of this layer, B x S x D, before the projections to keys and values."""
        background_VSD, change_BSD = self.pooling(change_BQD, places, genome)
        return self.slot_norm(background_VSD.index_select(0, places.pattern_B) + self.active_gain * change_BSD)

    def update(self, states_BQD: Tensor, normed_BQD: Tensor, slots_BSD: Tensor) -> Tensor:
        """States after attention and feed-forward, B x Q x D."""
        states_BQD = states_BQD + self.dropout(self.attention(normed_BQD, slots_BSD))
        hidden = F.gelu(self.fc1(normalised(states_BQD)))
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
    n_tfs
        TFs of the vocabulary, which come first in it. Needed by `tf` layers.
    """

    def __init__(
        self,
        config: ModelConfig,
        n_genes: int,
        regulons: RegulonEdges,
        gene_log_mean_N2: Tensor,
        gene_log_dispersion_N2: Tensor | None = None,
        gene_vectors_ND: Tensor | None = None,
        n_tfs: int = 0,
    ) -> None:
        super().__init__()
        if "tf" in config.layers and not n_tfs:
            raise InputError("model.layers", "a layer reads TFs, but no gene is one", "Give TFs, or use other layers")
        self.config, self.n_genes = config, n_genes
        self.register_buffer("tf_S", regulons.tf_S.clone())
        self.register_buffer("n_tfs", torch.tensor(n_tfs))
        self.embedding = TokenEmbedding(config, n_genes, gene_vectors_ND)
        self.cell_token = nn.Parameter(torch.randn(config.width) * INITIAL_STD)
        poolings = {
            "regulon": lambda: RegulonPooling(regulons),
            "tf": lambda: FreePooling(config.width, config.slots, n_tfs),
            "explorer": lambda: FreePooling(config.width, config.slots),
        }
        self.layers = nn.ModuleList(Layer(config, poolings[kind]()) for kind in config.layers)
        self.final_norm = nn.LayerNorm(config.width)
        self.shortcut = LinearPath(n_genes, config.width) if config.linear_path else None
        self.fusion = Fusion(config.width) if config.fusion else None
        self.heads = make_heads(config.predicts, config.width, gene_log_mean_N2, gene_log_dispersion_N2)

    def forward(
        self, batch: CellBatch, dense: bool = False, attention: str | None = None, read_BT: Tensor | None = None
    ) -> Encoded:
        """Encode a batch of cells; with fusion, each of their modalities alone.

        A token that shows in both modalities then has the mean of its two states, and attention is the mean of both.

        Parameters
        ----------
        batch
            Active genes of each cell.
        dense
            Compute every gene of the vocabulary as a token: the slow reference. The output still lists the tokens of
            `batch`.
        attention
            Also return the attention over the slots of each layer: of the pooling token (`cell`), or of all tokens
            (`genes`).
        read_BT
            Positions of the tokens whose states are wanted (int64, as many for each cell); all by default. The last
            layer updates no others.

        Returns
        -------
        Encoded
        """
        encode = self.encode if self.fusion is None else self._encode_and_fuse
        return encode(batch, dense, attention, read_BT)

    def encode(
        self, batch: CellBatch, dense: bool = False, attention: str | None = None, read_BT: Tensor | None = None
    ) -> Encoded:
        """Encode cells by all that they show at once; parameters as of `forward`."""
        if dense:
            return self._forward_dense(batch, attention, read_BT)
        # Cells that lack the same modality share one silent genome.
        patterns_VM, pattern_B = batch.missing_BM().unique(dim=0, return_inverse=True)
        states_BQD, genome = self._embed(batch, patterns_VM)
        places = Places.of(batch, pattern_B, self.n_genes)
        silent_BQD, pad_BT = places.gather_silent(genome), batch.pad_BT
        weights = []
        for layer in self.layers:
            normed_BQD = normalised(states_BQD)
            slots_BSD = layer.slots(normed_BQD - silent_BQD, places, genome)
            if attention:
                readers_BQD = normed_BQD[:, :1] if attention == "cell" else normed_BQD[:, 1:]
                weights.append(layer.attention.weights(readers_BQD, slots_BSD).float())
            if read_BT is not None and layer is self.layers[-1]:
                # The pooling token stands first, hence the shift by one.
                states_BQD, normed_BQD = (pick(part, F.pad(read_BT + 1, (1, 0))) for part in (states_BQD, normed_BQD))
                pad_BT = pad_BT.gather(1, read_BT)
            states_BQD = layer.update(states_BQD, normed_BQD, slots_BSD)
        states_BQD = self.final_norm(states_BQD.to(self.final_norm.weight.dtype))
        tokens_BTD = states_BQD[:, 1:].masked_fill(pad_BT[..., None], 0.0)
        if attention == "cell":
            weights = [layer_BTS[:, 0] for layer_BTS in weights]
        cell_BD = states_BQD[:, 0]
        if self.shortcut is not None:
            # Differences of large sums need the digits that half precision lacks.
            with torch.autocast(cell_BD.device.type, enabled=False):
                cell_BD = cell_BD + self.shortcut(batch)
        return Encoded(tokens_BTD, cell_BD, weights if attention else None)

    def cell_embedding(self, batch: CellBatch) -> Tensor:
        """Embeddings of the cells alone, B x D: the last layer updates no gene."""
        return self(batch, read_BT=batch.genes_BT[:, :0]).cell_BD

    def gene_attention(self, batch: CellBatch) -> Tensor:
        """Attention of every token over the regulon slots, mean of heads and regulon layers; B x T x S.

        Raises
        ------
        InputError
            If the model has no regulon layer.
        """
        regulon_layers = [number for number, kind in enumerate(self.config.layers) if kind == "regulon"]
        if not regulon_layers:
            raise InputError("model.layers", "no regulon layer to read", "Use a recipe with regulon layers")
        weights = self(batch, attention="genes").attention
        return torch.stack([weights[number] for number in regulon_layers]).mean(0)

    def _embed(self, batch: CellBatch, patterns_VM: Tensor) -> tuple[Tensor, Genome]:
        """States at the input, B x Q x D, the pooling token first, and the silent genome; in the precision in use."""
        device = self.cell_token.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.cell_token.dtype
        genome = Genome(
            self.embedding.gene_vectors.weight.to(dtype), normalised(self.embedding.silent(patterns_VM).to(dtype))
        )
        first_B1D = self.cell_token.expand(len(batch.genes_BT), 1, -1)
        return torch.cat([first_B1D.to(dtype), self.embedding(batch).to(dtype)], dim=1), genome

    def _encode_and_fuse(self, batch: CellBatch, dense: bool, attention: str | None, read_BT: Tensor | None) -> Encoded:
        """Encode each modality alone and fuse the embeddings; of tokens and attention give the mean."""
        missing_BM, views = batch.missing_BM(), [batch.only(m) for m in range(len(MODALITIES))]
        # What lacks a modality is the same in both views: one is enough where all cells lack it.
        kept = [m for m in range(len(MODALITIES)) if not missing_BM[:, m].all()] or [0]
        parts = [self.encode(views[m], dense, attention, read_BT) for m in kept]
        halves_MBD = self.fusion(parts[0].cell_BD, parts[-1].cell_BD, missing_BM)
        cell_BD = self.fusion.join(*halves_MBD)
        shown_VBT = torch.stack([~views[m].pad_BT for m in kept])
        read_VBT = shown_VBT if read_BT is None else shown_VBT.gather(2, read_BT.expand(len(kept), -1, -1))
        tokens_BTD = weighted_mean(torch.stack([part.tokens_BTD for part in parts]), read_VBT[..., None])
        if not attention:
            return Encoded(tokens_BTD, cell_BD, None, halves_MBD)
        layers = [torch.stack(layer) for layer in zip(*(part.attention for part in parts), strict=True)]
        if attention == "genes" and not dense:
            weights = [weighted_mean(layer_VBTS, shown_VBT[..., None]) for layer_VBTS in layers]
        else:
            weights = [layer_V.mean(0) for layer_V in layers]
        return Encoded(tokens_BTD, cell_BD, weights, halves_MBD)

    def _forward_dense(self, batch: CellBatch, attention: str | None, read_BT: Tensor | None) -> Encoded:
        """Encode with every gene as a token, and pick the tokens of the batch."""
        genes_BT, pad_BT = batch.genes_BT, batch.pad_BT
        if read_BT is not None:
            genes_BT, pad_BT = genes_BT.gather(1, read_BT), pad_BT.gather(1, read_BT)
        encoded = self.encode(batch.every_gene(self.n_genes), attention=attention)
        tokens_BTD = pick(encoded.tokens_BTD, genes_BT).masked_fill(pad_BT[..., None], 0.0)
        return encoded._replace(tokens_BTD=tokens_BTD)


def normalised(states: Tensor) -> Tensor:
    """Scale states to mean 0 and variance 1 over the width."""
    return F.layer_norm(states, states.shape[-1:])


def pick(states_BTD: Tensor, at_BR: Tensor) -> Tensor:
    """States at some positions of each cell, B x R x D."""
    return states_BTD.gather(1, at_BR[..., None].expand(-1, -1, states_BTD.shape[-1]))


def weighted_mean(states_VX: Tensor, weight_VX: Tensor) -> Tensor:
    """Mean over the first axis; zero where all weights are."""
    weight_VX = weight_VX.to(states_VX.dtype)
    return (states_VX * weight_VX).sum(0) / weight_VX.sum(0).clamp_min(1)
