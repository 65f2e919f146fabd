"""Heads of pretraining: counts as negative binomial around the mean profile of the training cells."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regulonformer.model.batch import MODALITIES
from regulonformer.model.embedding import INITIAL_STD


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
        self.log_dispersion = nn.Parameter(gene_log_dispersion_N2.float().clone())
        self.from_token = nn.Linear(width, len(MODALITIES))
        self.from_cell = nn.Linear(width, len(MODALITIES) * width)
        for head in (self.from_token, self.from_cell):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

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
        factors_XMD = self.factors(cell_BD).index_select(0, cells_X)
        shift_XM = (factors_XMD @ F.embedding(genes_X, gene_vectors_ND)[..., None])[..., 0]
        return self.gene_log_mean[genes_X] + shift_XM + self.from_token(tokens_XD)


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
    size = log_size.exp()
    log_total = torch.logaddexp(log_mean, log_size)
    return (
        torch.lgamma(size)
        + torch.lgamma(counts + 1)
        - torch.lgamma(counts + size)
        - size * (log_size - log_total)
        - counts * (log_mean - log_total)
    )
