"""The linear path: what PCA and LSI know about a cell, as fixed matrices inside the network."""

import numpy as np
import torch
from scipy import sparse
from sklearn.decomposition import PCA
from torch import Tensor, nn

from regulonformer.decompose import highly_variable
from regulonformer.model.batch import MISSING, MODALITIES, OBSERVED, CellBatch

MIN_STD = 0.1  # floor of a gene's deviation: genes seen in a handful of cells must not make a component of their own
MIN_CELLS = 10  # cells a modality must be observed in before components are learned from it


class LinearPath(nn.Module):
    """Linear features of a cell: PCA of log-normalised RNA and LSI of log-normalised accessibility.

    Fixed after `fit`. Linear in the values of the batch, so that attributions flow through it. A modality that is
    missing gives zeros, the features of the mean training cell.

    Parameters
    ----------
    n_genes
        Genes N of the vocabulary.
    components
        Features per modality, K.
    """

    def __init__(self, n_genes: int, components: dict[str, int]) -> None:
        super().__init__()
        self.components = dict(components)
        for name in MODALITIES:
            self.register_buffer(f"{name}_weight", torch.zeros(n_genes, components[name]))
            self.register_buffer(f"{name}_offset", torch.zeros(components[name]))
        self.register_buffer("atac_scale", torch.ones(()))

    @property
    def n_features(self) -> int:
        """Features of both modalities together."""
        return sum(self.components.values())

    @classmethod
    def fit(
        cls, batches: list[CellBatch], n_genes: int, n_components: int, n_top_genes: int, seed: int
    ) -> "LinearPath":
        """Learn the projections from training cells.

        RNA: scaled highly variable genes, PCA. Accessibility: log(TF) x log(IDF) (Signac's third TF-IDF), scaled,
        truncated SVD through the same PCA. Components keep their relative variance; the first has unit deviation.

        Parameters
        ----------
        batches
            The training cells of the fold, unmasked.
        n_genes
            Genes N of the vocabulary.
        n_components
            Components per modality, at most.
        n_top_genes
            Highly variable genes for the PCA of RNA, and genes open in most cells for LSI.
        seed
            Seed of the randomised SVD.
        """
        fitted = {}
        for m, name in enumerate(MODALITIES):
            values = sparse.vstack([gene_values(batch, n_genes, m) for batch in batches], format="csr")
            if values.shape[0] < MIN_CELLS or not values.nnz:
                continue
            weighting = np.ones(n_genes)
            if name == "rna":
                genes = highly_variable(values, n_top_genes)
            else:
                open_in = values.getnnz(0)
                genes = np.sort(np.argsort(-open_in, kind="stable")[: min(n_top_genes, (open_in > 0).sum())])
                weighting = np.log1p(values.shape[0] / np.maximum(open_in, 1))
            fitted[name] = _project(values[:, genes].toarray(), weighting[genes], genes, n_genes, n_components, seed)
        path = cls(n_genes, {name: fitted[name][0].shape[1] if name in fitted else 0 for name in MODALITIES})
        for name, (weight, offset) in fitted.items():
            getattr(path, f"{name}_weight").copy_(torch.as_tensor(weight))
            getattr(path, f"{name}_offset").copy_(torch.as_tensor(offset))
        return path

    def set_atac_scale(self, scale: float) -> None:
        """Weigh the features of accessibility against those of RNA; a small scale is a strong penalty on them."""
        self.atac_scale.fill_(scale)

    def forward(self, batch: CellBatch) -> Tensor:
        """Linear features of each cell, B x (K_rna + K_atac)."""
        missing_BM, parts = batch.missing_BM(), []
        for m, (name, values_BT, state_BT) in enumerate(_modalities(batch)):
            seen_BT = (state_BT == OBSERVED) & ~batch.pad_BT
            weight_BTK = nn.functional.embedding(batch.genes_BT, getattr(self, f"{name}_weight"))
            features_BK = ((values_BT * seen_BT)[:, None] @ weight_BTK)[:, 0] + getattr(self, f"{name}_offset")
            scale = self.atac_scale if name == "atac" else 1.0
            parts.append(features_BK * ~missing_BM[:, m, None] * scale)
        return torch.cat(parts, dim=1)


def gene_values(batch: CellBatch, n_genes: int, modality: int) -> sparse.csr_matrix:
    """Return the values of one modality as cells x N, only the cells in which it was measured."""
    _, values_BT, state_BT = _modalities(batch)[modality]
    seen_BT = ((state_BT == OBSERVED) & ~batch.pad_BT & (values_BT > 0)).numpy()
    row, _ = np.nonzero(seen_BT)
    entries = (values_BT.numpy()[seen_BT], (row, batch.genes_BT.numpy()[seen_BT]))
    matrix = sparse.csr_matrix(entries, shape=(len(seen_BT), n_genes), dtype=np.float32)
    return matrix[~(state_BT == MISSING).any(1).numpy()]


def _modalities(batch: CellBatch):
    """Name, values and states of each modality, in the order of `MODALITIES`."""
    return [("rna", batch.rna_BT, batch.rna_state_BT), ("atac", batch.atac_BT, batch.atac_state_BT)]


def _project(dense, weighting, genes, n_genes, n_components, seed):
    """Fit a PCA of scaled values and fold scaling and centring into one matrix and one offset."""
    dense = dense * weighting
    mean, scale = dense.mean(0), np.maximum(dense.std(0), MIN_STD * weighting)
    n = min(n_components, dense.shape[0] - 1, dense.shape[1])
    pca = PCA(n, svd_solver="randomized", random_state=seed).fit((dense - mean) / scale)
    unit = np.sqrt(pca.explained_variance_[0])
    loadings = pca.components_.T / scale[:, None] / unit
    # The scaled values have mean zero up to rounding, so the centre of the PCA itself is left out.
    weight = np.zeros((n_genes, n), dtype=np.float32)
    weight[genes] = loadings * weighting[:, None]
    return weight, -(mean @ loadings).astype(np.float32)
