"""Layouts and contents of matrices, alone and beside those of other libraries."""

import gzip

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from sound_inputs import (
    BARCODES,
    GENES,
    IDS,
    PEAKS,
    write_matrix,
    wrong,
)


def test_features_in_either_order_are_fine(inputs):
    write_matrix(inputs.matrix, order="peaks")
    assert wrong(inputs.found()) == []


def test_several_genomes_need_a_choice(inputs):
    write_matrix(inputs.matrix, genome=["GRCh38"] * 20 + ["mm10"] * 31)
    assert "GRCh38, mm10" in inputs.found()["matrix.several_genomes"]["message"]
    inputs.samples[0]["genome"] = "GRCh38"
    assert "matrix.several_genomes" not in inputs.found()


def write_v2(path):
    """A 10x h5 of the older version: one group per genome, genes only."""
    with h5py.File(path, "w") as file:
        group = file.create_group("GRCh38")
        group["barcodes"], group["genes"] = np.array(BARCODES, dtype="S"), np.array(IDS, dtype="S")
        group["gene_names"] = np.array(GENES, dtype="S")
        group["data"], group["indices"] = np.ones(40, np.int32), np.zeros(40, np.int64)
        group["indptr"], group["shape"] = np.arange(41), np.array([30, 40])


def write_mex(folder):
    """A MEX folder with genes."""
    folder.mkdir()
    entries = "".join(f"1 {i + 1} 2\n" for i in range(40))
    text = "%%MatrixMarket matrix coordinate integer general\n%\n30 40 40\n" + entries
    (folder / "matrix.mtx.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "barcodes.tsv.gz").write_bytes(gzip.compress("\n".join(BARCODES).encode()))
    rows = "".join(f"{i}\t{g}\tGene Expression\n" for i, g in zip(IDS, GENES, strict=True))
    (folder / "features.tsv.gz").write_bytes(gzip.compress(rows.encode()))


def write_anndata(path):
    """Genes as h5ad or h5mu: normalised values in X, counts in a layer."""
    import anndata
    import mudata
    from scipy import sparse

    counts = sparse.csr_matrix(np.ones((40, 30), np.float32))
    var = pd.DataFrame({"gene_ids": IDS}, index=GENES)
    data = anndata.AnnData(counts * 0.5, obs=pd.DataFrame(index=BARCODES), var=var, layers={"counts": counts})
    if path.suffix == ".h5ad":
        data.write_h5ad(path)
    else:
        mudata.MuData({"rna": data}).write_h5mu(path)


@pytest.mark.parametrize(
    ("name", "write", "layout"),
    [
        ("v2.h5", write_v2, "10x h5 v2"),
        ("mex", write_mex, "10x mtx"),
        ("x.h5ad", write_anndata, "h5ad"),
        ("x.h5mu", write_anndata, "h5mu"),
    ],
)
def test_every_layout_is_judged(inputs, name, write, layout):
    write(inputs.folder / name)
    inputs.samples = [inputs.sample("a", matrix=str(inputs.folder / name))]
    verdict = inputs.verdict()
    assert [finding for finding in verdict["findings"] if finding["level"] != "note"] == []
    assert verdict["samples"][0]["layout"] == layout and verdict["samples"][0]["counts"] > 0


def test_values_that_are_not_counts(inputs):
    for value in (0.5, -1.0):
        write_matrix(inputs.matrix, value=value)
        assert str(value) in inputs.found()["matrix.not_counts"]["message"]


def test_empty_libraries(inputs):
    write_matrix(inputs.matrix, barcodes=[])
    assert "matrix.empty" in inputs.found()
    write_matrix(inputs.matrix)
    with h5py.File(inputs.matrix, "a") as file:
        del file["matrix/data"], file["matrix/indices"]
        file["matrix/data"], file["matrix/indices"] = np.empty(0, int), np.empty(0, int)
    assert "matrix.no_counts" in inputs.found()


def test_a_library_of_one_modality_is_taken_and_pointed_out_unless_the_sheet_says_so(inputs):
    alone = {"peaks": None, "fragments": None, "barcode_metrics": None}
    write_matrix(inputs.matrix, peaks=[])
    inputs.samples = [inputs.sample("a", **alone)]
    assert wrong(inputs.found()) == ["matrix.no_atac", "peaks.none"]
    assert "rna into the column modality" in inputs.found()["matrix.no_atac"]["fix"]
    assert wrong(inputs.found(network=None, fasta=None)) == ["matrix.no_atac", "peaks.none"]
    assert wrong(inputs.found(fasta=None)) == ["matrix.no_atac"]  # regulons of a network need no peaks
    inputs.samples = [inputs.sample("a", modality="rna", **alone)]
    assert wrong(inputs.found()) == []
    write_matrix(inputs.matrix, genes=[], ids=[])
    inputs.samples = [inputs.sample("a", **alone), inputs.sample("b", modality="atac", **alone)]
    assert wrong(inputs.found()) == ["genes.none", "matrix.no_genes"]
    inputs.goal = "matrices"  # which nothing is missing for
    assert wrong(inputs.found()) == ["matrix.no_genes"]
    write_matrix(inputs.matrix, peaks=[])
    inputs.samples = [inputs.sample("a", **alone)]
    assert wrong(inputs.found()) == ["matrix.no_atac"]
    inputs.goal = "full"
    write_matrix(inputs.matrix, genes=[], ids=[])
    inputs.samples = [inputs.sample("a", modality="atac", **alone)]
    assert wrong(inputs.found()) == []
    inputs.samples = [inputs.sample("a", modality="rna", **alone)]
    assert "matrix.no_modality" in inputs.found()
    # Ingest takes the barcodes of an ATAC library from its peaks, and refuses genes in their place.
    write_matrix(inputs.matrix, peaks=[])
    inputs.samples = [inputs.sample("a", modality="atac")]
    assert "matrix.no_modality" in inputs.found()


def test_a_library_without_genes_and_peaks_is_refused(inputs):
    write_matrix(inputs.matrix, feature_type=["Antibody Capture"] * (len(GENES) + len(PEAKS)))
    inputs.samples = [inputs.sample("a", peaks=None, fragments=None)]
    found = inputs.found()["matrix.no_modality"]
    assert found["level"] == "error" and "neither genes nor peaks" in found["message"]


def test_genes_and_peaks_may_lie_in_two_files_of_the_same_cells(inputs):
    peaks = inputs.folder / "peaks.h5"
    write_matrix(inputs.matrix, peaks=[])
    write_matrix(peaks, genes=[], ids=[], peaks=[("1", *place) for _, *place in PEAKS[:20]])
    two = {"peak_matrix": str(peaks), "peaks": None, "fragments": None}
    inputs.samples = [inputs.sample("a", **two)]
    assert wrong(inputs.found()) == ["chromosomes.prefix"] and inputs.found()["chromosomes.prefix"]["file"] == str(
        peaks
    )
    inputs.ingest = {"chromosomes": "chr"}
    assert wrong(inputs.found()) == []
    assert inputs.verdict()["samples"][0] | {"genes": 30, "peaks": 20} == inputs.verdict()["samples"][0]
    write_matrix(peaks, genes=[], ids=[], barcodes=[name.replace("-1", "-2") for name in BARCODES])
    assert "matrix.no_shared_cells" in inputs.found()


def test_labels_of_a_matrix_are_known_before_compute_and_so_are_contradictions(inputs):
    obs = pd.DataFrame({"kind": ["a", "b"] * 20, "state": ["A", "B"] * 20}, index=BARCODES)
    anndata.AnnData(np.ones((40, 30)), obs, pd.DataFrame(index=GENES)).write_h5ad(inputs.folder / "m.h5ad")
    inputs.samples = [inputs.sample("a", matrix=str(inputs.folder / "m.h5ad"))]
    inputs.tasks = {"kind": {"column": "kind"}}
    assert wrong(inputs.found()) == []
    inputs.labels.write_text("barcode\tstate\n" + "".join(f"{b}\tA\n" for b in BARCODES))
    assert "labels.conflict" in wrong(inputs.found())


def test_a_second_matrix_may_have_other_values_in_columns_of_the_same_name(inputs):
    peaks, tables = [f"chr1:{start}-{end}" for _, start, end in PEAKS[:20]], {}
    for name, features, leiden in (("genes", GENES, ["0", "1"]), ("peaks", peaks, ["2", "3"])):
        obs = pd.DataFrame({"leiden": leiden * 20, "state": ["A", "B"] * 20, name: "x"}, index=BARCODES)
        tables[name] = inputs.folder / f"{name}.h5ad"
        anndata.AnnData(np.ones((40, len(features))), obs, pd.DataFrame(index=features)).write_h5ad(tables[name])
    inputs.samples = [inputs.sample("a", matrix=str(tables["genes"]), peak_matrix=str(tables["peaks"]), peaks=None)]
    assert wrong(inputs.found()) == []


def test_velocity_is_judged_by_its_layers_and_needs_no_peaks(inputs):
    counts, path = np.ones((40, 30)), inputs.folder / "m.h5ad"
    table = anndata.AnnData(counts * 0.5, pd.DataFrame(index=BARCODES), pd.DataFrame(index=GENES))
    table.layers["spliced"] = counts
    table.write_h5ad(path)
    inputs.samples = [inputs.sample("a", matrix=str(path), peaks=None, fragments=None, barcode_metrics=None)]
    inputs.ingest = {"second_modality": "unspliced"}
    assert "'unspliced'" in inputs.found()["matrix.no_layer"]["message"]
    table.layers["unspliced"] = counts
    table.write_h5ad(path)
    assert wrong(inputs.found()) == []
    table.layers["unspliced"] = counts * 0.5
    table.write_h5ad(path)
    assert wrong(inputs.found()) == ["matrix.not_counts"]
    inputs.samples[0]["matrix"] = str(inputs.matrix)
    assert wrong(inputs.found()) == ["matrix.no_layer"]


def test_repeated_barcodes_and_other_features(inputs):
    write_matrix(inputs.matrix, barcodes=[*BARCODES[:39], BARCODES[0]])
    assert "matrix.duplicated_barcodes" in inputs.found()
    kinds = ["Gene Expression"] * 30 + ["Peaks"] * 20 + ["Antibody Capture"]
    write_matrix(inputs.matrix, feature_type=kinds)
    assert "1 features" in inputs.found()["matrix.other_features"]["message"]


def test_a_matrix_that_is_none(inputs):
    inputs.matrix.write_text("nothing")
    assert wrong(inputs.found()) == ["matrix.unreadable"]


def second(inputs, **matrix):
    """A second library with a matrix of its own, without peaks file."""
    write_matrix(inputs.folder / "b.h5", **matrix)
    files = {"matrix": str(inputs.folder / "b.h5"), "peaks": None, "fragments": None}
    inputs.samples.append(inputs.sample("b", **files))


def test_libraries_with_other_peaks(inputs):
    second(inputs, peaks=PEAKS[5:])
    found = inputs.found()
    assert found["peaks.libraries_differ"]["level"] == "note" and wrong(found) == []
    assert "16 of 21" in found["peaks.libraries_differ"]["message"]


@pytest.mark.parametrize(("shared", "level"), [(29, "note"), (10, "warning"), (0, "error")])
def test_libraries_with_other_genes(inputs, shared, level):
    other = [f"ELSE{i}" for i in range(30 - shared)]
    second(inputs, genes=GENES[:shared] + other)
    levels = {code: finding["level"] for code, finding in inputs.found().items() if code.startswith("genes.libraries")}
    assert list(levels.values()) == [level]
