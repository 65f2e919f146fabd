"""Variants of fine-tuning and learning from few labels, as the rules run them, on 120 cells with known markers."""

from pathlib import Path

import mudata as md
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from anndata import AnnData
from scipy import sparse

import ablate_task
import learn_from_few
import learning_curve
from regulonformer.adapt.one_modality import OneModality
from regulonformer.adapt.reader import Reader
from regulonformer.corpus.shards import Corpus, write_counts
from regulonformer.errors import InputError
from regulonformer.evaluate.variants import VARIANTS, variant_encoder
from regulonformer.io.store import write_mudata, write_parquet, write_tsv
from regulonformer.model.batch import MISSING
from regulonformer.pretrained import save_model

ROOT = Path(__file__).parents[2]
N_GENES, N_CELLS = 30, 120
FINETUNE = {"epochs": 1, "rank": 2, "linear_components": 5, "batch_cells": 32}
EVALUATE = {"bootstrap": 50, "pca_components": 5, "n_top_genes": 50, "n_top_peaks": 50}
PRETRAIN = {
    "recipe": "regulon",
    "recipe_settings": yaml.safe_load((ROOT / "config/recipes/regulon.yaml").read_text()),
    "model": {"width": 16, "slots": 4, "layers": ["regulon", "explorer"]},
    "holdout": "auto",
    "steps": 3,
    "batch_cells": 16,
    "validate_steps": 3,
    "checkpoint_steps": 3,
    "seed": 0,
}
OURS = "regulonformer (regulon)"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """RNA tells state A from the others, accessibility tells B from C."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    state = rng.integers(3, size=N_CELLS)
    genes = np.arange(N_GENES)[None]
    rna = rng.poisson(np.where((genes < 6) & (state == 0)[:, None], 8.0, 1.0))
    opened = ((genes // 6 == 2) & (state == 1)[:, None]) | ((genes // 6 == 3) & (state == 2)[:, None])
    atac = rng.poisson(np.where(opened, 6.0, 1.0))
    rna, atac = sparse.csr_matrix(rna.astype(np.int32)), sparse.csr_matrix(atac.astype(np.int32))
    write_counts(folder / "shards", [(rna, atac)], N_GENES)
    cells = pd.DataFrame({"sample": np.repeat(["s1", "s2", "s3", "s4"], 30), "donor": ""})
    cells["state"] = np.array(["A", "B", "C"])[state]
    cells["has_rna"], cells["has_atac"] = True, True
    cells["n_counts_rna"], cells["n_counts_atac"] = rna.sum(1).A1, atac.sum(1).A1
    cells["n_active"] = ((rna > 0) + (atac > 0)).getnnz(1)
    cells.index = pd.Index([f"cell{i:03d}" for i in range(N_CELLS)], name="cell")
    write_parquet(cells, folder / "cells.parquet")
    names = [f"g{i}" for i in range(N_GENES)]
    vocabulary = pd.DataFrame({"token": np.arange(N_GENES), "gene_id": "", "symbol": names})
    write_tsv(vocabulary.assign(is_tf=vocabulary["token"] < 3, chrom="", tss=""), folder / "vocabulary.tsv")
    edges = [(f"g{tf}", f"g{gene}", 0.5) for tf in range(3) for gene in range(5 + tf, 25, 4)]
    write_parquet(pd.DataFrame(edges, columns=["source", "target", "score"]), folder / "regulons.parquet")
    corpus = Corpus(folder / "shards", folder / "cells.parquet", folder / "vocabulary.tsv")
    model = variant_encoder("no_pretraining", corpus, pd.read_parquet(folder / "regulons.parquet"), PRETRAIN)
    with torch.no_grad():
        model.cell_token.add_(0.1)  # a model that was trained is not the model before its first step
    save_model(folder / "model", model, corpus.vocabulary, {"regulons": ["g0", "g1", "g2"]})
    with md.set_options(pull_on_update=False):
        tables = {
            "rna": AnnData(rna, cells[[]], pd.DataFrame(index=names)),
            "atac": AnnData(atac, cells[[]], pd.DataFrame(index=[f"peak{i}" for i in range(N_GENES)])),
        }
        data = md.MuData({name: table[::-1].copy() for name, table in tables.items()})  # not in the corpus's order
    data.obs = cells[["sample", "donor", "state"]][::-1]
    write_mudata(data, folder / "multiome.h5mu")
    return folder


def files(world):
    names = {
        "shards": "shards",
        "cells": "cells.parquet",
        "vocabulary": "vocabulary.tsv",
        "regulons": "regulons.parquet",
    }
    return {"model": world / "model"} | {key: world / name for key, name in names.items()}


def ablate(world, variant, name="table", **changes):
    output = world / f"{variant}_{name}.parquet"
    arguments = dict(
        files(world),
        settings=FINETUNE,
        pretrain=PRETRAIN,
        task={"column": "state"},
        group="auto",
        folds=2,
        seeds=[0],
        variant=variant,
        recipe="regulon",
        output=output,
    )
    ablate_task.main(**arguments | changes)
    return pd.read_parquet(output)


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_predicts_every_cell_once(world, variant):
    table = ablate(world, variant)
    assert sorted(table["cell"]) == sorted(pd.read_parquet(world / "cells.parquet").index)
    assert set(table["method"]) == {f"{OURS}, {VARIANTS[variant]}"}
    assert np.isfinite(table[["p:A", "p:B", "p:C"]]).all(axis=None)


def test_one_modality_knows_what_it_can_and_no_more(world):
    right = {}
    for variant in ("linear", "rna", "atac"):
        table = ablate(world, variant, settings=FINETUNE | {"epochs": 0})
        hit = table["truth"] == table["predicted"]
        right[variant] = hit.groupby(table["truth"]).mean()
    assert (right["linear"] > 0.6).all()
    # Which of B and C a cell is, RNA does not say.
    assert right["rna"]["A"] > 0.6 and right["rna"][["B", "C"]].mean() < 0.7
    assert right["atac"][["B", "C"]].mean() > 0.85


def test_hidden_modality_is_missing_and_leaves_no_token(world):
    paths = [world / name for name in ("shards", "cells.parquet", "vocabulary.tsv")]
    both = Reader(*paths, Corpus(*paths).vocabulary)
    alone = OneModality("rna", *paths, both.corpus.vocabulary)
    rows = np.arange(20)
    whole, batch = both.read(rows), alone.read(rows)
    assert (batch.atac_state_BT == MISSING).all() and (batch.library_B2[:, 1] == 0).all()
    assert (~batch.pad_BT).sum(1).tolist() == both.corpus.rows(rows)[0].getnnz(1).tolist()
    assert (~batch.pad_BT).sum() < (~whole.pad_BT).sum()
    assert torch.equal(batch.library_B2[:, 0], whole.library_B2[:, 0])


def test_model_before_its_first_step_is_another_and_priors_change_the_slots(world):
    corpus = Corpus(world / "shards", world / "cells.parquet", world / "vocabulary.tsv")
    regulons = pd.read_parquet(world / "regulons.parquet")
    fresh, again = (variant_encoder("no_pretraining", corpus, regulons, PRETRAIN) for _ in range(2))
    assert all(torch.equal(one, two) for one, two in zip(fresh.parameters(), again.parameters(), strict=True))
    trained = variant_encoder("shuffled", corpus, regulons, PRETRAIN)
    assert not trained.training
    assert not torch.equal(trained.cell_token, fresh.cell_token)


@pytest.fixture(scope="module")
def few(world):
    def few(n, name="few"):
        output = world / f"{name}{n}.parquet"
        learn_from_few.main(
            **files(world),
            multiome=world / "multiome.h5mu",
            finetune=FINETUNE,
            evaluate=EVALUATE,
            pretrain=PRETRAIN,
            task={"column": "state"},
            group="sample",
            folds=2,
            seeds=[0, 1],
            labels_per_class=n,
            ours=OURS,
            output=output,
        )
        return output

    return few


def test_few_labels_from_draw_to_curve(world, few):
    paths = {n: few(n) for n in (4, 20)}
    table = pd.read_parquet(paths[4])
    assert {OURS, f"{OURS}, no pretraining", "logistic regression PCA(RNA)", "MLP PCA(RNA)+LSI(ATAC)"} <= set(
        table["method"]
    )
    assert table.groupby(["method", "seed"])["cell"].nunique().eq(N_CELLS).all()
    learning_curve.main(
        predictions=[{"path": path, "dataset": "d", "labels_per_class": n} for n, path in paths.items()],
        settings=EVALUATE,
        group="sample",
        ours=OURS,
        output=world / "curve.tsv",
    )
    curve = pd.read_csv(world / "curve.tsv", sep="\t")
    columns = ["method", "dataset", "labels_per_class", "fold", "seed", "metric", "value", "ci_low", "ci_high"]
    assert list(curve)[:9] == columns
    assert set(curve["fold"]) == {"pooled"} and set(curve["seed"]) == {"0", "1", "all"}
    mean = curve[(curve["seed"] == "all") & (curve["metric"] == "macro_f1")].set_index(["method", "labels_per_class"])
    for method in ("logistic regression PCA(RNA)+LSI(ATAC)", OURS):
        assert mean.loc[(method, 20), "value"] > mean.loc[(method, 4), "value"]
    other = mean.loc[("logistic regression PCA(RNA)", 20)]
    assert other["difference"] == pytest.approx(mean.loc[(OURS, 20), "value"] - other["value"])
    assert np.isnan(mean.loc[(OURS, 20), "difference"])


def test_cells_that_are_not_those_of_the_corpus_are_refused(world, few):
    cells = pd.read_parquet(world / "cells.parquet")
    write_parquet(cells.rename(index={"cell003": "other"}), world / "cells.parquet")
    try:
        with pytest.raises(InputError, match="no cell other"):
            few(4, "refused")
    finally:
        write_parquet(cells, world / "cells.parquet")


def test_curve_without_a_number_of_labels_says_what_to_set(tmp_path):
    with pytest.raises(InputError, match="labels_per_class"):
        learning_curve.main(predictions=[], settings={}, group="sample", ours=OURS, output=tmp_path / "curve.tsv")
