"""Wins, ties and losses: said as the intervals have them, each with the table behind it."""

import invented_results
import numpy as np
import pandas as pd
import pytest

from regulonformer.io.scores import FROM_OTHERS
from regulonformer.report.comparison import compare, differences_among, pooled_scores
from regulonformer.report.evidence import read_evidence
from regulonformer.report.questions import answers, scored
from regulonformer.report.tables.opening import results_table
from regulonformer.report.tables.scores import difference_table
from regulonformer.report.words.comparison import comparison_sentence
from regulonformer.report.words.findings import balance, findings


def scores(ours, baseline, half=0.01):
    values = {"regulonformer": ours, "knn": baseline, "majority": 0.1}
    return invented_results.tidy("d:t", values, ["macro_f1"], half)


@pytest.mark.parametrize(
    ("ours", "baseline", "outcome", "words"),
    [
        (0.9, 0.8, "above", "It is ahead of the best baseline, k nearest neighbours"),
        (0.8, 0.9, "below", "It loses to the best baseline, k nearest neighbours"),
        (0.805, 0.8, "tied", "our value is 0.005 higher, within overlapping intervals"),
        (0.795, 0.8, "tied", "our value is 0.005 lower, within overlapping intervals"),
    ],
)
def test_wins_ties_and_losses_are_said_as_they_are(ours, baseline, outcome, words):
    found = compare(pooled_scores(scores(ours, baseline)), "d:t", "macro_f1")
    assert found.outcome == outcome
    assert words in comparison_sentence(found)


def test_no_claim_without_intervals_or_baselines():
    table = scores(0.9, 0.5).assign(ci_low=np.nan, ci_high=np.nan)
    assert "proves nothing" in comparison_sentence(compare(pooled_scores(table), "d:t", "macro_f1"))
    alone = table[table["method"] == "regulonformer"]
    assert "nothing to stand against" in comparison_sentence(compare(pooled_scores(alone), "d:t", "macro_f1"))


def test_paired_difference_decides_where_single_intervals_overlap():
    table = scores(0.805, 0.8)
    rows = [
        ("knn", "d:t", "macro_f1", 0.005, 0.001, 0.009, "wins"),
        ("majority", "d:t", "macro_f1", 0.7, 0.6, 0.8, "wins"),
    ]
    columns = ["method", "dataset", "metric", "value", "ci_low", "ci_high", "verdict"]
    found = compare(pooled_scores(table), "d:t", "macro_f1", pd.DataFrame(rows, columns=columns))
    assert found.outcome == "above" and found.tally == {"wins": 2}
    sentence = comparison_sentence(found)
    assert "the difference is +0.005 (interval +0.001 to +0.009)" in sentence
    assert "Of 2 baselines it beats 2, ties with 0 and loses to 0." in sentence


def test_variants_of_ours_are_no_baselines():
    values = {"regulonformer (x)": 0.8, "regulonformer (x), frozen": 0.9, "knn": 0.7}
    found = compare(pooled_scores(invented_results.tidy("d:t", values, ["accuracy"])), "d:t", "accuracy")
    assert found.ours["value"] == 0.8 and found.best.name == "knn"


def test_gaps_among_scores_become_differences_of_ours():
    table = invented_results.tidy("d", {"knn": 0.1}, ["gap_pearson", "gap_rmse"], half=0.05)
    found = differences_among(table).set_index("metric")
    assert found.loc["pearson", "verdict"] == "loses" and found.loc["pearson", "value"] == -0.1
    assert found.loc["pearson", ["ci_low", "ci_high"]].tolist() == pytest.approx([-0.15, -0.05])
    # Of an error, less is better.
    assert found.loc["rmse", "verdict"] == "wins"
    assert differences_among(table.assign(metric="pearson")) is None


def test_row_over_all_seeds_counts_once():
    table = scores(0.9, 0.5)
    one_seed = table.assign(seed="0", value=0.0)
    pooled = pooled_scores(pd.concat([table, one_seed]))
    assert pooled.set_index("method").loc["regulonformer", "value"] == 0.9


def test_lower_is_better_for_calibration():
    table = scores(0.02, 0.1, half=0.005).assign(metric="ece")
    table = table[table["method"] != "majority"]
    assert compare(pooled_scores(table), "d:t", "ece").outcome == "above"


def test_the_page_opens_with_every_question_and_its_table(made):
    found = answers(read_evidence(made.paths))
    table = results_table(found)
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["Predicting state: macro-F1"][0] == "= tie"
    assert rows["Predicting state: macro-F1"][-1] == "annotation.tsv and annotation_differences.tsv"
    assert rows["TF-gene pairs (simulated truth): AUPRC"][:3] == ["▲ ahead", "0.500 [0.450, 0.550]", "Pearson"]
    assert rows["Embedding: NMI"][0] == "▼ behind" and rows["Predicting time: R²"][0] == "▲ ahead"
    assert rows["Expression of held-out donors: R²"][0] == "undecided"
    # Single branches of the tree are not what counts.
    assert rows["Drivers: state: precision among as many as are true"][1].startswith("0.700")
    words = balance(found)
    assert words.startswith("In 8 comparisons")
    assert "ours is ahead in 4, ties in 2 and is behind in 1; 1 cannot be decided" in words
    assert balance([]) == "" and results_table([]) is None


def test_many_perturbations_are_shown_by_their_mean(tmp_path):
    parts = [
        invented_results.tidy(f"norman: GENE{at}", {"regulonformer": 0.1 * at, "mean": 0.2}, ["pearson_change"])
        for at in range(1, 8)
    ]
    pd.concat(parts).to_csv(tmp_path / "perturbation.tsv", sep="\t", index=False)
    [(_, dataset, rows)] = scored(read_evidence({"perturbation": tmp_path / "perturbation.tsv"}), "perturbation")
    assert dataset == "norman: 7 perturbations"
    mean = rows[(rows["fold"] == "pooled") & (rows["method"] == "regulonformer")].iloc[0]
    half = 2.4469 * 0.1 * np.std(range(7), ddof=1) / np.sqrt(7)  # Student's t, six degrees of freedom
    assert mean["value"] == pytest.approx(0.4) and mean["ci_high"] == pytest.approx(0.4 + half, rel=1e-3)
    assert (rows["fold"] != "pooled").sum() == 14


def test_differences_are_averaged_over_many_perturbations_too_and_those_from_other_donors_apart(tmp_path):
    parts = []
    for at in range(1, 8):
        for end, ours, other in (("", 0.1 * at + 0.2, 0.1 * at), (FROM_OTHERS, 0.3, 0.3 + 0.1 * (-1) ** at)):
            scores = {"regulonformer": ours, "mean": other}
            parts.append(invented_results.tidy(f"norman: GENE{at}{end}", scores, ["pearson_change"]))
            gap = {"mean": other - ours + 0.001 * at}
            parts.append(invented_results.tidy(f"norman: GENE{at}{end}", gap, ["gap_pearson_change"]))
    pd.concat(parts).to_csv(tmp_path / "perturbation.tsv", sep="\t", index=False)
    found = answers(read_evidence({"perturbation": tmp_path / "perturbation.tsv"}))
    outcomes = {answer.dataset: answer.comparison.outcome for answer in found}
    assert outcomes == {"norman: 7 perturbations": "above", f"norman: 7 perturbations{FROM_OTHERS}": "tied"}
    # The scores alone could not tell: they differ more between perturbations than between methods.
    assert found[0].comparison.difference["value"] == pytest.approx(0.196)


def test_table_of_differences_marks_wins_ties_and_losses():
    table = difference_table(invented_results.differences(), "toy:state", "evaluate/annotation_differences.tsv")
    rows = {row[0]: row[1:] for row in table.rows}
    assert table.columns[:2] == ["Ours less …", "Macro-F1"]
    assert rows["kNN PCA(RNA)"][0] == "+0.100 ▲ [+0.080, +0.120]"
    assert rows["Logistic regression PCA(RNA)+LSI(ATAC)"][0] == "-0.010 = [-0.030, +0.010]"
    assert table.rows[0][0].startswith("Logistic") and table.rows[-1][0].startswith("Majority")
    assert table.numeric == [False, *[True] * 4]
    assert difference_table(invented_results.differences(), "other:task", "x") is None


def test_headline_says_when_pretraining_is_above_its_floor(made):
    evidence = read_evidence({name: made.paths[name] for name in ("pretrain_metrics", "annotation", "differences")})
    said = {finding.section: finding for finding in findings(evidence, answers(evidence))}
    # The invented curves end at .945 against 1.1 (RNA) and at .532 against .52 (ATAC).
    assert "below the floor for RNA" in said["model"].sentence
    assert "above the floor for ATAC" in said["model"].sentence
    assert "not yet learned more than averages" in said["model"].sentence
    assert said["annotation"].verdict == "tied" and said["fusion"].verdict == "ahead"
    assert "macro-F1 changes by +0.040 (interval +0.020 to +0.060) over RNA alone" in said["fusion"].sentence
