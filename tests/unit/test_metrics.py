import time

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, precision_score, recall_score

from regulonformer.errors import InputError
from regulonformer.evaluate.annotation import judge, verdict
from regulonformer.evaluate.bootstrap import Resamples, interval
from regulonformer.evaluate.metrics import (
    METRICS,
    N_BINS,
    confidence_bins,
    recall_and_precision,
    scores,
    tally_matrix,
)
from regulonformer.evaluate.verdicts import best_rivals, count_verdicts, in_words

OURS = "regulonformer (regulon)"


def make_predictions(n=300, n_classes=4, seeds=(0, 1, 2), right=0.7, noise=0, method=OURS, libraries=3):
    """Cells of some libraries; a method that is right with some probability and says so."""
    rng = np.random.default_rng(1)
    truth, library = rng.integers(n_classes, size=n), rng.integers(libraries, size=n)
    rng, parts = np.random.default_rng(noise), []
    for seed in seeds:
        guess = np.where(rng.random(n) < right, truth, rng.integers(n_classes, size=n))
        part = pd.DataFrame({"cell": [f"c{i:05d}" for i in range(n)], "sample": [f"s{i}" for i in library]})
        part = part.assign(group=part["sample"], fold=library % 2, seed=seed, method=method)
        part["truth"], part["predicted"] = [f"k{t}" for t in truth], [f"k{g}" for g in guess]
        parts.append(part.assign(confidence=np.clip(right + rng.normal(0, 0.05, n), 0.01, 1)))
    return pd.concat(parts, ignore_index=True)


def sums_of(truth, predicted, confidence=None, n_classes=9):
    confidence = np.full(len(truth), 0.5) if confidence is None else confidence
    tally = tally_matrix(truth, predicted, confidence, confidence_bins(confidence), n_classes)
    return tally @ np.ones(len(truth))


def score_of(table, **query):
    for column, value in query.items():
        table = table[table[column] == value]
    return table["value"].item()


def test_by_hand():
    truth, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    values = scores(sums_of(truth, predicted, np.array([0.9, 0.9, 0.9, 0.9]), 2), 2)
    assert values["accuracy"] == 0.75
    assert values["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert values["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert values["ece"] == pytest.approx(0.15)


def test_equal_to_scikit_learn_with_classes_missing_on_either_side():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 5, 200), rng.integers(2, 7, 200)
    sums = sums_of(truth, predicted)
    values, (recall, precision) = scores(sums, 9), recall_and_precision(sums, 9)
    assert values["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert values["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert values["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    np.testing.assert_allclose(recall[:5], recall_score(truth, predicted, labels=range(5), average=None))
    np.testing.assert_allclose(precision[2:7], precision_score(truth, predicted, labels=range(2, 7), average=None))
    assert np.isnan(recall[5:]).all() and np.isnan(precision[:2]).all()


def test_bins_of_confidence_hold_as_many_each_and_do_not_part_equals():
    confidence = np.random.default_rng(0).random(1500)
    assert np.bincount(confidence_bins(confidence)).tolist() == pytest.approx([100] * N_BINS, abs=1)
    same = np.repeat([0.2, 0.9], 50)
    bins = confidence_bins(same)
    assert len(set(bins[:50])) == len(set(bins[50:])) == 1 and bins[0] != bins[-1]


def test_calibration_error_finds_overconfidence_and_no_more():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 30_000)
    right = (rng.random(30_000) < confidence).astype(int)
    honest = scores(sums_of(np.ones_like(right), right, confidence, 2), 2)["ece"]
    boasting = scores(sums_of(np.ones_like(right), right, np.minimum(confidence + 0.1, 1), 2), 2)["ece"]
    assert honest < 0.015
    assert boasting == pytest.approx(np.mean(np.minimum(confidence + 0.1, 1) - confidence), abs=0.015)


def test_interval_is_that_of_drawing_cells_within_libraries():
    table = make_predictions(seeds=[0])
    truth = table["truth"].str[1:].astype(int).to_numpy()
    predicted, sample = table["predicted"].str[1:].astype(int).to_numpy(), table["sample"].to_numpy()
    draws = Resamples(sample, table["fold"].to_numpy(), sample, 1, 2000, seed=0)
    tally = tally_matrix(truth, predicted, np.full(300, 0.5), np.zeros(300, int), 4)
    fast = scores(sum(draws.sums_of_folds(tally).values()), 4)["macro_f1"]
    assert fast[0] == pytest.approx(f1_score(truth, predicted, average="macro"))
    rng, naive = np.random.default_rng(1), []
    for _ in range(2000):
        drawn = np.concatenate(
            [rng.choice(np.flatnonzero(sample == s), (sample == s).sum()) for s in np.unique(sample)]
        )
        counts = np.bincount(truth[drawn] * 4 + predicted[drawn], minlength=16).reshape(4, 4)
        naive.append(np.mean(2 * np.diag(counts) / (counts.sum(0) + counts.sum(1))))
    quantiles = [0.025, 0.25, 0.5, 0.75, 0.975]
    np.testing.assert_allclose(np.quantile(fast[1:], quantiles), np.quantile(naive, quantiles), atol=0.006)


def test_tidy_rows():
    rows = judge(make_predictions(), dataset="run:task", ours=OURS, bootstrap=200).scores
    assert list(rows)[:8] == ["method", "dataset", "fold", "seed", "metric", "value", "ci_low", "ci_high"]
    assert len(rows) == (2 * 3 + 3 + 1) * len(METRICS)
    assert ((rows["ci_low"] <= rows["value"]) & (rows["value"] <= rows["ci_high"])).mean() > 0.9
    pooled = rows[(rows["fold"] == "pooled") & (rows["metric"] == "macro_f1")].set_index("seed")["value"]
    assert pooled["all"] == pytest.approx(pooled[["0", "1", "2"]].mean())


def test_pooled_is_not_the_mean_over_folds():
    table = make_predictions(right=0.5)
    rows = judge(table, dataset="d", ours=OURS, bootstrap=10).scores
    seed0 = table[table["seed"] == 0]
    expected = f1_score(seed0["truth"], seed0["predicted"], average="macro")
    assert score_of(rows, fold="pooled", seed="0", metric="macro_f1") == pytest.approx(expected)
    one = seed0[seed0["fold"] == 1]
    expected = f1_score(one["truth"], one["predicted"], average="macro")
    assert score_of(rows, fold="1", seed="0", metric="macro_f1") == pytest.approx(expected)


def test_seed_noise_widens_the_interval_and_cells_are_shared_between_seeds():
    same = make_predictions(seeds=[0])
    copies = pd.concat([same.assign(seed=s) for s in range(3)])
    apart = pd.concat([make_predictions(seeds=[s], right=right) for s, right in enumerate((0.6, 0.7, 0.8))])
    width = {}
    for name, table in {"one": same, "copies": copies, "apart": apart}.items():
        rows = judge(table, dataset="d", ours=OURS).scores
        row = rows.query("fold == 'pooled' and seed == 'all' and metric == 'accuracy'")
        width[name] = (row["ci_high"] - row["ci_low"]).item()
    # Three identical seeds bring no new cells: the interval must not shrink.
    assert width["copies"] == pytest.approx(width["one"], rel=0.1)
    assert width["apart"] > 1.3 * width["one"]


def test_libraries_that_differ_widen_the_interval_over_libraries_and_three_have_none():
    def widths(table):
        row = judge(table, dataset="d", ours=OURS, bootstrap=300).scores
        row = row.query("fold == 'pooled' and seed == 'all' and metric == 'accuracy'").iloc[0]
        return row["ci_high"] - row["ci_low"], row["group_high"] - row["group_low"]

    assert np.isnan(widths(make_predictions())[1])
    table = make_predictions(n=2000, libraries=8, right=0.95)
    bad = table["sample"].isin(["s0", "s1"])
    table.loc[bad, "predicted"] = "k0"
    cells, libraries = widths(table)
    assert libraries > 4 * cells


def test_a_method_does_not_differ_from_itself_and_pairing_narrows_the_interval():
    ours = make_predictions(right=0.7)
    twin = ours.assign(method="twin")
    close = ours.assign(method="close")
    wrong = close.sample(20, random_state=0).index
    close.loc[wrong, "predicted"] = "k0"
    found = judge(pd.concat([ours, twin, close]), dataset="d", ours=OURS, bootstrap=300)
    differences = found.differences.set_index(["method", "metric"])
    assert (differences.loc["twin", ["value", "ci_low", "ci_high"]] == 0).all(axis=None)
    assert set(differences.loc["twin", "verdict"]) == {"ties"}
    row = differences.loc["close", "accuracy"]
    level = found.scores.query("fold == 'pooled' and seed == 'all' and metric == 'accuracy' and method == 'close'")
    assert row["ci_high"] - row["ci_low"] < 0.5 * (level["ci_high"] - level["ci_low"]).item()
    assert row["value"] > 0


def test_wins_and_losses_are_stated_and_a_low_calibration_error_is_a_win():
    methods = {"worse": 0.4, "better": 0.95, OURS: 0.7}
    table = pd.concat(
        [make_predictions(n=2000, right=p, noise=i, method=m) for i, (m, p) in enumerate(methods.items())]
    )
    table.loc[table["method"] == "worse", "confidence"] = 0.99
    found = judge(table, dataset="run:task", ours=OURS, bootstrap=200)
    verdicts = found.differences.set_index(["method", "metric"])["verdict"]
    assert verdicts["worse", "macro_f1"] == "wins" and verdicts["better", "macro_f1"] == "loses"
    assert verdicts["worse", "ece"] == "wins"
    assert verdict(-0.2, -0.1, "ece") == "wins" and verdict(-0.2, 0.1, "ece") == "ties"
    counts = count_verdicts(found.differences).set_index("metric")
    assert counts.loc["macro_f1", ["wins", "ties", "loses"]].tolist() == [1, 0, 1]
    rival = best_rivals(found.scores, found.differences).set_index("metric").loc["macro_f1"]
    assert rival["method"] == "better" and rival["ours"] == pytest.approx(rival["rival"] + rival["value"])
    variant = found.differences.assign(method=f"{OURS}, frozen", value=-1.0, verdict="loses")
    text = in_words(found.scores, pd.concat([found.differences, variant]), OURS)
    assert "macro-F1: the model wins against 1, ties with 0 and loses to 1 of 2" in text[0]
    assert "better (" in text[0] and text[0].endswith("it loses.")


def test_calibration_draws_are_moved_back_to_their_value():
    draws = np.random.default_rng(0).normal(0.08, 0.01, 1000)
    low, high = interval(0.05, draws, "ece", 0.95)
    assert (low + high) / 2 == pytest.approx(0.05, abs=0.002)
    assert interval(0.05, draws, "accuracy", 0.95)[0] > 0.05


def test_recall_of_each_class_and_reliability_bins():
    table = make_predictions(n=600)
    table.loc[table["truth"] == "k3", "predicted"] = "k1"
    found = judge(table, dataset="d", ours=OURS, bootstrap=100)
    recall = found.recall.set_index("class")
    seed0 = table[table["seed"] == 0]
    assert recall["n_cells"].to_dict() == seed0["truth"].value_counts().to_dict()
    assert recall.loc["k3", ["recall", "ci_low", "ci_high"]].tolist() == [0, 0, 0]
    hit = (table["truth"] == table["predicted"]).groupby(table["truth"]).mean()
    assert recall["recall"].to_dict() == pytest.approx(hit.to_dict())
    assert (recall["ci_low"] <= recall["recall"]).all() and (recall["recall"] <= recall["ci_high"]).all()
    bins = found.reliability
    assert list(bins) == ["method", "dataset", "bin", "confidence", "accuracy", "n_cells"]
    assert bins["n_cells"].sum() == len(table) and bins["confidence"].is_monotonic_increasing


def test_same_seed_same_table():
    table = make_predictions()
    first = judge(table, dataset="d", ours=OURS, bootstrap=50)
    for one, two in zip(first, judge(table.sample(frac=1), dataset="d", ours=OURS, bootstrap=50), strict=True):
        pd.testing.assert_frame_equal(one, two)


def test_methods_and_seeds_with_other_cells_are_refused():
    table = make_predictions()
    with pytest.raises(InputError, match="different cells"):
        judge(table.iloc[1:], dataset="d", ours=OURS, bootstrap=5)
    with pytest.raises(InputError, match="twice"):
        judge(pd.concat([table, table.iloc[:1]]), dataset="d", ours=OURS, bootstrap=5)
    other = make_predictions(method="other")
    with pytest.raises(InputError, match="different cells"):
        judge(pd.concat([table, other[other["seed"] != 2]]), dataset="d", ours=OURS, bootstrap=5)


def test_ten_thousand_cells_and_22_classes_take_seconds():
    table = make_predictions(n=10_000, n_classes=22)
    started = time.process_time()
    judge(table, dataset="d", ours=OURS, bootstrap=1000)
    assert time.process_time() - started < 20
