"""Fit a peak decoder on frozen cell embeddings."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

from regulonformer.decompose import AtacLsi
from regulonformer.log import progress
from regulonformer.model.peaks import PeakDecoder

# Added to the cells and to the open entries of a peak, so that a peak never seen has a rate above zero.
PSEUDO_COUNT = 0.5


@dataclass(frozen=True)
class PeakSettings:
    """Settings of a fit.

    Attributes
    ----------
    likelihood
        `poisson` for counts of fragments, `bernoulli` for open or closed.
    rank
        Length R of the peak vectors.
    pos_weight
        Bernoulli: weight of an open entry.
    epochs, batch_cells, learning_rate, weight_decay
        Budget and optimiser (AdamW). The bias of a peak does not decay: a peak falls back to its mean.
    chunk_peaks
        Peaks computed at a time; memory is `batch_cells` x `chunk_peaks`.
    seed
        Seed of the order of cells and of the SVD.
    """

    likelihood: str = "poisson"
    rank: int = 32
    pos_weight: float = 1.0
    epochs: int = 20
    batch_cells: int = 64
    learning_rate: float = 1.0e-2
    weight_decay: float = 1.0e-2
    chunk_peaks: int = 5_000
    seed: int = 0


def fit_peak_decoder(embedding: np.ndarray, counts: sparse.csr_matrix, settings: PeakSettings) -> PeakDecoder:
    """Fit a decoder on training cells.

    Parameters
    ----------
    embedding
        Cell embeddings, cells x D; they stay as they are.
    counts
        Fragments, cells x peaks, of the same cells.
    settings
        Likelihood, budget and seed; the same settings and cells give the same decoder on a CPU.

    Returns
    -------
    PeakDecoder
        In evaluation mode.
    """
    cell_BD = torch.as_tensor(embedding, dtype=torch.float32)
    log_depth_B = torch.as_tensor(relative_log_depth(counts, counts.sum() / counts.shape[0]))
    decoder = start_decoder(embedding, counts, settings)
    groups = [
        {"params": [decoder.peak_bias], "weight_decay": 0.0},
        {"params": [decoder.peak_vectors, *decoder.from_cell.parameters()], "weight_decay": settings.weight_decay},
    ]
    optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate)
    generator = torch.Generator().manual_seed(settings.seed)
    for _ in progress(range(settings.epochs), settings.epochs, "fitting peaks", unit="epoch"):
        for rows in torch.randperm(len(cell_BD), generator=generator).split(settings.batch_cells):
            optimiser.zero_grad()
            columns = counts[rows.numpy()].tocsc()
            for peaks in decoder.chunks(settings.chunk_peaks):
                target_BP = torch.from_numpy(columns[:, peaks].toarray().astype(np.float32))
                scores_BP = decoder(cell_BD[rows], log_depth_B[rows], peaks)
                # Chunk by chunk, so that the graph of one chunk is in memory; gradients add up. A sum per cell is the
                # scale of a likelihood, whatever the number of peaks: Adam does not mind.
                (decoder.nll(scores_BP, target_BP) / len(rows)).backward()
            optimiser.step()
    return decoder.eval()


def start_decoder(embedding: np.ndarray, counts: sparse.csr_matrix, settings: PeakSettings) -> PeakDecoder:
    """Decoder before training: the mean profile of the cells, with peak vectors from the loadings of LSI."""
    n_cells, n_peaks = counts.shape
    total = np.asarray((counts if settings.likelihood == "poisson" else counts > 0).sum(0), np.float64).ravel()
    lsi = AtacLsi(settings.rank, settings.seed).fit(counts)
    loadings = lsi.svd.components_[1:]  # the first follows the depth, see AtacLsi
    vectors = np.zeros((n_peaks, settings.rank))
    vectors[lsi.peaks, : len(loadings)] = loadings.T * np.sqrt(n_peaks)  # entries of about one
    return PeakDecoder(
        torch.as_tensor((total + PSEUDO_COUNT) / (n_cells + 2 * PSEUDO_COUNT)),
        torch.as_tensor(vectors),
        torch.as_tensor(embedding.mean(0)),
        torch.as_tensor(np.maximum(embedding.std(0), 1e-6)),
        settings.likelihood,
        settings.pos_weight,
    )


def relative_log_depth(counts: sparse.csr_matrix, mean_depth: float) -> np.ndarray:
    """Log of each cell's fragments relative to the mean training cell (float32); what `PeakDecoder` takes as depth."""
    return np.log(np.maximum(np.asarray(counts.sum(1)).ravel(), 1) / mean_depth).astype(np.float32)
