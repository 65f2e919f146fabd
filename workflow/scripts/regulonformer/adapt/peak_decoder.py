"""Peaks from an embedding of cells: log odds of every peak by a low-rank line, fitted by a weighted Bernoulli loss."""

from copy import deepcopy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

RANK = 16
EPOCHS, BATCH, PATIENCE = 200, 256, 8
LEARNING_RATE, WEIGHT_DECAY = 1.0e-3, 0.1
MIN_STD = 1e-6


class PeakDecoder(nn.Module):
    """log odds of P peaks being open in a cell: b + V U (z - mean) / deviation; it starts as the mean profile.

    Parameters
    ----------
    cell_BD
        Embeddings of the training cells, for mean and deviation.
    open_BP
        Whether each peak is open in them, 0 or 1.
    cap
        Largest weight of an open entry; the weight of a peak is the number of closed ones for each open one.
    rank
        Directions R of the embedding that are read.
    """

    def __init__(self, cell_BD: Tensor, open_BP: Tensor, cap: float, rank: int = RANK) -> None:
        super().__init__()
        self.register_buffer("centre", cell_BD.mean(0))
        self.register_buffer("spread", cell_BD.std(0).clamp_min(MIN_STD))
        share_P = (open_BP.sum(0) + 0.5) / (len(open_BP) + 1)
        self.register_buffer("weight_P", ((1 - share_P) / share_P).clamp_max(cap))
        self.read = nn.Linear(cell_BD.shape[1], min(rank, cell_BD.shape[1]), bias=False)
        self.peaks = nn.Linear(self.read.out_features, open_BP.shape[1])
        nn.init.zeros_(self.peaks.weight)
        with torch.no_grad():
            self.peaks.bias.copy_(share_P.logit())

    def forward(self, cell_BD: Tensor) -> Tensor:
        """Log odds, B x P."""
        return self.peaks(self.read((cell_BD - self.centre) / self.spread))

    def loss(self, cell_BD: Tensor, open_BP: Tensor) -> Tensor:
        """Cross-entropy in which an open entry counts as much as `weight_P` closed ones, mean over entries.

        Such weights multiply the odds that are the best answer. They are taken out again: what `forward` gives are
        odds as they are, and probabilities are comparable with those of other methods.
        """
        logits_BP = self(cell_BD) + self.weight_P.log()
        return F.binary_cross_entropy_with_logits(logits_BP, open_BP, pos_weight=self.weight_P)


def decode_peaks(
    cells: np.ndarray, opened: np.ndarray, validation: np.ndarray, query: np.ndarray, cap: float, seed: int
) -> np.ndarray:
    """Fit a decoder to training cells and predict the peaks of others; what makes the embeddings keeps still.

    Parameters
    ----------
    cells, query
        Embeddings of training cells and of the cells to predict, made in the same way, cells x D.
    opened
        Whether each peak is open in the training cells, cells x P.
    validation
        True for the training cells that tell when to stop; without any the answer is the mean profile.
    cap
        Largest weight of an open entry; see `PeakDecoder`.
    seed
        Seed of the first weights and of the order of cells.

    Returns
    -------
    numpy.ndarray
        Probability that a peak is open, cells x P.
    """
    cell_BD, query_BD, open_BP = (torch.as_tensor(part, dtype=torch.float32) for part in (cells, query, opened > 0))
    kept, watched = (torch.from_numpy(np.flatnonzero(rows)) for rows in (~validation, validation))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = PeakDecoder(cell_BD[kept], open_BP[kept], cap)
        slopes = {"params": [decoder.read.weight, decoder.peaks.weight], "weight_decay": WEIGHT_DECAY}
        means = {"params": [decoder.peaks.bias], "weight_decay": 0.0}
        optimiser = torch.optim.AdamW([slopes, means], lr=LEARNING_RATE)
        # Without validation cells the loss is NaN, and the mean profile is what remains.
        best, best_loss, waited = deepcopy(decoder.state_dict()), float("inf"), 0
        for _ in range(EPOCHS):
            with torch.no_grad():
                loss = float(decoder.loss(cell_BD[watched], open_BP[watched]))
            waited = 0 if loss < best_loss else waited + 1
            if loss < best_loss:
                best, best_loss = deepcopy(decoder.state_dict()), loss
            if waited >= PATIENCE:
                break
            for rows in kept[torch.randperm(len(kept))].split(BATCH):
                optimiser.zero_grad(set_to_none=True)
                decoder.loss(cell_BD[rows], open_BP[rows]).backward()
                optimiser.step()
    decoder.load_state_dict(best)
    with torch.no_grad():
        return decoder(query_BD).sigmoid().numpy()
