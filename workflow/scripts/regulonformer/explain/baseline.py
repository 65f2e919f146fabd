"""What a cell is compared with: the mean cell of the other classes, or a cell without counts."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from regulonformer.model.batch import MISSING, MODALITIES, CellBatch


def class_means(labelled: Iterable[tuple[CellBatch, np.ndarray]], n_classes: int, n_genes: int) -> Tensor:
    """Mean value of each gene in each class.

    Parameters
    ----------
    labelled
        Batches of cells, and the class of each cell.
    n_classes
        Classes C.
    n_genes
        Genes N of the vocabulary.

    Returns
    -------
    Tensor
        C x M x N. Cells that lack a modality do not count for it; a class without any such cell is NaN there.
    """
    sums = np.zeros((n_classes, len(MODALITIES), n_genes))
    sizes = np.zeros((n_classes, len(MODALITIES), 1))
    for batch, class_B in labelled:
        place_BT = class_B[:, None] * n_genes + batch.genes_BT.numpy()
        for m, (values_BT, state_BT) in enumerate(_modalities(batch)):
            seen_BT = (~batch.pad_BT & (state_BT != MISSING)).numpy()
            added = np.bincount(place_BT[seen_BT], values_BT.numpy()[seen_BT], n_classes * n_genes)
            sums[:, m] += added.reshape(n_classes, n_genes)
            measured = class_B[~batch.missing_BM()[:, m].numpy()]
            sizes[:, m, 0] += np.bincount(measured, minlength=n_classes)
    with np.errstate(invalid="ignore"):
        return torch.as_tensor(sums / sizes, dtype=torch.float32)


def mean_of_others(means_CMN: Tensor) -> Tensor:
    """Mean cell of the other classes, for each class; every class has the same weight, whatever its size.

    Parameters
    ----------
    means_CMN
        From `class_means`.

    Returns
    -------
    Tensor
        C x M x N; zero where no other class was measured.
    """
    known = (~means_CMN.isnan()).to(means_CMN.dtype)
    values = means_CMN.nan_to_num()
    others = known.sum(0, keepdim=True) - known
    return (values.sum(0, keepdim=True) - values) / others.clamp_min(1)


def list_baseline(
    batch: CellBatch, class_B: Tensor, baseline_CMN: Tensor, n_listed: int
) -> tuple[CellBatch, tuple[Tensor, Tensor]]:
    """Give cells and their baseline the same tokens.

    The mean cell has values at genes that are silent in a cell, and what a cell lacks can speak for its class. So the
    tokens are the genes active in the cell and the strongest genes of its baseline; the added ones are zero in the
    cell. Elsewhere the baseline is as silent as the cell: it differs from the cell at listed genes alone.

    Parameters
    ----------
    batch
        Cells.
    class_B
        Class explained in each cell.
    baseline_CMN
        Baseline of each class.
    n_listed
        Genes of the baseline that are listed, those of the largest value (both modalities added).

    Returns
    -------
    CellBatch
        The cells with the longer list of tokens T.
    (Tensor, Tensor)
        Values of the baseline at these tokens, B x T of RNA and of accessibility; zero where padded or missing.
    """
    n_genes = baseline_CMN.shape[-1]
    strength_CN = baseline_CMN.sum(1)
    top_CK = strength_CN.topk(min(n_listed, n_genes), dim=1).indices
    wanted_CN = torch.zeros_like(strength_CN, dtype=torch.bool).scatter(1, top_CK, True) & (strength_CN > 0)
    active_BN = torch.zeros(len(class_B), n_genes + 1, dtype=torch.bool)
    active_BN = active_BN.scatter(1, batch.genes_BT.masked_fill(batch.pad_BT, n_genes), True)[:, :n_genes]
    wanted_BN = wanted_CN[class_B] | active_BN
    n_tokens_B = wanted_BN.sum(1)
    # Wanted genes first, in vocabulary order.
    genes_BT = (~wanted_BN).to(torch.uint8).argsort(dim=1, stable=True)[:, : max(1, int(n_tokens_B.max()))]
    pad_BT = torch.arange(genes_BT.shape[1]) >= n_tokens_B[:, None]
    dense = batch.every_gene(n_genes)
    # With all genes as tokens the position of a gene is the gene.
    picked = {name: getattr(dense, name).gather(1, genes_BT) for name in CellBatch._fields if name != "library_B2"}
    picked |= {"genes_BT": genes_BT.masked_fill(pad_BT, 0), "pad_BT": pad_BT, "library_B2": batch.library_B2}
    listed = CellBatch(**picked)
    values = tuple(
        baseline_CMN[class_B, m].gather(1, genes_BT).masked_fill(pad_BT | (state_BT == MISSING), 0.0)
        for m, (_, state_BT) in enumerate(_modalities(listed))
    )
    return listed, values


def _modalities(batch: CellBatch) -> list[tuple[Tensor, Tensor]]:
    """Values and states of each modality, in the order of `MODALITIES`."""
    return [(batch.rna_BT, batch.rna_state_BT), (batch.atac_BT, batch.atac_state_BT)]
