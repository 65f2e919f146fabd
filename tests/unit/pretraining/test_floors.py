"""Pretraining beside simple predictors: what they see of the hidden counts, and how they are scored."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA
from small_corpus import EVALUATE, N_GENES, PRETRAIN, files, hidden, profiles, start

import evaluate_pretraining
from regulonformer.evaluate.ablation import (
    variant_edges,
)
from regulonformer.evaluate.bootstrap import bootstrap_losses
from regulonformer.evaluate.count_predictors import PENALTIES, PREDICTORS, CellSpace, LogLinear, NearestCells
from regulonformer.evaluate.masked_cells import Entries, MaskedData, masked_data
from regulonformer.evaluate.pretraining import cell_nll, entry_log_rates, model_sums, predictor_sums, refit_sizes
from regulonformer.pretrained import save_model
from regulonformer.training.start import build_model


def test_our_loss_and_the_floor_are_those_of_the_validation_curve(judged):
    last, table = judged
    for modality in ("rna", "atac"):
        ours = table.loc[("regulonformer (tiny)", f"loss_{modality}"), "value"]
        floor = table.loc[("mean profile", f"loss_{modality}"), "value"]
        assert ours == pytest.approx(last[f"loss_{modality}"], rel=1e-5)
        assert floor == pytest.approx(last[f"floor_{modality}"], rel=1e-5)


def test_two_states_are_seen_by_neighbours_and_by_ridge(judged):
    table = judged[1]["value"]
    for method in PREDICTORS:
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
    for method in ("mean profile", *PREDICTORS):
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
    sums, data = model_sums(model.eval(), objective, batches), masked_data(batches, N_GENES)
    for m, profile in enumerate(profiles(model)):
        entries = data.hidden[m]
        ours = cell_nll(entries, profile.log_mean[entries.gene], data.library[:, m], profile.log_size)
        # Both are scored in double precision: all digits agree.
        np.testing.assert_allclose(ours, sums["floor"][:, m], rtol=1e-10)
        np.testing.assert_allclose(np.bincount(entries.cell, entries.weight), sums["weight"][:, m], rtol=1e-5)
    # Before its first step the model predicts the mean profile.
    np.testing.assert_allclose(sums["nll"], sums["floor"], rtol=1e-5)


@pytest.mark.parametrize("name", PREDICTORS)
def test_predictors_do_not_see_hidden_counts(name, corpus, regulons, held):
    model, _ = start(corpus, regulons, held)
    _, batches = hidden(corpus, np.flatnonzero(held))
    training = masked_data(hidden(corpus, np.flatnonzero(~held))[1], N_GENES)
    space, profile = CellSpace(training, 10), profiles(model)[0]
    predictor = PREDICTORS[name](space(training), corpus.rows(training.rows)[0], training.library[:, 0], profile)

    def predictions(batches):
        data = masked_data(batches, N_GENES)
        return entry_log_rates(predictor, space(data), data.hidden[0], predictor.options[0]), data.hidden[0]

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
    training = masked_data(hidden(corpus, np.flatnonzero(~held))[1], N_GENES)
    space, profile = CellSpace(training, 5)(training), profiles(model)[0]
    known = (space, corpus.rows(training.rows)[0], training.library[:, 0], profile)
    blended = NearestCells(*known).log_rate(space, (5, 15, 1e9))
    np.testing.assert_allclose(blended, np.tile(profile.log_mean, (len(space), 1)), atol=1e-5)
    strong, weak = (LogLinear(*known).coefficients(penalty) for penalty in (1000.0, 1.0))
    assert np.abs(strong).sum() < 0.2 * np.abs(weak).sum()
    # Fitted from the stronger ones or from nothing: the same.
    warm = LogLinear(*known)
    path = [warm.coefficients(penalty) for penalty in PENALTIES]
    np.testing.assert_allclose(path[-1], LogLinear(*known).coefficients(PENALTIES[-1]), atol=0.01)


def drawn_entries(rng, n_cells, n_genes, log_size):
    """Every gene of every cell hidden, with counts of a known negative binomial; and the true log rates."""
    cell, gene = (part.ravel() for part in np.indices((n_cells, n_genes)))
    rate, size = rng.uniform(0.5, 8.0, len(cell)), np.exp(log_size)[gene]
    counts = rng.negative_binomial(size, size / (size + rate)).astype(float)
    return Entries(cell, gene, counts, np.ones(len(cell))), np.log(rate)


def test_sizes_of_single_genes_are_found_again():
    rng, found = np.random.default_rng(0), np.log(np.repeat([0.5, 2.0, 20.0], 10))
    entries, log_rate = drawn_entries(rng, 300, len(found), found)
    refit = refit_sizes(entries, log_rate, np.ones(300), np.full(len(found), np.log(2.0)))
    assert np.abs(refit[:20] - found[:20]).mean() < 0.25
    assert refit[20:].min() > np.log(5.0)
    # Other cells of the same genes are told better, too.
    fresh, log_rate = drawn_entries(rng, 300, len(found), found)
    loss = [cell_nll(fresh, log_rate, np.ones(300), size).sum() for size in (refit, np.full(30, np.log(2.0)))]
    assert loss[0] < loss[1] - 100


def test_sizes_that_are_right_stay_and_unseen_genes_keep_theirs():
    rng, log_size = np.random.default_rng(1), np.log(np.full(200, 3.0))
    entries, log_rate = drawn_entries(rng, 20, 200, log_size)
    seen = entries.gene < 150
    entries, log_rate = Entries(*(part[seen] for part in entries)), log_rate[seen]
    refit = refit_sizes(entries, log_rate, np.ones(20), log_size)
    # Twenty cells do not know the size of a gene: noise alone would move most of them.
    assert np.abs(refit - log_size).mean() < 0.3
    np.testing.assert_array_equal(refit[150:], log_size[150:])


def without(data, modality, cells):
    """The same cells, some of them measured in one modality alone."""
    keep, measured = sp.diags((~cells).astype(float)), data.measured.copy()
    measured[cells, modality] = False
    visible = [keep @ part if m == modality else part for m, part in enumerate(data.visible)]
    return MaskedData(data.rows, [part.tocsr() for part in visible], data.hidden, data.library, measured)


def test_components_are_those_of_pca_where_all_is_measured(corpus, held):
    data = masked_data(hidden(corpus, np.flatnonzero(~held))[1], N_GENES)
    values = sp.hstack(data.visible).toarray()
    expected = PCA(3, svd_solver="full").fit_transform(values / (values.std(0) + 0.1))
    space = CellSpace(data, 3)(data)
    np.testing.assert_allclose(np.abs(space), np.abs(expected / expected[:, 0].std(ddof=1)), atol=1e-6)


def test_a_missing_modality_is_no_zero(corpus, held):
    data = masked_data(hidden(corpus, np.flatnonzero(~held))[1], N_GENES)
    assert data.measured.all()
    lacking = np.arange(len(data.rows)) % 3 == 0
    mosaic = without(data, 1, lacking)
    space = CellSpace(mosaic, 5)
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
    training = masked_data(hidden(corpus, np.flatnonzero(~held))[1], N_GENES)
    test = masked_data(hidden(corpus, np.flatnonzero(held))[1], N_GENES)
    training = without(training, 0, np.arange(len(training.rows)) % 2 == 0)
    inner = np.arange(len(training.rows)) % 5 == 0
    entries, (profile, _) = test.hidden[0], profiles(model)
    floor = cell_nll(entries, profile.log_mean[entries.gene], test.library[:, 0], profile.log_size).sum()
    for name in PREDICTORS:
        sums = predictor_sums(name, training, inner, test, corpus, profiles(model), 5)
        assert sums[:, 0].sum() < floor - 0.02 * entries.weight.sum()
    # Without a cell to learn from, the mean profile is what is left.
    training = without(training, 0, np.ones(len(training.rows), bool))
    sums = predictor_sums("kNN", training, inner, test, corpus, profiles(model), 5)
    assert sums[:, 0].sum() == pytest.approx(floor)


def test_settings_are_chosen_on_cells_of_every_kind(corpus):
    cells = corpus.cells
    assert set(cells.loc[evaluate_pretraining._choosing(cells, 0), "sample"]) == {"s3"}
    lone = cells.assign(has_atac=cells["sample"] != "s3")
    assert len(set(lone.loc[evaluate_pretraining._choosing(lone, 0), "sample"])) > 1


def test_choices_at_the_edge_of_the_grid_are_told(judged, corpus, regulons, held, caplog):
    model, _ = start(corpus, regulons, held)
    data = masked_data(hidden(corpus, np.flatnonzero(~held))[1], N_GENES)
    with caplog.at_level("INFO"):
        predictor_sums("kNN", data, np.arange(len(data.rows)) % 4 == 0, data, corpus, profiles(model), 5)
    assert "is the edge of what was tried (10, 20, 50)" in caplog.text


def test_a_subset_keeps_the_entries_of_its_cells(corpus, held):
    data = masked_data(hidden(corpus, np.flatnonzero(held))[1], N_GENES)
    chosen = np.arange(len(data.rows)) % 3 == 0
    part = data.subset(chosen)
    for m in range(2):
        weight = np.bincount(data.hidden[m].cell, data.hidden[m].weight)[chosen]
        np.testing.assert_allclose(np.bincount(part.hidden[m].cell, part.hidden[m].weight), weight)
        assert (part.visible[m] != data.visible[m][chosen]).nnz == 0


def test_bootstrap_keeps_the_size_of_every_library():
    strata = np.repeat(["a", "b"], [10, 30])
    sums = {"ours": (strata == "a").astype(float), "other": np.ones(40)}
    drawn = bootstrap_losses(sums, np.ones(40), strata, 50, 0)
    np.testing.assert_allclose(drawn["ours"], 0.25)
    np.testing.assert_allclose(drawn["other"], 1.0)
