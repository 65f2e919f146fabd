"""Loss floors of masked pretraining: what simple predictors reach on the hidden counts that the model is scored on.

Cells, masks and likelihood are those of the objective. Every predictor sees the visible values of a cell and its
totals, as the model does, and learns, its settings included, from training cells that are masked in the same way.
"""

import logging
from copy import deepcopy

import numpy as np
import torch

from regulonformer.corpus.shards import Corpus
from regulonformer.evaluate.count_predictors import PREDICTORS, CellSpace, Profile
from regulonformer.evaluate.masked_cells import Entries, MaskedData
from regulonformer.model.batch import MODALITIES
from regulonformer.model.heads import negative_binomial_nll

# A predictor that explains part of the spread between cells needs less dispersion than the mean profile.
SIZE_FACTORS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
# What single genes add to the log of that, and how far they may stray: standard deviations of a normal prior.
SIZE_SHIFTS, SIZE_SPREADS = np.linspace(-3, 3, 25), (0.1, 0.3, 1.0)
# Cells whose rates are dense at a time.
BLOCK_CELLS = 500


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
