import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import build_corpus
from regulonformer.corpus.encoding import encode, encode_cells
from regulonformer.corpus.profile import mean_profile, principal_components
from regulonformer.corpus.sampler import EpochSampler, hold_out, length_sorted
from regulonformer.corpus.shards import Corpus
from regulonformer.corpus.vocabulary import build_vocabulary, regulon_edges
from regulonformer.errors import InputError
from regulonformer.io.store import read_json, read_tsv, write_mudata, write_parquet
from regulonformer.model.batch import MISSING, OBSERVED

GENES = ["Abc", "Tfa", "Xyz", "NA", "Tfb", "Lonely"]
PEAKS = [f"chr1-{place}000-{place}500" for place in range(len(GENES))]
INPUTS = {"multiome": "multiome.h5mu", "regulons": "regulons.parquet", "links": "links.parquet"}
LINKS = pd.DataFrame({"peak": PEAKS[:1], "gene": ["Xyz"], "correlation": [0.5], "score": [0.4]})


def build(folder, out, *, min_link_score=0.5, accessibility="linked", **inputs):
    """Build the corpus of a folder's files into another."""
    files = {"cells": "parquet", "elements": "parquet", "summary": "json"}
    files |= dict.fromkeys(("vocabulary", "genes", "unmapped"), "tsv")
    build_corpus.main(
        **{name: folder / file for name, file in INPUTS.items()},
        settings={"accessibility": accessibility, "min_link_score": min_link_score},
        shards=out / "shards",
        **{name: out / f"{name}.{suffix}" for name, suffix in files.items()},
        **inputs,
    )
    return Corpus.open(out)


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
            # The last two cells have no ATAC. Every gene has one peak, in its promoter.
            "atac": ad.AnnData(sp.csr_matrix(atac), pd.DataFrame(index=names[:9]), pd.DataFrame(index=PEAKS)),
        }
    )
    data["atac"].varm["promoters"] = sp.eye_array(len(GENES), format="csr")
    data.obs = pd.DataFrame({"sample": [name[:2] for name in names], "state": "a", "n_counts_rna": 1000}, index=names)
    write_mudata(data, tmp_path / "multiome.h5mu")
    regulons = pd.DataFrame({"source": ["Tfb", "Gone"], "target": ["Abc", "Xyz"], "cre": "", "score": [0.5, 0.2]})
    write_parquet(regulons, tmp_path / "regulons.parquet")
    (tmp_path / "tfs.txt").write_text("Tfa\n\nUnknown\n")
    write_parquet(LINKS, tmp_path / "links.parquet")
    opened = build(tmp_path, tmp_path, tfs=tmp_path / "tfs.txt")
    place = pd.Index(names).get_indexer(opened.cells.index)
    return opened, rna[place], np.vstack([atac, np.zeros((2, 6), np.int32)])[place], tmp_path


def number_of(opened):
    """Number of each cell of the corpus in the joint matrices; the corpus holds them in an order of its own."""
    return opened.cells.index.str.extract(r"cell(\d+)", expand=False).astype(int).to_numpy()


def test_corpus_holds_the_counts_in_vocabulary_order(corpus):
    opened, rna, atac, folder = corpus
    assert opened.vocabulary["symbol"].tolist() == ["Tfa", "Tfb", "Abc", "Xyz", "NA", "Lonely"]
    assert opened.vocabulary["is_tf"].tolist() == [True, True, False, False, False, False]
    assert sorted(number_of(opened)) == list(range(11))
    order = [GENES.index(symbol) for symbol in opened.vocabulary["symbol"]]
    got_rna, got_atac = opened.rows([10, 0, 7])
    np.testing.assert_array_equal(got_rna.toarray(), rna[[10, 0, 7]][:, order])
    np.testing.assert_array_equal(got_atac.toarray(), atac[[10, 0, 7]][:, order])
    np.testing.assert_array_equal(opened.cells["has_atac"], number_of(opened) < 9)
    assert opened.cells["n_counts_rna"].tolist() == rna.sum(1).tolist()
    # What the library's whole matrix held before genes were filtered is another number, and keeps its place.
    assert opened.cells["matrix_counts_rna"].tolist() == [1000] * 11


def files_below(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_corpus_is_the_same_bytes_each_time(corpus):
    _, _, _, folder = corpus
    (folder / "again").mkdir()
    build(folder, folder / "again", tfs=folder / "tfs.txt")
    again = files_below(folder / "again")
    assert len(again) > 8
    for name, content in again.items():
        assert content == (folder / name).read_bytes(), name


def test_linked_peaks_count_once_for_every_gene_that_they_serve(corpus):
    # The peak in Abc's promoter is linked to Xyz with a score of 0.4.
    _, _, atac, folder = corpus
    assert read_tsv(folder / "genes.tsv")["linked_peaks"].tolist() == ["0"] * 6
    (folder / "linked").mkdir()
    linked = build(folder, folder / "linked", tfs=folder / "tfs.txt", min_link_score=0.3)
    counts = pd.DataFrame(linked.rows(np.arange(11))[1].toarray(), columns=linked.vocabulary["symbol"])
    expected = pd.DataFrame(atac, columns=GENES).assign(Xyz=lambda table: table["Xyz"] + table["Abc"])
    pd.testing.assert_frame_equal(counts[GENES], expected, check_names=False)
    genes = read_tsv(folder / "linked/genes.tsv").set_index("symbol")
    assert genes.loc[["Abc", "Xyz"], ["promoter_peaks", "linked_peaks"]].to_numpy().tolist() == [["1", "0"], ["1", "1"]]
    elements = pd.read_parquet(folder / "linked/elements.parquet")
    assert elements.loc[elements["start"] == 0, "symbol"].tolist() == ["Abc", "Xyz"] and len(elements) == 7
    # The setting `promoter` leaves the links out, whatever their score.
    (folder / "promoter").mkdir()
    build(folder, folder / "promoter", tfs=folder / "tfs.txt", min_link_score=0.0, accessibility="promoter")
    assert files_below(folder / "promoter/shards") == files_below(folder / "shards")


def test_names_without_a_gene_are_listed_and_counted(corpus):
    *_, folder = corpus
    lost = read_tsv(folder / "unmapped.tsv")
    assert lost.to_numpy().tolist() == [["Unknown", str(folder / "tfs.txt"), "no such gene"]]
    assert read_json(folder / "summary.json")["unmapped"] == {str(folder / "tfs.txt"): {"no such gene": 1}}


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
    empty, unmeasured = number_of(opened) == 4, number_of(opened) >= 9
    assert batch.pad_BT[empty].all(), "an empty cell has no token"
    assert (batch.atac_state_BT[unmeasured] == MISSING).all() and (batch.atac_state_BT[~unmeasured] == OBSERVED).all()
    assert batch.missing_BM()[unmeasured].tolist() == [[False, True]] * 2


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
    log_mean, log_size = mean_profile([(counts[:2000], library[:2000]), (counts[2000:], library[2000:])])
    np.testing.assert_allclose(np.exp(log_mean), share, rtol=0.1)
    np.testing.assert_allclose(np.exp(log_size), size, rtol=0.2)


def test_components_separate_two_programmes():
    rng = np.random.default_rng(0)
    rate = np.where(rng.random((300, 1)) < 0.5, [[5.0] * 10 + [1.0] * 10], [[1.0] * 10 + [5.0] * 10])
    counts = sp.csr_matrix(rng.poisson(rate))
    library = np.asarray(counts.sum(1)).ravel()
    found = principal_components(counts, library, 4)
    assert found.loadings.shape == found.projection.shape == (20, 4)
    assert abs(np.sign(found.loadings[:10, 0]).sum()) == 10
    assert np.sign(found.loadings[0, 0]) != np.sign(found.loadings[10, 0])
    values = (sp.diags(10_000 / library) @ counts).log1p().toarray()
    np.testing.assert_allclose(found.mean, values.mean(0))
    scores = (values - found.mean) @ found.projection
    np.testing.assert_allclose(np.cov(scores.T), np.eye(4), atol=0.01)
    empty = principal_components(sp.csr_matrix((5, 20)), np.zeros(5), 4)
    assert not empty.loadings.any() and not empty.projection.any()
