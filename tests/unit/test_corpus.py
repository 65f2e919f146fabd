import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import build_corpus
from regulonformer.corpus.encoding import encode, encode_cells
from regulonformer.corpus.profile import mean_profile, principal_loadings
from regulonformer.corpus.sampler import EpochSampler, hold_out, length_sorted
from regulonformer.corpus.shards import Corpus
from regulonformer.corpus.vocabulary import build_vocabulary, read_vocabulary, regulon_edges
from regulonformer.errors import InputError
from regulonformer.io.store import write_mudata, write_parquet
from regulonformer.model.batch import MISSING, OBSERVED

GENES = ["Abc", "Tfa", "Xyz", "NA", "Tfb", "Lonely"]


@pytest.fixture
def corpus(tmp_path):
    rng = np.random.default_rng(0)
    names = [f"s{number % 2}_cell{number}" for number in range(11)]
    rna = rng.poisson(0.8, (11, len(GENES))).astype(np.int32)
    atac = rng.poisson(0.5, (9, len(GENES))).astype(np.int32)
    rna[4] = 0
    atac[4] = 0
    var = pd.DataFrame({"gene_id": [f"ENS{i}" for i in range(6)], "chrom": "chr1", "tss": range(6)}, index=GENES)
    data = md.MuData(
        {
            "rna": ad.AnnData(sp.csr_matrix(rna), pd.DataFrame(index=names), var),
            # The last two cells have no accessibility.
            "accessibility": ad.AnnData(sp.csr_matrix(atac), pd.DataFrame(index=names[:9]), pd.DataFrame(index=GENES)),
        }
    )
    data.obs = pd.DataFrame({"sample": [name[:2] for name in names], "state": "a"}, index=names)
    write_mudata(data, tmp_path / "multiome.h5mu")
    regulons = pd.DataFrame({"source": ["Tfb", "Gone"], "target": ["Abc", "Xyz"], "cre": "", "score": [0.5, 0.2]})
    write_parquet(regulons, tmp_path / "regulons.parquet")
    (tmp_path / "tfs.txt").write_text("Tfa\n\nUnknown\n")
    build_corpus.main(
        multiome=tmp_path / "multiome.h5mu",
        regulons=tmp_path / "regulons.parquet",
        tfs=tmp_path / "tfs.txt",
        settings={"shard_cells": 4},
        shards=tmp_path / "shards",
        cells=tmp_path / "cells.parquet",
        vocabulary=tmp_path / "vocabulary.tsv",
    )
    return Corpus.open(tmp_path), rna, atac, tmp_path


def test_corpus_holds_the_counts_in_vocabulary_order(corpus):
    opened, rna, atac, folder = corpus
    assert opened.vocabulary["symbol"].tolist() == ["Tfa", "Tfb", "Abc", "Xyz", "NA", "Lonely"]
    assert opened.vocabulary["is_tf"].tolist() == [True, True, False, False, False, False]
    assert len(list((folder / "shards").iterdir())) == 3 and len(opened) == 11
    order = [GENES.index(symbol) for symbol in opened.vocabulary["symbol"]]
    got_rna, got_atac = opened.rows([10, 0, 7])
    np.testing.assert_array_equal(got_rna.toarray(), rna[[10, 0, 7]][:, order])
    np.testing.assert_array_equal(got_atac.toarray()[1:], atac[[0, 7]][:, order])
    assert opened.cells["has_atac"].tolist() == [True] * 9 + [False] * 2
    assert opened.cells["n_counts_rna"].tolist() == rna.sum(1).tolist()


def test_shards_are_the_same_bytes_each_time(corpus):
    _, _, _, folder = corpus
    first = {file.name: file.read_bytes() for file in (folder / "shards").iterdir()}
    build_corpus.main(
        multiome=folder / "multiome.h5mu",
        regulons=folder / "regulons.parquet",
        tfs=None,
        settings={"shard_cells": 4},
        shards=folder / "again",
        cells=folder / "again.parquet",
        vocabulary=folder / "again.tsv",
    )
    # Without the TF list only the source of a regulon is a TF, so that genes are in another order.
    assert read_vocabulary(folder / "again.tsv")["symbol"].tolist()[:2] == ["Tfb", "Abc"]
    assert {file.name for file in (folder / "again").iterdir()} == set(first)


def test_encoding_lists_active_genes_with_their_counts(corpus):
    opened, _, _, _ = corpus
    batch = encode_cells(opened, np.arange(11))
    rna, atac = (matrix.toarray() for matrix in opened.rows(np.arange(11)))
    for cell in range(11):
        real = ~batch.pad_BT[cell]
        genes = batch.genes_BT[cell][real].numpy()
        np.testing.assert_array_equal(genes, np.flatnonzero(rna[cell] + atac[cell]))
        np.testing.assert_array_equal(batch.rna_counts_BT[cell][real], rna[cell, genes])
        np.testing.assert_array_equal(batch.atac_counts_BT[cell][real], atac[cell, genes])
        expected = np.log1p(rna[cell, genes] / max(rna[cell].sum(), 1) * 1e4)
        np.testing.assert_allclose(batch.rna_BT[cell][real], expected, rtol=1e-5)
    assert batch.pad_BT[4].all(), "an empty cell has no token"
    assert (batch.atac_state_BT[9:] == MISSING).all() and (batch.atac_state_BT[:9] == OBSERVED).all()
    assert batch.missing_BM().tolist()[9] == [False, True]


def test_every_gene_restores_the_matrix(corpus):
    opened, _, _, _ = corpus
    full = encode_cells(opened, np.arange(9)).every_gene(6)
    np.testing.assert_array_equal(full.rna_counts_BT, opened.rows(np.arange(9))[0].toarray())
    np.testing.assert_array_equal(full.genes_BT[3], np.arange(6))


def test_empty_batch_still_has_a_position():
    empty = sp.csr_matrix((2, 5), dtype=np.int32)
    batch = encode(empty, empty, np.zeros((2, 2)))
    assert batch.genes_BT.shape == (2, 1) and batch.pad_BT.all() and torch.isfinite(batch.rna_BT).all()


def test_regulon_edges_name_tfs_and_targets():
    vocabulary = build_vocabulary(pd.DataFrame(index=GENES), {"Tfa", "Tfb"})
    table = pd.DataFrame(
        {
            "source": ["Tfb", "Tfb", "Tfa", "Gone", "Tfa"],
            "target": ["Xyz", "Xyz", "Abc", "Abc", "Nowhere"],
            "score": [0.2, -0.7, 0.4, 0.3, 0.9],
        }
    )
    edges = regulon_edges(table, vocabulary)
    found = {(row.tf, vocabulary["symbol"][row.gene]): row.weight for row in edges.itertuples()}
    assert found == {
        ("Tfa", "Tfa"): 0.4,
        ("Tfa", "Abc"): 0.4,
        ("Tfb", "Tfb"): 0.7,
        ("Tfb", "Xyz"): 0.7,
        ("Gone", "Abc"): 0.3,
    }
    slots = edges.drop_duplicates("slot")
    assert slots["tf"].tolist() == ["Tfa", "Tfb", "Gone"]
    assert slots["tf_token"].tolist() == [0, 1, -1]
    with pytest.raises(InputError, match="species"):
        regulon_edges(table.assign(target="Nowhere"), vocabulary)


def test_sampler_visits_every_cell_once_per_epoch():
    cells, lengths = np.arange(100, 203), np.random.default_rng(0).integers(1, 50, 103)
    sampler = EpochSampler(cells, lengths, 10, seed=3)
    epochs = [np.concatenate([sampler.batch(epoch * 11 + i) for i in range(11)]) for epoch in range(2)]
    for epoch in epochs:
        assert sorted(epoch) == cells.tolist()
    assert not np.array_equal(*epochs)
    # Any step can be asked for in any order.
    np.testing.assert_array_equal(EpochSampler(cells, lengths, 10, seed=3).batch(15), sampler.batch(15))


def test_batches_hold_cells_of_similar_length():
    lengths = np.random.default_rng(0).integers(1, 1000, 640)
    sampler = EpochSampler(np.arange(640), lengths, 40, seed=0)
    assert np.mean([np.ptp(lengths[sampler.batch(step)]) for step in range(16)]) < 150
    rows = np.concatenate(list(length_sorted(np.arange(640), lengths, 40)))
    assert (np.diff(lengths[rows]) >= 0).all()


@pytest.mark.parametrize("n_cells", [9, 100, 901, 1500])
def test_held_out_share_of_a_single_library(n_cells):
    cells = pd.DataFrame({"sample": ["only"] * n_cells})
    held = hold_out(cells, "auto", 0)
    assert held.sum() == round(n_cells * 0.1)
    np.testing.assert_array_equal(held, hold_out(cells, "auto", 0))


def test_held_out_libraries():
    cells = pd.DataFrame({"sample": ["b", "a", "c", "a"]})
    assert hold_out(cells, "auto", 0).tolist() == [False, False, True, False]
    assert hold_out(cells, ["a", "b"], 0).tolist() == [True, True, False, True]
    with pytest.raises(InputError, match="'d'"):
        hold_out(cells, ["d"], 0)
    with pytest.raises(InputError, match="every library"):
        hold_out(cells, ["a", "b", "c"], 0)


def test_mean_profile_recovers_share_and_size():
    rng = np.random.default_rng(0)
    library, share, size = (
        rng.integers(500, 2000, 5000).astype(float),
        np.array([0.01, 0.002, 0.05]),
        np.array([2, 0.5, 9]),
    )
    mean = library[:, None] * share
    counts = sp.csr_matrix(rng.negative_binomial(size, size / (size + mean)))
    log_mean, log_size = mean_profile(counts, library)
    np.testing.assert_allclose(np.exp(log_mean), share, rtol=0.1)
    np.testing.assert_allclose(np.exp(log_size), size, rtol=0.2)


def test_loadings_separate_two_programmes():
    rng = np.random.default_rng(0)
    rate = np.where(rng.random((300, 1)) < 0.5, [[5.0] * 10 + [1.0] * 10], [[1.0] * 10 + [5.0] * 10])
    counts = sp.csr_matrix(rng.poisson(rate))
    loadings = principal_loadings(counts, np.asarray(counts.sum(1)).ravel(), 4)
    assert loadings.shape == (20, 4)
    assert abs(np.sign(loadings[:10, 0]).sum()) == 10 and np.sign(loadings[0, 0]) != np.sign(loadings[10, 0])
    empty = principal_loadings(sp.csr_matrix((5, 20)), np.zeros(5), 4)
    assert not empty.any()
