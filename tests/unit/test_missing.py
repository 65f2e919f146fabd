"""The judgement of missing modalities: floors, shares of spread, heads, clusters, and when it is asked for."""

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import r2_score

from regulonformer.config.settings import load_settings
from regulonformer.errors import InputError
from regulonformer.evaluate.missing import class_means, explained, partition_scores, probe, ridge

OPTIONS = {"bootstrap": 50, "confidence": 0.95, "seed": 0}


@pytest.fixture
def spaces():
    """Two classes of cells, of which a second space shows also what varies within a class."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b"], 100)
    within = rng.normal(size=(200, 1))
    target = np.where(labels == "a", 1.0, -1.0)[:, None] + within * [1.0, 0.5, 0.0] + 0.1 * rng.normal(size=(200, 3))
    return labels, within, target, np.tile([True, False], 100)


def test_the_mean_of_a_class_knows_the_class_alone(spaces):
    labels, within, target, train = spaces
    predicted = class_means(target[train], labels[train], labels[~train])
    assert len(np.unique(predicted.round(9), axis=0)) == 2
    np.testing.assert_allclose(predicted[0], target[train & (labels == "a")].mean(0))
    unseen = class_means(target[train], labels[train], np.array(["c"]))
    np.testing.assert_allclose(unseen[0], target[train].mean(0)), "a class that was not seen has the mean of all"
    more = class_means(target[train], labels[train], labels[~train], within[train, 0], within[~train, 0])
    assert ((more - target[~train]) ** 2).mean() < 0.1 * ((predicted - target[~train]) ** 2).mean()


def test_explained_is_r2_of_all_dimensions_together(spaces):
    labels, within, target, train = spaces
    inputs = np.column_stack([within, labels == "a"])
    found = {
        ("ours", 0): ridge(inputs[train], target[train], np.arange(100) % 5 == 0, inputs[~train]),
        ("type", 0): class_means(target[train], labels[train], labels[~train]),
        ("mean", 0): np.broadcast_to(target[~train].mean(0), (100, 3)),
    }
    table = explained(found, {0: target[~train]}, np.repeat("s", 100), "ours", "r2", **OPTIONS)
    value = table[table["seed"] == "all"].set_index(["method", "metric"])["value"]
    own, spread = r2_score(target[~train], found["ours", 0], multioutput="variance_weighted"), value["type", "gap_r2"]
    assert value["ours", "r2"] == pytest.approx(own) and own > 0.9
    assert value["mean", "r2"] == pytest.approx(0, abs=1e-9)
    assert spread == pytest.approx(value["type", "r2"] - value["ours", "r2"]) and spread < -0.1
    gap = table[(table["method"] == "type") & (table["metric"] == "gap_r2")].iloc[0]
    assert gap["ci_low"] < gap["value"] < gap["ci_high"] < 0, "the paired interval is clear of 0"


def test_seeds_widen_an_interval(spaces):
    _, _, target, _ = spaces
    rng = np.random.default_rng(1)
    found = {("ours", seed): target + rng.normal(scale=scale, size=target.shape) for seed, scale in enumerate((0.1, 1))}
    table = explained(found, {0: target, 1: target}, np.repeat("s", 200), "ours", "r2", **OPTIONS)
    width = (table["ci_high"] - table["ci_low"]).to_numpy()
    assert width[2] > 2 * width[:2].max(), "seeds that differ are part of it"


def test_clusters_of_the_space_that_shows_classes_agree_with_them(spaces):
    labels, within, target, _ = spaces
    found = {("ours", 0): target - within * [1.0, 0.5, 0.0], ("within", 0): within}
    table = partition_scores(found, labels, np.repeat("s", 200), "ours", **OPTIONS).query("seed == 'all'")
    value = table.set_index(["method", "metric"])["value"]
    assert value["ours", "ari"] > 0.99 and value["ours", "ami"] > 0.99 and value["within", "ari"] < 0.1
    assert value["within", "gap_ami"] < -0.5


def test_classes_that_were_not_seen_have_no_chance(spaces):
    labels, _, target, train = spaces
    chances = probe(target[train], labels[train], target[~train], np.array(["a", "b", "c"]))
    np.testing.assert_allclose(chances.sum(1), 1)
    assert not chances[:, 2].any() and (np.array(["a", "b"])[chances.argmax(1)] == labels[~train]).mean() > 0.8


def test_a_cohort_without_pairs_is_refused_when_the_config_is_read(request, tmp_path, monkeypatch):
    root = request.config.rootpath
    monkeypatch.chdir(tmp_path)
    rows = [f"{name}\tresults/demo/simulate/{name}/outs\trna" for name in ("one", "two")]
    sheet = tmp_path / "samples.tsv"
    sheet.write_text("\n".join(["sample\touts\tmodality", *rows]) + "\n")
    config = {"run": "demo", "samples": str(sheet), "simulate": {"activate": True}, "goal": "matrices"}
    load_settings(config, "mine.yaml", root)
    with pytest.raises(InputError, match=r"stage 2 .*scmomer needs cells with RNA and ATAC.*library of both"):
        load_settings(config | {"pretrain": {"recipe": "scmomer"}}, "mine.yaml", root)


def test_it_is_made_on_demand_and_shown_where_seeds_are_named(project, tmp_path):
    small = project.root / "tests/config/small.yaml"
    alone = project.planned("--keep-going", "results/small/evaluate/missing.tsv", "--configfile", small)
    assert alone["evaluate_missing"] == 1 and not {"pretrain_model", "write_report"} & alone.keys()
    config = tmp_path / "more.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(small.read_text()) | {"missing": {"seeds": [0]}}))
    assert project.planned("--configfile", config)["evaluate_missing"] == 1


def test_scores_are_shown(tmp_path):
    from regulonformer.report.blocks import Studio
    from regulonformer.report.evidence import read_evidence
    from regulonformer.report.page import DEFAULTS
    from regulonformer.report.sections.missing import missing_section

    rows = [("regulonformer (scmomer)", 0.5), ("mean of the cell type", 0.3)]
    table = pd.DataFrame(rows, columns=["method", "value"]).assign(
        dataset="demo: embedding of ATAC from RNA", fold="pooled", seed="all", metric="r2", ci_low=0.2, ci_high=0.6
    )
    table = pd.concat([table, table[1:].assign(metric="gap_r2", value=-0.2)])
    table.to_csv(tmp_path / "missing.tsv", sep="\t", index=False)
    evidence = read_evidence({"missing": tmp_path / "missing.tsv"})
    section = missing_section(evidence, Studio(tmp_path, DEFAULTS))
    assert [block.kind for block in section.blocks] == ["table", "note"]
    assert section.blocks[0].columns == ["Method", "R²"] and len(section.blocks[0].rows) == 2
    assert not missing_section(read_evidence({}), Studio(tmp_path, DEFAULTS)).blocks
