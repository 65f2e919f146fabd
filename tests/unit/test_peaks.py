"""Consensus peaks: scores of different sets, what goes before the merge, and peaks called per group of cells."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from regulonformer.errors import InputError
from regulonformer.io.fragments import write_fragments
from regulonformer.io.peaks import chromosome_lengths
from regulonformer.peaks.consensus import consensus_peaks, given_peaks, is_disjoint
from regulonformer.peaks.macs import call_peaks, group_cells


def bed(*rows):
    return pd.DataFrame(rows, columns=["chrom", "start", "end"])


def scattered(rng, n, chrom="chr1"):
    start = np.sort(rng.integers(2000, 400_000, n))
    return bed(*[(chrom, a, a + 200) for a in start]).assign(score=rng.lognormal(3, 1, n))


def test_neither_depth_nor_few_peaks_let_a_set_win():
    rng = np.random.default_rng(0)
    one, two = scattered(rng, 300), scattered(rng, 300)
    plain, _ = consensus_peaks({"one": one, "two": two}, width=501)
    # A library sequenced fifty times deeper has scores fifty times higher, and the same peaks.
    deep, _ = consensus_peaks({"one": one, "two": two.assign(score=two["score"] * 50)}, width=501)
    pd.testing.assert_frame_equal(plain, deep)
    # By score per million each of three peaks would beat each of three hundred. By quantile the worst one does not.
    few = bed(("chr1", 1000, 1200), ("chr1", 3000, 3200), ("chr1", 5000, 5200)).assign(score=[1.0, 2.0, 3.0])
    many = pd.concat([scattered(rng, 300, "chr2"), bed(("chr1", 1100, 1300)).assign(score=1e6)])
    merged, _ = consensus_peaks({"few": few, "many": many}, width=501)
    near = merged[(merged["chrom"] == "chr1") & (merged["start"] < 2000)]
    assert near["start"].tolist() == [1200 - 250]


def test_what_is_blacklisted_or_off_the_chromosome_displaces_nothing():
    # The best peak is blacklisted and the next sticks out of the chromosome: both overlap a sound one.
    peaks = bed(
        ("chr1", 1000, 1100), ("chr1", 1300, 1400), ("chr1", 9700, 9800), ("chr1", 9500, 9600), ("chr9", 1000, 1100)
    )
    peaks = peaks.assign(score=[9, 1, 8, 2, 7], end=peaks["start"] + 100)
    result, dropped = consensus_peaks(
        {"a": peaks}, width=501, lengths={"chr1": 10_000 - 100}, blacklist=bed(("chr1", 900, 1050))
    )
    assert result[["start", "end"]].to_numpy().tolist() == [[1100, 1601], [9300, 9801]]
    assert (dropped["off_chromosome"], dropped["blacklisted"], dropped["overlapping_a_better_one"]) == (2, 1, 0)


@pytest.mark.parametrize(("column", "centre"), [("190", 1190), ("-1", 1100), (".", 1100), ("900", 1100)])
def test_peaks_are_centred_on_the_summits_of_narrow_peaks(tmp_path, caplog, column, centre):
    caplog.set_level("INFO")
    (tmp_path / "a.bed").write_text(f"chr1\t1000\t1200\tp\t5\t.\t1\t2\t3\t{column}\n")
    result, _ = consensus_peaks(given_peaks({"a": None}, {"a": tmp_path / "a.bed"}), width=501)
    assert result["start"].tolist() == [centre - 250]
    assert ("a.bed has no summits" in caplog.text) == (column in (".", "900"))


@pytest.mark.real_data
def test_peaks_at_real_chromosome_ends_keep_their_width(real_data, tmp_path):
    sizes = pd.read_csv(real_data / "references/genome/hg38.seqinfo.tsv", sep="\t").iloc[:, :2]
    fai = tmp_path / "genome.fa.fai"
    sizes.to_csv(fai, sep="\t", header=False, index=False)
    lengths = chromosome_lengths(fai)
    rng, names = np.random.default_rng(0), [f"chr{number}" for number in range(1, 23)]
    at_end = bed(*[(name, lengths[name] - back, lengths[name]) for name in names for back in rng.integers(1, 900, 9)])
    result, dropped = consensus_peaks({"a": at_end}, width=501, lengths=lengths)
    assert set(result["end"] - result["start"]) == {501} and is_disjoint(result)
    assert (result["end"] <= result["chrom"].map(lengths)).all()
    assert dropped["off_chromosome"] > 50


CELLS = {
    "lib1": pd.DataFrame({"barcode": ["A", "B", "C"], "cell_type": ["T", "B cell", ""], "donor": "d1"}),
    "lib2": pd.DataFrame({"barcode": ["A", "D"], "cell_type": ["T", np.nan], "donor": "d1"}),
    "lib3": pd.DataFrame({"barcode": ["E"], "donor": ["d2"]}),
}
FILES = {"lib1": "1.gz", "lib2": "2.gz", "lib3": "3.gz"}


def test_groups_pool_cells_over_libraries():
    groups, n_without = group_cells(CELLS, FILES, "cell_type")
    assert groups == {"B cell": (1, [("1.gz", ["B"])]), "T": (2, [("1.gz", ["A"]), ("2.gz", ["A"])])}
    assert n_without == 3
    donors, n_without = group_cells(CELLS, FILES, "donor")
    assert {name: group.n_cells for name, group in donors.items()} == {"d1": 5, "d2": 1} and n_without == 0


def test_unknown_groups_and_missing_fragments_are_named():
    with pytest.raises(InputError, match="features.peak_group: is 'celltype', but no cell .*barcode, cell_type, donor"):
        group_cells(CELLS, FILES, "celltype")
    with pytest.raises(InputError, match="libraries with neither peaks nor fragments: lib3"):
        group_cells(CELLS, {"lib1": "1.gz", "lib2": "2.gz"}, "donor")


HAS_MACS3 = shutil.which("macs3") or shutil.which("macs3", path=str(Path(sys.executable).parent))


@pytest.mark.skipif(not HAS_MACS3, reason="macs3 is not installed (make macs3)")
def test_macs3_finds_the_planted_peaks_of_a_group(tmp_path):
    """Cells A of two libraries share sites at 20 and 60 kb that neither has alone in strength; B has one at 100 kb."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rng, files = np.random.default_rng(0), []
    for library in ("1", "2"):
        rows = [("chr1", int(a), int(a) + 90, "AB"[i % 2]) for i, a in enumerate(rng.integers(0, 200_000, 400))]
        for centre, barcode in ((20_000, "A"), (60_000, "A"), (100_000, "B")):
            rows += [("chr1", int(a), int(a) + 80, barcode) for a in rng.normal(centre, 40, 60)]
        files.append(tmp_path / f"{library}.tsv.gz")
        write_fragments(pd.DataFrame(sorted(rows), columns=["chrom", "start", "end", "barcode"]), files[-1])
    found = call_peaks([(file, ["A"]) for file in files], q_value=0.01)
    near = {round((row.start + row.summit) / 1000) for row in found.itertuples() if row.score > 20}
    assert near == {20, 60}
    assert call_peaks([(files[0], ["none"])], q_value=0.01).empty
