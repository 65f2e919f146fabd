"""Drivers of classes: the permutation null, TFs, regulons, enrichment, and their judgement."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import fisher_exact

from regulonformer.evaluate.drivers import branches_of, score_ranking
from regulonformer.explain.enrichment import enrichment_table
from regulonformer.explain.permutation import contrast_classes
from regulonformer.explain.tables import driver_table, stability_table
from regulonformer.explain.tfs import agreement, driver_tfs, regulon_influence, tf_evidence
from regulonformer.simulate.lineage import STATES

N_CELLS, N_GENES = 60, 40
CLASS = np.arange(N_CELLS) % 3
FOLD = np.arange(N_CELLS) // 3 % 2
NAMES = np.array(["a", "b", "c"])[CLASS]
GENES = pd.DataFrame({"symbol": [f"g{i}" for i in range(N_GENES)], "is_tf": np.arange(N_GENES) < 5})


def noise(seed=0, n=N_GENES):
    return np.random.default_rng(seed).normal(size=(N_CELLS, n)).astype(np.float32)


def test_z_of_the_null_is_that_of_all_permutations():
    """Exact moments, against the deviation of many drawn permutations."""
    values, rng = noise(n=1), np.random.default_rng(1)
    found = contrast_classes(values, CLASS, FOLD, 3, 0, 0)
    drawn = []
    centred = values[:, 0].copy()
    for fold in (0, 1):
        centred[fold == FOLD] -= centred[fold == FOLD].mean()
    for _ in range(4000):
        labels = CLASS.copy()
        for fold in (0, 1):
            labels[fold == FOLD] = rng.permutation(CLASS[fold == FOLD])
        drawn.append(centred[labels == 0].mean() - centred[labels != 0].mean())
    assert found.difference_CF[0, 0] / found.z_CF[0, 0] == pytest.approx(np.std(drawn), rel=0.05)


def test_p_values_are_uniform_without_a_difference_and_small_with_one():
    values = noise(n=400)
    values[:, 0] += 2.0 * (CLASS == 1)
    found = contrast_classes(values, CLASS, FOLD, 3, 200, 0)
    assert found.p_CF[1, 0] == pytest.approx(1 / (1 + 200 * 400)) and found.p_CF[0, 0] > 0.5
    null = found.p_CF[:, 1:]
    assert null.mean() == pytest.approx(0.5, abs=0.04) and (null <= 0.05).mean() == pytest.approx(0.05, abs=0.02)


def test_one_cell_of_a_rare_class_is_no_driver():
    """Its z is large, but in one of 20 permutations the cell falls into the class."""
    rare = np.array([0] * 3 + [1] * 57)
    values = noise()
    values[:, 0] = 0
    values[1, 0] = 5.0
    found = contrast_classes(values, rare, np.zeros(N_CELLS), 2, 500, 0)
    assert found.z_CF[0, 0] > 4 and found.p_CF[0, 0] == pytest.approx(0.05, abs=0.03)


def test_a_difference_between_folds_is_none_between_classes():
    """One model attributes ten times as much as the other; its fold has more cells of one class."""
    fold = (np.arange(N_CELLS) % 12 < np.where(CLASS == 0, 9, 3)).astype(int)
    values = noise() + 10 * fold[:, None]
    assert np.abs(contrast_classes(values, CLASS, fold, 3, 0, 0).z_CF).max() < 4.5
    pooled = contrast_classes(values, CLASS, np.zeros(N_CELLS), 3, 0, 0)
    # Without folds every gene would seem to be of the class.
    assert np.abs(pooled.z_CF[0]).min() > 2 > np.abs(contrast_classes(values, CLASS, fold, 3, 0, 0).z_CF[0]).mean()


def test_a_class_alone_and_a_class_without_cells_prove_nothing():
    values = noise()
    assert (contrast_classes(values, np.zeros(N_CELLS, int), FOLD, 1, 20, 0).p_CF == 1).all()
    with_empty = contrast_classes(values, CLASS, FOLD, 4, 20, 0)
    assert (with_empty.p_CF[3] == 1).all() and (with_empty.z_CF[3] == 0).all()


@pytest.fixture
def values():
    """Attributions in which g7 drives class b by RNA and g8 class c by accessibility; g39 is never a token."""
    values = 0.1 * np.stack([noise(0), noise(1)], axis=1)
    values[:, 0, 7] += CLASS == 1
    values[:, 1, 8] += CLASS == 2
    values[:, :, 39] = 0
    return values


def test_planted_drivers_are_found_and_others_are_not(values):
    markers = pd.DataFrame({"class": ["b", "c"], "gene": ["g7", "g30"]})
    table = driver_table(values, NAMES, FOLD, GENES, markers, n_permutations=999, n_rows=3, seed=0)
    expected = ["class", "gene", "modality", "is_tf", "attribution", "specificity", "z", "p", "fdr", "rank"]
    assert list(table) == [*expected, "is_marker", "n_cells"]
    called = table[table["fdr"] <= 0.05]
    assert set(called[["class", "gene", "modality"]].itertuples(index=False, name=None)) == {
        ("b", "g7", "rna"),
        ("c", "g8", "atac"),
    }
    first = table.set_index(["class", "modality", "rank"])
    assert first.loc[("b", "rna", 1), "gene"] == "g7" and first.loc[("b", "rna", 1), "is_marker"]
    assert first.loc[("b", "rna", 1), "attribution"] == pytest.approx(1, abs=0.1)
    # Few rows, but all TFs and markers.
    of_c = table[(table["class"] == "c") & (table["modality"] == "rna")]
    assert {"g0", "g1", "g2", "g3", "g4", "g30"} <= set(of_c["gene"]) and len(of_c) < 12
    assert "g39" not in set(table["gene"])
    without = driver_table(values, NAMES, FOLD, GENES, None, n_permutations=99, n_rows=3, seed=0)
    assert without["is_marker"].isna().all()


def test_stability_tells_models_that_agree_from_those_that_do_not():
    rng, rows = np.random.default_rng(0), []
    truth = rng.normal(size=80)
    for fold in (0, 1):
        of_fold = rng.normal(size=80)
        for seed in (0, 1):
            value = truth + of_fold + 0.1 * rng.normal(size=80)
            rows.append(pd.DataFrame({"gene": [f"g{i}" for i in range(80)], "attribution": value, "fold": fold}))
            rows[-1] = rows[-1].assign(seed=seed, modality="rna", **{"class": "a"})
    table = stability_table(pd.concat(rows)).set_index("between")
    assert table["pairs"].to_dict() == {"seeds": 2, "folds": 2}
    assert table.loc["seeds", "spearman"] > 0.95 and 0.2 < table.loc["folds", "spearman"] < 0.8
    assert (table["spearman_lowest"] <= table["spearman"]).all() and table.loc["seeds", "top_overlap"] > 0.8
    assert table[["ci_low", "ci_high"]].isna().all(axis=None)  # two pairs tell no interval


def test_interval_of_stability_covers_the_truth_although_pairs_share_models():
    rng, covered = np.random.default_rng(1), []
    genes = [f"g{i}" for i in range(200)]
    for _ in range(60):
        truth, rows = rng.normal(size=200), []
        for fold in range(4):
            # Folds differ in how much of the truth they hold: pairs that share a fold go up and down together.
            value = truth + rng.uniform(0.5, 2) * rng.normal(size=200)
            rows.append(pd.DataFrame({"gene": genes, "attribution": value, "fold": fold, "seed": 0, "modality": "rna"}))
        [row] = stability_table(pd.concat(rows).assign(**{"class": "a"})).to_dict("records")
        assert row["pairs"] == 6 and -1 <= row["ci_low"] < row["spearman"] < row["ci_high"] <= 1
        covered.append(row["ci_low"] < 0.397 < row["ci_high"])
    assert np.mean(covered) >= 0.9


@pytest.mark.filterwarnings("error")
def test_stability_has_no_interval_where_one_fold_is_in_every_pair():
    # The seeds of the others differ, so that pairs are of the first fold and one of them each.
    rng, models = np.random.default_rng(2), ((0, 0), (0, 1), (0, 2), (1, 0), (2, 1), (3, 2))
    rows = [
        pd.DataFrame({"gene": [f"g{i}" for i in range(20)], "attribution": rng.normal(size=20), "fold": f, "seed": s})
        for f, s in models
    ]
    table = stability_table(pd.concat(rows).assign(modality="rna", **{"class": "a"})).set_index("between")
    assert table.loc["folds", "pairs"] == 3 and table.loc["folds", ["ci_low", "ci_high"]].isna().all()


def test_a_repressed_target_that_is_low_speaks_for_its_tf():
    genes, tfs = pd.Index(["g0", "g1", "g2"]), ["g0", "hidden"]
    weights = sparse.csr_matrix(np.array([[0.0, 0], [1, 0], [-2, 0.5]]))
    # The cell has more of g1 than its baseline and less of g2, and both speak for its class.
    attribution, direction = np.array([[0.5, 1.0, 3.0]]), np.array([[1, 1, -1]])
    found = tf_evidence(attribution * direction, np.array([[0.9, 0.1]]), ["g0", "other"], genes, weights, tfs)
    np.testing.assert_allclose(found["own"], [[0.5, 0]])
    np.testing.assert_allclose(found["targets"], [[1 + 6, -1.5]])
    np.testing.assert_allclose(found["attention"], [[0.9, 0]])


def test_driver_tfs_add_up_what_three_sides_say():
    rng, tfs = np.random.default_rng(0), [f"t{i}" for i in range(20)]
    evidence = {kind: rng.normal(size=(N_CELLS, 20)) for kind in ("own", "targets", "attention")}
    for kind, scale in (("own", 1.0), ("targets", 100.0), ("attention", 1e-4)):
        evidence[kind][:, 3] = scale * (evidence[kind][:, 3] + 0.8 * (CLASS == 0))
    evidence["own"][:, 5] += 2 * (CLASS == 0)  # one side alone
    evidence["attention"][:, 9] = 0  # no regulon
    table = driver_tfs(evidence, tfs, NAMES, FOLD, np.arange(20), 200, 0)
    of_a = table[table["class"] == "a"].set_index("tf")
    assert set(of_a.index[:2]) == {"t3", "t5"} and of_a.loc["t3", "fdr"] <= 0.05
    assert of_a.loc["t3", "score"] > of_a.loc["t3", ["own", "targets", "attention"]].max()
    assert of_a.loc["t5", "score"] < of_a.loc["t5", "own"]
    assert of_a.loc["t9", "attention"] == 0 and of_a.loc["t9", "n_targets"] == 9
    assert (table.groupby("class")["rank"].max() == 20).all()


def test_attention_that_follows_attributions_agrees_with_them():
    rng, slots = np.random.default_rng(0), [f"t{i}" for i in range(15)]
    raised = (np.arange(15)[None] % 3 == CLASS[:, None]) * 0.5
    attention = np.stack([np.exp(raised + 0.1 * rng.normal(size=(N_CELLS, 15))) for _ in range(2)])
    attention /= attention.sum(-1, keepdims=True)
    influence = regulon_influence(attention, slots, NAMES, FOLD, 99, 0)
    top = influence[influence["rank"] <= 5].groupby("class")["regulon"].agg(set)
    assert top["b"] == {"t1", "t4", "t7", "t10", "t13"}
    np.testing.assert_allclose(influence.groupby("class")["influence"].sum(), 1, atol=1e-5)
    evidence = {"own": raised + noise(2, 15) * 0.1, "targets": raised, "attention": np.zeros_like(raised)}
    follows = agreement(driver_tfs(evidence, slots, NAMES, FOLD, np.ones(15), 0, 0), influence)
    assert follows["mean"] > 0.5 and follows["tfs"] == 15 and set(follows["classes"]) == {"a", "b", "c"}
    opposite = {kind: -values for kind, values in evidence.items()}
    assert agreement(driver_tfs(opposite, slots, NAMES, FOLD, np.ones(15), 0, 0), influence)["mean"] == -follows["mean"]
    assert regulon_influence(np.zeros((2, N_CELLS, 0)), [], NAMES, FOLD, 99, 0).empty


def test_enrichment_is_fishers_exact_test():
    background = {f"g{i}" for i in range(100)}
    drivers = {"a": ["g1", "g2", "g3", "g50", "unseen"], "b": ["g60"]}
    known = {"g1", "g2", "g3", "g4", "elsewhere"}
    sets = [("T1", "regulon", known), ("T2", "regulon", {"g70"}), ("a", "markers", {"g50"})]
    table = enrichment_table(drivers, sets, background)
    row = table[(table["class"] == "a") & (table["set"] == "T1")].iloc[0]
    assert (row["overlap"], row["set_size"], row["drivers"], row["background"]) == (3, 4, 4, 100)
    assert row["p"] == pytest.approx(fisher_exact([[3, 1], [1, 95]], alternative="greater").pvalue)
    assert row["genes"] == "g1,g2,g3" and row["expected"] == pytest.approx(0.16)
    assert row["fdr"] == pytest.approx(2 * row["p"])
    assert table[(table["class"] == "b")]["overlap"].sum() == 0


def test_branches_of_the_simulated_tree():
    branches = branches_of({state.name: state.parent for state in STATES})
    assert branches == {
        "a_terminal": ["a_intermediate", "a_terminal"],
        "b_terminal": ["b_intermediate", "b_terminal"],
        "side": ["side"],
    }


def test_precision_of_a_ranking_by_hand():
    tfs = [f"t{i}" for i in range(30)]
    perfect = pd.Series(np.arange(30, 0, -1), index=tfs)
    true = {"one": {"t0", "t1", "t2", "t3"}, "two": {"t0", "t29", "not judged"}}
    rows = score_ranking([{"one": perfect, "two": perfect}], true, tfs, n=200, confidence=0.9, seed=0)
    table = pd.DataFrame(rows, columns=["seed", "metric", "value", "low", "high", "branch", "true"])
    at_true, at_20 = (table[table["metric"] == f"precision_at_{k}"].set_index("branch") for k in ("true", 20))
    assert at_true["value"].to_dict() == {"one": 1, "two": 0.5, "all": 0.75}
    assert at_20["value"].to_dict() == {"one": 0.2, "two": 0.05, "all": 0.125}
    assert at_true.loc["one", "low"] == 1  # whichever TFs are drawn
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()
    # A TF without a score is behind all others.
    lost = score_ranking([{"one": perfect.drop("t0"), "two": perfect}], true, tfs, n=10, confidence=0.9, seed=0)
    assert lost[0][2] == 0.75
    seeds = [{"one": perfect}, {"one": -perfect}]
    several = score_ranking(seeds, {"one": true["one"]}, tfs, n=10, confidence=0.9, seed=0)
    of_seed = {row[0]: row[2] for row in several if row[1] == "precision_at_true" and row[5] == "one"}
    assert of_seed == {"0": 1.0, "1": 0.0, "all": 0.5}
