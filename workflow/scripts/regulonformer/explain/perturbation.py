"""In-silico knock-out and over-expression of genes: how the cell embedding and the predicted expression answer.

The cells stay as they were measured but for one gene (and, if wanted, the slot of its regulon); the pretrained model
then embeds them again, and its heads say what it expects of every gene in such a cell. As Geneformer deletes a gene
from a cell (Theodoris et al. 2023, doi:10.1038/s41586-023-06139-9, Methods), with a null of genes that are expressed
alike.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from regulonformer.errors import InputError
from regulonformer.log import progress
from regulonformer.model.batch import MISSING, MODALITIES, OBSERVED, CellBatch
from regulonformer.model.encoder import Regulonformer
from regulonformer.model.pooling import RegulonPooling

BATCH_CELLS = 256


def with_gene(batch: CellBatch, genes_B: Tensor, rna_B: Tensor, close_B: Tensor) -> CellBatch:
    """Give one gene of each cell another RNA value; all else stays, the totals of the cell included.

    Parameters
    ----------
    batch
        Cells.
    genes_B
        Token of the gene, per cell.
    rna_B
        Its RNA as log1p of counts per 10,000; 0 knocks it out.
    close_B
        Whether its accessibility is set to zero too.

    Returns
    -------
    CellBatch
        With one more token per cell: the gene moved there. A gene without RNA and accessibility is padding, since the
        encoder takes genes that are not listed for silent. A missing modality stays missing.
    """
    at_BT = (batch.genes_BT == genes_B[:, None]) & ~batch.pad_BT
    missing_BM = batch.missing_BM()
    atac_B = (batch.atac_BT * at_BT).sum(1).masked_fill(close_B, 0.0)
    rna_B = rna_B.masked_fill(missing_BM[:, 0], 0.0)
    silent_B = (rna_B == 0) & (atac_B == 0)
    states = [torch.where(missing_BM[:, m], MISSING, OBSERVED) for m in range(len(MODALITIES))]

    def append(values_BT, added_B):
        return torch.cat([values_BT, added_B[:, None].to(values_BT.dtype)], dim=1)

    return CellBatch(
        append(batch.genes_BT.masked_fill(at_BT, 0), genes_B.masked_fill(silent_B, 0)),
        append(batch.rna_BT.masked_fill(at_BT, 0.0), rna_B),
        append(batch.atac_BT.masked_fill(at_BT, 0.0), atac_B),
        append(batch.rna_state_BT, states[0]),
        append(batch.atac_state_BT, states[1]),
        append(batch.pad_BT | at_BT, silent_B),
        # Counts are targets of pretraining and not read here.
        append(batch.rna_counts_BT, torch.zeros_like(rna_B)),
        append(batch.atac_counts_BT, torch.zeros_like(rna_B)),
        batch.library_B2,
    )


@contextmanager
def silenced_slots(model: Regulonformer, slots_B: Tensor) -> Iterator[None]:
    """Let a regulon slot of each cell of the next batch read the silent genome, as if no gene of it were active.

    Parameters
    ----------
    model
        Encoder.
    slots_B
        Slot per cell; -1 leaves a cell as it is.
    """
    rows = torch.nonzero(slots_B >= 0).squeeze(1)

    def silence(module, inputs, output):
        background_VSD, change_BSD = output
        kept_BS = change_BSD.new_ones(change_BSD.shape[:2])
        kept_BS[rows, slots_B[rows]] = 0
        return background_VSD, change_BSD * kept_BS[..., None]

    poolings = [layer.pooling for layer in model.layers if isinstance(layer.pooling, RegulonPooling)]
    handles = [pooling.register_forward_hook(silence) for pooling in poolings]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Perturbations:
    """One gene each, in P perturbations.

    Attributes
    ----------
    genes_P
        Token of the gene.
    rna_P
        RNA value it gets (log1p of counts per 10,000); 0 knocks it out.
    slots_P
        Regulon slot that is silenced along with it; -1 for none.
    close
        Whether the accessibility of the gene is set to zero too.
    """

    genes_P: np.ndarray
    rna_P: np.ndarray
    slots_P: np.ndarray
    close: bool = False

    def doses(self, rna_CP: np.ndarray) -> np.ndarray:
        """How much RNA each gene loses or gains in each cell, C x P, in the units of `rna_CP` (its values there)."""
        return np.where(self.rna_P == 0, rna_CP, np.maximum(self.rna_P - rna_CP, 0))

    def cells_changed(self, rna_CP: np.ndarray) -> np.ndarray:
        """Which cells differ after each perturbation, C x P, given the values of the genes in C cells.

        A knock-out changes nothing in a cell without transcripts of the gene, and over-expression nothing in a cell
        that has as many, so that these need not be computed.
        """
        return (self.doses(rna_CP) > 0) | (self.slots_P >= 0) | ((self.rna_P == 0) & self.close)


@torch.no_grad()
def embedding_shifts(
    model: Regulonformer, cells: CellBatch, rna_CP: np.ndarray, group_C: np.ndarray, perturbations: Perturbations
) -> tuple[np.ndarray, np.ndarray]:
    """Change of the cell embedding under each perturbation, mean over the cells of each group.

    Parameters
    ----------
    model
        Pretrained model, in evaluation mode.
    cells
        C cells, best sorted by length.
    rna_CP
        RNA value of each perturbed gene in each cell, as measured.
    group_C
        Group of each cell, 0 .. G - 1; none is empty.
    perturbations
        P perturbations.

    Returns
    -------
    shift_PGD
        Mean change of the embedding.
    length_PG
        Mean length (Euclidean norm) of the change of single cells, which do not cancel out in it.
    """
    place, n_groups = model.cell_token.device, group_C.max() + 1
    before_CD = np.concatenate([_embed(model, part) for part in _split(cells)])
    shift_PGD = np.zeros((len(perturbations.genes_P), n_groups, before_CD.shape[1]))
    length_PG = np.zeros(shift_PGD.shape[:2])
    pairs_X2 = np.argwhere(perturbations.cells_changed(rna_CP))
    n_batches = -(-len(pairs_X2) // BATCH_CELLS)
    batches = np.array_split(pairs_X2, n_batches) if n_batches else []
    for pairs_B2 in progress(batches, n_batches, "in-silico perturbation", "batch"):
        cell_B, which_B = pairs_B2.T
        genes_B, slots_B = (torch.as_tensor(part[which_B]) for part in (perturbations.genes_P, perturbations.slots_P))
        rna_B = torch.as_tensor(perturbations.rna_P[which_B], dtype=torch.float32)
        # Accessibility is closed in knock-outs alone: what over-expression opens is not for us to say.
        close_B = (rna_B == 0) & perturbations.close
        changed = with_gene(_take(cells, cell_B), genes_B, rna_B, close_B)
        with silenced_slots(model, slots_B.to(place)):
            delta_BD = _embed(model, changed) - before_CD[cell_B]
        np.add.at(shift_PGD, (which_B, group_C[cell_B]), delta_BD)
        np.add.at(length_PG, (which_B, group_C[cell_B]), np.linalg.norm(delta_BD, axis=1))
    size_G = np.bincount(group_C)
    return shift_PGD / size_G[:, None], length_PG / size_G


@torch.no_grad()
def expression_readout(model: Regulonformer) -> np.ndarray:
    """What a change of the cell embedding does to the log RNA rate of every gene, N x D; the heads are linear in it.

    Raises
    ------
    InputError
        If the heads predict no counts.
    """
    if model.config.predicts != "counts":
        problem = f"the heads predict {model.config.predicts}, no counts"
        raise InputError("pretrain.recipe", problem, "Use a recipe with the objective `masked` or `contrast`")
    vectors_ND = model.embedding.gene_vectors.weight
    genes_N, width = torch.arange(model.n_genes, device=vectors_ND.device), model.config.width
    units_XD = torch.eye(width + 1, width, device=vectors_ND.device)
    rate_XN = model.heads.cell_log_rate(units_XD, genes_N, vectors_ND)[..., 0]
    return (rate_XN[:-1] - rate_XN[-1]).T.double().cpu().numpy()


def _embed(model: Regulonformer, batch: CellBatch) -> np.ndarray:
    return model.cell_embedding(batch.to(model.cell_token.device)).double().cpu().numpy()


def _take(cells: CellBatch, rows) -> CellBatch:
    """Some of the cells, without the padding that only others need."""
    longest = max(1, int((~cells.pad_BT[rows]).sum(1).max()))
    *tokens, library_B2 = cells
    return CellBatch(*(tensor[rows, :longest] for tensor in tokens), library_B2[rows])


def _split(cells: CellBatch) -> Iterator[CellBatch]:
    for rows in torch.arange(len(cells.genes_BT)).split(BATCH_CELLS):
        yield _take(cells, rows)
