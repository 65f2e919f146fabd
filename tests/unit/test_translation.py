"""One modality from the other, on cells whose modalities share a few hidden factors."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from regulonformer.adapt.translate import RANK, Basis, Source, translate
from regulonformer.evaluate import translation as scores

N_TRAIN, N_TEST, N_FEATURES = 500, 250, 80
TRAIN, TEST = slice(N_TRAIN), slice(N_TRAIN, None)


@pytest.fixture(scope="module")
def world():
    """Components that hold two factors, an embedding that holds a third, depth, and a target of all four."""
    rng = np.random.default_rng(0)
    n = N_TRAIN + N_TEST
    factors, log_depth = rng.normal(size=(n, 3)), rng.normal(7, 0.4, n)
    components = np.c_[factors[:, :2], 0.1 * rng.normal(size=(n, 8))]
    embedding = np.c_[factors[:, 2], rng.normal(size=(n, 3))] * 5 + 2
    # The first factor acts in a way that no linear model sees.
    causes = np.c_[np.abs(factors[:, :1]) - 0.8, factors[:, 1:], log_depth - 7]
    target = causes @ rng.normal(size=(4, N_FEATURES)) + rng.normal(size=(n, N_FEATURES))
    validation = rng.random(N_TRAIN) < 0.2
    return Source(components, log_depth, embedding), target, validation


def per_feature(predicted, target):
    return scores.column_correlations(predicted, target[TEST]).mean()


def test_translation_beats_linear_models_and_neighbours_where_the_truth_bends(world):
    source, target, validation = world
    ours = translate(source[TRAIN], target[TRAIN], validation, source[TEST], 0)
    query, space = (source.components[TEST], source.log_depth[TEST]), target[TRAIN, :20]
    arguments = (source.components[TRAIN], source.log_depth[TRAIN], space, target[TRAIN], validation, query)
    floors = scores.predict_floors(*arguments)
    best = max(per_feature(predicted, target) for predicted in floors.values())
    assert per_feature(ours.predicted, target) > best + 0.1
    assert per_feature(floors["mean profile"], target) == 0
    assert per_feature(floors["ridge with depth"], target) > per_feature(floors["ridge"], target) + 0.02


def test_embedding_adds_what_it_alone_knows(world):
    source, target, validation = world
    ours = translate(source[TRAIN], target[TRAIN], validation, source[TEST], 0)
    without = Source(source.components, source.log_depth)
    alone = translate(without[TRAIN], target[TRAIN], validation, without[TEST], 0)
    assert per_feature(ours.predicted, target) > per_feature(alone.predicted, target) + 0.1
    assert sum(weight for name, weight in ours.weights.items() if "embedding" in name) > 0.5
    assert not any("embedding" in name for name in alone.weights)


def test_inputs_without_information_predict_about_the_mean(world):
    source, target, validation = world
    shuffled = source[np.random.default_rng(1).permutation(len(target))]
    ours = translate(shuffled[TRAIN], target[TRAIN], validation, shuffled[TEST], 0)
    error, floor = (((part - target[TEST]) ** 2).mean() for part in (ours.predicted, target[TRAIN].mean(0)))
    assert error < 1.02 * floor
    assert abs(per_feature(ours.predicted, target)) < 0.05


def test_same_seed_same_bytes(world):
    source, target, validation = world
    one, other = (translate(source[TRAIN], target[TRAIN], validation, source[TEST], 3).predicted for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_basis_spans_what_a_linear_model_predicts(world):
    source, target, _ = world
    inputs = source.components - source.components.mean(0)
    basis = Basis(inputs, target)
    np.testing.assert_allclose(basis.vectors.T @ basis.vectors, np.eye(min(RANK, inputs.shape[1])), atol=1e-6)
    fitted = inputs @ np.linalg.lstsq(inputs, target - target.mean(0), rcond=None)[0]
    np.testing.assert_allclose(fitted @ basis.vectors @ basis.vectors.T, fitted, atol=0.02)


def test_scores_of_columns_are_those_of_numpy_and_scikit_learn():
    rng = np.random.default_rng(0)
    predicted, observed = rng.integers(5, size=(60, 4)).astype(float), (rng.random((60, 4)) < 0.3).astype(float)
    found = scores.score_fold(predicted, observed, "peak")
    for column in range(4):
        pair = predicted[:, column], observed[:, column]
        assert found["pearson_per_peak"][column] == pytest.approx(np.corrcoef(*pair)[0, 1])
        assert found["auroc_per_peak"][column] == pytest.approx(roc_auc_score(pair[1], pair[0]))
    assert found["pearson_per_cell"].shape == found["rmse"].shape == (60,)
    constant = scores.score_fold(np.full((60, 4), 0.1 + 0.2), observed, "peak")
    assert (constant["pearson_per_peak"] == 0).all() and (constant["auroc_per_peak"] == 0.5).all()


def test_only_features_seen_in_every_fold_are_judged():
    seen, folds = np.zeros((20, 4), bool), np.repeat([0, 1], 10)
    seen[[0, 1, 2, 10, 11, 12], 0] = True  # in three cells of both folds
    seen[:6, 1] = True  # in one fold alone
    seen[:, 2] = True  # in every cell: nothing to tell apart
    seen[[0, 1, 2, 3, 10, 11, 12, 13], 3] = True
    assert scores.judged_features(seen, folds, 3, 10, seed=0).tolist() == [0, 3]
    drawn = {scores.judged_features(seen, folds, 3, 1, seed)[0] for seed in range(20)}
    assert drawn == {0, 3}


def test_intervals_cover_the_truth_and_gaps_are_paired():
    rng = np.random.default_rng(0)
    strata = {fold: np.repeat(["s1", "s2"], 100) for fold in (0, 1)}
    shared, made = rng.normal(0.3, 0.2, size=50), {}
    for fold in strata:
        cells = rng.gamma(2, 0.1, size=200)
        for seed in (0, 1):
            made["ours", fold, seed] = {"pearson_per_gene": shared, "rmse": cells}
            made["other", fold, seed] = {"pearson_per_gene": shared - 0.05, "rmse": cells * 4}
    table = scores.score_table(made, strata, "ours", bootstrap=300, confidence=0.95, seed=0)
    pooled = table[(table["fold"] == "pooled") & (table["seed"] == "all")].set_index(["method", "metric"])
    row = pooled.loc["ours", "pearson_per_gene"]
    assert row["value"] == pytest.approx(shared.mean())
    assert row["ci_high"] - row["ci_low"] == pytest.approx(2 * 1.96 * shared.std() / np.sqrt(50), rel=0.25)
    gap = pooled.loc["other", "gap_pearson_per_gene"]
    np.testing.assert_allclose(gap[["value", "ci_low", "ci_high"]].astype(float), -0.05)
    ours, other = (pooled.loc[name, "rmse"]["value"] for name in ("ours", "other"))
    assert other == pytest.approx(2 * ours)
    assert len(table[table["fold"] == "0"]) == 2 * 2 * 2
