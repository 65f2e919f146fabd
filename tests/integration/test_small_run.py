"""The whole line on the small demo: every promised file is there, readable, and says what it should."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest

from regulonformer.io.store import read_mudata

STATISTICS = ["method", "dataset", "fold", "seed", "metric", "value", "ci_low", "ci_high"]


@pytest.fixture(scope="module")
def results(small_run):
    return small_run.root / "results" / "small"


def test_a_second_run_has_nothing_to_do(small_run):
    done = small_run.snakemake("--configfile", "tests/config/small.yaml")
    assert "Nothing to be done" in done.stdout


def test_multiome_is_one_set_of_cells(results):
    data = read_mudata(results / "features/multiome.h5mu")
    assert set(data.mod) == {"rna", "atac", "accessibility"}
    assert data["rna"].obs_names.equals(data["atac"].obs_names)
    assert data["rna"].var_names.equals(data["accessibility"].var_names)
    assert set(data.obs["sample"]) == {"donor1", "donor2", "donor3"}


def test_no_cell_goes_without_a_reason(results):
    for verdict in sorted(results.glob("ingest/*.qc.json")):
        qc = json.loads(verdict.read_text())
        cells = pd.read_parquet(verdict.with_name(f"{qc['sample']}.cells.parquet"))
        assert len(cells) == qc["cells_in"]
        assert (cells["reason"] == "").sum() == qc["cells_kept"]
        assert qc["cells_kept"] < qc["cells_in"], "the simulator makes dying cells and doublets"


def test_regulons_read_as_an_edge_list(results):
    edges = pd.read_parquet(results / "regulons/regulons.parquet")
    assert list(edges.columns[:4]) == ["source", "target", "cre", "score"]
    assert edges["score"].between(0, 1).all()
    assert edges["cre"].str.fullmatch(r"chr\w+-\d+-\d+").all()


def test_model_and_record_of_the_run(results):
    folder = results / "pretrain/regulon"
    record = json.loads((folder / "run.json").read_text())
    assert {"config", "seed", "packages", "inputs", "wall_seconds", "peak_memory_gb"} <= record.keys()
    assert all(len(digest) == 64 for digest in record["inputs"].values())
    import regulonformer

    model = regulonformer.load(folder)
    assert len(model.vocabulary) == len(pd.read_csv(folder / "vocabulary.tsv", sep="\t"))


def test_every_cell_is_embedded(results):
    embedding = anndata.read_h5ad(results / "embed/regulon.h5ad")
    assert embedding.n_obs == read_mudata(results / "features/multiome.h5mu").n_obs
    assert {"X_umap", "X_regulons"} <= set(embedding.obsm)


def test_a_users_mudata_embeds_as_its_corpus_does(results):
    import regulonformer

    ours = anndata.read_h5ad(results / "embed/regulon.h5ad")
    model = regulonformer.load(results / "pretrain/regulon")
    cells = model.embed(read_mudata(results / "features/multiome.h5mu"), device="cpu")[ours.obs_names]
    np.testing.assert_allclose(cells.X, ours.X, atol=1e-6)
    np.testing.assert_allclose(cells.obsm["X_regulons"], ours.obsm["X_regulons"], atol=1e-6)


def test_every_labelled_cell_is_predicted_once_by_a_model_that_never_saw_its_donor(results):
    files = sorted(results.glob("finetune/state/regulon/*/predictions.parquet"))
    assert len(files) == 3
    predictions = pd.concat(map(pd.read_parquet, files))
    assert predictions["cell"].is_unique
    assert predictions.groupby("donor")["fold"].nunique().eq(1).all()
    labels = read_mudata(results / "features/multiome.h5mu").obs["state"]
    assert len(predictions) == (labels != "").sum()


def test_score_table_has_baselines_and_intervals(results):
    table = pd.read_csv(results / "evaluate/annotation.tsv", sep="\t")
    assert list(table.columns) == [*STATISTICS, "group_low", "group_high"]
    pooled = table[(table["fold"] == "pooled") & (table["metric"] == "macro_f1")]
    assert pooled["method"].nunique() >= 5
    assert (pooled["ci_low"] <= pooled["value"]).all()
    assert (pooled["value"] <= pooled["ci_high"]).all()


def test_attribution_is_complete_per_modality(results):
    table = pd.read_parquet(results / "explain/state/attribution.parquet")
    assert set(table["modality"]) == {"rna", "atac"}
    assert table["attribution"].abs().sum() > 0
    errors = json.loads((results / "explain/state/completeness.json").read_text())
    assert errors["overall"]["relative_error"] < 0.05


def test_driver_tables_name_genes_and_tfs_of_every_class(results):
    attribution = pd.read_parquet(results / "explain/state/attribution.parquet")
    tables = {name: pd.read_csv(results / f"explain/state/{name}.tsv", sep="\t") for name in ("drivers", "driver_tfs")}
    for table in tables.values():
        assert set(table["class"]) == set(attribution["class"])
        assert table["p"].between(0, 1).all() and (table["fdr"] >= table["p"]).all()
    scores = pd.read_csv(results / "evaluate/drivers.tsv", sep="\t")
    assert set(STATISTICS) <= set(scores) and scores["method"].nunique() >= 6


def test_logs_of_every_rule_were_kept(results):
    assert {path.stem for path in (results / "logs").iterdir()} >= {"validate_inputs", "merge_samples", "write_report"}
