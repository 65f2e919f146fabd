"""Other data through a pretrained model: genes, peaks and modalities are matched, and what does not fit is said."""

import logging

import mudata as md
import numpy as np
import pytest
import scipy.sparse as sp
from mouse_cells import GENES, IDS, N_CELLS, N_GENES, multiome, same

from regulonformer import query
from regulonformer.errors import InputError
from regulonformer.io.store import open_mudata


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
