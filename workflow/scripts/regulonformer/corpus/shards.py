"""Cells on disk: sparse counts over the vocabulary in sharded zarr arrays, and one table of cells."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from regulonformer.corpus.vocabulary import read_vocabulary
from regulonformer.errors import InputError

MATRICES = ("rna", "atac")
# Neighbouring cells of the joint matrices that stay in one piece when cells are mixed.
RUN_CELLS = 32
# Entries that are compressed together, and chunks of one file.
CHUNK_ENTRIES, CHUNKS_PER_SHARD = 2**18, 64
# Cells that are decoded together. Larger blocks share fewer chunks with their neighbours, but mix less well.
BLOCK_CELLS = 1024
# Blocks that the sampler mixes at a time, and decoded blocks that are kept: two such buffers, as batches of one may be
# under way while the next is begun. Where cells are left out, buffers begin and end within a block, hence one more.
BUFFER_BLOCKS = 4
KEPT_BLOCKS = 2 * BUFFER_BLOCKS + 1


def mixed_order(n_cells: int) -> np.ndarray:
    """Order in which cells are written: libraries mixed, so that neighbours on disk make a random batch.

    Short runs of neighbours are shuffled over the whole, as they can be read at once; then the cells of each piece of
    a buffer's size are shuffled. The order depends on the number of cells alone.
    """
    rng = np.random.default_rng(0)
    runs = [np.arange(start, min(start + RUN_CELLS, n_cells)) for start in range(0, n_cells, RUN_CELLS)]
    order = np.concatenate([runs[i] for i in rng.permutation(len(runs))])
    piece = BLOCK_CELLS * BUFFER_BLOCKS
    return np.concatenate([rng.permutation(order[start : start + piece]) for start in range(0, n_cells, piece)])


def write_counts(folder, blocks, n_genes: int, largest: int = 2**31 - 1) -> None:
    """Write the counts of all cells as one zarr v3 group per modality, in the layout of an AnnData csr matrix.

    Parameters
    ----------
    folder
        Folder to write; `anndata.io.read_elem(zarr.open(folder)["rna"])` reads it too.
    blocks
        Iterable of (RNA, accessibility), each a csr matrix of the next cells x genes; memory holds one at a time.
    n_genes
        Genes of the vocabulary.
    largest
        A number that no count exceeds. Counts and columns below 65,536 are kept in two bytes, which are read sooner.

    Raises
    ------
    InputError
        If a count is larger than `largest`.
    """
    import zarr

    group = zarr.open_group(folder, mode="w", zarr_format=3)
    dtypes = {
        "data": np.uint16 if largest < 2**16 else np.int32,
        "indices": np.uint16 if n_genes <= 2**16 else np.int32,
    }
    arrays = {name: {part: _array(group, f"{name}/{part}", dtypes[part]) for part in dtypes} for name in MATRICES}
    lengths = {name: [np.zeros(1, np.int64)] for name in MATRICES}
    for block in blocks:
        for name, matrix in zip(MATRICES, block, strict=True):
            matrix = sp.csr_matrix(matrix, copy=True)
            matrix.eliminate_zeros()
            matrix.sort_indices()
            if matrix.data.max(initial=0) > largest:
                raise InputError(folder, f"a count of {matrix.data.max()}, where {largest} is the most", "Count again")
            for part, dtype in dtypes.items():
                arrays[name][part].append(getattr(matrix, part).astype(dtype))
            lengths[name].append(np.diff(matrix.indptr).astype(np.int64))
    for name in MATRICES:
        indptr = np.concatenate(lengths[name]).cumsum()
        group.create_array(f"{name}/indptr", data=indptr, chunks=(max(1, len(indptr)),), attributes=_encoding("array"))
        group[name].attrs.update(_encoding("csr_matrix") | {"shape": [len(indptr) - 1, n_genes]})


def _array(group, path: str, dtype):
    """An empty vector that grows; many chunks share a file, so that file systems stay fast."""
    from zarr.codecs import BloscCodec

    return group.create_array(
        path,
        shape=(0,),
        dtype=dtype,
        chunks=(CHUNK_ENTRIES,),
        shards=(CHUNK_ENTRIES * CHUNKS_PER_SHARD,),
        # The fastest to decode of those that also pack counts well (see docs/corpus.md).
        compressors=BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
        attributes=_encoding("array"),
    )


def _encoding(kind: str) -> dict:
    """Mark an element the way AnnData does."""
    return {"encoding-type": kind, "encoding-version": "0.2.0" if kind == "array" else "0.1.0"}


class _Block:
    """A place in the cache, filled by the first thread that wants it."""

    def __init__(self) -> None:
        self.lock, self.parts = threading.Lock(), None


class Corpus:
    """Cells of a corpus, by row number of its table of cells.

    Memory holds a few decoded blocks of cells, however many there are. Threads may read at the same time.

    Parameters
    ----------
    shards
        Folder of the counts.
    cells
        Parquet table of cells, in the order of the counts.
    vocabulary
        TSV of tokens.

    Attributes
    ----------
    cells
        Index: cell id. Columns n_counts_rna, n_counts_atac, n_active, has_rna, has_atac, and the labels.
    vocabulary
        Token list.

    Raises
    ------
    InputError
        If counts, table and vocabulary are not of one corpus.
    """

    def __init__(self, shards, cells, vocabulary) -> None:
        import zarr

        self.folder = Path(shards)
        self.cells = pd.read_parquet(cells)
        self.vocabulary = read_vocabulary(vocabulary)
        self._arrays = zarr.open_group(self.folder, mode="r", zarr_format=3)
        for name in MATRICES:
            shape = tuple(self._arrays[name].attrs["shape"])
            if shape != (len(self), len(self.vocabulary)):
                raise InputError(self.folder, f"{name} holds {shape} cells x genes", "Rebuild the corpus")
        self._parts = [(self._arrays[f"{name}/indices"], self._arrays[f"{name}/data"]) for name in MATRICES]
        self._indptr = [self._arrays[f"{name}/indptr"][:] for name in MATRICES]
        self._blocks, self._lock = OrderedDict(), threading.Lock()

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

    def rows(self, indices) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """Counts of some cells; quick where many of them are neighbours, since whole blocks are decoded.

        Parameters
        ----------
        indices
            Row numbers in `cells`.

        Returns
        -------
        tuple of scipy.sparse.csr_matrix
            RNA and accessibility counts (int32), cells x genes, in the order asked for.
        """
        rows = np.asarray(indices, np.int64)
        rows = np.where(rows < 0, rows + len(self), rows)
        starts = [np.append(0, np.cumsum(indptr[rows + 1] - indptr[rows])) for indptr in self._indptr]
        columns, counts = ([np.empty(start[-1], np.int32) for start in starts] for _ in range(2))
        for at in np.argsort(rows, kind="stable"):  # so that each block is decoded once
            number = rows[at] // BLOCK_CELLS
            block, first = self._block(number), number * BLOCK_CELLS
            for m, indptr in enumerate(self._indptr):
                target = slice(starts[m][at], starts[m][at + 1])
                source = slice(*(indptr[rows[at] : rows[at] + 2] - indptr[first]))
                columns[m][target], counts[m][target] = (part[source] for part in block[m])
        shape = (len(rows), len(self.vocabulary))
        return tuple(_sorted_csr(*parts, shape) for parts in zip(counts, columns, starts, strict=True))

    def blocks(self, indices, modality: int) -> Iterator[tuple[sp.csr_matrix, np.ndarray]]:
        """Counts and total counts of some cells in one modality (0 RNA, 1 accessibility), a few blocks at a time."""
        for start in range(0, len(indices), BLOCK_CELLS * BUFFER_BLOCKS):
            rows = indices[start : start + BLOCK_CELLS * BUFFER_BLOCKS]
            yield self.rows(rows)[modality], self.library[rows, modality]

    def _block(self, number: int) -> list:
        """Decoded columns and counts of a block, per modality; the blocks used last are kept."""
        with self._lock:
            # Room is made first, so that memory never holds one more.
            if number not in self._blocks and len(self._blocks) == KEPT_BLOCKS:
                self._blocks.popitem(last=False)
            block = self._blocks.setdefault(number, _Block())
            self._blocks.move_to_end(number)
        # Other blocks may be decoded meanwhile; who wants the same one waits.
        with block.lock:
            block.parts = block.parts or self._decode(number)
            return block.parts

    def _decode(self, number: int) -> list:
        cells = slice(number * BLOCK_CELLS, (number + 1) * BLOCK_CELLS + 1)
        ends = [indptr[cells][[0, -1]] for indptr in self._indptr]
        parts = zip(self._parts, ends, strict=True)
        return [[array[first:last] for array in pair] for pair, (first, last) in parts]


def _sorted_csr(counts, columns, starts, shape) -> sp.csr_matrix:
    """Make a matrix of parts known to be in order, which scipy need not find out."""
    matrix = sp.csr_matrix((counts, columns, starts.astype(np.int32)), shape=shape)
    matrix.has_sorted_indices = True
    return matrix
