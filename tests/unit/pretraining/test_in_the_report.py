"""Floors and variants as the report tells them."""

import numpy as np
import pandas as pd
import pytest
from small_corpus import tidy

from regulonformer.corpus.sampler import hold_out
from regulonformer.errors import InputError
from regulonformer.io.store import write_json, write_tsv
from regulonformer.report.blocks import Studio
from regulonformer.report.evidence import read_evidence
from regulonformer.report.figures.pretraining import pretraining_floors
from regulonformer.report.sections.model import model_section
from regulonformer.report.tables.pretraining import (
    ablation_items,
    ablation_table,
    floor_sentence,
    floor_table,
    weights_chosen_there,
)


def test_report_says_where_we_win_tie_and_lose():
    ours = [("regulonformer (regulon)", "0", f"loss_{kind}", 1.4, 1.3, 1.5) for kind in ("rna", "atac")]
    gaps = {"mean profile": (0.05, 0.02), "kNN": (0.001, -0.01), "ridge on PCA": (-0.03, -0.02)}
    rows = [
        row
        for method, (gap, atac) in gaps.items()
        for row in (
            (method, "0", "loss_rna", 1.4 + gap, 1.3, 1.5),
            (method, "0", "gap_rna", gap, gap - 0.005, gap + 0.005),
            (method, "0", "loss_atac", 1.4 + atac, 1.3, 1.5),
            (method, "0", "gap_atac", atac, atac - 0.005, atac + 0.005),
        )
    ]
    floors = tidy(ours + rows)
    assert floor_sentence(floors) == (
        "On hidden RNA our model is ahead of the mean profile; it cannot be told apart from k nearest neighbours; it "
        "loses to ridge regression on principal components. On hidden accessibility our model is ahead of the mean "
        "profile; it loses to k nearest neighbours and ridge regression on principal components."
    )
    table = floor_table(floors, "counts")
    assert "nats per hidden count" in table.caption and "Huber loss" in floor_table(floors, "values").caption
    assert [row[0] for row in table.rows][:2] == ["Ridge regression on PCA", "Regulonformer (regulon), ours"]
    assert table.strong == {1}
    assert table.rows[0][2] == "-0.0300 [-0.0350, -0.0250]"
    assert len(pretraining_floors(floors).axes) == 2


def test_report_says_what_the_parts_are_worth():
    rows = [("prior", "all", "loss_rna", 1.4, 1.39, 1.41), ("prior", "all", "auprc_attention", 0.3, 0.28, 0.32)]
    rows += [("none", "all", "gap_loss_rna", 0.02, 0.01, 0.03), ("none", "all", "gap_auprc_attention", 0.0, -0.1, 0.1)]
    rows += [("prior", seed, "loss_rna", 1.4, np.nan, np.nan) for seed in "012"]
    rows += [("chance", "all", "auprc_attention", 0.05, np.nan, np.nan)]
    ablation = tidy(rows)
    assert ablation_items(ablation) == [
        "No regulons: every slot starts with its TF alone: worse in RNA loss; no difference seen in AUPRC of attention."
    ]
    table = ablation_table(ablation)
    assert table.columns == ["Variant", "RNA loss", "AUPRC of attention"]
    assert table.rows[1][1] == "+0.0200 [+0.0100, +0.0300]"
    assert "over 3 seeds" in table.caption and "Chance reaches 0.05" in table.caption


def test_one_seed_is_not_judged():
    rows = [("prior", "all", "loss_rna", 1.4, np.nan, np.nan), ("none", "all", "gap_loss_rna", 0.2, np.nan, np.nan)]
    words = "No regulons: every slot starts with its TF alone: not judged (one seed) in RNA loss."
    assert ablation_items(tidy(rows)) == [words]


def test_report_says_so_where_the_scored_cells_chose_the_weights():
    floors = tidy([("mean profile", "0", "loss_rna", 1.5, 1.4, 1.6), ("mean profile", "0", "gap_rna", 0.1, 0.05, 0.2)])
    assert not weights_chosen_there(None) and not weights_chosen_there({"config": {"patience": None}})
    assert weights_chosen_there({"config": {"patience": 3}})
    for chosen in (True, False):
        caption, sentence = floor_table(floors, "counts", chosen).caption, floor_sentence(floors, chosen)
        assert ("these very cells" in caption, "these very cells" in sentence) == (chosen, chosen)
        assert "at most 10,000 training cells" in caption


@pytest.mark.parametrize("holdout", ["auto", []])
def test_someone_is_always_held_out(holdout):
    cells = pd.DataFrame({"sample": ["a"] * 3})
    if holdout:
        assert hold_out(cells, holdout, 0).sum() == 1
    else:
        with pytest.raises(InputError, match="pretrain.holdout"):
            hold_out(cells, holdout, 0)
    with pytest.raises(InputError, match="Leave at least one"):
        hold_out(cells.head(1), "auto", 0)


def test_page_shows_floors_and_ablation(judged, tmp_path):
    curve = pd.DataFrame({"step": [10], "split": "validation", "learning_rate": 0.0})
    write_tsv(curve.assign(loss_rna=1.4, floor_rna=1.5, loss_atac=1.2, floor_atac=1.3), tmp_path / "metrics.tsv")
    write_tsv(judged[1].reset_index(), tmp_path / "pretraining.tsv")
    write_tsv(tidy([("prior", "all", "loss_rna", 1.4, 1.39, 1.41)]), tmp_path / "ablation.tsv")
    write_json(tmp_path / "config.json", {"model": {"predicts": "counts"}})
    inputs = {"pretrain_metrics": "metrics.tsv", "pretraining": "pretraining.tsv", "ablation": "ablation.tsv"}
    inputs["pretrain_config"] = "config.json"
    evidence = read_evidence({name: tmp_path / file for name, file in inputs.items()})
    blocks = model_section(evidence, Studio(tmp_path, {"dpi": 50})).blocks
    names = [block.name for block in blocks if block.kind != "note"]
    assert names == ["pretraining_curves", "pretraining_gain", "pretraining_floors", "forest_pretraining", "ablation"]
