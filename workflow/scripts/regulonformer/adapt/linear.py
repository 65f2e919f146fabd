"""The linear path: what PCA and similar cells know about a cell, as fixed matrices inside the network."""

import numpy as np
import torch
from scipy import sparse
from sklearn.decomposition import PCA
from torch import Tensor, nn

from regulonformer.adapt.recall import FEWEST, Recall
from regulonformer.corpus.encoding import TARGET_SUM
from regulonformer.decompose import highly_variable
from regulonformer.model.batch import MISSING, MODALITIES, OBSERVED, CellBatch

OVERDISPERSION = 100.0  # of counts, in the residuals of RNA (Lause 2021 finds it for technical noise)
RESIDUAL_LIMIT = 10.0  # a single transcript of a rare gene must not outweigh the rest of a cell
MIN_STD = 0.1  # floor of a gene's deviation: genes seen in a handful of cells must not make a component of their own
MIN_CELLS = 10  # cells a modality must be observed in before components are learned from it


class LinearPath(nn.Module):
    """Features of a cell: PCA of the residuals of RNA, PCA of accessibility, and what cells like it show.

    Fixed after `fit` and `remember`. Differentiable in the values of the batch, so that attributions flow through it.
    A modality that is missing gives zeros, the features of the mean training cell.

    Parameters
    ----------
    n_genes
        Genes N of the vocabulary.
    components
        Features of each part, K: rna, atac, and recalled where training cells are remembered.
    n_remembered
        Training cells remembered, see `Recall`.
    """

    def __init__(self, n_genes: int, components: dict[str, int], n_remembered: int = 0) -> None:
        super().__init__()
        self.components = dict(components)
        for name in MODALITIES:
            self.register_buffer(f"{name}_weight", torch.zeros(n_genes, components[name]))
            self.register_buffer(f"{name}_offset", torch.zeros(components[name]))
        self.register_buffer("rna_share", torch.zeros(n_genes))
        self.register_buffer("scale_K", torch.ones(sum(components.values())))
        self.recall = Recall(n_remembered, components["rna"]) if n_remembered else None

    @property
    def n_features(self) -> int:
        """Features of all parts together."""
        return sum(self.components.values())

    @property
    def n_remembered(self) -> int:
        """Training cells remembered."""
        return len(self.recall.cells_MK) if self.recall else 0

    @classmethod
    def fit(
        cls, batches: list[CellBatch], n_genes: int, n_components: int, n_top_genes: int, seed: int
    ) -> "LinearPath":
        """Learn the projections from cells.

        RNA: PCA of the Pearson residuals of highly variable genes (see `_residuals`). Accessibility: PCA of the scaled
        values of the genes that are open most often; scaling does what an inverse document frequency would. Components
        keep their relative variance; the first has unit deviation.

        Parameters
        ----------
        batches
            Cells that are not held out, unmasked; labels are not needed.
        n_genes
            Genes N of the vocabulary.
        n_components
            Components per modality, at most.
        n_top_genes
            Highly variable genes for the PCA of RNA, and genes open in most cells for that of accessibility.
        seed
            Seed of the randomised SVD.
        """
        values = [_stack(batches, n_genes, m) for m in range(len(MODALITIES))]
        known = [matrix.shape[0] >= MIN_CELLS and matrix.nnz > 0 for matrix in values]
        fitted, share_N = {}, torch.zeros(n_genes)
        if known[0]:
            genes = highly_variable(values[0], n_top_genes)
            share_N[genes] = _shares(batches, n_genes)[genes]
            residuals = torch.cat([_residuals(b, share_N)[~b.missing_BM()[:, 0]][:, genes] for b in batches]).numpy()
            fitted["rna"] = _project(residuals, np.ones(len(genes)), genes, n_genes, n_components, seed)
        if known[1]:
            open_in = values[1].getnnz(0)
            genes = np.sort(np.argsort(-open_in, kind="stable")[: min(n_top_genes, (open_in > 0).sum())])
            dense = values[1][:, genes].toarray()
            unit = 1 / np.maximum(dense.std(0), MIN_STD)
            fitted["atac"] = _project(dense * unit, unit, genes, n_genes, n_components, seed)
        path = cls(n_genes, {name: fitted[name][0].shape[1] if name in fitted else 0 for name in MODALITIES})
        path.rna_share.copy_(share_N)
        for name, (weight, offset) in fitted.items():
            getattr(path, f"{name}_weight").copy_(torch.as_tensor(weight))
            getattr(path, f"{name}_offset").copy_(torch.as_tensor(offset))
        return path

    def remember(self, batches: list[CellBatch], n_cells: int, seed: int) -> None:
        """Keep the RNA features of cells, and recall them from now on.

        Parameters
        ----------
        batches
            Cells that are not held out.
        n_cells
            Cells kept, at most, drawn at random; too few cells are not remembered at all.
        seed
            Seed of the draw.
        """
        features_BK = torch.cat([self._rna(batch)[~batch.missing_BM()[:, 0]] for batch in batches])
        if min(n_cells, len(features_BK)) < FEWEST or not self.components["rna"]:
            return
        kept = np.sort(np.random.default_rng(seed).permutation(len(features_BK))[:n_cells])
        self.recall = Recall(len(kept), self.components["rna"])
        self.recall.cells_MK.copy_(features_BK[kept])
        self.components["recalled"] = self.components["rna"]
        self.scale_K = torch.ones(self.n_features)

    def set_scales(self, **scales: float) -> None:
        """Weigh the features of some parts, by name; a small scale is a strong penalty on them."""
        for name, part_K in zip(self.components, self.scale_K.split(list(self.components.values())), strict=True):
            part_K.fill_(scales.get(name, 1.0))

    def scales(self) -> dict[str, float]:
        """Weight of each part that has features."""
        starts = np.cumsum([0, *self.components.values()])
        named = zip(self.components.items(), starts, strict=False)
        return {name: round(self.scale_K[start].item(), 6) for (name, n), start in named if n}

    def set_atac_scale(self, scale: float) -> None:
        """Weigh the features of accessibility against the others."""
        self.set_scales(atac=scale)

    def forward(self, batch: CellBatch) -> Tensor:
        """Features of each cell, B x K of all parts, in the order of `components`."""
        rna_BK = self._rna(batch)
        parts = [rna_BK, self._atac(batch)] + ([self.recall(rna_BK)] if self.recall else [])
        return torch.cat(parts, dim=1) * self.scale_K

    def _rna(self, batch: CellBatch) -> Tensor:
        features_BK = _residuals(batch, self.rna_share) @ self.rna_weight + self.rna_offset
        return features_BK * ~batch.missing_BM()[:, :1]

    def _atac(self, batch: CellBatch) -> Tensor:
        seen_BT = (batch.atac_state_BT == OBSERVED) & ~batch.pad_BT
        weight_BTK = nn.functional.embedding(batch.genes_BT, self.atac_weight)
        features_BK = ((batch.atac_BT * seen_BT)[:, None] @ weight_BTK)[:, 0] + self.atac_offset
        return features_BK * ~batch.missing_BM()[:, 1:]


def gene_values(batch: CellBatch, n_genes: int, modality: int) -> sparse.csr_matrix:
    """Return the values of one modality as cells x N, only the cells in which it was measured."""
    values_BT, state_BT = ((batch.rna_BT, batch.rna_state_BT), (batch.atac_BT, batch.atac_state_BT))[modality]
    seen_BT = ((state_BT == OBSERVED) & ~batch.pad_BT & (values_BT > 0)).numpy()
    row, _ = np.nonzero(seen_BT)
    entries = (values_BT.numpy()[seen_BT], (row, batch.genes_BT.numpy()[seen_BT]))
    matrix = sparse.csr_matrix(entries, shape=(len(seen_BT), n_genes), dtype=np.float32)
    return matrix[~(state_BT == MISSING).any(1).numpy()]


def _stack(batches: list[CellBatch], n_genes: int, modality: int) -> sparse.csr_matrix:
    return sparse.vstack([gene_values(batch, n_genes, modality) for batch in batches], format="csr")


def _counts(batch: CellBatch, n_genes: int) -> Tensor:
    """RNA counts of every gene as the values tell them, B x N: attributions are taken with respect to values."""
    seen_BT = (batch.rna_state_BT == OBSERVED) & ~batch.pad_BT
    counts_BT = torch.expm1(batch.rna_BT * seen_BT) * (batch.library_B2[:, :1] / TARGET_SUM)
    return counts_BT.new_zeros(len(counts_BT), n_genes).scatter_add(1, batch.genes_BT, counts_BT)


def _shares(batches: list[CellBatch], n_genes: int) -> Tensor:
    """Share of each gene in the RNA of all cells."""
    measured = [batch.library_B2[~batch.missing_BM()[:, 0], 0].sum() for batch in batches]
    return sum(_counts(batch, n_genes).sum(0) for batch in batches) / sum(measured).clamp_min(1)


def _residuals(batch: CellBatch, share_N: Tensor) -> Tensor:
    """Pearson residuals of RNA counts, B x N: deviations from what the depth of the cell lets expect.

    (x - mu) / sqrt(mu + mu^2 / theta), mu = library x share of the gene; zero for genes of no share. (Lause, Berens
    and Kobak 2021, Genome Biology 22:258, equations 3 to 5.) Silent genes of a deep cell speak, those of a shallow one
    hardly do; that is what a scaled logarithm of counts misses where most counts are 0 or 1.
    """
    mean_BN = batch.library_B2[:, :1] * share_N
    deviation_BN = (mean_BN + mean_BN.square() / OVERDISPERSION).sqrt().clamp_min(1e-4)
    residual_BN = (_counts(batch, len(share_N)) - mean_BN) / deviation_BN
    return (residual_BN * (share_N > 0)).clamp(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)


def _project(dense, unit, genes, n_genes, n_components, seed):
    """Fit a PCA, and fold the unit of each column and the centring into one matrix over all genes and one offset."""
    mean = dense.mean(0)
    n = min(n_components, dense.shape[0] - 1, dense.shape[1])
    pca = PCA(n, svd_solver="randomized", random_state=seed).fit(dense - mean)
    # The centred values have mean zero up to rounding, so the centre of the PCA itself is left out.
    loadings = pca.components_.T / np.sqrt(pca.explained_variance_[0])
    weight = np.zeros((n_genes, n), dtype=np.float32)
    weight[genes] = loadings * unit[:, None]
    return weight, -(mean @ loadings).astype(np.float32)
