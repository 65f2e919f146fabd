"""Masked modelling of both modalities: predict hidden counts from the rest of the cell."""

import warnings
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from regulonformer.errors import InputError
from regulonformer.model.batch import MASKED, MISSING, CellBatch
from regulonformer.model.encoder import Encoded, Regulonformer
from regulonformer.model.heads import negative_binomial_nll


@dataclass(frozen=True)
class MaskedConfig:
    """Settings of masked modelling.

    Attributes
    ----------
    fraction
        Share of a cell's active genes that is masked.
    rna_only, atac_only
        Probability that a masked gene hides only its RNA, only its accessibility; otherwise it hides both.
    zero_fraction
        Silent genes masked and scored per masked active gene.
    profile_weight
        Weight of reconstructing the profile, masked or not, from the cell embedding alone.
    profile_genes
        Genes drawn per step for that reconstruction; all if the vocabulary has no more.
    """

    fraction: float = 0.25
    rna_only: float = 0.4
    atac_only: float = 0.4
    zero_fraction: float = 1.0
    profile_weight: float = 1.0
    profile_genes: int = 2048

    @classmethod
    def from_dict(cls, values: dict) -> "MaskedConfig":
        """Build from plain builtins.

        Raises
        ------
        InputError
            If a key is unknown or a probability out of range.
        """
        known = [item.name for item in fields(cls)]
        for key in values:
            if key not in known:
                raise InputError(f"objective.{key}", "unknown key", f"Known keys are {', '.join(known)}")
        config = cls(**values)
        if not 0 < config.fraction <= 1:
            raise InputError("objective.fraction", f"{config.fraction} is no share", "Use a value in (0, 1]")
        if config.rna_only + config.atac_only > 1:
            raise InputError("objective.rna_only + atac_only", "their sum is above 1", "Lower one of them")
        return config


class MaskedCells(NamedTuple):
    """A masked batch: the cells, which entries are scored, and the weight of each token's entries."""

    batch: CellBatch
    scored_BTM: Tensor
    weight_BT: Tensor


class MaskedLoss(NamedTuple):
    """The loss to minimise, and sums over scored entries per modality (nats; detached) for the curves."""

    loss: Tensor
    nll_M: Tensor
    floor_M: Tensor
    weight_M: Tensor


class MaskedModelling:
    """Mask a share of a cell's active genes and a sample of its silent ones, and score the hidden counts.

    A sampled zero stands for all silent genes it was drawn from and is weighted accordingly, so that the loss
    estimates the likelihood of a whole profile: the rates stay calibrated, and the mean profile is an honest floor.

    Parameters
    ----------
    config
        Settings.
    n_genes
        Genes N of the vocabulary.
    """

    def __init__(self, config: MaskedConfig, n_genes: int) -> None:
        self.config, self.n_genes = config, n_genes

    def mask(self, batch: CellBatch, generator: torch.Generator) -> MaskedCells:
        """Choose what is hidden.

        Parameters
        ----------
        batch
            Active genes of each cell, on the CPU.
        generator
            Source of randomness; the same state gives the same masks.
        """
        n_cells = len(batch.genes_BT)
        n_active_B = (~batch.pad_BT).sum(1)
        n_hidden_B = (n_active_B * self.config.fraction).round().long().clamp_min(1).minimum(n_active_B)
        key_BT = torch.rand(batch.genes_BT.shape, generator=generator).masked_fill(batch.pad_BT, 2.0)
        hidden_BT = key_BT.argsort(1).argsort(1) < n_hidden_B[:, None]

        n_silent_B = self.n_genes - n_active_B
        n_zero_B = (n_hidden_B * self.config.zero_fraction).round().long().minimum(n_silent_B)
        zeros_BZ, real_BZ = self._sample_silent(batch, n_zero_B, generator)
        batch = _append_zeros(batch, zeros_BZ, real_BZ)
        hidden_BT = torch.cat([hidden_BT, real_BZ], dim=1)

        # A zero is drawn with probability n_zero / n_silent, an active gene with n_hidden / n_active.
        zero_weight_B = (n_hidden_B / n_active_B.clamp_min(1)) * (n_silent_B / n_zero_B.clamp_min(1))
        weight_BT = torch.cat(
            [torch.ones_like(key_BT), zero_weight_B[:, None].expand(n_cells, zeros_BZ.shape[1])], dim=1
        )

        mode_BT = torch.rand(hidden_BT.shape, generator=generator)
        missing_BM = batch.missing_BM()
        hides_rna_BT = (mode_BT >= self.config.atac_only) | missing_BM[:, 1:]
        hides_atac_BT = (mode_BT < self.config.atac_only) | (mode_BT >= self.config.atac_only + self.config.rna_only)
        hides_atac_BT = hides_atac_BT | missing_BM[:, :1]
        scored_BTM = torch.stack([hides_rna_BT, hides_atac_BT], dim=-1) & hidden_BT[..., None] & ~missing_BM[:, None]
        batch = batch._replace(
            rna_state_BT=batch.rna_state_BT.masked_fill(scored_BTM[..., 0], MASKED),
            atac_state_BT=batch.atac_state_BT.masked_fill(scored_BTM[..., 1], MASKED),
            rna_BT=batch.rna_BT.masked_fill(scored_BTM[..., 0], 0.0),
            atac_BT=batch.atac_BT.masked_fill(scored_BTM[..., 1], 0.0),
        )
        return MaskedCells(batch, scored_BTM, weight_BT)

    def __call__(self, model: Regulonformer, batch: CellBatch, generator: torch.Generator) -> MaskedLoss:
        """Mask a batch, encode it and score the hidden counts.

        Returns
        -------
        MaskedLoss
            Zero, with a warning, where no cell has a gene to mask.
        """
        masked = self.mask(batch, generator)
        if not masked.scored_BTM.any(dim=(1, 2)).all():
            warnings.warn("some cells have no gene to mask and add nothing to the loss", RuntimeWarning, stacklevel=2)
        genes_G = torch.randperm(self.n_genes, generator=generator)[: self.config.profile_genes].sort().values
        device = model.cell_token.device
        masked = MaskedCells(masked.batch.to(device), masked.scored_BTM.to(device), masked.weight_BT.to(device))
        encoded = model(masked.batch)
        result = score(model, encoded, masked)
        profile = profile_nll(model, encoded.cell_BD, masked.batch, genes_G.to(device))
        return result._replace(loss=result.loss + self.config.profile_weight * profile)

    def _sample_silent(self, batch: CellBatch, n_zero_B: Tensor, generator) -> tuple[Tensor, Tensor]:
        """Draw silent genes of each cell without replacement: genes B x Z, and which of them are real."""
        most = int(n_zero_B.max())
        key_BN = torch.rand(len(n_zero_B), self.n_genes + 1, generator=generator)
        # Active genes and the extra column, which padding points to, go last.
        key_BN = key_BN.scatter(1, batch.genes_BT.masked_fill(batch.pad_BT, self.n_genes), 2.0)[:, : self.n_genes]
        zeros_BZ = key_BN.topk(most, dim=1, largest=False).indices
        return zeros_BZ, torch.arange(most)[None] < n_zero_B[:, None]


def score(model: Regulonformer, encoded: Encoded, masked: MaskedCells) -> MaskedLoss:
    """Negative log likelihood of the hidden counts, against the mean-profile floor of the same entries.

    Parameters
    ----------
    model
        Gives heads and gene vectors.
    encoded
        States of the tokens of `masked`.
    masked
        Cells, scored entries and weights, on the device of the model.
    """
    heads, batch = model.heads, masked.batch
    cells_X, position_X = masked.scored_BTM.any(-1).nonzero(as_tuple=True)
    if not len(cells_X):
        zero_M = torch.zeros(2, device=batch.rna_BT.device)
        return MaskedLoss(encoded.cell_BD.sum() * 0.0, zero_M, zero_M, zero_M)
    flat_X = cells_X * batch.genes_BT.shape[1] + position_X
    genes_X = batch.genes_BT.flatten()[flat_X]
    targets_XM = counts(batch).flatten(0, 1)[flat_X]
    weight_XM = masked.scored_BTM.flatten(0, 1)[flat_X] * masked.weight_BT.flatten()[flat_X][:, None]
    log_library_XM = batch.library_B2.clamp_min(1.0).log()[cells_X]

    def weighted(log_rate_XM, log_size_XM):
        return (negative_binomial_nll(targets_XM, log_rate_XM + log_library_XM, log_size_XM) * weight_XM).sum(0)

    tokens_XD = encoded.tokens_BTD.flatten(0, 1).index_select(0, flat_X)
    gene_vectors_ND = model.embedding.gene_vectors.weight
    log_rate_XM = heads.token_log_rate(tokens_XD, encoded.cell_BD, cells_X, genes_X, gene_vectors_ND)
    nll_M = weighted(log_rate_XM, F.embedding(genes_X, heads.log_dispersion))
    weight_M = weight_XM.sum(0)
    with torch.no_grad():
        floor_M = weighted(heads.gene_log_mean[genes_X], heads.floor_log_dispersion[genes_X])
    # A modality nothing is scored in has sum and weight zero, and adds nothing.
    return MaskedLoss((nll_M / weight_M.clamp_min(1e-8)).sum(), nll_M.detach(), floor_M, weight_M)


def profile_nll(model: Regulonformer, cell_BD: Tensor, batch: CellBatch, genes_G: Tensor) -> Tensor:
    """Negative log likelihood of some genes' counts given the cell embedding alone (nats per entry, both modalities).

    Parameters
    ----------
    model
        Gives heads and gene vectors.
    cell_BD
        Cell embeddings.
    batch
        Cells; silent genes count as zero.
    genes_G
        Genes to reconstruct.
    """
    heads = model.heads
    log_rate_BGM = heads.cell_log_rate(cell_BD, genes_G, model.embedding.gene_vectors.weight)
    log_mean_BGM = log_rate_BGM + batch.library_B2.clamp_min(1.0).log()[:, None]
    counts_BGM = counts(batch.every_gene(model.n_genes))[:, genes_G]
    nll_BGM = negative_binomial_nll(counts_BGM, log_mean_BGM, F.embedding(genes_G, heads.log_dispersion))
    # An empty cell has nothing to teach, and a missing modality is no zero.
    taught_BM = ~batch.missing_BM() & ~batch.pad_BT.all(1)[:, None]
    entries_M = taught_BM.sum(0) * len(genes_G)
    return ((nll_BGM * taught_BM[:, None]).sum((0, 1)) / entries_M.clamp_min(1)).sum()


def counts(batch: CellBatch) -> Tensor:
    """Targets, B x T x M: RNA counts and accessibility counts of each token's own gene."""
    return torch.stack([batch.rna_counts_BT, batch.atac_counts_BT], dim=-1)


def _append_zeros(batch: CellBatch, zeros_BZ: Tensor, real_BZ: Tensor) -> CellBatch:
    """Add silent genes as tokens with value zero."""
    n_cells, n_zeros = zeros_BZ.shape
    missing_BM = batch.missing_BM()

    def extend(values_BT, added_BZ):
        return torch.cat([values_BT, added_BZ.to(values_BT.dtype)], dim=1)

    nothing_BZ = torch.zeros(n_cells, n_zeros)
    return CellBatch(
        extend(batch.genes_BT, zeros_BZ * real_BZ),
        extend(batch.rna_BT, nothing_BZ),
        extend(batch.atac_BT, nothing_BZ),
        extend(batch.rna_state_BT, (missing_BM[:, :1] * MISSING).expand(n_cells, n_zeros)),
        extend(batch.atac_state_BT, (missing_BM[:, 1:] * MISSING).expand(n_cells, n_zeros)),
        extend(batch.pad_BT, ~real_BZ),
        extend(batch.rna_counts_BT, nothing_BZ),
        extend(batch.atac_counts_BT, nothing_BZ),
        batch.library_B2,
    )
