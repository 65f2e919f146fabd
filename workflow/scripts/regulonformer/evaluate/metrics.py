"""Scores of a classification, as functions of sums over cells.

Hits, true cells and calls of each class, and cells, hits and confidence of each bin of confidence, are all that the
scores need. Folds are parts of the sums, and a resample is a weight per cell: one matrix product scores all of them.
Averaging a macro-F1 over mini-batches or folds instead gives a number that depends on their size.
"""

import numpy as np
from scipy import sparse

COLUMNS = ("method", "dataset", "fold", "seed", "metric", "value", "ci_low", "ci_high")
METRICS = ("accuracy", "macro_f1", "balanced_accuracy", "ece")
LOWER_IS_BETTER = ("ece",)
N_BINS = 15  # of confidence, with as many predictions each


def confidence_bins(confidence: np.ndarray, n_bins: int = N_BINS) -> np.ndarray:
    """Assign predictions to bins of confidence that hold about as many each; equal confidences share a bin.

    Bins of equal width would leave most predictions of a confident classifier in one (Nixon et al. 2019, "Measuring
    calibration in deep learning", arXiv 1904.01685, section 4.2).

    Parameters
    ----------
    confidence
        (N,) probability of the predicted class.
    n_bins
        Bins wanted, K.

    Returns
    -------
    numpy.ndarray
        (N,) bin, from 0.
    """
    borders = np.quantile(confidence, np.arange(1, n_bins) / n_bins)
    return np.searchsorted(np.unique(borders), confidence)


def tally_matrix(
    truth: np.ndarray, predicted: np.ndarray, confidence: np.ndarray, bins: np.ndarray, n_classes: int
) -> sparse.csr_matrix:
    """Matrix whose product with weights of cells gives the sums that scores are made of.

    Parameters
    ----------
    truth, predicted
        (N,) class index of each cell.
    confidence
        (N,) probability of the predicted class.
    bins
        (N,) bin of confidence, of `N_BINS`.
    n_classes
        Number of classes C.

    Returns
    -------
    scipy.sparse.csr_matrix
        (3 C + 3 K, N). Rows: hits, true cells, calls of each class; cells, hits, confidence of each bin.
    """
    right = (truth == predicted).astype(float)
    ones = np.ones_like(right)
    blocks = [(truth, right), (truth, ones), (predicted, ones), (bins, ones), (bins, right), (bins, confidence)]
    sizes = [n_classes] * 3 + [N_BINS] * 3
    cells = np.arange(len(truth))
    return sparse.vstack(
        [
            sparse.csr_matrix((values, (rows, cells)), shape=(size, len(truth)))
            for (rows, values), size in zip(blocks, sizes, strict=True)
        ],
        format="csr",
    )


def scores(sums: np.ndarray, n_classes: int) -> dict[str, np.ndarray]:
    """Accuracy, macro-F1, balanced accuracy and expected calibration error.

    Parameters
    ----------
    sums
        (3 C + 3 K, ...) sums over cells, see `tally_matrix`.
    n_classes
        Number of classes C.

    Returns
    -------
    dict of str to numpy.ndarray
        Metric to array of shape (...). As in scikit-learn, macro-F1 averages over the classes that occur in truth
        or prediction, balanced accuracy over those that occur in the truth. ECE is the mean over cells of the
        distance between confidence and accuracy of their bin (Naeini et al. 2015, AAAI, section 2), in bins of equal
        mass.
    """
    hits, true, called = np.split(sums[: 3 * n_classes], 3)
    _, bin_hits, bin_confidence = np.split(sums[3 * n_classes :], 3)
    n_cells = np.maximum(true.sum(0), 1)
    f1 = 2 * hits / np.maximum(true + called, 1)
    recall = hits / np.maximum(true, 1)
    return {
        "accuracy": hits.sum(0) / n_cells,
        "macro_f1": f1.sum(0) / np.maximum((true + called > 0).sum(0), 1),
        "balanced_accuracy": recall.sum(0) / np.maximum((true > 0).sum(0), 1),
        "ece": np.abs(bin_hits - bin_confidence).sum(0) / n_cells,
    }


def recall_and_precision(sums: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Share of each class that is found, and share of its calls that are right.

    Parameters
    ----------
    sums
        (3 C + 3 K, ...) sums over cells, see `tally_matrix`.
    n_classes
        Number of classes C.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        (C, ...) each; NaN for the recall of a class without cells and the precision of a class never called.
    """
    hits, true, called = np.split(sums[: 3 * n_classes], 3)
    recall = np.divide(hits, true, out=np.full_like(hits, np.nan), where=true > 0)
    precision = np.divide(hits, called, out=np.full_like(hits, np.nan), where=called > 0)
    return recall, precision
