"""Defects that the released code of scDynOmics has and that must not come back here, one test each.

Most of them are tested beside the code that they concern; `TESTED_ELSEWHERE` says where. The rest is tested here.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from regulonformer.model.attention import SlotAttention
from regulonformer.model.batch import CellBatch, RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.embedding import TokenEmbedding
from regulonformer.model.encoder import Regulonformer
from regulonformer.model.heads import ValueHeads

# Module (behind its folder, if it has one) and test, each without its `test_`.
TESTED_ELSEWHERE = {
    "TF slots are random genes": "model::regulon_slots_are_the_tfs_and_their_targets",
    "a panel cut gives TF slots another meaning": "pretrained/panel::a_cut_keeps_tfs_first_and_counts_what_is_lost",
    "a panel cut changes kept genes": "pretrained/panel::genes_that_nothing_reads_can_be_cut_without_a_trace",
    "adapters without weights bypass the encoder": "adapt::untrained_adapter_equals_the_base",
    "values get targets of other genes": "recipes::target_of_gene_and_modality_is_its_input",
    "counts get targets of other genes": "objectives::targets_belong_to_their_gene_and_modality",
    "RNA is never predicted from accessibility": "objectives::masks_hide_what_is_scored_and_nothing_else",
    "a cell with nothing to mask is NaN (counts)": "objectives::nothing_to_mask_is_zero_with_a_warning",
    "a cell with nothing to mask is NaN (values)": "recipes::cell_with_nothing_to_hide_is_zero_with_a_warning",
    "a gene shares its id with padding": "model::special_values_share_nothing_with_genes",
    "keys shrink with the panel": "model::scale_of_keys_survives_a_panel_cut",
    "projections of keys and values are one tensor": "model::keys_and_values_share_no_storage",
    "the training set is empty": "corpus::held_out_share_of_a_single_library",
    "scores are means over batches": "metrics::pooled_is_not_the_mean_over_folds",
    "variable genes are chosen on test cells": "baselines::learn_from_training_cells_only",
    "cells of another class are explained": "attribution::the_cells_explained_are_the_cells_chosen",
    "modalities are mixed in attributions": "attribution::real_model_is_complete_and_keeps_modalities_apart",
    "genes that share a window lose it": "accessibility::genes_that_share_a_window_all_get_it",
    "the last gene of a file is dropped": "readers/layouts::every_layout_holds_the_same_counts_in_any_feature_order",
    "the order of non-zeros matters": "model::order_of_tokens_changes_nothing",
    "one batch cannot be learned (counts)": "objectives::one_batch_can_be_overfitted",
    "one batch cannot be learned (values)": "recipes::one_batch_can_be_overfitted",
}


def cell_of(values):
    """One cell with these RNA values (1 x genes) and no accessibility."""
    state, zeros = torch.zeros_like(values, dtype=torch.long), torch.zeros_like(values)
    genes = torch.arange(values.shape[1])[None]
    return CellBatch(genes, values, zeros, state, state, state.bool(), zeros, zeros, torch.ones(1, 2))


@pytest.mark.parametrize("defect", TESTED_ELSEWHERE)
def test_the_test_that_is_named_exists(defect):
    module, name = TESTED_ELSEWHERE[defect].split("::")
    *folder, file = module.split("/")
    text = Path(__file__).parent.joinpath(*folder, f"test_{file}.py").read_text()
    assert re.search(rf"^def test_{name}\(", text, re.MULTILINE)


def test_slots_of_a_tf_layer_read_tfs_alone():
    # The released TF layers read genes drawn at random; here the TFs are the first genes of the vocabulary.
    torch.manual_seed(0)
    n_genes, n_tfs = 30, 6
    edges = RegulonEdges(torch.tensor([0, 0]), torch.tensor([0, 20]), torch.ones(2), torch.tensor([0]))
    config = ModelConfig(width=16, heads=2, slots=8, layers=["tf"], dropout=0.0)
    model = Regulonformer(config, n_genes, edges, torch.zeros(n_genes, 2), n_tfs=n_tfs).eval()
    keys = []
    model.layers[0].attention.k_proj.register_forward_hook(lambda _, __, output: keys.append(output))
    for gene in [None, *range(n_genes)]:
        values = torch.full((1, n_genes), 2.0)
        if gene is not None:
            values[0, gene] = 5.0
        model(cell_of(values))
    moved = [(changed - keys[0]).abs().max() > 1e-4 for changed in keys[1:]]
    assert moved == [True] * n_tfs + [False] * (n_genes - n_tfs)


def test_keys_and_values_learn_each_from_its_own_gradient():
    # Two parameters on one storage both take the step of both gradients.
    torch.manual_seed(0)
    attention = SlotAttention(16, 2)
    attention(torch.randn(2, 5, 16), torch.randn(2, 4, 16)).square().sum().backward()
    weights = [attention.k_proj.weight, attention.v_proj.weight]
    expected = [weight.detach() - 0.1 * weight.grad for weight in weights]
    assert not torch.allclose(weights[0].grad, weights[1].grad)
    torch.optim.SGD(attention.parameters(), lr=0.1).step()
    for weight, after in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.detach(), after)


def test_no_value_is_cut_off_at_the_output():
    # A ReLU at the output has no gradient for four in five values of an untrained model.
    torch.manual_seed(0)
    heads = ValueHeads(16, torch.zeros(10, 2), 1)
    torch.nn.init.normal_(heads.from_token.weight)
    tokens = torch.randn(200, 16, requires_grad=True)
    cells, genes = torch.zeros(200, dtype=torch.long), torch.randint(10, (200,))
    values = heads(tokens, torch.randn(1, 16), cells, genes, torch.randn(10, 16))
    values.sum().backward()
    assert (values < 0).any() and (tokens.grad.norm(dim=1) > 0).all()


def released_bins(counts):
    """Bins of the released code: one per unit of log1p of counts per million, after two special ones; 15 in all."""
    return np.minimum(np.ceil(np.log1p(counts * 1e6 / counts.sum())) + 2, 14).astype(int)


def value_weights(embedding, counts):
    """Weights of the support points (genes x K) of the RNA values of one cell."""
    values = torch.tensor(np.log1p(counts * 1e4 / counts.sum()), dtype=torch.float32)[None]
    with torch.no_grad():
        return embedding(cell_of(values))[0].numpy()


@pytest.mark.parametrize("fewest", [1, 2, 4, 10, 50])
def test_values_move_less_with_the_depth_than_released_bins(fewest):
    """A cell of 20,000 counts is thinned to a quarter: how far do the expected value vectors of its genes move?

    In units of the distance of two entries of the value table: one is a change to an unrelated entry.
    """
    rng = np.random.default_rng(0)
    share = rng.lognormal(0, 2, 2000)
    deep = rng.poisson(20_000 * share / share.sum())
    genes = deep >= fewest
    embedding = TokenEmbedding(ModelConfig(width=18, heads=2, value_bins=16), len(deep))
    with torch.no_grad():  # the embedding of a value then shows the weights of the table's rows
        embedding.gene_vectors.weight.zero_()
        embedding.value_vectors.zero_()
        embedding.value_vectors[0] = torch.eye(18)
    thinned = [rng.binomial(deep, 0.25) for _ in range(20)]

    def movement(vectors_of):
        change = np.mean([vectors_of(counts) for counts in thinned], axis=0) - vectors_of(deep)
        return np.linalg.norm(change[genes], axis=1).mean() / np.sqrt(2)

    ours = movement(lambda counts: value_weights(embedding, counts))
    assert ours < 0.9 * movement(lambda counts: np.eye(15)[released_bins(counts)])


def test_released_bins_are_those_that_were_seen():
    # Bins of counts at two depths, as the released code gave them: at 5,000 counts a single one is in bin 8, not 6.
    counts = np.array([0, 1, 2, 3, 4, 6, 10, 20, 50, 100, 400])
    for depth, expected in {
        5_000: [2, 8, 8, 9, 9, 10, 10, 11, 12, 12, 14],
        20_000: [2, 6, 7, 8, 8, 8, 9, 9, 10, 11, 12],
    }.items():
        assert released_bins(np.append(counts, depth - counts.sum()))[:-1].tolist() == expected
