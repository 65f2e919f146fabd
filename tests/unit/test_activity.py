"""Activity of regulons in cells: recovery of targets among the highest genes, and weighted mean z."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from mudata import MuData
from scipy import sparse

import score_regulons
from regulonformer.decompose import log_normalise
from regulonformer.io.store import write_mudata, write_parquet
from regulonformer.prior import activity

GENES = pd.Index([f"g{number}" for number in range(100)])


@pytest.fixture
def counts():
    rng = np.random.default_rng(0)
    return sparse.csr_matrix(rng.poisson(rng.gamma(1, 2, (40, 100))).astype(np.int32))


def sets(*members):
    matrix = np.zeros((100, len(members)))
    for column, rows in enumerate(members):
        matrix[list(rows), column] = 1
    return sparse.csr_matrix(matrix)


def test_area_by_hand():
    """Of ten ranks, members at ranks 1 and 4 gain 9 + 6; at best two members gain 9 + 8."""
    cell = np.zeros((1, 100))
    cell[0, :12] = np.arange(12, 0, -1)
    area = activity.aucell(sparse.csr_matrix(cell), sets([0, 3], [0, 1], [50, 60], []), 0.1)
    np.testing.assert_allclose(area, [[15 / 17, 1, 0, 0]], rtol=1e-6)


def test_no_cells_have_no_activity(counts):
    members = sets([0, 3], [0, 1])
    assert activity.aucell(counts[:0], members, 0.1).shape == activity.mean_z(counts[:0], members).shape == (0, 2)


def test_area_equals_the_plain_definition(counts):
    members = sets(range(0, 30), range(20, 25), [99])
    area = activity.aucell(counts, members, 0.2)
    dense = counts.toarray()
    for cell, column in ((0, 0), (7, 1), (39, 0), (3, 2)):
        inside = set(np.flatnonzero(members[:, [column]].toarray()))
        best = np.minimum(np.arange(1, 20), len(inside)).sum()
        # What equal genes gain is the mean over all their orders: here over many random ones.
        areas = []
        for order in (np.random.default_rng(seed).permutation(100) for seed in range(3000)):
            order = order[np.argsort(-dense[cell, order], kind="stable")]
            areas.append(np.cumsum([gene in inside and dense[cell, gene] > 0 for gene in order[:20]])[:-1].sum() / best)
        assert area[cell, column] == pytest.approx(np.mean(areas), abs=4 * np.std(areas) / 3000**0.5 + 1e-6)


def test_equal_genes_share_their_gain():
    """Of five ranks, three genes tie at ranks 2 to 4 and gain (3 + 2 + 1) / 3 each, two at ranks 5 and 6 nothing."""
    cell = np.zeros((1, 100))
    cell[0, :6] = [9, 4, 4, 4, 1, 1]
    area = activity.aucell(sparse.csr_matrix(cell), sets([0], [1], [3], [5]), 0.05)
    np.testing.assert_allclose(area, [[1, 2 / 4, 2 / 4, 0]], rtol=1e-6)


def test_the_order_of_genes_changes_no_area(counts):
    members, order = sets(range(0, 30), range(20, 25), [99]), np.random.default_rng(3).permutation(100)
    area = activity.aucell(counts, members, 0.2)
    np.testing.assert_array_equal(activity.aucell(counts[:, order], members[order], 0.2), area)


def test_genes_without_counts_recover_nothing():
    """Also where fewer genes are expressed than ranks count, the unexpressed do not fill up by their place."""
    cell = np.zeros((1, 100))
    cell[0, 99] = 5
    area = activity.aucell(sparse.csr_matrix(cell), sets([0, 1, 2], [99]), 0.1)
    assert area.tolist() == [[0, 1]]


def test_blocks_do_not_change_areas(counts, monkeypatch):
    members = sets(range(10), range(5, 50))
    whole = activity.aucell(counts, members, 0.1)
    monkeypatch.setattr(activity, "CELLS_PER_BLOCK", 7)
    np.testing.assert_array_equal(activity.aucell(counts, members, 0.1), whole)


def test_mean_z_is_signed_and_weighted(counts):
    weights = np.zeros((100, 2))
    weights[[3, 8], 0] = [1.0, -0.5]
    found = activity.mean_z(counts, sparse.csr_matrix(weights))
    values = log_normalise(counts).toarray().astype(float)
    z = (values - values.mean(0)) / values.std(0)
    np.testing.assert_allclose(found[:, 0], (z[:, 3] - 0.5 * z[:, 8]) / 1.5, atol=1e-4)
    assert (found[:, 1] == 0).all()


def test_a_regulon_is_active_where_its_targets_are(tmp_path):
    rng = np.random.default_rng(1)
    group = np.repeat([0, 1], 60)
    rate = np.full((120, 100), 1.0)
    rate[:, :10] = np.where(group[:, None] == 1, 6, 1)  # activated in group 1
    rate[:, 10:15] = np.where(group[:, None] == 1, 0.3, 3)  # repressed there
    rna = ad.AnnData(sparse.csr_matrix(rng.poisson(rate).astype(np.int32)), var=pd.DataFrame(index=GENES))
    rna.obs_names = [f"c{number}" for number in range(120)]
    data = MuData({"rna": rna})
    data.obs["sample"] = "A"
    write_mudata(data, tmp_path / "multiome.h5mu")
    edges = pd.DataFrame({"source": "Tf1", "target": GENES[:15], "score": 0.5, "sign": [1] * 10 + [-1] * 5})
    silencer = pd.DataFrame({"source": "Tf2", "target": GENES[10:15], "score": 0.9, "sign": -1})
    write_parquet(pd.concat([edges, silencer], ignore_index=True), tmp_path / "regulons.parquet")
    arguments = {"multiome": tmp_path / "multiome.h5mu", "regulons": tmp_path / "regulons.parquet"}
    for name in ("one.h5ad", "two.h5ad"):
        score_regulons.main(**arguments, settings={"activity_top_share": 0.1}, output=tmp_path / name)
    assert (tmp_path / "one.h5ad").read_bytes() == (tmp_path / "two.h5ad").read_bytes()
    scores = ad.read_h5ad(tmp_path / "one.h5ad")
    assert list(scores.var_names) == ["Tf1", "Tf2"] and scores.var["repressed"].tolist() == [5, 5]
    for layer in ("aucell", "mean_z"):
        values = scores.layers[layer][:, 0]
        assert values[group == 1].mean() > values[group == 0].mean() + 3 * values[group == 0].std()
    assert (scores.layers["aucell"][:, 1] == 0).all() and scores.layers["mean_z"][group == 1, 1].mean() > 0.5
