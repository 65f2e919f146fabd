"""Loss floors of pretraining, and variants of the model: what they see, and in what they differ."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from scipy import stats
from sklearn.decomposition import PCA

import ablate_model
import evaluate_pretraining
from regulonformer.corpus.sampler import hold_out
from regulonformer.corpus.shards import Corpus, write_counts
from regulonformer.corpus.vocabulary import regulon_edges
from regulonformer.errors import InputError
from regulonformer.evaluate import pretraining as floors
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
from regulonformer.io.store import write_json, write_parquet, write_tsv
from regulonformer.objectives import make_objective
from regulonformer.pretrained import save_model
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
from regulonformer.training.loop import VALIDATION_STREAM, Trainer, TrainSettings
from regulonformer.training.start import build_model

N_CELLS, N_GENES, N_TFS = 150, 60, 6
PRETRAIN = {
    "recipe": "tiny",
    "recipe_settings": {
        "model": {"width": 16, "heads": 2, "slots": 4, "layers": ["regulon", "explorer"]},
        "objective": {"name": "masked"},
    },
    "model": {},
    "steps": 10,
    "batch_cells": 16,
    "learning_rate": 3.0e-3,
    "holdout": "auto",
    "validate_steps": 5,
    "patience": 3,
    "precision": "float32",
    "seed": 0,
}
EVALUATE = {"bootstrap": 200, "confidence": 0.95, "pca_components": 10, "seed": 0}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A corpus of two states, which half of the genes tell apart, in three libraries; and a few regulons."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    state = rng.integers(0, 2, N_CELLS)
    rate = np.where((np.arange(N_GENES) % 2)[None] == state[:, None], 3.0, 0.3) * rng.uniform(0.5, 2, (N_CELLS, 1))
    rna, atac = rng.poisson(rate).astype(np.int32), rng.poisson(rate / 2).astype(np.int32)
    write_counts(folder / "shards", [(sp.csr_matrix(rna), sp.csr_matrix(atac))], N_GENES)
    cells = pd.DataFrame({"sample": np.repeat(["s1", "s2", "s3"], N_CELLS // 3), "has_rna": True, "has_atac": True})
    cells["n_counts_rna"], cells["n_counts_atac"] = rna.sum(1), atac.sum(1)
    cells["n_active"] = ((rna > 0) | (atac > 0)).sum(1)
    cells.index = pd.Index([f"cell{i}" for i in range(N_CELLS)], name="cell")
    write_parquet(cells, folder / "cells.parquet")
    names = [f"g{i}" for i in range(N_GENES)]
    vocabulary = pd.DataFrame({"token": range(N_GENES), "gene_id": names, "symbol": names, "is_tf": False})
    vocabulary["is_tf"] = vocabulary["token"] < N_TFS
    write_tsv(vocabulary.assign(chrom="", tss=""), folder / "vocabulary.tsv")
    pairs = {(f"g{rng.integers(N_TFS)}", f"g{rng.integers(N_TFS, N_GENES)}") for _ in range(60)}
    regulons = pd.DataFrame(
        sorted(pairs | {("Unmeasured", "g10"), ("Unmeasured", "g11")}), columns=["source", "target"]
    )
    write_parquet(regulons.assign(cre="", score=rng.uniform(0.1, 1, len(regulons))), folder / "regulons.parquet")
    return folder


@pytest.fixture(scope="module")
def corpus(world):
    return Corpus.open(world)


@pytest.fixture(scope="module")
def regulons(world):
    return pd.read_parquet(world / "regulons.parquet")


@pytest.fixture(scope="module")
def held(corpus):
    return hold_out(corpus.cells, "auto", 0)


def start(corpus, regulons, held, variant="prior"):
    """A model before its first step."""
    edges = variant_edges(variant, regulons, corpus.vocabulary, seed=0)
    return build_model(corpus, np.flatnonzero(~held), edges, PRETRAIN)


def hidden(corpus, cells):
    """Some cells, masked, as batches."""
    objective = make_objective(PRETRAIN["recipe_settings"]["objective"], N_GENES)
    return objective, list(floors.masked_batches(objective, corpus, cells, 16, (0, VALIDATION_STREAM)))


def profiles(model):
    parts = (model.heads.gene_log_mean, model.heads.floor_log_dispersion)
    return [floors.Profile(*(part[:, m].numpy().astype(float) for part in parts)) for m in range(2)]


@pytest.fixture(scope="module")
def judged(world, corpus, regulons, held, tmp_path_factory):
    """A model after a few steps, its last point of the validation curve, and the table of floors."""
    folder = tmp_path_factory.mktemp("model")
    model, names = start(corpus, regulons, held)
    objective = make_objective(PRETRAIN["recipe_settings"]["objective"], N_GENES)
    trainer = Trainer(
        model, objective, corpus, np.flatnonzero(~held), np.flatnonzero(held), TrainSettings.from_dict(PRETRAIN)
    )
    last = trainer.run()[-1]
    save_model(folder, model, corpus.vocabulary, {"regulons": names})
    evaluate_pretraining.main(
        folder=folder, **files(world), settings=EVALUATE, pretrain=PRETRAIN, run="tiny", output=folder / "floors.tsv"
    )
    return last, pd.read_csv(folder / "floors.tsv", sep="\t").set_index(["method", "metric"])


def files(world):
    return {name: world / f"{name}{end}" for name, end in
            (("shards", ""), ("cells", ".parquet"), ("vocabulary", ".tsv"))}  # fmt: skip


def test_our_loss_and_the_floor_are_those_of_the_validation_curve(judged):
    last, table = judged
    for modality in ("rna", "atac"):
        ours = table.loc[("regulonformer (tiny)", f"loss_{modality}"), "value"]
        floor = table.loc[("mean profile", f"loss_{modality}"), "value"]
        assert ours == pytest.approx(last[f"loss_{modality}"], rel=1e-5)
        assert floor == pytest.approx(last[f"floor_{modality}"], rel=1e-5)


def test_two_states_are_seen_by_neighbours_and_by_ridge(judged):
    table = judged[1]["value"]
    for method in floors.PREDICTORS:
        assert table[method, "loss_rna"] < table["mean profile", "loss_rna"] - 0.02


def test_a_model_of_values_is_held_against_its_own_floor_alone(world, corpus, regulons, held, tmp_path):
    recipe = PRETRAIN["recipe_settings"] | {"objective": {"name": "values", "fraction": 0.15, "loss": "huber"}}
    pretrain = PRETRAIN | {"recipe_settings": recipe}
    edges = variant_edges("prior", regulons, corpus.vocabulary, seed=0)
    model, names = build_model(corpus, np.flatnonzero(~held), edges, pretrain)
    save_model(tmp_path, model, corpus.vocabulary, {"regulons": names})
    output = tmp_path / "floors.tsv"
    evaluate_pretraining.main(
        folder=tmp_path, **files(world), settings=EVALUATE, pretrain=pretrain, run="tiny", output=output
    )
    table = pd.read_csv(output, sep="\t").set_index(["method", "metric"])["value"]
    assert set(table.index.get_level_values("method")) == {"regulonformer (tiny)", "mean profile"}
    # Before its first step it predicts the mean values of the genes.
    assert table["mean profile", "gap_rna"] == pytest.approx(0, abs=1e-6)


def test_gaps_are_paired(judged):
    table = judged[1]
    for method in ("mean profile", *floors.PREDICTORS):
        for modality in ("rna", "atac"):
            gap, loss = table.loc[(method, f"gap_{modality}")], table.loc[(method, f"loss_{modality}")]
            ours = table.loc[("regulonformer (tiny)", f"loss_{modality}")]
            assert gap["value"] == pytest.approx(loss["value"] - ours["value"])
            # What is hard for one method is hard for the other: the difference is surer than either.
            assert gap["ci_high"] - gap["ci_low"] < loss["ci_high"] - loss["ci_low"]
            assert gap["ci_low"] <= gap["value"] <= gap["ci_high"]


def test_mean_profile_is_the_floor_of_the_objective(corpus, regulons, held):
    model, _ = start(corpus, regulons, held)
    objective, batches = hidden(corpus, np.flatnonzero(held))
    sums, data = floors.model_sums(model.eval(), objective, batches), floors.masked_data(batches, N_GENES)
    for m, profile in enumerate(profiles(model)):
        entries = data.hidden[m]
        ours = floors.cell_nll(entries, profile.log_mean[entries.gene], data.library[:, m], profile.log_size)
        # Both are scored in double precision: all digits agree.
        np.testing.assert_allclose(ours, sums["floor"][:, m], rtol=1e-10)
        np.testing.assert_allclose(np.bincount(entries.cell, entries.weight), sums["weight"][:, m], rtol=1e-5)
    # Before its first step the model predicts the mean profile.
    np.testing.assert_allclose(sums["nll"], sums["floor"], rtol=1e-5)


@pytest.mark.parametrize("name", floors.PREDICTORS)
def test_predictors_do_not_see_hidden_counts(name, corpus, regulons, held):
    model, _ = start(corpus, regulons, held)
    _, batches = hidden(corpus, np.flatnonzero(held))
    training = floors.masked_data(hidden(corpus, np.flatnonzero(~held))[1], N_GENES)
    space, profile = floors.CellSpace(training, 10), profiles(model)[0]
    predictor = floors.PREDICTORS[name](space(training), corpus.rows(training.rows)[0], training.library[:, 0], profile)

    def predictions(batches):
        data = floors.masked_data(batches, N_GENES)
        return floors.entry_log_rates(predictor, space(data), data.hidden[0], predictor.options[0]), data.hidden[0]

    honest, entries = predictions(batches)
    changed, raised = predictions([(rows, disturb(prepared, prepared.scored_BTM)) for rows, prepared in batches])
    assert (raised.counts == entries.counts + 50).all()
    np.testing.assert_array_equal(honest, changed)
    # The visible ones they do see.
    assert np.abs(honest - predictions([(rows, disturb(p, ~p.scored_BTM)) for rows, p in batches])[0]).max() > 0.01


def disturb(prepared, where_BTM):
    """The same cells with other counts and values in some entries, totals untouched."""
    batch, add_BTM = prepared.batch, where_BTM & ~prepared.batch.pad_BT[..., None]
    return prepared._replace(
        batch=batch._replace(
            rna_BT=batch.rna_BT + 5.0 * add_BTM[..., 0],
            atac_BT=batch.atac_BT + 5.0 * add_BTM[..., 1],
            rna_counts_BT=batch.rna_counts_BT + 50.0 * add_BTM[..., 0],
            atac_counts_BT=batch.atac_counts_BT + 50.0 * add_BTM[..., 1],
        )
    )


def test_strong_blending_and_strong_penalty_give_the_mean_profile(corpus, regulons, held):
    model, _ = start(corpus, regulons, held)
    training = floors.masked_data(hidden(corpus, np.flatnonzero(~held))[1], N_GENES)
    space, profile = floors.CellSpace(training, 5)(training), profiles(model)[0]
    known = (space, corpus.rows(training.rows)[0], training.library[:, 0], profile)
    blended = floors.NearestCells(*known).log_rate(space, (5, 15, 1e9))
    np.testing.assert_allclose(blended, np.tile(profile.log_mean, (len(space), 1)), atol=1e-5)
    strong, weak = (floors.LogLinear(*known).coefficients(penalty) for penalty in (1000.0, 1.0))
    assert np.abs(strong).sum() < 0.2 * np.abs(weak).sum()
    # Fitted from the stronger ones or from nothing: the same.
    warm = floors.LogLinear(*known)
    path = [warm.coefficients(penalty) for penalty in floors.PENALTIES]
    np.testing.assert_allclose(path[-1], floors.LogLinear(*known).coefficients(floors.PENALTIES[-1]), atol=0.01)


def drawn_entries(rng, n_cells, n_genes, log_size):
    """Every gene of every cell hidden, with counts of a known negative binomial; and the true log rates."""
    cell, gene = (part.ravel() for part in np.indices((n_cells, n_genes)))
    rate, size = rng.uniform(0.5, 8.0, len(cell)), np.exp(log_size)[gene]
    counts = rng.negative_binomial(size, size / (size + rate)).astype(float)
    return floors.Entries(cell, gene, counts, np.ones(len(cell))), np.log(rate)


def test_sizes_of_single_genes_are_found_again():
    rng, found = np.random.default_rng(0), np.log(np.repeat([0.5, 2.0, 20.0], 10))
    entries, log_rate = drawn_entries(rng, 300, len(found), found)
    refit = floors.refit_sizes(entries, log_rate, np.ones(300), np.full(len(found), np.log(2.0)))
    assert np.abs(refit[:20] - found[:20]).mean() < 0.25
    assert refit[20:].min() > np.log(5.0)
    # Other cells of the same genes are told better, too.
    fresh, log_rate = drawn_entries(rng, 300, len(found), found)
    loss = [floors.cell_nll(fresh, log_rate, np.ones(300), size).sum() for size in (refit, np.full(30, np.log(2.0)))]
    assert loss[0] < loss[1] - 100


def test_sizes_that_are_right_stay_and_unseen_genes_keep_theirs():
    rng, log_size = np.random.default_rng(1), np.log(np.full(200, 3.0))
    entries, log_rate = drawn_entries(rng, 20, 200, log_size)
    seen = entries.gene < 150
    entries, log_rate = floors.Entries(*(part[seen] for part in entries)), log_rate[seen]
    refit = floors.refit_sizes(entries, log_rate, np.ones(20), log_size)
    # Twenty cells do not know the size of a gene: noise alone would move most of them.
    assert np.abs(refit - log_size).mean() < 0.3
    np.testing.assert_array_equal(refit[150:], log_size[150:])


def without(data, modality, cells):
    """The same cells, some of them measured in one modality alone."""
    keep, measured = sp.diags((~cells).astype(float)), data.measured.copy()
    measured[cells, modality] = False
    visible = [keep @ part if m == modality else part for m, part in enumerate(data.visible)]
    return floors.MaskedData(data.rows, [part.tocsr() for part in visible], data.hidden, data.library, measured)


def test_components_are_those_of_pca_where_all_is_measured(corpus, held):
    data = floors.masked_data(hidden(corpus, np.flatnonzero(~held))[1], N_GENES)
    values = sp.hstack(data.visible).toarray()
    expected = PCA(3, svd_solver="full").fit_transform(values / (values.std(0) + 0.1))
    space = floors.CellSpace(data, 3)(data)
    np.testing.assert_allclose(np.abs(space), np.abs(expected / expected[:, 0].std(ddof=1)), atol=1e-6)


def test_a_missing_modality_is_no_zero(corpus, held):
    data = floors.masked_data(hidden(corpus, np.flatnonzero(~held))[1], N_GENES)
    assert data.measured.all()
    lacking = np.arange(len(data.rows)) % 3 == 0
    mosaic = without(data, 1, lacking)
    space = floors.CellSpace(mosaic, 5)
    # The means are those of the cells that have it, and cells without it differ in RNA alone.
    np.testing.assert_allclose(
        space.mean[N_GENES:] / space.scale.diagonal()[N_GENES:], data.visible[1][~lacking].toarray().mean(0), atol=1e-6
    )
    alone = without(data, 1, np.ones(len(data.rows), bool))
    np.testing.assert_allclose(space(mosaic)[lacking], space(alone)[lacking], atol=1e-9)
    assert np.abs(space(alone).mean(0)).max() < 0.2
    # Whether accessibility was measured is no component; as zeros it would be the first.
    found = space(mosaic)
    assert max(abs(np.corrcoef(component, lacking)[0, 1]) for component in found.T) < 0.5


def test_predictors_on_mosaic_data_still_see_the_states(corpus, regulons, held):
    model, _ = start(corpus, regulons, held)
    training = floors.masked_data(hidden(corpus, np.flatnonzero(~held))[1], N_GENES)
    test = floors.masked_data(hidden(corpus, np.flatnonzero(held))[1], N_GENES)
    training = without(training, 0, np.arange(len(training.rows)) % 2 == 0)
    inner = np.arange(len(training.rows)) % 5 == 0
    entries, (profile, _) = test.hidden[0], profiles(model)
    floor = floors.cell_nll(entries, profile.log_mean[entries.gene], test.library[:, 0], profile.log_size).sum()
    for name in floors.PREDICTORS:
        sums = floors.predictor_sums(name, training, inner, test, corpus, profiles(model), 5)
        assert sums[:, 0].sum() < floor - 0.02 * entries.weight.sum()
    # Without a cell to learn from, the mean profile is what is left.
    training = without(training, 0, np.ones(len(training.rows), bool))
    sums = floors.predictor_sums("kNN", training, inner, test, corpus, profiles(model), 5)
    assert sums[:, 0].sum() == pytest.approx(floor)


def test_settings_are_chosen_on_cells_of_every_kind(corpus):
    cells = corpus.cells
    assert set(cells.loc[evaluate_pretraining._choosing(cells, 0), "sample"]) == {"s3"}
    lone = cells.assign(has_atac=cells["sample"] != "s3")
    assert len(set(lone.loc[evaluate_pretraining._choosing(lone, 0), "sample"])) > 1


def test_choices_at_the_edge_of_the_grid_are_told(judged, corpus, regulons, held, caplog):
    model, _ = start(corpus, regulons, held)
    data = floors.masked_data(hidden(corpus, np.flatnonzero(~held))[1], N_GENES)
    with caplog.at_level("INFO"):
        floors.predictor_sums("kNN", data, np.arange(len(data.rows)) % 4 == 0, data, corpus, profiles(model), 5)
    assert "is the edge of what was tried (10, 20, 50)" in caplog.text


def test_a_subset_keeps_the_entries_of_its_cells(corpus, held):
    data = floors.masked_data(hidden(corpus, np.flatnonzero(held))[1], N_GENES)
    chosen = np.arange(len(data.rows)) % 3 == 0
    part = data.subset(chosen)
    for m in range(2):
        weight = np.bincount(data.hidden[m].cell, data.hidden[m].weight)[chosen]
        np.testing.assert_allclose(np.bincount(part.hidden[m].cell, part.hidden[m].weight), weight)
        assert (part.visible[m] != data.visible[m][chosen]).nnz == 0


def test_bootstrap_keeps_the_size_of_every_library():
    strata = np.repeat(["a", "b"], [10, 30])
    sums = {"ours": (strata == "a").astype(float), "other": np.ones(40)}
    drawn = floors.bootstrap_losses(sums, np.ones(40), strata, 50, 0)
    np.testing.assert_allclose(drawn["ours"], 0.25)
    np.testing.assert_allclose(drawn["other"], 1.0)


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


def tidy(rows):
    """Scores as the tables hold them."""
    table = pd.DataFrame(rows, columns=["method", "seed", "metric", "value", "ci_low", "ci_high"])
    return table.assign(dataset="toy: hidden values of held-out cells", fold="pooled")


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
