"""The loader against what it stands for: the matrix itself, a dense encoder, an order without a disk."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from regulonformer.corpus import sampler, shards
from regulonformer.corpus.encoding import TARGET_SUM, encode, encode_cells
from regulonformer.corpus.loader import AHEAD, stream
from regulonformer.corpus.sampler import EpochSampler, length_sorted
from regulonformer.corpus.shards import Corpus, mixed_order, write_counts
from regulonformer.errors import InputError
from regulonformer.io.store import write_parquet, write_tsv
from regulonformer.model.batch import MISSING, OBSERVED

N_CELLS, N_GENES = 300, 50


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks, chunks and caches so small that every boundary is crossed."""
    monkeypatch.setattr(shards, "CHUNK_ENTRIES", 64)
    monkeypatch.setattr(shards, "CHUNKS_PER_SHARD", 4)
    for module in (shards, sampler):
        monkeypatch.setattr(module, "BLOCK_CELLS", 16)
        monkeypatch.setattr(module, "BUFFER_BLOCKS", 3)
    monkeypatch.setattr(shards, "KEPT_BLOCKS", 7)


@pytest.fixture
def counts():
    rng = np.random.default_rng(0)
    rna, atac = (rng.poisson(rate, (N_CELLS, N_GENES)).astype(np.int32) for rate in (0.4, 0.3))
    rna[7] = atac[7] = 0
    atac[100:110] = 0
    return rna, atac


@pytest.fixture
def corpus(tmp_path, counts):
    rna, atac = (sp.csr_matrix(matrix) for matrix in counts)
    parts = [(rna[:90], atac[:90]), (rna[90:91], atac[90:91]), (rna[91:], atac[91:])]
    write_counts(tmp_path / "shards", parts, N_GENES)
    cells = pd.DataFrame({"sample": np.arange(N_CELLS) % 3}, index=[f"c{i}" for i in range(N_CELLS)])
    cells = cells.rename_axis("cell").assign(has_rna=True, has_atac=~np.isin(np.arange(N_CELLS), range(100, 110)))
    cells["n_counts_rna"], cells["n_counts_atac"] = counts[0].sum(1), counts[1].sum(1)
    cells["n_active"] = ((counts[0] > 0) | (counts[1] > 0)).sum(1)
    write_parquet(cells, tmp_path / "cells.parquet")
    names = pd.DataFrame({"token": range(N_GENES), "gene_id": "", "symbol": [f"g{i}" for i in range(N_GENES)]})
    write_tsv(names.assign(is_tf=False, chrom="", tss=""), tmp_path / "vocabulary.tsv")
    return Corpus.open(tmp_path)


@pytest.mark.parametrize("rows", [[3], [299, 0, 17, 16, 15, 17], [-1, -300], np.arange(N_CELLS), np.arange(0)])
def test_rows_are_those_of_the_matrix(corpus, counts, rows):
    for found, matrix in zip(corpus.rows(rows), counts, strict=True):
        assert found.has_sorted_indices and found.dtype == np.int32
        found.check_format(full_check=True)
        np.testing.assert_array_equal(found.toarray(), matrix[np.asarray(rows, int)])
    assert len(corpus._blocks) <= 7


class Watched:
    """An array of the corpus that tells of every read before it reads."""

    def __init__(self, array, tell):
        self.array, self.tell = array, tell

    def __getitem__(self, part):
        self.tell()
        return self.array[part]


def watch(corpus, tell):
    corpus._parts = [tuple(Watched(array, tell) for array in pair) for pair in corpus._parts]


def test_a_block_that_two_threads_want_is_decoded_once(corpus, counts):
    reads = []
    watch(corpus, lambda: (reads.append(1), time.sleep(0.05)))
    with ThreadPoolExecutor(2) as pool:
        for rna, _ in pool.map(corpus.rows, [[3, 5], [4, 5]]):
            assert rna.shape == (2, N_GENES)
    assert len(reads) == 4  # columns and counts of both modalities


def test_threads_decode_two_blocks_at_once(corpus, counts):
    both = threading.Barrier(2, timeout=20)  # breaks where one thread waits for the other to finish
    watch(corpus, both.wait)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(corpus.rows, [[3], [200]]))
    for (rna, atac), row in zip(found, (3, 200), strict=True):
        np.testing.assert_array_equal(rna.toarray(), counts[0][[row]])
        np.testing.assert_array_equal(atac.toarray(), counts[1][[row]])


def test_a_block_that_could_not_be_read_is_tried_again(corpus, counts):
    failures = [OSError("disk")]
    watch(corpus, lambda: failures and (_ for _ in ()).throw(failures.pop()))
    with pytest.raises(OSError, match="disk"):
        corpus.rows([3])
    np.testing.assert_array_equal(corpus.rows([3])[0].toarray(), counts[0][[3]])


def test_blocks_cover_all_cells_in_order(corpus, counts):
    found = list(corpus.blocks(np.arange(N_CELLS), 1))
    assert len(found) > 3
    np.testing.assert_array_equal(sp.vstack([block for block, _ in found]).toarray(), counts[1])
    np.testing.assert_array_equal(np.concatenate([library for _, library in found]), counts[1].sum(1))


def test_anndata_reads_the_counts_without_us(corpus, counts):
    group = zarr.open_group(corpus.folder, mode="r")
    for name, matrix in zip(("rna", "atac"), counts, strict=True):
        np.testing.assert_array_equal(anndata.io.read_elem(group[name]).toarray(), matrix)
        backed = anndata.io.sparse_dataset(group[name])
        np.testing.assert_array_equal(backed[40:60].toarray(), matrix[40:60])


def test_many_chunks_share_a_file(corpus):
    entries = corpus.rows(np.arange(N_CELLS))[0].nnz
    files = list((corpus.folder / "rna/data/c").rglob("*"))
    assert len(files) == -(-entries // (64 * 4)) < entries / 64


def test_counts_beyond_two_bytes_and_genes_beyond_two_bytes_survive(tmp_path):
    n_genes = 2**16 + 1
    matrix = sp.csr_matrix(([70_000, 3], ([0, 1], [n_genes - 1, 0])), shape=(2, n_genes), dtype=np.int32)
    write_counts(tmp_path / "shards", [(matrix, matrix)], n_genes)
    assert (anndata.io.read_elem(zarr.open_group(tmp_path / "shards", mode="r")["rna"]) != matrix).nnz == 0


@pytest.mark.parametrize(("largest", "size"), [(9, 2), (2**16 - 1, 2), (2**16, 4)])
def test_counts_take_two_bytes_where_that_is_enough(tmp_path, largest, size):
    matrix = sp.csr_matrix([[9, 0, 1]])
    write_counts(tmp_path, [(matrix, matrix)], 3, largest)
    assert zarr.open_group(tmp_path, mode="r")["rna/data"].dtype.itemsize == size
    with pytest.raises(InputError, match="a count of 9, where 8 is the most"):
        write_counts(tmp_path, [(matrix, matrix)], 3, 8)


def test_same_counts_same_bytes_however_they_arrive_sorted(tmp_path, counts):
    rna, atac = (sp.csr_matrix(matrix) for matrix in counts)
    shuffled = rna.copy()
    for row in range(N_CELLS):
        part = slice(*shuffled.indptr[row : row + 2])
        shuffled.indices[part], shuffled.data[part] = shuffled.indices[part][::-1], shuffled.data[part][::-1]
    shuffled.has_sorted_indices = False
    for name, matrix in (("one", rna), ("two", shuffled)):
        write_counts(tmp_path / name, [(matrix, atac)], N_GENES)
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) > 8
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_a_table_of_other_cells_is_refused(corpus, tmp_path):
    write_parquet(corpus.cells.iloc[1:], tmp_path / "cells.parquet")
    with pytest.raises(InputError, match=r"holds \(300, 50\) cells x genes.*Rebuild"):
        Corpus.open(tmp_path)


def dense_reference(rna, atac, library, missing):
    """Tokens by definition, one cell and one gene at a time."""
    cells = []
    for cell in range(len(rna)):
        counts = [0 * matrix[cell] if missing[cell, m] else matrix[cell] for m, matrix in enumerate((rna, atac))]
        genes = [gene for gene in range(rna.shape[1]) if counts[0][gene] or counts[1][gene]]
        scale = np.float32(TARGET_SUM) / np.maximum(library[cell], 1).astype(np.float32)
        cells.append(
            [(gene, [(c[gene], np.log1p(c[gene] * scale[m])) for m, c in enumerate(counts)]) for gene in genes]
        )
    return cells


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 12), st.floats(0, 3), st.booleans())
def test_encoding_equals_the_dense_reference(seed, n_cells, n_genes, rate, some_missing):
    rng = np.random.default_rng(seed)
    rna, atac = (rng.poisson(rate, (n_cells, n_genes)).astype(np.int32) for _ in range(2))
    missing = rng.random((n_cells, 2)) < 0.3 * some_missing
    library = np.column_stack([rna.sum(1), atac.sum(1)]).astype(np.float32)
    batch = encode(sp.csr_matrix(rna), sp.csr_matrix(atac), library, missing)
    expected = dense_reference(rna, atac, library, missing)
    assert batch.genes_BT.shape[1] == max(1, *(len(cell) for cell in expected))
    for b, cell in enumerate(expected):
        n = len(cell)
        assert batch.pad_BT[b].tolist() == [False] * n + [True] * (batch.pad_BT.shape[1] - n)
        assert batch.genes_BT[b].tolist() == [gene for gene, _ in cell] + [0] * (batch.pad_BT.shape[1] - n)
        modalities = ((batch.rna_counts_BT, batch.rna_BT), (batch.atac_counts_BT, batch.atac_BT))
        for m, (counts_BT, values_BT) in enumerate(modalities):
            assert counts_BT[b, :n].tolist() == [values[m][0] for _, values in cell]
            np.testing.assert_allclose(values_BT[b, :n], [values[m][1] for _, values in cell], rtol=1e-6)
            assert not counts_BT[b, n:].any() and not values_BT[b, n:].any()
    for m, state_BT in enumerate((batch.rna_state_BT, batch.atac_state_BT)):
        np.testing.assert_array_equal(state_BT[:, 0], np.where(missing[:, m], MISSING, OBSERVED))
        assert (state_BT == state_BT[:, :1]).all()


def test_stored_zeros_and_unsorted_columns_are_no_tokens_of_their_own():
    matrix = sp.csr_matrix((np.array([5, 0, 2], np.int32), np.array([3, 1, 0]), np.array([0, 3])), shape=(1, 4))
    batch = encode(matrix, sp.csr_matrix((1, 4), dtype=np.int32), np.array([[7, 0]]))
    assert batch.genes_BT.tolist() == [[0, 3]] and batch.rna_counts_BT.tolist() == [[2, 5]]
    assert matrix.nnz == 3, "the caller's matrix is left alone"


def test_missing_cells_are_flagged(corpus):
    batch = encode_cells(corpus, np.arange(98, 112))
    assert batch.missing_BM().tolist() == [[False, 100 <= cell < 110] for cell in range(98, 112)]


subsets = st.tuples(st.integers(1, 400), st.integers(1, 70), st.integers(0, 5), st.sampled_from([0.05, 0.5, 1.0]))


def some_cells(n_cells, share, seed):
    rng = np.random.default_rng(seed)
    cells = np.union1d(np.flatnonzero(rng.random(n_cells) < share), [n_cells - 1])
    return rng.permutation(cells), rng.integers(0, 1000, len(cells))


@settings(deadline=None, max_examples=100)
@given(subsets)
def test_every_cell_once_per_epoch(case):
    n_cells, batch_cells, seed, share = case
    cells, lengths = some_cells(n_cells, share, seed)
    drawn = EpochSampler(cells, lengths, batch_cells, seed)
    for epoch in range(2):
        batches = [drawn.batch(epoch * drawn.batches_per_epoch + i) for i in range(drawn.batches_per_epoch)]
        assert sorted(np.concatenate(batches)) == sorted(cells)
        assert sorted(map(len, batches))[1:] == [batch_cells] * (len(batches) - 1), "one batch at most is short"
    read = list(length_sorted(cells, lengths, batch_cells))
    assert sorted(np.concatenate(read)) == sorted(cells)


@settings(deadline=None, max_examples=50)
@given(subsets, st.integers(0, 60))
def test_a_run_that_resumes_sees_the_same_batches(case, start):
    n_cells, batch_cells, seed, share = case
    cells, lengths = some_cells(n_cells, share, seed)
    whole, resumed = (EpochSampler(cells, lengths, batch_cells, seed) for _ in range(2))
    for step in range(start + 5):
        batch = whole.batch(step)
        if step >= start:
            np.testing.assert_array_equal(batch, resumed.batch(step))


def test_seeds_and_epochs_differ():
    plan = [
        EpochSampler(np.arange(300), np.ones(300), 20, seed).batch(step) for seed, step in ((0, 0), (1, 0), (0, 15))
    ]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(plan, 2))


def test_each_block_is_decoded_once_per_epoch(corpus, monkeypatch):
    drawn = EpochSampler(np.arange(N_CELLS), corpus.cells["n_active"], 12, 0)
    decoded = []
    read = corpus._parts[0][1]

    class Counting:
        def __getitem__(self, entries):
            decoded.append(entries)
            return read[entries]

    monkeypatch.setattr(corpus, "_parts", [(corpus._parts[0][0], Counting()), corpus._parts[1]])
    for _ in stream(corpus, map(drawn.batch, range(drawn.batches_per_epoch))):
        pass
    assert len(decoded) == -(-N_CELLS // 16)


def test_stream_gives_the_batches_in_order_and_resumes(corpus):
    drawn = EpochSampler(np.arange(N_CELLS), corpus.cells["n_active"], 16, 3)
    whole = list(stream(corpus, map(drawn.batch, range(40))))
    assert len(whole) == 40
    for step, (rows, batch) in enumerate(whole):
        np.testing.assert_array_equal(rows, drawn.batch(step))
        for found, expected in zip(batch, encode_cells(corpus, rows), strict=True):
            assert torch.equal(found, expected)
    for (rows, batch), (again_rows, again) in zip(
        whole[25:], stream(corpus, map(drawn.batch, range(25, 40))), strict=True
    ):
        np.testing.assert_array_equal(rows, again_rows)
        assert all(torch.equal(a, b) for a, b in zip(batch, again, strict=True))


def test_stream_draws_only_a_little_ahead_and_passes_errors_on(corpus):
    drawn = []
    endless = (drawn.append(step) or np.array([step % N_CELLS]) for step in itertools.count())
    taken = stream(corpus, endless)
    for _ in range(3):
        next(taken)
    taken.close()
    assert len(drawn) <= 3 + AHEAD
    with pytest.raises(IndexError):
        list(stream(corpus, [np.array([N_CELLS + 5])]))


def test_mixed_order_keeps_every_cell_and_mixes_libraries(monkeypatch):
    monkeypatch.setattr(shards, "BLOCK_CELLS", 512)
    n_cells, n_libraries = 20_000, 20
    order = mixed_order(n_cells)
    np.testing.assert_array_equal(np.sort(order), np.arange(n_cells))
    np.testing.assert_array_equal(order, mixed_order(n_cells))
    library = order * n_libraries // n_cells
    seen = [len(np.unique(library[start : start + 512])) for start in range(0, n_cells - 512, 512)]
    assert np.mean(seen) > 0.9 * n_libraries, "a block holds cells of nearly all libraries"
