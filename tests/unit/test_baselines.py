import importlib.util

import mudata as md
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import evaluate_annotation
import run_baselines
from regulonformer.decompose import AtacLsi, RnaPca
from regulonformer.errors import InputError
from regulonformer.evaluate.baselines import BASELINES, EvaluateSettings, predict_baselines
from regulonformer.evaluate.few_labels import draw_labelled, split_labelled
from regulonformer.evaluate.spaces import raw_features
from regulonformer.evaluate.wide_mlp import WideMlp

SETTINGS = EvaluateSettings(pca_components=5, n_top_genes=40, n_top_peaks=50, bootstrap=50)
SPACES = ("PCA(RNA)", "LSI(ATAC)", "PCA(RNA)+LSI(ATAC)")
METHODS = {
    "majority",
    "kNN PCA(RNA)",
    "XGBoost PCA(RNA)+LSI(ATAC)",
    *(f"logistic regression {space}" for space in (*SPACES, "raw(RNA)", "raw(ATAC)", "raw(RNA+ATAC)")),
    *(f"MLP {space}" for space in SPACES),
}
TABLES = ("recall", "reliability", "differences")


def make_counts(n=240, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2])
    profile = {label: rng.gamma(0.4, 2.0, 60) for label in "abc"}
    opened = {label: rng.beta(0.3, 1.5, 80) for label in "abc"}
    rna = sparse.csr_matrix(np.stack([rng.poisson(profile[label]) for label in labels]).astype(np.int32))
    atac = sparse.csr_matrix(np.stack([rng.binomial(2, opened[label]) for label in labels]).astype(np.int32))
    return rna, atac, labels


@pytest.fixture
def multiome(tmp_path):
    rna, atac, labels = make_counts()
    names = [f"cell{i:03d}" for i in range(len(labels))]
    obs = pd.DataFrame({"sample": np.repeat(["s1", "s2", "s3", "s4"], 60), "donor": "", "state": labels}, index=names)
    obs.loc["cell000", "state"] = ""
    with md.set_options(pull_on_update=False):
        genes = pd.DataFrame(index=[f"gene{i}" for i in range(rna.shape[1])])
        peaks = pd.DataFrame(index=[f"peak{i}" for i in range(atac.shape[1])])
        data = md.MuData({"rna": AnnData(rna, obs[[]], genes), "atac": AnnData(atac, obs[[]], peaks)})
        data.obs = obs
        data.write_h5mu(tmp_path / "multiome.h5mu")
    return tmp_path / "multiome.h5mu"


def predict(rna, atac, labels, test, settings=SETTINGS, seeds=(0,)):
    """Predicted label and probability by method and seed."""
    found = predict_baselines(rna, atac, labels, test, settings, list(seeds), np.repeat("s", len(labels)))
    return {(method, seed): (predicted, probability) for method, seed, predicted, probability in found}


def test_learn_from_training_cells_only():
    rna, atac, labels = make_counts()
    test = np.arange(len(labels)) >= 160
    other_rna, other_atac = rna.copy().tolil(), atac.copy().tolil()
    other_rna[200:], other_atac[200:] = 7, 1
    first, changed = predict(rna, atac, labels, test), predict(other_rna.tocsr(), other_atac.tocsr(), labels, test)
    for method, (predicted, probability) in first.items():
        assert (predicted[:40] == changed[method][0][:40]).all(), method
        np.testing.assert_allclose(probability[:40], changed[method][1][:40], rtol=1e-4, err_msg=str(method))


def test_signal_is_found_and_the_floor_is_the_floor():
    rna, atac, labels = make_counts()
    test = np.arange(len(labels)) >= 160
    found = predict(rna, atac, labels, test)
    accuracy = {method: (predicted == labels[test]).mean() for (method, _), (predicted, _) in found.items()}
    assert set(accuracy) == METHODS
    assert accuracy["majority"] == pytest.approx((labels[test] == "a").mean())
    assert found["majority", 0][1] == pytest.approx((labels[~test] == "a").mean())
    for method in METHODS - {"majority"}:
        assert accuracy[method] > 0.9, method
    for _, probability in found.values():
        assert (probability > 0).all() and (probability <= 1 + 1e-6).all()


def test_seeds_change_the_network_alone_and_other_methods_are_fitted_once(monkeypatch):
    rna, atac, labels = make_counts()
    test = np.arange(len(labels)) >= 160
    fits, original = [], WideMlp.fit
    monkeypatch.setattr(WideMlp, "fit", lambda self, *given: fits.append(self.seed) or original(self, *given))
    found = predict(rna, atac, labels, test, seeds=(0, 1))
    assert sorted(fits) == [0, 0, 0, 1, 1, 1]
    for method in METHODS:
        same = (found[method, 0][1] == found[method, 1][1]).all()
        assert same == (not method.startswith("MLP")), method


def test_rna_only_data_has_the_rna_baselines():
    rna, atac, labels = make_counts()
    test = np.arange(len(labels)) >= 160
    none = sparse.csr_matrix(atac.shape, dtype=atac.dtype)
    for absent in (None, none):
        methods = {method for method, _ in predict(rna, absent, labels, test)}
        assert not any("ATAC" in method for method in methods)
        assert "XGBoost PCA(RNA)" in methods


def test_only_named_baselines_are_fitted_and_scanvi_is_left_out_where_it_is_not_installed(caplog):
    rna, atac, labels = make_counts()
    settings = EvaluateSettings(pca_components=5, n_top_genes=40, baselines=("majority", "scanvi"))
    methods = {method for method, _ in predict(rna, atac, labels, np.arange(len(labels)) >= 160, settings)}
    if importlib.util.find_spec("scvi"):
        assert methods == {"majority", "scANVI RNA"}
    else:
        assert methods == {"majority"} and "scvi-tools is not installed" in caplog.text
    assert set(EvaluateSettings().baselines) == set(BASELINES)


def test_raw_features_are_chosen_on_training_cells_and_sparse():
    rna, atac, _ = make_counts()
    train = np.arange(rna.shape[0]) < 160
    spaces = raw_features(rna, atac, train, EvaluateSettings(n_top_genes=40, n_top_peaks=30))
    assert [space.shape[1] for space in spaces.values()] == [40, 30, 70]
    assert all(sparse.issparse(space) for space in spaces.values())
    for name in ("raw(RNA)", "raw(ATAC)"):
        cells = spaces[name][train]
        assert cells.multiply(cells).sum() / 160 == pytest.approx(1, rel=1e-4)


def test_a_class_that_is_held_out_alone_is_predicted_by_nobody():
    rna, atac, labels = make_counts()
    labels = labels.astype(object)
    test = np.arange(len(labels)) >= 160
    labels[200:] = "new"
    assert all("new" not in predicted for predicted, _ in predict(rna, atac, labels, test).values())


def test_labels_that_are_not_given_are_not_learned_from():
    rna, atac, labels = make_counts()
    test = np.arange(len(labels)) >= 160
    drawn = draw_labelled(labels, np.flatnonzero(~test), 5, seed=0)
    assert [len(cells) for cells in drawn] == [5, 5, 5]
    few = np.where(test | np.isin(np.arange(len(labels)), np.concatenate(drawn)), labels, "")
    rng = np.random.default_rng(0)
    hidden = few == ""
    lied = np.where(hidden, rng.permutation(labels), few)
    settings = EvaluateSettings(pca_components=5, n_top_genes=40, baselines=("majority", "logistic"))
    found, other = predict(rna, atac, few, test, settings), predict(rna, atac, lied, test, settings)
    assert set(found["majority", 0][1]) == {1 / 3}
    accuracy = {m: (predicted == labels[test]).mean() for (m, _), (predicted, _) in found.items()}
    assert accuracy["logistic regression PCA(RNA)+LSI(ATAC)"] > 0.8
    assert (found["logistic regression PCA(RNA)", 0][1] != other["logistic regression PCA(RNA)", 0][1]).any()


def test_draws_of_few_labels_are_nested_and_small_classes_give_what_they_have():
    truth = np.array(["a"] * 30 + ["b"] * 3 + ["c"] * 20)
    candidates = np.arange(0, 53)
    five, ten = (draw_labelled(truth, candidates, n, seed=1) for n in (5, 10))
    assert [len(cells) for cells in ten] == [10, 3, 10]
    assert all(set(small) <= set(large) for small, large in zip(five, ten, strict=True))
    assert all((truth[cells] == label).all() for cells, label in zip(ten, "abc", strict=True))
    train, held = split_labelled(ten, 0.1)
    assert sorted([*train, *held]) == sorted(np.concatenate(ten))
    assert sorted(truth[held]) == ["a", "c"]
    assert len(split_labelled(five, 0.1)[1]) == 0


def test_components_are_capped_and_empty_cells_are_finite():
    rna, atac, _ = make_counts(n=12)
    rna, atac = (sparse.csr_matrix(sparse.diags([0] + [1] * 11) @ m) for m in (rna, atac))
    assert np.isfinite(RnaPca(50, 40, 0).fit(rna[:6]).transform(rna)).all()
    assert np.isfinite(AtacLsi(50, 0).fit(atac[:6]).transform(atac)).all()


def test_one_training_class_is_refused():
    rna, atac, _ = make_counts(n=20)
    labels = np.array(["a"] * 10 + ["b"] * 10)
    with pytest.raises(InputError, match="one class only"):
        predict(rna, atac, labels, labels == "b")


def test_network_with_few_cells_trains_without_choosing_an_epoch():
    features = np.random.default_rng(0).normal(size=(12, 3))
    codes = np.arange(12) % 3
    features[:, 0] += 4 * codes
    one, two = (WideMlp(0).fit(features, codes).predict_proba(features) for _ in range(2))
    assert (one == two).all() and (one.argmax(1) == codes).mean() > 0.9
    assert (WideMlp(1).fit(features, codes).predict_proba(features) != one).any()


def test_from_multiome_to_scores(multiome, tmp_path):
    settings = {"pca_components": 5, "n_top_genes": 40, "n_top_peaks": 50, "bootstrap": 50}
    for name in ("one", "two"):
        run_baselines.main(
            multiome=multiome,
            settings=settings,
            task={"column": "state"},
            group="auto",
            folds=2,
            seeds=[0, 1],
            output=tmp_path / f"{name}.parquet",
        )
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    table = pd.read_parquet(tmp_path / "one.parquet")
    assert table.groupby(["method", "seed"])["cell"].nunique().eq(239).all()  # one cell has no label
    assert table.groupby("sample")["fold"].nunique().eq(1).all()

    # The model's predictions stand beside the baselines once they cover the same cells.
    ours = "regulonformer (regulon)"
    model = table[table["method"] == "majority"].drop(columns=["method", "probability"])
    shares = {"p:a": 0.6, "p:b": 0.3, "p:c": 0.1}
    model = model.assign(**shares)
    model.to_parquet(tmp_path / "model.parquet")
    arguments = dict(
        predictions=[
            {"path": tmp_path / "model.parquet", "dataset": "demo:state", "method": ours},
            {"path": tmp_path / "one.parquet", "dataset": "demo:state"},
        ],
        settings=settings,
        group="donor",
        ours=ours,
        output=tmp_path / "annotation.tsv",
        confusion=tmp_path / "confusion.json",
        **{name: tmp_path / f"{name}.tsv" for name in TABLES},
    )
    evaluate_annotation.main(**arguments)
    scores = pd.read_csv(tmp_path / "annotation.tsv", sep="\t")
    assert list(scores)[:8] == ["method", "dataset", "fold", "seed", "metric", "value", "ci_low", "ci_high"]
    assert set(scores["method"]) == {ours, *METHODS}
    overall = scores.query("fold == 'pooled' and seed == 'all'")
    # No donors are named: the four libraries are the groups of the second interval.
    assert overall["group_low"].notna().all() and (overall["group_low"] <= overall["group_high"]).all()
    assert scores.query("fold == '0'")["group_low"].isna().all()
    differences = pd.read_csv(tmp_path / "differences.tsv", sep="\t").set_index(["method", "metric"])
    assert differences.loc["majority", "verdict"]["macro_f1"] == "ties"
    assert differences.loc["XGBoost PCA(RNA)+LSI(ATAC)", "verdict"]["macro_f1"] == "loses"
    assert pd.read_csv(tmp_path / "recall.tsv", sep="\t").groupby("method")["n_cells"].sum().eq(239).all()
    assert pd.read_csv(tmp_path / "reliability.tsv", sep="\t").query("method == @ours")["confidence"].tolist() == [0.6]

    model.iloc[1:].to_parquet(tmp_path / "model.parquet")
    with pytest.raises(InputError, match="different cells"):
        evaluate_annotation.main(**arguments)
    model.drop(columns="p:a").to_parquet(tmp_path / "model.parquet")
    with pytest.raises(InputError, match="no probability of the predicted class 'a'"):
        evaluate_annotation.main(**arguments)
    model.to_parquet(tmp_path / "model.parquet")
    with pytest.raises(InputError, match="no predictions of"):
        evaluate_annotation.main(**arguments | {"ours": "nobody"})


@pytest.mark.skipif(importlib.util.find_spec("scvi") is not None, reason="scvi-tools is installed")
def test_a_run_without_any_baseline_left_says_what_to_do(multiome, tmp_path):
    with pytest.raises(InputError, match="scanvi.*make scvi"):
        run_baselines.main(
            multiome=multiome,
            settings={"baselines": ["scanvi"]},
            task={"column": "state"},
            group="auto",
            folds=2,
            seeds=[0],
            output=tmp_path / "x",
        )


def test_unknown_label_column_names_the_columns(multiome, tmp_path):
    with pytest.raises(InputError, match="state"):
        run_baselines.main(
            multiome=multiome,
            settings={},
            task={"column": "nope"},
            group="auto",
            folds=2,
            seeds=[0],
            output=tmp_path / "x",
        )
