"""Gene accessibility by hand: A = X (P or L), promoters on both strands and at the ends, and linked distal peaks."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from regulonformer.matrices.accessibility import (
    gene_accessibility,
    linked_peaks,
    peaks_per_gene,
    promoter_peaks,
    promoter_windows,
)
from regulonformer.matrices.genes import TAKEN, place_genes, windows_to_genes


def bed(*rows):
    return pd.DataFrame(rows, columns=["chrom", "start", "end"])


def starts(*rows):
    return pd.DataFrame(rows, columns=["gene_id", "symbol", "chrom", "tss", "strand"])


def test_windows_follow_the_strand_and_stop_at_the_chromosome_start():
    windows = promoter_windows(
        starts(
            ("a", "A", "chr1", 5000, "+"),
            ("b", "B", "chr1", 5000, "-"),
            ("c", "C", "chr1", 700, "+"),
            ("d", "D", "chr1", 0, "+"),
            ("e", "E", "chr1", 0, "-"),
        )
    )
    # + : 1,500 bp before the start, 500 bp from it on. - : the mirror image around base 5000.
    assert windows[["start", "end"]].to_numpy().tolist() == [
        [3500, 5500],
        [4501, 6501],
        [0, 1200],
        [0, 500],
        [0, 1501],
    ]


@pytest.mark.parametrize(("strand", "inside"), [("+", [True, True, False, False]), ("-", [False, False, True, True])])
def test_edges_of_a_window_on_either_strand(strand, inside):
    # One base at each end of the window of either strand: 3500 and 4500 for +, 5500 and 6500 for -.
    peaks = bed(("chr1", 3400, 3501), ("chr1", 4400, 4501), ("chr1", 5500, 5600), ("chr1", 6500, 6600))
    windows = promoter_windows(starts(("a", "A", "chr1", 5000, strand)))
    assert promoter_peaks(peaks, windows, np.zeros(1, int), 1).toarray().ravel().astype(bool).tolist() == inside


def test_genes_that_share_a_window_all_get_it():
    # A and B start at the same base; C has two starts, whose windows hold the same peak.
    tss = starts(
        ("a", "A", "chr1", 5000, "+"),
        ("b", "B", "chr1", 5000, "+"),
        ("c", "C", "chr1", 5100, "+"),
        ("c", "C", "chr1", 5200, "+"),
    )
    peaks, counts = bed(("chr1", 4000, 4500), ("chr2", 4000, 4500)), sparse.csr_matrix([[3, 9], [1, 0]])
    promoters = promoter_peaks(peaks, promoter_windows(tss), np.array([0, 1, 2, 2]), 4)
    assert gene_accessibility(counts, promoters).toarray().tolist() == [[3, 3, 3, 0], [1, 1, 1, 0]]
    assert peaks_per_gene(promoters).tolist() == [1, 1, 1, 0]


def test_no_gene_in_the_annotation_is_no_accessibility():
    promoters = promoter_peaks(bed(("chr1", 1, 9)), bed().iloc[:0], np.zeros(0, int), 2)
    assert gene_accessibility(sparse.csr_matrix([[5]]), promoters).toarray().tolist() == [[0, 0]]


LINKS = pd.DataFrame(
    [
        ("p0", "A", 0.9, 0.8),  # in A's promoter as well
        ("p2", "A", 0.5, 0.6),
        ("p2", "B", 0.5, 0.4),  # too weak
        ("p3", "B", -0.9, 0.9),  # falls when B rises
        ("p2", "C", 0.4, 0.5),  # a peak serves two genes
        ("p9", "A", 0.9, 0.9),  # left out of the matrix
        ("p1", "Z", 0.9, 0.9),
    ],
    columns=["peak", "gene", "correlation", "score"],
)


def test_linked_peaks_add_to_the_promoter_once():
    linked = linked_peaks(LINKS, ["p0", "p1", "p2", "p3"], ["A", "B", "C"], 0.5)
    assert linked.toarray().tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 1], [0, 0, 0]]
    promoters = sparse.csr_matrix([[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]])
    counts = sparse.csr_matrix([[1, 10, 100, 1000], [2, 0, 0, 5]])
    alone, both = gene_accessibility(counts, promoters), gene_accessibility(counts, promoters, linked)
    assert alone.toarray().tolist() == [[1, 10, 0], [2, 0, 0]]
    assert both.toarray().tolist() == [[101, 10, 100], [2, 0, 0]]
    assert both.dtype == np.int32 and both.has_sorted_indices
    assert peaks_per_gene(promoters, linked).tolist() == [2, 1, 1]


def test_the_formula_holds_on_random_matrices():
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.5, (30, 50))
    promoters, linked = rng.random((50, 12)) < 0.05, rng.random((50, 12)) < 0.1
    found = gene_accessibility(*map(sparse.csr_matrix, (counts, promoters.astype(int), linked.astype(int))))
    np.testing.assert_array_equal(found.toarray(), counts @ (promoters | linked))


GENES = pd.DataFrame(
    [
        ("ENSG00000000001", "X", "chr1", 10, 20, "+", "lncRNA"),
        ("ENSG00000000002", "Y", "chr2", 30, 50, "-", "lncRNA"),
        ("ENSG00000000003", "Y", "chr3", 60, 70, "+", "protein_coding"),
        ("ENSG00000000004", "MARCHF1", "chr4", 5, 9, "+", "protein_coding"),
    ],
    columns=["gene_id", "symbol", "chrom", "start", "end", "strand", "gene_type"],
)


def test_genes_are_placed_by_id_then_symbol_then_alias():
    var = pd.DataFrame(
        {"gene_id": ["ENSG00000000002.7", "Y", "none", "MARCH1", "x"]}, index=["Old", "Y", "Z", "MARCH1", "x"]
    )
    placed = place_genes(var, GENES, pd.DataFrame({"alias": ["MARCH1"], "symbol": ["MARCHF1"]}))
    assert placed["chrom"].tolist() == ["chr2", "chr3", "", "chr4", "chr1"]
    assert placed["tss"].tolist() == [49, 60, -1, 5, 10]
    assert placed["match"].tolist() == ["id", "symbol", "no such gene", "alias", "case"]
    assert placed["gene_id"].tolist() == var["gene_id"].tolist()
    assert placed["stable_id"].tolist() == [
        "ENSG00000000002",
        "ENSG00000000003",
        "none",
        "ENSG00000000004",
        "ENSG00000000001",
    ]
    windows = pd.DataFrame(
        {"gene_id": ["ENSG00000000003", "ENSG00000000009", "ENSG00000000002"], "chrom": "c", "start": 0, "end": 1}
    )
    kept, column = windows_to_genes(windows, placed)
    assert kept["gene_id"].tolist() == ["ENSG00000000003", "ENSG00000000002"] and column.tolist() == [1, 0]
    assert place_genes(var, None)["chrom"].tolist() == [""] * 5


def test_a_gene_is_given_to_the_feature_that_matches_best():
    var = pd.DataFrame({"gene_id": ["x", "X", "retired"]}, index=["x", "X", "NA"])
    placed = place_genes(var, GENES)
    assert placed["match"].tolist() == [TAKEN, "symbol", "no such gene"]
    assert placed["stable_id"].tolist() == ["x", "ENSG00000000001", "retired"]


def test_ids_of_the_matrix_stand_where_the_annotation_has_none():
    var = pd.DataFrame({"gene_id": ["ENSG00000000007.2"]}, index=["X"])
    placed = place_genes(var, GENES.assign(gene_id=GENES["symbol"]).drop_duplicates("gene_id"))
    assert placed[["chrom", "stable_id"]].to_numpy().tolist() == [["chr1", "ENSG00000000007"]]
