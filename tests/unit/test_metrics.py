import time

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from regulonformer.errors import InputError
from regulonformer.evaluate.metrics import METRICS, bootstrap_scores, confusion_matrix, score_predictions, scores


def make_predictions(n=300, n_classes=4, seeds=(0, 1, 2), right=0.7, noise=0):
    rng = np.random.default_rng(noise)
    truth, sample = rng.integers(n_classes, size=n), rng.choice(["s1", "s2", "s3"], n)
    parts = []
    for seed in seeds:
        guess = np.where(rng.random(n) < right, truth, rng.integers(n_classes, size=n))
        part = pd.DataFrame({"cell": [f"c{i}" for i in range(n)], "sample": sample, "seed": seed})
        part["fold"] = part["sample"].map({"s1": 0, "s2": 1, "s3": 1})
        parts.append(part.assign(truth=[f"k{t}" for t in truth], predicted=[f"k{g}" for g in guess], method="m"))
    return pd.concat(parts, ignore_index=True)


def test_by_hand():
    confusion = confusion_matrix(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 2)
    assert confusion.tolist() == [[2, 1], [0, 1]]
    values = scores(confusion)
    assert values["accuracy"] == 0.75
    assert values["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert values["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)


def test_equal_to_scikit_learn_with_classes_missing_on_either_side():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 5, 200), rng.integers(2, 7, 200)
    values = scores(confusion_matrix(truth, predicted, 9))
    assert values["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert values["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert values["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, predicted))


def test_pattern_bootstrap_has_the_distribution_of_resampling_cells():
    table = make_predictions(seeds=[0])
    truth = table["truth"].str[1:].astype(int).to_numpy()
    predicted, sample = table["predicted"].str[1:].astype(int).to_numpy(), table["sample"].to_numpy()
    fast = bootstrap_scores(truth, predicted[None], sample, 4, 2000, seed=0)
    rng, naive = np.random.default_rng(1), []
    for _ in range(2000):
        drawn = np.concatenate(
            [rng.choice(np.flatnonzero(sample == s), (sample == s).sum()) for s in np.unique(sample)]
        )
        naive.append(f1_score(truth[drawn], predicted[drawn], average="macro"))
    quantiles = [0.025, 0.25, 0.5, 0.75, 0.975]
    np.testing.assert_allclose(np.quantile(fast["macro_f1"], quantiles), np.quantile(naive, quantiles), atol=0.006)


def test_tidy_rows():
    rows = score_predictions(make_predictions(), dataset="run:task", bootstrap=200)
    assert list(rows) == ["method", "dataset", "fold", "seed", "metric", "value", "ci_low", "ci_high"]
    assert len(rows) == (2 * 3 + 3 + 1) * len(METRICS)
    assert ((rows["ci_low"] <= rows["value"]) & (rows["value"] <= rows["ci_high"])).mean() > 0.9
    pooled = rows[(rows["fold"] == "pooled") & (rows["metric"] == "macro_f1")].set_index("seed")["value"]
    assert pooled["all"] == pytest.approx(pooled[["0", "1", "2"]].mean())


def test_pooled_is_not_the_mean_over_folds():
    table = make_predictions(right=0.5)
    rows = score_predictions(table, dataset="d", bootstrap=10)
    seed0 = table[table["seed"] == 0]
    value = rows.query("fold == 'pooled' and seed == '0' and metric == 'macro_f1'")["value"].item()
    assert value == pytest.approx(f1_score(seed0["truth"], seed0["predicted"], average="macro"))


def test_seed_noise_widens_the_interval_and_cells_are_shared_between_seeds():
    same = make_predictions(seeds=[0])
    copies = pd.concat([same.assign(seed=s) for s in range(3)])
    width = {}
    for name, table in {"one": same, "copies": copies}.items():
        row = score_predictions(table, dataset="d").query("fold == 'pooled' and seed == 'all' and metric == 'accuracy'")
        width[name] = (row["ci_high"] - row["ci_low"]).item()
    # Three identical seeds bring no new cells: the interval must not shrink.
    assert width["copies"] == pytest.approx(width["one"], rel=0.1)


def test_same_seed_same_table():
    table = make_predictions()
    first = score_predictions(table, dataset="d", bootstrap=50)
    pd.testing.assert_frame_equal(first, score_predictions(table.sample(frac=1), dataset="d", bootstrap=50))


def test_seeds_with_other_cells_are_refused():
    table = make_predictions()
    with pytest.raises(InputError, match="same cells"):
        score_predictions(table.iloc[1:], dataset="d", bootstrap=5)
    with pytest.raises(InputError, match="twice"):
        score_predictions(pd.concat([table, table.iloc[:1]]), dataset="d", bootstrap=5)


def test_ten_thousand_cells_and_22_classes_take_seconds():
    table = make_predictions(n=10_000, n_classes=22)
    started = time.perf_counter()
    score_predictions(table, dataset="d", bootstrap=1000)
    assert time.perf_counter() - started < 20
