"""The scripts that judge regulons, from a small data set with known edges to their tables."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData
from scipy import sparse

import build_regulons
import evaluate_grn
import link_peaks
import resample_regulons
from regulonformer.config.schema import check_settings, read_yaml
from regulonformer.errors import InputError
from regulonformer.evaluate.metrics import COLUMNS
from regulonformer.io.store import write_mudata
from regulonformer.prior import motif_hits

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "workflow/schemas/config.schema.yaml"
SETTINGS = check_settings(read_yaml(ROOT / "config/config.yaml"), read_yaml(SCHEMA), "config.yaml")
GRN = SETTINGS["grn"] | {"bootstrap": 20, "draws": 2, "trees": False}
PRIOR = SETTINGS["regulons"] | {"null_peaks": 60, "window_bp": 60_000, "min_targets": 2}
N_TFS, N_GENES, TARGETS = 6, 90, 8
GENES = [f"Tf{i}" for i in range(N_TFS)] + [f"G{i}" for i in range(N_TFS, N_GENES)]
TRUE = [(GENES[tf], GENES[N_TFS + TARGETS * tf + i]) for tf in range(N_TFS) for i in range(TARGETS)]
IN_NETWORK = TRUE[::2]


def places() -> pd.DataFrame:
    """Genes 50 kb apart on two chromosomes."""
    number = np.arange(N_GENES)
    chrom, tss = np.where(number < N_GENES // 2, "chr1", "chr2"), 50_000 * (1 + number % (N_GENES // 2))
    return pd.DataFrame({"chrom": chrom, "tss": tss, "strand": "+", "gene_id": GENES}, index=GENES)


def write_world(folder: Path, n_cells: int, seed: int = 0) -> dict:
    """Each TF follows its own program and drives eight genes through a distal element; returns the files."""
    rng, table = np.random.default_rng(seed), places()
    programs = rng.normal(size=(n_cells, N_TFS + 2))
    effect = rng.normal(0, 0.2, (N_TFS + 2, N_GENES))
    effect[:N_TFS, :N_TFS] = np.eye(N_TFS)
    for tf, gene in TRUE:
        effect[GENES.index(tf), GENES.index(gene)] = 1
    rna = AnnData(sparse.csr_matrix(rng.poisson(4 * np.exp(0.6 * programs @ effect)).astype(np.int32)), var=table)
    rna.obsm["X_pca"] = programs
    # A promoter, and 10 kb downstream an element that opens with the gene if a TF drives it through this element.
    peaks = [
        f"{row.chrom}-{row.tss + shift}-{row.tss + shift + 500}" for shift in (0, 10_000) for row in table.itertuples()
    ]
    driven = np.isin(GENES, [gene for _, gene in TRUE])
    openness = np.column_stack([np.zeros((n_cells, N_GENES)), programs @ effect * driven])
    atac = AnnData(
        sparse.csr_matrix(rng.poisson(np.exp(0.7 * openness)).astype(np.int32)), var=pd.DataFrame(index=peaks)
    )
    data = MuData({"rna": rna, "atac": atac})
    data.obs["sample"] = data.obs["donor"] = [f"d{i % 3}" for i in range(n_cells)]
    write_mudata(data, folder / "multiome.h5mu")

    sites = (rng.random((N_TFS, len(peaks))) < 0.1) * rng.uniform(4, 5, (N_TFS, len(peaks)))
    for tf, gene in TRUE:
        sites[GENES.index(tf), N_GENES + GENES.index(gene)] = rng.uniform(5, 8)
    ids = np.array([f"MA{i}" for i in range(N_TFS)], object)
    names = np.array(GENES[:N_TFS], object), np.array(peaks, object)
    hits = motif_hits.MotifHits(sparse.csr_matrix(sites), *names, ids, {"motifs": N_TFS})
    motif_hits.write_hits(hits, folder / "hits.npz")
    elements = [peaks[N_GENES + GENES.index(gene)] for _, gene in TRUE]
    grn = pd.DataFrame(TRUE, columns=["source", "target"]).assign(sign=1, cre=elements)
    grn.to_csv(folder / "true_edges.tsv", sep="\t", index=False)
    grn.rename(columns={"target": "gene"})[["cre", "gene"]].to_csv(folder / "true_links.tsv", sep="\t", index=False)
    network = pd.DataFrame(IN_NETWORK, columns=["source", "target"])
    network.to_csv(folder / "network.csv", index=False)
    tested = pd.Series([*elements, *peaks[-20:]]).str.split("-", expand=True)
    tested = tested.set_axis(["chrom", "chromStart", "chromEnd"], axis=1)
    tested = tested.assign(measuredGeneSymbol=[gene for _, gene in TRUE] + GENES[-20:])
    tested["Regulated"] = ["TRUE"] * len(elements) + ["FALSE"] * 20
    tested.to_csv(folder / "crispr.tsv.gz", sep="\t", index=False)
    return prior_of(folder)


def prior_of(folder: Path) -> dict:
    """Links and regulons of the world, as the workflow makes them."""
    made = {"links": folder / "links.parquet", "regulons": folder / "regulons.parquet"}
    data, out = folder / "multiome.h5mu", {name: folder / f"edges.{name}" for name in ("gmt", "summary", "unmapped")}
    link_peaks.main(multiome=data, settings=PRIOR, output=made["links"], summary=folder / "links.json")
    build_regulons.main(multiome=data, settings=PRIOR, motif_hits=folder / "hits.npz", **made, **out)
    return made


def resample(folder: Path, made: dict, name: str) -> dict:
    out = {"output": folder / f"{name}.tsv", "output_folds": folder / f"{name}.parquet"}
    inputs = dict.fromkeys(("fasta", "tss", "motif_hits", "network", "tfs", "aliases"))
    inputs["motif_hits"] = folder / "hits.npz"
    world = {"multiome": folder / "multiome.h5mu", "regulons": made["regulons"]}
    resample_regulons.main(**world, inputs=inputs, settings=GRN, prior=PRIOR, **out)
    return {"stability": out["output"], "fold_regulons": out["output_folds"]}


def judge(folder: Path, made: dict, name: str, **more) -> tuple[Path, Path]:
    out = folder / f"{name}.tsv", folder / f"{name}_reliability.tsv"
    standards = {"truth_grn": folder / "true_edges.tsv", "truth_links": folder / "true_links.tsv"}
    standards |= {"network": folder / "network.csv", "elements": folder / "crispr.tsv.gz"}
    evaluate_grn.main(
        multiome=folder / "multiome.h5mu", motif_hits=folder / "hits.npz", settings=GRN, prior=PRIOR, run="toy",
        output=out[0], output_reliability=out[1], **made, **(standards | more),
    )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    made = write_world(folder, 150)
    return folder, made | resample(folder, made, "stability")


@pytest.fixture(scope="module")
def judged(world):
    return tuple(pd.read_csv(path, sep="\t", dtype={"seed": str}) for path in judge(*world, "grn"))


def value(scores, dataset, method=evaluate_grn.OURS, metric="auprc", column="value"):
    rows = scores[(scores["dataset"] == f"toy: {dataset}") & (scores["method"] == method)]
    return rows[(rows["metric"] == metric) & (rows["seed"] == "all")][column].item()


def test_regulons_are_found_and_stand_beside_simple_methods(judged):
    scores = judged[0]
    assert list(scores.columns) == list(COLUMNS)
    edges = "TF-gene, simulated truth"
    assert value(scores, edges) > 0.8 > 0.2 > value(scores, edges, "regulons, shuffled")
    methods = {"Pearson", "Spearman", "motif only", "link only", "distance only", "network only", "random"}
    assert methods <= set(scores.loc[scores["dataset"] == f"toy: {edges}", "method"])
    assert value(scores, edges, metric="sign_accuracy") == 1
    assert value(scores, "CRE-gene, simulated truth") > value(scores, "CRE-gene, simulated truth", "distance only")
    assert value(scores, "expression in donors not fitted", metric="r2") > 0.1


def test_pairs_of_the_network_file_prove_nothing(judged):
    """The network holds half of the truth: without its pairs it ranks as by chance, and ours by what the data say."""
    scores, dataset = judged[0], "TF-gene, simulated truth without pairs of the network file"
    assert value(scores, "TF-gene, simulated truth", "network only") > 0.4
    chance = value(scores, dataset, "network only")
    # 24 of the 48 edges are left, and no pair of the network is a candidate; all genes left have one true TF of six.
    assert chance == pytest.approx(24 / (24 * 6))
    assert value(scores, dataset) > 3 * chance


def test_the_crispr_benchmark_is_read_as_it_comes(judged):
    scores, dataset = judged[0], "CRE-gene, tested elements"
    assert value(scores, dataset) > value(scores, dataset, "random") > 0.5  # 48 of 68 are true


def test_reliability_says_what_a_score_is_worth(judged):
    scores, table = judged
    assert list(table.columns) == [
        *("dataset", "score_low", "score_high", "pairs", "mean_score", "share_true", "ci_low", "ci_high")
    ]
    for dataset, rows in table.groupby("dataset"):
        assert rows["mean_score"].between(rows["score_low"], rows["score_high"]).all()
        assert rows["share_true"].between(0, 1).all() and (rows["ci_low"] <= rows["ci_high"]).all()
        gap = np.average((rows["mean_score"] - rows["share_true"]).abs(), weights=rows["pairs"])
        assert value(scores, dataset.removeprefix("toy: "), metric="ece") == pytest.approx(gap)
    links = table[table["dataset"] == "toy: CRE-gene, simulated truth, no promoters"]
    assert links["share_true"].iloc[-1] > 0.5 > links["share_true"].iloc[0]


def test_stability_and_regulons_without_each_fold(world):
    _, made = world
    draws, folds = pd.read_csv(made["stability"], sep="\t"), pd.read_parquet(made["fold_regulons"])
    assert list(draws.columns) == ["method", "kind", "draw_a", "draw_b", "jaccard", "rank_correlation"]
    assert sorted(zip(draws["method"], draws["kind"], strict=True)) == [
        *(("Pearson", "cells"), ("regulonformer (regulons)", "cells"), ("regulonformer (regulons)", "seeds"))
    ]
    assert draws["jaccard"].between(0.2, 1).all()
    assert list(folds.columns) == ["source", "target", "score", "fold"] and set(folds["fold"]) == {0, 1, 2}


def test_same_seed_same_bytes(world, judged):
    folder, made = world
    again = resample(folder, made, "again")
    assert all(again[name].read_bytes() == made[name].read_bytes() for name in again)
    first = [folder / "grn.tsv", folder / "grn_reliability.tsv"]
    assert [path.read_bytes() for path in judge(folder, made, "twice")] == [path.read_bytes() for path in first]


def test_fewer_than_fifty_cells_leave_distance_and_say_so(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        made = write_world(tmp_path, 40)
    assert "40 paired cells" in caplog.text and "distance alone" in caplog.text
    scores = pd.read_csv(judge(tmp_path, made | resample(tmp_path, made, "few"), "grn")[0], sep="\t")
    links = "CRE-gene, simulated truth"
    assert (pd.read_parquet(made["links"])["p_value"] == 1).all()
    # Nothing correlates: all pairs are tied, and the ranking is worth the share of true ones.
    n_pairs = len(pd.read_parquet(made["links"]))
    assert value(scores, links, "|correlation|") == pytest.approx(len(TRUE) / n_pairs)


def test_a_gold_standard_of_another_species_is_told(world, tmp_path):
    folder, made = world
    (tmp_path / "gold.csv").write_text("source,target\nabc-1,unc-86\n")
    with pytest.raises(InputError, match="no gene in common"):
        judge(folder, made, "other", gold=tmp_path / "gold.csv")
