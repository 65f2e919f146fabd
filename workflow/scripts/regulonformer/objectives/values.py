"""The objective of scDynOmics: hide genes that a cell shows, in all modalities at once, and predict their values.

Preprint "scDynOmics", version 2 of 2026, section on pretraining. The released code pairs each target with the wrong
gene and modality (it reshapes where it should transpose), has a ReLU on its output and gives NaN for a cell with
nothing to hide; what is built here is the objective as it is described.
"""

import warnings
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from regulonformer.errors import InputError, refuse_unknown_keys
from regulonformer.model.batch import OBSERVED, CellBatch
from regulonformer.model.encoder import Regulonformer
from regulonformer.model.heads import value_bins
from regulonformer.objectives.base import Objective
from regulonformer.objectives.masking import choose, hide, reading_positions, scored_tokens
from regulonformer.objectives.terms import LossTerms

# What the heads have to predict for each loss.
PREDICTS = {"huber": "values", "bins": "bins"}


@dataclass(frozen=True)
class ValueConfig:
    """Settings of value modelling.

    Attributes
    ----------
    fraction
        Share of a cell's active genes that is hidden, rounded down.
    loss
        `huber`: Huber loss (delta 1) of the value; `bins`: cross-entropy over bins of the value.
    """

    fraction: float = 0.15
    loss: str = "huber"

    @classmethod
    def from_dict(cls, values: dict) -> "ValueConfig":
        """Build from plain builtins.

        Raises
        ------
        InputError
            If a key or the loss is unknown, or the fraction out of range.
        """
        refuse_unknown_keys(values, [item.name for item in fields(cls)], "objective")
        config = cls(**values)
        if not 0 < config.fraction <= 1:
            raise InputError("objective.fraction", f"{config.fraction} is no share", "Use a value in (0, 1]")
        if config.loss not in PREDICTS:
            raise InputError("objective.loss", f"unknown loss {config.loss!r}", f"Use one of {', '.join(PREDICTS)}")
        return config


class HiddenValues(NamedTuple):
    """A batch with hidden entries, and what its parts need to know of the whole.

    Attributes
    ----------
    batch
        Cells, with hidden entries masked.
    scored_BTM
        Which entries are hidden, and therefore scored.
    values_BTM
        Values before they were hidden: the targets.
    read_BR
        Positions of the tokens that are scored.
    weight_M
        Number of scored entries of the whole batch.
    """

    batch: CellBatch
    scored_BTM: Tensor
    values_BTM: Tensor
    read_BR: Tensor
    weight_M: Tensor

    def part(self, rows: slice) -> "HiddenValues":
        """Some of the cells; the number of entries stays that of the whole batch, so that losses of parts add up."""
        cells = CellBatch(*(tensor[rows] for tensor in self.batch))
        return HiddenValues(cells, self.scored_BTM[rows], self.values_BTM[rows], self.read_BR[rows], self.weight_M)

    def to(self, device) -> "HiddenValues":
        """Move every tensor to a device."""
        return HiddenValues(*(item.to(device) for item in self))


class ValueModelling(Objective):
    """Hide all modalities of a share of a cell's active genes, and score their values.

    A gene is active if its value is above zero in any modality. The zero of its other modality is scored; genes that
    are zero in both are neither hidden nor scored, so the model is calibrated for active genes alone.

    Parameters
    ----------
    config
        Settings.
    n_genes
        Genes N of the vocabulary; all objectives take it, this one draws no other genes.
    """

    def __init__(self, config: ValueConfig, n_genes: int) -> None:
        self.config, self.n_genes = config, n_genes

    @property
    def predicts(self) -> str:
        """What the heads of the model have to predict (`ModelConfig.predicts`)."""
        return PREDICTS[self.config.loss]

    def prepare(self, batch: CellBatch, generator: torch.Generator) -> HiddenValues:
        """Choose what is hidden; warns if a cell has too few active genes to hide one.

        Parameters
        ----------
        batch
            Active genes of each cell, on the CPU.
        generator
            Source of randomness; the same state gives the same masks.
        """
        values_BTM = torch.stack([batch.rna_BT, batch.atac_BT], dim=-1)
        observed_BTM = torch.stack([batch.rna_state_BT, batch.atac_state_BT], dim=-1) == OBSERVED
        active_BT = ((values_BTM > 0) & observed_BTM).any(-1) & ~batch.pad_BT
        n_hidden_B = (active_BT.sum(1) * self.config.fraction).floor().long()
        if not n_hidden_B.all():
            warnings.warn("some cells have no gene to mask and add nothing to the loss", RuntimeWarning, stacklevel=2)
        hidden_BT = choose(active_BT, n_hidden_B, generator)
        scored_BTM = hidden_BT[..., None] & ~batch.missing_BM()[:, None]
        read_BR, weight_M = reading_positions(scored_BTM), scored_BTM.sum((0, 1)).float()
        return HiddenValues(hide(batch, scored_BTM), scored_BTM, values_BTM, read_BR, weight_M)

    def loss(self, model: Regulonformer, hidden: HiddenValues) -> LossTerms:
        """Encode cells and score their hidden values.

        Parameters
        ----------
        model
            Encoder whose heads predict what `predicts` says.
        hidden
            Cells of a batch, or a part of them, on the device of the model.

        Returns
        -------
        LossTerms
            Zero where no cell has a gene to hide.
        """
        encoded = model(hidden.batch, read_BT=hidden.read_BR)
        cells_X, genes_X, in_batch_X, in_read_X = scored_tokens(hidden.batch, hidden.scored_BTM, hidden.read_BR)
        scored_XM, values_XM = (item.flatten(0, 1)[in_batch_X] for item in (hidden.scored_BTM, hidden.values_BTM))
        with torch.autocast(values_XM.device.type, enabled=False):
            tokens_XD = encoded.tokens_BTD.flatten(0, 1).index_select(0, in_read_X)
            gene_vectors_ND = model.embedding.gene_vectors.weight
            outputs_XMK = model.heads(tokens_XD, encoded.cell_BD, cells_X, genes_X, gene_vectors_ND)
            nll_M = (self._entry_loss(outputs_XMK, values_XM) * scored_XM).sum(0)
            floor_M = (self._entry_loss(model.heads.start[genes_X], values_XM) * scored_XM).sum(0)
        # The mean over all entries of a modality, then over the modalities that have any.
        n_modalities = (hidden.weight_M > 0).sum().clamp_min(1)
        loss = (nll_M / hidden.weight_M.clamp_min(1)).sum() / n_modalities
        return LossTerms(loss, nll_M.detach(), floor_M, scored_XM.sum(0).float())

    def __call__(self, model: Regulonformer, batch: CellBatch, generator: torch.Generator) -> LossTerms:
        """Hide entries of a batch, encode it and score them."""
        return self.loss(model, self.prepare(batch, generator).to(model.cell_token.device))

    def _entry_loss(self, outputs_XMK: Tensor, values_XM: Tensor) -> Tensor:
        """Loss of each entry, X x M."""
        if self.config.loss == "huber":
            return F.huber_loss(outputs_XMK[..., 0], values_XM, reduction="none")
        return F.cross_entropy(outputs_XMK.movedim(-1, 1), value_bins(values_XM), reduction="none")
