"""Gene tasks: what vectors of genes tell of a gene, or of two, when no gene of a test is known from training."""

import logging

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from regulonformer.corpus.encoding import log_normalise
from regulonformer.errors import InputError
from regulonformer.evaluate.gene_tasks import GeneTask
from regulonformer.evaluate.grn_methods import shuffled_edges

FOLDS = 5
PARTITIONS = 3  # of the genes into folds, for each seed: one tests a fifth of all pairs
PENALTY = 0.01  # C of the logistic regressions, the same for all methods: vectors are many, genes are few


def gene_folds(task: GeneTask, seed) -> np.ndarray:
    """Fold of each gene of a task, by its row number; genes that come first in pairs are divided evenly."""
    rng = np.random.default_rng(seed)
    fold = np.full(task.genes.max() + 1, -1)
    if task.genes.shape[1] == 2:
        strata = [np.unique(task.genes[:, 0]), np.setdiff1d(task.genes[:, 1], task.genes[:, 0])]
    else:
        strata = [np.unique(task.genes[task.label == value]) for value in (True, False)]
    for genes in strata:
        fold[rng.permutation(genes)] = np.arange(len(genes)) % FOLDS
    return fold


def matched_pairs(task: GeneTask, fold: np.ndarray, known: np.ndarray, seed: list[int]) -> GeneTask:
    """Add false pairs to a task that has none: its pairs rewired, so that every gene is in as many false as true ones.

    Uniformly drawn pairs would let a model tell true from false by how many partners a gene has. Pairs are rewired
    within blocks of the folds of their two genes, so that the balance holds in every test too; a true pair that no
    swap moves is left out.

    Parameters
    ----------
    task
        True pairs.
    fold
        See `gene_folds`.
    known
        Pairs that must not be drawn, beside those of the task.
    seed
        Seed of the swaps.
    """
    pairs = pd.DataFrame(task.genes, columns=["source", "target"])
    forbidden = set(map(tuple, np.concatenate([task.genes, known]).tolist()))
    parts = []
    for block, rows in pairs.groupby([fold[pairs["source"]], fold[pairs["target"]]]):
        swapped = shuffled_edges(rows, seed=[*seed, *block], forbidden=forbidden)
        moved = (swapped["target"] != rows["target"]).to_numpy()
        parts += [(rows[moved], True), (swapped[moved].astype(int), False)]
    genes = np.concatenate([part.to_numpy() for part, _ in parts])
    label = np.concatenate([np.full(len(part), value) for part, value in parts])
    return GeneTask(genes, label, task.unknown)


def features(vectors: np.ndarray, genes: np.ndarray) -> np.ndarray:
    """Vectors of a gene; of a pair both, their product and their absolute difference."""
    first = vectors[genes[:, 0]]
    if genes.shape[1] == 1:
        return first
    second = vectors[genes[:, 1]]
    return np.hstack([first, second, first * second, np.abs(first - second)])


def held_out_scores(task: GeneTask, fold: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Score every row whose genes are all held out, by a logistic regression of the rows of which none is.

    Rows that straddle, with one gene on either side, are in neither set.

    Parameters
    ----------
    task, fold
        Rows, and the fold of each gene.
    vectors
        Genes x K, without NaN. They are scaled to mean 0 and variance 1 over the genes.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        Score of each row (NaN where it was never held out), and its fold (-1).
    """
    scaled = StandardScaler().fit_transform(vectors)
    folds = fold[task.genes]
    scores, tested = np.full(len(folds), np.nan), np.where((folds == folds[:, :1]).all(1), folds[:, 0], -1)
    for held in range(FOLDS):
        train, test = (folds != held).all(1), tested == held
        if len(np.unique(task.label[train])) < 2 or not test.any():
            continue
        scale = StandardScaler().fit(features(scaled, task.genes[train]))
        model = LogisticRegression(C=PENALTY, max_iter=1000)
        model.fit(scale.transform(features(scaled, task.genes[train])), task.label[train])
        scores[test] = model.decision_function(scale.transform(features(scaled, task.genes[test])))
    return scores, np.where(np.isnan(scores), -1, tested)


def auroc_draws(label: np.ndarray, scores: np.ndarray, fold: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Area under the ROC curve within folds, of resamples: models of different folds are not compared.

    Parameters
    ----------
    label, scores, fold
        Per row; fold -1 is left out.
    times
        Rows x R: how often each row is drawn.

    Returns
    -------
    numpy.ndarray
        (R,) share of pairs of a true and a false row of one fold that are in order; equal scores count half.
    """
    right, total = np.zeros(times.shape[1]), np.zeros(times.shape[1])
    for held in np.unique(fold[fold >= 0]):
        rows = np.flatnonzero(fold == held)
        _, level = np.unique(scores[rows], return_inverse=True)
        true, false = (_sum_levels(times[rows] * (label[rows] == value)[:, None], level) for value in (True, False))
        below = np.cumsum(false, axis=0) - false
        right += (true * (below + false / 2)).sum(0)
        total += true.sum(0) * false.sum(0)
    return right / np.where(total > 0, total, np.nan)


def _sum_levels(weights: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Sum rows that have the same level; levels x R."""
    return sparse.csr_matrix((np.ones(len(level)), (level, np.arange(len(level))))) @ weights


def expression_statistics(corpus) -> np.ndarray:
    """What is known of a gene without any model: log mean, share of cells and variance of RNA and accessibility."""
    everyone, columns = np.arange(len(corpus)), []
    for m, counts in enumerate(corpus.rows(everyone)):
        shown = np.asarray((counts > 0).mean(0)).ravel()
        values = counts.astype(np.float32)
        values.data = log_normalise(values, corpus.library[everyone, m])
        mean = np.asarray(values.mean(0)).ravel()
        variance = np.asarray(values.multiply(values).mean(0)).ravel() - mean**2
        columns += [np.log(mean + 1e-4), shown, variance]
    return np.stack(columns, axis=1)


def as_regulators(vectors: np.ndarray, regulon: np.ndarray) -> np.ndarray:
    """Vectors in which a TF stands for its regulon; all others for themselves; less the mean gene.

    Parameters
    ----------
    vectors
        Genes x D.
    regulon
        Mean vector of each TF's targets, genes x D; NaN for genes without a regulon.
    """
    return np.where(np.isnan(regulon), vectors, regulon) - vectors.mean(0)


def prior_vectors(vectors: np.ndarray, regulons: pd.DataFrame, symbols) -> np.ndarray:
    """Mean vector of each TF's targets in the prior, by their scores; genes x D, NaN for a gene without targets."""
    symbols = pd.Index(symbols)
    known = regulons[regulons["source"].isin(symbols) & regulons["target"].isin(symbols)]
    edges = known.assign(score=known["score"].abs()).groupby(["source", "target"], as_index=False)["score"].max()
    at = symbols.get_indexer(edges["source"]), symbols.get_indexer(edges["target"])
    weights = sparse.csr_matrix((edges["score"], at), shape=(len(symbols), len(symbols)))
    total = np.asarray(weights.sum(1))
    return weights @ vectors / np.where(total > 0, total, np.nan)


def judge(task: GeneTask, methods: dict, known: np.ndarray, settings: dict) -> tuple[pd.DataFrame, dict]:
    """Score every method on a task.

    Parameters
    ----------
    task
        Rows.
    methods
        Name to a function of the seed that gives genes x K. The first one is ours.
    known
        Pairs that must not be drawn as false ones.
    settings
        seeds, bootstrap, confidence.

    Returns
    -------
    (pandas.DataFrame, dict)
        method, seed, metric (`auroc`, and `gap_auroc`: the method less ours), value, ci_low, ci_high; and counts. `all`
        is the mean over seeds, which divide genes in ways of their own; its interval is over genes (the first of a
        pair), drawn as a whole, and over seeds. Methods share the draws.

    Raises
    ------
    InputError
        If no row has all its genes held out, with both labels to learn from.
    """
    single, draws, counts = {}, {}, []
    rng, n = np.random.default_rng(settings["seeds"][0]), settings["bootstrap"]
    units = np.unique(task.genes[:, 0])
    times_UR = np.zeros((units.max() + 1, 1 + n))
    times_UR[units, 0] = 1
    times_UR[units, 1:] = rng.multinomial(len(units), np.full(len(units), 1 / len(units)), n).T
    for seed in settings["seeds"]:
        found = {name: [] for name in methods}
        for part in range(PARTITIONS):
            fold = gene_folds(task, [seed, part])
            full = matched_pairs(task, fold, known, [seed, part]) if task.draws_pairs else task
            for name, vectors in methods.items():
                scores, tested = held_out_scores(full, fold, vectors(seed))
                found[name].append(auroc_draws(full.label, scores, tested, times_UR[full.genes[:, 0]]))
            straddling = int((tested < 0).sum())
            counts.append({"rows": len(full.label), "tested": len(full.label) - straddling, "straddling": straddling})
        if not any(item["tested"] for item in counts[-PARTITIONS:]):
            problem = f"of {len(task.label)} rows no row has all its genes held out and both labels to learn from"
            raise InputError("gene_tasks", problem, "Name a task of more genes")
        for name, parts in found.items():
            mean_R = np.nanmean(parts, axis=0)
            single[name, seed], draws[name, seed] = mean_R[0], mean_R[1:]
        logging.info("seed %d: %s", seed, counts[-1])
    mean = {key: float(np.mean([item[key] for item in counts])) for key in counts[0]}
    mean |= {"unknown": task.unknown, "repeated": task.repeated}
    drawn_RS = rng.integers(len(settings["seeds"]), size=(n, len(settings["seeds"])))
    return _tabulate(single, draws, drawn_RS, list(methods), settings), mean


def _tabulate(single: dict, draws: dict, drawn_RS: np.ndarray, methods: list[str], settings: dict) -> pd.DataFrame:
    """Rows of scores and of differences to the first method; a draw is one of genes and one of seeds."""
    tails, seeds, rows = [(1 - settings["confidence"]) / 2, (1 + settings["confidence"]) / 2], settings["seeds"], []
    for name in methods:
        metrics = {"auroc": lambda store, seed, name=name: store[name, seed]}
        if name != methods[0]:
            metrics["gap_auroc"] = lambda store, seed, name=name: store[name, seed] - store[methods[0], seed]
        for metric, of in metrics.items():
            rows += [(name, str(seed), metric, of(single, seed), np.nan, np.nan) for seed in seeds]
            of_seed_RS = np.stack([of(draws, seed) for seed in seeds], axis=1)
            means = np.nanmean(np.take_along_axis(of_seed_RS, drawn_RS, axis=1), axis=1)
            low, high = np.nanquantile(means, tails)
            rows.append((name, "all", metric, np.mean([of(single, seed) for seed in seeds]), low, high))
    return pd.DataFrame(rows, columns=["method", "seed", "metric", "value", "ci_low", "ci_high"])
