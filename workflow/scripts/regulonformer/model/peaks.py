"""Peaks from cell embeddings: a low-rank decoder around the mean accessibility of the training cells.

Shapes beside those of `batch.py`: P peaks, R rank.
"""

import math
from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from regulonformer.errors import InputError

LIKELIHOODS = ("poisson", "bernoulli")


class PeakDecoder(nn.Module):
    """Log rates (Poisson) or logits of being open (Bernoulli) of every peak: cell x peak vectors, plus a peak's bias.

    The product starts at zero, so that an untrained decoder is the mean profile of the training cells, at the depth of
    each cell. Counts of fragments are Poisson (Martens et al. 2024, PoissonVI, doi:10.1038/s41592-023-02112-6).

    Parameters
    ----------
    mean_P
        Mean count per cell of each peak (Poisson), or share of cells in which it is open (Bernoulli); above zero, and
        below one for Bernoulli.
    vectors_PR
        Peak vectors to start from.
    centre_D, scale_D
        Mean and standard deviation of the embedding in the training cells.
    likelihood
        `poisson` or `bernoulli`.
    pos_weight
        Bernoulli: weight of an open entry in the loss. Logits stay those of the data: the shift that the weight
        brings is part of the loss.

    Raises
    ------
    InputError
        If the likelihood is unknown.
    """

    def __init__(
        self,
        mean_P: Tensor,
        vectors_PR: Tensor,
        centre_D: Tensor,
        scale_D: Tensor,
        likelihood: str = "poisson",
        pos_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if likelihood not in LIKELIHOODS:
            raise InputError("likelihood", f"unknown likelihood {likelihood!r}", f"Use one of {', '.join(LIKELIHOODS)}")
        self.likelihood, self.pos_weight = likelihood, pos_weight
        self.register_buffer("centre", centre_D.float().clone())
        self.register_buffer("scale", scale_D.float().clone())
        self.from_cell = nn.Linear(len(centre_D), vectors_PR.shape[1])
        nn.init.zeros_(self.from_cell.weight)
        nn.init.zeros_(self.from_cell.bias)
        self.peak_vectors = nn.Parameter(vectors_PR.float().clone())
        self.peak_bias = nn.Parameter((mean_P.log() if likelihood == "poisson" else mean_P.logit()).float())

    def forward(self, cell_BD: Tensor, log_depth_B: Tensor, peaks: slice = slice(None)) -> Tensor:
        """Log rates or logits, B x P.

        Parameters
        ----------
        cell_BD
            Cell embeddings.
        log_depth_B
            log of a cell's fragments relative to the mean training cell; zero predicts at the depth of that cell.
        peaks
            Peaks wanted.
        """
        factors_BR = self.from_cell((cell_BD - self.centre) / self.scale) / math.sqrt(self.peak_vectors.shape[1])
        return self.peak_bias[peaks] + factors_BR @ self.peak_vectors[peaks].T + log_depth_B[:, None]

    def chunks(self, size: int) -> Iterator[slice]:
        """Consecutive peaks, `size` at a time: scores of all peaks at once may not fit the memory."""
        for start in range(0, len(self.peak_bias), size):
            yield slice(start, start + size)

    def nll(self, scores_BP: Tensor, counts_BP: Tensor) -> Tensor:
        """Negative log likelihood of counts, summed; for Poisson without the term that only the counts set."""
        if self.likelihood == "poisson":
            return F.poisson_nll_loss(scores_BP, counts_BP, log_input=True, full=False, reduction="sum")
        weight = scores_BP.new_tensor(self.pos_weight)
        # With an open entry weighing w the best logit is log w above that of the data.
        return F.binary_cross_entropy_with_logits(
            scores_BP + weight.log(), (counts_BP > 0).to(scores_BP.dtype), pos_weight=weight, reduction="sum"
        )
