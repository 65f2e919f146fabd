"""Variants of the model: in what they differ, and how they are compared."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from small_corpus import N_GENES, PRETRAIN, files, hidden, start

import ablate_model
from regulonformer.corpus.vocabulary import regulon_edges
from regulonformer.errors import InputError
from regulonformer.evaluate.ablation import (
    FullRankPooling,
    TrueEdges,
    attention_influence,
    change_model,
    over_seeds,
    pooling_influence,
    variant_edges,
    variant_settings,
)


def test_shuffled_regulons_keep_every_degree(corpus, regulons):
    true, mixed = (variant_edges(name, regulons, corpus.vocabulary, seed=1) for name in ("prior", "shuffled"))
    for column in ("slot", "gene"):
        pd.testing.assert_series_equal(
            true[column].value_counts().sort_index(), mixed[column].value_counts().sort_index()
        )
    assert (
        true[["slot", "tf"]]
        .drop_duplicates()
        .equals(mixed[["slot", "tf"]].drop_duplicates().set_axis(true[["slot", "tf"]].drop_duplicates().index))
    )
    same = set(zip(true["slot"], true["gene"], strict=True)) & set(zip(mixed["slot"], mixed["gene"], strict=True))
    assert len(same) < 0.7 * len(true)


def test_without_a_prior_each_slot_holds_its_tf_alone(corpus, regulons):
    true, alone = (variant_edges(name, regulons, corpus.vocabulary, seed=0) for name in ("prior", "none"))
    assert (alone["gene"] == alone["tf_token"]).all()
    assert alone["slot"].tolist() == list(range(true.loc[true["tf_token"] >= 0, "tf"].nunique()))


@pytest.mark.parametrize("variant", ["dense", "bf16", "full_rank"])
def test_variants_of_the_computation_keep_the_prior(variant, corpus, regulons):
    edges = variant_edges(variant, regulons, corpus.vocabulary, seed=0)
    pd.testing.assert_frame_equal(edges, regulon_edges(regulons, corpus.vocabulary))


def test_few_variants_change_the_settings():
    ablation = {"steps": 7}
    as_it_is = variant_settings("prior", PRETRAIN, ablation, 3)
    assert (as_it_is["steps"], as_it_is["seed"], as_it_is["precision"]) == (7, 3, "float32")
    for variant in ("shuffled", "none", "no_layers", "dense", "full_rank"):
        assert variant_settings(variant, PRETRAIN, ablation, 3) == as_it_is
    assert variant_settings("bf16", PRETRAIN, ablation, 3) == as_it_is | {"precision": "bf16"}
    assert variant_settings("no_path", PRETRAIN, ablation, 3)["model"]["linear_path"] is False


def test_layers_that_add_nothing_leave_the_input(corpus, regulons, held):
    objective, batches = hidden(corpus, np.flatnonzero(held)[:16])
    (_, prepared), (model, _) = batches[0], start(corpus, regulons, held)
    change_model("no_layers", model)
    model.eval()
    with torch.no_grad():
        states = model.final_norm(model.embedding(prepared.batch)).masked_fill(prepared.batch.pad_BT[..., None], 0)
        torch.testing.assert_close(model(prepared.batch).tokens_BTD, states)
    objective.loss(model.train(), prepared).loss.backward()
    assert all(layer.fc2.weight.grad is None for layer in model.layers)


def test_dense_computes_every_gene(corpus, regulons, held):
    objective, batches = hidden(corpus, np.flatnonzero(held)[:16])
    (_, prepared), (model, _), (dense, _) = batches[0], *(start(corpus, regulons, held) for _ in range(2))
    change_model("dense", dense)
    with torch.no_grad():
        for part in (model, dense):
            torch.nn.init.normal_(part.heads.from_token.weight, generator=torch.Generator().manual_seed(0))
            part.eval()
        reference = model(prepared.batch, dense=True)
        torch.testing.assert_close(dense(prepared.batch).tokens_BTD, reference.tokens_BTD)
        assert (model(prepared.batch).tokens_BTD - reference.tokens_BTD).abs().max() > 1e-4
        expected = objective.loss(dense, prepared).nll_M
        assert not torch.allclose(expected, objective.loss(model, prepared).nll_M)


def test_full_rank_starts_where_low_rank_does(corpus, regulons, held):
    _, batches = hidden(corpus, np.flatnonzero(held)[:16])
    (model, _), (free, _) = (start(corpus, regulons, held) for _ in range(2))
    change_model("full_rank", free)
    assert [type(layer.pooling) is FullRankPooling for layer in free.layers] == [False, True]
    batch = batches[0][1].batch
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(batch).cell_BD, free.eval()(batch).cell_BD, rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in free.parameters()) > sum(p.numel() for p in model.parameters())


def test_true_edges_are_recovered_by_the_prior_that_holds_them(corpus, regulons, held):
    model, names = start(corpus, regulons, held)
    edges = TrueEdges(regulons, set(regulons["source"]), corpus.vocabulary)
    assert edges.auprc(pooling_influence(model), names) == pytest.approx(1.0)
    assert edges.auprc(np.zeros((N_GENES, len(names))), names) == pytest.approx(edges.truth.mean())
    shuffled, names = start(corpus, regulons, held, "shuffled")
    assert edges.auprc(pooling_influence(shuffled), names) < 0.8


def test_influence_of_attention_is_relative_to_other_genes(corpus, regulons, held):
    model, names = start(corpus, regulons, held)
    cells = np.flatnonzero(held)
    influence = attention_influence(model.eval(), corpus, cells, 16)
    whole = attention_influence(model, corpus, cells, len(cells))
    every = attention_influence(model, corpus, cells, 16, dense=True)
    assert influence.shape == (N_GENES, len(names))
    np.testing.assert_allclose(influence.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(influence, whole, atol=1e-5)
    # Computing silent genes too changes the states, but not whose attention is read.
    assert np.corrcoef(influence.ravel(), every.ravel())[0, 1] > 0.9


def test_intervals_over_seeds_are_of_paired_differences():
    rng = np.random.default_rng(0)
    base, gain = rng.normal(0, 1, 5), 0.1 + rng.normal(0, 0.01, 5)
    single = pd.concat(
        pd.DataFrame({"method": method, "seed": list("01234"), "metric": "loss_rna", "value": values})
        for method, values in (("prior", base), ("none", base + gain))
    )
    table = over_seeds(single, 0.95).set_index(["method", "metric"])
    low, high = stats.t.interval(0.95, 4, gain.mean(), stats.sem(gain))
    np.testing.assert_allclose(
        table.loc[("none", "gap_loss_rna"), ["value", "ci_low", "ci_high"]].astype(float), [gain.mean(), low, high]
    )
    assert ("prior", "gap_loss_rna") not in table.index
    # A seed without a value adds none to the number of seeds.
    holes = pd.concat([single, single.head(1).assign(seed="9")])
    again = over_seeds(holes, 0.95).set_index(["method", "metric"]).loc[("none", "gap_loss_rna")]
    np.testing.assert_allclose(again[["value", "ci_low", "ci_high"]].astype(float), [gain.mean(), low, high])
    one = over_seeds(single[single["seed"] == "0"], 0.95)
    assert one[["ci_low", "ci_high"]].isna().all(axis=None)


def test_ablation_trains_what_is_named_and_the_model_as_it_is(world, tmp_path):
    truth = tmp_path / "grn.tsv"
    pd.read_parquet(world / "regulons.parquet")[["source", "target"]].to_csv(truth, sep="\t", index=False)
    output = tmp_path / "ablation.tsv"
    shared = {"regulons": world / "regulons.parquet", "pretrain": PRETRAIN, "confidence": 0.95, "run": "tiny"}
    settings = {"variants": ["none", "bf16", "dense", "full_rank"], "steps": 2, "seeds": [0, 1]}
    ablate_model.main(**files(world), **shared, settings=settings, output=output, truth_grn=truth)
    table = pd.read_csv(output, sep="\t", dtype={"seed": str})
    assert set(table["method"]) == {"prior", "none", "bf16", "dense", "full_rank", "chance"}
    assert set(table["seed"]) == {"all", "0", "1"}
    value = table[table["seed"] == "all"].set_index(["method", "metric"])["value"]
    # Regulons of the truth itself are a perfect start; without them there is nothing to rank by.
    assert value["prior", "auprc_start"] == pytest.approx(1.0)
    assert value["none", "auprc_start"] < 0.5
    assert abs(value["bf16", "gap_loss_rna"]) < 0.05
    with pytest.raises(InputError, match="no variant is named"):
        ablate_model.main(**files(world), **shared, settings=settings | {"variants": []}, output=output)
