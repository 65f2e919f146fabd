"""What the model reads: a padded batch of cells, and the regulons as edges.

Shape suffixes, used in the whole package: B cells, T tokens (genes in the batch), N genes of the vocabulary, S slots,
D width, H heads, M modalities (0 RNA, 1 accessibility), E edges, K value bins.
"""

from typing import NamedTuple

import torch
from torch import Tensor

OBSERVED, MASKED, MISSING = 0, 1, 2
MODALITIES = ("rna", "atac")


class CellBatch(NamedTuple):
    """Active genes of a batch of cells, padded on the right; genes that are not listed are silent.

    Attributes
    ----------
    genes_BT
        Token of each gene (int64; 0 where padded). A gene occurs at most once in a cell.
    rna_BT, atac_BT
        log1p of counts per 10,000 (float32). Values of masked and missing entries are not read.
    rna_state_BT, atac_state_BT
        `OBSERVED`, `MASKED` or `MISSING` (int64). A modality is missing for a whole cell, padding included.
    pad_BT
        True where there is no token.
    rna_counts_BT, atac_counts_BT
        Raw counts, the targets of pretraining (float32).
    library_B2
        Total counts of the cell in each modality (float32), masked genes included.
    """

    genes_BT: Tensor
    rna_BT: Tensor
    atac_BT: Tensor
    rna_state_BT: Tensor
    atac_state_BT: Tensor
    pad_BT: Tensor
    rna_counts_BT: Tensor
    atac_counts_BT: Tensor
    library_B2: Tensor

    def to(self, device) -> "CellBatch":
        """Move every tensor to a device."""
        return CellBatch(*(tensor.to(device) for tensor in self))

    def missing_BM(self) -> Tensor:
        """Tell which modality each cell lacks altogether (bool, B x M)."""
        return torch.stack([(self.rna_state_BT == MISSING).any(1), (self.atac_state_BT == MISSING).any(1)], dim=1)

    def only(self, modality: int) -> "CellBatch":
        """The same cells as if one modality (0 RNA, 1 accessibility) had been measured alone.

        Genes that show in the other modality alone are no tokens any more, or their presence would tell. Masked ones
        stay: that they are masked is known, their counts are not. A cell that has only the other modality stays as it
        is.
        """
        name, other = MODALITIES[modality], MODALITIES[1 - modality]
        both_B1 = ~self.missing_BM().any(1)[:, None]
        values_BT, counts_BT = getattr(self, f"{name}_BT"), getattr(self, f"{name}_counts_BT")
        silent_BT = (values_BT == 0) & (counts_BT == 0) & (getattr(self, f"{name}_state_BT") == OBSERVED)
        pad_BT = self.pad_BT | (both_B1 & silent_BT)
        changed = {"genes_BT": self.genes_BT.masked_fill(pad_BT, 0), "pad_BT": pad_BT}
        for field in (f"{other}_BT", f"{other}_counts_BT"):
            changed[field] = getattr(self, field).masked_fill(both_B1, 0.0)
        state_BT = getattr(self, f"{other}_state_BT")
        return self._replace(**changed | {f"{other}_state_BT": state_BT.masked_fill(both_B1, MISSING)})

    def every_gene(self, n_genes: int) -> "CellBatch":
        """Return the same cells with all N genes as tokens, in vocabulary order and without padding."""
        n_cells, missing_BM = len(self.genes_BT), self.missing_BM()

        def spread(values_BT, fill_B):
            # Padding writes to a column of its own, which is cut off again.
            full = fill_B[:, None].expand(n_cells, n_genes + 1).to(values_BT.dtype).clone()
            return full.scatter(1, self.genes_BT.masked_fill(self.pad_BT, n_genes), values_BT)[:, :n_genes]

        zero_B = torch.zeros(n_cells, device=self.genes_BT.device)
        genes_BN = torch.arange(n_genes, device=self.genes_BT.device).expand(n_cells, n_genes)
        return CellBatch(
            genes_BN,
            spread(self.rna_BT, zero_B),
            spread(self.atac_BT, zero_B),
            spread(self.rna_state_BT, missing_BM[:, 0] * MISSING),
            spread(self.atac_state_BT, missing_BM[:, 1] * MISSING),
            torch.zeros_like(genes_BN, dtype=torch.bool),
            spread(self.rna_counts_BT, zero_B),
            spread(self.atac_counts_BT, zero_B),
            self.library_B2,
        )


class RegulonEdges(NamedTuple):
    """Regulons as edges from slots to genes; the TF of a regulon is one of its genes where it was measured.

    Attributes
    ----------
    slot_E, gene_E
        Slot and gene token of each edge (int64); a pair occurs once, and each slot has at least one edge.
    weight_E
        Prior weight, above zero (float32).
    tf_S
        Gene token of the TF of each slot (int64); -1 for a TF that is no gene of the vocabulary.
    """

    slot_E: Tensor
    gene_E: Tensor
    weight_E: Tensor
    tf_S: Tensor
