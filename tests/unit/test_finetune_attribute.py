"""Fine-tuning and attribution as the rules run them, on a corpus of 120 cells in which the markers are known."""

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import attribute_task
import finetune_task
import rank_drivers
from regulonformer.adapt.fit import predict
from regulonformer.adapt.lora import load_classifier
from regulonformer.adapt.reader import Reader
from regulonformer.corpus.shards import write_counts
from regulonformer.errors import InputError
from regulonformer.io.store import write_parquet, write_tsv
from regulonformer.model.batch import RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.encoder import Regulonformer
from regulonformer.pretrained import load_model, save_model

N_GENES, N_CELLS = 30, 120
SETTINGS = {"epochs": 2, "rank": 2, "linear_components": 5, "batch_cells": 16}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    state = rng.integers(3, size=N_CELLS)
    marker = np.arange(N_GENES)[None] // 4 == state[:, None]  # genes 0-3 mark state 0, 4-7 state 1, 8-11 state 2
    rna = rng.poisson(np.where(marker, 6.0, 1.0))
    atac = rng.poisson(np.full((N_CELLS, N_GENES), 0.5))
    atac[:, 20] = rng.poisson(np.where(state == 1, 6.0, 0.2))  # accessibility of gene 20 marks state 1
    write_counts(folder / "shards", [(sparse.csr_matrix(rna), sparse.csr_matrix(atac))], N_GENES)
    cells = pd.DataFrame({"sample": np.repeat(["s1", "s2", "s3", "s4"], 30), "donor": ""})
    cells["state"] = np.array(["A", "B", "C"])[state]
    cells.loc[7, "state"] = ""
    cells["has_rna"], cells["has_atac"] = True, True
    cells["n_counts_rna"], cells["n_counts_atac"] = rna.sum(1), atac.sum(1)
    cells["n_active"] = ((rna > 0) | (atac > 0)).sum(1)
    cells.index = pd.Index([f"cell{i:03d}" for i in range(N_CELLS)], name="cell")
    write_parquet(cells, folder / "cells.parquet")
    vocabulary = pd.DataFrame({"token": np.arange(N_GENES), "gene_id": "", "symbol": [f"g{i}" for i in range(N_GENES)]})
    vocabulary = vocabulary.assign(is_tf=vocabulary["token"] < 3, chrom="", tss="")
    write_tsv(vocabulary, folder / "vocabulary.tsv")
    torch.manual_seed(0)
    edges = RegulonEdges(torch.tensor([0, 0, 1]), torch.tensor([0, 9, 1]), torch.ones(3), torch.tensor([0, 1]))
    config = ModelConfig(width=16, heads=2, layers=["regulon", "explorer"], slots=4)
    save_model(
        folder / "model",
        Regulonformer(config, N_GENES, edges, torch.zeros(N_GENES, 2)),
        vocabulary,
        {"regulons": ["g0", "g1"]},
    )
    return folder


def finetune(world, fold, seed=0, name="first", **changes):
    folder = world / name / f"fold{fold}_seed{seed}"
    folder.mkdir(parents=True)
    arguments = dict(
        model=world / "model",
        shards=world / "shards",
        cells=world / "cells.parquet",
        vocabulary=world / "vocabulary.tsv",
        settings=SETTINGS,
        task={"column": "state"},
        fold=fold,
        seed=seed,
        adapter=folder,
        predictions=folder / "predictions.parquet",
        group="auto",
        folds=2,
        metrics=folder / "metrics.tsv",
        run=folder / "run.json",
    )
    finetune_task.main(**arguments | changes)
    return folder


@pytest.fixture(scope="module")
def adapters(world):
    return [finetune(world, fold) for fold in (0, 1)]


def test_every_labelled_cell_is_predicted_once_by_an_adapter_that_never_saw_its_library(world, adapters):
    cells = pd.read_parquet(world / "cells.parquet")
    table = pd.concat(pd.read_parquet(folder / "predictions.parquet") for folder in adapters)
    assert sorted(table["cell"]) == sorted(cells.index[cells["state"] != ""])
    assert (table["truth"].to_numpy() == cells.loc[table["cell"], "state"].to_numpy()).all()
    assert (table["sample"].to_numpy() == cells.loc[table["cell"], "sample"].to_numpy()).all()
    assert table.groupby("sample")["fold"].nunique().eq(1).all()
    columns = ["cell", "sample", "donor", "fold", "seed", "truth", "predicted", "p:A", "p:B", "p:C"]
    assert list(table) == columns
    probabilities = table[columns[-3:]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert (np.array(list("ABC"))[probabilities.argmax(1)] == table["predicted"]).all()
    assert (table["truth"] == table["predicted"]).mean() > 0.85


def test_task_file_says_what_the_adapter_is(world, adapters):
    task = json.loads((adapters[1] / "task.json").read_text())
    assert task["base_hash"] == load_model(world / "model").hash
    assert task["classes"] == ["A", "B", "C"] and task["unlabelled_cells"] == 1
    assert task["split"]["held_out"] == "sample" and task["split"]["fold"] == 1
    assert 0 < task["parameters"]["trainable_share"] < 1
    written = {path.name for path in adapters[0].iterdir()}
    expected = {"adapter_config.json", "adapter_model.safetensors", "task.json", "predictions.parquet", "metrics.tsv"}
    assert written == expected | {"run.json"}
    assert list(pd.read_csv(adapters[0] / "metrics.tsv", sep="\t")) == ["epoch", "split", "loss"]


def test_same_seed_same_bytes(world, adapters):
    again = finetune(world, 0, name="again")
    for name in ("predictions.parquet", "metrics.tsv", "adapter_model.safetensors", "adapter_config.json", "task.json"):
        assert (again / name).read_bytes() == (adapters[0] / name).read_bytes(), name


def attribute(world, adapters, name, **changes):
    arguments = dict(
        model=world / "model",
        shards=world / "shards",
        cells=world / "cells.parquet",
        vocabulary=world / "vocabulary.tsv",
        adapters=adapters,
        settings={"cells_per_class": 8},
        attribution=world / f"{name}.parquet",
        completeness_json=world / f"{name}.json",
        explained=world / f"{name}.h5ad",
        stability=world / f"{name}.stability.tsv",
    )
    attribute_task.main(**arguments | changes)
    return pd.read_parquet(world / f"{name}.parquet"), json.loads((world / f"{name}.json").read_text())


def test_markers_are_found_in_their_modality(world, adapters):
    table, completeness = attribute(world, adapters, "attribution")
    columns = ["class", "gene", "modality", "attribution", "std", "n_cells", "fold", "specificity"]
    assert list(table) == columns and set(table["fold"]) == {0, 1}
    mean = table.groupby(["class", "modality", "gene"])["specificity"].mean()
    for number, name in enumerate("ABC"):
        top = mean[name, "rna"].nlargest(4).index
        assert len(set(top) & {f"g{g}" for g in range(4 * number, 4 * number + 4)}) >= 3, name
    assert mean["B", "atac"].idxmax() == "g20" and mean["B", "rna"].idxmax() != "g20"
    assert completeness["overall"]["cells"] == table.groupby(["fold", "class"])["n_cells"].first().sum()
    assert completeness["overall"]["relative_error"] < 0.05


def test_a_second_seed_tells_stability_and_drivers_pass_the_null(world, adapters):
    both = [*adapters, *(finetune(world, fold, seed=1, name="second") for fold in (0, 1))]
    table, completeness = attribute(world, both, "both")
    stability = pd.read_csv(world / "both.stability.tsv", sep="\t").set_index(["class", "modality", "between"])
    assert stability.loc[("A", "rna", "seeds"), "spearman"] > stability.loc[("A", "rna", "folds"), "spearman"] > 0
    cells = anndata.read_h5ad(world / "both.h5ad")
    assert completeness["overall"]["cells"] == 2 * len(cells) and cells.obs_names.is_unique
    # What is tabulated is the mean over the cells, which are means over the seeds.
    of_fold = cells[(cells.obs["class"] == "B") & (cells.obs["fold"] == 1)]
    row = table.query("`class` == 'B' and fold == 1 and gene == 'g20' and modality == 'atac'").iloc[0]
    assert row["attribution"] == pytest.approx(of_fold[:, "g20"].layers["atac"].mean(), rel=1e-5)
    assert row["n_cells"] == len(of_fold)
    files = rank(world, "both")
    drivers = pd.read_csv(files["drivers"], sep="\t")
    called = drivers[(drivers["fdr"] <= 0.05) & (drivers["attribution"] > 0)]
    found = called.groupby(["class", "modality"])["gene"].agg(set)
    assert "g20" in found["B", "atac"] and len(found["A", "rna"] & {"g0", "g1", "g2", "g3"}) >= 3
    assert drivers.groupby("class")["is_marker"].sum().to_dict() == {"A": 4, "B": 4, "C": 4}  # in both modalities
    enriched = pd.read_csv(files["enrichment"], sep="\t").query("kind == 'markers'")
    assert enriched.loc[enriched["class"] == enriched["set"], "p"].max() < enriched["p"].median()
    tfs = pd.read_csv(files["tfs"], sep="\t")
    assert tfs.loc[(tfs["class"] == "A") & (tfs["rank"] == 1), "tf"].item() in {"g0", "g1", "g2"}
    assert set(pd.read_csv(files["influence"], sep="\t")["regulon"]) == {"g0", "g1"}
    assert json.loads(files["agree"].read_text())["tfs"] == 2


def rank(world, name):
    files = {key: world / f"{name}.{key}" for key in ("drivers", "tfs", "influence", "agree", "enrichment")}
    markers = pd.DataFrame({"class": list("AABBCC"), "gene": ["g0", "g1", "g4", "g5", "g8", "g9"]})
    write_tsv(markers, world / "markers.tsv")
    edges = pd.DataFrame({"source": ["g0", "g1"], "target": ["g9", "g2"], "score": 1.0, "sign": [-1, 1]})
    write_parquet(edges, world / "regulons.parquet")
    settings = {"permutations": 200, "rows": 50, "top": 10, "seed": 0}
    rank_drivers.main(
        explained=world / f"{name}.h5ad",
        vocabulary=world / "vocabulary.tsv",
        regulons=world / "regulons.parquet",
        settings=settings,
        markers=world / "markers.tsv",
        **files,
    )
    return files


def test_adapter_of_another_model_is_refused(world, adapters, tmp_path):
    base = load_model(world / "model")
    with torch.no_grad():
        base.model.cell_token += 1
    save_model(tmp_path / "other", base.model, base.vocabulary, base.config)
    with pytest.raises(InputError, match="adapter of base model"):
        attribute(world, adapters, "other", model=tmp_path / "other")


def test_corpus_of_another_vocabulary_is_refused(world, tmp_path):
    vocabulary = pd.read_csv(world / "vocabulary.tsv", sep="\t")
    vocabulary.loc[5, "symbol"] = "other"
    write_tsv(vocabulary, tmp_path / "vocabulary.tsv")
    with pytest.raises(InputError, match="not the 30 of the model"):
        finetune(world, 0, name="other_vocabulary", vocabulary=Path(tmp_path / "vocabulary.tsv"))


def test_unknown_setting_is_refused(world):
    with pytest.raises(TypeError, match="nope"):
        finetune(world, 0, name="unknown", settings={"nope": 1})


def test_reloaded_adapter_predicts_what_was_written(world, adapters):
    base = load_model(world / "model")
    reader = Reader(world / "shards", world / "cells.parquet", world / "vocabulary.tsv", base.vocabulary)
    classifier, task = load_classifier(base.model, adapters[0], base.hash)
    written = pd.read_parquet(adapters[0] / "predictions.parquet")
    rows = reader.cells.index.get_indexer(written["cell"])
    again = predict(classifier, reader.read, [rows])
    np.testing.assert_allclose(again, written[[f"p:{name}" for name in task["classes"]]], atol=1e-5)
