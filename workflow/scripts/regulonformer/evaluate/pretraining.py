"""Loss floors of masked pretraining: what simple predictors reach on the hidden counts that the model is scored on.

Cells, masks and likelihood are those of the objective. Every predictor sees the visible values of a cell and its
totals, as the model does, and learns, its settings included, from training cells that are masked in the same way.
"""

import logging
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import LinearOperator, svds
from sklearn.neighbors import NearestNeighbors

from regulonformer.corpus.loader import stream
from regulonformer.corpus.profile import SCALE_OFFSET
from regulonformer.corpus.sampler import length_sorted
from regulonformer.corpus.shards import Corpus
from regulonformer.model.batch import MODALITIES
from regulonformer.model.heads import negative_binomial_nll

# What is tried on training cells. Pseudo-counts are in libraries of mean size.
COMPONENTS, NEIGHBOURS, PSEUDO_LIBRARIES = (10, 20, 50), (15, 50, 150, 500), (3.0, 10.0, 30.0)
PENALTIES = (300.0, 100.0, 30.0, 10.0, 3.0)
# A predictor that explains part of the spread between cells needs less dispersion than the mean profile.
SIZE_FACTORS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
# What single genes add to the log of that, and how far they may stray: standard deviations of a normal prior.
SIZE_SHIFTS, SIZE_SPREADS = np.linspace(-3, 3, 25), (0.1, 0.3, 1.0)
# Cells and genes whose rates are dense at a time.
BLOCK_CELLS, BLOCK_GENES = 500, 2000
# Steps of L-BFGS at most, and what makes further ones not worth it: so little a change of the loss or of a coefficient.
ITERATIONS, TOLERANCE = 20, 1e-3


class Entries(NamedTuple):
    """Hidden entries of one modality: row of the cell, gene, count, and weight in the objective."""

    cell: np.ndarray
    gene: np.ndarray
    counts: np.ndarray
    weight: np.ndarray


@dataclass
class MaskedData:
    """Cells with part of their values hidden.

    Attributes
    ----------
    rows
        Row number of each cell in the corpus.
    visible
        Per modality the log-normalised values that are not hidden, cells x genes.
    hidden
        Per modality the hidden entries.
    library
        Total counts, cells x modalities.
    measured
        Which modalities a cell has at all, cells x modalities.
    """

    rows: np.ndarray
    visible: list[sp.csr_matrix]
    hidden: list[Entries]
    library: np.ndarray
    measured: np.ndarray

    def subset(self, chosen: np.ndarray) -> "MaskedData":
        """Some of the cells (bool per cell), in the same order."""
        number = np.cumsum(chosen) - 1
        kept = [chosen[entries.cell] for entries in self.hidden]
        hidden = [Entries(*(part[at] for part in e)) for e, at in zip(self.hidden, kept, strict=True)]
        hidden = [entries._replace(cell=number[entries.cell]) for entries in hidden]
        visible = [part[chosen] for part in self.visible]
        return MaskedData(self.rows[chosen], visible, hidden, self.library[chosen], self.measured[chosen])


def masked_batches(objective, corpus: Corpus, cells, batch_cells: int, place: tuple) -> Iterator:
    """Mask cells as the objective does, always in the same way; yields row numbers and prepared cells.

    Parameters
    ----------
    objective
        See `regulonformer.objectives`.
    corpus, cells
        Cells, and the row numbers of those wanted.
    batch_cells
        Cells per batch.
    place
        Seed and stream of the masks; those of the training's validation give the very entries of its curve.
    """
    lengths = corpus.cells["n_active"].to_numpy()[cells]
    for number, (rows, batch) in enumerate(stream(corpus, length_sorted(cells, lengths, batch_cells))):
        seed = int(np.random.default_rng([*place, number]).integers(2**31))
        yield rows, objective.prepare(batch, torch.Generator().manual_seed(seed))


def masked_data(batches, n_genes: int) -> MaskedData:
    """Take apart what is visible and what is hidden.

    Parameters
    ----------
    batches
        Row numbers and prepared cells of `masked_batches`.
    n_genes
        Genes N of the vocabulary.
    """
    rows, visible, hidden, library, measured, start = [], [[], []], [[], []], [], [], 0
    for numbers, prepared in batches:
        batch = prepared.batch
        genes_BT, library_B2 = batch.genes_BT.numpy(), batch.library_B2.double().numpy()
        for m, (values_BT, counts_BT) in enumerate(
            [(batch.rna_BT, batch.rna_counts_BT), (batch.atac_BT, batch.atac_counts_BT)]
        ):
            scored_BT = prepared.scored_BTM[..., m].numpy()
            cell, token = np.nonzero(scored_BT)
            weight = prepared.weight_BT.numpy()[cell, token]
            counts = counts_BT.numpy()[cell, token]
            hidden[m].append((cell + start, genes_BT[cell, token], counts, weight))
            # Hidden values are zero in the batch already; this does not rely on it.
            shown_BT = values_BT.double().numpy() * ~scored_BT * ~batch.pad_BT.numpy()
            cell, token = np.nonzero(shown_BT)
            part = (shown_BT[cell, token], (cell, genes_BT[cell, token]))
            visible[m].append(sp.csr_matrix(part, shape=(len(numbers), n_genes)))
        rows.append(numbers)
        library.append(library_B2)
        measured.append(~batch.missing_BM().numpy())
        start += len(numbers)
    return MaskedData(
        np.concatenate(rows),
        [sp.vstack(parts).tocsr() for parts in visible],
        [Entries(*map(np.concatenate, zip(*parts, strict=True))) for parts in hidden],
        np.concatenate(library),
        np.concatenate(measured),
    )


class CellSpace:
    """Principal components of the visible values of both modalities.

    Genes are scaled as for the start of the gene vectors (`corpus.profile`); components are in units of the first
    one's deviation. A cell that lacks a modality has no say in its means, and is put there itself.

    Parameters
    ----------
    data
        Cells to learn scale and components from.
    n_components
        Components wanted.
    """

    def __init__(self, data: MaskedData, n_components: int) -> None:
        self.n_genes = data.visible[0].shape[1]
        values = sp.hstack(data.visible).tocsr()
        n_measured = np.repeat(np.maximum(data.measured.sum(0), 1), self.n_genes)
        mean = np.asarray(values.sum(0)).ravel() / n_measured
        variance = np.asarray(values.multiply(values).sum(0)).ravel() / n_measured - mean**2
        scale = np.sqrt(np.maximum(variance, 0)) + SCALE_OFFSET
        self.scale, self.mean = sp.diags(1 / scale), mean / scale
        n = min(n_components, min(values.shape) - 1)
        _, deviations, loadings = svds(self._centred(data), k=n, v0=np.ones(min(values.shape)))
        self.projection = loadings[::-1].T * np.sqrt(len(data.rows) - 1) / deviations.max()

    def __call__(self, data: MaskedData) -> np.ndarray:
        """Cells x components."""
        return self._centred(data) @ self.projection

    def _centred(self, data: MaskedData) -> LinearOperator:
        """Scaled values less their means, zero where a modality is missing; never dense."""
        values = (sp.hstack(data.visible).tocsr() @ self.scale).tocsr()
        measured = data.measured.astype(np.float64)
        means = sp.block_diag([part[None] for part in np.split(self.mean, [self.n_genes])]).tocsr()
        return LinearOperator(
            values.shape,
            matvec=lambda v: values @ v - measured @ (means @ v),
            rmatvec=lambda u: values.T @ u - means.T @ (measured.T @ u),
            matmat=lambda v: values @ v - measured @ (means @ v),
            dtype=np.float64,
        )


class Profile(NamedTuple):
    """Mean profile of one modality: log of each gene's share of all counts, and log of its NB size."""

    log_mean: np.ndarray
    log_size: np.ndarray


class NearestCells:
    """Counts of the nearest training cells, blended with the mean profile.

    rate = (sum of counts + pseudo x share) / (sum of totals + pseudo), pseudo being so many libraries of mean size.

    Parameters
    ----------
    space, counts, library
        Training cells: components, counts of one modality (cells x genes), total counts.
    profile
        Mean profile of that modality.
    """

    options = tuple(product(COMPONENTS, NEIGHBOURS, PSEUDO_LIBRARIES))

    def __init__(self, space: np.ndarray, counts: sp.csr_matrix, library: np.ndarray, profile: Profile) -> None:
        self.space, self.counts, self.library = space, counts.astype(np.float64), library
        self.share = np.exp(profile.log_mean)

    def log_rate(self, space: np.ndarray, option: tuple) -> np.ndarray:
        """Log of counts per library count (cells x genes) of cells given by their components."""
        n_components, k, pseudo = option
        search = NearestNeighbors(n_neighbors=min(k, len(self.space))).fit(self.space[:, :n_components])
        near = search.kneighbors_graph(space[:, :n_components])
        pseudo_count = pseudo * max(self.library.mean(), 1.0)
        total = (near @ self.library + pseudo_count)[:, None]
        return np.log(((near @ self.counts).toarray() + pseudo_count * self.share) / total)


class LogLinear:
    """Negative binomial regression of every gene on the components, with a ridge penalty.

    log rate = log share + components x coefficients: ridge regression with the likelihood it is judged by. A penalty is
    fitted when it is first asked for, starting from the one before (L-BFGS).

    Parameters
    ----------
    space, counts, library, profile
        See `NearestCells`.
    """

    options = PENALTIES

    def __init__(self, space: np.ndarray, counts: sp.csr_matrix, library: np.ndarray, profile: Profile) -> None:
        self.design, self.counts, self.profile = _with_intercept(space), counts.tocsc(), profile
        self.log_library = np.log(np.maximum(library, 1.0))[:, None]
        self.last, self.fitted = np.zeros((self.design.shape[1], counts.shape[1])), {}

    def log_rate(self, space: np.ndarray, option: float) -> np.ndarray:
        """Log of counts per library count (cells x genes) of cells given by their components."""
        return self.profile.log_mean + _with_intercept(space) @ self.coefficients(option)

    def coefficients(self, penalty: float) -> np.ndarray:
        """Coefficients, (1 + components) x genes; genes do not depend on each other and are fitted in blocks."""
        if penalty not in self.fitted:
            starts = range(0, self.counts.shape[1], BLOCK_GENES)
            self.last = np.hstack([self._fit(slice(start, start + BLOCK_GENES), penalty) for start in starts])
            self.fitted[penalty] = self.last
        return self.fitted[penalty]

    def _fit(self, genes: slice, penalty: float) -> np.ndarray:
        log_floor = self.profile.log_mean[genes] + self.log_library
        given = (self.design, self.counts[:, genes].toarray(), log_floor, self.profile.log_size[genes])
        design, counts, log_floor, log_size = (torch.tensor(part, dtype=torch.float32) for part in given)
        slopes = torch.tensor(self.last[:, genes], dtype=torch.float32, requires_grad=True)
        options = {"max_iter": ITERATIONS, "tolerance_change": TOLERANCE, "line_search_fn": "strong_wolfe"}
        optimiser = torch.optim.LBFGS([slopes], **options)

        def loss():
            optimiser.zero_grad()
            log_mu = log_floor + design @ slopes
            # The terms of the likelihood that depend on the mean. Constants, or a sum in single precision, would hide
            # what a step gains, and the search would stop where it began.
            nll = (counts + log_size.exp()) * F.softplus(log_mu - log_size) - counts * log_mu
            value = nll.sum(dtype=torch.float64) + penalty / 2 * slopes.square().sum(dtype=torch.float64)
            value.backward()
            return value

        optimiser.step(loss)
        return slopes.detach().numpy().astype(np.float64)


def _with_intercept(space: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(space)), space])


PREDICTORS = {"kNN": NearestCells, "ridge on PCA": LogLinear}


def entry_log_rates(predictor, space: np.ndarray, entries: Entries, option) -> np.ndarray:
    """Log rates of hidden entries, with few cells x genes dense at a time."""
    rates = np.empty(len(entries.cell))
    for start in range(0, len(space), BLOCK_CELLS):
        here = (entries.cell >= start) & (entries.cell < start + BLOCK_CELLS)
        dense = predictor.log_rate(space[start : start + BLOCK_CELLS], option)
        rates[here] = dense[entries.cell[here] - start, entries.gene[here]]
    return rates


def entry_nll(entries: Entries, log_rate, library: np.ndarray, log_size: np.ndarray) -> np.ndarray:
    """Weighted negative log likelihood of hidden entries (nats).

    Parameters
    ----------
    entries
        Hidden entries of one modality.
    log_rate
        Log of counts per library count, per entry.
    library
        Total counts per cell.
    log_size
        Log of the NB size, per gene.
    """
    log_mean = log_rate + np.log(np.maximum(library, 1.0))[entries.cell]
    given = (torch.tensor(values, dtype=torch.float64) for values in (entries.counts, log_mean, log_size[entries.gene]))
    return negative_binomial_nll(*given).numpy() * entries.weight


def cell_nll(entries: Entries, log_rate, library: np.ndarray, log_size: np.ndarray) -> np.ndarray:
    """Sum of `entry_nll` over the hidden entries of each cell."""
    return np.bincount(entries.cell, entry_nll(entries, log_rate, library, log_size), minlength=len(library))


def refit_sizes(entries: Entries, log_rate, library: np.ndarray, log_size: np.ndarray) -> np.ndarray:
    """Log of the NB size of every gene given the predicted rates, shrunk to what it is now.

    Sizes with the most likely shift under a normal prior, whose deviation is the one of `SIZE_SPREADS` with which each
    half of the cells is told best by the other. Our model learns its sizes as freely.

    Parameters
    ----------
    entries, log_rate, library, log_size
        See `entry_nll`; of cells that the predictor was not fitted to.
    """
    cell_half, genes, n_genes = entries.cell % 2, np.arange(len(log_size)), len(log_size)
    halves = np.empty((2, len(SIZE_SHIFTS), n_genes))
    for number, shift in enumerate(SIZE_SHIFTS):
        nll = entry_nll(entries, log_rate, library, log_size + shift)
        both = np.bincount(cell_half * n_genes + entries.gene, nll, minlength=2 * n_genes)
        halves[:, number] = both.reshape(2, n_genes)

    def best(losses: np.ndarray, spread: float) -> np.ndarray:
        return (losses + SIZE_SHIFTS[:, None] ** 2 / (2 * spread**2)).argmin(0)

    def crossed(spread: float) -> float:
        return sum(judge[best(fit, spread), genes].sum() for fit, judge in (halves, halves[::-1]))

    spread = min(SIZE_SPREADS, key=crossed)
    return log_size + SIZE_SHIFTS[best(halves.sum(0), spread)]


def predictor_sums(
    name: str, training: MaskedData, inner: np.ndarray, test: MaskedData, corpus: Corpus, profiles, n_components: int
) -> np.ndarray:
    """Choose a predictor's settings on some training cells, fit it to all of them, and score it on other cells.

    Parameters
    ----------
    name
        Key of `PREDICTORS`.
    training, test
        Masked cells to learn from, and to score.
    inner
        True for the training cells that settings are chosen on; meanwhile the predictor is fitted to the others.
    corpus
        Gives the counts of training cells.
    profiles
        `Profile` of each modality.
    n_components
        Components of the cell space, at most.

    Returns
    -------
    numpy.ndarray
        Sums of negative log likelihoods (nats), test cells x modalities.
    """
    choosing, fitted = training.subset(inner), training.subset(~inner)
    inner_space, space = CellSpace(fitted, n_components), CellSpace(training, n_components)
    sums = []
    for m, profile in enumerate(profiles):
        rates, log_size = profile.log_mean[test.hidden[m].gene], profile.log_size
        if choosing.measured[:, m].any() and fitted.measured[:, m].any():
            predictor = _fit(name, inner_space(fitted), fitted, corpus, m, profile)
            option, log_size = _choose(name, predictor, inner_space(choosing), choosing, m, profile)
            predictor = _fit(name, space(training), training, corpus, m, profile)
            rates = entry_log_rates(predictor, space(test), test.hidden[m], option)
        else:
            logging.warning("%s, %s: too few training cells have it; the mean profile stands in", name, MODALITIES[m])
        sums.append(cell_nll(test.hidden[m], rates, test.library[:, m], log_size))
    return np.column_stack(sums)


def _fit(name: str, space, data: MaskedData, corpus: Corpus, modality: int, profile: Profile):
    """A predictor that has seen the cells of `data` that have the modality, their hidden counts included."""
    here = data.measured[:, modality]
    counts = corpus.rows(data.rows[here])[modality]
    return PREDICTORS[name](space[here], counts, data.library[here, modality], profile)


def _choose(name: str, predictor, space, data: MaskedData, modality: int, profile: Profile) -> tuple:
    """The settings with the least loss, and the log of the NB size of every gene that goes with them."""
    entries, library, best = data.hidden[modality], data.library[:, modality], (np.inf,)
    for option in predictor.options:
        rates = entry_log_rates(predictor, space, entries, option)
        for factor in SIZE_FACTORS:
            nll = entry_nll(entries, rates, library, profile.log_size + np.log(factor)).sum()
            if nll < best[0]:
                best = nll, option, factor, rates
    _, option, factor, rates = best
    logging.info("%s, %s: settings %s, size x %g", name, MODALITIES[modality], option, factor)
    tried = np.reshape(predictor.options, (len(predictor.options), -1))
    for values, value in [*zip(tried.T, np.ravel(option), strict=True), (np.array(SIZE_FACTORS), factor)]:
        if value in (values.min(), values.max()):
            logging.info("%s, %s: %g is the edge of what was tried (%s)", name, MODALITIES[modality], value,
                         ", ".join(f"{v:g}" for v in np.unique(values)))  # fmt: skip
    return option, refit_sizes(entries, rates, library, profile.log_size + np.log(factor))


@torch.no_grad()
def model_sums(model, objective, batches) -> dict[str, np.ndarray]:
    """Sums of the objective over each cell's hidden entries, in double precision as for all other predictors.

    Parameters
    ----------
    model
        Model in evaluation mode, on the CPU.
    objective
        Its objective.
    batches
        Row numbers and prepared cells of `masked_batches`.

    Returns
    -------
    dict of str to numpy.ndarray
        `nll` of the model, `floor` of the mean profile, and `weight` of the entries, cells x modalities.
    """
    found, model = {"nll": [], "floor": [], "weight": []}, deepcopy(model).double()
    for rows, prepared in batches:
        prepared = _double(prepared)
        for cell in range(len(rows)):
            terms = objective.loss(model, prepared.part(slice(cell, cell + 1)))
            for name, values in found.items():
                values.append(getattr(terms, f"{name}_M").numpy())
    return {name: np.stack(values) for name, values in found.items()}


def _double(item):
    """The same tensor, or named tuple of them, with floating-point numbers in double precision."""
    if isinstance(item, tuple):
        return type(item)(*map(_double, item))
    return item.double() if item.is_floating_point() else item


def bootstrap_losses(sums: dict[str, np.ndarray], weight: np.ndarray, strata: np.ndarray, n: int, seed: int) -> dict:
    """Loss per entry of every method over cells drawn with replacement within each library, the same for all methods.

    Parameters
    ----------
    sums
        Method to cell sums of one modality.
    weight
        Weight of each cell's entries.
    strata
        Library of each cell.
    n
        Resamples.
    seed
        Seed of the draw.

    Returns
    -------
    dict of str to numpy.ndarray
        Method to n losses.
    """
    rng, times = np.random.default_rng(seed), np.zeros((n, len(strata)))
    for stratum in np.unique(strata):
        here = np.flatnonzero(strata == stratum)
        times[:, here] = rng.multinomial(len(here), np.full(len(here), 1 / len(here)), size=n)
    return {method: times @ values / (times @ weight) for method, values in sums.items()}
