"""Doublets by RNA, by overlapping fragments, and by both."""

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.stats import false_discovery_control, poisson

from regulonformer.quality import doublets
from regulonformer.quality.doublets import fewest_sites, find_doublets, overlap_test

SETTINGS = {"doublets": True, "max_doublet_score": None, "max_doublet_qvalue": 0.01, "seed": 0}


def two_types(rng, n=150, genes=200):
    """Two cell types and 15 sums of one cell of each, the last 15 rows."""
    rates = rng.gamma(0.5, 4.0, (2, genes))
    singles = np.concatenate([rng.poisson(rates[0], (n, genes)), rng.poisson(rates[1], (n, genes))])
    counts = np.concatenate([singles, singles[:15] + singles[n : n + 15]])
    return anndata.AnnData(sparse.csr_matrix(counts.astype(np.int32)))


def library(rng, n=400, share=0.05, background=2e-7, dispersion=0.1):
    """Fragments and overlap sites of singlets, whose background grows with depth, and of doublets (the first ones)."""
    doublet = np.arange(n) < share * n
    fragments = rng.lognormal(8.5, 0.5, n) * np.where(doublet, 1.9, 1)
    mean = background * fragments**2
    mean = mean + doublet * 6e-7 * fragments**2
    sites = rng.poisson(mean * rng.gamma(1 / dispersion, dispersion, n))
    return sites, fragments.astype(int), doublet


def overlap_cells(sites, fragments):
    return pd.DataFrame({"n_overlap_sites": sites, "n_overlap_fragments": fragments})


def test_overlaps_find_doublets_over_a_background_that_grows_with_depth():
    runs = [library(np.random.default_rng(seed)) for seed in range(10)]
    tests = [overlap_test(sites, fragments, 0.01) for sites, fragments, _ in runs]
    hits = sum((test.called & doublet).sum() for test, (*_, doublet) in zip(tests, runs, strict=True))
    assert hits / sum(doublet.sum() for *_, doublet in runs) > 0.7
    assert hits / sum(test.called.sum() for test in tests) > 0.95
    assert np.mean([test.rate for test in tests]) == pytest.approx(2e-7, rel=0.1)
    # One Poisson mean for all depths takes deep single cells for doublets.
    plain = [false_discovery_control(poisson.sf(sites - 1, sites.mean())) <= 0.01 for sites, *_ in runs]
    plain_hits = sum((called & doublet).sum() for called, (*_, doublet) in zip(plain, runs, strict=True))
    assert plain_hits / sum(called.sum() for called in plain) < 0.7


@pytest.mark.parametrize("dispersion", [1e-9, 0.1, 0.3])
def test_without_doublets_hardly_anybody_is_called(dispersion):
    called = [
        overlap_test(*library(np.random.default_rng(seed), 400, 0, 2e-7, dispersion)[:2], 0.01).called.sum()
        for seed in range(10)
    ]
    assert np.mean(called) <= 1


def test_the_drawn_cut_is_where_calls_begin():
    sites, fragments, _ = library(np.random.default_rng(1))
    test = overlap_test(sites, fragments, 0.01)
    overlaps = {"rate": test.rate, "dispersion": test.dispersion, "p_cut": test.p_cut}
    cut = fewest_sites(fragments, overlaps)
    np.testing.assert_array_equal(sites >= cut, test.called)
    silent = {"rate": 0.0, "dispersion": 0.0, "p_cut": 0.0}
    assert fewest_sites([100, 1000], silent).tolist() == [1, 1]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 50_000)), min_size=50, max_size=120),
    st.floats(0.001, 0.2),
)
def test_every_barcode_has_a_verdict_whatever_the_counts(rows, qvalue):
    sites, fragments = map(np.array, zip(*rows, strict=True))
    test = overlap_test(sites, fragments, qvalue)
    assert len(test.qvalue) == len(rows) and ((test.qvalue >= 0) & (test.qvalue <= 1)).all()
    np.testing.assert_array_equal(test.called, test.qvalue <= qvalue)
    assert not test.called[sites == 0].any()
    found = find_doublets(overlap_cells(sites, fragments), None, SETTINGS | {"doublets": "atac"})
    assert found.called.sum().sum() <= doublets.MAX_SHARE * len(rows)
    assert found.scores.index.equals(found.called.index)
    assert len(found.notes) == 1


def test_rna_doublets_are_found_and_the_same_every_time():
    rna = two_types(np.random.default_rng(0))
    cells = pd.DataFrame(index=rna.obs_names)
    chosen = SETTINGS | {"doublets": "rna"}
    first, second = find_doublets(cells, rna, chosen), find_doublets(cells, rna, chosen)
    pd.testing.assert_frame_equal(first.scores, second.scores)
    scores = first.scores["doublet_score"].to_numpy()
    assert scores[-15:].mean() > 3 * scores[:-15].mean()
    called = find_doublets(cells, rna, chosen | {"max_doublet_score": 0.15})
    assert called.called["doublet_rna"].sum() == (scores > 0.15).sum() > 0
    assert called.limits == {"doublet_score": {"low": None, "high": 0.15}}


def test_both_signals_speak_for_themselves():
    rna = two_types(np.random.default_rng(0))
    sites = np.zeros(rna.n_obs, int)
    sites[:10] = 40
    cells = overlap_cells(sites, np.full(rna.n_obs, 3000)).set_axis(rna.obs_names)
    found = find_doublets(cells, rna, SETTINGS | {"max_doublet_score": 0.15})
    assert list(found.scores) == ["doublet_score", "doublet_qvalue"]
    assert found.called["doublet_atac"].to_numpy().nonzero()[0].tolist() == list(range(10))
    assert found.called["doublet_rna"].to_numpy()[-15:].mean() > 0.5
    assert len(found.notes) == 2 and found.overlaps["p_cut"] is not None
    alone = find_doublets(cells, rna, SETTINGS | {"doublets": "atac"})
    assert list(alone.scores) == ["doublet_qvalue"]
    pd.testing.assert_series_equal(alone.called["doublet_atac"], found.called["doublet_atac"])


@pytest.mark.parametrize(
    ("cells", "changed", "words"),
    [
        (60, {"doublets": False}, "switched off"),
        (20, {}, "fewer than 50 cells"),
        (60, {"doublets": "atac", "max_doublet_qvalue": None}, "by ATAC: switched off"),
        (60, {"doublets": "atac"}, "overlapping fragments were not counted"),
    ],
)
def test_what_was_not_done_is_said(cells, changed, words):
    found = find_doublets(pd.DataFrame(index=range(cells)), None, SETTINGS | changed)
    assert len(found.notes) == 1 and words in found.notes[0]
    assert found.called.empty and found.limits == {} and found.overlaps is None


def test_overlaps_of_an_unsorted_file_judge_nobody():
    found = find_doublets(overlap_cells([np.nan] * 60, [np.nan] * 60), None, SETTINGS | {"doublets": "atac"})
    assert found.called.empty and "not counted" in found.notes[0]


def test_signals_that_call_most_cells_are_not_used():
    # A third of the cells far above the others: tetraploid, not doublets.
    sites = np.where(np.arange(90) % 3 == 0, 300, 0)
    found = find_doublets(overlap_cells(sites, np.full(90, 2000)), None, SETTINGS | {"doublets": "atac"})
    assert found.called.empty and "none were removed" in found.notes[0]
    assert (found.scores["doublet_qvalue"] <= 0.01).sum() == 30
    scores = np.linspace(0, 1, 100)
    assert doublets._score_threshold(scores, None, 0.1)[0] is None
    assert doublets._score_threshold(scores, None, None)[0] is None
    assert doublets._score_threshold(scores, None, 0.95)[0] == 0.95
    assert doublets._score_threshold(scores, 0.1, 0.95)[0] == 0.1
