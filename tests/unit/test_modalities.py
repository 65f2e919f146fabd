"""Libraries of RNA alone, of ATAC alone and of both become one corpus, in which what was not measured is missing."""

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import build_corpus
import build_regulons
import call_consensus_peaks
import count_sample
import ingest_sample
import link_peaks
import merge_samples
import read_annotation
import resample_regulons
import score_regulons
from regulonformer.corpus.encoding import encode_cells
from regulonformer.corpus.shards import Corpus
from regulonformer.errors import InputError
from regulonformer.io.store import read_json, read_mudata, read_parquet, read_tsv
from regulonformer.model.batch import MISSING, OBSERVED
from regulonformer.validate.findings import Findings
from regulonformer.validate.libraries import read_library
from regulonformer.validate.matrix import judge_matrix

GENES = ["TF1", "A", "B", "C", "D"]
STARTS = np.arange(5000, 30_000, 5000)
PEAKS = [f"chr1-{start - 200}-{start + 300}" for start in STARTS] + ["chr1-90000-90500"]
N_CELLS = 60
INGEST = {"min_genes": 2, "min_peaks": 2, "min_umis": None, "n_mads": None, "doublets": False}
REGULONS = {"window_bp": 50_000, "distance_decay_bp": 5000, "null_peaks": 5, "seed": 0, "min_link_score": 0.1}
REGULONS |= {"min_score": 0.0, "min_targets": 2, "max_targets": 10, "max_regulons": 10, "activity_top_share": 0.5}
REGULONS |= {"network_confidence": ["A"], "keep_unmeasured_tfs": False}


def write_library(folder, name, features, seed=0, **layers):
    """An h5ad of counts, with labels in its table of cells."""
    rng = np.random.default_rng(seed)
    counts = sparse.csr_matrix(rng.poisson(3.0, (N_CELLS, len(features))).astype(np.float32))
    barcodes = [f"{name}{i}-1" for i in range(N_CELLS)]
    state = np.where(np.arange(N_CELLS) % 2, "x", "y")
    table = ad.AnnData(counts, pd.DataFrame({"state": state}, index=barcodes), pd.DataFrame(index=features))
    for layer, values in layers.items():
        table.layers[layer] = values
    table.write_h5ad(folder / f"{name}.h5ad")
    return table


def ingest(folder, libraries, *, settings=None):
    """Ingest libraries that lie in a folder: name -> columns of the sheet besides."""
    for name, sheet in libraries.items():
        ingest_sample.main(
            matrix=folder / f"{name}.h5ad",
            **{key: folder / file for key, file in sheet.items() if key != "modality"},
            sample={"sample": name, "modality": sheet.get("modality", "")},
            settings=INGEST | (settings or {}),
            output_mudata=folder / f"{name}.h5mu",
            output_cells=folder / f"{name}.cells.parquet",
            output_qc=folder / f"{name}.qc.json",
        )


def run_line(folder, libraries, *, settings=None):
    """All steps up to the corpus."""
    (folder / "genes.bed").write_text(
        "".join(f"chr1\t{start}\t{start + 900}\t{gene}\t+\n" for gene, start in zip(GENES, STARTS, strict=True))
    )
    (folder / "network.csv").write_text("source,target,weight\n" + "".join(f"TF1,{g},1\n" for g in GENES[1:]))
    tables = {name: folder / f"{name}.parquet" for name in ("genes", "tss")}
    read_annotation.main(annotation=folder / "genes.bed", **tables, summary=folder / "annotation.json")
    ingest(folder, libraries, settings=settings)
    features, counts = {"min_cells_gene": 1, "min_cells_peak": 1}, []
    call_consensus_peaks.main(
        ingested=[folder / f"{name}.h5mu" for name in libraries],
        settings=features,
        output_peaks=folder / "peaks.bed",
        output_summary=folder / "peaks.json",
    )
    (folder / "counts").mkdir()
    for name in libraries:
        counts.append(folder / f"counts/{name}.h5mu")
        count_sample.main(
            ingested=folder / f"{name}.h5mu",
            peaks=folder / "peaks.bed",
            settings=features,
            output=counts[-1],
            output_summary=folder / f"counts/{name}.json",
        )
    multiome = folder / "multiome.h5mu"
    merge_samples.main(counts=counts, **tables, settings=features, output=multiome, output_summary=folder / "m.json")
    links, table = folder / "links.parquet", folder / "regulons.parquet"
    link_peaks.main(multiome=multiome, settings=REGULONS, output=links, summary=folder / "links.json")
    build_regulons.main(
        multiome=multiome,
        links=links,
        network=folder / "network.csv",
        settings=REGULONS,
        regulons=table,
        gmt=folder / "regulons.gmt",
        summary=folder / "regulons.json",
        unmapped=folder / "lost.tsv",
    )
    corpus = {name: folder / f"corpus.{name}" for name in ("shards", "cells", "vocabulary", "genes", "elements")}
    build_corpus.main(
        multiome=multiome,
        links=links,
        regulons=table,
        settings={"accessibility": "linked", "min_link_score": 0.5},
        **corpus,
        unmapped=folder / "unmapped.tsv",
        summary=folder / "corpus.json",
    )
    return Corpus(corpus["shards"], corpus["cells"], corpus["vocabulary"])


def test_a_cohort_of_rna_alone_has_no_peaks_no_links_and_no_zeros(tmp_path):
    counts = write_library(tmp_path, "one", GENES)
    corpus = run_line(tmp_path, {"one": {}})
    assert corpus.cells["has_rna"].all() and not corpus.cells["has_atac"].any()
    verdict, peaks = read_json(tmp_path / "one.qc.json"), read_json(tmp_path / "peaks.json")
    assert verdict["lacks"] == ["atac"] and "min_peaks" not in str(verdict["thresholds"])
    assert any("no ATAC" in note for note in verdict["notes"])
    assert (peaks["method"], peaks["n_consensus"]) == ("none", 0)
    assert read_json(tmp_path / "counts/one.json")["counted_from"] == "no ATAC"
    assert read_json(tmp_path / "links.json")["reason"] == "no library has ATAC"
    assert read_parquet(tmp_path / "links.parquet").empty
    assert read_json(tmp_path / "m.json")["without"] == {"atac": ["one"]}
    assert read_json(tmp_path / "corpus.json")["cells_without_atac"] == N_CELLS
    # The network alone makes regulons, and the model sees MISSING where it would see 0.
    assert set(read_parquet(tmp_path / "regulons.parquet")["source"]) == {"TF1"}
    batch = encode_cells(corpus, np.arange(8))
    assert (batch.atac_state_BT == MISSING).all() and (batch.rna_state_BT == OBSERVED).all()
    place = counts.obs_names.get_indexer(corpus.cells["barcode"])
    rna = corpus.rows(np.arange(len(corpus)))[0].toarray()
    assert (rna == counts.X[place][:, counts.var_names.get_indexer(corpus.vocabulary["symbol"])].toarray()).all()


def test_a_cohort_of_atac_alone_takes_its_genes_from_the_annotation(tmp_path):
    counts = write_library(tmp_path, "one", PEAKS)
    corpus = run_line(tmp_path, {"one": {"modality": "atac"}})
    assert corpus.cells["has_atac"].all() and not corpus.cells["has_rna"].any()
    assert sorted(corpus.vocabulary["symbol"]) == sorted(GENES)
    accessibility = corpus.rows(np.arange(len(corpus)))[1].toarray()
    place = counts.obs_names.get_indexer(corpus.cells["barcode"])
    expected = counts.X[place][:, [GENES.index(gene) for gene in corpus.vocabulary["symbol"]]].toarray()
    assert (accessibility == expected).all()
    assert read_json(tmp_path / "one.qc.json")["lacks"] == ["rna"]


def test_libraries_of_all_kinds_share_a_corpus(tmp_path):
    write_library(tmp_path, "both", GENES + PEAKS, seed=1)
    table = ad.read_h5ad(tmp_path / "both.h5ad")
    table.var["feature_types"] = ["Gene Expression"] * len(GENES) + ["Peaks"] * len(PEAKS)
    table.write_h5ad(tmp_path / "both.h5ad")
    write_library(tmp_path, "open", PEAKS, seed=2)
    write_library(tmp_path, "read", GENES, seed=3)
    corpus = run_line(tmp_path, {"open": {}, "both": {}, "read": {}})
    has = corpus.cells.groupby("sample")[["has_rna", "has_atac"]].agg(["min", "max"]).astype(int)
    assert has.loc["both"].tolist() == [1, 1, 1, 1]
    assert has.loc["open"].tolist() == [0, 0, 1, 1] and has.loc["read"].tolist() == [1, 1, 0, 0]
    data = read_mudata(tmp_path / "multiome.h5mu")
    assert (data.n_obs, data["rna"].n_obs, data["atac"].n_obs) == (3 * N_CELLS, 2 * N_CELLS, 2 * N_CELLS)
    # Each cell has its own counts, whatever the order of libraries.
    for name, features, modality in (("open", PEAKS, "atac"), ("read", GENES, "rna")):
        own, cells = ad.read_h5ad(tmp_path / f"{name}.h5ad"), data.obs[data.obs["sample"] == name]
        found = data[modality][cells.index, features].X.toarray()
        assert (found == own[cells["barcode"].tolist()].X.toarray()).all()
    # Association rests on the paired cells alone.
    assert read_json(tmp_path / "links.json")["null"]["paired_cells"] == N_CELLS
    score_regulons.main(
        multiome=tmp_path / "multiome.h5mu",
        regulons=tmp_path / "regulons.parquet",
        settings=REGULONS,
        output=tmp_path / "activity.h5ad",
    )
    activity = ad.read_h5ad(tmp_path / "activity.h5ad")
    assert set(activity.obs["sample"]) == {"both", "read"} and np.isfinite(activity.layers["mean_z"]).all()
    resample_regulons.main(
        multiome=tmp_path / "multiome.h5mu",
        inputs=dict.fromkeys(("fasta", "tss", "motif_hits", "tfs", "aliases")) | {"network": tmp_path / "network.csv"},
        settings={"draws": 2, "seed": 0},
        prior=REGULONS,
        regulons=tmp_path / "regulons.parquet",
        output=tmp_path / "stability.tsv",
        output_folds=tmp_path / "folds.parquet",
    )
    assert len(read_tsv(tmp_path / "stability.tsv"))


def test_a_paired_library_may_take_part_with_one_modality(tmp_path):
    write_library(tmp_path, "one", GENES)
    write_library(tmp_path, "peaks", PEAKS, seed=4)
    peaks = ad.read_h5ad(tmp_path / "peaks.h5ad")
    peaks.obs_names = [name.replace("peaks", "one") for name in peaks.obs_names]
    peaks[5:].write_h5ad(tmp_path / "peaks.h5ad")
    ingest(tmp_path, {"one": {"peak_matrix": "peaks.h5ad"}})
    # Two files of one library: the cells that both have, each with its own counts.
    data = read_mudata(tmp_path / "one.h5mu")
    assert data["rna"].obs_names.equals(data["atac"].obs_names) and data.n_obs == N_CELLS - 5
    assert (data["atac"].X.toarray() == peaks[data.obs["barcode"].tolist()].X.toarray()).all()
    assert any("5 barcodes" in note for note in read_json(tmp_path / "one.qc.json")["notes"])
    ingest(tmp_path, {"one": {"peak_matrix": "peaks.h5ad", "modality": "atac"}})
    assert list(read_mudata(tmp_path / "one.h5mu").mod) == ["atac"]
    with pytest.raises(InputError, match="modality is atac, but the matrix has no peaks"):
        ingest(tmp_path, {"one": {"modality": "atac"}})


def test_an_h5mu_of_which_one_modality_counts_keeps_the_cells_that_lack_the_other(tmp_path):
    genes, peaks = write_library(tmp_path, "one", GENES), write_library(tmp_path, "one", PEAKS, seed=1)
    peaks.obs["state"] = "open " + peaks.obs["state"].astype(
        str
    )  # labels by one modality need not be those by the other
    path = tmp_path / "one.h5ad"  # the layout is told from what is in the file
    mudata.MuData({"rna": genes[: N_CELLS - 5].copy(), "atac": peaks[10:].copy()}).write_h5mu(path)
    expected = {"": N_CELLS - 15, "rna": N_CELLS - 5, "atac": N_CELLS - 10}
    for modality, n_cells in expected.items():
        sheet = {"sample": "one", "modality": modality, "matrix": str(path), "fragments": None}
        header, _ = judge_matrix(sheet, Findings())
        ingest(tmp_path, {"one": {"modality": modality}})
        data = read_mudata(tmp_path / "one.h5mu")
        assert sorted(header.barcodes) == sorted(data.obs["barcode"]) and len(header.barcodes) == n_cells
        for name, own in (("rna", genes), ("atac", peaks)):
            assert (name in data.mod) == (modality in ("", name))
            if name in data.mod:
                assert (data[name].X.toarray() == own[data.obs["barcode"].tolist()].X.toarray()).all()
        labels = (genes if modality == "rna" else peaks).obs["state"]
        assert data.obs["state"].tolist() == labels[data.obs["barcode"]].tolist(), "no cell is without its label"
        library = read_library(sheet | dict.fromkeys(("peaks", "labels", "barcode_metrics")), Findings())
        [(_, judged)] = library.own_labels
        assert judged.loc[data.obs["barcode"], "state"].tolist() == data.obs["state"].tolist()
        notes = " ".join(read_json(tmp_path / "one.qc.json")["notes"])
        assert ("15 barcodes that lack a modality" in notes) == (modality == "")
    run_line(tmp_path, {"one": {"modality": "rna"}})
    assert read_mudata(tmp_path / "counts/one.h5mu").n_obs == expected["rna"]


def test_labels_inside_the_matrix_are_labels_and_may_not_contradict_a_labels_file(tmp_path):
    own = write_library(tmp_path, "one", GENES).obs["state"]
    ingest(tmp_path, {"one": {}})
    cells = read_mudata(tmp_path / "one.h5mu").obs
    assert (cells["state"].astype(str) == own[cells["barcode"]].to_numpy()).all()
    labels = pd.DataFrame({"barcode": own.index, "state": own.to_numpy(), "kind": "k"})
    labels.loc[:9, "state"] = ""  # what the file leaves empty, the matrix fills
    labels.to_csv(tmp_path / "labels.tsv", sep="\t", index=False)
    ingest(tmp_path, {"one": {"labels": "labels.tsv"}})
    assert read_mudata(tmp_path / "one.h5mu").obs["state"].equals(cells["state"])
    labels.loc[13, "state"] = "z"
    labels.to_csv(tmp_path / "labels.tsv", sep="\t", index=False)
    with pytest.raises(InputError, match="obs\\['state'\\] of 1 cells.*'one13-1': 'x', there 'z'"):
        ingest(tmp_path, {"one": {"labels": "labels.tsv"}})


def test_numbers_are_compared_as_numbers_and_the_second_matrix_gives_only_what_the_first_lacks(tmp_path):
    for name, features, values in (("one", GENES, {"age": 61.0, "n": "1"}), ("peaks", PEAKS, {"n": "2", "more": "m"})):
        write_library(tmp_path, name, features)
        table = ad.read_h5ad(tmp_path / f"{name}.h5ad")
        table.obs_names = [f"one{i}-1" for i in range(N_CELLS)]
        table.obs = table.obs.assign(**values)
        table.write_h5ad(tmp_path / f"{name}.h5ad")
    labels = "barcode\tage\n" + "".join(f"one{i}-1\t61\n" for i in range(N_CELLS))
    (tmp_path / "labels.tsv").write_text(labels)
    ingest(tmp_path, {"one": {"peak_matrix": "peaks.h5ad", "labels": "labels.tsv"}})
    cells = read_mudata(tmp_path / "one.h5mu").obs
    assert (cells[["age", "n", "more"]].astype(str) == ["61", "1", "m"]).all(axis=None)
    notes = " ".join(read_json(tmp_path / "one.qc.json")["notes"])
    assert f"columns state, n of {tmp_path / 'peaks.h5ad'} are left out" in notes


def normalise(counts, totals=1e4):
    """log1p of counts scaled to a total per cell."""
    scaled = sparse.diags(totals / np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)) @ counts
    return sparse.csr_matrix(scaled.log1p().astype(np.float32))


def test_counts_come_back_from_log_normalised_values(tmp_path):
    counts = write_library(tmp_path, "one", GENES)
    # Sparse data have a gene with a count of 1 in nearly every cell; here the first one but for a single cell.
    counts.X = sparse.csr_matrix(np.hstack([np.ones((N_CELLS, 1)), counts.X.toarray()[:, 1:]]))
    counts.X[7] = sparse.csr_matrix([2, 2, 4, 6, 8])
    table = ad.AnnData(normalise(counts.X), counts.obs, counts.var)
    table.write_h5ad(tmp_path / "one.h5ad")
    with pytest.raises(InputError, match="ingest/counts: recover"):
        ingest(tmp_path, {"one": {}})
    peaks = normalise(write_library(tmp_path, "peaks", PEAKS).X)
    ad.AnnData(peaks, counts.obs, pd.DataFrame(index=PEAKS)).write_h5ad(tmp_path / "peaks.h5ad")
    ingest(tmp_path, {"one": {"peak_matrix": "peaks.h5ad"}}, settings={"counts": "recover"})
    data = read_mudata(tmp_path / "one.h5mu")
    own = counts.X.toarray()
    own[7] = [1, 1, 2, 3, 4]  # the smallest count of a cell is taken for 1
    assert (data["rna"].X.toarray() == own[counts.obs_names.get_indexer(data.obs["barcode"])]).all()
    assert set(np.unique(data["atac"].X.toarray())) == {0, 1}
    notes = " ".join(read_json(tmp_path / "one.qc.json")["notes"])
    assert "recovered from log1p of scaled counts" in notes and "1 where a value is above 0" in notes


@pytest.mark.parametrize("spoil", ["noise", "negative"])
def test_values_that_are_no_scaled_counts_are_refused(tmp_path, spoil):
    counts = write_library(tmp_path, "one", GENES)
    values = normalise(counts.X)
    noise = np.random.default_rng(0).uniform(0.5, 1.5, len(values.data))
    values.data = (values.data * noise if spoil == "noise" else values.data - 20).astype(np.float32)
    ad.AnnData(values, counts.obs, counts.var).write_h5ad(tmp_path / "one.h5ad")
    with pytest.raises(InputError, match={"noise": "% of the cells", "negative": "below zero"}[spoil]):
        ingest(tmp_path, {"one": {}}, settings={"counts": "recover"})


def test_unspliced_counts_take_the_place_of_accessibility(tmp_path):
    rng = np.random.default_rng(5)
    layers = {name: sparse.csr_matrix(rng.poisson(2.0, (N_CELLS, len(GENES)))) for name in ("spliced", "unspliced")}
    own = write_library(tmp_path, "one", GENES, **layers)
    corpus = run_line(tmp_path, {"one": {}}, settings={"second_modality": "unspliced"})
    place = own.obs_names.get_indexer(corpus.cells["barcode"])
    column = own.var_names.get_indexer(corpus.vocabulary["symbol"])
    spliced, unspliced = corpus.rows(np.arange(len(corpus)))
    assert (spliced.toarray() == layers["spliced"].toarray()[place][:, column]).all()
    assert (unspliced.toarray() == layers["unspliced"].toarray()[place][:, column]).all()
    assert corpus.cells[["has_rna", "has_atac"]].all(axis=None)
    assert read_json(tmp_path / "corpus.json")["second_modality"] == "unspliced"
    (tmp_path / "scaled").mkdir()
    counts = sparse.csr_matrix(np.hstack([np.ones((N_CELLS, 1)), layers["unspliced"].toarray()[:, 1:]]))
    scaled = layers | {"unspliced": normalise(counts)}
    write_library(tmp_path / "scaled", "one", GENES, **scaled)
    ingest(tmp_path / "scaled", {"one": {}}, settings={"second_modality": "unspliced", "counts": "recover"})
    notes = read_json(tmp_path / "scaled/one.qc.json")["notes"]
    assert any(note.startswith("unspliced: ") and "recovered" in note for note in notes)
    (tmp_path / "none").mkdir()
    write_library(tmp_path / "none", "one", GENES)
    with pytest.raises(InputError, match="has no layers\\['spliced'\\]"):
        ingest(tmp_path / "none", {"one": {}}, settings={"second_modality": "unspliced"})
