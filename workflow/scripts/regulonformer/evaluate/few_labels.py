"""A few labelled cells of each class, the same for all methods."""

import numpy as np


def draw_labelled(truth: np.ndarray, candidates: np.ndarray, n: int, seed: int) -> list[np.ndarray]:
    """Draw cells of each class; a class with fewer gives all it has.

    Parameters
    ----------
    truth
        (N,) label of each cell.
    candidates
        Row numbers that may be drawn: training cells.
    n
        Cells per class.
    seed
        Seed of the draw. Smaller draws with one seed are part of larger ones.

    Returns
    -------
    list of numpy.ndarray
        Row numbers of each class, in the order drawn; classes by name.
    """
    rng = np.random.default_rng(seed)
    labels = truth[candidates]
    return [rng.permutation(np.sort(candidates[labels == label]))[:n] for label in np.unique(labels)]


def split_labelled(drawn: list[np.ndarray], validation_share: float) -> tuple[np.ndarray, np.ndarray]:
    """Set some of the drawn cells of each class aside to choose the epoch.

    Parameters
    ----------
    drawn
        As `draw_labelled` gives them.
    validation_share
        Share of each class, rounded; a class keeps at least one cell to train on.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        Row numbers to train on and to validate on, in order. The second is empty where cells are too few.
    """
    n_held = [min(round(validation_share * len(cells)), len(cells) - 1) for cells in drawn]
    train = np.concatenate([cells[n:] for cells, n in zip(drawn, n_held, strict=True)])
    held = np.concatenate([cells[:n] for cells, n in zip(drawn, n_held, strict=True)])
    return np.sort(train), np.sort(held)
