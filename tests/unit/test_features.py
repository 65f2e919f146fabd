"""Counts, consensus peaks, gene accessibility and the merged matrices."""

import gzip
from collections import Counter

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from regulonformer.errors import InputError
from regulonformer.features import (
    carry_counts,
    count_fragments,
    count_with_totals,
)
from regulonformer.io.fragments import write_fragments
from regulonformer.io.multiome import make_mudata
from regulonformer.io.peaks import as_ranges, merge_overlapping, peak_names, read_bed
from regulonformer.io.store import read_json, read_mudata, write_mudata
from regulonformer.matrices.accessibility import gene_accessibility, promoter_windows
from regulonformer.matrices.merge import concatenate, filter_features, place_genes, windows_to_genes
from regulonformer.matrices.views import add_atac_views, add_rna_views
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


def naive_counts(path, peaks, barcodes, strategy):
    """One line and one peak at a time, by the definition."""
    counts = Counter()
    with gzip.open(path, "rt") as file:
        for line in file:
            if line.startswith("#"):
                continue
            chrom, start, end, barcode = line.rstrip("\n").split("\t")[:4]
            start, end = int(start), int(end)
            sites = [(start, end)] if strategy == "fragment" else [(start, start + 1), (end - 1, end)]
            for first, last in sites:
                for i, (peak_chrom, peak_start, peak_end) in enumerate(peaks):
                    if chrom == peak_chrom and first < peak_end and peak_start < last:
                        counts[barcode, i] += 1
    return np.array([[counts[barcode, i] for i in range(len(peaks))] for barcode in barcodes])


def random_fragments(rng, n=400):
    start = rng.integers(0, 2000, n)
    chrom = rng.choice(["chr1", "chr2", "chrM", "chr10"], n)
    table = {
        "chrom": chrom,
        "start": start,
        "end": start + rng.integers(1, 400, n),
        "barcode": rng.choice(list("ABCDE"), n),
    }
    return pd.DataFrame(table)


def random_peaks(rng):
    edges = np.sort(rng.choice(2400, 60, replace=False)).reshape(-1, 2)
    peaks = pd.concat([bed(*[(chrom, a, b) for a, b in edges]) for chrom in ("chr1", "chr2", "chr3")])
    return peaks.sample(frac=1, random_state=1).reset_index(drop=True)  # in no order


@pytest.mark.parametrize("strategy", ["fragment", "insertion"])
@pytest.mark.parametrize("seed", range(5))
def test_counts_equal_a_naive_count(tmp_path, strategy, seed):
    rng = np.random.default_rng(seed)
    path, peaks, barcodes = tmp_path / "f.tsv.gz", random_peaks(rng), ["D", "A", "none", "C"]
    write_fragments(random_fragments(rng), path, header=["made up"])
    counts = count_fragments(path, peaks, barcodes, strategy=strategy)
    assert counts.dtype == np.int32
    assert counts.has_sorted_indices
    expected = naive_counts(path, list(peaks.itertuples(index=False, name=None)), barcodes, strategy)
    assert expected.sum() > 50
    np.testing.assert_array_equal(counts.toarray(), expected)


@pytest.mark.real_data
@pytest.mark.parametrize("strategy", ["fragment", "insertion"])
def test_counts_of_real_fragments_equal_a_naive_count(real_data, strategy):
    path = real_data / "multiome/k562_chr22p/outs/atac_fragments.tsv.gz"
    with gzip.open(path, "rt") as file:
        rows = [line.split("\t")[:4] for line in file]
    table = pd.DataFrame(rows, columns=["chrom", "start", "end", "barcode"]).astype({"start": int, "end": int})
    # Every run of overlapping fragments is a peak; shortened, so that some fragments and cuts fall outside.
    peaks = merge_overlapping(table)
    peaks = peaks[peaks["end"] - peaks["start"] > 300].assign(
        start=lambda t: t["start"] + 60, end=lambda t: t["end"] - 90
    )
    barcodes = sorted(set(table["barcode"]))[::2]
    counts = count_fragments(path, peaks, barcodes, strategy=strategy)
    naive = naive_counts(path, list(peaks.itertuples(index=False, name=None)), barcodes, strategy)
    assert naive.sum() > 300
    np.testing.assert_array_equal(counts.toarray(), naive)


def test_the_two_strategies_at_peak_edges(tmp_path):
    # Peak [100, 200): a fragment that ends at 100 or starts at 200 is outside; one around it has no cut inside.
    rows = [
        ("chr1", 50, 100, "A"),
        ("chr1", 50, 101, "B"),
        ("chr1", 199, 260, "C"),
        ("chr1", 200, 260, "D"),
        ("chr1", 50, 260, "E"),
    ]
    write_fragments(pd.DataFrame(rows, columns=["chrom", "start", "end", "barcode"]), tmp_path / "f.tsv.gz")
    peak = bed(("chr1", 100, 200))
    by_fragment = count_fragments(tmp_path / "f.tsv.gz", peak, list("ABCDE"))
    by_cut = count_fragments(tmp_path / "f.tsv.gz", peak, list("ABCDE"), strategy="insertion")
    assert by_fragment.toarray().ravel().tolist() == [0, 1, 1, 0, 1]
    assert by_cut.toarray().ravel().tolist() == [0, 1, 1, 0, 0]


def test_totals_leave_mitochondria_out_and_count_a_fragment_once(tmp_path):
    rows = [("chr1", 50, 400, "A"), ("chr1", 900, 950, "A"), ("chrM", 1, 90, "A")]
    write_fragments(pd.DataFrame(rows, columns=["chrom", "start", "end", "barcode"]), tmp_path / "f.tsv.gz")
    counted = count_with_totals(tmp_path / "f.tsv.gz", bed(("chr1", 100, 200), ("chr1", 300, 350)), ["A"])
    assert counted.matrix.toarray().tolist() == [[1, 1]]
    assert (counted.n_fragments.tolist(), counted.n_in_peaks.tolist()) == ([2], [1])


def test_counting_refuses_overlapping_peaks_and_repeated_barcodes(tmp_path):
    write_fragments(random_fragments(np.random.default_rng(0)), tmp_path / "f.tsv.gz")
    overlapping = bed(("chr1", 100, 200), ("chr1", 300, 400), ("chr1", 150, 160))
    with pytest.raises(InputError, match="1 peaks overlap the one before, first chr1-100-200 and chr1-150-160"):
        count_fragments(tmp_path / "f.tsv.gz", overlapping, ["A"])
    with pytest.raises(InputError, match="given twice"):
        count_fragments(tmp_path / "f.tsv.gz", bed(("chr1", 1, 2)), ["A", "A"])
    with pytest.raises(InputError, match="unknown strategy 'cut'"):
        count_fragments(tmp_path / "f.tsv.gz", bed(("chr1", 1, 2)), ["A"], strategy="cut")


def test_carried_counts_go_to_every_overlapped_consensus_peak():
    own = bed(("chr1", 0, 100), ("chr1", 200, 300), ("chr2", 0, 50))
    consensus = bed(("chr1", 50, 90), ("chr1", 95, 250), ("chr3", 0, 50))
    carried, lost = carry_counts(sparse.csr_matrix([[1, 2, 4], [0, 1, 0]]), own, consensus)
    assert carried.toarray().tolist() == [[1, 3, 0], [0, 1, 0]]
    assert lost == 1


def test_promoter_windows_follow_the_strand():
    tss = pd.DataFrame(
        {
            "gene_id": list("abc"),
            "symbol": list("ABC"),
            "chrom": "chr1",
            "tss": [5000, 5000, 700],
            "strand": list("+-+"),
        }
    )
    windows = promoter_windows(tss)
    # + : 1,500 bp before the start, 500 bp from it on. - : the mirror image around base 5000.
    assert windows[["start", "end"]].to_numpy().tolist() == [[3500, 5500], [4501, 6501], [0, 1200]]


def test_gene_accessibility_by_hand():
    peaks = bed(
        ("chr1", 3000, 3500), ("chr1", 3400, 3501), ("chr1", 5000, 5400), ("chr1", 6500, 6600), ("chr2", 3600, 3700)
    )
    tss = pd.DataFrame(
        {
            "gene_id": ["a", "a", "b", "c"],
            "symbol": list("AABC"),
            "chrom": ["chr1"] * 4,
            "tss": [5000, 5100, 5000, 90_000],
            "strand": list("++-+"),
        }
    )
    windows = promoter_windows(tss)  # A: 3500-5500 and 3600-5600; B: 4501-6501; C: far away
    counts = sparse.csr_matrix([[9, 1, 2, 4, 8], [0, 0, 3, 0, 0]])
    matrix, n_peaks = gene_accessibility(counts, peaks, windows, np.array([0, 0, 1, 2]), 4)
    # Peak 0 ends where A begins. Peak 2 lies in both windows of A, and counts once; it is shared with B.
    assert matrix.toarray().tolist() == [[3, 6, 0, 0], [3, 3, 0, 0]]
    assert n_peaks.tolist() == [2, 2, 0, 0]
    assert matrix.dtype == np.int32


def test_genes_are_placed_by_id_then_symbol():
    genes = pd.DataFrame(
        [
            ("ENSG00000000001", "X", "chr1", 10, 20, "+", "lncRNA"),
            ("ENSG00000000002", "Y", "chr2", 30, 50, "-", "lncRNA"),
            ("ENSG00000000003", "Y", "chr3", 60, 70, "+", "protein_coding"),
        ],
        columns=["gene_id", "symbol", "chrom", "start", "end", "strand", "gene_type"],
    )
    var = pd.DataFrame({"gene_id": ["ENSG00000000002.7", "Y", "none"]}, index=["Old", "Y", "Z"])
    placed = place_genes(var, genes)
    assert placed["chrom"].tolist() == ["chr2", "chr3", ""]
    assert placed["tss"].tolist() == [49, 60, -1]
    assert placed["gene_id"].tolist() == ["ENSG00000000002.7", "Y", "none"]
    windows = pd.DataFrame(
        {"gene_id": ["ENSG00000000003", "ENSG00000000001", "ENSG00000000002"], "chrom": "c", "start": 0, "end": 1}
    )
    kept, column = windows_to_genes(windows, placed)
    assert kept["gene_id"].tolist() == ["ENSG00000000003", "ENSG00000000002"]
    assert column.tolist() == [1, 0]
    assert place_genes(var, None)["chrom"].tolist() == ["", "", ""]


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
    assert dropped == {"before": 5, "off_chromosome_start": 1, "in_too_few_libraries": 0, "overlapping_a_better_one": 1}
    both, dropped = consensus_peaks({"one": first, "two": second}, width=501, min_libraries=2)
    assert both["start"].tolist() == [1000]
    assert dropped["in_too_few_libraries"] == 2


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


def table(matrix, names, **var):
    matrix = sparse.csr_matrix(np.asarray(matrix, np.int32))
    obs = pd.DataFrame(index=[f"{names[0]}{i}" for i in range(matrix.shape[0])])
    return anndata.AnnData(matrix, obs=obs, var=pd.DataFrame(var, index=names))


def test_libraries_with_different_genes_are_joined_with_zeros():
    first = table([[1, 2]], ["b", "a"], gene_id=["1", "2"])
    second = table([[3, 4]], ["c", "b"], gene_id=["3", "9"])
    merged, counts = concatenate([first, second], "rna")
    assert merged.var_names.tolist() == ["b", "a", "c"]
    assert merged.X.toarray().tolist() == [[1, 2, 0], [4, 0, 3]]
    assert merged.var["gene_id"].tolist() == ["1", "2", "3"]
    assert counts == {"features": 3, "not_in_all_libraries": 2, "differing_ids": 1}
    filtered, removed = filter_features(merged, 2)
    assert (filtered.var_names.tolist(), removed) == (["b"], 2)
    with pytest.raises(InputError, match="no feature is seen in 3 cells"):
        filter_features(merged, 3)


@pytest.mark.parametrize(("n_cells", "n_features"), [(1, 4), (3, 2), (12, 3), (40, 60)])
def test_views_of_small_data(n_cells, n_features):
    counts = np.random.default_rng(0).poisson(1.0, (n_cells, n_features))
    counts[0] = 0  # an empty cell
    names = [f"f{i}" for i in range(n_features)]
    rna, atac = table(counts, names), table(counts, names)
    add_rna_views(rna, seed=1, n_top_genes=20)
    add_atac_views(atac, seed=1)
    for data, view in ((rna, "X_pca"), (atac, "X_lsi")):
        assert data.obsm["X_umap"].shape == (n_cells, 2)
        assert len(data.obsm[view]) == n_cells
        assert np.isfinite(data.obsm[view]).all()
        assert np.isfinite(data.obsm["X_umap"]).all()
        np.testing.assert_array_equal(data.X.toarray(), counts)
    again = table(counts, names)
    add_rna_views(again, seed=1, n_top_genes=20)
    np.testing.assert_array_equal(again.obsm["X_umap"], rna.obsm["X_umap"])


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

    out.mkdir()
    ingested = [tmp_path / "one.h5mu", tmp_path / "two.h5mu"]
    settings = {"min_cells_gene": 1, "min_cells_peak": 1, "seed": 3}
    peaks, files = out / "peaks.bed", {"one": tmp_path / "one.tsv.gz", "two": None}
    call_consensus_peaks.main(
        ingested=ingested, settings=settings, output_peaks=peaks, output_summary=out / "peaks.json"
    )
    for path in ingested:
        count_sample.main(
            ingested=path, peaks=peaks, settings=settings, fragments=files[path.stem], output=out / path.name
        )
    (out / "genes.bed").write_text("chr1\t5000\t8000\tA\t+\nchr1\t6000\t8000\tB\t-\n")
    files = {"output": out / "multiome.h5mu", "output_summary": out / "merge.json"}
    counts = [out / path.name for path in ingested]
    merge_samples.main(counts=counts, annotation=out / "genes.bed", settings=settings, **files)


def test_two_libraries_with_their_own_peaks_become_one_multiome(tmp_path):
    rng = np.random.default_rng(0)
    starts = np.arange(1000, 9000, 700)
    small_library(tmp_path, "one", bed(*[("chr1", a, a + 200) for a in starts]), ["A", "B"], rng)
    small_library(tmp_path, "two", bed(*[("chr1", a + 100, a + 300) for a in starts]), ["B", "C"], rng)
    run_features(tmp_path, tmp_path / "first")
    found, summary = read_json(tmp_path / "first/peaks.json"), read_json(tmp_path / "first/merge.json")
    assert (found["method"], found["n_consensus"], found["width"]) == ("merged", 12, 501)
    assert found["per_library"] == {"one": 12, "two": 12}
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
    assert read_mudata(tmp_path / "first/two.h5mu")["atac"].X.sum() == own
    assert data.obs.loc[data.obs["sample"] == "one", "frip"].between(0, 1).all()
    run_features(tmp_path, tmp_path / "second")
    for name in ("peaks.bed", "peaks.json", "one.h5mu", "two.h5mu", "multiome.h5mu", "merge.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name
