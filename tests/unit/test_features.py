"""Counts, consensus peaks, gene accessibility and the merged matrices."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from regulonformer.errors import InputError
from regulonformer.features import (
    carry_counts,
)
from regulonformer.io.fragments import write_fragments
from regulonformer.io.multiome import make_mudata
from regulonformer.io.peaks import as_ranges, peak_names, read_bed
from regulonformer.io.store import read_json, read_mudata, write_mudata
from regulonformer.peaks.consensus import (
    clip_to_chromosomes,
    consensus_peaks,
    is_disjoint,
    remove_blacklisted,
    same_peaks,
)
from regulonformer.peaks.macs import find_macs3


def bed(*rows):
    return pd.DataFrame(rows, columns=["chrom", "start", "end"])


def test_carried_counts_go_to_every_overlapped_consensus_peak():
    own = bed(("chr1", 0, 100), ("chr1", 200, 300), ("chr2", 0, 50))
    consensus = bed(("chr1", 50, 90), ("chr1", 95, 250), ("chr3", 0, 50))
    carried, lost = carry_counts(sparse.csr_matrix([[1, 2, 4], [0, 1, 0]]), own, consensus)
    assert carried.toarray().tolist() == [[1, 3, 0], [0, 1, 0]]
    # The first peak reaches two consensus peaks, the third none.
    assert lost == {"peaks_lost": 1, "counts_lost": 4, "counts_repeated": 1}


def test_consensus_is_disjoint_of_one_width_and_prefers_the_best():
    first = bed(("chr1", 1000, 1100), ("chr1", 5000, 5100), ("chr1", 10, 40)).assign(score=[1, 9, 2])
    second = bed(("chr1", 1200, 1300), ("chr2", 5000, 5100)).assign(score=[50, 40])
    result, dropped = consensus_peaks({"one": first, "two": second}, width=501)
    # Centre 1050 of the first library ranks lower in its library than 1250 does in the second.
    assert result[["chrom", "start", "end"]].to_numpy().tolist() == [
        ["chr1", 1000, 1501],
        ["chr1", 4800, 5301],
        ["chr2", 4800, 5301],
    ]
    assert dropped == {
        "before": 5,
        "off_chromosome": 1,
        "blacklisted": 0,
        "in_too_few_sets": 0,
        "overlapping_a_better_one": 1,
    }
    both, dropped = consensus_peaks({"one": first, "two": second}, width=501, min_sets=2)
    assert both["start"].tolist() == [1000]
    assert dropped["in_too_few_sets"] == 2


def test_consensus_equals_greedy_choice():
    rng = np.random.default_rng(3)
    start = np.sort(rng.integers(1000, 30_000, 150))
    peaks = bed(*[("chr1", a, a + 100) for a in start]).assign(score=rng.permutation(150))
    result, _ = consensus_peaks({"one": peaks}, width=301)
    chosen = []
    for middle in peaks.sort_values("score", ascending=False)["start"] + 50:
        if all(abs(middle - other) >= 301 for other in chosen):
            chosen.append(middle)
    assert (result["start"] + 150).tolist() == sorted(chosen)
    assert is_disjoint(result)


def test_peaks_use_their_summit():
    result, _ = consensus_peaks({"one": bed(("chr1", 1000, 2000)).assign(score=1.0, summit=100)}, width=201)
    assert result[["start", "end"]].to_numpy().tolist() == [[1000, 1201]]


def test_clipping_blacklist_and_comparison():
    peaks = bed(("chr1", 100, 200), ("chr1", 900, 1100), ("chr1", 2000, 2100), ("chr9", 1, 2))
    clipped, counts = clip_to_chromosomes(peaks, {"chr1": 1000})
    assert clipped[["start", "end"]].to_numpy().tolist() == [[100, 200], [900, 1000]]
    assert counts == {"unknown_chromosome": 1, "beyond_chromosome": 1, "clipped_at_end": 1}
    left, removed = remove_blacklisted(peaks, bed(("chr1", 150, 160), ("chr1", 1100, 1200)))
    assert (len(left), removed) == (3, 1)
    assert same_peaks([peaks, peaks.iloc[::-1]])
    assert not same_peaks([peaks, peaks.iloc[1:]])


def test_missing_macs3_names_the_command(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(InputError, match=r"Run `pip install 'macs3==3\.0\.4'` .*C compiler"):
        find_macs3()


def test_ranges_and_bed_agree(tmp_path):
    peaks = bed(("chr1", 5, 9), ("chr2", 1, 4))
    ranges = as_ranges(peaks, row=np.arange(2)).df
    assert ranges.sort_values("row")["Start"].tolist() == [5, 1]
    peaks.to_csv(tmp_path / "p.bed", sep="\t", header=False, index=False)
    pd.testing.assert_frame_equal(read_bed(tmp_path / "p.bed"), peaks, check_dtype=False)


def small_library(tmp_path, name, peaks, genes, rng):
    """An ingested library of 12 cells, with its fragments."""
    barcodes = [f"{i}-1" for i in range(12)]
    obs = pd.DataFrame({"sample": name, "barcode": barcodes, "donor": name}, index=[f"{name}_{b}" for b in barcodes])
    tables = {}
    for modality, var in (
        ("rna", pd.DataFrame({"gene_id": genes}, index=genes)),
        ("atac", peaks.set_axis(peak_names(peaks))),
    ):
        counts = sparse.csr_matrix(rng.poisson(1.0, (12, len(var))).astype(np.int32))
        tables[modality] = anndata.AnnData(counts, obs=obs[[]].copy(), var=var)
    write_mudata(make_mudata(tables, obs), tmp_path / f"{name}.h5mu")
    start = rng.integers(0, 9000, 600)
    table = {"chrom": "chr1", "start": start, "end": start + 80, "barcode": rng.choice(barcodes, 600)}
    write_fragments(pd.DataFrame(table), tmp_path / f"{name}.tsv.gz")


def run_features(tmp_path, out):
    import call_consensus_peaks
    import count_sample
    import merge_samples
    import read_annotation

    out.mkdir()
    ingested = [tmp_path / "one.h5mu", tmp_path / "two.h5mu"]
    settings = {"min_cells_gene": 1, "min_cells_peak": 1, "seed": 3}
    peaks, files = out / "peaks.bed", {"one": tmp_path / "one.tsv.gz", "two": None}
    call_consensus_peaks.main(
        ingested=ingested, settings=settings, output_peaks=peaks, output_summary=out / "peaks.json"
    )
    for path in ingested:
        count_sample.main(
            ingested=path,
            peaks=peaks,
            settings=settings,
            fragments=files[path.stem],
            output=out / path.name,
            output_summary=out / f"{path.stem}.json",
        )
    (out / "genes.bed").write_text("chr1\t5000\t8000\tA\t+\nchr1\t6000\t8000\tB\t-\n")
    files = {"output": out / "multiome.h5mu", "output_summary": out / "merge.json"}
    counts = [out / path.name for path in ingested]
    tables = {name: out / f"{name}.parquet" for name in ("genes", "tss")}
    read_annotation.main(annotation=out / "genes.bed", **tables, summary=out / "annotation.json")
    merge_samples.main(counts=counts, **tables, settings=settings, **files)


def test_two_libraries_with_their_own_peaks_become_one_multiome(tmp_path):
    rng = np.random.default_rng(0)
    starts = np.arange(1000, 9000, 700)
    small_library(tmp_path, "one", bed(*[("chr1", a, a + 200) for a in starts]), ["A", "B"], rng)
    small_library(tmp_path, "two", bed(*[("chr1", a + 100, a + 300) for a in starts]), ["B", "C"], rng)
    run_features(tmp_path, tmp_path / "first")
    found, summary = read_json(tmp_path / "first/peaks.json"), read_json(tmp_path / "first/merge.json")
    assert (found["method"], found["n_consensus"], found["width"]) == ("merged", 12, 501)
    assert found["peaks_per_set"] == {"one": 12, "two": 12}
    data = read_mudata(tmp_path / "first/multiome.h5mu")
    assert data["rna"].var_names.tolist() == data["accessibility"].var_names.tolist() == ["A", "B", "C"]
    assert data["accessibility"].var["in_annotation"].tolist() == [True, True, False]
    assert summary["rna"]["not_in_all_libraries"] == 2
    assert data["rna"].var["tss"].tolist() == [5000, 7999, -1]
    # A: 3500-5500; B: 7500-9500.
    place = data["atac"].var
    for column, (low, high) in enumerate([(3500, 5500), (7500, 9500)]):
        inside = ((place["start"] < high) & (place["end"] > low)).to_numpy()
        expected = np.asarray(data["atac"].X[:, inside].sum(axis=1)).ravel()
        np.testing.assert_array_equal(data["accessibility"].X[:, [column]].toarray().ravel(), expected)
    # The library without fragments has as many counts as its own peaks gave, each on one consensus peak here.
    own = read_mudata(tmp_path / "two.h5mu")["atac"].X.sum()
    counted = {name: read_json(tmp_path / f"first/{name}.json") for name in ("one", "two")}
    assert [counted[name]["counted_from"] for name in ("one", "two")] == ["fragments", "matrix with other peaks"]
    assert (counted["two"]["counts"], counted["two"]["counts_lost"]) == (own, 0)
    assert read_mudata(tmp_path / "first/two.h5mu")["atac"].X.sum() == own
    assert data.obs.loc[data.obs["sample"] == "one", "frip"].between(0, 1).all()
    run_features(tmp_path, tmp_path / "second")
    for name in ("peaks.bed", "peaks.json", "one.h5mu", "two.h5mu", "two.json", "multiome.h5mu", "merge.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name
