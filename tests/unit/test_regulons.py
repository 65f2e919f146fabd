"""Regulons: network layouts, scores and signs, bounds, and errors."""

import gzip

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData
from scipy import sparse

import build_regulons
from regulonformer.errors import InputError
from regulonformer.io.store import read_json, write_mudata, write_parquet
from regulonformer.prior import motifs, network, regulons

SETTINGS = {
    "metacell_size": 5,
    "min_link_score": 0.05,
    "network_confidence": ["A", "B", "C"],
    "min_targets": 2,
    "max_targets": 300,
    "max_regulons": 300,
    "keep_unmeasured_tfs": True,
}
GENES = ["Tf1", "Tf2", "Up1", "Up2", "Down1", "Down2", "Flat"]


@pytest.fixture
def inputs(tmp_path):
    """Tf1 drives Up genes up and Down genes down; every gene has a promoter peak, and Up1 a distal one."""
    rng = np.random.default_rng(0)
    activity = rng.normal(size=600)
    effect = np.array([1, 0, 1, 1, -1, -1, 0])
    rna = AnnData(
        sparse.csr_matrix(rng.poisson(5 * np.exp(0.7 * activity[:, None] * effect)).astype(np.int32)),
        var=pd.DataFrame(index=GENES),
    )
    rna.obsm["X_pca"] = activity[:, None]
    data = MuData({"rna": rna})
    data.obs["sample"] = "A"
    write_mudata(data, tmp_path / "multiome.h5mu")
    peaks = [f"chr1-{i}000-{i}500" for i in range(8)]
    table = pd.DataFrame(
        {
            "peak": peaks,
            "gene": [*GENES, "Up1"],
            "distance": 0,
            "is_promoter": True,
            "correlation": 0.5,
            "p_value": 0.01,
        }
    )
    write_parquet(table.assign(score=[0.5] * 7 + [0.9]), tmp_path / "links.parquet")
    sites = np.zeros((1, 8))
    sites[0, [0, 2, 3, 4, 5, 7]] = [6, 6, 6, 6, 6, 6]
    hits = motifs.MotifHits(
        sparse.csr_matrix(sites),
        np.array(["Tf1"], object),
        np.array(peaks, object),
        np.array(["MA1"], object),
        {"motifs": 1},
    )
    motifs.write_hits(hits, tmp_path / "hits.npz")
    return tmp_path


def build(folder, name="regulons", **arguments):
    settings = SETTINGS | arguments.pop("settings", {})
    out = {
        key: folder / f"{name}.{suffix}"
        for key, suffix in (("regulons", "parquet"), ("gmt", "gmt"), ("summary", "json"))
    }
    build_regulons.main(
        links=folder / "links.parquet", multiome=folder / "multiome.h5mu", settings=settings, **out, **arguments
    )
    return pd.read_parquet(out["regulons"]), read_json(out["summary"])


def write(folder, name, text):
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def test_motif_edges_have_signs_and_their_best_cre(inputs):
    table, summary = build(inputs, motif_hits=inputs / "hits.npz")
    edges = table.set_index("target")
    assert list(table.columns[:5]) == ["source", "target", "cre", "score", "sign"]
    assert edges["sign"].to_dict() == {"Up1": 1, "Up2": 1, "Down1": -1, "Down2": -1}
    assert edges.loc["Up1", "cre"] == "chr1-7000-7500" and edges.loc["Up1", "n_cres"] == 2
    assert table["target"].iloc[0] == "Up1" and table["score"].between(0, 1).all()
    c = edges.loc["Up2", "tf_target_correlation"]
    assert edges.loc["Up2", "score"] == pytest.approx(np.cbrt(0.75 * 0.5 * c), abs=1e-4)
    assert summary["motif_self_edges"] == 1 and summary["regulons"] == 1 and summary["edges"] == 4
    assert (inputs / "regulons.gmt").read_text().startswith("Tf1\tregulon of Tf1: 2 activated, 2 repressed\tUp1\t")


def test_network_alone_drops_and_counts(inputs):
    edges = "source,target,weight\nTF1,UP1,1\nTf1,Up1,1\nTf1,Down1,-1\nTf1,Tf1,1\nTf1,Other,1\nTf2,Up1,1\nTf2,Flat,-1\n"
    table, summary = build(inputs, network=write(inputs, "net.csv", edges))
    assert set(zip(table["source"], table["target"], strict=True)) == {
        ("Tf1", "Up1"),
        ("Tf1", "Down1"),
        ("Tf2", "Up1"),
        ("Tf2", "Flat"),
    }
    counts = summary["network"]
    assert (
        counts["network_duplicate_edges"],
        counts["network_self_edges"],
        counts["network_targets_not_in_matrix"],
    ) == (1, 1, 1)
    assert counts["symbols_matched_without_case"] == 1
    signs = table.set_index(["source", "target"])["sign"]
    assert signs["Tf1", "Up1"] == 1 and signs["Tf1", "Down1"] == -1
    assert table.loc[table["target"] == "Up1", "cre"].iloc[0] == "chr1-7000-7500"


def test_network_evidence_raises_the_score_of_motif_edges(inputs):
    alone, _ = build(inputs, motif_hits=inputs / "hits.npz")
    net = write(inputs, "net.tsv", "source\ttarget\nTf1\tUp2\nTf1\tFlat\n")
    both, summary = build(inputs, "both", motif_hits=inputs / "hits.npz", network=net)
    before, after = alone.set_index("target")["score"], both.set_index("target")["score"]
    assert after["Up2"] > before["Up2"] and after["Down1"] == before["Down1"]
    assert "Flat" in after and "Flat" not in before and summary["edges_with_both"] == 1


def test_an_unmeasured_tf_is_judged_by_its_other_targets(inputs):
    net = write(inputs, "net.csv", "source,target,weight\nXX,Up1,1\nXX,Up2,1\nXX,Down1,-1\nXX,Flat,1\n")
    table, summary = build(inputs, network=net)
    edges = table.set_index("target")
    assert not edges["tf_measured"].any() and summary["regulons_of_unmeasured_tfs"] == 1
    assert edges.loc["Up1", "score"] > 2 * edges.loc["Flat", "score"]
    assert edges["sign"].to_dict() == {"Up1": 1, "Up2": 1, "Down1": -1, "Flat": 1}
    with pytest.raises(InputError, match="no TF has 2 targets"):
        build(inputs, network=net, settings={"keep_unmeasured_tfs": False})


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.csv", '"source","target","weight"\n"T","G",2\n"T","H",-1\n', [("T", "G", 1.0, 1), ("T", "H", 0.5, -1)]),
        ("a.csv", "source,target\nT,G\n", [("T", "G", 1.0, 0)]),
        (
            "a.tsv.gz",
            "tf\tconfidence\ttarget\tmor\nT\tA\tG\t1.0\nT\tC\tH\t-1.0\nT\tE\tI\t1\n",
            [("T", "G", 1.0, 1), ("T", "H", 0.6, -1)],
        ),
        (
            "a.tsv",
            "TF\tgene_symbol\tinteraction\tposition\nT\tG\tRepression\t12\nT\tNA\tUnknown\t9\n",
            [("T", "G", 1.0, -1), ("T", "NA", 1.0, 0)],
        ),
        ("a.tsv", "T\tG\tActivation\t12\n", [("T", "G", 1.0, 1)]),
    ],
)
def test_network_layouts(tmp_path, name, text, expected):
    edges, _ = network.read_network(write(tmp_path, name, text), ["A", "B", "C"])
    assert list(edges.itertuples(index=False, name=None)) == expected


def test_bad_networks_are_named(inputs):
    with pytest.raises(InputError, match="wrong.csv: columns gene, peak are no known network layout"):
        build(inputs, network=write(inputs, "wrong.csv", "gene,peak\na,b\n"))
    with pytest.raises(
        InputError, match=r"fly.csv: no gene in common with the matrix \(network: w, ey; matrix: Tf1, Tf2, Up1\)"
    ):
        build(inputs, network=write(inputs, "fly.csv", "source,target\nhb,w\nhb,ey\n"))
    with pytest.raises(InputError, match="empty.csv"):
        build(inputs, network=write(inputs, "empty.csv", ""))
    with pytest.raises(InputError, match="missing.csv: no such file"):
        build(inputs, network=inputs / "missing.csv")
    with pytest.raises(InputError, match="neither motif hits nor a network"):
        build(inputs)


def test_tf_list_limits_the_sources(inputs):
    net = write(inputs, "net.csv", "source,target\nTf1,Up1\nTf1,Up2\nTf2,Up1\nTf2,Up2\n")
    table, summary = build(inputs, network=net, tfs=write(inputs, "tfs.txt", "TF1\nOTHER\n"))
    assert set(table["source"]) == {"Tf1"} and summary["tfs_not_in_list"] == 1
    with pytest.raises(InputError, match="tfs.txt: none of its TFs"):
        build(inputs, network=net, tfs=write(inputs, "tfs.txt", "OTHER\n"))


def test_size_and_number_of_regulons_are_bounded(inputs):
    net = write(inputs, "net.csv", "source,target\nTf1,Up1\nTf1,Up2\nTf1,Down1\nTf2,Up1\nTf2,Flat\nYY,Up1\n")
    table, summary = build(inputs, network=net, settings={"max_targets": 2, "max_regulons": 1})
    assert len(table) == 2 and set(table["source"]) == {"Tf1"}
    counts = {
        key: summary[key]
        for key in ("edges_beyond_max_targets", "regulons_below_min_targets", "regulons_beyond_max_regulons")
    }
    assert counts == {"edges_beyond_max_targets": 1, "regulons_below_min_targets": 1, "regulons_beyond_max_regulons": 1}


def test_same_input_same_bytes(inputs):
    build(inputs, "one", motif_hits=inputs / "hits.npz")
    build(inputs, "two", motif_hits=inputs / "hits.npz")
    for suffix in ("parquet", "gmt", "json"):
        assert (inputs / f"one.{suffix}").read_bytes() == (inputs / f"two.{suffix}").read_bytes()


def test_scores_stay_in_range_and_need_evidence():
    rng = np.random.default_rng(0)
    score = regulons.edge_scores(*rng.random((3, 100)), rng.uniform(-1, 1, 100))
    assert ((score > 0) & (score <= 1)).all()
    assert regulons.edge_scores(0.0, 0.9, 0.0, 0.9) == 0
    assert regulons.edge_scores(1.0, 1.0, 1.0, -1.0) == 1
