"""Tasks as the rules run them on a simulated tree of cell states: a number, labels for unlabelled cells, and fate."""

import json

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.decomposition import PCA

import finetune_task
import predict_labels
from regulonformer.adapt.lora import load_classifier
from regulonformer.adapt.reader import Reader
from regulonformer.adapt.regression import NumberHead, load_regressor, predict_numbers
from regulonformer.corpus.shards import write_counts
from regulonformer.errors import InputError
from regulonformer.io.store import write_mudata, write_parquet, write_tsv
from regulonformer.model.batch import RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.encoder import Regulonformer
from regulonformer.pretrained import load_model, save_model
from regulonformer.simulate.lineage import STATE_NAMES, draw_positions, draw_tfs, programs

N_GENES, N_CELLS = 42, 360
SETTINGS = {"epochs": 1, "rank": 2, "linear_components": 8, "batch_cells": 32}
STATE = {"column": "state", "type": "classification", "train_on": None, "predict_on": None, "error_rate": 0.05}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Cells of three donors on the tree of the demo, each gene following one of its TFs."""
    folder = tmp_path_factory.mktemp("tree")
    rng = np.random.default_rng(0)
    tfs, places = draw_tfs(rng, [f"g{i}" for i in range(N_GENES)]), draw_positions(rng, N_CELLS)
    activity = programs(places, tfs)
    rna, atac = rng.poisson(0.3 + 12 * activity), rng.poisson(0.2 + 3 * activity)
    write_counts(folder / "shards", [(sparse.csr_matrix(rna), sparse.csr_matrix(atac))], N_GENES)
    cells = pd.DataFrame({"sample": np.repeat(["d1", "d2", "d3"], N_CELLS // 3)})
    cells["donor"], cells["state"] = cells["sample"], np.array(STATE_NAMES)[places["state"]]
    cells["time"] = places["pseudotime"].map("{:.4f}".format).to_numpy()
    cells["has_rna"] = cells["has_atac"] = True
    cells["n_counts_rna"], cells["n_counts_atac"] = rna.sum(1), atac.sum(1)
    cells["n_active"] = ((rna > 0) | (atac > 0)).sum(1)
    cells.index = pd.Index([f"cell{i:03d}" for i in range(N_CELLS)], name="cell")
    write_parquet(cells, folder / "cells.parquet")
    modality = ad.AnnData(sparse.csr_matrix(rna), obs=pd.DataFrame(index=cells.index))
    modality.obsm["X_pca"] = PCA(10, random_state=0).fit_transform(np.log1p(rna))
    write_mudata(md.MuData({"rna": modality}), folder / "multiome.h5mu")
    vocabulary = pd.DataFrame({"token": np.arange(N_GENES), "gene_id": "", "symbol": tfs["symbol"]})
    vocabulary = vocabulary.assign(is_tf=vocabulary["token"] < 3, chrom="", tss="")
    write_tsv(vocabulary, folder / "vocabulary.tsv")
    torch.manual_seed(0)
    edges = RegulonEdges(torch.tensor([0, 0, 1]), torch.tensor([0, 9, 1]), torch.ones(3), torch.tensor([0, 1]))
    config = ModelConfig(width=16, heads=2, layers=["regulon", "explorer"], slots=4)
    model = Regulonformer(config, N_GENES, edges, torch.zeros(N_GENES, 2))
    save_model(folder / "model", model, vocabulary, {"regulons": ["g0", "g1"]})
    return folder


def corpus(world, cells="cells.parquet"):
    files = {name: world / name for name in ("model", "shards")}
    return files | {"cells": world / cells, "vocabulary": world / "vocabulary.tsv"}


def finetune(world, name, task, fold, folds=3, cells="cells.parquet", settings=SETTINGS):
    folder = world / name / f"fold{fold}"
    folder.mkdir(parents=True)
    finetune_task.main(
        **corpus(world, cells),
        **{"settings": settings, "task": task, "group": "donor", "folds": folds, "fold": fold, "seed": 0},
        **{"adapter": folder, "predictions": folder / "predictions.parquet", "metrics": folder / "metrics.tsv"},
        run=folder / "run.json",
    )
    return folder


def label_cells(world, name, task, folds=3, cells="cells.parquet"):
    """Fine-tune all folds, name the cells without a label; labels by cell with the truth, and the summary."""
    adapters = [finetune(world, name, task, fold, folds, cells) for fold in range(folds)]
    labels, summary = world / name / "labels.parquet", world / name / "labels.json"
    files = {"multiome": world / "multiome.h5mu", "adapters": adapters, "labels": labels, "summary": summary}
    predict_labels.main(**corpus(world, cells), **files, task=task)
    table = pd.read_parquet(labels).set_index("cell")
    return table.assign(truth=pd.read_parquet(world / "cells.parquet")["state"]), json.loads(summary.read_text())


@pytest.fixture(scope="module")
def timed(world):
    return finetune(world, "time", {"column": "time", "type": "regression"}, 0)


def test_a_number_is_predicted_in_its_own_units(world, timed):
    table = pd.read_parquet(timed / "predictions.parquet")
    assert list(table) == ["cell", "sample", "donor", "fold", "seed", "truth", "predicted"]
    assert table["donor"].nunique() == 1 and table["truth"].between(0, 1).all()
    assert np.corrcoef(table["truth"], table["predicted"])[0, 1] > 0.9
    assert np.sqrt(((table["truth"] - table["predicted"]) ** 2).mean()) < 0.5 * table["truth"].std()
    task = json.loads((timed / "task.json").read_text())
    assert task["classes"] == [] and 0 < task["mean"] < 1 and task["split"]["held_out"] == "donor"


def test_a_saved_regression_predicts_the_same(world, timed):
    base = load_model(world / "model")
    regressor, task = load_regressor(base.model, timed, base.hash)
    table = pd.read_parquet(timed / "predictions.parquet")
    files = {key: path for key, path in corpus(world).items() if key != "model"}
    reader = Reader(*files.values(), base.vocabulary)
    rows = reader.cells.index.get_indexer(table["cell"])
    numbers = task["mean"] + task["deviation"] * predict_numbers(regressor, reader.read, [rows])
    np.testing.assert_allclose(numbers, table["predicted"], atol=1e-5)
    with pytest.raises(InputError, match="adapter of base model"):
        load_regressor(base.model, timed, "0" * 64)


def test_the_same_seed_gives_the_same_numbers(world, timed):
    again = finetune(world, "again", {"column": "time", "type": "regression"}, 0)
    assert (again / "predictions.parquet").read_bytes() == (timed / "predictions.parquet").read_bytes()


def test_a_training_cell_does_not_recall_itself():
    head = NumberHead(0, 2, 0.0, 3)
    cell_BD, number_B = torch.tensor([[0.0, 0.0], [0.1, 0.0], [5.0, 0.0]]), torch.tensor([1.0, 2.0, 9.0])
    head.remember(cell_BD, number_B)
    others = head.recall_of_others(cell_BD)
    assert abs(others[0] - 2) < 0.5 and abs(others[1] - 1) < 0.5  # each recalls its neighbour
    assert head.recall(head._squares(cell_BD[2:]))[0] > 8  # and a new cell at its place the cell itself


def test_a_training_cell_that_moved_a_little_does_not_recall_itself_either():
    head = NumberHead(0, 1, 0.0, 3)
    torch.nn.init.ones_(head.linear.weight)  # the head gives the recalled number
    head.remember(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([1.0, 2.0, 9.0]))
    moved_BD, no_features_BK = torch.tensor([[2.01]]), torch.zeros(1, 0)
    assert head.eval()(no_features_BK, moved_BD).item() > 5
    assert head.train()(no_features_BK, moved_BD).item() == pytest.approx(2, abs=0.5)


def test_a_library_without_labels_is_labelled_and_a_class_left_out_becomes_unknown(world):
    cells = pd.read_parquet(world / "cells.parquet")
    cells.loc[(cells["donor"] == "d3") | (cells["state"] == "b_terminal"), "state"] = ""
    write_parquet(cells, world / "transfer.parquet")
    table, summary = label_cells(world, "transfer", STATE, folds=2, cells="transfer.parquet")
    assert set(table.index) == set(cells.index[cells["state"] == ""])
    new, known = table[table["truth"] == "b_terminal"], table[table["truth"] != "b_terminal"]
    assert (new["predicted"] == "unknown").mean() > 0.75 > (known["predicted"] == "unknown").mean()
    assert (new["reason"] == "new").mean() > 3 * (known["reason"] == "new").mean()
    named = known[known["predicted"] != "unknown"]
    assert len(named) > 40 and (named["predicted"] == named["truth"]).mean() > 0.9
    # Softmax alone is often sure of the class that it never saw: that is what novelty is for.
    assert (new["confidence"] >= summary["confidence_threshold"]).mean() > 0.2
    assert summary["new"] + summary["uncertain"] == (table["predicted"] == "unknown").sum()
    assert summary["held_out_errors_if_labelled"] <= 0.05
    assert set(summary["noticed_if_new"]) <= set(cells["state"]) - {"", "b_terminal"}


def test_fate_of_cells_on_their_way_is_that_of_the_simulated_tree(world):
    filters = {
        "train_on": {"column": "state", "values": ["a_terminal", "b_terminal"]},
        "predict_on": {"column": "state", "values": ["a_intermediate", "b_intermediate", "progenitor"]},
    }
    table, summary = label_cells(world, "fate", STATE | filters)
    assert set(table["truth"]) == set(filters["predict_on"]["values"]) and summary["new"] == 0
    assert [name for name in table if name.startswith("p:")] == ["p:a_terminal", "p:b_terminal"]
    behind = table[table["truth"] != "progenitor"]
    right = behind["nearest"].str[0] == behind["truth"].str[0]
    named = behind["predicted"] != "unknown"
    assert right.mean() > 0.85 and right[named].mean() > 0.95 and named.mean() > 0.3
    # A cell before the fork is less sure of its branch than one behind it.
    sure = table["confidence"].groupby(table["truth"] == "progenitor").mean()
    assert sure[True] < sure[False] - 0.05
    held_out = pd.read_parquet(world / "fate" / "fold0" / "predictions.parquet")
    assert set(held_out["truth"]) == {"a_terminal", "b_terminal"}


def test_a_task_whose_cells_all_have_a_label_has_nothing_to_predict(world):
    with pytest.raises(InputError, match="every cell has a label.*never"):
        files = {"multiome": None, "adapters": [], "labels": None, "summary": None}
        predict_labels.main(**corpus(world), **files, task=STATE)


def test_adapter_of_another_base_model_is_refused(world):
    folder = finetune(world, "other", STATE, 0, settings=SETTINGS | {"epochs": 0})
    with pytest.raises(InputError, match="adapter of base model.*Use the model that it was trained on"):
        load_classifier(load_model(world / "model").model, folder, "0" * 64)
