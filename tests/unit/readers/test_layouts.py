"""Count matrices of every layout: the same counts come back."""

import gzip
import time
import tracemalloc

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matrix_files import (
    BARCODES,
    COUNTS,
    FEATURES,
    GENES,
    PEAKS,
    WRITERS,
    make_anndata,
    write_h5ad,
    write_h5mu,
    write_mex,
    write_v2,
    write_v3,
)
from scipy import sparse

from regulonformer.errors import InputError
from regulonformer.io import mex
from regulonformer.io.matrix import read_counts, read_header

# AnnData, as the writers use it, warns of the repeated symbol that these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:Variable names are not unique")


def by_id(table, column=None):
    """Counts of one modality as a table that forgets the order of the features."""
    names = table.var[column].to_numpy() if column else table.var_names
    return pd.DataFrame(table.X.toarray(), table.obs_names, names).sort_index(axis=1)


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [3, 0, 4, 1, 2]])
def test_every_layout_holds_the_same_counts_in_any_feature_order(tmp_path, layout, order):
    names = ("rna", "atac") if order[0] == 0 else ("atac", "rna")
    arguments = FEATURES.iloc[order], COUNTS[:, order]
    path = WRITERS[layout](tmp_path, *arguments, *([BARCODES, names] if layout == "h5mu" else []))
    rna, atac, notes = read_counts(path)
    assert rna.X.dtype == atac.X.dtype == np.int32
    assert rna.X.format == atac.X.format == "csr"
    assert by_id(rna, "gene_id").to_numpy().tolist() == COUNTS[:, :3].tolist()
    assert by_id(atac).to_numpy().tolist() == COUNTS[:, 3:].tolist()
    assert rna.obs_names.tolist() == atac.obs_names.tolist() == BARCODES
    assert sorted(rna.var["gene_id"]) == FEATURES["id"][:3].tolist()
    assert sorted(rna.var_names) == ["GeneA", "GeneB", "GeneB-1"]
    assert atac.var.loc["chr2-5-50"].tolist() == ["chr2", 5, 50]
    assert notes == ([] if layout == "h5mu" else ["1 repeated gene symbols were made unique with a suffix"])


@pytest.mark.parametrize("layout", WRITERS)
def test_headers_hold_names_only(tmp_path, layout):
    protein = pd.DataFrame({"id": ["CD3"], "name": ["CD3"], "type": ["Antibody Capture"], "genome": [""]})
    arguments = pd.concat([FEATURES, protein], ignore_index=True), np.c_[COUNTS, [7, 8, 9]]
    path = WRITERS[layout](tmp_path, *arguments, *([BARCODES, ("rna", "atac", "prot")] if layout == "h5mu" else []))
    header = read_header(path)
    assert header.layout == layout
    assert header.barcodes == BARCODES
    assert header.gene_ids == FEATURES["id"][:3].tolist()
    assert header.symbols[:2] == ["GeneA", "GeneB"]
    assert header.peaks == ["chr1:100-200", "chr2:5-50"]
    assert header.genomes == (() if layout == "10x mtx" else ("GRCh38",))
    assert header.other == {"Antibody Capture": 1}
    library = read_counts(path)
    assert "1 features of type 'Antibody Capture' were left out" in library.notes
    assert library.rna.n_vars == 3


def test_a_header_needs_no_counts(tmp_path):
    for name in ("data", "indices", "indptr"):
        with h5py.File(write_v3(tmp_path / "m.h5"), "a") as file:
            del file["matrix"][name]
        assert read_header(tmp_path / "m.h5").barcodes == BARCODES
    (write_mex(tmp_path / "m") / "matrix.mtx.gz").write_bytes(b"")
    assert read_header(tmp_path / "m").barcodes == BARCODES
    with h5py.File(write_h5ad(tmp_path / "m.h5ad"), "a") as file:
        del file["X"]
    assert read_header(tmp_path / "m.h5ad").barcodes == BARCODES
    with pytest.raises(InputError, match="neither X nor layers"):
        read_counts(tmp_path / "m.h5ad")


def test_v2_has_genes_only(tmp_path):
    header = read_header(write_v2(tmp_path / "m.h5"))
    assert (header.layout, header.genomes, header.peaks) == ("10x h5 v2", ("GRCh38",), [])
    assert header.gene_ids == FEATURES["id"][:3].tolist()
    library = read_counts(tmp_path / "m.h5")
    assert library.atac is None
    assert library.rna.X.toarray().tolist() == COUNTS[:, :3].tolist()


def test_mex_may_be_old_have_other_line_ends_or_a_prefix(tmp_path):
    old = write_mex(tmp_path / "old", FEATURES[:3], COUNTS[:, :3], packed=False)
    for path in (old, old / "matrix.mtx"):
        assert read_header(path).layout == "10x mtx"
        assert read_counts(path).rna.X.toarray().tolist() == COUNTS[:, :3].tolist()
    for file in old.iterdir():
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_counts(old).rna.obs_names.tolist() == BARCODES
    assert read_counts(old).rna.X.toarray().tolist() == COUNTS[:, :3].tolist()
    new = write_mex(tmp_path / "new")
    for file in list(new.iterdir()):
        file.rename(new / f"GSM1_{file.name}")
    assert read_counts(new / "GSM1_matrix.mtx.gz").atac.X.toarray().tolist() == COUNTS[:, 3:].tolist()


def test_gene_intervals_become_places(tmp_path):
    interval = ["chr1:10-90", "", "chr3:1-5", "chr1:100-200", "chr2:5-50"]
    place = FEATURES.assign(chrom=["chr1", "", "chr3", "chr1", "chr2"], start=["10", "", "1", "100", "5"])
    place = place.assign(end=["90", "", "5", "200", "50"])
    expected = [["chr1", 10, 90], ["", 0, 0], ["chr3", 1, 5]]
    for path in (
        write_v3(tmp_path / "m.h5", FEATURES.assign(interval=interval)),
        write_mex(tmp_path / "m", place),
        write_h5ad(tmp_path / "m.h5ad", FEATURES.assign(interval=interval)),
    ):
        assert read_counts(path).rna.var[["chrom", "start", "end"]].to_numpy().tolist() == expected


BARNYARD = FEATURES.assign(
    genome=["GRCh38", "mm10", "mm10", "GRCh38", "mm10"],
    id=["GRCh38_E1", "mm10_E1", "mm10_E2", "GRCh38_chr1:100-200", "mm10_chr2:5-50"],
    name=["GRCh38_A", "mm10___A", "mm10___B", "GRCh38_chr1:100-200", "mm10_chr2:5-50"],
)


@pytest.mark.parametrize("layout", ["10x h5 v3", "h5ad"])
def test_one_genome_is_chosen_of_several(tmp_path, layout):
    path = WRITERS[layout](tmp_path, BARNYARD, COUNTS)
    assert read_header(path).genomes == ("GRCh38", "mm10")
    header = read_header(path, "mm10")
    assert (header.symbols, header.gene_ids) == (["A", "B"], ["E1", "E2"])
    assert (header.peaks, header.genomes) == (["chr2:5-50"], ("GRCh38", "mm10"))
    assert read_header(path, "hg38") == read_header(path)
    library = read_counts(path, genome="mm10")
    assert library.rna.var["gene_id"].to_dict() == {"A": "E1", "B": "E2"}
    assert library.rna.X.toarray().tolist() == COUNTS[:, 1:3].tolist()
    assert library.atac.var_names.tolist() == ["chr2-5-50"]
    assert library.notes == ["2 features of other genomes than mm10 were left out"]
    with pytest.raises(InputError, match=r"several genomes \(GRCh38, mm10\), of which none is 'hg38'"):
        read_counts(path, genome="hg38")
    with pytest.raises(InputError, match="Write one of GRCh38, mm10"):
        read_counts(path)


def test_one_group_is_chosen_of_a_v2_file(tmp_path):
    groups = {"GRCh38": (FEATURES[:1], COUNTS[:2, :1]), "mm10": (BARNYARD[1:3], COUNTS[:, 1:3])}
    path = write_v2(tmp_path / "m.h5", groups)
    assert read_header(path).genomes == ("GRCh38", "mm10")
    library = read_counts(path, genome="mm10")
    assert library.rna.var_names.tolist() == ["A", "B"]
    assert library.rna.X.toarray().tolist() == COUNTS[:, 1:3].tolist()
    assert read_counts(path, genome="GRCh38").rna.X.toarray().tolist() == [[1], [0], [0]]
    with pytest.raises(InputError, match="several genomes"):
        read_counts(path, genome="")


def test_h5mu_without_feature_types_goes_by_name_and_keeps_shared_cells(tmp_path):
    path = write_h5mu(tmp_path / "m.h5mu", typed=False)
    assert read_counts(path).atac.X.toarray().tolist() == COUNTS[:, 3:].tolist()
    rna = make_anndata(FEATURES[:2], COUNTS[:, :2])
    atac = make_anndata(FEATURES[3:], COUNTS[[1, 0], 3:], ["CCC-1", "AAA-1"])
    with mudata.set_options(pull_on_update=False):
        mudata.MuData({"rna": rna, "atac": atac}).write_h5mu(path)
    library = read_counts(path)
    cells = [BARCODES.index(name) for name in library.rna.obs_names]
    assert sorted(cells) == [0, 1]
    assert library.rna.X.toarray().tolist() == COUNTS[cells, :2].tolist()
    assert library.atac.X.toarray().tolist() == COUNTS[cells, 3:].tolist()
    assert library.notes == ["1 barcodes that lack a modality were left out"]


def test_h5ad_of_other_tools(tmp_path):
    data = make_anndata(FEATURES[:3], COUNTS[:, :3])
    data.var = pd.DataFrame({"feature_name": ["A", "B", ""]}, index=FEATURES["id"][:3].tolist())
    data.var["feature_name"] = data.var["feature_name"].astype("category")
    data.X = sparse.csc_matrix(data.X).astype(np.float32)
    data.write_h5ad(tmp_path / "cellxgene.h5ad")
    var = read_counts(tmp_path / "cellxgene.h5ad").rna.var
    assert var["gene_id"].to_dict() == {"A": "ENSG00000000001", "B": "ENSG00000000002", "ENSG00000000003": var.index[2]}
    bare = anndata.AnnData(COUNTS[:, :2].astype(float), pd.DataFrame(index=BARCODES), pd.DataFrame(index=["A", "B"]))
    bare.write_h5ad(tmp_path / "bare.h5ad")
    assert read_header(tmp_path / "bare.h5ad").gene_ids == ["", ""]
    library = read_counts(tmp_path / "bare.h5ad")
    assert library.rna.var["gene_id"].tolist() == ["A", "B"]
    assert library.rna.X.toarray().tolist() == COUNTS[:, :2].tolist()
    short = FEATURES.assign(type=["GEX"] * 3 + ["ATAC"] * 2)
    assert read_counts(write_h5ad(tmp_path / "short.h5ad", short)).atac.n_vars == 2
    peaks = make_anndata(FEATURES[3:], COUNTS[:, 3:])
    del peaks.var["feature_types"]
    peaks.write_h5ad(tmp_path / "peaks.h5ad")
    assert read_header(tmp_path / "peaks.h5ad").peaks == ["chr1:100-200", "chr2:5-50"]


def test_layers_counts_go_before_x(tmp_path):
    path = write_h5ad(tmp_path / "m.h5ad", layer="counts")
    assert read_counts(path).rna.X.toarray().tolist() == COUNTS[:, :3].tolist()
    with h5py.File(path, "a") as file:
        del file["layers/counts"]
    with pytest.raises(InputError, match=r"m.h5ad: holds 0.693\d+, which is not a count \(\d of 5 values\)\. Give raw"):
        read_counts(path)


@st.composite
def libraries(draw):
    """Any small library: genes and peaks in any order, barcodes and symbols as users name them."""
    n_genes, n_peaks, n_barcodes = draw(st.integers(1, 6)), draw(st.integers(0, 5)), draw(st.integers(1, 5))
    text = st.text("ABCabc019.-_()'\"é", min_size=1, max_size=8)
    symbols = draw(st.lists(text, min_size=n_genes, max_size=n_genes, unique=True))
    barcodes = draw(st.lists(text, min_size=n_barcodes, max_size=n_barcodes, unique=True))
    peaks = [f"chr{i}:{i}-{i + 5}" for i in range(n_peaks)]
    features = pd.DataFrame(
        {
            "id": [*(f"ENSG{i:011d}" for i in range(n_genes)), *peaks],
            "name": [*symbols, *peaks],
            "type": [GENES] * n_genes + [PEAKS] * n_peaks,
        }
    )
    order = draw(st.permutations(range(n_genes + n_peaks)))
    numbers = st.sampled_from([0, 0, 0, 1, 2, 70_000, 2**31 - 1])
    size = n_barcodes * len(features)
    counts = np.array(draw(st.lists(numbers, min_size=size, max_size=size)), np.int64).reshape(n_barcodes, -1)
    return features.iloc[order].reset_index(drop=True), counts, barcodes


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(library=libraries())
def test_any_library_comes_back_from_every_layout(tmp_path_factory, library):
    features, counts, barcodes = library
    text = features.assign(**{name: [value.encode() for value in features[name]] for name in ("id", "name")})
    folder = tmp_path_factory.mktemp("any")
    for path in (
        write_v3(folder / "m.h5", text, counts, [name.encode() for name in barcodes]),
        write_mex(folder / "m", features, counts, barcodes),
        write_h5ad(folder / "m.h5ad", features, counts, barcodes),
    ):
        rna, atac, _ = read_counts(path)
        is_gene = (features["type"] == GENES).to_numpy()
        assert rna.obs_names.tolist() == barcodes
        assert rna.var_names.tolist() == features.loc[is_gene, "name"].tolist()
        assert rna.X.toarray().tolist() == counts[:, is_gene].tolist()
        assert (atac is None) == is_gene.all()
        if atac is not None:
            assert atac.X.toarray().tolist() == counts[:, ~is_gene].tolist()
        header = read_header(path)
        assert (header.barcodes, header.symbols) == (barcodes, rna.var_names.tolist())


def test_mtx_is_read_in_the_memory_of_its_counts(tmp_path):
    n_genes, n_cells, per_cell = 5_000, 1_000, 600
    features = pd.DataFrame({"id": [f"E{i}" for i in range(n_genes)], "name": [f"G{i}" for i in range(n_genes)]})
    folder = write_mex(tmp_path / "m", features, np.zeros((n_cells, n_genes)), [f"B{i}" for i in range(n_cells)])
    gene, cell = np.tile(np.arange(per_cell) * 8 + 1, n_cells), np.repeat(np.arange(n_cells) + 1, per_cell)
    with gzip.open(folder / "matrix.mtx.gz", "wt", compresslevel=1) as file:
        file.write(f"%%MatrixMarket matrix coordinate integer general\n{n_genes} {n_cells} {len(gene)}\n")
        pd.DataFrame({"g": gene, "c": cell, "n": 1}).to_csv(file, sep=" ", header=False, index=False)
    names = mex.read_mex_names(folder / "matrix.mtx.gz")
    tracemalloc.start()
    counts = mex.read_mex_counts(folder / "matrix.mtx.gz", names)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counts.nnz == len(gene)
    # Twelve bytes per entry of row, column and count, and the block of text at hand.
    assert peak < 12 * len(gene) + 100 * mex.BLOCK


@pytest.mark.real_data
def test_real_matrices(real_data):
    mop = read_counts(real_data / "multiome/mop_snareseq/09A/outs/filtered_feature_bc_matrix.h5")
    assert (mop.rna.shape, mop.atac.shape) == ((813, 1677), (813, 25734))
    k562 = read_counts(real_data / "multiome/k562_chr22p/outs/filtered_feature_bc_matrix.h5")
    assert k562.rna.shape == (500, 62757)
    assert k562.atac is None
    path = real_data / "multiome/pbmc_40cells/outs/filtered_feature_bc_matrix.h5"
    start = time.process_time()
    header = read_header(path)
    assert time.process_time() - start < 1
    assert (len(header.symbols), len(header.peaks), header.genomes) == (36601, 108377, ("GRCh38",))
    zheng = read_counts(real_data / "matrices/pbmc_facs_zheng/train.h5ad")
    assert zheng.rna.shape == (3774, 16791)
    assert zheng.rna.var["gene_id"].str.startswith("ENSG").all()
    with pytest.raises(InputError, match="which is not a count"):
        read_counts(real_data / "matrices/perturb_norman/devel.h5ad")
    with pytest.raises(InputError, match="ingest/counts: recover"):
        read_counts(real_data / "matrices/a549_dex/atac.h5ad")
