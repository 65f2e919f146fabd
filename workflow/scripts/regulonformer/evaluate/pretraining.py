"""Loss floors of masked pretraining: what simple predictors reach on the hidden counts that the model is scored on.

Cells, masks and likelihood are those of the objective. Every predictor sees the visible values of a cell and its
totals, as the model does, and learns, its settings included, from training cells that are masked in the same way.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from regulonformer.corpus.loader import stream
from regulonformer.corpus.profile import SCALE_OFFSET
from regulonformer.corpus.sampler import length_sorted
from regulonformer.corpus.shards import Corpus
from regulonformer.model.batch import MODALITIES
from regulonformer.model.heads import negative_binomial_nll

# What is tried on training cells. Pseudo-counts are in libraries of mean size.
COMPONENTS, NEIGHBOURS, PSEUDO_LIBRARIES = (10, 20, 50), (15, 50, 150, 500), (3.0, 10.0, 30.0)
PENALTIES = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
# A predictor that explains part of the spread between cells needs less dispersion than the mean profile.
SIZE_FACTORS = (1.0, 2.0, 4.0, 8.0)
# Cells and genes whose rates are dense at a time.
BLOCK_CELLS, BLOCK_GENES = 500, 2000
ITERATIONS = 40


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
    """

    rows: np.ndarray
    visible: list[sp.csr_matrix]
    hidden: list[Entries]
    library: np.ndarray

    def subset(self, chosen: np.ndarray) -> "MaskedData":
        """Some of the cells (bool per cell), in the same order."""
        number = np.cumsum(chosen) - 1
        kept = [chosen[entries.cell] for entries in self.hidden]
        hidden = [Entries(*(part[at] for part in e)) for e, at in zip(self.hidden, kept, strict=True)]
        hidden = [entries._replace(cell=number[entries.cell]) for entries in hidden]
        return MaskedData(self.rows[chosen], [part[chosen] for part in self.visible], hidden, self.library[chosen])


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
    rows, visible, hidden, library, start = [], [[], []], [[], []], [], 0
    for numbers, prepared in batches:
        batch = prepared.batch
        genes_BT, library_B2 = batch.genes_BT.numpy(), batch.library_B2.numpy()
        for m, (values_BT, counts_BT) in enumerate(
            [(batch.rna_BT, batch.rna_counts_BT), (batch.atac_BT, batch.atac_counts_BT)]
        ):
            scored_BT = prepared.scored_BTM[..., m].numpy()
            cell, token = np.nonzero(scored_BT)
            weight = prepared.weight_BT.numpy()[cell, token]
            counts = counts_BT.numpy()[cell, token]
            hidden[m].append((cell + start, genes_BT[cell, token], counts, weight))
            # Hidden values are zero in the batch already; this does not rely on it.
            shown_BT = values_BT.numpy() * ~scored_BT * ~batch.pad_BT.numpy()
            cell, token = np.nonzero(shown_BT)
            part = (shown_BT[cell, token], (cell, genes_BT[cell, token]))
            visible[m].append(sp.csr_matrix(part, shape=(len(numbers), n_genes)))
        rows.append(numbers)
        library.append(library_B2)
        start += len(numbers)
    return MaskedData(
        np.concatenate(rows),
        [sp.vstack(parts).tocsr() for parts in visible],
        [Entries(*map(np.concatenate, zip(*parts, strict=True))) for parts in hidden],
        np.concatenate(library),
    )


class CellSpace:
    """Principal components of the visible values of both modalities.

    Genes are scaled as for the start of the gene vectors (`corpus.profile`); components are in units of the first
    one's deviation.

    Parameters
    ----------
    data
        Cells to learn scale and components from.
    n_components
        Components wanted.
    """

    def __init__(self, data: MaskedData, n_components: int) -> None:
        values = sp.hstack(data.visible).tocsr()
        mean = np.asarray(values.mean(0)).ravel()
        variance = np.asarray(values.multiply(values).mean(0)).ravel() - mean**2
        self.scale = sp.diags(1 / (np.sqrt(np.maximum(variance, 0)) + SCALE_OFFSET))
        n = min(n_components, min(values.shape) - 1)
        self.pca = PCA(n, svd_solver="arpack", random_state=0).fit((values @ self.scale).tocsr())

    def __call__(self, data: MaskedData) -> np.ndarray:
        """Cells x components."""
        values = (sp.hstack(data.visible).tocsr() @ self.scale).tocsr()
        return self.pca.transform(values) / np.sqrt(self.pca.explained_variance_[0])


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
        optimiser = torch.optim.LBFGS([slopes], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

        def loss():
            optimiser.zero_grad()
            log_mu = log_floor + design @ slopes
            # The terms of the likelihood that depend on the mean.
            nll = (counts + log_size.exp()) * torch.logaddexp(log_mu, log_size) - counts * log_mu
            value = nll.sum() + penalty / 2 * slopes.square().sum()
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


def cell_nll(entries: Entries, log_rate, library: np.ndarray, log_size: np.ndarray) -> np.ndarray:
    """Weighted sum of the negative log likelihood of each cell's hidden entries (nats).

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
    nll = negative_binomial_nll(*given).numpy()
    return np.bincount(entries.cell, nll * entries.weight, minlength=len(library))


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
        predictor = _fit(name, inner_space(fitted), fitted, corpus, m, profile)
        option, factor = _choose(predictor, inner_space(choosing), choosing, m, profile)
        logging.info("%s, %s: settings %s, size x %g", name, MODALITIES[m], option, factor)
        predictor = _fit(name, space(training), training, corpus, m, profile)
        rates = entry_log_rates(predictor, space(test), test.hidden[m], option)
        sums.append(cell_nll(test.hidden[m], rates, test.library[:, m], profile.log_size + np.log(factor)))
    return np.column_stack(sums)


def _fit(name: str, space, data: MaskedData, corpus: Corpus, modality: int, profile: Profile):
    """A predictor that has seen the cells of `data`, their hidden counts included."""
    return PREDICTORS[name](space, corpus.rows(data.rows)[modality], data.library[:, modality], profile)


def _choose(predictor, space, data: MaskedData, modality: int, profile: Profile) -> tuple:
    """The settings, and the factor on the NB size, with the least loss."""
    losses, entries = {}, data.hidden[modality]
    for option in predictor.options:
        rates = entry_log_rates(predictor, space, entries, option)
        for factor in SIZE_FACTORS:
            nll = cell_nll(entries, rates, data.library[:, modality], profile.log_size + np.log(factor))
            losses[option, factor] = nll.sum()
    return min(losses, key=losses.get)


@torch.no_grad()
def model_sums(model, objective, batches) -> dict[str, np.ndarray]:
    """Sums of the objective over each cell's hidden entries.

    Parameters
    ----------
    model
        Model in evaluation mode.
    objective
        Its objective.
    batches
        Row numbers and prepared cells of `masked_batches`.

    Returns
    -------
    dict of str to numpy.ndarray
        `nll` of the model, `floor` of the mean profile, and `weight` of the entries, cells x modalities.
    """
    found = {"nll": [], "floor": [], "weight": []}
    for rows, prepared in batches:
        for cell in range(len(rows)):
            terms = objective.loss(model, prepared.part(slice(cell, cell + 1)))
            for name, values in found.items():
                values.append(getattr(terms, f"{name}_M").double().numpy())
    return {name: np.stack(values) for name, values in found.items()}


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
