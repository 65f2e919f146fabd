"""Simple classifiers that a foundation model has to beat, fitted inside the fold on its training cells only."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from regulonformer.balance import class_weights
from regulonformer.decompose import AtacLsi, RnaPca
from regulonformer.errors import InputError

INVERSE_PENALTY = 0.3  # C of the logistic regressions, features having unit deviation at most


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
    pca_components
        Components of PCA (RNA) and LSI (ATAC).
    neighbours
        Neighbours of the kNN classifier.
    n_top_genes
        Highly variable genes selected on the training cells.
    """

    bootstrap: int = 1000
    confidence: float = 0.95
    seed: int = 0
    pca_components: int = 50
    neighbours: int = 15
    n_top_genes: int = 2000


def predict_baselines(
    rna: sparse.csr_matrix,
    atac: sparse.csr_matrix | None,
    labels: np.ndarray,
    test: np.ndarray,
    settings: EvaluateSettings,
    seed: int,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Fit every baseline on the training cells of a fold and predict its held-out cells.

    Parameters
    ----------
    rna
        Cells x genes counts.
    atac
        Cells x peaks counts, or None without that modality.
    labels
        (N,) label of each cell.
    test
        (N,) bool, True for held-out cells.
    settings
        Settings of this section.
    seed
        Seed of the randomised decompositions.

    Returns
    -------
    dict of str to (numpy.ndarray, numpy.ndarray)
        Method to predicted label and probability of that label, per held-out cell.

    Raises
    ------
    InputError
        If the training cells hold a single class.
    """
    train = ~test
    classes, counts = np.unique(labels[train], return_counts=True)
    if len(classes) < 2:
        raise InputError("labels", f"the training cells of a fold hold one class only ({classes})", "Use another task")
    pca = RnaPca(settings.pca_components, settings.n_top_genes, seed).fit(rna[train])
    spaces = {"PCA(RNA)": (pca.transform(rna[train]), pca.transform(rna[test]))}
    if atac is not None and atac.nnz:
        lsi = AtacLsi(settings.pca_components, seed).fit(atac[train])
        spaces["LSI(ATAC)"] = (lsi.transform(atac[train]), lsi.transform(atac[test]))
        spaces["PCA(RNA)+LSI(ATAC)"] = tuple(
            np.hstack(parts) for parts in zip(spaces["PCA(RNA)"], spaces["LSI(ATAC)"], strict=True)
        )
    share = np.full(test.sum(), counts.max() / counts.sum())
    predictions = {"majority": (np.full(test.sum(), classes[counts.argmax()], dtype=object), share)}
    neighbours = KNeighborsClassifier(min(settings.neighbours, int(train.sum())))
    predictions["kNN PCA(RNA)"] = _predict(neighbours, spaces["PCA(RNA)"], labels[train])
    for space, cells in spaces.items():
        predictions[f"logistic regression {space}"] = _predict(logistic_regression(labels[train]), cells, labels[train])
    return predictions


def logistic_regression(labels: np.ndarray) -> LogisticRegression:
    """Multinomial logistic regression, L2 penalty, classes weighted as in the model's loss."""
    classes, counts = np.unique(labels, return_counts=True)
    return LogisticRegression(
        max_iter=300, C=INVERSE_PENALTY, class_weight=dict(zip(classes, class_weights(counts), strict=True))
    )


def _predict(classifier, cells: tuple[np.ndarray, np.ndarray], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit on the first of two matrices and predict the second."""
    probabilities = classifier.fit(cells[0], labels).predict_proba(cells[1])
    return classifier.classes_[probabilities.argmax(1)], probabilities.max(1)
