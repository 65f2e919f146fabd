"""Cells of a corpus as if one modality had not been measured."""

import numpy as np

from regulonformer.adapt.reader import Reader
from regulonformer.corpus.encoding import encode
from regulonformer.model.batch import MODALITIES, CellBatch


class OneModality(Reader):
    """Reads one modality alone; the other is missing, as in data without it: its genes are no tokens either.

    Parameters
    ----------
    modality
        The one that is read: rna or atac.
    shards, cells, vocabulary, model_vocabulary
        See `Reader`.
    """

    def __init__(self, modality: str, shards, cells, vocabulary, model_vocabulary) -> None:
        super().__init__(shards, cells, vocabulary, model_vocabulary)
        self.hidden = np.array([name != modality for name in MODALITIES])

    def read(self, rows: np.ndarray) -> CellBatch:
        """Encode cells by row number."""
        library = np.where(self.hidden, 0, self.corpus.library[rows])
        return encode(*self.corpus.rows(rows), library, self.corpus.missing[rows] | self.hidden)
