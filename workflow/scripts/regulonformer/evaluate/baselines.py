"""Simple classifiers that a foundation model has to beat, fitted inside the fold on its training cells only."""

import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from regulonformer.balance import class_weights
from regulonformer.errors import InputError
from regulonformer.evaluate.spaces import components, raw_features

INVERSE_PENALTY = 0.3  # C of logistic regressions on components, features having unit deviation at most
RAW_INVERSE_PENALTY = 3.0  # C of those on genes and peaks, the mean cell having length 1
ITERATIONS = 300
# Trees of XGBoost: small ones, since a cell type may have a few dozen cells.
TREES = {"n_estimators": 60, "max_depth": 4, "learning_rate": 0.2, "max_bin": 32, "tree_method": "hist"}


@dataclass(frozen=True)
class EvaluateSettings:
    """Settings of scoring and baselines.

    Attributes
    ----------
    bootstrap
        Resamples per confidence interval.
    confidence
        Level of the confidence intervals.
    seed
        Seed of the resampling.
    baselines
        Which to fit, names of `BASELINES` or scanvi.
    pca_components
        Components of PCA (RNA) and LSI (ATAC).
    neighbours
        Neighbours of the kNN classifier.
    n_top_genes, n_top_peaks
        Highly variable genes and most open peaks, chosen on the training cells.
    """

    bootstrap: int = 1000
    confidence: float = 0.95
    seed: int = 0
    baselines: tuple[str, ...] = ("majority", "knn", "logistic", "logistic_raw", "mlp", "xgboost")
    pca_components: int = 50
    neighbours: int = 15
    n_top_genes: int = 2000
    n_top_peaks: int = 5000


@dataclass(frozen=True)
class Baseline:
    """One method.

    Attributes
    ----------
    name
        In tables; {} stands for the name of the space.
    fit
        (cells, codes, settings, seed) to a fitted classifier; codes are class indexes without gaps.
    raw
        On genes and peaks, not on components.
    spaces
        Positions among RNA, ATAC and both; empty for all of them.
    seeded
        Whether a seed changes it.
    """

    name: str
    fit: Callable
    raw: bool = False
    spaces: tuple[int, ...] = ()
    seeded: bool = False


def predict_baselines(
    rna, atac, labels: np.ndarray, test: np.ndarray, settings: EvaluateSettings, seeds: list[int], samples=None
) -> Iterator[tuple[str, int, np.ndarray, np.ndarray]]:
    """Fit every baseline on the training cells of a fold and predict its held-out cells.

    What a seed changes is fitted once for each; everything else once, decompositions with the first seed.

    Parameters
    ----------
    rna
        Cells x genes counts (csr), or None without that modality.
    atac
        Cells x peaks counts (csr), or None without that modality.
    labels
        (N,) label of each cell; "" for training cells of which the features alone may be learned from.
    test
        (N,) bool, True for held-out cells.
    settings
        Settings of this section.
    seeds
        Seeds to predict with.
    samples
        (N,) library of each cell, which scANVI corrects for.

    Yields
    ------
    (str, int, numpy.ndarray, numpy.ndarray)
        Method, seed, predicted label and probability of that label, per held-out cell.

    Raises
    ------
    InputError
        If the training cells hold a single class.
    """
    learn = ~test & (labels != "")
    classes, codes = np.unique(labels[learn], return_inverse=True)
    if len(classes) < 2:
        raise InputError("labels", f"the training cells of a fold hold one class only ({classes})", "Use another task")
    if atac is not None and not atac[~test].nnz:
        atac = None
    chosen = [BASELINES[name] for name in settings.baselines if name in BASELINES]
    for make in (components, raw_features):
        methods = [baseline for baseline in chosen if baseline.raw == (make is raw_features)]
        spaces = make(rna, atac, ~test, settings, seeds[0]) if methods else {}
        for baseline in methods:
            for space in [list(spaces)[at] for at in baseline.spaces] or spaces:
                for seed in seeds if baseline.seeded else seeds[:1]:
                    fitted = baseline.fit(spaces[space][learn], codes, settings, seed)
                    found = _best(fitted.predict_proba(spaces[space][test]), classes)
                    same = [seed] if baseline.seeded else seeds
                    yield from ((baseline.name.format(space), s, *found) for s in same)
    if "scanvi" in settings.baselines and rna is not None:
        yield from _scanvi(rna, labels, test, classes, settings, seeds, samples)


def logistic_regression(codes: np.ndarray, inverse_penalty: float) -> LogisticRegression:
    """Multinomial logistic regression, L2 penalty, classes weighted as in the model's loss."""
    weight = dict(enumerate(class_weights(np.bincount(codes))))
    return LogisticRegression(max_iter=ITERATIONS, C=inverse_penalty, class_weight=weight)


def _majority(cells, codes, settings, seed):
    return DummyClassifier(strategy="prior").fit(cells, codes)


def _neighbours(cells, codes, settings, seed):
    return KNeighborsClassifier(min(settings.neighbours, len(codes))).fit(cells, codes)


def _logistic(cells, codes, settings, seed):
    return logistic_regression(codes, INVERSE_PENALTY).fit(cells, codes)


def _logistic_raw(cells, codes, settings, seed):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        fitted = logistic_regression(codes, RAW_INVERSE_PENALTY).fit(cells, codes)
    if caught:
        logging.info("logistic regression on %d features: stopped after %d steps", cells.shape[1], ITERATIONS)
    return fitted


def _mlp(cells, codes, settings, seed):
    from regulonformer.evaluate.wide_mlp import WideMlp

    return WideMlp(seed).fit(cells, codes)


def _trees(cells, codes, settings, seed):
    from xgboost import XGBClassifier

    weights = class_weights(np.bincount(codes))[codes]
    # One thread: sums of floats in another order are other trees.
    return XGBClassifier(**TREES, n_jobs=1, random_state=seed).fit(cells, codes, sample_weight=weights)


BASELINES = {
    "majority": Baseline("majority", _majority, spaces=(0,)),
    "knn": Baseline("kNN {}", _neighbours, spaces=(0,)),
    "logistic": Baseline("logistic regression {}", _logistic),
    "logistic_raw": Baseline("logistic regression {}", _logistic_raw, raw=True),
    "mlp": Baseline("MLP {}", _mlp, seeded=True),
    "xgboost": Baseline("XGBoost {}", _trees, spaces=(-1,)),
}


def _scanvi(rna, labels, test, classes, settings, seeds, samples):
    """ScANVI, where scvi-tools is installed."""
    if not find_spec("scvi"):
        logging.warning("scanvi is left out: scvi-tools is not installed")
        return
    from regulonformer.evaluate.scanvi import scanvi_probabilities

    for seed in seeds:
        found = scanvi_probabilities(rna, labels, test, classes, samples, settings.n_top_genes, seed)
        yield "scANVI RNA", seed, *_best(found, classes)


def _best(probabilities: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Most probable class of each cell, and its probability."""
    return classes[probabilities.argmax(1)], probabilities.max(1)
