"""Recipes side by side: one yardstick for all, ranks that count every aspect alike, and differences seed by seed."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from compare_recipes import _baselines, _cost
from regulonformer.evaluate.baselines import EvaluateSettings
from regulonformer.evaluate.recipes import mean_ranks, tabulate, zero_shot
from regulonformer.io.multiome import make_mudata
from regulonformer.report.tables.recipes import gene_table, recipe_table


def test_an_aspect_of_many_columns_counts_no_more_than_one_of_a_single_column():
    means = pd.DataFrame(
        {"adapted_macro_f1": [0.9, 0.8], "seconds": [9.0, 1.0], "memory_gb": [9.0, 1.0], "n_parameters": [9.0, 1.0]},
        index=["strong", "cheap"],
    )
    assert mean_ranks(means).to_dict() == {"strong": 1.5, "cheap": 1.5}


def test_what_a_recipe_does_not_have_does_not_count():
    means = pd.DataFrame(
        {"loss_rna": [1.0, 2.0, np.nan], "adapted_macro_f1": [0.7, 0.8, 0.9]}, index=["counts", "more", "values"]
    )
    ranks = mean_ranks(means)
    assert ranks["values"] == 1.0 and ranks["counts"] == 2.0 == ranks["more"]


def test_differences_are_made_with_the_same_seed():
    rows = [("a", str(s), "clustering", 0.5 + s) for s in range(3)] + [("b", str(s), "clustering", s) for s in range(3)]
    table = tabulate(pd.DataFrame(rows, columns=["method", "seed", "metric", "value"]), ["a"], 0.95)
    gap = table[table["metric"] == "gap_clustering"].squeeze()
    assert (gap["method"], gap["versus"], gap["value"]) == ("a", "b", 0.5)
    assert gap["ci_high"] - gap["ci_low"] < 1e-9, "seeds differ by 1 in both, the difference never"
    assert table[table["metric"] == "mean_rank"]["method"].tolist() == ["a"]


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    labels, libraries = np.repeat(["x", "y", "z"], 60), np.tile(["l1", "l2", "l3"], 60)
    return rng.standard_normal((180, 5)), labels, libraries, (np.arange(180) % 3)


def test_a_space_of_types_is_found_and_a_space_of_libraries_is_not_mixed(cells):
    noise, labels, libraries, fold = cells
    typed = noise + 20 * (labels[:, None] == ["x", "y", "z", "", ""])
    apart = typed + 50 * (libraries[:, None] == ["", "", "", "l1", "l2"])
    good, bad, none = (zero_shot(space, labels, libraries, fold, 0) for space in (typed, apart, noise))
    assert good["clustering"] > 0.95 > 0.2 > none["clustering"] and good["knn_macro_f1"] == 1.0
    assert good["ilisi"] > 0.8 and bad["ilisi"] < 0.1
    assert none["knn_macro_f1"] < 0.5, "neighbours of other folds alone"


def test_cells_without_rna_are_judged_too_and_where_none_has_any_there_is_no_pca():
    names = [f"c{number}" for number in range(60)]
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(1.0, (60, 40)).astype(np.float32))
    table = ad.AnnData(counts, pd.DataFrame(index=names), pd.DataFrame(index=[f"g{gene}" for gene in range(40)]))
    whole = {"rna": table[:50].copy(), "atac": table}
    columns = {"truth": np.tile(["x", "y"], 30), "sample": "l", "fold": np.arange(60) % 3}
    judged, options = pd.DataFrame(columns, index=names), EvaluateSettings(pca_components=5)
    assert set(_baselines(make_mudata(whole, judged), judged, options, 0)) == {"PCA(RNA)"}
    assert _baselines(make_mudata({"atac": table}, judged), judged, options, 0) == {}


def test_what_a_recipe_starts_from_is_part_of_its_cost(tmp_path):
    for name, seconds in (("own", 5.0), ("base", 20.0)):
        (tmp_path / name).mkdir()
        record = {"wall_seconds": seconds, "peak_memory_gb": 1.0, "n_parameters": 7}
        (tmp_path / name / "run.json").write_text(json.dumps(record))
    assert _cost({"folder": tmp_path / "own", "base": None})["seconds"] == 5.0
    expected = {"seconds": 25.0, "memory_gb": 1.0, "n_parameters": 7}
    assert _cost({"folder": tmp_path / "own", "base": tmp_path / "base"}) == expected


def test_the_report_shows_recipes_by_rank_and_a_dash_where_one_has_no_value():
    scores = [
        ("regulonformer (a)", "0", "loss_rna", 1.5), ("regulonformer (b)", "0", "clustering", 0.7),
        ("regulonformer (a)", "0", "clustering", 0.6), ("PCA(RNA)", "0", "clustering", 0.5),
    ]  # fmt: skip
    single = pd.DataFrame(scores, columns=["method", "seed", "metric", "value"])
    table = recipe_table(tabulate(single, ["regulonformer (a)", "regulonformer (b)"], 0.95))
    cells = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert [row[0] for row in table.rows][0] == "Regulonformer (b)" or table.rows[0][1] == "1.00 ★"
    assert len(table.rows) == 3 and table.rows[-1][1] == "–", "simple methods have no rank"
    assert sum(row["RNA loss"] == "–" for row in cells.values()) == 2


def test_the_report_shows_a_gene_task():
    rows = [("ours", "auroc", 0.8, 0.7, 0.9), ("PCA", "auroc", 0.6, 0.5, 0.7), ("PCA", "gap_auroc", -0.2, -0.3, -0.1)]
    genes = pd.DataFrame(rows, columns=["method", "metric", "value", "ci_low", "ci_high"])
    table = gene_table(genes.assign(dataset="run: truth", seed="all", n_tested=40.0), "run: truth")
    assert table.rows[0][1:] == ["0.800 ★ [0.700, 0.900]", "–"]
    assert table.rows[1][2] == "-0.200 [-0.300, -0.100]"
