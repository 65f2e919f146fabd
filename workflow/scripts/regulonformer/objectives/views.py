"""Views of cells: parts of their counts, and ranks for values."""

import torch
from torch import Tensor

from regulonformer.model.batch import CellBatch

# Value of the highest rank: log1p of counts per 10 000 of a strongly expressed gene.
TOP_VALUE = 5.0
# Share of the counts of a cell that one view gets, at least and at most; the other view gets the rest.
SPLIT = (0.3, 0.7)
# Values are log1p of counts per this many, as `corpus.encoding` makes them.
TARGET_SUM = 10_000.0


def split_counts(batch: CellBatch, generator: torch.Generator) -> tuple[CellBatch, CellBatch]:
    """Divide the counts of each cell between two views, each count at random.

    Parts of a Poisson count are independent given its rate (Neufeld et al. 2022, arXiv 2207.00554, section 3): what the
    views share is the state of the cell, and not which of its transcripts were caught. How much each view gets is drawn
    for each cell and modality.

    Parameters
    ----------
    batch
        Cells, on the CPU.
    generator
        Source of randomness.
    """
    low, high = SPLIT
    share_BM = low + (high - low) * torch.rand(len(batch.genes_BT), 2, generator=generator)
    whole = (batch.rna_counts_BT, batch.atac_counts_BT)
    drawn = [
        torch.binomial(counts_BT.round(), share_BM[:, m, None].expand_as(counts_BT).contiguous(), generator=generator)
        for m, counts_BT in enumerate(whole)
    ]
    rest = [(counts_BT - part_BT).clamp_min(0.0) for counts_BT, part_BT in zip(whole, drawn, strict=True)]
    return _with_counts(batch, *drawn), _with_counts(batch, *rest)


def _with_counts(batch: CellBatch, rna_BT: Tensor, atac_BT: Tensor) -> CellBatch:
    """The same cells with some of their counts; genes that are left with none are no tokens any more."""
    before_B2 = torch.stack([batch.rna_counts_BT.sum(1), batch.atac_counts_BT.sum(1)], dim=1)
    library_B2 = batch.library_B2 * torch.stack([rna_BT.sum(1), atac_BT.sum(1)], dim=1) / before_B2.clamp_min(1.0)
    scale_B2 = TARGET_SUM / library_B2.clamp_min(1.0)
    pad_BT = batch.pad_BT | ((rna_BT == 0) & (atac_BT == 0))
    return batch._replace(
        genes_BT=batch.genes_BT.masked_fill(pad_BT, 0),
        rna_BT=(rna_BT * scale_B2[:, :1]).log1p(),
        atac_BT=(atac_BT * scale_B2[:, 1:]).log1p(),
        pad_BT=pad_BT,
        rna_counts_BT=rna_BT,
        atac_counts_BT=atac_BT,
        library_B2=library_B2,
    )


def rank_view(batch: CellBatch, gene_log_mean_N2: Tensor) -> CellBatch:
    """The same cells with ranks for values: the highest value of a modality becomes `TOP_VALUE`, and so on evenly down.

    Genes are ranked by their counts relative to their mean in all cells, as Geneformer and scDMC do by the median.
    Equal ones share the mean of their ranks, so that the order of genes says nothing.

    Parameters
    ----------
    batch
        Cells.
    gene_log_mean_N2
        log of each gene's mean share of all counts, per modality.
    """
    log_mean_BT2 = gene_log_mean_N2[batch.genes_BT]
    counts = (batch.rna_counts_BT, batch.atac_counts_BT)
    rna_BT, atac_BT = (_ranks(counts_BT.log() - log_mean_BT2[..., m]) for m, counts_BT in enumerate(counts))
    return batch._replace(rna_BT=rna_BT, atac_BT=atac_BT)


def _ranks(keys_BT: Tensor) -> Tensor:
    """Mean rank of each finite key within its row, scaled to (0, TOP_VALUE]; 0 where the key is -inf."""
    sorted_BT = keys_BT.sort(dim=1).values
    below_BT = torch.searchsorted(sorted_BT, keys_BT.contiguous())
    up_to_BT = torch.searchsorted(sorted_BT, keys_BT.contiguous(), right=True)
    shown_BT = keys_BT > -torch.inf
    n_B1 = shown_BT.sum(1, keepdim=True)
    rank_BT = (below_BT + up_to_BT + 1) / 2 - (keys_BT.shape[1] - n_B1)
    return torch.where(shown_BT, rank_BT / n_B1.clamp_min(1) * TOP_VALUE, 0.0)
