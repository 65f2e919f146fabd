"""Heads of pretraining: what is predicted of a hidden entry, around the mean profile of the training cells."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regulonformer.model.batch import MODALITIES
from regulonformer.model.embedding import INITIAL_STD

# Bins of a value in scDynOmics: one per unit of log1p, the last one open.
N_BINS = 15
# A model that knows the cell leaves less to the dispersion than the mean profile does: sizes grow several times. Steps
# of Adam are as long as the learning rate, so that would take thousands of them; this makes each one longer.
SIZE_RATE = 10.0
# Beyond it the distribution is a Poisson's to within 0.1 % of its variance, and float32 runs out of digits.
MAX_LOG_SIZE = 7.0


class CountHeads(nn.Module):
    """Log rates of both modalities: mean profile, plus a product of cell and gene vectors, plus a token's own term.

    Both terms start at zero, so that an untrained model predicts library x mean profile exactly: the floor that
    training has to go below. The product is what teaches the pooling token to summarise the cell.

    Parameters
    ----------
    width
        Width D.
    gene_log_mean_N2
        log of each gene's share of all counts in the training cells.
    gene_log_dispersion_N2
        log of the NB size (inverse dispersion) to start from; 0 if not given.
    """

    def __init__(self, width: int, gene_log_mean_N2: Tensor, gene_log_dispersion_N2: Tensor | None = None) -> None:
        super().__init__()
        if gene_log_dispersion_N2 is None:
            gene_log_dispersion_N2 = torch.zeros_like(gene_log_mean_N2)
        self.width = width
        # Gene vectors are small at the start; this brings the product to the scale of the token's term.
        self.scale = 1 / (INITIAL_STD * math.sqrt(width))
        self.register_buffer("gene_log_mean", gene_log_mean_N2.float().clone())
        self.register_buffer("floor_log_dispersion", gene_log_dispersion_N2.float().clone())
        self.size_shift = nn.Parameter(torch.zeros_like(self.floor_log_dispersion))
        self.from_token = nn.Linear(width, len(MODALITIES))
        self.from_cell = nn.Linear(width, len(MODALITIES) * width)
        for head in (self.from_token, self.from_cell):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    @property
    def log_dispersion(self) -> Tensor:
        """Log of the NB size of each gene and modality, N x M."""
        return (self.floor_log_dispersion + SIZE_RATE * self.size_shift).clamp_max(MAX_LOG_SIZE)

    def factors(self, cell_BD: Tensor) -> Tensor:
        """What a cell multiplies gene vectors with, B x M x D."""
        return self.from_cell(cell_BD).unflatten(-1, (len(MODALITIES), self.width)) * self.scale

    def cell_log_rate(self, cell_BD: Tensor, genes_G: Tensor, gene_vectors_ND: Tensor) -> Tensor:
        """Log of counts per library count of any set of genes, from cell embeddings alone; returns B x G x M."""
        shift_BMG = self.factors(cell_BD) @ F.embedding(genes_G, gene_vectors_ND).T
        return self.gene_log_mean[genes_G] + shift_BMG.transpose(1, 2)

    def token_log_rate(self, tokens_XD, cell_BD, cells_X, genes_X, gene_vectors_ND) -> Tensor:
        """Log of counts per library count of any set of X tokens, from the cell and the token; returns X x M.

        Parameters
        ----------
        tokens_XD
            States of the tokens.
        cell_BD
            Cell embeddings.
        cells_X, genes_X
            Cell (row of `cell_BD`) and gene of each token.
        gene_vectors_ND
            Vectors of all genes.
        """
        # Products with all N genes cost far less than to gather a vector per token and to add up its gradients.
        shift_NBM = (gene_vectors_ND @ self.factors(cell_BD).flatten(0, 1).T).unflatten(-1, (-1, len(MODALITIES)))
        shift_XM = shift_NBM.flatten(0, 1).index_select(0, genes_X * len(cell_BD) + cells_X)
        return self.gene_log_mean[genes_X] + shift_XM + self.from_token(tokens_XD)


class ValueHeads(nn.Module):
    """Values of both modalities, or scores of their bins: the gene's mean profile, plus a term of cell and token.

    The output is linear in log space (a ReLU there leaves most outputs without a gradient), and the term starts at
    zero, so that an untrained model predicts `start` exactly: the floor that training has to go below.

    Parameters
    ----------
    width
        Width D.
    gene_log_mean_N2
        As in `CountHeads`; not used here but stored, since every model carries its mean profile.
    n_outputs
        Outputs K per modality: 1 for a value, the number of bins for scores.
    """

    def __init__(self, width: int, gene_log_mean_N2: Tensor, n_outputs: int) -> None:
        super().__init__()
        self.n_outputs = n_outputs
        self.register_buffer("gene_log_mean", gene_log_mean_N2.float().clone())
        # Known from the training cells: `build_model` fills it in, and it is saved with the model.
        self.register_buffer("start", torch.zeros(*gene_log_mean_N2.shape, n_outputs))
        self.from_cell = nn.Linear(width, width)
        self.from_token = nn.Linear(width, len(MODALITIES) * n_outputs)
        nn.init.zeros_(self.from_token.weight)
        nn.init.zeros_(self.from_token.bias)

    def forward(self, tokens_XD, cell_BD, cells_X, genes_X, gene_vectors_ND) -> Tensor:
        """Outputs of any set of X tokens, X x M x K; parameters as in `CountHeads.token_log_rate`."""
        # The product with the gene vector makes the pooling token summarise the cell, as in `CountHeads`.
        genes_XD = F.embedding(genes_X, gene_vectors_ND) / INITIAL_STD
        states_XD = tokens_XD + self.from_cell(cell_BD).index_select(0, cells_X) * genes_XD
        return self.start[genes_X] + self.from_token(states_XD).unflatten(-1, (len(MODALITIES), self.n_outputs))


def make_heads(kind: str, width: int, gene_log_mean_N2: Tensor, gene_log_dispersion_N2: Tensor | None) -> nn.Module:
    """Heads that predict `counts`, `values` or `bins` of values."""
    if kind == "counts":
        return CountHeads(width, gene_log_mean_N2, gene_log_dispersion_N2)
    return ValueHeads(width, gene_log_mean_N2, {"values": 1, "bins": N_BINS}[kind])


def value_bins(values: Tensor) -> Tensor:
    """Bin of each value (int64): the value rounded up, so that bin 0 is zero alone, and no more than the last bin."""
    return values.ceil().clamp(0, N_BINS - 1).long()


def negative_binomial_nll(counts: Tensor, log_mean: Tensor, log_size: Tensor) -> Tensor:
    """Negative log likelihood of counts, elementwise.

    Parameters
    ----------
    counts
        Observed counts.
    log_mean
        log of the mean mu.
    log_size
        log of the size r; the variance is mu + mu^2 / r.

    Returns
    -------
    Tensor
        Nats per entry.
    """
    size, log_odds = log_size.exp(), log_mean - log_size
    # log(1 + mu / r) as a softplus keeps its digits where the size is far above the mean.
    return (
        torch.lgamma(size)
        + torch.lgamma(counts + 1)
        - torch.lgamma(counts + size)
        + (size + counts) * F.softplus(log_odds)
        - counts * log_odds
    )
