"""A model cut to a panel of genes is the same model on the genes that are left."""

import logging

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from mouse_cells import GENES, make_model, multiome

import regulonformer
from regulonformer import query
from regulonformer.corpus.encoding import encode
from regulonformer.corpus.vocabulary import regulon_edges
from regulonformer.errors import InputError
from regulonformer.objectives.masking import hide
from regulonformer.panel import cut_panel
from regulonformer.pretrained import Pretrained


def toy(n_genes, n_tfs, targets, layers, seed=0, width=16):
    """A model whose regulons each have a TF, and `targets` random targets; counts of 40 cells."""
    rng = np.random.default_rng(seed)
    symbols = [f"G{number}" for number in range(n_genes)]
    vocabulary = pd.DataFrame({"token": np.arange(n_genes), "gene_id": "", "symbol": symbols})
    vocabulary = vocabulary.assign(is_tf=np.arange(n_genes) < n_tfs, chrom="", tss="")
    names = [*symbols[:n_tfs], "Elsewhere"]
    chosen = np.concatenate([rng.choice(np.arange(n_tfs, n_genes), targets, replace=False) for _ in names])
    table = pd.DataFrame({"source": np.repeat(names, targets), "target": [symbols[gene] for gene in chosen]})
    edges = regulon_edges(table.assign(score=rng.random(len(table))), vocabulary)
    model, regulons = make_model(edges, n_genes, n_tfs, width=width, slots=6, layers=layers)
    counts = [sp.csr_matrix(rng.poisson(0.5, (40, n_genes)).astype(np.int32)) for _ in range(2)]
    return Pretrained(model, vocabulary, {"regulons": regulons}, None), counts


def states(model, batch, tokens):
    """Last states of some genes (NaN where silent), and of the cells."""
    with torch.no_grad():
        encoded = model(batch)
    full = torch.full((len(batch.genes_BT), model.n_genes, model.config.width), torch.nan)
    for cell in range(len(full)):
        real = ~batch.pad_BT[cell]
        full[cell, batch.genes_BT[cell][real]] = encoded.tokens_BTD[cell][real]
    return full[:, tokens].numpy(), encoded.cell_BD.numpy()


def make_unread(pretrained, lost):
    """Give genes a weight of zero in every slot and in the linear path, by weights alone."""
    model, kept = pretrained.model, np.setdiff1d(np.arange(pretrained.model.n_genes), lost)
    # Norms leave this direction as it is. Kept genes have none of it, lost ones lie against it.
    direction = torch.tensor([1.0, -1.0]).repeat(model.config.width // 2)
    vectors = model.embedding.gene_vectors.weight
    with torch.no_grad():
        vectors[kept] -= (vectors[kept] @ direction / len(direction))[:, None] * direction
        vectors[lost] = -direction
        model.shortcut.projection[lost] = 0
        for name, parameter in model.named_parameters():
            if name.endswith("slot_queries"):
                parameter += 30 * direction
            if name.endswith("edge_logits"):
                genes = model.get_buffer(name.replace("edge_logits", "gene_E"))
                parameter[torch.isin(genes, torch.tensor(lost))] = -1e4


def test_genes_that_nothing_reads_can_be_cut_without_a_trace():
    # Active or silent, among the targets or not: what counts is the weight that slots give them.
    full, counts = toy(60, 6, 8, ["regulon", "tf", "explorer"])
    lost = np.array([3, *range(25, 60)])
    make_unread(full, lost)
    kept = np.setdiff1d(np.arange(60), lost)
    cut = cut_panel(full, full.vocabulary["symbol"][kept])
    library = np.column_stack([matrix.sum(1).A1 for matrix in counts])
    before = states(full.model, encode(*counts, library), kept)
    after = states(cut.model, encode(*(matrix[:, kept] for matrix in counts), library), np.arange(len(kept)))
    np.testing.assert_allclose(after[0], before[0], atol=1e-5)
    np.testing.assert_allclose(after[1], before[1], atol=1e-5)
    rates = [
        part.model.heads.cell_log_rate(torch.tensor(before[1]), genes, part.model.embedding.gene_vectors.weight)
        for part, genes in ((full, torch.tensor(kept)), (cut, torch.arange(len(kept))))
    ]
    torch.testing.assert_close(*rates)


def test_the_linear_path_counts_lost_genes_as_their_mean():
    full, counts = toy(60, 6, 8, ["tf", "explorer"])
    kept = np.arange(0, 60, 2)
    cut = cut_panel(full, full.vocabulary["symbol"][kept])
    library = np.column_stack([matrix.sum(1).A1 for matrix in counts])
    every = encode(*counts, library).every_gene(60)
    lost = ~torch.isin(every.genes_BT, torch.tensor(kept))
    hidden = hide(every, lost[..., None].expand(-1, -1, 2))
    panel = encode(*(matrix[:, kept] for matrix in counts), library)
    with torch.no_grad():
        expected, found = full.model.shortcut(hidden), cut.model.shortcut(panel)
        assert (full.model.shortcut(every) - expected).abs().max() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_tf_layer_reads_the_tfs_that_are_left():
    full, counts = toy(60, 6, 8, ["tf", "explorer"])
    kept = np.array([1, 4, *range(10, 40)])
    cut = cut_panel(full, full.vocabulary["symbol"][kept])
    vectors = cut.model.embedding.gene_vectors.weight
    weights, before = (
        part.model.layers[0].pooling.weights(part.model.embedding.gene_vectors.weight).detach() for part in (cut, full)
    )
    assert weights.shape == (2, 6) and len(vectors) == 32
    torch.testing.assert_close(weights, before[[1, 4]] / before[[1, 4]].sum(0))
    # Without regulon layers no regulon is lost, whatever becomes of its TF.
    assert cut.config["regulons"] == full.config["regulons"] and cut.model.tf_S.tolist() == [-1, 0, -1, -1, 1, -1, -1]
    with pytest.raises(InputError, match="reads TFs, but no gene is one"):
        cut_panel(full, full.vocabulary["symbol"][10:])


def test_a_cut_keeps_tfs_first_and_counts_what_is_lost(caplog, tmp_path):
    caplog.set_level(logging.INFO)
    full, _ = toy(60, 6, 3, ["explorer", "regulon", "regulon", "tf"])
    edges = {slot: set() for slot in range(7)}
    pooling = full.model.layers[1].pooling
    for slot, gene in zip(pooling.slot_E.tolist(), pooling.gene_E.tolist(), strict=True):
        edges[slot].add(gene)
    # G2 goes with its whole regulon, G4 alone; its regulon goes on without it.
    kept = [gene for gene in range(60) if gene != 4 and gene not in edges[2]]
    cut = cut_panel(full, [f"G{gene}" for gene in reversed(kept)] + ["Unheard", "Of"])
    assert cut.vocabulary["symbol"].tolist() == [f"G{gene}" for gene in kept]
    assert cut.vocabulary["is_tf"].is_monotonic_decreasing
    left = [slot for slot in edges if edges[slot] & set(kept)]
    names = full.config["regulons"]
    assert cut.config["regulons"] == [names[slot] for slot in left] and "G2" in cut.config["lost_regulons"]
    assert cut.config["lost_edges"] == sum(len(genes - set(kept)) for genes in edges.values())
    tfs = [kept.index(slot) if slot < 6 and slot in kept else -1 for slot in left]
    assert cut.model.tf_S.tolist() == tfs and tfs[left.index(4)] == -1
    assert cut.model.n_tfs == cut.vocabulary["is_tf"].sum() == sum(gene < 6 for gene in kept)
    for layer in (1, 2):
        weights = cut.model.layers[layer].pooling
        got = {slot: set() for slot in range(len(left))}
        for slot, gene in zip(weights.slot_E.tolist(), weights.gene_E.tolist(), strict=True):
            got[slot].add(kept[gene])
        assert got == {number: edges[slot] & set(kept) for number, slot in enumerate(left)}
    assert "2 names are no gene of the model" in caplog.text and "regulons of G2" in caplog.text
    # What is known of a gene is moved, not made anew.
    torch.testing.assert_close(
        cut.model.embedding.gene_vectors.weight, full.model.embedding.gene_vectors.weight[kept], rtol=0, atol=0
    )
    # The full model is as it was, and the cut one is a model like any other.
    assert full.model.n_genes == 60 and len(full.model.tf_S) == 7
    cut.save(tmp_path)
    again = regulonformer.load(tmp_path)
    assert again.config["panel_share"] == cut.config["panel_share"] and again.hash
    assert all(torch.equal(value, again.model.state_dict()[name]) for name, value in cut.model.state_dict().items())


def test_cutting_twice_is_cutting_once():
    full, _ = toy(60, 6, 8, ["regulon", "explorer"])
    once, twice = full.cut_panel(f"G{i}" for i in range(20)), full.cut_panel(f"G{i}" for i in range(40))
    twice = twice.cut_panel(f"G{i}" for i in range(20))
    np.testing.assert_allclose(once.config["panel_share"], twice.config["panel_share"], rtol=1e-6)
    assert all(0 < share < 1 for share in once.config["panel_share"])
    assert once.config["regulons"] == twice.config["regulons"]
    for name, value in once.model.state_dict().items():
        assert torch.equal(value, twice.model.state_dict()[name]), name


def test_a_panel_without_the_models_genes_is_refused():
    full, _ = toy(60, 6, 3, ["regulon"])
    with pytest.raises(InputError, match="no gene of the model"):
        full.cut_panel(["Unheard"])
    unread = set(range(60)) - set(full.model.layers[0].pooling.gene_E.tolist())
    with pytest.raises(InputError, match="no regulon has a gene"):
        full.cut_panel(f"G{gene}" for gene in unread)


def test_values_keep_their_scale_in_a_panel(world):
    """A cell's total over a panel, divided by the panel's share, is near the total that training divided by."""
    full = regulonformer.load(world / "model")
    counts = multiome()["rna"]
    share = np.asarray(counts[:, 8:].X.sum() / counts.X.sum())
    full.model.heads.gene_log_mean[:, 0] = torch.tensor(
        np.log(np.asarray(counts[:, full.vocabulary["symbol"]].X.mean(0)).ravel())
    )
    cut = full.cut_panel(GENES[8:])
    assert cut.config["panel_share"][0] == pytest.approx(float(share), rel=1e-5)
    batches = query.Query(counts[:, 8:].copy(), cut).batches(64, cut.config["panel_share"])
    rows, batch = next(batches)
    totals = counts.X.sum(1).A1[rows]
    assert batch.library_B2[:, 0].mean() == pytest.approx(totals.mean(), rel=0.01)


@pytest.mark.parametrize("weights", ["at the start", "like trained ones"])
def test_a_panel_of_a_tenth_keeps_the_scale_of_slots_and_keys(weights):
    full, counts = toy(4000, 200, 80, ["regulon", "tf", "explorer"], width=32)
    if weights == "like trained ones":
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for name, parameter in full.model.named_parameters():
                if name.endswith("edge_logits"):
                    parameter += torch.randn(parameter.shape, generator=generator)
                elif "norm" in name or "gene_vectors" in name:
                    parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    panel = np.sort(np.random.default_rng(2).choice(4000, 400, replace=False))
    cut = full.cut_panel(full.vocabulary["symbol"].iloc[panel])
    library = np.column_stack([matrix.sum(1).A1 for matrix in counts])
    batches = [encode(*counts, library), encode(*(matrix[:, panel] for matrix in counts), library)]
    scales = [scale_of_slots(part.model, batch) for part, batch in zip((full, cut), batches, strict=True)]
    for before, after in zip(*scales, strict=True):
        assert after == pytest.approx(before, rel=0.1)


def scale_of_slots(model, batch):
    """Standard deviation of the slots (before the projection) and of the keys, for each layer."""
    found, hooks = [], []
    for layer in model.layers:
        hook = layer.attention.k_proj.register_forward_hook
        hooks.append(hook(lambda _, given, keys: found.extend([given[0].std().item(), keys.std().item()])))
    with torch.no_grad():
        model(batch)
    for hook in hooks:
        hook.remove()
    assert len(found) == 2 * len(model.layers)
    return found
