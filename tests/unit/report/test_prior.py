"""Regulons and links: sections follow what is there, states have their own regulons, scores claim what they may."""

import re

import invented_results
import numpy as np
import pandas as pd
import pytest
from invented_run import InventedRun

from regulonformer.errors import InputError
from regulonformer.report.activity import most_specific, top_of_groups
from regulonformer.report.evidence import read_evidence
from regulonformer.report.figures.links import edge_model, link_calibration, reliability
from regulonformer.report.questions import answers
from regulonformer.report.style import theme
from regulonformer.report.tables.regulons import calibration_table, edge_evidence_table
from regulonformer.report.tables.scores import score_table
from regulonformer.report.words.findings import findings

PRIOR = ["links", "link_summary", "regulons", "regulon_summary", "regulon_activity", "grn", "grn_reliability"]
PRIOR += ["multiome", "embedding"]
FOREST = "forest_grn_TF_gene__simulated_truth"


@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize(
    ("missing", "gone"),
    [
        (["link_summary", "grn"], {"link_calibration", FOREST, "reliability"}),
        (["grn_reliability"], {"reliability"}),
        (["regulon_summary", "multiome"], {"edge_model"}),
        (["regulon_activity", "embedding"], {"regulon_activity"}),
        (["multiome", "embedding", "links"], {"regulon_activity"}),
    ],
)
def test_inputs_of_the_regulons_may_be_missing(made, tmp_path, missing, gone):
    html = made.write(tmp_path, only=[name for name in PRIOR if name not in missing])
    everything = {"link_calibration", "edge_model", "regulon_activity", FOREST}
    everything.add("reliability")
    assert {stem for stem in everything if f'id="{stem}"' in html} == everything - gone
    assert {'id="top_regulons"', 'id="edge_evidence"', 'id="regulon_overview"'} <= set(re.findall(r'id="\w+"', html))


def test_network_alone_has_no_elements_and_no_motifs(made, tmp_path):
    regulons = pd.read_parquet(made.paths["regulons"])[["source", "target", "score", "sign"]].assign(network=1.0)
    regulons.to_parquet(tmp_path / "regulons.parquet")
    evidence = read_evidence({"regulons": tmp_path / "regulons.parquet"})
    table = edge_evidence_table(evidence.regulons, ["TF1"])
    assert table.columns == ["TF", "Target", "Direction", "CRE", "Score", "Network"]
    assert {row[3] for row in table.rows} == {"–"}
    summary = {
        "edges_in_network": 9,
        "score_model": {"null_tail": [0.5, 0.0], "density_ratio": [[1, 1], [1, 3], [1, 1]]},
    }
    with theme():
        assert [axis.get_title(loc="left") for axis in edge_model(summary).axes] == ["What association says"]
        assert edge_model({"edges": 9}) is None


def test_regulons_of_each_state_are_those_that_stand_out(made, text):
    activity = read_evidence({"regulon_activity": made.paths["regulon_activity"]}).regulon_activity
    top = top_of_groups(activity.differences(activity.obs["state"]), 1)
    assert dict(zip(top["group"], top["tf"], strict=True)) == dict(zip(made.states, made.tfs, strict=False))
    for row in top.itertuples():
        assert f"{row.group} {row.tf} +{row.difference:.2f}" in text
    # Four maps: one regulon of each state.
    specific = most_specific(top_of_groups(activity.differences(activity.obs["state"]), 3), 4)
    assert specific == dict(zip(made.tfs, made.states, strict=False))


def test_differences_of_activity_are_read_in_blocks(made, monkeypatch):
    activity = read_evidence({"regulon_activity": made.paths["regulon_activity"]}).regulon_activity
    monkeypatch.setattr("regulonformer.report.activity.BLOCK_CELLS", 7)
    groups = activity.obs["state"].astype(str).where(np.arange(len(activity.obs)) > 10)
    values = activity.of_regulons(list(activity.tfs))[groups.notna().to_numpy()]
    known = groups.dropna()
    for state, row in activity.differences(groups).iterrows():
        mine = (known == state).to_numpy()
        expected = (values[mine].mean() - values[~mine].mean()) / values.std(ddof=0)
        np.testing.assert_allclose(row, expected, rtol=1e-4)


@pytest.mark.usefixtures("unrendered")
def test_one_library_without_labels_has_no_groups(tmp_path):
    one = InventedRun(tmp_path / "one", libraries=1)
    html = one.write(tmp_path / "report", config={"run": "one"}, only=PRIOR)
    assert 'id="state_regulons"' not in html and 'id="edge_evidence"' in html
    assert "Activity of the strongest regulons" in html


def test_calibration_shows_uniform_controls_and_the_excess_of_candidates():
    summary = invented_results.link_summary(np.random.default_rng(1))
    with theme():
        p_values, z_scores, odds = link_calibration(summary).axes
        steps = {patch.get_label(): patch.get_data().values for patch in p_values.patches}
        assert np.abs(steps["null controls"] - 1).max() < 0.25
        assert steps["candidate pairs"][0] > 3 and steps["candidate pairs"][5:].max() < 1.1
        assert odds.get_lines()[0].get_ydata().tolist() == [5, 2.5, 1.25]
        without_null = {key: summary[key] for key in ("cells", "model")}
        assert [axis.get_title(loc="left") for axis in link_calibration(without_null).axes] == ["Learnt odds of a link"]
        assert link_calibration({"cells": 3}) is None
    table = calibration_table(summary)
    assert [row[0] for row in table.rows] == ["Null controls", "Just out of reach", "Candidate pairs"]
    assert 0.7 < float(table.rows[0][2]) < 1.3 and float(table.rows[2][2]) > 3
    assert calibration_table({"cells": 3}) is None


def test_reliability_is_drawn_as_it_was_measured():
    table = invented_results.reliability_table()
    other = table.assign(dataset="toy: CRE-gene, simulated truth", share_true=0.0, ci_low=0.0, ci_high=0.0)
    with theme():
        figure = reliability(pd.concat([table, other]))
        first, second, *counts = figure.axes
        assert first.get_title(loc="left") == "toy: TF-gene, simulated truth"
        diagonal, curve = first.get_lines()[:2]
        assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
        np.testing.assert_allclose(curve.get_xydata(), table[["mean_score", "share_true"]])
        assert not second.get_lines()[1].get_ydata().any()
        assert [bar.get_height() for bar in counts[0].patches] == [900, 90, 9]
        assert reliability(table.head(0)) is None


def test_judgement_is_explained_and_claims_no_more_than_intervals_allow(made, text):
    assert "Regulons, shuffled: our own regulons with their targets swapped at random" in text
    scores = invented_results.judged_regulons()
    scores = scores[scores["dataset"] == "toy: TF-gene, simulated truth"]
    table = score_table(scores, "scores", "TF-gene pairs", "evaluate/grn.tsv")
    assert table.rows[0] == ["Regulonformer (regulons), ours", "0.500 ★ [0.450, 0.550]", "0.900"]
    assert table.rows[-1] == ["Regulons, shuffled", "0.040 [0.030, 0.050]", "–"]
    assert table.numeric == [False, True, True]
    evidence = read_evidence({"grn": made.paths["grn"]})
    said = {finding.topic: finding for finding in findings(evidence, answers(evidence))}
    assert said["TF-gene pairs (simulated truth)"].verdict == "ahead"
    assert "an AUPRC of 0.500" in said["TF-gene pairs (simulated truth)"].sentence
    assert said["Expression of held-out donors"].verdict == "open"


def test_long_lists_are_shortened_and_models_are_no_counts(text):
    assert "Motif10, Motif11 and 88 more" in text
    assert "Score model" not in text and "site strata" not in text


@pytest.mark.usefixtures("unrendered")
def test_unknown_colour_is_refused(made, tmp_path):
    with pytest.raises(InputError, match=r"report.colour_by: the cells have no column 'celltype'"):
        made.write(tmp_path, {"colour_by": "celltype"}, only=["multiome"])
