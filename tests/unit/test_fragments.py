"""Fragments: reading files, counts in peaks, and the quality of the ATAC side of barcodes."""

import gzip
from collections import Counter
from itertools import pairwise

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from regulonformer.errors import InputError
from regulonformer.features import count_fragments, count_with_totals
from regulonformer.io.fragments import COLUMNS, FragmentBatch, chromosomes, stream_fragments, write_fragments
from regulonformer.io.peaks import merge_overlapping
from regulonformer.io.store import read_json
from regulonformer.peaks.intervals import CountBuffer
from regulonformer.peaks.macs import write_cuts
from regulonformer.quality.fragments import QualityMeter, fragment_metrics, tss_enrichment

REAL = [
    "fragments/bpcells_mini_fragments.tsv.gz",
    "fragments/czi_fragments.tsv.gz",
    "fragments/snapatac2_fragments_clean.tsv.gz",
    "multiome/k562_chr22p/outs/atac_fragments.tsv.gz",
]
STRATEGIES = ["fragment", "insertion"]


def bed(*rows):
    return pd.DataFrame(rows, columns=["chrom", "start", "end"])


def bed_file(tmp_path, *rows):
    bed(*rows).to_csv(tmp_path / "peaks.bed", sep="\t", header=False, index=False)
    return tmp_path / "peaks.bed"


def fragments_file(tmp_path, rows, **options):
    write_fragments(pd.DataFrame(rows, columns=COLUMNS[: len(rows[0])]), tmp_path / "f.tsv.gz", **options)
    return tmp_path / "f.tsv.gz"


def read_lines(path):
    with gzip.open(path, "rt") as file:
        return [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]


# Reading.

ROWS = [("chr2", 5, 30, "B", 1), ("chr1", 10, 60, "A", 2), ("chr1", 10, 20, "B", 1)]


def test_fragments_are_written_sorted_and_read_back(tmp_path):
    path = fragments_file(tmp_path, ROWS, header=["id=x", "pipeline=y"])
    assert chromosomes(path) == ["chr1", "chr2"]
    [batch] = stream_fragments(path, chromosomes=["chr1"], barcodes=["A", "C", "B"])
    assert batch.chrom.tolist() == [0, 0, -1]
    assert batch.start.tolist() == [10, 10, 5]
    assert batch.end.tolist() == [20, 60, 30]
    assert batch.barcode.tolist() == [2, 0, 2]
    assert batch.reads.tolist() == [1, 2, 1]
    first = path.read_bytes()
    assert fragments_file(tmp_path, ROWS, header=["id=x", "pipeline=y"]).read_bytes() == first


@pytest.mark.parametrize("packing", ["bgzip", "gzip", "plain"])
@pytest.mark.parametrize("threads", [1, 2])
def test_batches_add_up_to_the_file(tmp_path, packing, threads):
    starts = np.arange(40_000)
    table = pd.DataFrame({"chrom": "chr1", "start": starts, "end": starts + 9, "barcode": "A"})
    write_fragments(table, tmp_path / "bgzip", header=["a long header"] * 3000)
    if packing != "bgzip":
        text = gzip.decompress((tmp_path / "bgzip").read_bytes())
        (tmp_path / packing).write_bytes(text if packing == "plain" else gzip.compress(text))
    stream = stream_fragments(
        tmp_path / packing, chromosomes=["chr1"], barcodes=["A"], threads=threads, block_bytes=30_000
    )
    batches = list(stream)
    assert len(batches) > 5
    assert np.concatenate([batch.start for batch in batches]).tolist() == starts.tolist()
    assert all((batch.chrom == 0).all() and (batch.barcode == 0).all() for batch in batches)


@pytest.mark.parametrize("extra", ["", "\t1", "\t1\t+"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_four_to_six_columns_and_both_line_ends(tmp_path, extra, end):
    path = tmp_path / "f.tsv.gz"
    with gzip.open(path, "wb") as file:
        file.write(f"# comment{end}chr1\t1\t9\tA{extra}{end}chr1\t2\t8\tB{extra}{end}".encode())
    [batch] = stream_fragments(path, chromosomes=["chr1"], barcodes=["A", "B"])
    assert batch.end.tolist() == [9, 8]
    assert batch.barcode.tolist() == [0, 1]
    assert batch.reads.tolist() == [1 if extra else 0] * 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("chr1\t1\t9\n", "has 3 columns"),
        ("chr1\t1\t9\tA\t1\nchr1\tx\t9\tA\t1\n", "not a readable fragment file .*'x'"),
        ("chr1\t1\t9\tA\t1\nchr1\t2\t9\n", "not a readable fragment file .*Expected 5 columns, got 3"),
        ("chr1\t1\t9\tA\t1\nchr1\t\t9\tA\t1\n", "not a readable fragment file"),
        ("chr1\t1\t3000000000\tA\t1\n", "not a readable fragment file .*3000000000"),
        ("chr1\t9\t9\tA\t1\n", "fragment chr1:9-9 is no interval"),
        ("chr1\t-9\t9\tA\t1\n", "fragment chr1:-9-9 is no interval"),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_bad_fragments_are_told_in_one_line(tmp_path, text, problem, threads):
    with gzip.open(tmp_path / "f.tsv.gz", "wt") as file:
        file.write(text)
    with pytest.raises(InputError, match=problem):
        list(stream_fragments(tmp_path / "f.tsv.gz", chromosomes=["chr1"], barcodes=["A"], threads=threads))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_file_cut_or_damaged_anywhere_is_never_read_as_whole(tmp_path, threads):
    whole = fragments_file(tmp_path, ROWS * 5000).read_bytes()
    path, n = tmp_path / "broken.tsv.gz", len(whole)
    blocks = [at for at in range(n) if whole[at : at + 4] == b"\x1f\x8b\x08\x04"]
    assert len(blocks) > 3
    # Inside a block, between two, and without only the end mark.
    cuts = [100, n // 3, blocks[1], blocks[2], blocks[-1], n - 1]
    flipped = bytes([whole[n // 2] ^ 255])
    broken = [*(whole[:cut] for cut in cuts), whole[: n // 2] + flipped + whole[n // 2 + 1 :], whole + b"junk" * 10]
    for data in broken:
        path.write_bytes(data)
        with pytest.raises(InputError, match="broken.tsv.gz: "):
            list(stream_fragments(path, chromosomes=["chr1"], barcodes=["A"], threads=threads))
    with pytest.raises(InputError, match="no readable .tbi index"):
        chromosomes(path)


def test_a_file_without_fragments_has_no_batches(tmp_path):
    with gzip.open(tmp_path / "empty.tsv.gz", "wt") as file:
        file.write("# only a comment\n")
    assert list(stream_fragments(tmp_path / "empty.tsv.gz", chromosomes=["chr1"], barcodes=["A"])) == []


# Counts.


def naive_counts(path, peaks, barcodes, strategy):
    """One line and one peak at a time, by the definition."""
    rows, wanted = Counter(), set(barcodes)
    by_chrom = {name: list(zip(t["start"], t["end"], t.index, strict=True)) for name, t in peaks.groupby("chrom")}
    for chrom, start, end, barcode, *_ in read_lines(path):
        start, end = int(start), int(end)
        if barcode not in wanted:
            continue
        for first, last in [(start, end)] if strategy == "fragment" else [(start, start + 1), (end - 1, end)]:
            for peak_start, peak_end, i in by_chrom.get(chrom, []):
                if first < peak_end and peak_start < last:
                    rows[barcode, i] += 1
    return np.array([[rows[barcode, i] for i in range(len(peaks))] for barcode in barcodes])


def random_fragments(rng, n=400):
    start = rng.integers(0, 2000, n)
    table = {"chrom": rng.choice(["chr1", "chr2", "chrM", "chr10"], n), "start": start}
    table |= {"end": start + rng.integers(1, 400, n), "barcode": rng.choice(list("ABCDE"), n)}
    return pd.DataFrame(table)


def random_peaks(rng):
    edges = np.sort(rng.choice(2400, 60, replace=False)).reshape(-1, 2)
    peaks = pd.concat([bed(*[(chrom, a, b) for a, b in edges]) for chrom in ("chr1", "chr2", "chr3")])
    return peaks.sample(frac=1, random_state=1).reset_index(drop=True)  # in no order


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("seed", range(5))
def test_counts_equal_a_naive_count(tmp_path, strategy, seed):
    rng = np.random.default_rng(seed)
    path, peaks, barcodes = tmp_path / "f.tsv.gz", random_peaks(rng), ["D", "A", "none", "C"]
    write_fragments(random_fragments(rng), path, header=["made up"])
    counts = count_fragments(path, peaks, barcodes, strategy=strategy)
    assert counts.dtype == np.int32
    assert counts.has_sorted_indices
    expected = naive_counts(path, peaks, barcodes, strategy)
    assert expected.sum() > 50
    np.testing.assert_array_equal(counts.toarray(), expected)


@pytest.mark.real_data
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", REAL)
def test_counts_of_real_fragments_equal_a_naive_count(real_data, name, strategy):
    # Two of the files are in no order, two are plain gzip: all are read to the end and counted.
    rows = [row[:4] for row in read_lines(real_data / name)]
    table = pd.DataFrame(rows, columns=COLUMNS[:4]).astype({"start": int, "end": int})
    # Every run of overlapping fragments is a peak; shortened, so that some fragments and cuts fall outside.
    peaks = merge_overlapping(table)
    peaks = peaks[peaks["end"] - peaks["start"] > 100].assign(start=lambda t: t["start"] + 60)
    peaks = peaks.sample(600, random_state=0, replace=len(peaks) < 600).drop_duplicates(ignore_index=True)
    barcodes = sorted(set(table["barcode"]))[::3]
    counts = count_fragments(real_data / name, peaks, barcodes, strategy=strategy)
    naive = naive_counts(real_data / name, peaks, barcodes, strategy)
    assert naive.sum() > 50
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
    path, peak = fragments_file(tmp_path, rows), bed(("chr1", 100, 200))
    by_fragment = count_fragments(path, peak, list("ABCDE"))
    by_cut = count_fragments(path, peak, list("ABCDE"), strategy="insertion")
    assert by_fragment.toarray().ravel().tolist() == [0, 1, 1, 0, 1]
    assert by_cut.toarray().ravel().tolist() == [0, 1, 1, 0, 0]


def test_totals_leave_mitochondria_out_and_count_a_fragment_once(tmp_path):
    path = fragments_file(tmp_path, [("chr1", 50, 400, "A"), ("chr1", 900, 950, "A"), ("chrM", 1, 90, "A")])
    counted = count_with_totals(path, bed(("chr1", 100, 200), ("chr1", 300, 350)), ["A"])
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


@pytest.mark.parametrize("n_rows", [0, 3, 50])
def test_counts_add_up_however_often_the_buffer_is_emptied(monkeypatch, n_rows):
    monkeypatch.setattr("regulonformer.peaks.intervals.BUFFER", 7)
    rng, expected, buffer = np.random.default_rng(0), np.zeros((n_rows, 9), int), CountBuffer((n_rows, 9))
    for _ in range(30 if n_rows else 0):
        rows, columns = rng.integers(0, n_rows, 20), rng.integers(0, 9, 20)
        buffer.add(rows, columns)
        np.add.at(expected, (rows, columns), 1)
    result = buffer.result()
    np.testing.assert_array_equal(result.toarray(), expected)
    assert result.has_sorted_indices
    assert result.indices.dtype == result.indptr.dtype == result.dtype == np.int32


# Quality.


def test_fragment_metrics_by_hand(tmp_path):
    rows = [
        ("chr1", 1000, 1100, "A", 1),  # nucleosome-free, in the peak
        ("chr1", 1050, 1196, "A", 3),  # 146 bp: nucleosome-free, in the peak
        ("chr1", 3000, 3147, "A", 2),  # 147 bp: mononucleosomal
        ("chr1", 3000, 3294, "A", 2),  # 294 bp: neither
        ("chrM", 10, 60, "A", 50),
        ("chr7", 10, 400, "B", 1),  # a chromosome without peaks
        ("chr1", 1000, 1100, "other", 1),
    ]
    peaks = bed(("chr1", 1090, 1200), ("chr1", 1095, 1300))
    blacklist = bed(("chr1", 3146, 3150), ("chr7", 300, 310), ("chr9", 1, 5))
    path = fragments_file(tmp_path, rows)
    cells, summary = fragment_metrics(path, ["A", "B", "C"], peaks=peaks, blacklist=blacklist)
    assert cells["n_fragments"].tolist() == [4, 1, 0]
    np.testing.assert_array_equal(cells["nucleosome_signal"], [0.5, np.nan, np.nan])
    np.testing.assert_array_equal(cells["frip"], [0.5, 0.0, np.nan])
    np.testing.assert_array_equal(cells["blacklist_share"], [0.5, 1.0, np.nan])
    np.testing.assert_array_equal(cells["duplication_fragments"], [0.5, 0.0, np.nan])
    assert cells["n_overlap_fragments"].tolist() == [2, 0, 0]
    assert "tss_enrichment" not in cells
    assert (summary["total"], summary["in_cells"], summary["mitochondrial"]) == (7, 6, 1)
    assert sum(summary["lengths"]) == 5
    assert summary["lengths"][14] == 2  # 146 and 147 bp


def test_duplication_is_unknown_where_the_file_does_not_tell_reads(tmp_path):
    with gzip.open(tmp_path / "f.tsv.gz", "wt") as file:
        file.write("chr1\t1\t9\tA\nchr1\t2\t8\tA\n")
    cells, _ = fragment_metrics(tmp_path / "f.tsv.gz", ["A"])
    assert cells["duplication_fragments"].isna().all()


def test_tss_enrichment_by_hand(tmp_path):
    # 22 cuts at the start itself; 20 cuts in the outer 100 bp; flank mean 20 / 200 = 0.1 per bp. Cuts 6 bp away from
    # the start lie outside its 11 bp.
    rows = [("chr1", 10_000, 10_001, "A")] * 11 + [("chr1", 8_000 + i, 8_001 + i, "A") for i in range(10)]
    rows += [("chr1", 10_006, 10_007, "A")] * 40
    tss = pd.DataFrame({"chrom": ["chr1"], "tss": [10_000], "strand": ["+"]})
    cells, _ = fragment_metrics(fragments_file(tmp_path, rows), ["A", "B"], tss=tss)
    np.testing.assert_allclose(cells["tss_enrichment"], [22 / 11 / (0.1 + 0.1), 0.0])


def test_tss_pile_up_follows_the_strand_and_reaches_2000_bp(tmp_path):
    path = fragments_file(tmp_path, [("chr1", 10_100, 10_101, "A")])
    for strand, at in (("+", 2100), ("-", 1900)):
        tss = pd.DataFrame({"chrom": ["chr1"], "tss": [10_000], "strand": [strand]})
        _, summary = fragment_metrics(path, ["A"], tss=tss)
        assert int(np.argmax(summary["tss_profile"])) * 10 == at
        # Two cuts, averaged over 11 bp.
        assert summary["tss_profile"][at // 10] == round(2 / 11, 3)
    far = pd.DataFrame({"chrom": ["chr1", "chr2"], "tss": [12_101, 10_100], "strand": ["+", "+"]})
    cells, summary = fragment_metrics(path, ["A"], tss=far)
    assert cells["tss_enrichment"].tolist() == [0.0]
    assert sum(summary["tss_profile"]) == 0


def test_even_cuts_have_no_enrichment():
    np.testing.assert_allclose(tss_enrichment(np.array([11 * 10]), np.array([200 * 10])), 10 / 10.1)


def naive_sites(fragments):
    """Runs of bases that more than two fragments cover, base by base."""
    depth = Counter((chrom, base) for chrom, start, end in fragments for base in range(start, end))
    deep = sorted(place for place, n in depth.items() if n > 2)
    return sum(a[0] != b[0] or b[1] - a[1] > 1 for a, b in pairwise(deep)) + bool(deep)


INTERVAL = st.tuples(st.sampled_from(["1", "2"]), st.integers(0, 60), st.integers(1, 25), st.sampled_from("AB"))


@settings(deadline=None, max_examples=200)
@given(st.lists(INTERVAL, max_size=40), st.integers(1, 10))
@example([("1", 24, 25, "A"), ("1", 25, 25, "A"), ("1", 49, 1, "A"), ("1", 49, 1, "A")], 1)
def test_overlap_sites_equal_a_count_of_every_base(rows, batch_size):
    rows = sorted((chrom, start, start + length, barcode) for chrom, start, length, barcode in rows)
    meter = QualityMeter(["2", "1"], ["A", "B"])  # codes in another order than the file
    for first in range(0, len(rows), batch_size):
        chrom, start, end, barcode = zip(*rows[first : first + batch_size], strict=True)
        codes = np.array(["21".index(name) for name in chrom], np.int32)
        cells = np.array(["AB".index(name) for name in barcode], np.int32)
        place = (np.array(start, np.int32), np.array(end, np.int32))
        meter.add(FragmentBatch(codes, *place, cells, np.ones(len(codes), np.int32)))
    expected = [naive_sites([row[:3] for row in rows if row[3] == name]) for name in "AB"]
    assert meter.result().cells["n_overlap_sites"].tolist() == expected


def test_overlaps_are_sought_where_two_copies_are_the_rule(tmp_path):
    def site(chrom, start, length=50):
        return [(chrom, start + i, start + i + length, "A") for i in range(3)]

    rows = [*site("chr1", 100), *site("chrX", 100), *site("chrM", 100), *site("GL000194.1", 100)]
    rows += [*site("chr1", 5000, length=950), *site("chr1", 9000)]
    cells, _ = fragment_metrics(fragments_file(tmp_path, rows), ["A"], blacklist=bed(("chr1", 9010, 9020)))
    assert cells[["n_overlap_sites", "n_overlap_fragments"]].to_numpy().tolist() == [[1, 3]]


def test_overlaps_in_an_unsorted_file_are_not_counted_wrongly(tmp_path, caplog):
    lines = [f"chr1\t{start}\t{start + 90}\tA\t1" for start in (100, 110, 120)]
    tss = pd.DataFrame({"chrom": ["chr1"], "tss": [115], "strand": ["+"]})
    for order, expected in (((0, 1, 2), [1.0]), ((2, 0, 1), [np.nan])):
        with gzip.open(tmp_path / "f.tsv.gz", "wt") as file:
            file.write("\n".join(lines[i] for i in order))
        cells, _ = fragment_metrics(tmp_path / "f.tsv.gz", ["A"], tss=tss)
        np.testing.assert_array_equal(cells["n_overlap_sites"], expected)
    assert "not sorted by position" in caplog.text


@pytest.mark.parametrize(
    ("places", "is_sorted"),
    [
        ("1:5 1:9 2:3 2:3", True),
        ("1:5 1:9 1:7 1:8", False),  # backwards from one batch to the next
        ("1:5 2:3 1:9 1:9", False),  # chromosomes interleave within a batch
        ("1:5 1:6 2:3 2:4 1:9 1:9", False),  # and between batches
        ("1:5 ?:9 ?:3 2:1", True),  # chromosomes that are not asked for may be several
        ("1:5 ?:9 ?:3 1:6", False),
    ],
)
def test_a_step_backwards_is_noticed_wherever_batches_end(places, is_sorted):
    meter, rows = QualityMeter(["1", "2"], ["A"]), [place.split(":") for place in places.split()]
    for first in range(0, len(rows), 2):
        chrom = np.array(["12?".index(name) for name, _ in rows[first : first + 2]], np.int32)
        start = np.array([start for _, start in rows[first : first + 2]], np.int32)
        n = len(start)
        chrom[chrom == 2] = -1
        meter.add(FragmentBatch(chrom, start, start + 50, np.zeros(n, np.int32), np.ones(n, np.int32)))
    cells, summary = meter.result()
    assert summary["sorted"] is is_sorted
    assert cells["n_overlap_sites"].notna().all() == cells["n_overlap_fragments"].notna().all() == is_sorted


def test_ingest_notes_fragments_that_are_not_sorted(tmp_path):
    import ingest_sample

    rows = [f"{chrom}\t{start}\t{start + 90}\tb{i}\t1\n" for chrom, start in (("1", 5), ("1", 9)) for i in range(30)]
    rna = anndata.AnnData(csr_matrix(np.random.default_rng(0).poisson(1, (30, 50)).astype(np.int32)))
    rna.obs_names, rna.var_names = [f"b{i}" for i in range(30)], [f"g{i}" for i in range(50)]
    rna.write_h5ad(tmp_path / "s.h5ad")
    files = {"output_mudata": tmp_path / "s.h5mu", "output_cells": tmp_path / "c", "output_qc": tmp_path / "q"}
    for lines, is_sorted in ((rows, True), (rows[30:] + rows[:30], False)):
        with gzip.open(tmp_path / "f.tsv.gz", "wt") as file:
            file.writelines(lines)
        ingest_sample.main(
            matrix=tmp_path / "s.h5ad",
            fragments=tmp_path / "f.tsv.gz",
            peaks=bed_file(tmp_path, ("1", 0, 50)),
            sample={"sample": "s"},
            settings={"min_genes": 5, "min_umis": 5, "doublets": "none", "n_mads": None},
            **files,
        )
        verdict = read_json(tmp_path / "q")
        assert verdict["fragments"]["sorted"] is is_sorted
        assert any("not sorted by position" in note for note in verdict["notes"]) is not is_sorted


def test_results_do_not_depend_on_threads_or_the_size_of_batches(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    table = random_fragments(rng, 60_000)
    table["start"] += 50 * rng.integers(0, 40_000, len(table))
    table["end"] = table["start"] + rng.integers(20, 700, len(table))
    write_fragments(table, tmp_path / "f.tsv.gz")
    peaks, tss = random_peaks(rng), pd.DataFrame({"chrom": "chr2", "tss": [300, 900], "strand": ["+", "-"]})
    barcodes = list("ABCDE")
    results = []
    for threads, block_bytes in ((1, 1 << 20), (2, 1 << 20), (3, 30_000)):
        monkeypatch.setitem(stream_fragments.__kwdefaults__, "block_bytes", block_bytes)
        quality = fragment_metrics(tmp_path / "f.tsv.gz", barcodes, tss=tss, peaks=peaks, threads=threads)
        counts = count_fragments(tmp_path / "f.tsv.gz", peaks, barcodes, threads=threads)
        cuts = write_cuts([(tmp_path / "f.tsv.gz", barcodes)], tmp_path / "cuts.bed", threads=threads)
        cuts = (cuts, sorted((tmp_path / "cuts.bed").read_text().splitlines()))
        results.append((quality.cells.to_csv(), quality.summary, counts.data.tobytes(), counts.indices.tobytes(), cuts))
    assert results[0] == results[1] == results[2]
    assert quality.cells["n_overlap_sites"].min() > 10


@pytest.mark.real_data
@pytest.mark.parametrize("name", REAL)
def test_real_fragments_are_measured(real_data, name):
    rows = read_lines(real_data / name)
    barcodes = sorted({row[3] for row in rows})
    cells, summary = fragment_metrics(real_data / name, barcodes)
    assert summary["total"] == summary["in_cells"] == len(rows)
    assert cells["n_fragments"].sum() == len(rows) - summary["mitochondrial"]
    if len(rows[0]) > 4:
        reads = sum(int(row[4]) for row in rows if row[0] != "chrM")
        kept = cells["n_fragments"] > 0
        found = (cells["n_fragments"] / (1 - cells["duplication_fragments"]))[kept].sum()
        assert found == pytest.approx(reads)
