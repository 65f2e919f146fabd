"""In-silico perturbation: what changes, what does not, and who is found."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import evaluate_perturbation
import perturb_genes
from regulonformer.corpus.encoding import encode
from regulonformer.corpus.shards import write_counts
from regulonformer.errors import InputError
from regulonformer.evaluate import perturbation as judge
from regulonformer.evaluate.perturbed_cells import PerturbedCells
from regulonformer.explain.perturbation import (
    Perturbations,
    embedding_shifts,
    expression_readout,
    silenced_slots,
    with_gene,
)
from regulonformer.explain.perturbation_tables import against_null, choose_null, target_table
from regulonformer.explain.response import ResponseModel, condition_kernels
from regulonformer.io.scores import FROM_OTHERS
from regulonformer.io.store import write_parquet, write_tsv
from regulonformer.model.batch import RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.encoder import Regulonformer
from regulonformer.pretrained import save_model

N_GENES, N_TFS, N_TARGETS = 60, 6, 5


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(0)
    return [rng.poisson(0.8, (12, N_GENES)) for _ in range(2)]


def make_model(seed=0):
    """A model whose heads have learned something, and whose regulons are the TF and its five targets."""
    torch.manual_seed(seed)
    slot = torch.arange(N_TFS).repeat_interleave(1 + N_TARGETS)
    gene = torch.cat([torch.tensor([tf, *targets_of(tf)]) for tf in range(N_TFS)])
    edges = RegulonEdges(slot, gene, torch.ones(len(slot)), torch.arange(N_TFS))
    config = ModelConfig(width=16, heads=2, layers=["regulon", "explorer"], slots=4)
    model = Regulonformer(config, N_GENES, edges, torch.full((N_GENES, 2), -4.0), n_tfs=N_TFS)
    torch.nn.init.normal_(model.heads.from_cell.weight, std=0.3)
    return model.eval()


def targets_of(tf):
    return range(N_TFS + tf * N_TARGETS, N_TFS + (tf + 1) * N_TARGETS)


def batch_of(rna, atac, missing=None):
    library = np.full((len(rna), 2), 100.0)
    return encode(sparse.csr_matrix(rna), sparse.csr_matrix(atac), library, missing)


def embed(model, batch):
    with torch.no_grad():
        return model(batch).cell_BD


def gene_everywhere(gene, n):
    return torch.full((n,), gene)


def test_knockout_is_the_cell_without_the_transcripts(counts):
    """With the same totals, a knocked-out cell is the one that was measured without them, bit for bit in its tokens."""
    rna, atac = counts
    gene, model, lost = 2, make_model(), rna.copy()
    lost[:, gene] = 0
    keep = torch.zeros(12, dtype=torch.bool)
    knocked = with_gene(batch_of(rna, atac), gene_everywhere(gene, 12), torch.zeros(12), keep)
    torch.testing.assert_close(embed(model, knocked), embed(model, batch_of(lost, atac)))

    closed = atac.copy()
    closed[:, gene] = 0
    knocked = with_gene(batch_of(rna, atac), gene_everywhere(gene, 12), torch.zeros(12), ~keep)
    torch.testing.assert_close(embed(model, knocked), embed(model, batch_of(lost, closed)))


def test_overexpression_reaches_silent_genes_and_spares_what_was_not_measured(counts):
    rna, atac = (part.copy() for part in counts)
    gene, model = 3, make_model()
    rna[:, gene], atac[:, gene] = 0, 0
    raised = rna.copy()
    raised[:, gene] = 5
    value = torch.full((12,), float(np.log1p(5 / 100 * 1e4)))
    keep = torch.zeros(12, dtype=torch.bool)
    changed = with_gene(batch_of(rna, atac), gene_everywhere(gene, 12), value, keep)
    torch.testing.assert_close(embed(model, changed), embed(model, batch_of(raised, atac)))

    missing = np.tile([True, False], (12, 1))
    without_rna = batch_of(rna, atac, missing)
    changed = with_gene(without_rna, gene_everywhere(gene, 12), value, keep)
    torch.testing.assert_close(embed(model, changed), embed(model, without_rna))


def test_silenced_slot_touches_its_cells_alone_and_is_undone(counts):
    batch, model = batch_of(*counts), make_model()
    before = embed(model, batch)
    slots = torch.full((12,), -1)
    slots[:3] = 4
    with silenced_slots(model, slots):
        during = embed(model, batch)
    assert (during[:3] != before[:3]).any(1).all()
    torch.testing.assert_close(during[3:], before[3:])
    torch.testing.assert_close(embed(model, batch), before, rtol=0, atol=0)


def test_shifts_are_means_over_cells_and_skipping_unchanged_cells_loses_nothing(counts):
    rna, atac = counts
    batch, model, group = batch_of(rna, atac), make_model(), np.arange(12) % 2
    genes = np.array([0, 4, 30])
    values = np.log1p(rna[:, genes] / 100 * 1e4)
    nothing = np.full(3, -1)
    for value, close in ((0.0, False), (0.0, True), (6.5, False)):
        perturbations = Perturbations(genes, np.full(3, value), nothing, close)
        shift, length = embedding_shifts(model, batch, values, group, perturbations)
        for p, gene in enumerate(genes):
            # By hand: every cell, also those that have no transcript to lose or as many already.
            new = torch.as_tensor(values[:, p] if value else np.zeros(12), dtype=torch.float32).clamp_min(value)
            changed = with_gene(batch, gene_everywhere(gene, 12), new, torch.full((12,), close))
            delta = (embed(model, changed) - embed(model, batch)).numpy()
            for g in range(2):
                np.testing.assert_allclose(shift[p, g], delta[group == g].mean(0), atol=1e-5)
                np.testing.assert_allclose(length[p, g], np.linalg.norm(delta[group == g], axis=1).mean(), atol=1e-5)


def test_readout_is_what_the_heads_say(counts):
    model, batch = make_model(), batch_of(*counts)
    cell = embed(model, batch)
    moved = cell + torch.randn(cell.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        rate = [
            model.heads.cell_log_rate(c, torch.arange(N_GENES), model.embedding.gene_vectors.weight)
            for c in (cell, moved)
        ]
    expected = (rate[1] - rate[0])[..., 0].numpy()
    np.testing.assert_allclose((moved - cell).numpy() @ expression_readout(model).T, expected, atol=1e-4)


def test_values_recipe_is_refused():
    model = make_model()
    model.config = ModelConfig(width=16, heads=2, predicts="values")
    with pytest.raises(InputError, match="no counts"):
        expression_readout(model)


def test_null_is_matched_and_its_p_values_are_flat():
    rng = np.random.default_rng(0)
    mean = rng.gamma(1.0, 1.0, 400)
    tfs, allowed = np.arange(20), np.arange(400) >= 20
    null = choose_null(mean, tfs, allowed, 60)
    assert len(np.unique(null)) == 60 and allowed[null].all()
    assert np.abs(np.quantile(mean[null], [0.25, 0.75]) - np.quantile(mean[tfs], [0.25, 0.75])).max() < 0.2
    # Genes that are like their null in everything: p is uniform; one that moves cells four times as far stands out.
    change, dose = rng.gamma(20, 1.0, (2000, 31)), rng.gamma(4, 1.0, (2000, 31))
    found = against_null(change[:, 0], change[:, 1:], dose[:, 0], dose[:, 1:])
    assert (found["p"] < 0.05).mean() == pytest.approx(0.05, abs=0.015)
    assert against_null(np.array([80.0]), change[:1, 1:], dose[:1, 0], dose[:1, 1:])["p"].item() < 1e-3
    silent = against_null(np.zeros(1), np.zeros((1, 5)), np.zeros(1), np.zeros((1, 5)))
    assert silent["z"].item() == 0 and silent["p"].item() == 1


def test_the_strongest_tf_does_not_stand_out_for_its_strength():
    """All null genes are weaker than it, and genes move cells by how much of them is lost, evenly on square roots."""
    rng = np.random.default_rng(0)
    dose = np.sort(rng.gamma(1.0, 1.0, (2000, 31)), axis=1)
    change = (3 * np.sqrt(dose) + 2 + rng.normal(0, 0.3, dose.shape)) ** 2
    found = against_null(change[:, -1], change[:, :-1], dose[:, -1], dose[:, :-1])
    assert (found["p"] < 0.05).mean() == pytest.approx(0.05, abs=0.02)
    assert (found["null_mean"] < change[:, -1] / 1.5).mean() > 0.9


def test_dose_is_what_is_lost_or_gained():
    rna = np.array([[0.0, 2.0], [5.0, 1.0]])
    nothing = np.full(2, -1)
    lost = Perturbations(np.arange(2), np.zeros(2), nothing)
    raised = Perturbations(np.arange(2), np.array([3.0, 4.0]), nothing)
    np.testing.assert_array_equal(lost.doses(rna), rna)
    np.testing.assert_array_equal(raised.doses(rna), [[3, 2], [0, 3]])
    np.testing.assert_array_equal(raised.cells_changed(rna), [[True, True], [False, True]])


def test_direct_targets_are_kept_and_named():
    genes = np.array([f"G{i}" for i in range(8)])
    regulons = pd.DataFrame({"source": "G0", "target": ["G1", "G7"], "score": [0.9, 0.4], "sign": [1, -1]})
    change = np.array([[9.0, -5.0, 0.1, 0.2, 3.0, 0.1, 0.0, 0.0]])
    null = np.random.default_rng(0).normal(0, 1, (10, 8))
    table = target_table(genes[:1], genes, change, null, np.arange(10)[None], regulons, "knock_out", top=2)
    assert "G0" not in set(table["gene"])
    assert table["gene"].tolist()[:2] == ["G1", "G4"]
    direct = table[table["is_direct_target"]].set_index("gene")
    assert direct["sign"].to_dict() == {"G1": 1, "G7": -1}
    assert set(table["gene"]) == {"G1", "G4", "G7"}
    # G4 is a null gene too: what it does to itself must not hide it.
    null[3, 4] = 1e3
    hidden = target_table(genes[:1], genes, change, null, np.arange(10)[None], regulons, "knock_out", top=2)
    null[3, 4] = np.nan
    left_out = target_table(genes[:1], genes, change, null, np.arange(10)[None], regulons, "knock_out", top=2)
    assert "G4" not in set(hidden["gene"]) and left_out["gene"].tolist()[:2] == ["G1", "G4"]


def test_observed_change_does_not_confuse_states_with_the_perturbation():
    """More perturbed cells in a state with high values make no change; weights are those of a hand calculation."""
    strata = np.repeat(["high", "low"], [40, 60])
    treated = np.r_[np.arange(40) < 30, np.arange(60) < 10]
    values = np.where(strata == "high", 10.0, 0.0)[:, None] + np.array([[0.0, 1.0]]) * treated[:, None]
    pairs = judge.arms(treated, strata)
    change, error = judge.observed_change(values, pairs, judge.resample(pairs, 100, 20, seed=0))
    np.testing.assert_allclose(change, np.tile([0.0, 1.0], (21, 1)), atol=1e-5)
    np.testing.assert_allclose(error, 0, atol=1e-3)
    weights = judge.stratum_weights(pairs, strata, ["high", "low"])
    np.testing.assert_allclose(weights, np.array([30 * 10 / 40, 10 * 50 / 60]) / (7.5 + 50 / 6))

    noisy = values + np.random.default_rng(0).normal(0, 2, (100, 2))
    as_csr, _ = judge.observed_change(sparse.csr_matrix(noisy), pairs, judge.resample(pairs, 100, 400, seed=0))
    dense, error = judge.observed_change(noisy, pairs, judge.resample(pairs, 100, 400, seed=0))
    np.testing.assert_allclose(as_csr, dense, atol=1e-4)
    np.testing.assert_allclose(dense[1:].std(0), error, rtol=0.25)


def test_labels_name_genes():
    assert judge.perturbed_genes("SRF_ko", "none") == ("SRF",)
    assert judge.perturbed_genes("KLF1+ctrl", "ctrl") == ("KLF1",)
    assert judge.perturbed_genes("SET+KLF1", "ctrl") == ("KLF1", "SET")
    assert judge.perturbed_genes("NKX2-1-CRISPRi", "none") == ("NKX2-1",)
    assert judge.perturbed_genes("none", "none") == judge.perturbed_genes("", "none") == ()


def test_ranks_by_hand():
    found = judge.rank_scores(np.array([[3.0, 1.0, 2.0], [1.0, 1.0, 0.0], [0.0, 5.0, 5.0]]), true=0)
    np.testing.assert_allclose(found["rank_of_true_tf"], [1, 1.5, 3])
    np.testing.assert_allclose(found["discrimination"], [1, 0.75, 0])


def test_match_leaves_out_the_gene_itself():
    rng = np.random.default_rng(0)
    predicted, observed, own = rng.normal(size=(4, 30)), rng.normal(size=(7, 30)), np.array([3, 0, 29, -1])
    found = judge.match(predicted, own, observed)
    for t, column in enumerate(own):
        kept = np.arange(30) != column
        for r in range(7):
            assert found[r, t] == pytest.approx(np.corrcoef(predicted[t, kept], observed[r, kept])[0, 1])
    assert (judge.match(np.zeros((1, 30)), own[:1], observed) == 0).all()


def pair_screen(noise, seed=0, n_genes=200):
    """Singles A to J and pairs of them: additive effects, a change that all share, and sampling noise."""
    rng = np.random.default_rng(seed)
    names = "ABCDEFGHIJ"
    effect = {name: rng.normal(0, 1, n_genes) * (rng.random(n_genes) < 0.2) for name in names}
    genes = [frozenset(name) for name in names] + [frozenset(pair) for pair in ("AB", "CD", "EF", "GH", "AI", "BJ")]
    shared = rng.normal(0, 0.3, n_genes)
    truth = np.stack([shared + sum(effect[name] for name in sorted(members)) for members in genes])
    return genes, truth, truth + rng.normal(0, noise, truth.shape)


def test_response_model_beats_mean_and_additive_where_singles_are_noisy():
    genes, truth, seen = pair_screen(noise=0.7)
    same = np.array(["cells"] * len(genes))
    model = ResponseModel(condition_kernels(genes, same, same), np.ones(200), np.full(len(genes), 2.0))
    errors = {"mean": [], "additive": [], "ours": []}
    for test in range(10, len(genes)):
        train = np.delete(np.arange(len(genes)), test)
        singles = [next(i for i in range(10) if genes[i] == frozenset(name)) for name in genes[test]]
        guesses = {"mean": seen[train].mean(0), "additive": seen[singles].sum(0)}
        guesses["ours"] = model.predict(seen, train, np.array([test]))[0]
        for name, guess in guesses.items():
            errors[name].append(np.mean((guess - truth[test]) ** 2))
    mean, additive, ours = (np.mean(errors[name]) for name in ("mean", "additive", "ours"))
    assert ours < 0.8 * min(mean, additive)


def test_response_model_is_additive_without_noise_and_falls_back_to_what_all_share():
    genes, truth, _ = pair_screen(noise=0.0)
    same = np.array(["cells"] * len(genes))
    kernels = condition_kernels(genes, same, same)
    assert set(kernels) == {"screen", "gene"}
    model = ResponseModel(kernels, np.ones(200), np.full(len(genes), 1e4))
    predicted = model.predict(truth, np.delete(np.arange(len(genes)), [10, 11]), np.array([10, 11]))
    assert judge.pearson(predicted, truth[10:12]).min() > 0.98
    # Nothing is known of single perturbations: the mean of the others is all there is to say.
    alone = model.predict(truth, np.arange(1, 10), np.array([0]))[0]
    assert judge.pearson(alone, truth[1:10].mean(0)) > 0.99


def test_prior_change_is_used_as_far_as_it_holds():
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1, 300)
    seen = truth + rng.normal(0, 1.0, (4, 300))
    kernel = {"shared": np.ones((4, 4))}
    useful, useless = np.tile(truth / 3, (1, 4, 1)), rng.normal(0, 1, (1, 4, 300))
    error = {}
    for name, prior in (("none", None), ("useful", useful), ("useless", useless)):
        model = ResponseModel(kernel, np.ones(300), np.ones(4), prior)
        error[name] = np.mean((model.predict(seen, np.arange(3), np.array([3]))[0] - truth) ** 2)
    assert error["useful"] < 0.2 * error["none"]
    assert error["useless"] < 1.05 * error["none"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Three donors, two states, six TFs with five targets each; a fifth of the cells lack TF2 and what it drives."""
    folder, rng, n = tmp_path_factory.mktemp("world"), np.random.default_rng(0), 360
    symbols = [f"TF{i}" for i in range(N_TFS)] + [f"G{i}" for i in range(N_TFS, N_GENES)]
    state, lost = rng.integers(2, size=n), rng.random(n) < 0.2
    active = rng.gamma(2, 0.5, (n, N_TFS)) * np.where(state[:, None] == np.arange(N_TFS) % 2, 1.5, 0.8)
    active[lost, 2] = 0
    rate = np.full((n, N_GENES), 1.5)
    rate[:, :N_TFS] = 2 * active
    for tf in range(N_TFS):
        rate[:, list(targets_of(tf))] = 0.3 + 3 * active[:, [tf]]
    rna, atac = rng.poisson(rate), rng.poisson(0.5, (n, N_GENES))
    write_counts(folder / "shards", [(sparse.csr_matrix(rna), sparse.csr_matrix(atac))], N_GENES)
    cells = pd.DataFrame({"sample": np.repeat(["d1", "d2", "d3"], n // 3)})
    cells["donor"], cells["state"] = cells["sample"], np.array(["A", "B"])[state]
    cells["knockout"] = np.where(lost, "TF2_ko", "none")
    cells["has_rna"], cells["has_atac"] = True, True
    cells["n_counts_rna"], cells["n_counts_atac"] = rna.sum(1), atac.sum(1)
    cells["n_active"] = ((rna > 0) | (atac > 0)).sum(1)
    cells.index = pd.Index([f"cell{i:03d}" for i in range(n)], name="cell")
    write_parquet(cells, folder / "cells.parquet")
    vocabulary = pd.DataFrame({"token": np.arange(N_GENES), "gene_id": "", "symbol": symbols})
    vocabulary = vocabulary.assign(is_tf=vocabulary["token"] < N_TFS, chrom="", tss="")
    write_tsv(vocabulary, folder / "vocabulary.tsv")
    edges = [(f"TF{tf}", symbols[gene]) for tf in range(N_TFS) for gene in targets_of(tf)]
    regulons = pd.DataFrame(edges, columns=["source", "target"]).assign(score=0.9, sign=1)
    write_parquet(regulons, folder / "regulons.parquet")
    write_parquet(pd.DataFrame(columns=["gene", "peak"]), folder / "links.parquet")
    save_model(folder / "model", make_model(), vocabulary, {"regulons": symbols[:N_TFS]})
    obs = pd.DataFrame(index=cells.index[::-1])
    activity = np.log1p(rna)[::-1] @ np.eye(N_GENES)[:, :N_TFS] * 0
    for tf in range(N_TFS):
        activity[:, tf] = np.log1p(rna[::-1][:, list(targets_of(tf))]).mean(1)
    var = pd.DataFrame(index=symbols[:N_TFS])
    ad.AnnData(obs=obs, var=var, layers={"mean_z": activity}).write_h5ad(folder / "activity.h5ad")
    model = make_model()
    batch = encode(sparse.csr_matrix(rna), sparse.csr_matrix(atac), np.column_stack([rna.sum(1), atac.sum(1)]))
    ad.AnnData(embed(model, batch).numpy(), obs=cells[["state"]]).write_h5ad(folder / "embedding.h5ad")
    return folder


SETTINGS = {
    "column": "knockout", "control": "none", "direction": "knock_out", "group": "state", "cells_per_group": 4,
    "null_genes": 12, "matched_genes": 6, "top_targets": 8, "seed": 0,
}  # fmt: skip


def perturb(folder, **changes):
    paths = {name: folder / f"{name}.parquet" for name in ("tfs", "targets")} | {"shifts": folder / "shifts.h5ad"}
    perturb_genes.main(
        model=folder / "model",
        shards=folder / "shards",
        cells=folder / "cells.parquet",
        vocabulary=folder / "vocabulary.tsv",
        regulons=folder / "regulons.parquet",
        settings=SETTINGS | changes,
        **paths,
    )
    return [pd.read_parquet(paths[name]) for name in ("tfs", "targets")]


def evaluate(folder, **changes):
    output = folder / "perturbation.tsv"
    evaluate_perturbation.main(
        shards=folder / "shards",
        cells=folder / "cells.parquet",
        vocabulary=folder / "vocabulary.tsv",
        shifts=folder / "shifts.h5ad",
        embedding=folder / "embedding.h5ad",
        activity=folder / "activity.h5ad",
        regulons=folder / "regulons.parquet",
        links=folder / "links.parquet",
        settings=SETTINGS | changes,
        bootstrap=50,
        confidence=0.9,
        decay_bp=50_000,
        recipe="test",
        run="toy",
        output=output,
    )
    return pd.read_csv(output, sep="\t")


def test_rule_ranks_every_tf_in_every_state_and_repeats_itself(world):
    tfs, targets = perturb(world)
    assert tfs.groupby(["direction", "group"])["tf"].nunique().eq(N_TFS).all()
    assert set(tfs["group"]) == {"A", "B", "all"} and tfs["p"].between(0, 1).all()
    assert tfs.loc[tfs["group"] == "all", "n_cells"].eq(8).all()
    assert targets.groupby(["direction", "tf"])["is_direct_target"].sum().eq(N_TARGETS).all()
    first = (world / "tfs.parquet").read_bytes(), (world / "shifts.h5ad").read_bytes()
    perturb(world)
    assert first == ((world / "tfs.parquet").read_bytes(), (world / "shifts.h5ad").read_bytes())
    silenced, _ = perturb(world, silence_regulon=True, close_accessibility=True)
    knocked = silenced["direction"] == "knock_out"
    assert (silenced["embedding_change"] > tfs["embedding_change"])[knocked].mean() > 0.9
    pd.testing.assert_frame_equal(silenced[~knocked], tfs[~knocked])


def test_the_lost_tf_is_found_and_its_effect_predicted_from_other_donors(world):
    perturb(world)
    table = evaluate(world)
    pooled = table[table["fold"] == "pooled"].pivot(index="method", columns="metric", values="value")
    simple = ["own expression", "regulon activity", "regulons"]
    assert (pooled.loc[simple, "rank_of_true_tf"] == 1).all()
    assert (pooled.loc[simple, "discrimination"] == 1).all()
    assert set(table["fold"]) == {"d1", "d2", "d3", "pooled"}
    ours = pooled.loc["regulonformer (test), with other donors"]
    assert ours["mse"] < pooled.loc["mean of other donors", "mse"] < pooled.loc["no change", "mse"]
    assert ours["pearson_change"] > 0.8
    bounded = table[table["ci_low"].notna()]
    assert (bounded["ci_low"] <= bounded["value"] + 1e-9).all() and (
        bounded["value"] <= bounded["ci_high"] + 1e-9
    ).all()


def test_every_other_method_is_compared_with_ours_on_the_same_resamples(world):
    perturb(world)
    table = evaluate(world)
    own, others = "toy: TF2_ko", f"toy: TF2_ko{FROM_OTHERS}"
    values = table[table["fold"] == "pooled"].set_index(["dataset", "method", "metric"])["value"]
    gaps = table[table["metric"].str.startswith("gap_")]
    for dataset, ours in ((own, "regulonformer (test)"), (others, "regulonformer (test), with other donors")):
        found = gaps[gaps["dataset"] == dataset].set_index(["method", "metric"])
        assert ours not in found.index.levels[0] and set(found["fold"]) == {"pooled"}
        for (method, metric), gap in found["value"].items():
            name = metric.removeprefix("gap_")
            assert gap == pytest.approx(values[dataset, method, name] - values[dataset, ours, name])
    assert values[own].index.get_level_values(0).str.contains("donors").sum() == 0
    # Differences vary less than scores, which rise and fall together over the resamples.
    width = (table["ci_high"] - table["ci_low"]).set_axis(pd.MultiIndex.from_frame(table[["fold", "method", "metric"]]))
    name = "pearson_change_top20"
    parts = [width["pooled", f"{method}with other donors", name] for method in ("regulons, ", "regulonformer (test), ")]
    assert width["pooled", "regulons, with other donors", f"gap_{name}"] < np.hypot(*parts)


def test_without_states_every_cell_is_of_one_group(world):
    tfs, _ = perturb(world, group=None, cells_per_group=10)
    assert set(tfs["group"]) == {"all"} and tfs["n_cells"].eq(10).all() and len(tfs) == 2 * N_TFS
    table = evaluate(world, group=None)
    assert (table[(table["method"] == "regulons") & (table["metric"] == "rank_of_true_tf")]["value"] == 1).all()


def test_own_expression_does_not_leak_into_the_other_methods(world, tmp_path):
    """Give the lost TF its transcripts back: methods that read its effect say what they said before."""
    perturb(world)
    before = evaluate(world).set_index(["method", "fold", "metric"])["value"]
    data = PerturbedCells(
        world / "shards", world / "cells.parquet", world / "vocabulary.tsv", world / "shifts.h5ad",
        world / "embedding.h5ad", world / "activity.h5ad", SETTINGS,
    )  # fmt: skip
    values = data.values.tolil()
    values[:, 2] = 1.0
    data.values = values.tocsr()
    profiles = {"regulons": -np.eye(N_TFS, N_GENES)[:, ::-1]}
    rows = evaluate_perturbation._found(data, "ours", profiles, "TF2_ko", "TF2", np.ones(360, bool), 5)
    after = {(method, metric): values[0] for method, metric, values in rows}
    assert after["ours", "pearson_change"] == pytest.approx(before["regulonformer (test)", "pooled", "pearson_change"])
    assert after["own expression", "rank_of_true_tf"] > 1


def test_a_null_gene_is_no_null_for_itself(world, monkeypatch):
    seen = {}

    def keep(tfs, genes, change_PN, null_QN, *rest):
        seen["null"] = null_QN
        return target_table(tfs, genes, change_PN, null_QN, *rest)

    monkeypatch.setattr(perturb_genes, "target_table", keep)
    perturb(world)
    assert (np.isnan(seen["null"]).sum(axis=1) == 1).all() and np.isnan(seen["null"])[:, N_TFS:].any(axis=0).sum() == 12


def test_bad_input_names_the_fix(world):
    with pytest.raises(InputError, match="no column 'knock'"):
        perturb(world, column="knock")
    with pytest.raises(InputError, match="control"):
        perturb(world, control="wild type")
    with pytest.raises(InputError, match="no column 'type'"):
        perturb(world, group="type")
    perturb(world)
    with pytest.raises(InputError, match="the control is to be 'wild type'"):
        evaluate(world, control="wild type")
    assert evaluate(world, control="TF2_ko").empty  # the label `none` names no TF with a regulon
