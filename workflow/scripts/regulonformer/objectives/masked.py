"""Masked modelling of both modalities: predict hidden counts from the rest of the cell."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from regulonformer.errors import InputError, refuse_unknown_keys
from regulonformer.model.batch import MISSING, CellBatch
from regulonformer.model.encoder import Encoded, Regulonformer
from regulonformer.model.heads import negative_binomial_nll
from regulonformer.objectives.base import Objective
from regulonformer.objectives.masking import choose, hide, reading_positions, scored_tokens
from regulonformer.objectives.terms import LossTerms


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
        refuse_unknown_keys(values, [item.name for item in fields(cls)], "objective")
        config = cls(**values)
        if not 0 < config.fraction <= 1:
            raise InputError("objective.fraction", f"{config.fraction} is no share", "Use a value in (0, 1]")
        if config.rna_only + config.atac_only > 1:
            raise InputError("objective.rna_only + atac_only", "their sum is above 1", "Lower one of them")
        return config


def split_settings(kind: type, values: dict) -> tuple:
    """Divide a block of settings between a dataclass of an objective and the `MaskedConfig` that stands beside it.

    Raises
    ------
    InputError
        If a key is in neither, or a value of masked modelling out of range.
    """
    own, masked = ([item.name for item in fields(part)] for part in (kind, MaskedConfig))
    refuse_unknown_keys(values, own + masked, "objective")
    config = kind(**{name: values[name] for name in own if name in values})
    return config, MaskedConfig.from_dict({name: values[name] for name in masked if name in values})


class MaskedCells(NamedTuple):
    """A masked batch, and what its parts need to know of the whole.

    Attributes
    ----------
    batch
        Cells, with hidden entries masked and sampled zeros added.
    scored_BTM
        Which entries are scored.
    weight_BT
        Weight of each token's entries.
    read_BR
        Positions of the tokens that are scored.
    genes_G
        Genes whose profile is reconstructed from the cell embedding.
    profile_BGM
        Their counts.
    weight_M
        Weight of all scored entries of the whole batch.
    taught_M
        Profile entries of the whole batch that are scored.
    """

    batch: CellBatch
    scored_BTM: Tensor
    weight_BT: Tensor
    read_BR: Tensor
    genes_G: Tensor
    profile_BGM: Tensor
    weight_M: Tensor
    taught_M: Tensor

    def part(self, rows: slice) -> "MaskedCells":
        """Some of the cells; totals stay those of the whole batch, so that losses of parts add up."""
        return self._replace(
            batch=CellBatch(*(tensor[rows] for tensor in self.batch)),
            scored_BTM=self.scored_BTM[rows],
            weight_BT=self.weight_BT[rows],
            read_BR=self.read_BR[rows],
            profile_BGM=self.profile_BGM[rows],
        )

    def to(self, device) -> "MaskedCells":
        """Move every tensor to a device."""
        return MaskedCells(*(item.to(device) for item in self))


class MaskedModelling(Objective):
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

    def prepare(self, batch: CellBatch, generator: torch.Generator) -> MaskedCells:
        """Choose what is hidden and what is scored; warns if a cell has no gene to mask.

        Parameters
        ----------
        batch
            Active genes of each cell, on the CPU.
        generator
            Source of randomness; the same state gives the same masks.
        """
        n_cells, n_tokens = batch.genes_BT.shape
        n_active_B = (~batch.pad_BT).sum(1)
        if not n_active_B.all():
            warnings.warn("some cells have no gene to mask and add nothing to the loss", RuntimeWarning, stacklevel=2)
        n_hidden_B = (n_active_B * self.config.fraction).round().long().clamp_min(1).minimum(n_active_B)
        hidden_BT = choose(~batch.pad_BT, n_hidden_B, generator)

        n_silent_B = self.n_genes - n_active_B
        n_zero_B = (n_hidden_B * self.config.zero_fraction).round().long().minimum(n_silent_B)
        zeros_BZ, real_BZ = self._sample_silent(batch, n_zero_B, generator)
        genes_G = torch.randperm(self.n_genes, generator=generator)[: self.config.profile_genes].sort().values
        profile_BGM = _counts_of(batch, genes_G, self.n_genes)
        batch = _append_zeros(batch, zeros_BZ, real_BZ)
        hidden_BT = torch.cat([hidden_BT, real_BZ], dim=1)

        # A zero is drawn with probability n_zero / n_silent, an active gene with n_hidden / n_active.
        zero_weight_B = (n_hidden_B / n_active_B.clamp_min(1)) * (n_silent_B / n_zero_B.clamp_min(1))
        weight_BT = torch.cat(
            [torch.ones(n_cells, n_tokens), zero_weight_B[:, None].expand(n_cells, zeros_BZ.shape[1])], dim=1
        )

        mode_BT = torch.rand(hidden_BT.shape, generator=generator)
        missing_BM = batch.missing_BM()
        hides_rna_BT = (mode_BT >= self.config.atac_only) | missing_BM[:, 1:]
        hides_atac_BT = (mode_BT < self.config.atac_only) | (mode_BT >= self.config.atac_only + self.config.rna_only)
        hides_atac_BT = hides_atac_BT | missing_BM[:, :1]
        scored_BTM = torch.stack([hides_rna_BT, hides_atac_BT], dim=-1) & hidden_BT[..., None] & ~missing_BM[:, None]
        batch = hide(batch, scored_BTM)
        weight_M = torch.einsum("btm,bt->m", scored_BTM.float(), weight_BT)
        taught_M = taught(batch).sum(0) * len(genes_G)
        read_BR = reading_positions(scored_BTM)
        return MaskedCells(batch, scored_BTM, weight_BT, read_BR, genes_G, profile_BGM, weight_M, taught_M)

    def loss(self, model: Regulonformer, masked: MaskedCells) -> LossTerms:
        """Encode masked cells and score their hidden counts.

        Parameters
        ----------
        model
            Encoder with its heads.
        masked
            Cells of a batch, or a part of them, on the device of the model.

        Returns
        -------
        LossTerms
            Zero where no cell has a gene to mask.
        """
        return self.encode_and_score(model, masked)[0]

    def encode_and_score(
        self, model: Regulonformer, masked: MaskedCells, encode: Callable[..., Encoded] | None = None
    ) -> tuple[LossTerms, Encoded]:
        """As `loss`, and the masked cells encoded, by the model or by another `encode`."""
        encoded = (encode or model)(masked.batch, read_BT=masked.read_BR)
        # Likelihoods of counts need the digits that half precision lacks.
        with torch.autocast(masked.weight_BT.device.type, enabled=False):
            terms = score(model, encoded, masked)
            profile = profile_nll(model, encoded.cell_BD, masked)
        return terms._replace(loss=terms.loss + self.config.profile_weight * profile), encoded

    def __call__(self, model: Regulonformer, batch: CellBatch, generator: torch.Generator) -> LossTerms:
        """Mask a batch, encode it and score the hidden counts."""
        return self.loss(model, self.prepare(batch, generator).to(model.cell_token.device))

    def _sample_silent(self, batch: CellBatch, n_zero_B: Tensor, generator) -> tuple[Tensor, Tensor]:
        """Draw silent genes of each cell without replacement: genes B x Z, and which of them are real."""
        most = int(n_zero_B.max())
        key_BN = torch.rand(len(n_zero_B), self.n_genes + 1, generator=generator)
        # Active genes and the extra column, which padding points to, go last.
        key_BN = key_BN.scatter(1, batch.genes_BT.masked_fill(batch.pad_BT, self.n_genes), 2.0)[:, : self.n_genes]
        zeros_BZ = key_BN.topk(most, dim=1, largest=False).indices
        return zeros_BZ, torch.arange(most)[None] < n_zero_B[:, None]


def score(model: Regulonformer, encoded: Encoded, masked: MaskedCells) -> LossTerms:
    """Negative log likelihood of the hidden counts, against the mean-profile floor of the same entries.

    Parameters
    ----------
    model
        Gives heads and gene vectors.
    encoded
        States of the tokens at `masked.read_BR`.
    masked
        Cells, scored entries and weights, on the device of the model.
    """
    heads, batch = model.heads, masked.batch
    cells_X, genes_X, in_batch_X, in_read_X = scored_tokens(batch, masked.scored_BTM, masked.read_BR)
    targets_XM = counts(batch).flatten(0, 1)[in_batch_X]
    weight_XM = masked.scored_BTM.flatten(0, 1)[in_batch_X] * masked.weight_BT.flatten()[in_batch_X][:, None]
    log_library_XM = batch.library_B2.clamp_min(1.0).log()[cells_X]

    def weighted(log_rate_XM, log_size_XM):
        return (negative_binomial_nll(targets_XM, log_rate_XM + log_library_XM, log_size_XM) * weight_XM).sum(0)

    tokens_XD = encoded.tokens_BTD.flatten(0, 1).index_select(0, in_read_X)
    gene_vectors_ND = model.embedding.gene_vectors.weight
    log_rate_XM = heads.token_log_rate(tokens_XD, encoded.cell_BD, cells_X, genes_X, gene_vectors_ND)
    nll_M = weighted(log_rate_XM, F.embedding(genes_X, heads.log_dispersion))
    with torch.no_grad():
        floor_M = weighted(heads.gene_log_mean[genes_X], heads.floor_log_dispersion[genes_X])
    # A modality nothing is scored in has sum and weight zero, and adds nothing.
    loss = (nll_M / masked.weight_M.clamp_min(1e-8)).sum()
    return LossTerms(loss, nll_M.detach(), floor_M, weight_XM.sum(0))


def profile_nll(model: Regulonformer, cell_BD: Tensor, masked: MaskedCells) -> Tensor:
    """Negative log likelihood of some genes' counts given the cell embedding alone (nats per entry, both modalities).

    Parameters
    ----------
    model
        Gives heads and gene vectors.
    cell_BD
        Cell embeddings.
    masked
        Cells, and the genes to reconstruct.
    """
    return (profile_sums(model, cell_BD, masked) / masked.taught_M.clamp_min(1)).sum()


def profile_sums(model: Regulonformer, cell_BD: Tensor | None, masked: MaskedCells) -> Tensor:
    """Sums of that over cells and genes, M; of the mean profile where no embeddings are given."""
    heads, genes_G = model.heads, masked.genes_G
    if cell_BD is None:
        log_rate_BGM, log_size_NM = heads.gene_log_mean[genes_G], heads.floor_log_dispersion
    else:
        log_rate_BGM = heads.cell_log_rate(cell_BD, genes_G, model.embedding.gene_vectors.weight)
        log_size_NM = heads.log_dispersion
    log_mean_BGM = log_rate_BGM + masked.batch.library_B2.clamp_min(1.0).log()[:, None]
    nll_BGM = negative_binomial_nll(masked.profile_BGM, log_mean_BGM, F.embedding(genes_G, log_size_NM))
    return (nll_BGM * taught(masked.batch)[:, None]).sum((0, 1))


def counts(batch: CellBatch) -> Tensor:
    """Targets, B x T x M: RNA counts and accessibility counts of each token's own gene."""
    return torch.stack([batch.rna_counts_BT, batch.atac_counts_BT], dim=-1)


def taught(batch: CellBatch) -> Tensor:
    """Modalities of each cell whose profile is scored, B x M."""
    # An empty cell has nothing to teach, and a missing modality is no zero.
    return ~batch.missing_BM() & ~batch.pad_BT.all(1)[:, None]


def _counts_of(batch: CellBatch, genes_G: Tensor, n_genes: int) -> Tensor:
    """Counts of some genes in each cell, B x G x M; silent ones are zero."""
    # Genes that are not asked for, and padding, write to a column of their own, which is cut off again.
    column_N = torch.full((n_genes,), len(genes_G)).scatter(0, genes_G, torch.arange(len(genes_G)))
    column_BT = column_N[batch.genes_BT].masked_fill(batch.pad_BT, len(genes_G))
    full_BGM = torch.zeros(len(column_BT), len(genes_G) + 1, 2)
    return full_BGM.scatter(1, column_BT[..., None].expand(-1, -1, 2), counts(batch))[:, :-1]


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
