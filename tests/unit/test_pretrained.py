"""A pretrained model in the hands of a user: embedding their own cells, cut to a panel, and its card."""

import logging

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import build_corpus
import embed_cells
import regulonformer
from regulonformer import query
from regulonformer.corpus.encoding import encode
from regulonformer.corpus.vocabulary import read_vocabulary, regulon_edges
from regulonformer.errors import InputError
from regulonformer.io.store import open_mudata, read_parquet, read_tsv, write_json, write_mudata, write_parquet
from regulonformer.model.batch import RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.encoder import Regulonformer
from regulonformer.model_card import write_card
from regulonformer.objectives.masking import hide
from regulonformer.panel import cut_panel
from regulonformer.pretrained import Pretrained, save_model

N_CELLS, N_GENES = 50, 24
GENES = [f"Gene{number}" for number in range(N_GENES)]
IDS = [f"ENSMUSG{number:011d}" for number in range(N_GENES)]
TFS = ["Gene5", "Gene9", "Gene2"]
PEAKS = [f"chr1-{1000 * number}-{1000 * number + 500}" for number in range(N_GENES)]


def multiome():
    """Two modalities of the same cells; the last five have no ATAC. Each gene has one peak, in its promoter."""
    rng = np.random.default_rng(0)
    names = [f"cell{number}" for number in range(N_CELLS)]
    rna = sp.csr_matrix(rng.poisson(1.0, (N_CELLS, N_GENES)).astype(np.int32))
    atac = sp.csr_matrix(rng.poisson(0.7, (N_CELLS - 5, N_GENES)).astype(np.int32))
    genes = pd.DataFrame({"gene_id": IDS, "chrom": "chr1", "tss": 0}, index=GENES)
    tables = {
        "rna": ad.AnnData(rna, pd.DataFrame(index=names), genes),
        "atac": ad.AnnData(atac, pd.DataFrame(index=names[:-5]), pd.DataFrame(index=PEAKS)),
    }
    with md.set_options(pull_on_update=False):
        data = md.MuData(tables)
    data["atac"].varm["promoters"] = sp.eye_array(N_GENES, format="csr")
    data.obs = pd.DataFrame({"sample": "s", "state": "a"}, index=names)
    return data


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Joint matrices, their corpus, a model of random weights, and what the rule makes of the cells."""
    folder = tmp_path_factory.mktemp("world")
    write_mudata(multiome(), folder / "multiome.h5mu")
    rng = np.random.default_rng(1)
    table = {"source": rng.choice([*TFS, "Elsewhere"], 30), "target": rng.choice(GENES, 30), "score": rng.random(30)}
    write_parquet(pd.DataFrame(table), folder / "regulons.parquet")
    # The first peak is also linked to Gene3.
    links = pd.DataFrame({"peak": PEAKS[:1], "gene": ["Gene3"], "correlation": [0.5], "score": [0.9]})
    write_parquet(links, folder / "links.parquet")
    outputs = {"cells": "parquet", "elements": "parquet", "summary": "json"}
    outputs |= dict.fromkeys(("vocabulary", "genes", "unmapped"), "tsv")
    build_corpus.main(
        **{name: folder / f"{name}.parquet" for name in ("regulons", "links")},
        multiome=folder / "multiome.h5mu",
        settings={"accessibility": "linked", "min_link_score": 0.5},
        shards=folder / "shards",
        **{name: folder / f"{name}.{suffix}" for name, suffix in outputs.items()},
    )
    vocabulary = read_vocabulary(folder / "vocabulary.tsv")
    edges = regulon_edges(read_parquet(folder / "regulons.parquet"), vocabulary)
    model, names = make_model(edges, N_GENES, 3, width=16, slots=4, layers=["regulon", "explorer"])
    save_model(folder / "model", model, vocabulary, {"regulons": names}, read_parquet(folder / "elements.parquet"))
    embed_cells.main(
        folder=folder / "model",
        shards=folder / "shards",
        cells=folder / "cells.parquet",
        vocabulary=folder / "vocabulary.tsv",
        seed=0,
        output=folder / "cells.h5ad",
    )
    return folder


def make_model(edges, n_genes, n_tfs, **sizes):
    """A model of random weights, none of which is zero, and the TF of each slot."""
    torch.manual_seed(0)
    slots = edges.drop_duplicates("slot")
    columns = [edges["slot"], edges["gene"], edges["weight"].astype("float32"), slots["tf_token"]]
    regulons = RegulonEdges(*(torch.tensor(column.to_numpy()) for column in columns))
    log_mean = torch.randn(n_genes, 2).log_softmax(0)
    model = Regulonformer(ModelConfig(heads=2, dropout=0.0, **sizes), n_genes, regulons, log_mean, n_tfs=n_tfs).eval()
    for parameter in model.heads.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.shortcut.start_from(torch.randn(n_genes, model.config.width) / n_genes, torch.rand(n_genes, 2))
    return model, slots["tf"].tolist()


@pytest.fixture
def model(world):
    return regulonformer.load(world / "model")


@pytest.fixture
def expected(world):
    """What the rule makes of the cells, in the order of the joint matrices."""
    return ad.read_h5ad(world / "cells.h5ad")[[f"cell{number}" for number in range(N_CELLS)]].copy()


def same(cells, expected, atol=1e-6):
    np.testing.assert_allclose(cells.X, expected.X, atol=atol)
    np.testing.assert_allclose(cells.obsm["X_regulons"], expected.obsm["X_regulons"], atol=atol)


@pytest.mark.parametrize("stored", ["in memory", "on disk"])
def test_the_joint_matrices_embed_as_their_corpus_does(world, model, expected, stored):
    data = multiome() if stored == "in memory" else open_mudata(world / "multiome.h5mu")
    cells = model.embed(data)
    same(cells, expected)
    assert cells.X.dtype == np.float32 and cells.obs_names.tolist() == data.obs_names.tolist()
    assert cells.obs["state"].tolist() == ["a"] * N_CELLS
    assert list(cells.uns["regulons"]) == list(expected.uns["regulons"])
    np.testing.assert_array_equal(cells.uns["gene_vectors"], expected.uns["gene_vectors"])


def test_order_of_features_and_blocks_of_cells_change_nothing(model, expected, monkeypatch):
    monkeypatch.setattr(query, "BLOCK_CELLS", 7)
    data, rng = multiome(), np.random.default_rng(3)
    tables = {name: data[name][:, rng.permutation(N_GENES)].copy() for name in ("rna", "atac")}
    tables["atac"].X = tables["atac"].X.toarray().astype(float)
    shuffled = md.MuData(tables)[data.obs_names]
    same(model.embed(shuffled, batch_cells=3, progress=False), expected)


def test_genes_are_known_by_id_before_symbol(model, expected, caplog):
    caplog.set_level(logging.INFO)
    data = multiome()
    data["rna"].var["gene_id"] = [f"{name}.7" for name in IDS]  # with a version, as some files have it
    data["rna"].var_names = [f"name{number}" if number < 20 else GENES[number] for number in range(N_GENES)]
    data["rna"].var.loc[GENES[20:], "gene_id"] = ""
    data["rna"].var["gene_ids"] = data["rna"].var.pop("gene_id")
    same(model.embed(data), expected)
    assert "rna: 24 of the model's 24 genes found (20 by id, 4 by symbol)" in caplog.text


def test_peaks_of_other_data_count_for_the_genes_whose_elements_they_touch(model, expected):
    data = multiome()
    data["atac"].var_names = [f"chr1:{1000 * number + 300}-{1000 * number + 900}" for number in range(N_GENES)]
    same(model.embed(data), expected)
    data["atac"].var_names = [f"chr7:{1000 * number}-{1000 * number + 500}" for number in range(N_GENES)]
    with pytest.raises(InputError, match="0 of the 24 genes with elements have a peak.*assembly"):
        model.embed(data)


def test_a_modality_that_is_not_there_is_missing(model, expected):
    data = multiome()
    rna_alone = model.embed(data["rna"])
    # The last five cells have no ATAC in the corpus either.
    np.testing.assert_allclose(rna_alone.X[-5:], expected.X[-5:], atol=1e-6)
    assert np.abs(rna_alone.X[:-5] - expected.X[:-5]).max() > 1e-3
    atac_alone = model.embed(md.MuData({"atac": data["atac"]}))
    assert atac_alone.shape == (N_CELLS - 5, 16) and np.isfinite(atac_alone.X).all()
    zeros = data["atac"].copy()
    zeros.X = zeros.X * 0
    with md.set_options(pull_on_update=False):
        silent = model.embed(md.MuData({"rna": data["rna"], "atac": zeros}))
    assert np.abs(silent.X[:-5] - rna_alone.X[:-5]).max() > 1e-3, "missing is not the same as zero"


def test_accessibility_per_gene_is_taken_where_there_are_no_peaks(model, expected):
    data = multiome()
    with md.set_options(pull_on_update=False):
        given = md.MuData({"rna": data["rna"], "accessibility": per_gene(data, GENES)})
    same(model.embed(given[data.obs_names]), expected)


def test_counts_have_to_be_raw(model, expected):
    data = multiome()
    data["rna"].layers["counts"] = data["rna"].X.copy()
    data["rna"].X = np.log1p(data["rna"].X.astype(np.float32))
    same(model.embed(data), expected)
    del data["rna"].layers["counts"]
    with pytest.raises(InputError, match=r"rna\.X: the value 0\.69\d* is no count.*layer 'counts'"):
        model.embed(data)
    data["rna"].X = -multiome()["rna"].X
    with pytest.raises(InputError, match="the value -1 is no count"):
        model.embed(data)
    data["rna"].X = None
    with pytest.raises(InputError, match=r"rna\.X: there are no counts"):
        model.embed(data)


def test_cells_have_to_have_names_of_their_own(model):
    cells = multiome()["rna"]
    cells.obs_names = ["cell0", *cells.obs_names[:-1]]
    with pytest.raises(InputError, match="'cell0' is there twice"):
        model.embed(cells)


def test_data_that_the_model_does_not_know_are_refused(model):
    data = multiome()
    del data["rna"].var["gene_id"]
    data["rna"].var_names = [name.upper() for name in GENES]  # the other species
    with pytest.raises(InputError, match="0 of the model's 24 genes found.*species"):
        model.embed(data)
    with pytest.raises(InputError, match="no modality rna, atac or accessibility, but prot"):
        model.embed(md.MuData({"prot": data["rna"]}))
    model.elements = None
    with pytest.raises(InputError, match="saved without the elements"):
        model.embed(multiome())


def test_genes_that_the_data_lack_are_cut_and_not_read_as_silent(model, caplog):
    caplog.set_level(logging.INFO)
    data = multiome()
    fewer = data["rna"][:, 4:].copy()
    cells = model.embed(fewer)
    assert "4 names" not in caplog.text and "20 of 24 genes kept" in caplog.text
    assert sorted(cells.uns["genes"]) == sorted(GENES[4:])
    np.testing.assert_array_equal(cells.X, model.cut_panel(GENES[4:]).embed(data["rna"]).X)


def per_gene(data, genes):
    """Accessibility per gene of some genes; each has one peak, and Gene3 the linked one too."""
    table = data["atac"].copy()
    counts = table.X.toarray()
    counts[:, 3] += counts[:, 0]
    table.X = sp.csr_matrix(counts)
    table.var_names = GENES
    return table[:, genes].copy()


@pytest.mark.parametrize("lacking", ["accessibility", "rna", "both", "accessibility alone"])
def test_a_gene_that_either_modality_lacks_is_cut(model, lacking, caplog):
    caplog.set_level(logging.INFO)
    data, some = multiome(), GENES[8:]
    rna_genes = {"rna": GENES[6:], "both": GENES[4:]}.get(lacking, GENES)
    accessible = {"rna": GENES, "both": GENES[:-4]}.get(lacking, some)
    whole = {"rna": data["rna"], "accessibility": per_gene(data, GENES)}
    given = {"rna": data["rna"][:, rna_genes].copy(), "accessibility": per_gene(data, accessible)}
    if lacking == "accessibility alone":
        del whole["rna"], given["rna"]
    kept = [gene for gene in rna_genes if gene in accessible]
    with md.set_options(pull_on_update=False):
        cells, expected = model.embed(md.MuData(given)), model.cut_panel(kept).embed(md.MuData(whole))
    assert sorted(cells.uns["genes"]) == sorted(kept)
    np.testing.assert_array_equal(cells.X, expected.X)
    assert f"{len(kept)} of the model's 24 genes were measured in every modality" in caplog.text
    assert f"accessibility has {len(accessible)}" in caplog.text


def test_modalities_of_other_genes_are_refused(model):
    data = multiome()
    tables = {"rna": data["rna"][:, :14].copy(), "accessibility": per_gene(data, GENES[10:])}
    with (
        md.set_options(pull_on_update=False),
        pytest.raises(InputError, match="4 of the model's 24 genes were.*rna has"),
    ):
        model.embed(md.MuData(tables))


def test_a_gene_without_a_peak_is_closed_and_not_cut(model):
    data = multiome()
    fewer = {"rna": data["rna"], "atac": data["atac"][:, 1:].copy()}
    silent = data["atac"].copy()
    silent.X = silent.X @ sp.diags_array([0] + [1] * (N_GENES - 1), dtype=np.int32)
    with md.set_options(pull_on_update=False):
        cells, expected = (model.embed(md.MuData(tables)) for tables in (fewer, fewer | {"atac": silent}))
    assert len(cells.uns["genes"]) == N_GENES
    np.testing.assert_allclose(cells.X, expected.X, atol=1e-6)


# --- the panel cut


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


# --- the card


def card_of(folder, world, rows, **changes):
    """The card of a model with these curves."""
    regulonformer.load(world / "model").save(folder)
    run = {"n_parameters": 12345, "trained_on": ["s1", "s2"], "held_out": ["s3"], "n_train_cells": 1200}
    run |= {"n_validation_cells": 300, "steps_taken": 40, "wall_seconds": 90.0, "peak_memory_gb": 1.5}
    run |= {"cells_per_second": 80.0, "seed": 7}
    run["config"] = {"recipe": "regulon", "patience": 2, "batch_cells": 32, "model": {}}
    write_json(folder / "run.json", run | changes)
    columns = ["step", "split", "loss_rna", "floor_rna", "loss_atac", "floor_atac"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "metrics.tsv", sep="\t", index=False)
    write_card(folder)
    return (folder / "README.md").read_text()


def test_the_card_tells_what_the_folder_holds(world, tmp_path):
    rows = [
        (20, "train", 1.0, 1.1, 2.0, 2.1),
        (20, "validation", 1.2, 1.6, 2.2, 2.5),
        (40, "train", 0.8, 1.1, 1.8, 2.1),
    ]
    rows.append((40, "validation", 1.5, 1.6, 2.4, 2.5))
    card = card_of(tmp_path, world, rows)
    assert card.startswith("---\nlibrary_name: regulonformer\n")
    assert "| parameters | 12,345 |" in card and f"| genes | {N_GENES}, of which 3 transcription factors |" in card
    assert "Trained on 1,200 cells of the libraries s1, s2." in card and "Held out: 300 cells of s3." in card
    # With patience the best weights were kept, not the last.
    assert "| RNA | 1.2000 | 1.6000 | 25.00% |" in card and "| accessibility | 2.2000 | 2.5000 | 12.00% |" in card
    assert "- regulon layers have one slot per regulon" in card and "nats per hidden count" in card
    assert "| linear path from the input to the cell embedding | yes |" in card
    assert "cells x 16" in card and max(map(len, card.splitlines())) <= 120
    assert "1.5 GB\nof memory (80.0 cells/s)" in card
    assert read_tsv(tmp_path / "metrics.tsv").shape[0] == 4


def test_the_card_is_silent_about_what_was_not_measured(world, tmp_path):
    nan = np.nan
    rows = [(20, "validation", 1.2, 1.6, nan, nan), (40, "validation", 1.4, 1.6, nan, nan)]
    rows.append((60, "validation", nan, 1.6, nan, nan))  # diverged, which is not the best
    card = card_of(tmp_path, world, rows, cells_per_second=None)
    assert "| RNA | 1.2000 | 1.6000 | 25.00% |" in card
    assert "| accessibility |" not in card and "nan" not in card and "None" not in card and "cells/s" not in card
