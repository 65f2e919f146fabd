"""Gene tasks: no gene of a test is known from training, false pairs give nothing away, planted knowledge is found."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.metrics import roc_auc_score

from evaluate_genes import MIN_CELLS, _contextual, _pca_loadings
from regulonformer.corpus.shards import Corpus, write_counts
from regulonformer.errors import InputError
from regulonformer.evaluate.gene_tasks import GeneTask, read_task, without_pairs
from regulonformer.evaluate.genes import (
    FOLDS,
    as_regulators,
    auroc_draws,
    features,
    gene_folds,
    held_out_scores,
    judge,
    matched_pairs,
    prior_vectors,
)
from regulonformer.gene_names import GeneNames
from regulonformer.gene_vectors import (
    CONTEXTUAL,
    REGULON,
    STATIC,
    contextual_vectors,
    read_vectors,
    regulon_vectors,
    vector_table,
)
from regulonformer.io.store import write_parquet, write_tsv
from regulonformer.model.batch import CellBatch, RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.encoder import Regulonformer

N_GENES, N_TFS = 300, 40
SYMBOLS = [f"G{number}" for number in range(N_GENES)]
NAMES = GeneNames(SYMBOLS)
SETTINGS = {"seeds": [0, 1], "bootstrap": 100, "confidence": 0.95}


@pytest.fixture(scope="module")
def edges():
    """True pairs of TFs and targets, some TFs with many: a TF binds genes of its own side of a hidden axis."""
    rng = np.random.default_rng(0)
    side = rng.standard_normal(N_GENES)
    drawn = [(tf, gene) for tf in range(N_TFS) for gene in rng.choice(np.arange(N_TFS, N_GENES), 4 + tf, replace=False)]
    pairs = np.array([(tf, gene) for tf, gene in drawn if side[tf] * side[gene] > 0])
    return side, GeneTask(pairs, np.ones(len(pairs), bool))


def written(folder, table):
    path = folder / "task.tsv"
    pd.DataFrame(table).to_csv(path, sep="\t", index=False)
    return path


def test_a_task_is_read_by_whatever_names_its_genes_have_and_unknown_ones_are_counted(tmp_path):
    names = [*SYMBOLS[:50], "g50", "NOBODY"]
    task = read_task(written(tmp_path, {"gene": names, "label": [1, 0] * 26}), NAMES)
    assert task.genes.shape == (51, 1) and task.genes[-1, 0] == 50
    assert task.unknown == 1 and task.label.sum() == 26 and not task.label[1]


def test_a_network_is_a_task_of_true_pairs(tmp_path, edges):
    table = {"source": [SYMBOLS[i] for i in edges[1].genes[:, 0]], "target": [SYMBOLS[i] for i in edges[1].genes[:, 1]]}
    task = read_task(written(tmp_path, table), NAMES)
    assert set(map(tuple, task.genes)) == set(map(tuple, edges[1].genes)) and task.label.all()


def test_labels_and_sizes_are_checked(tmp_path):
    with pytest.raises(InputError, match="labels other than"):
        read_task(written(tmp_path, {"gene": SYMBOLS, "label": ["yes"] * N_GENES}), NAMES)
    with pytest.raises(InputError, match="3 measured genes"):
        read_task(written(tmp_path, {"gene": SYMBOLS, "label": [1] * 3 + [0] * (N_GENES - 3)}), NAMES)


def test_repeated_rows_are_counted_and_those_that_contradict_are_refused(tmp_path):
    rows = {"gene": SYMBOLS[:60], "label": [1, 0] * 30}
    twice = {"gene": [*rows["gene"], "G0", "G1"], "label": [*rows["label"], 1, 0]}
    task = read_task(written(tmp_path, twice), NAMES)
    assert (len(task.genes), task.repeated) == (60, 2)
    with pytest.raises(InputError, match="1 .* both labels.*G0"):
        read_task(written(tmp_path, {"gene": [*rows["gene"], "G0"], "label": [*rows["label"], 0]}), NAMES)


def test_a_task_of_which_no_row_can_be_tested_is_refused():
    task = GeneTask(np.array([[0, 1], [2, 3]]), np.array([True, False]))
    with pytest.raises(InputError, match="no row"):
        judge(task, {"ours": lambda seed: np.eye(4)}, np.empty((0, 2), int), SETTINGS)


def test_every_gene_is_in_as_many_false_pairs_as_true_ones(edges):
    _, task = edges
    fold, known = gene_folds(task, seed=1), np.array([[0, 50], [1, 60]])
    full = matched_pairs(task, fold, known, seed=[1])
    true, false = full.genes[full.label], full.genes[~full.label]
    true_pairs = set(map(tuple, task.genes))
    assert set(map(tuple, true)) <= true_pairs and len(true) > 0.8 * len(task.genes)
    assert not set(map(tuple, false)) & (true_pairs | set(map(tuple, known)))
    for held in range(FOLDS):  # and so within the pairs of each test
        inside = [pairs[(fold[pairs] == held).all(1)] for pairs in (true, false)]
        for side in (0, 1):
            assert np.array_equal(*(np.bincount(pairs[:, side], minlength=N_GENES) for pairs in inside))


def test_pairs_of_the_prior_can_be_left_out_either_way_round(edges):
    _, task = edges
    rest = without_pairs(task, task.genes[:10, ::-1])
    assert len(rest.genes) == len(task.genes) - 10
    assert len(without_pairs(task, np.empty((0, 2), int)).genes) == len(task.genes)


def test_no_gene_of_a_test_is_known_from_training(edges):
    """A label that belongs to one gene of the pair can be learned by heart, unless that gene is held out."""
    _, task = edges
    rng = np.random.default_rng(3)
    favourite = rng.random(N_GENES) < 0.5
    task = GeneTask(task.genes, favourite[task.genes[:, 1]])
    fold = gene_folds(task, 0)
    scores, tested = held_out_scores(task, fold, np.eye(N_GENES))
    assert ((tested >= 0) == (fold[task.genes[:, 0]] == fold[task.genes[:, 1]])).all()
    assert 0 < (tested >= 0).mean() < 0.5, "pairs that straddle are in no test"
    found = auroc_draws(task.label, scores, tested, np.ones((len(scores), 1)))[0]
    assert 0.4 < found < 0.6


def test_area_under_the_curve_is_that_of_scikit_learn_with_ties_and_weights():
    rng = np.random.default_rng(0)
    label, scores, times = rng.random(80) < 0.4, rng.integers(10, size=80).astype(float), rng.integers(3, size=(80, 4))
    found = auroc_draws(label, scores, np.zeros(80, int), times)
    expected = [roc_auc_score(label, scores, sample_weight=column) for column in times.T]
    np.testing.assert_allclose(found, expected)
    moved = scores + 100 * (np.arange(80) >= 40)  # scores of another fold are not compared
    halves = auroc_draws(label, moved, (np.arange(80) >= 40).astype(int), times)
    assert np.allclose(halves, auroc_draws(label, scores, (np.arange(80) >= 40).astype(int), times))


def test_vectors_that_know_the_axis_tell_pairs_and_random_ones_do_not(edges):
    side, task = edges
    noise = np.random.default_rng(1).standard_normal((N_GENES, 4))
    methods = {
        "ours": lambda seed: np.column_stack([side, noise]),
        "random": lambda seed: np.random.default_rng(seed).standard_normal((N_GENES, 5)),
    }
    table, counts = judge(task, methods, task.genes, SETTINGS)
    cell = table[table["seed"] == "all"].set_index(["method", "metric"])
    assert cell.loc[("ours", "auroc"), "value"] > 0.7
    assert cell.loc[("random", "auroc"), "ci_low"] < 0.5 < cell.loc[("random", "auroc"), "ci_high"]
    assert cell.loc[("random", "gap_auroc"), "ci_high"] < 0, "the method less ours"
    assert counts["straddling"] + counts["tested"] == counts["rows"]
    again, _ = judge(task, methods, task.genes, SETTINGS)
    pd.testing.assert_frame_equal(table, again)


def test_features_of_a_pair_are_both_vectors_their_product_and_their_difference():
    vectors = np.array([[1.0, 2.0], [3.0, -1.0]])
    assert features(vectors, np.array([[0, 1]])).tolist() == [[1, 2, 3, -1, 3, -2, 2, 3]]
    assert features(vectors, np.array([[1]])).tolist() == [[3, -1]]


def test_contextual_vectors_are_means_over_the_cells_that_show_a_gene():
    torch.manual_seed(0)
    edges = RegulonEdges(torch.tensor([0, 0]), torch.tensor([0, 5]), torch.ones(2), torch.tensor([0]))
    config = ModelConfig(width=8, heads=2, slots=4, layers=["regulon", "explorer"])
    model = Regulonformer(config, 12, edges, torch.full((12, 2), -np.log(12))).eval()
    genes = torch.tensor([[0, 1, 2], [1, 3, 4], [1, 2, 0]])
    counts, states = torch.ones(3, 3), torch.zeros(3, 3, dtype=torch.long)
    pad = torch.tensor([[False, False, False], [False, False, False], [False, False, True]])
    batch = CellBatch(genes, counts, counts, states, states, pad, counts, counts, torch.full((3, 2), 3.0))
    batches = [(np.array([2, 0, 1]), batch)]
    means, n_cells = contextual_vectors(model, batches, 1, np.array([0, -1, 0]), 2)
    with torch.no_grad():
        tokens = model(batch).tokens_BTD.numpy()
    # Row 2 of the corpus is the first cell, row 0 the second; row 1, the third, has no state.
    np.testing.assert_allclose(means[0, 1], (tokens[0, 1] + tokens[1, 0]) / 2, rtol=1e-5)
    assert n_cells[0].tolist() == [1, 2, 1, 1, 1] + [0] * 7 and not n_cells[1].any()

    symbols = [f"G{number}" for number in range(12)]
    static = model.embedding.gene_vectors.weight.detach().numpy()
    table = vector_table(symbols, static, regulon_vectors(model), ["a", "b"], (means, n_cells))
    np.testing.assert_array_equal(read_vectors(table, STATIC, symbols)[""], static)
    shown = read_vectors(table, CONTEXTUAL, symbols, min_cells=2)["a"]
    assert np.flatnonzero(~np.isnan(shown).any(1)).tolist() == [1], "one gene is shown by two cells"
    # The regulon of gene 0 holds genes 0 and 5, with the weights that the model pools them with.
    weight = model.layers[0].pooling.weights(model.embedding.gene_vectors.weight).detach().numpy()[:, 0]
    regulon = read_vectors(table, REGULON, symbols)[""]
    np.testing.assert_allclose(regulon[0], weight[0] * static[0] + weight[5] * static[5], rtol=1e-4, atol=1e-6)
    assert np.isnan(regulon[1:]).all()


def test_contextual_vectors_are_left_out_where_no_state_shows_a_gene_often_enough(caplog):
    static, state = np.ones((3, 2)), np.array([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]])
    for n_cells, expected in (([MIN_CELLS, MIN_CELLS, 1], 1), ([1, 1, 1], 0)):
        table = vector_table(SYMBOLS[:3], static, ([], np.ones((0, 2))), ["a"], (state, np.array([n_cells])))
        found = _contextual(table, SYMBOLS[:3], "contextual")
        assert len(found) == expected
        if found:
            assert found["contextual"][2].tolist() == [2.0, 3.0], "an unknown gene is the mean of the others"
    assert "left out" in caplog.text


@pytest.mark.parametrize("missing", [None, "rna", "atac"])
def test_pca_is_named_by_the_modalities_that_it_saw(tmp_path, missing):
    counts = [sparse.csr_matrix(np.random.default_rng(m).poisson(1.0, (30, 20))) for m in range(2)]
    cells = pd.DataFrame({"sample": "one", "has_rna": missing != "rna", "has_atac": missing != "atac"}, index=range(30))
    for name, part in zip(("rna", "atac"), counts, strict=True):
        cells[f"n_counts_{name}"] = np.asarray(part.sum(1)).ravel()
    cells["n_active"] = ((counts[0] + counts[1]) > 0).sum(1)
    write_counts(tmp_path / "shards", [tuple(counts)], 20)
    write_parquet(cells.set_axis(cells.index.astype(str)), tmp_path / "cells.parquet")
    vocabulary = pd.DataFrame({"token": range(20), "symbol": SYMBOLS[:20], "gene_id": "", "is_tf": False})
    write_tsv(vocabulary.assign(chrom="", tss=""), tmp_path / "vocabulary.tsv")
    corpus = Corpus(tmp_path / "shards", tmp_path / "cells.parquet", tmp_path / "vocabulary.tsv")
    shapes = {name: loadings.shape for name, loadings in _pca_loadings(corpus, 4).items()}
    expected = {"rna": {"PCA loadings (accessibility)": (20, 4)}, "atac": {"PCA loadings (RNA)": (20, 4)}}
    both = {"PCA loadings (RNA)": (20, 4), "PCA loadings (RNA and accessibility)": (20, 8)}
    assert shapes == expected.get(missing, both)


def test_a_tf_stands_for_its_targets():
    vectors = np.array([[9.0, 9.0], [1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    prior = pd.DataFrame({"source": ["T", "T", "T"], "target": ["A", "A", "B"], "score": [0.1, 0.6, -0.2]})
    regulon = prior_vectors(vectors, prior, ["T", "A", "B", "C"])
    np.testing.assert_allclose(regulon[0], [0.75, 0.25])
    assert np.isnan(regulon[1:]).all()
    np.testing.assert_allclose(as_regulators(vectors, regulon), [[-2.25, -2.75], [-2, -3], [-3, -2], [-1, -1]])
