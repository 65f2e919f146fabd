"""Scores of embeddings, on cells whose scores are known without computing them."""

import json
import subprocess

import numpy as np
import pytest
from scipy import sparse

import regulonformer.evaluate.embedding as scores
from regulonformer.evaluate.embedding_methods import sorted_neighbours, weighted_neighbours
from regulonformer.matrices.views import harmony

LABELS = np.repeat(["a", "b", "c"], 200)
BATCHES = np.tile(["s1", "s2"], 300)


@pytest.fixture(scope="module")
def ideal():
    """Three types far apart, two libraries mixed at random within each."""
    rng = np.random.default_rng(0)
    return 20 * np.eye(3)[np.searchsorted(["a", "b", "c"], LABELS)] + rng.normal(size=(600, 3))


@pytest.fixture(scope="module")
def split_by_library():
    """Libraries far apart, types not to be told."""
    rng = np.random.default_rng(1)
    return 20 * np.eye(3)[(BATCHES == "s2").astype(int)] + rng.normal(size=(600, 3))


def test_types_apart_and_libraries_mixed_is_best(ideal, split_by_library):
    best = scores.score_space(ideal, split_by_library, LABELS, BATCHES, 0)
    worst = scores.score_space(split_by_library, split_by_library, LABELS, BATCHES, 0)
    for name in ("nmi", "ari", "clisi", "graph_connectivity"):
        assert best[name] == pytest.approx(1, abs=1e-6), name
    assert min(best["ilisi"], best["pcr_comparison"], best["asw_batch"], best["asw_label"]) > 0.9
    # A test at 5 % rejects one cell in twenty where libraries are mixed, give or take.
    assert best["kbet"] > 0.85
    assert worst["kbet"] == worst["pcr_comparison"] == 0
    assert max(worst["nmi"], worst["ari"], worst["ilisi"], worst["asw_batch"]) < 0.15
    assert best["bio_conservation"] == pytest.approx(np.mean([best[name] for name in scores.BIOLOGY]))
    assert best["overall"] == pytest.approx(0.6 * best["bio_conservation"] + 0.4 * best["batch_correction"])


def test_lisi_counts_equally_common_groups():
    # Four neighbours at one distance: weights are equal, whatever the width of the kernel.
    indices, distances = np.array([[1, 2, 3, 4]]), np.ones((1, 4))
    groups = np.array(["-", "p", "p", "q", "q"])
    assert scores.lisi(indices, distances, groups) == pytest.approx([2])
    assert scores.lisi(indices, distances, np.array(["-", "p", "p", "p", "q"])) == pytest.approx(
        [1 / (9 / 16 + 1 / 16)]
    )


def test_kernel_reaches_the_perplexity():
    distances = np.sort(np.random.default_rng(0).gamma(2, 3, size=(50, 90)), axis=1)
    weights = scores.perplexity_weights(distances, 30)
    perplexity = np.exp(-(weights * np.log(np.maximum(weights, 1e-300))).sum(1))
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_allclose(perplexity, 30, rtol=1e-3)


def test_a_type_in_two_pieces_is_connected_by_its_largest():
    # Ten cells of one type on a line, the last three far away: seven of ten are connected.
    space = np.r_[np.arange(7.0), 100 + np.arange(3.0)][:, None]
    indices, _ = scores.nearest(space, 2)
    assert scores.graph_connectivity(indices, np.repeat("a", 10)) == pytest.approx(0.7)


def test_variance_of_batches_is_that_of_an_analysis_of_variance():
    # Means -1 and 1, deviation 1 within: batches explain half of the first dimension and nothing of the second.
    space = np.array([[-2.0, 1], [0, -1], [0, 1], [2, -1]])
    batches = np.array(["s1", "s1", "s2", "s2"])
    assert scores.explained_by_batch(space, batches) == pytest.approx(4 / 12)
    assert scores.pcr_comparison(space, space[:, 1:], batches) == 1
    assert scores.pcr_comparison(space[:, 1:], space, batches) is np.nan


def test_a_last_cell_that_is_nobodys_neighbour_counts():
    indices = np.array([[1], [0], [0]])  # no cell has the third one for a neighbour
    assert scores.graph_connectivity(indices, np.array(["a", "a", "b"])) == 1


def test_one_library_has_no_scores_of_mixing(ideal):
    found = scores.score_space(ideal, ideal, LABELS, np.repeat("s1", 600), 0)
    assert np.isnan([found[name] for name in (*scores.BATCH, "batch_correction", "overall")]).all()
    assert found["bio_conservation"] > 0.9


def test_harmony_aligns_libraries_that_differ_by_a_shift(ideal):
    shifted = np.c_[ideal, np.random.default_rng(2).normal(size=(600, 2))]
    shifted[BATCHES == "s2", 3] += 6
    aligned = harmony(shifted, BATCHES, 0)
    assert scores.explained_by_batch(aligned, BATCHES) < 0.2 * scores.explained_by_batch(shifted, BATCHES)
    np.testing.assert_array_equal(aligned, harmony(shifted, BATCHES, 0))


@pytest.mark.slow
def test_weighted_neighbours_use_the_modality_that_knows(ideal):
    noise = np.random.default_rng(4).normal(size=(600, 3))
    indices, distances = weighted_neighbours({"rna": ideal, "atac": noise}, 30, 0)
    assert indices.shape == distances.shape == (600, 30)
    assert (np.diff(distances) >= 0).all() and not (indices == np.arange(600)[:, None]).any()
    # One neighbour in three is of the cell's type by chance, and in the noise.
    assert (LABELS[indices] == LABELS[:, None]).mean() > 0.9


def test_neighbours_of_a_graph_come_in_order_and_without_the_cell_itself():
    graph = sparse.csr_matrix(np.array([[0.1, 3, 2], [3, 0, 0], [2, 1, 0]]))
    indices, distances = sorted_neighbours(graph, 2)
    assert indices.tolist() == [[2, 1], [0, 0], [1, 0]]
    assert distances.tolist() == [[2, 3], [3, 3], [1, 2]]


PEER = """
import sys, json, numpy as np, scib_metrics as sm
from scib_metrics.nearest_neighbors import NeighborsResults
with np.load(sys.argv[1]) as f: X, labels, batches, indices, distances = (f[k] for k in ("X", "l", "b", "i", "d"))
me = np.arange(len(X))[:, None]
near = NeighborsResults(indices=np.hstack([me, indices]), distances=np.hstack([0 * me, distances]))
found = {"asw_label": sm.silhouette_label(X, labels), "asw_batch": sm.silhouette_batch(X, labels, batches)}
found |= {"ilisi": sm.ilisi_knn(near, batches), "clisi": sm.clisi_knn(near, labels)}
found["graph_connectivity"] = sm.graph_connectivity(near.subset_neighbors(n=16), labels)
print(json.dumps({name: float(value) for name, value in found.items()}))
"""


@pytest.mark.slow
def test_scib_metrics_agrees(peer, ideal, split_by_library, tmp_path):
    if subprocess.run([peer, "-c", "import scib_metrics"], capture_output=True).returncode:
        pytest.skip("no scib-metrics among the peers; run `make peers`")
    space = ideal + 0.3 * split_by_library + np.random.default_rng(3).normal(scale=8, size=ideal.shape)
    indices, distances = scores.nearest(space, scores.LISI_NEIGHBOURS)
    np.savez(tmp_path / "cells.npz", X=space, l=LABELS, b=BATCHES, i=indices, d=distances)
    done = subprocess.run([peer, "-c", PEER, tmp_path / "cells.npz"], check=True, capture_output=True, text=True)
    theirs = json.loads(done.stdout.splitlines()[-1])
    ours = scores.score_space(space, split_by_library, LABELS, BATCHES, 0)
    # Theirs counts the cell itself among its neighbours.
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=0.03)
