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
from regulonformer.evaluate.baselines import EvaluateSettings, predict_baselines

SETTINGS = EvaluateSettings(pca_components=5, n_top_genes=40, bootstrap=50)


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


def test_learn_from_training_cells_only():
    rna, atac, labels = make_counts()
    test = np.arange(len(labels)) >= 160
    other_rna, other_atac = rna.copy().tolil(), atac.copy().tolil()
    other_rna[200:], other_atac[200:] = 7, 1
    first = predict_baselines(rna, atac, labels, test, SETTINGS, seed=0)
    changed = predict_baselines(other_rna.tocsr(), other_atac.tocsr(), labels, test, SETTINGS, seed=0)
    for method, (predicted, _) in first.items():
        assert (predicted[:40] == changed[method][0][:40]).all(), method


def test_signal_is_found_and_the_floor_is_the_floor():
    rna, atac, labels = make_counts()
    test = np.arange(len(labels)) >= 160
    accuracy = {
        method: (predicted == labels[test]).mean()
        for method, (predicted, _) in predict_baselines(rna, atac, labels, test, SETTINGS, seed=0).items()
    }
    assert accuracy["majority"] == pytest.approx((labels[test] == "a").mean())
    assert accuracy["logistic regression PCA(RNA)+LSI(ATAC)"] > 0.95
    assert set(accuracy) == {
        "majority",
        "kNN PCA(RNA)",
        "logistic regression PCA(RNA)",
        "logistic regression LSI(ATAC)",
        "logistic regression PCA(RNA)+LSI(ATAC)",
    }


def test_rna_only_data_has_the_rna_baselines():
    rna, _, labels = make_counts()
    methods = predict_baselines(rna, None, labels, np.arange(len(labels)) >= 160, SETTINGS, seed=0)
    assert not any("ATAC" in method for method in methods)


def test_components_are_capped_and_empty_cells_are_finite():
    rna, atac, _ = make_counts(n=12)
    rna, atac = (sparse.csr_matrix(sparse.diags([0] + [1] * 11) @ m) for m in (rna, atac))
    assert np.isfinite(RnaPca(50, 40, 0).fit(rna[:6]).transform(rna)).all()
    assert np.isfinite(AtacLsi(50, 0).fit(atac[:6]).transform(atac)).all()


def test_one_training_class_is_refused():
    rna, atac, _ = make_counts(n=20)
    labels = np.array(["a"] * 10 + ["b"] * 10)
    with pytest.raises(InputError, match="one class only"):
        predict_baselines(rna, atac, labels, labels == "b", SETTINGS, seed=0)


def test_from_multiome_to_scores(multiome, tmp_path):
    settings = {"pca_components": 5, "n_top_genes": 40, "bootstrap": 50}
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
    model = table[table["method"] == "majority"].drop(columns=["method", "probability"])
    model.to_parquet(tmp_path / "model.parquet")
    arguments = dict(
        predictions=[{"path": tmp_path / "model.parquet", "dataset": "demo:state", "recipe": "regulon"}],
        baselines=[{"path": tmp_path / "one.parquet", "dataset": "demo:state"}],
        settings=settings,
        output=tmp_path / "annotation.tsv",
        confusion=tmp_path / "confusion.json",
    )
    evaluate_annotation.main(**arguments)
    scores = pd.read_csv(tmp_path / "annotation.tsv", sep="\t")
    assert list(scores) == ["method", "dataset", "fold", "seed", "metric", "value", "ci_low", "ci_high"]
    assert "regulonformer (regulon)" in set(scores["method"]) and len(set(scores["method"])) == 6

    model.iloc[1:].to_parquet(tmp_path / "model.parquet")
    with pytest.raises(InputError, match="different cells"):
        evaluate_annotation.main(**arguments)


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
