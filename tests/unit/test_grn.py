"""Judgement of regulons and links: rankings, shuffles, predictions."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from regulonformer.errors import InputError
from regulonformer.evaluate import grn
from regulonformer.evaluate.grn_calibration import calibration_error, reliability
from regulonformer.evaluate.grn_elements import best_of_elements, read_elements
from regulonformer.evaluate.grn_methods import Edges, correlations, link_based, shuffled_edges, tree_importances


def edges_of(tfs, genes):
    return Edges(pd.Index(tfs), pd.Index(genes))


def test_ranking_by_hand():
    truth = np.array([True, False, True, False, False])
    scores = np.array([0.9, 0.8, 0.7, 0.0, 0.0])
    found = grn.ranking_metrics(truth, scores)
    assert found["auprc"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["early_precision"] == pytest.approx(1 / 2)
    assert (found["precision"], found["recall"]) == pytest.approx((2 / 3, 1))
    assert found["f0.1"] == pytest.approx(1.01 * (2 / 3) / (0.01 * 2 / 3 + 1))


def test_a_method_that_knows_nothing_scores_the_share_of_true_edges():
    truth = np.arange(1000) % 10 == 0
    found = grn.ranking_metrics(truth, np.zeros(1000))
    assert found["auprc"] == pytest.approx(0.1)
    assert found["early_precision"] == pytest.approx(0.1)
    assert found["precision"] == found["recall"] == found["f0.1"] == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=2, max_size=60), st.integers(0, 60))
def test_ties_count_by_their_mean(pairs, n_called):
    """Early precision is the expectation over random orders of ties, whatever order the input has."""
    truth, scores = np.array([t for t, _ in pairs]), np.array([s for _, s in pairs], float)
    if not truth.any():
        assert grn.ranking_metrics(truth, scores) == {}
        return
    found = grn.ranking_metrics(truth, scores, n_called)
    backwards = grn.ranking_metrics(truth[::-1], scores[::-1], n_called)
    assert found == pytest.approx(backwards)
    assert found["auprc"] == pytest.approx(average_precision_score(truth, scores))
    assert all(0 <= value <= 1 for value in found.values())


def test_intervals_come_from_whole_tfs():
    """Two TFs, one right in all its edges and one wrong in all: resampled TFs give precision 0, 1/2 or 1."""
    truth = np.array([True] * 10 + [False] * 10)
    scores, unit = np.ones(20), np.repeat([0, 1], 10)
    rows = grn.judge_ranking(truth, [scores], unit, n=200, confidence=0.95, seed=0)
    precision = next(row for row in rows if row[1] == "precision")
    assert precision[2:] == (0.5, 0.5, 1.0)  # a draw without any true edge has no rank to score


def test_seeds_are_rows_of_their_own_and_their_mean():
    truth, unit = np.array([True, False] * 20), np.arange(40) // 4
    seeds = [np.random.default_rng(seed).random(40) for seed in range(3)]
    rows = {(row[0], row[1]): row for row in grn.judge_ranking(truth, seeds, unit, n=60, confidence=0.9, seed=0)}
    singles = [rows[str(seed), "auprc"][2] for seed in range(3)]
    assert rows["all", "auprc"][2] == pytest.approx(np.mean(singles))
    assert rows["all", "auprc"][3] <= np.mean(singles) <= rows["all", "auprc"][4]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_shuffle_keeps_every_degree(seed):
    rng = np.random.default_rng(seed)
    genes = [f"g{i}" for i in range(20)]
    pairs = {(f"g{rng.integers(6)}", genes[rng.integers(20)]) for _ in range(60)}
    pairs = sorted((a, b) for a, b in pairs if a != b)
    table = pd.DataFrame(pairs, columns=["source", "target"]).assign(score=np.arange(len(pairs)) + 1.0)
    mixed = shuffled_edges(table, seed=seed)
    for column in ("source", "target"):
        assert mixed[column].value_counts().to_dict() == table[column].value_counts().to_dict()
    assert not mixed.duplicated(["source", "target"]).any()
    assert (mixed["source"] != mixed["target"]).all()


def test_shuffle_really_rewires_and_is_the_same_each_time():
    pairs = [(f"t{i}", f"g{j}") for i in range(10) for j in range(30) if (i * 7 + j * 3) % 5 == 0]
    table = pd.DataFrame(pairs, columns=["source", "target"])
    mixed = shuffled_edges(table, seed=1)
    kept = set(map(tuple, mixed.to_numpy())) & set(pairs)
    assert len(kept) < 0.5 * len(pairs)
    pd.testing.assert_frame_equal(mixed, shuffled_edges(table, seed=1))


def planted(n_cells=300, seed=0):
    """Two TFs drive one gene each; two further genes are noise."""
    rng = np.random.default_rng(seed)
    tfs, noise = rng.normal(size=(n_cells, 2)), rng.normal(size=(n_cells, 4))
    genes = np.c_[tfs, 2 * tfs[:, 0] + 0.3 * noise[:, 0], -2 * tfs[:, 1] + 0.3 * noise[:, 1], noise[:, 2:]]
    return genes, edges_of(["A", "B"], ["A", "B", "x", "y", "n1", "n2"])


@pytest.mark.parametrize("method", ["pearson", "spearman", "trees"])
def test_methods_find_planted_targets(method):
    expression, edges = planted()
    if method == "trees":
        scores = tree_importances(expression, edges, seed=0)
    else:
        scores = correlations(expression, edges, method)
    for row, target in ((0, 2), (1, 3)):
        others = np.delete(scores[row], [0, 1, target])
        assert scores[row, target] > 1.3 * others.max()


def test_an_unmeasured_tf_scores_nothing_by_expression():
    expression, _ = planted()
    edges = edges_of(["A", "Z"], ["A", "B", "x", "y", "n1", "n2"])
    assert not correlations(expression, edges, "pearson")[1].any()
    assert not tree_importances(expression, edges, seed=0)[1].any()


def test_held_out_prediction_rewards_the_right_tf():
    expression, edges = planted()
    fold, one = grn.folds_of(np.repeat(["d1", "d2", "d3"], 100)), np.ones(6, int)
    right, wrong = np.zeros((2, 6)), np.zeros((2, 6))
    right[0, 2] = right[1, 3] = 1.0
    wrong[1, 2] = wrong[0, 3] = 1.0
    pair = (expression[:, :2], expression)
    good, bad = (grn.held_out_r2(pair, [scores] * 3, fold, n_regulators=one) for scores in (right, wrong))
    assert good[[2, 3]].min() > 0.9
    assert bad[[2, 3]].max() < 0.1
    assert good[4] == pytest.approx(0, abs=0.05)  # no regulator: the mean of the other donors


def test_choosing_tfs_with_the_held_out_cells_would_flatter():
    """On noise, TFs chosen without the fold explain nothing; chosen with it they seem to."""
    rng = np.random.default_rng(0)
    noise, fold = rng.normal(size=(150, 140)), np.arange(150) % 3
    edges, five = edges_of([f"g{i}" for i in range(40)], [f"g{i}" for i in range(140)]), np.full(140, 5)
    pair = (noise[:, :40], noise)
    seen = [correlations(noise, edges, "pearson") * edges.judged()] * 3
    unseen = [correlations(noise[fold != held], edges, "pearson") * edges.judged() for held in range(3)]
    flattered, honest = (np.mean(grn.held_out_r2(pair, s, fold, n_regulators=five)) for s in (seen, unseen))
    assert honest < 0 < flattered


def test_folds_keep_donors_whole():
    donors = np.repeat(["a", "b", "c", "d"], 5)
    fold = grn.folds_of(donors)
    assert pd.Series(fold).groupby(donors).nunique().eq(1).all()
    assert set(fold) == {0, 1, 2}
    assert np.bincount(grn.folds_of(np.repeat("a", 9))).tolist() == [3, 3, 3]


def test_only_known_signs_are_judged():
    known = pd.DataFrame({"source": list("AABB"), "target": list("xyxy"), "sign": [1, -1, 1, 0]})
    found = pd.DataFrame({"source": list("AABBB"), "target": list("xyxyz"), "sign": [1, 0, 1, 1, -1]})
    judged = grn.true_signs(found, known)
    assert judged[["source", "target", "sign", "sign_true"]].to_numpy().tolist() == [
        ["A", "x", 1, 1],
        ["A", "y", 0, -1],
        ["B", "x", 1, 1],
    ]


def test_calibration_error_by_hand():
    scores, truth = np.array([0.05] * 10 + [0.95] * 10), np.array([False] * 10 + [True] * 5 + [False] * 5)
    table = reliability(scores, truth, np.tile(np.arange(10), 2), n=50, confidence=0.9, seed=0)
    assert calibration_error(table) == pytest.approx((0.05 + 0.45) / 2)
    assert table[["score_low", "score_high", "pairs", "mean_score", "share_true"]].to_numpy().tolist() == [
        pytest.approx([0, 0.1, 10, 0.05, 0]),
        pytest.approx([0.9, 1, 10, 0.95, 0.5]),
    ]
    assert table["ci_low"].iloc[0] == table["ci_high"].iloc[0] == 0  # all are false in every draw
    assert table["ci_low"].iloc[1] < 0.5 < table["ci_high"].iloc[1]


def test_reliability_of_one_unit_has_no_interval_and_of_no_pair_no_row():
    ends = {"n": 20, "confidence": 0.9, "seed": 0}
    one = reliability(np.array([0.2, 1.0]), np.array([False, True]), np.zeros(2, int), **ends)
    assert one["pairs"].tolist() == [1, 1] and one[["ci_low", "ci_high"]].isna().all(axis=None)
    assert one["score_high"].iloc[-1] == 1
    assert reliability(np.empty(0), np.empty(0, bool), np.empty(0, int), **ends).empty


def test_interval_of_a_mean_draws_whole_units():
    values, unit = np.array([1.0] * 30 + [0.0]), np.array([0] * 30 + [1])
    mean, low, high = grn.mean_with_interval(values, unit, n=500, confidence=0.95, seed=0)
    assert (mean, low, high) == (pytest.approx(30 / 31), 0, 1)


def test_tested_elements_take_the_best_link_of_every_method():
    peaks = pd.DataFrame({"chrom": ["chr1"] * 2, "start": [100, 900], "end": [200, 1000]}, index=["p1", "p2"])
    links = {"peak": ["p1", "p2", "p2"], "gene": ["g", "g", "h"], "score": [0.2, 0.9, 0.4]}
    links |= {"distance": [-1000, 40_000, 5], "correlation": [-0.8, 0.1, 0.2], "is_promoter": [False, True, False]}
    elements = pd.DataFrame({"chrom": "chr1", "start": [150, 950, 5000], "end": [950, 960, 5100]})
    elements = elements.assign(gene=["g", "h", "g"], truth=[True, False, True])
    found = best_of_elements(elements, pd.DataFrame(links), peaks)
    # The first element spans both peaks; the third has no peak.
    assert found["gene"].tolist() == ["g", "h"]
    assert found["truth"].tolist() == [True, False]
    assert found["score"].tolist() == [0.9, 0.4]
    assert found["distance"].tolist() == [1000, 5]
    assert found["correlation"].tolist() == [0.8, 0.2]
    assert found["is_promoter"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("chrom\tstart\tend\tgene\nchr1\t1\t2\tg\n", "has no column truth"),
        ("chrom\tstart\tend\tgene\ttruth\nchr1\t1\t2\tg\tmaybe\n", "truth is 'maybe'"),
        ("chrom\tstart\tend\tgene\ttruth\nchr1\t1\tx\tg\ttrue\n", r"start, end are \['1', 'x'\]"),
    ],
)
def test_a_bad_table_of_elements_is_told(tmp_path, text, problem):
    (tmp_path / "elements.tsv").write_text(text)
    with pytest.raises(InputError, match=problem):
        read_elements(tmp_path / "elements.tsv")


def test_scores_from_links_alone_do_not_tell_tfs_apart():
    links = pd.DataFrame(
        {
            "peak": ["p", "q"],
            "gene": ["x", "y"],
            "distance": [0, 50_000],
            "is_promoter": [True, False],
            "score": [0.9, 0.1],
        }
    )
    scores = link_based(edges_of(["A", "B"], ["x", "y"]), links, None, 50_000)
    assert scores["link only"].tolist() == [[0.9, 0.1]] * 2
    assert scores["distance only"] == pytest.approx(np.array([[1, np.exp(-1)]] * 2))
