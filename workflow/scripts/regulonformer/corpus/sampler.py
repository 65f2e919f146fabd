"""Which cells make up the batch of a step: a pure function of seed and step."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from regulonformer.corpus.shards import BLOCK_CELLS, BUFFER_BLOCKS
from regulonformer.errors import InputError

# Cells are sorted by length within so many batches at most, which keeps padding low and epochs shuffled.
BATCHES_PER_BUCKET = 16
SINGLE_LIBRARY_SHARE = 0.1


class EpochSampler:
    """Shuffled epochs of batches of cells of similar length, in an order that suits a disk.

    Blocks of neighbouring cells are shuffled, a few at a time fill a buffer, and batches are drawn from one buffer
    until it is empty: every block is decoded about once per epoch. A corpus that fits a buffer is shuffled as a whole.

    Parameters
    ----------
    cells
        Row numbers to draw from.
    lengths
        Active genes of each of them.
    batch_cells
        Cells per batch; the last batch of an epoch's last buffer may hold fewer.
    seed
        Seed of the shuffling.
    """

    def __init__(self, cells, lengths, batch_cells: int, seed: int) -> None:
        self.cells, self.lengths, edges = _by_row(cells, lengths)
        self.blocks = np.split(np.arange(len(self.cells)), edges)
        self.batch_cells, self.seed = batch_cells, seed
        self.bucket, self.buffer = _bucket_and_buffer(len(self.cells), len(self.blocks), batch_cells)
        self.batches_per_epoch = -(-len(self.cells) // batch_cells)
        self._epoch, self._batches = None, []

    def batch(self, step: int) -> np.ndarray:
        """Row numbers of the cells of a step, counted from 0."""
        epoch, position = divmod(step, self.batches_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._plan(epoch)
        return self._batches[position]

    def _plan(self, epoch: int) -> list[np.ndarray]:
        """Shuffle blocks, fill buffers, mix each and cut it into batches, in shuffled order."""
        rng = np.random.default_rng([self.seed, epoch])
        order = np.concatenate([self.blocks[i] for i in rng.permutation(len(self.blocks))])
        plan = []
        for buffer in _cut(order, self.buffer):
            batches = []
            for bucket in _cut(rng.permutation(buffer), self.bucket):
                bucket = bucket[np.argsort(self.lengths[bucket], kind="stable")]
                batches += [self.cells[part] for part in _cut(bucket, self.batch_cells)]
            plan += [batches[i] for i in rng.permutation(len(batches))]
        return plan


def length_sorted(cells, lengths, batch_cells: int) -> Iterator[np.ndarray]:
    """Batches of all cells for reading without training, by length among neighbours; yields row numbers."""
    cells, lengths, edges = _by_row(cells, lengths)
    _, window = _bucket_and_buffer(len(cells), len(edges) + 1, batch_cells)
    for part in _cut(np.arange(len(cells)), window):
        yield from _cut(cells[part[np.argsort(lengths[part], kind="stable")]], batch_cells)


def _by_row(cells, lengths) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells and lengths in the order of the corpus, and where a new block of it begins."""
    cells = np.asarray(cells)
    order = np.argsort(cells, kind="stable")
    cells = cells[order]
    return cells, np.asarray(lengths)[order], np.flatnonzero(np.diff(cells // BLOCK_CELLS)) + 1


def _bucket_and_buffer(n_cells: int, n_blocks: int, batch_cells: int) -> tuple[int, int]:
    """Cells that are sorted together, and cells that are mixed; both are whole batches.

    A buffer holds the cells of a few blocks, thus fewer where only some cells of each block are drawn from.
    """
    batches = max(1, round(BUFFER_BLOCKS * n_cells / n_blocks) // batch_cells)
    bucket = min(batches, BATCHES_PER_BUCKET)
    return bucket * batch_cells, batches // bucket * bucket * batch_cells


def _cut(cells: np.ndarray, size: int) -> list[np.ndarray]:
    """Consecutive parts of one size; the last may be smaller."""
    return [cells[start : start + size] for start in range(0, len(cells), size)]


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
        If no sample is named or one is unknown, or no cell is left to train on.
    """
    samples = cells["sample"].astype(str)
    libraries = sorted(samples.unique())
    if holdout == "auto" and len(libraries) == 1 and len(cells) > 1:
        held = np.zeros(len(cells), bool)
        n_held = max(1, round(len(cells) * SINGLE_LIBRARY_SHARE))
        held[np.random.default_rng(seed).permutation(len(cells))[:n_held]] = True
        return held
    if holdout == "auto":
        holdout = libraries[-1:]
    names = [holdout] if isinstance(holdout, str) else list(holdout)
    if not names:
        raise InputError("pretrain.holdout", "no sample is named", f"Name some of {', '.join(libraries)}, or auto")
    for name in names:
        if name not in libraries:
            raise InputError("pretrain.holdout", f"unknown sample {name!r}", f"Known are {', '.join(libraries)}")
    held = samples.isin(names).to_numpy()
    if held.all():
        raise InputError("pretrain.holdout", "every library is held out", "Leave at least one to train on")
    return held
