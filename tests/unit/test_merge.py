"""Libraries streamed into one file against the same done in memory, and the standard views against their tools."""

import anndata
import muon
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

from regulonformer.errors import InputError
from regulonformer.io import rows as rows_module
from regulonformer.io.multiome import add_elements, make_mudata, write_in_blocks
from regulonformer.io.rows import read_rows, row_blocks
from regulonformer.io.store import open_mudata, read_mudata, write_mudata
from regulonformer.matrices import views
from regulonformer.matrices.merge import Joined
from regulonformer.matrices.views import atac_views, fit_sample, rna_views, umap


def table(matrix, names, prefix="", **var):
    matrix = sparse.csr_matrix(np.asarray(matrix, np.int32))
    obs = pd.DataFrame(index=[f"{prefix}{names[0]}{i}" for i in range(matrix.shape[0])])
    return anndata.AnnData(matrix, obs=obs, var=pd.DataFrame(var, index=names))


def stacked(joined):
    return sparse.vstack(list(joined.blocks())).toarray()


def test_libraries_with_different_genes_are_joined_with_zeros():
    first = table([[1, 2]], ["b", "a"], gene_id=["1", "2"])
    second = table([[3, 4]], ["c", "b"], gene_id=["3", "1"])
    joined = Joined([first, second], "rna", None)
    assert joined.var.index.tolist() == ["b", "a", "c"]
    assert stacked(joined).tolist() == [[1, 2, 0], [4, 0, 3]]
    assert joined.var["gene_id"].tolist() == ["1", "2", "3"]
    found = {"features": 3, "not_in_all_libraries": 2, "renamed": 0, "differing_ids": 0}
    assert joined.counts == found | {"removed_in_few_cells": 0, "kept": 3}
    filtered = Joined([first, second], "rna", 2)
    assert (filtered.var.index.tolist(), filtered.counts["removed_in_few_cells"]) == (["b"], 2)
    assert stacked(filtered).tolist() == [[1], [4]]
    with pytest.raises(InputError, match="no feature is seen in 3 cells"):
        Joined([first, second], "rna", 3)


def test_a_gene_is_its_id_whatever_symbol_and_version_a_library_gives():
    """One gene was renamed between annotations; two that share a symbol come in another order."""
    first = table([[1, 2, 4]], ["OLD", "X", "X-1"], gene_id=["ENSG00000000001.3", "E2", "E3"])
    second = table([[8, 16, 32]], ["X", "X-1", "NEW"], gene_id=["E3", "E2", "ENSG00000000001.4"])
    joined = Joined([first, second], "rna", None)
    assert joined.var.index.tolist() == ["OLD", "X", "X-1"]
    assert joined.var["gene_id"].tolist() == ["ENSG00000000001.3", "E2", "E3"]
    assert stacked(joined).tolist() == [[1, 2, 4], [32, 16, 8]]
    assert joined.counts["not_in_all_libraries"] == 0
    assert (joined.counts["renamed"], joined.counts["differing_ids"]) == (3, 0)
    filtered = Joined([first, table([[8, 0, 0]], ["X", "X-1", "NEW"], gene_id=second.var["gene_id"])], "rna", 2)
    assert (filtered.var.index.tolist(), stacked(filtered).tolist()) == (["X-1"], [[4], [8]])


def test_genes_of_one_symbol_and_two_ids_stay_apart():
    first = table([[1, 2]], ["X", "Y"], gene_id=["E1", "E2"])
    second = table([[4, 8]], ["X", "Y"], gene_id=["E3", "E2"])
    third = table([[16, 32]], ["Y", "X"], gene_id=["Y", "X"])  # no ids: the symbol is all there is
    joined = Joined([first, second, third], "rna", None)
    assert joined.var.index.tolist() == ["X", "Y", "X-1"]
    assert joined.var["gene_id"].tolist() == ["E1", "E2", "E3"]
    assert stacked(joined).tolist() == [[1, 2, 0], [0, 8, 4], [32, 16, 0]]
    assert (joined.counts["differing_ids"], joined.counts["renamed"]) == (1, 0)


def test_a_library_without_ids_joins_by_symbol_and_learns_the_id():
    bare, with_ids = table([[1, 2]], ["A", "B"]), table([[4, 8]], ["B", "A"], gene_id=["E2", "E1"])
    renamed = table([[16, 32]], ["A2", "B"], gene_id=["E1", "E9"])
    joined = Joined([bare, with_ids, renamed], "rna", None)
    assert joined.var.index.tolist() == ["A", "B", "B-1"]
    assert stacked(joined).tolist() == [[1, 2, 0], [8, 4, 0], [16, 0, 32]]


def test_no_two_genes_of_a_library_fall_into_one_column():
    """An id finds the column that a symbol would take as well; and one id comes in two versions."""
    first = table([[1]], ["X"], gene_id=["E1"])
    second = table([[2, 4]], ["X", "Y"], gene_id=["X", "E1"])
    assert stacked(Joined([first, second], "rna", None)).tolist() == [[1, 0], [4, 2]]
    ids = ["ENSG00000000001.3", "ENSG00000000001.4"]
    twice = [table([[1, 2]], ["V", "V-1"], gene_id=ids), table([[4, 8]], ["V", "V-1"], gene_id=ids)]
    assert stacked(Joined(twice, "rna", None)).tolist() == [[1, 2], [4, 8]]


@pytest.fixture
def libraries(tmp_path):
    """Three libraries on disk that share some genes, in other orders."""
    rng, tables = np.random.default_rng(0), []
    for name, genes in (("one", range(30)), ("two", range(40, 10, -1)), ("three", range(5, 60, 2))):
        names = [f"g{gene}" for gene in genes]
        rna = table(rng.poisson(0.3, (70, len(names))), names, prefix=name, gene_id=[f"E{gene}" for gene in names])
        write_mudata(make_mudata({"rna": rna}, rna.obs.assign(sample=name)), tmp_path / f"{name}.h5mu")
        tables.append(rna)
    return tmp_path, tables


@pytest.mark.parametrize("min_cells", [None, 25])
def test_streaming_equals_concatenation_in_memory(libraries, min_cells, monkeypatch):
    folder, tables = libraries
    monkeypatch.setattr(rows_module.row_blocks, "__defaults__", (32,))
    backed = [open_mudata(folder / f"{name}.h5mu")["rna"] for name in ("one", "two", "three")]
    joined = Joined(backed, "rna", min_cells)
    whole = anndata.concat(tables, join="outer", fill_value=0)
    whole = whole[:, np.asarray((whole.X > 0).sum(axis=0)).ravel() >= (min_cells or 0)]
    assert set(joined.var.index) == set(whole.var_names) and len(whole.var_names) > 10
    assert joined.obs_names.tolist() == whole.obs_names.tolist()

    tables = {"rna": anndata.AnnData(obs=whole.obs[[]].copy(), var=joined.var)}
    for name in ("merged.h5mu", "again.h5mu"):
        write_in_blocks(folder / name, whole.obs, tables, ({"rna": block} for block in joined.blocks()))
        add_elements(folder / name, "rna", obsm={"X_pca": np.ones((210, 2), np.float32)})
    for read in (read_mudata, muon.read_h5mu):
        merged = read(folder / "merged.h5mu")["rna"]
        assert merged.X.has_sorted_indices and merged.X.dtype == np.int32
        np.testing.assert_array_equal(merged[:, whole.var_names].X.toarray(), whole.X.toarray())
        assert merged.obsm["X_pca"].shape == (210, 2) and merged.var["gene_id"].str.startswith("E").all()
    assert (folder / "merged.h5mu").read_bytes() == (folder / "again.h5mu").read_bytes()


def test_rows_on_disk_are_rows_in_memory(libraries):
    folder, tables = libraries
    backed, matrix = open_mudata(folder / "two.h5mu")["rna"].X, tables[1].X.toarray()
    wanted = np.array([69, 3, -1, 4, 5, 3, 0, -1])
    np.testing.assert_array_equal(read_rows(backed, wanted).toarray(), np.where(wanted[:, None] < 0, 0, matrix[wanted]))
    assert read_rows(backed, np.array([-1])).nnz == 0 and read_rows(backed, np.array([], int)).shape == (0, 30)
    blocks = list(row_blocks(backed, 32))
    assert [block.shape[0] for block in blocks] == [32, 32, 6]
    np.testing.assert_array_equal(sparse.vstack(blocks).toarray(), matrix)


@pytest.mark.parametrize(("n_cells", "n_features"), [(1, 4), (3, 2), (12, 3), (40, 60)])
def test_views_of_small_data(n_cells, n_features):
    counts = np.random.default_rng(0).poisson(1.0, (n_cells, n_features))
    counts[0] = 0  # an empty cell
    matrix = sparse.csr_matrix(counts)
    _, maps = rna_views(matrix, seed=1, n_top_genes=20)
    for view in (maps, atac_views(matrix, seed=1)):
        assert [len(values) for values in view.values()] == [n_cells] * 2
        assert view["X_umap"].shape == (n_cells, 2)
        assert all(np.isfinite(values).all() for values in view.values())
    np.testing.assert_array_equal(matrix.toarray(), counts)
    np.testing.assert_array_equal(rna_views(matrix, seed=1, n_top_genes=20)[1]["X_umap"], maps["X_umap"])


@pytest.fixture
def three_types():
    """600 cells of three types over 200 features."""
    rng = np.random.default_rng(0)
    kind = np.arange(600) % 3
    rate = np.where(np.arange(200)[None] % 3 == kind[:, None], 1.5, 0.3)
    return sparse.csr_matrix(rng.poisson(rate).astype(np.int32)), kind


def test_views_of_all_cells_are_those_of_scanpy_and_muon(three_types):
    counts, _ = three_types
    work = anndata.AnnData(counts.astype(np.float32))
    sc.pp.normalize_total(work, target_sum=1e4)
    sc.pp.log1p(work)
    sc.pp.highly_variable_genes(work, n_top_genes=50)
    sc.pp.pca(work, n_comps=10, svd_solver="arpack", random_state=0)
    chosen, maps = rna_views(counts, seed=0, n_top_genes=50, n_components=10)
    np.testing.assert_array_equal(chosen, work.var["highly_variable"])
    np.testing.assert_allclose(np.abs(maps["X_pca"]), np.abs(work.obsm["X_pca"]), atol=1e-3)
    weights = muon.atac.pp.tfidf(anndata.AnnData(counts.astype(np.float32)), inplace=False, scale_factor=1e4)
    idf = views.inverse_document_frequency(counts.astype(np.float32))
    np.testing.assert_allclose(views.tf_idf(counts, idf).toarray(), weights.toarray(), rtol=1e-5)


def test_views_fitted_on_some_cells_hold_for_the_others(three_types):
    counts, kind = three_types
    fitted = fit_sample(600, 300, 0)
    assert len(fitted) == 300
    _, maps = rna_views(counts, seed=0, n_components=5, fit_cells=300)
    for view in (maps, atac_views(counts, seed=0, n_components=5, fit_cells=300)):
        for values in view.values():
            centres = np.stack([values[fitted][kind[fitted] == k].mean(axis=0) for k in range(3)])
            nearest = np.linalg.norm(values[:, None] - centres[None], axis=2).argmin(axis=1)
            assert (nearest == kind).mean() > 0.9
    alone = rna_views(counts[fitted], seed=0, n_components=5)[1]
    np.testing.assert_allclose(maps["X_pca"][fitted], alone["X_pca"], atol=1e-3)
    np.testing.assert_array_equal(umap(maps["X_pca"], 0, 300)[fitted], umap(maps["X_pca"][fitted], 0))
