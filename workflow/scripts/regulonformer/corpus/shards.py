"""Cells on disk: shards of sparse counts over the vocabulary, and one table of cells."""

from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from regulonformer.corpus.vocabulary import read_vocabulary
from regulonformer.errors import InputError

MATRICES = ("rna", "atac")


def write_shard(path, rna: sp.csr_matrix, atac: sp.csr_matrix) -> None:
    """Write the counts of some cells (cells x genes, both modalities) as one npz file."""
    arrays = {"n_genes": np.int64(rna.shape[1])}
    for name, matrix in zip(MATRICES, (rna, atac), strict=True):
        matrix.sort_indices()
        arrays |= {f"{name}_{part}": getattr(matrix, part) for part in ("data", "indices", "indptr")}
    np.savez_compressed(path, **arrays)


def read_shard(path) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Read RNA and accessibility counts of one shard."""
    with np.load(path) as file:
        return tuple(
            sp.csr_matrix(
                tuple(file[f"{name}_{part}"] for part in ("data", "indices", "indptr")),
                shape=(len(file[f"{name}_indptr"]) - 1, int(file["n_genes"])),
            )
            for name in MATRICES
        )


class Corpus:
    """Cells of a corpus, by row number of its table of cells.

    Parameters
    ----------
    shards
        Folder of shards.
    cells
        Parquet table of cells.
    vocabulary
        TSV of tokens.

    Attributes
    ----------
    cells
        Index: cell id. Columns shard, row, n_counts_rna, n_counts_atac, n_active, has_rna, has_atac, and the labels.
    vocabulary
        Token list.
    """

    def __init__(self, shards, cells, vocabulary) -> None:
        self.folder = Path(shards)
        self.cells = pd.read_parquet(cells)
        self.vocabulary = read_vocabulary(vocabulary)

    @classmethod
    def open(cls, folder) -> "Corpus":
        """Open a corpus folder as the rule `build_corpus` writes it."""
        folder = Path(folder)
        return cls(folder / "shards", folder / "cells.parquet", folder / "vocabulary.tsv")

    def __len__(self) -> int:
        return len(self.cells)

    @cached_property
    def library(self) -> np.ndarray:
        """Total counts per cell, cells x (RNA, accessibility)."""
        return self.cells[["n_counts_rna", "n_counts_atac"]].to_numpy(np.float32)

    @cached_property
    def missing(self) -> np.ndarray:
        """Which modality a cell lacks altogether, cells x (RNA, accessibility)."""
        return ~self.cells[["has_rna", "has_atac"]].to_numpy(bool)

    @cached_property
    def _counts(self) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """All shards, sparse in memory. A reader that streams needs to change this and `rows` only."""
        parts = [read_shard(self.folder / name) for name in pd.unique(self.cells["shard"])]
        rna, atac = (sp.vstack(list(matrices), format="csr") for matrices in zip(*parts, strict=True))
        if rna.shape != (len(self), len(self.vocabulary)):
            raise InputError(self.folder, f"shards hold {rna.shape} cells x genes", "Rebuild the corpus")
        return rna, atac

    def rows(self, indices) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """Counts of some cells.

        Parameters
        ----------
        indices
            Row numbers in `cells`.

        Returns
        -------
        tuple of scipy.sparse.csr_matrix
            RNA and accessibility counts, cells x genes, in the order asked for.
        """
        rna, atac = self._counts
        return rna[indices], atac[indices]
