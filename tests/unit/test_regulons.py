"""Regulons: network layouts, support, scores and signs, bounds, and errors."""

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
from regulonformer.prior import motif_hits, network, regulons

SETTINGS = {
    "min_link_score": 0.05,
    "network_confidence": ["A", "B", "C"],
    "min_score": 0.1,
    "min_targets": 2,
    "max_targets": 300,
    "max_regulons": 300,
    "keep_unmeasured_tfs": True,
}
NAMED = ["Tf1", "Tf2", "Up1", "Up2", "Down1", "Down2", "Flat"]
GENES = [*NAMED, *(f"Other{number}" for number in range(60))]
DISTAL = "chr9-7000-7500"  # a second element of Up1


def promoter(gene):
    return f"chr1-{GENES.index(gene) + 1}000-{GENES.index(gene) + 1}500"


def write_world(folder, n_cells=600, seed=0):
    """Tf1 drives Up genes up and Down genes down, Flat stays; the others follow programs of their own."""
    rng = np.random.default_rng(seed)
    programs = rng.normal(size=(n_cells, 8))
    effect = np.zeros((8, len(GENES)))
    effect[0, [GENES.index(gene) for gene in ("Tf1", "Up1", "Up2", "Down1", "Down2")]] = 1, 1, 1, -1, -1
    effect[1, GENES.index("Tf2")] = 1
    effect[:, len(NAMED) :] = rng.normal(0, 0.4, (8, len(GENES) - len(NAMED)))
    effect[0, len(NAMED) :] = 0
    rna = AnnData(
        sparse.csr_matrix(rng.poisson(4 * np.exp(0.6 * programs @ effect)).astype(np.int32)),
        var=pd.DataFrame(index=GENES),
    )
    rna.obsm["X_pca"] = programs
    peaks = [*map(promoter, GENES), DISTAL]
    openness = np.column_stack([programs @ effect, programs @ effect[:, GENES.index("Up1")]])
    atac = AnnData(
        sparse.csr_matrix(rng.poisson(np.exp(0.6 * openness)).astype(np.int32)), var=pd.DataFrame(index=peaks)
    )
    data = MuData({"rna": rna, "atac": atac})
    data.obs["sample"] = "A"
    write_mudata(data, folder / "multiome.h5mu")
    links = pd.DataFrame({"peak": peaks, "gene": [*GENES, "Up1"], "score": [0.5] * len(GENES) + [0.9]})
    write_parquet(links, folder / "links.parquet")
    strong = ["Tf1", "Up1", "Up2", "Down1", "Down2"]
    sites = sparse.lil_matrix((1, len(peaks)))
    sites[0, [GENES.index(gene) for gene in strong] + [len(GENES)]] = 9.0
    hits = motif_hits.MotifHits(
        sparse.csr_matrix(sites),
        np.array(["Tf1"], object),
        np.array(peaks, object),
        np.array(["MA1"], object),
        {"motifs": 1},
    )
    motif_hits.write_hits(hits, folder / "hits.npz")
    return folder


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


def build(folder, name="regulons", **arguments):
    settings = SETTINGS | arguments.pop("settings", {})
    out = {
        key: folder / f"{name}.{suffix}"
        for key, suffix in (("regulons", "parquet"), ("gmt", "gmt"), ("summary", "json"), ("unmapped", "tsv"))
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
    assert list(table.columns) == regulons.COLUMNS and list(table.columns[:4]) == ["source", "target", "cre", "score"]
    assert edges["sign"].to_dict() == {"Up1": 1, "Up2": 1, "Down1": -1, "Down2": -1}
    assert edges.loc["Up1", "cre"] == DISTAL and edges.loc["Up1", "n_cres"] == 2
    assert edges.loc["Up2", "cre"] == promoter("Up2") and edges.loc["Up2", "n_cres"] == 1
    assert table["score"].between(0, 1).all() and (edges["association"].abs() > 2).all()
    site = edges["motif_score"].iloc[0]
    assert edges.loc["Up2", "support"] == pytest.approx(site * 0.5, abs=1e-5)
    assert edges.loc["Up1", "support"] == pytest.approx(1 - (1 - site * 0.5) * (1 - site * 0.9), abs=1e-5)
    assert summary["self_edges"] == 1 and summary["regulons"] == 1 and summary["edges"] == 4
    lines = (inputs / "regulons.gmt").read_text().splitlines()
    assert lines[0].startswith("Tf1\tregulon of Tf1: 2 activated, 2 repressed\t") and len(lines[0].split("\t")) == 6


def test_support_alone_gives_no_edge_to_unsupported_genes(inputs):
    """Flat has no site: however it went with Tf1, a motif prior cannot name it."""
    table, _ = build(inputs, motif_hits=inputs / "hits.npz", settings={"min_score": 0.0, "min_targets": 1})
    assert set(table["target"]) == {"Up1", "Up2", "Down1", "Down2"}


def test_network_alone_drops_and_counts(inputs):
    edges = "source,target,weight\nTF1,UP1,1\nTf1,Up1,1\nTf1,Down1,-1\nTf1,Tf1,1\nTf1,Else,1\nTf2,Up1,1\nTf2,Flat,-1\n"
    table, summary = build(inputs, network=write(inputs, "net.csv", edges))
    pairs = {("Tf1", "Up1"), ("Tf1", "Down1"), ("Tf2", "Up1"), ("Tf2", "Flat")}
    assert set(zip(table["source"], table["target"], strict=True)) == pairs
    counts = summary["network"]
    assert counts["network_duplicate_edges"] == counts["network_self_edges"] == 1
    assert counts["network_targets_not_in_matrix"] == counts["symbols_matched_without_case"] == 1
    signs = table.set_index(["source", "target"])["sign"]
    assert signs["Tf1", "Up1"] == 1 and signs["Tf1", "Down1"] == -1
    assert table.loc[table["target"] == "Up1", "cre"].iloc[0] == DISTAL
    assert (table["support"] == 0).all() and (table["motif_score"] == 0).all()


def test_a_curated_edge_needs_no_association_but_gains_by_it(inputs):
    rows = [f"Tf1,{target},1" for target in ("Up1", "Up2", "Down1", "Down2", "Flat", "Other1", "Other2", "Other3")]
    rows += [f"Tf2,{target},1" for target in GENES[10:40]]
    table, _ = build(inputs, network=write(inputs, "wide.csv", "source,target,weight\n" + "\n".join(rows)))
    score = table[table["source"] == "Tf1"].set_index("target")["score"]
    driven = ["Up1", "Up2", "Down1", "Down2"]
    assert len(score) == 8 and score[driven].min() > score.drop(driven).mean() > 0.2


def test_weights_of_the_network_count(inputs):
    rows = [f"Tf1,{'AC'[number % 2]},{gene},1" for number, gene in enumerate(GENES[8:48])]
    table, _ = build(inputs, network=write(inputs, "classes.csv", "tf,confidence,target,mor\n" + "\n".join(rows)))
    mean = table.groupby("network")["score"].mean()
    assert mean[1.0] > mean[0.6] > 0.1


def test_network_evidence_raises_the_score_of_motif_edges(inputs):
    few = {"min_score": 0.0}
    alone, _ = build(inputs, motif_hits=inputs / "hits.npz", settings=few)
    net = write(inputs, "net.tsv", "source\ttarget\nTf1\tUp2\nTf1\tFlat\n")
    both, summary = build(inputs, "both", motif_hits=inputs / "hits.npz", network=net, settings=few)
    before, after = alone.set_index("target")["score"], both.set_index("target")["score"]
    assert after["Up2"] >= before["Up2"] and "Flat" in after and "Flat" not in before
    assert summary["edges_with_both"] == 1 and summary["edges_in_network"] == 2 and summary["edges_with_motif"] == 4


def test_an_unmeasured_tf_is_judged_by_its_other_targets(inputs):
    net = write(inputs, "xx.csv", "source,target,weight\nXX,Up1,1\nXX,Up2,1\nXX,Down1,-1\nXX,Flat,1\nXX,Other5,1\n")
    table, summary = build(inputs, network=net)
    edges = table.set_index("target")
    assert not edges["tf_measured"].any() and summary["regulons_of_unmeasured_tfs"] == 1
    assert edges.loc[["Up1", "Up2", "Down1"], "score"].min() >= edges.loc["Flat", "score"]
    assert edges.loc[["Up1", "Up2"], "association"].min() > 1 > edges.loc["Flat", "association"]
    assert edges["sign"].to_dict() == {"Up1": 1, "Up2": 1, "Down1": -1, "Flat": 1, "Other5": 1}
    with pytest.raises(InputError, match="xx.csv: none of its TFs is a gene of the data"):
        build(inputs, network=net, settings={"keep_unmeasured_tfs": False})


def test_with_few_cells_support_alone_decides(tmp_path):
    folder = write_world(tmp_path, n_cells=30)
    table, summary = build(folder, motif_hits=folder / "hits.npz")
    assert summary["cells"] == 30 and summary["genes_without_variance"] == len(GENES)
    assert table["association"].isna().all() and (table["sign"] == 0).all()
    score = table.set_index("target")["score"]
    assert score["Up1"] > score["Up2"] == score["Down1"] > 0.1


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
        (
            "a.csv",
            ",peak_id,gene_short_name,T,U\n0,chr1_1_9,G,1.0,0\n1,chr1_20_29,H,0,0\n2,chr1_30_39,G,1,1\n",
            [("T", "G", 0.2, 0), ("T", "G", 0.2, 0), ("U", "G", 0.2, 0)],
        ),
    ],
)
def test_network_layouts(tmp_path, name, text, expected):
    edges, counts = network.read_network(write(tmp_path, name, text), ["A", "B", "C"])
    assert list(edges.itertuples(index=False, name=None)) == expected
    assert counts["network_edges_without_weight"] == 0


def test_a_base_grn_may_be_parquet(inputs):
    table = pd.DataFrame({"peak_id": ["p1", "p2", "p3"], "gene_short_name": ["Up1", "Up2", "Tf1"], "Tf1": [1.0, 1, 1]})
    table.to_parquet(inputs / "base.parquet")
    edges, summary = build(inputs, network=inputs / "base.parquet", settings={"min_score": 0.01})
    assert set(edges["target"]) == {"Up1", "Up2"} and summary["network"]["network_self_edges"] == 1


def test_bad_networks_are_named(inputs):
    with pytest.raises(InputError, match="wrong.csv: columns gene, peak are no known network layout"):
        build(inputs, network=write(inputs, "wrong.csv", "gene,peak\na,b\n"))
    with pytest.raises(
        InputError, match=r"fly.csv: no gene in common with the matrix \(network: w, ey; matrix: Tf1, Tf2, Up1\)"
    ):
        build(inputs, network=write(inputs, "fly.csv", "source,target\nhb,w\nhb,ey\n"))
    with pytest.raises(InputError, match="counts.csv: the columns of TFs hold values other than 0 and 1"):
        build(inputs, network=write(inputs, "counts.csv", "peak_id,gene_short_name,Tf1\np,Up1,7\n"))
    with pytest.raises(InputError, match="counts.csv: the columns of TFs hold values other than 0 and 1"):
        build(inputs, network=write(inputs, "counts.csv", "peak_id,gene_short_name,Tf1\np,Up1,yes\n"))
    with pytest.raises(InputError, match="empty.csv"):
        build(inputs, network=write(inputs, "empty.csv", ""))
    with pytest.raises(InputError, match="broken.parquet: not a readable table"):
        build(inputs, network=write(inputs, "broken.parquet", "no parquet"))
    with pytest.raises(InputError, match="missing.csv: no such file"):
        build(inputs, network=inputs / "missing.csv")
    with pytest.raises(InputError, match="neither motif hits nor a network"):
        build(inputs)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("cut.csv.gz", gzip.compress(b"source,target\n" + bytes(range(48, 90)) * 99)[:40], "not a readable table"),
        ("odd.csv.gz", gzip.compress(b"source,target\nT,G\n")[:12] + b"\xff" * 30, "not a readable table"),
        ("more.csv", b"source,target\nT,G,1\nT,H,1\n", "not a readable table.*line 2"),
        ("more.tsv", b"source\ttarget\nT\tG\nT\tH\t1\n", "not a readable table.*line 3"),
        ("twice.csv", b"source,target,source\nT,G,U\n", "has column 'source' twice"),
        ("twice.csv", b"source,target,Source\nT,G,U\n", "has column 'Source' twice"),
    ],
)
def test_damaged_networks_are_named(tmp_path, name, content, problem):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: {problem}"):
        network.read_network(tmp_path / name, ["A"])


def test_a_network_of_numbers_is_named(tmp_path):
    pd.DataFrame({"source": [7157, 1], "target": ["G", "H"]}).to_parquet(tmp_path / "ids.parquet")
    with pytest.raises(InputError, match="ids.parquet: holds 7157 where a gene symbol is expected"):
        network.read_network(tmp_path / "ids.parquet", ["A"])


def test_a_scan_of_other_peaks_is_named(inputs):
    other = motif_hits.MotifHits(
        sparse.csr_matrix(np.ones((1, 1))), *(np.array([name], object) for name in ("Tf1", "chr5-1-9", "MA1")), {}
    )
    motif_hits.write_hits(other, inputs / "other.npz")
    with pytest.raises(InputError, match=r"other.npz: none of its peaks \(like chr5-1-9\) is linked"):
        build(inputs, motif_hits=inputs / "other.npz")


def test_tf_list_limits_the_sources(inputs):
    net = write(inputs, "net.csv", "source,target\nTf1,Up1\nTf1,Up2\nTf2,Up1\nTf2,Up2\n")
    table, summary = build(inputs, network=net, tfs=write(inputs, "tfs.txt", "TF1\nOTHER\n"))
    assert set(table["source"]) == {"Tf1"} and summary["tfs_not_in_list"] == 1
    with pytest.raises(InputError, match="tfs.txt: none of its TFs"):
        build(inputs, network=net, tfs=write(inputs, "tfs.txt", "OTHER\n"))


def test_size_and_number_of_regulons_are_bounded(inputs):
    net = write(inputs, "net.csv", "source,target\nTf1,Up1\nTf1,Up2\nTf1,Down1\nTf2,Up1\nTf2,Flat\nYY,Up1\n")
    table, summary = build(inputs, network=net, settings={"max_targets": 2, "max_regulons": 1})
    assert len(table) == 2 and table["source"].nunique() == 1
    counts = {
        key: summary[key]
        for key in ("edges_beyond_max_targets", "regulons_below_min_targets", "regulons_beyond_max_regulons")
    }
    assert counts == {"edges_beyond_max_targets": 1, "regulons_below_min_targets": 1, "regulons_beyond_max_regulons": 1}
    _, strict = build(inputs, network=net, settings={"min_score": 0.5})
    kept = strict["edges"] + strict["edges_below_min_targets"] + strict["edges_below_min_score"]
    assert kept == strict["edges_supported"] == 6 and strict["edges_below_min_score"] > 0


def test_no_edge_at_all_is_an_error(inputs):
    with pytest.raises(InputError, match="hits.npz: no TF has 2 targets of score 0.1 or more"):
        build(inputs, motif_hits=inputs / "hits.npz", settings={"min_link_score": 1.0})


def test_same_input_same_bytes(inputs):
    net = write(inputs, "net.csv", "source,target\nTf1,Up1\nXX,Up2\nXX,Down1\n")
    for name in ("one", "two"):
        build(inputs, name, motif_hits=inputs / "hits.npz", network=net)
    for suffix in ("parquet", "gmt", "json", "tsv"):
        assert (inputs / f"one.{suffix}").read_bytes() == (inputs / f"two.{suffix}").read_bytes()


def test_signs_come_from_clear_association_first():
    z, curated = np.array([2.0, -2.0, 0.1, 0.1, np.nan]), np.array([-1, -1, -1, 0, 1])
    measured = np.ones(5, dtype=bool)
    assert regulons.edge_signs(z, curated, measured).tolist() == [1, -1, -1, 0, 1]
    assert regulons.edge_signs(z, curated, ~measured).tolist() == [-1, -1, -1, 0, 1]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "some", "sign"),
    [
        ("collectri_human.csv", ("MYC", "TERT"), 1),
        ("dorothea_mm.tsv.gz", ("Ahr", "Cyp1a1"), 1),
        ("trrust_rawdata.mouse.tsv", ("Trp53", "Cdkn1a"), None),
    ],
)
def test_published_networks_are_read(real_data, name, some, sign):
    edges, counts = network.read_network(real_data / "references/networks" / name, ["A", "B", "C"])
    found = edges[(edges["source"] == some[0]) & (edges["target"] == some[1])]
    assert len(found) >= 1 and (sign is None or found["sign"].iloc[0] == sign)
    assert edges["weight"].between(0, 1).all() and len(edges) > 5000
    assert counts["network_edges"] == len(edges) + sum(value for key, value in counts.items() if key != "network_edges")
