"""Which cells make up the batch of a step: a pure function of seed and step."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from regulonformer.errors import InputError

# Cells are sorted by length within so many batches, which keeps padding low and epochs shuffled.
BATCHES_PER_BUCKET = 16
SINGLE_LIBRARY_SHARE = 0.1


class EpochSampler:
    """Shuffled epochs of batches of cells of similar length.

    Parameters
    ----------
    cells
        Row numbers to draw from.
    lengths
        Active genes of each of them.
    batch_cells
        Cells per batch; the last batches of an epoch may hold fewer.
    seed
        Seed of the shuffling.
    """

    def __init__(self, cells, lengths, batch_cells: int, seed: int) -> None:
        self.cells, self.lengths = np.asarray(cells), np.asarray(lengths)
        self.batch_cells, self.seed = batch_cells, seed
        self.batches_per_epoch = -(-len(self.cells) // batch_cells)
        self._epoch, self._batches = None, []

    def batch(self, step: int) -> np.ndarray:
        """Row numbers of the cells of a step, counted from 0."""
        epoch, position = divmod(step, self.batches_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._plan(epoch)
        return self._batches[position]

    def _plan(self, epoch: int) -> list[np.ndarray]:
        """Shuffle, sort by length within buckets, cut into batches, shuffle the batches."""
        rng = np.random.default_rng([self.seed, epoch])
        order, batches = rng.permutation(len(self.cells)), []
        bucket = self.batch_cells * BATCHES_PER_BUCKET
        for start in range(0, len(order), bucket):
            part = order[start : start + bucket]
            part = part[np.argsort(self.lengths[part], kind="stable")]
            batches += [self.cells[part[i : i + self.batch_cells]] for i in range(0, len(part), self.batch_cells)]
        return [batches[i] for i in rng.permutation(len(batches))]


def length_sorted(cells, lengths, batch_cells: int) -> Iterator[np.ndarray]:
    """Batches of all cells in order of length, for reading without training; yields row numbers."""
    cells = np.asarray(cells)
    order = cells[np.argsort(np.asarray(lengths), kind="stable")]
    for start in range(0, len(order), batch_cells):
        yield order[start : start + batch_cells]


def hold_out(cells: pd.DataFrame, holdout: str | list[str], seed: int) -> np.ndarray:
    """Choose the cells that watch the training and never enter its gradient.

    Parameters
    ----------
    cells
        Table of cells with a column `sample`.
    holdout
        Samples to hold out, or `auto`: the last library, or a tenth of the cells if there is only one.
    seed
        Seed of the choice of cells from a single library.

    Returns
    -------
    numpy.ndarray
        True for the cells held out.

    Raises
    ------
    InputError
        If a sample is unknown, or none is left to train on.
    """
    samples = cells["sample"].astype(str)
    libraries = sorted(samples.unique())
    if holdout == "auto":
        if len(libraries) == 1:
            held = np.zeros(len(cells), bool)
            held[np.random.default_rng(seed).permutation(len(cells))[: round(len(cells) * SINGLE_LIBRARY_SHARE)]] = True
            return held
        holdout = libraries[-1:]
    names = [holdout] if isinstance(holdout, str) else list(holdout)
    for name in names:
        if name not in libraries:
            raise InputError("pretrain.holdout", f"unknown sample {name!r}", f"Known are {', '.join(libraries)}")
    held = samples.isin(names).to_numpy()
    if held.all():
        raise InputError("pretrain.holdout", "every library is held out", "Leave at least one to train on")
    return held
