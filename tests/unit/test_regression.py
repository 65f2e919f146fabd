"""Scores of predicted numbers against scikit-learn and scipy, intervals, and what the baselines know."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import r2_score, root_mean_squared_error

from regulonformer.errors import InputError
from regulonformer.evaluate.baselines import EvaluateSettings
from regulonformer.evaluate.regression import judge_numbers, number_scores, predict_baselines, tally


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_scores_are_those_of_the_libraries(seed, unit, offset):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=50)
    predicted = unit * (truth + rng.normal(size=50)).round(1) + offset
    truth = unit * truth + offset
    found = number_scores(tally(truth, predicted).sum(1))
    expected = {
        "rmse": root_mean_squared_error(truth, predicted),
        "r2": r2_score(truth, predicted),
        "pearson": pearsonr(truth, predicted)[0],
        "spearman": spearmanr(truth, predicted)[0],
    }
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_a_constant_prediction_has_no_correlation_and_its_error_is_the_deviation():
    truth = np.random.default_rng(0).normal(5, 2, 100)
    found = number_scores(tally(truth, np.full(100, truth.mean())).sum(1))
    assert found["pearson"] == found["spearman"] == 0
    assert found["rmse"] == pytest.approx(truth.std()) and found["r2"] == pytest.approx(0)


def predictions(noise, n=200, seeds=(0, 1)):
    """Predictions with more or less noise, of two seeds, in two libraries."""
    rng = np.random.default_rng(0)
    truth = rng.random(n)
    rows = {"cell": [f"c{i}" for i in range(n)], "sample": np.repeat(["s0", "s1"], n // 2), "truth": truth}
    table = pd.DataFrame(rows).assign(fold=np.repeat([0, 1], n // 2))
    return pd.concat(
        table.assign(method=method, seed=seed, predicted=truth + scale * rng.normal(size=n))
        for method, scale in noise.items()
        for seed in seeds
    )


def test_every_seed_and_all_of_them_are_scored_with_intervals():
    table = judge_numbers(predictions({"good": 0.1, "poor": 0.5}), ours="good", dataset="run:time", bootstrap=200)
    assert list(table)[:6] == ["method", "dataset", "fold", "seed", "metric", "value"]
    assert set(table["fold"]) == {"pooled"} and set(table["seed"]) == {"0", "1", "all"}
    assert (table["ci_low"] < table["value"]).all() and (table["value"] < table["ci_high"]).all()
    whole = table[table["seed"] == "all"].set_index(["method", "metric"])
    assert whole.loc[("good", "rmse"), "ci_high"] < whole.loc[("poor", "rmse"), "ci_low"]
    assert whole.loc[("good", "spearman"), "ci_low"] > whole.loc[("poor", "spearman"), "ci_high"]
    # What both have in common cancels in the paired difference.
    gap, poor = whole.loc[("poor", "gap_rmse")], whole.loc[("poor", "rmse")]
    assert gap["value"] == pytest.approx(poor["value"] - whole.loc[("good", "rmse"), "value"])
    assert 0 < gap["ci_low"] < gap["value"] < gap["ci_high"]
    assert ("good", "gap_rmse") not in whole.index
    again = judge_numbers(predictions({"good": 0.1, "poor": 0.5}), ours="good", dataset="run:time", bootstrap=200)
    pd.testing.assert_frame_equal(table, again)


def test_methods_judged_on_other_cells_are_refused():
    table = predictions({"good": 0.1, "poor": 0.5})
    with pytest.raises(InputError, match="different cells"):
        judge_numbers(table.iloc[1:], ours="good", dataset="run:time", bootstrap=10)


def test_baselines_know_what_is_linear_and_the_mean_knows_nothing():
    rng = np.random.default_rng(0)
    time, test = rng.random(300), np.arange(300) % 3 == 0
    rising, falling = (sparse.csr_matrix(rng.poisson(5 * np.outer(x, rng.random(20)) + 1)) for x in (time, 1 - time))
    rna, atac = sparse.hstack([rising, falling], format="csr"), sparse.hstack([falling, rising], format="csr")
    options = EvaluateSettings(pca_components=5)
    found = predict_baselines(rna, atac, time, test, options, seed=0)
    assert {"mean", "kNN PCA(RNA)", "ridge PCA(RNA)", "ridge LSI(ATAC)", "ridge PCA(RNA)+LSI(ATAC)"} == set(found)
    assert np.ptp(found["mean"]) == 0 and found["mean"][0] == pytest.approx(time[~test].mean())
    assert all(np.corrcoef(found[name], time[test])[0, 1] > 0.7 for name in found if name != "mean")
    assert set(predict_baselines(None, atac, time, test, options, 0)) == {"mean", "kNN LSI(ATAC)", "ridge LSI(ATAC)"}
    assert set(predict_baselines(rna, None, time, test, options, 0)) == {"mean", "kNN PCA(RNA)", "ridge PCA(RNA)"}
