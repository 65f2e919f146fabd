"""Batches of corpus cells for fine-tuning, prediction and attribution."""

from collections.abc import Callable

import numpy as np

from regulonformer.corpus.encoding import encode_cells
from regulonformer.corpus.sampler import EpochSampler, length_sorted
from regulonformer.corpus.shards import Corpus
from regulonformer.errors import InputError
from regulonformer.model.batch import CellBatch

READ_CELLS = 256  # cells per batch where nothing is trained


class Reader:
    """Reads cells of a corpus for a model.

    Parameters
    ----------
    shards, cells, vocabulary
        Files of the corpus.
    model_vocabulary
        Token list of the model; must be that of the corpus.

    Raises
    ------
    InputError
        If the corpus has other tokens than the model.
    """

    def __init__(self, shards, cells, vocabulary, model_vocabulary) -> None:
        self.corpus = Corpus(shards, cells, vocabulary)
        ours, theirs = self.corpus.vocabulary["symbol"], model_vocabulary["symbol"]
        if len(ours) != len(theirs) or (ours.to_numpy() != theirs.to_numpy()).any():
            problem = f"{len(ours)} tokens that are not the {len(theirs)} of the model"
            raise InputError(vocabulary, problem, "Build the corpus with the vocabulary that came with the model")
        self.lengths = self.corpus.cells["n_active"].to_numpy()

    @property
    def cells(self):
        """Table of cells, in the order of row numbers."""
        return self.corpus.cells

    def read(self, rows: np.ndarray) -> CellBatch:
        """Encode cells by row number."""
        return encode_cells(self.corpus, rows)

    def in_order(self, rows: np.ndarray) -> list[np.ndarray]:
        """Cut rows into batches of similar length; the order of cells changes."""
        return list(length_sorted(rows, self.lengths[rows], READ_CELLS))

    def epochs(self, rows: np.ndarray, batch_cells: int, seed: int) -> Callable[[int], list[np.ndarray]]:
        """Return a function from epoch number to shuffled batches."""
        sampler = EpochSampler(rows, self.lengths[rows], batch_cells, seed)
        n = sampler.batches_per_epoch
        return lambda epoch: [sampler.batch(epoch * n + i) for i in range(n)]
