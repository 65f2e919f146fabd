"""Links: distances by hand, p-values that are uniform where there is nothing, and scores that mean what they say."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData
from scipy import sparse, stats
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score

import link_peaks
from regulonformer.errors import InputError
from regulonformer.io.peaks import parse_names, peak_names
from regulonformer.io.store import read_json, write_mudata, write_parquet
from regulonformer.prior import assignment, association, links, null

SETTINGS = {"window_bp": 50_000, "distance_decay_bp": 20_000, "null_peaks": 10_000, "seed": 0}
COLUMNS = ["peak", "gene", "distance", "is_promoter", "correlation", "z", "p_value", "fdr", "proximity", "score"]
CELLS, GENES, PEAKS_PER_GENE, SPACING, PROGRAMS = 600, 240, 20, 60_000, 6


# ---- a small world: cells along a few programs, genes on chromosomes, peaks around them ------------------------------


def world(seed=0, *, linked=0.0, chromosomes=4, cells=CELLS, confounder=0.0, programs=PROGRAMS):
    """MuData, peak table, GC of peaks and truth (bool, peaks x genes).

    Cells vary along hidden programs, on which genes and peaks load at random: that alone makes no link. A share
    `linked` of the peaks loads like its nearest gene. With a `confounder`, cells differ in how well they read GC-rich
    peaks, and genes of GC-rich neighbourhoods depend on the same quality.
    """
    rng = np.random.default_rng(seed)
    per_chromosome = GENES // chromosomes
    place = np.arange(GENES)
    genes = pd.DataFrame(
        {"chrom": [f"chr{g // per_chromosome + 1}" for g in place], "strand": ["+", "-"] * (GENES // 2)}
    )
    genes["tss"] = SPACING * (place % per_chromosome + 1)
    genes.index = [f"G{g}" for g in place]
    near = np.repeat(place, PEAKS_PER_GENE)
    offset = (rng.choice((-1, 1), len(near)) * rng.exponential(12_000, len(near)).clip(0, SPACING / 2 - 600)).astype(
        int
    )
    offset[::PEAKS_PER_GENE] = 0
    start = genes["tss"].to_numpy()[near] + offset - 250
    peaks = pd.DataFrame({"chrom": genes["chrom"].to_numpy()[near], "start": start, "end": start + 500})
    unique = ~peaks.duplicated().to_numpy()
    peaks, near = peaks[unique].reset_index(drop=True), near[unique]

    state = rng.normal(size=(cells, programs))
    gene_load = rng.normal(size=(programs, GENES)) * (rng.random((programs, GENES)) < 0.5)
    peak_load = rng.normal(size=(programs, len(peaks))) * (rng.random((programs, len(peaks))) < 0.5)
    target = np.where(rng.random(len(peaks)) < linked, near, -1)
    peak_load[:, target >= 0] = gene_load[:, target[target >= 0]]
    neighbourhood = rng.normal(size=GENES)
    gc = 0.5 + 0.05 * neighbourhood[near] + 0.01 * rng.normal(size=len(peaks))
    quality = confounder * rng.normal(size=(cells, 1))
    rna = np.exp(0.4 * state @ gene_load + quality * neighbourhood + rng.normal(0, 0.7, GENES))
    atac = np.exp(0.4 * state @ peak_load + quality * (gc - 0.5) / 0.05 + rng.normal(-1, 0.5, len(peaks)))
    data = multiome(
        rng.poisson(rna), rng.poisson(atac), genes, peaks, np.repeat(["A", "B"], [cells // 2, cells - cells // 2])
    )
    truth = target[:, None] == place
    return data, peaks, gc, truth


def multiome(rna, atac, genes, peaks, samples):
    """MuData of counts, with the PCA that the workflow computes before."""
    tables = {"rna": AnnData(sparse.csr_matrix(rna.astype(np.int32)), var=genes)}
    tables["atac"] = AnnData(sparse.csr_matrix(atac.astype(np.int32)), var=peaks.set_index(peak_names(peaks)))
    shares = np.log1p(1e4 * rna / np.maximum(rna.sum(axis=1, keepdims=True), 1))
    components = min(30, *np.array(rna.shape) - 1)
    tables["rna"].obsm["X_pca"] = PCA(components, random_state=0).fit_transform(shares)
    data = MuData(tables)
    data.obs["sample"] = samples
    return data


def associate(data, peaks, gc=None, **changes):
    """Pairs with their p-values, and the summary."""
    near = links.candidate_pairs(links.gene_starts(data["rna"].var), peaks, 2 * SETTINGS["window_bp"])
    reached = near["distance"].abs() <= SETTINGS["window_bp"]
    pairs, beyond = near[reached].reset_index(drop=True), near[~reached].reset_index(drop=True)
    tail, described = link_peaks.associate(pairs, beyond, data, peaks, gc, SETTINGS | changes)
    return pairs.assign(tail=tail), described


def run(folder, data, name="links", **changes):
    """What the rule writes: table and summary."""
    files = {kind: changes.pop(kind) for kind in ("fasta", "tss") if kind in changes}
    write_mudata(data, folder / "multiome.h5mu")
    out = {"output": folder / f"{name}.parquet", "summary": folder / f"{name}.json"}
    link_peaks.main(multiome=folder / "multiome.h5mu", settings=SETTINGS | changes, **out, **files)
    return pd.read_parquet(out["output"]), read_json(out["summary"])


# ---- which pairs there are -------------------------------------------------------------------------------------------


def test_distances_promoters_and_windows_by_hand():
    genes = pd.DataFrame(
        {"chrom": ["chr1", "chr1", "", "chr2"], "tss": [10_000, 10_000, -1, 500], "strand": list("+-.+")}
    )
    peaks = pd.DataFrame({"chrom": ["chr1"] * 4 + ["chr3"], "start": [8_400, 10_499, 10_600, 14_800, 10_000]})
    peaks["end"] = [8_501, 10_699, 10_800, 15_202, 10_100]
    pairs = links.candidate_pairs(links.gene_starts(genes), peaks, 5000)
    forward, backward = (pairs[pairs["gene"] == gene].set_index("peak") for gene in (0, 1))
    assert forward["distance"].to_dict() == {0: -1550, 1: 599, 2: 700}
    assert forward["is_promoter"].to_dict() == {0: True, 1: True, 2: False}
    # On the reverse strand upstream lies to the right.
    assert backward["distance"].to_dict() == {0: 1550, 1: -599, 2: -700}
    assert backward["is_promoter"].to_dict() == {0: False, 1: True, 2: True}
    # 5,001 bp is beyond the window, chr3 has no gene, chr2 no peak, and an unplaced gene no pair.
    assert set(pairs["gene"]) == {0, 1}


def test_a_gene_has_a_promoter_at_each_of_its_starts():
    genes = pd.DataFrame({"chrom": ["chr1", "chr1", "chrX"], "tss": [10_000, 50_000, 900], "strand": ["+", "+", "-"]})
    genes["annotation_id"] = ["g1", "g2", "g3"]
    # g3 lies on X and Y (its copy there is no start of the gene on X); g2 is not in the table and keeps its own start.
    tss = pd.DataFrame({"gene_id": ["g1", "g1", "g3", "g3"], "chrom": ["chr1", "chr1", "chrX", "chrY"]})
    tss = tss.assign(tss=[10_000, 30_000, 800, 800], strand=["+", "+", "-", "-"])
    starts = links.gene_starts(genes, tss)
    assert list(zip(starts["gene"], starts["chrom"], starts["tss"], strict=True)) == [
        (0, "chr1", 10_000),
        (0, "chr1", 30_000),
        (1, "chr1", 50_000),
        (2, "chrX", 800),
    ]
    peaks = pd.DataFrame({"chrom": ["chr1"] * 2, "start": [29_800, 20_000], "end": [30_001, 20_101]})
    pairs = links.candidate_pairs(starts, peaks, 15_000).set_index(["gene", "peak"])
    # One row per pair, measured from the nearest start; peak 1 lies as far from either, and the first wins.
    assert pairs.loc[(0, 0), "is_promoter"] and pairs.loc[(0, 0), "distance"] == -100
    assert not pairs.loc[(0, 1), "is_promoter"] and pairs.loc[(0, 1), "distance"] == -9_950
    assert list(pairs.index) == [(0, 0), (0, 1)]


# ---- association -----------------------------------------------------------------------------------------------------


def test_correlation_is_pearsons_within_samples_when_nothing_is_projected_away():
    rng = np.random.default_rng(0)
    counts, samples = rng.poisson(3, (40, 8)), np.repeat(["A", "B"], 20)
    # Cells of B are read twice as deep, which normalisation takes out; feature 7 is silent.
    counts[samples == "B"] *= 2
    counts[:, 7] = 0
    basis = association.basis_of(rng.normal(size=(40, 60)), samples)
    assert basis.shape == (40, 38)
    vectors, mean = association.denoise(sparse.csr_matrix(counts), basis)
    shares = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    for sample in "AB":
        shares[samples == sample] -= shares[samples == sample].mean(axis=0)
    expected = np.corrcoef(shares[:, :7].T)
    assert vectors[:7] @ vectors[:7].T == pytest.approx(expected, abs=1e-5)
    assert not vectors[7].any() and mean == pytest.approx(counts.mean(axis=0))
    pairs = pd.DataFrame({"peak": [0, 1], "gene": [2, 7]})
    assert association.correlate(vectors, vectors, pairs) == pytest.approx([expected[0, 2], 0], abs=1e-5)


def test_projection_takes_out_the_noise_of_cells():
    """A peak and a gene of one program correlate weakly cell by cell, and strongly in the main components."""
    data, peaks, _, truth = world(12, linked=0.5)
    basis = association.basis_of(data["rna"].obsm["X_pca"][:, :PROGRAMS], data.obs["sample"])
    full = association.basis_of(np.random.default_rng(0).normal(size=(CELLS, CELLS)), data.obs["sample"])
    peak, gene = np.nonzero(truth)
    pairs = pd.DataFrame({"peak": peak, "gene": gene})
    by_cell, projected = (
        association.correlate(*(association.denoise(data[name].X, b)[0] for name in ("atac", "rna")), pairs).mean()
        for b in (full, basis)
    )
    assert projected > 3 * by_cell > 0


# ---- the null: p-values mean what they say ---------------------------------------------------------------------------


def assert_uniform(p):
    assert stats.kstest(p, "uniform").pvalue > 0.01
    for level in (0.05, 0.01, 0.001):
        # Within what so many pairs can show; four standard errors, because pairs of one gene are not independent.
        slack = 4 * np.sqrt(level / len(p))
        assert abs((p <= level).mean() - level) < max(slack, 0.25 * level)


@pytest.mark.parametrize("chromosomes", [4, 1])
@pytest.mark.parametrize("programs", [PROGRAMS, 0])
def test_p_values_are_uniform_without_links(chromosomes, programs):
    """Cell states make peaks and genes go together everywhere; where they do not link, that is no evidence."""
    data, peaks, _, _ = world(1, chromosomes=chromosomes, programs=programs)
    pairs, described = associate(data, peaks)
    assert len(pairs) > 5000
    assert_uniform(pairs["p_value"])
    assert (pairs["fdr"] < 0.05).sum() <= 1
    assert described["null"]["drawn_from"].startswith("other" if chromosomes > 1 else "the same")


def test_p_values_are_uniform_when_cells_are_permuted_within_samples():
    data, peaks, _, _ = world(2, linked=0.7)
    before, _ = associate(data, peaks)
    rng = np.random.default_rng(0)
    order = np.concatenate([rng.permutation(CELLS // 2), CELLS // 2 + rng.permutation(CELLS - CELLS // 2)])
    data.mod["rna"] = AnnData(
        data["rna"].X[order], var=data["rna"].var, obsm={"X_pca": data["rna"].obsm["X_pca"][order]}
    )
    after, _ = associate(data, peaks)
    assert_uniform(after["p_value"])
    # The same pairs say much more while the cells are in order.
    assert (before["p_value"] < 0.01).mean() > 10 * (after["p_value"] < 0.01).mean()


def test_p_values_are_not_limited_by_the_number_of_peaks():
    data, peaks, _, truth = world(3, linked=0.05, programs=40)
    pairs, described = associate(data, peaks)
    assert described["null"]["values"] > 500_000
    assert pairs["p_value"].min() < 1e-5 and (pairs["p_value"] > 0).all()
    found = pairs[pairs["fdr"] < 0.1]
    assert len(found) > 20 and truth[found["peak"], found["gene"]].mean() > 0.8


def test_matching_on_gc_takes_out_what_gc_alone_explains():
    """GC-rich peaks are read better in good cells, and genes of GC-rich neighbourhoods depend on the same cells."""
    data, peaks, gc, _ = world(4, confounder=0.6)
    without, _ = associate(data, peaks)
    matched, described = associate(data, peaks, gc)
    assert described["null"]["matched_on"] == ["accessibility", "GC"]
    assert stats.kstest(without["p_value"], "uniform").pvalue < 1e-10 and without["z"].mean() > 0.4
    assert_uniform(matched["p_value"])
    assert abs(matched["z"].mean()) < 0.1


def test_matched_peaks_are_alike():
    rng = np.random.default_rng(0)
    accessibility, gc = rng.gamma(1, size=5000), rng.normal(0.5, 0.08, 5000)
    gc[:10] = np.nan
    bins = null.matching_bins(accessibility, gc)
    assert np.bincount(bins).min() >= null.PEAKS_PER_BIN
    table = pd.DataFrame({"bin": bins, "accessibility": stats.rankdata(accessibility) / 5000, "gc": gc})
    spread = table.groupby("bin").std().mean()
    assert spread["accessibility"] < 0.2 * table["accessibility"].std() and spread["gc"] < 0.5 * table["gc"].std()
    # Few peaks make few bins, and without GC accessibility alone counts.
    assert set(null.matching_bins(accessibility[:150], gc[:150])) == {0}
    assert null.matching_bins(accessibility).max() == null.MAX_ACCESSIBILITY_BINS - 1


def test_gc_content_by_hand(tmp_path):
    import pysam

    (tmp_path / "genome.fa").write_text(">chr1\n" + "N" * 10 + "GGCCgcATAT" + "\n")
    pysam.faidx(str(tmp_path / "genome.fa"))
    peaks = pd.DataFrame({"chrom": ["chr1"] * 4 + ["chr9"], "start": [0, 5, 10, 16, 0], "end": [10, 15, 20, 40, 9]})
    assert null.gc_content(tmp_path / "genome.fa", peaks) == pytest.approx([np.nan, 1, 0.6, 0, np.nan], nan_ok=True)
    with pytest.raises(InputError, match="no peak has sequence"):
        null.gc_content(tmp_path / "genome.fa", peaks.iloc[[4]])


def test_null_values_and_new_ones_are_standardised_alike():
    """A new value of the same kind falls among the studentised null values, even of few peaks and a skewed shape."""
    rng = np.random.default_rng(0)
    values = rng.exponential(size=(4000, 31))
    usable = np.ones((4000, 30), dtype=bool)
    mean, spread, z = null._studentise(values[:, :30], usable, np.array([0]))
    new = (values[:, 30] - mean[:, 0]) / spread[:, 0]
    assert stats.ks_2samp(new, z).pvalue > 0.01
    first = (values[0, 0] - values[0, 1:30].mean()) / (values[0, 1:30].std(ddof=1) * np.sqrt(1 + 1 / 29))
    assert z[0] == pytest.approx(first)


def test_tails_count_null_values():
    counts = np.bincount(
        null._bin_of(np.arange(-1000, 1000) / 1000 + 0.0001), minlength=int(2 * null.RANGE / null.STEP)
    )
    tails = null.MatchedNull(np.zeros((1, 1)), np.ones((1, 1)), counts, np.arange(1))
    upper, lower = tails.tails(np.array([0.9001, 50.0, -50.0]))
    assert upper == pytest.approx([101 / 2001, 1 / 2001, 1]) and lower == pytest.approx([1906 / 2001, 1, 1 / 2001])
    assert tails.p_values(np.array([-50.0, 50.0, 0.0001])) == pytest.approx([2 / 2001, 2 / 2001, 1], abs=0.01)


# ---- the score: how likely a link is ---------------------------------------------------------------------------------


def choice_world(seed=0, n_peaks=4000, strength=2.0):
    """Pairs drawn from the model: each peak takes one of ten genes by distance, or none; the target's z is larger."""
    rng = np.random.default_rng(seed)
    distance = rng.uniform(1000, 50_000, (n_peaks, 10)).astype(int)
    weight = 3 * np.exp(-distance / 8000)
    share = np.column_stack([weight, np.ones(n_peaks)]) / (1 + weight.sum(axis=1, keepdims=True))
    target = (share.cumsum(axis=1) < rng.random((n_peaks, 1))).sum(axis=1)
    truth = (np.arange(10) == target[:, None]).ravel()
    z = rng.normal(size=truth.size) + strength * truth
    pairs = pd.DataFrame(
        {"peak": np.repeat(np.arange(n_peaks), 10), "distance": distance.ravel(), "is_promoter": False}
    )
    return pairs, stats.norm.sf(z), truth


def fit(pairs, tail, **changes):
    options = {"window_bp": 50_000, "decay_bp": 20_000} | changes
    return assignment.fit_links(pairs, tail, **options)


def calibration_error(score, truth, n_bins=10):
    """Expected calibration error: mean distance of score and share of truth over bins of the score."""
    level = np.minimum((score * n_bins).astype(int), n_bins - 1)
    gaps = [abs(truth[level == k].mean() - score[level == k].mean()) * (level == k).mean() for k in np.unique(level)]
    return sum(gaps)


def test_scores_are_probabilities_without_any_label():
    pairs, tail, truth = choice_world()
    model = fit(pairs, tail)
    assert calibration_error(model.posterior, truth) < 0.03
    ranking = {
        name: average_precision_score(truth, value)
        for name, value in {"score": model.posterior, "distance": -pairs["distance"], "z": -tail}.items()
    }
    assert ranking["score"] > 1.3 * max(ranking["distance"], ranking["z"])
    # Posteriors of a peak's genes leave room for none of them.
    assert (pd.Series(model.posterior).groupby(pairs["peak"]).sum() < 1).all()
    odds = model.odds.set_index("from_bp")["odds"]
    assert odds.is_monotonic_decreasing and odds.iloc[0] > 20 * odds.iloc[-1]
    assert np.all(np.diff(model.ratio["ratio"].to_numpy().reshape(2, -1)) >= 0)


def test_scores_hardly_depend_on_where_the_fit_starts():
    pairs, tail, truth = choice_world(1)
    near, far = (fit(pairs, tail, decay_bp=decay).posterior for decay in (5_000, 100_000))
    assert np.corrcoef(near, far)[0, 1] > 0.98
    assert max(calibration_error(near, truth), calibration_error(far, truth)) < 0.05


def test_without_association_the_score_is_that_of_distance():
    pairs, tail, _ = choice_world(strength=0)
    model = fit(pairs, tail)
    assert np.corrcoef(model.posterior, model.prior)[0, 1] > 0.97
    assert model.log_likelihood_gain < 0.01 * pairs["peak"].nunique()
    silent = fit(pairs, np.full(len(pairs), np.nan))
    assert (silent.posterior == silent.prior).all()


def test_own_promoters_come_first_and_those_of_others_last():
    pairs = pd.DataFrame({"peak": [0, 0, 1, 1], "distance": [100, 5000, 5000, 40_000]})
    pairs["is_promoter"] = [True, False, False, False]
    score = fit(pairs, np.full(4, 0.5)).posterior
    assert score[0] > 0.8 and score[0] > score[2] > score[3] > score[1]


def test_a_domain_that_goes_together_is_no_evidence_of_links():
    """Where pairs out of reach are as associated as those within, association says nothing."""
    rng = np.random.default_rng(0)
    matched = null.MatchedNull(np.zeros((1, 1)), np.ones((1, 1)), np.zeros(1, dtype=np.int64), np.arange(1))
    inside, outside = rng.normal(0.6, 1.2, 5000), rng.normal(0.6, 1.2, 100_000)
    assert stats.kstest(link_peaks.tail_beyond(inside, outside, matched), "uniform").pvalue > 0.01
    assert link_peaks.tail_beyond(np.array([99.0]), outside, matched) == pytest.approx(1 / 100_001)
    # With too few of them the matched null speaks.
    assert link_peaks.tail_beyond(np.array([0.0]), outside[:10], matched) == pytest.approx(0.5)


# ---- the rule, from file to file -------------------------------------------------------------------------------------


def test_planted_links_are_found_and_the_score_is_honest(tmp_path):
    data, peaks, _, truth = world(5, linked=0.6, programs=20)
    table, summary = run(tmp_path, data)
    assert list(table.columns) == COLUMNS
    row = pd.Index(peak_names(peaks)).get_indexer(table["peak"]), data["rna"].var_names.get_indexer(table["gene"])
    linked = truth[row]
    by_score, by_distance = (
        average_precision_score(linked, value) for value in (table["score"], -table["distance"].abs())
    )
    assert by_score > 1.3 * by_distance
    assert calibration_error(table["score"].to_numpy(), linked) < 0.06
    assert summary["pairs"] == len(table) and summary["null"]["matched_on"] == ["accessibility"]
    assert summary["control"]["observed_over_expected"]["0.01"] == pytest.approx(1, abs=0.35)
    assert summary["observed"]["observed_over_expected"]["0.01"] > 3
    assert sum(summary["observed"]["z_counts"]) == sum(summary["observed"]["p_counts"]) == summary["observed"]["pairs"]


def test_no_pair_spans_two_chromosomes(tmp_path):
    table, _ = run(tmp_path, world(6)[0])
    gene_chrom = ("chr" + (table["gene"].str[1:].astype(int) // (GENES // 4) + 1).astype(str)).to_numpy()
    assert (parse_names(table["peak"])["chrom"].to_numpy() == gene_chrom).all()
    assert table["distance"].abs().max() <= SETTINGS["window_bp"]


def test_same_seed_same_bytes(tmp_path):
    data = world(7, linked=0.3)[0]
    run(tmp_path, data, "one"), run(tmp_path, data, "two")
    for kind in ("parquet", "json"):
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()
    other, _ = run(tmp_path, data, "other", seed=1, null_peaks=500)
    assert (pd.read_parquet(tmp_path / "one.parquet")["p_value"] != other["p_value"]).any()


def test_with_few_cells_distance_alone_decides(tmp_path, caplog):
    table, summary = run(tmp_path, world(8, linked=0.5, cells=40)[0])
    assert (table["p_value"] == 1).all() and (table["score"] == table["proximity"]).all()
    assert "distance alone" in caplog.text and summary["null"]["values"] == 0
    promoter, far = table["is_promoter"], table["distance"].abs() > 30_000
    assert table.loc[promoter, "score"].min() > table.loc[far, "score"].max()


def test_silent_peaks_and_genes_are_counted_and_prove_nothing(tmp_path):
    data = world(9, linked=0.5)[0]
    quiet = data["atac"].X.toarray()
    quiet[:, :100] = 0
    data["atac"].X = sparse.csr_matrix(quiet)
    table, summary = run(tmp_path, data)
    silent = table["peak"].isin(data["atac"].var_names[:100])
    assert summary["null"]["silent_peaks"] == 100
    assert (table.loc[silent, "z"] == 0).all() and (table.loc[silent, "p_value"] == 1).all()
    assert (table.loc[~silent, "p_value"] < 1).mean() > 0.99
    data["atac"].X = sparse.csr_matrix(quiet.shape, dtype=np.int32)
    table, summary = run(tmp_path, data, "silent")
    assert summary["null"]["silent_peaks"] == summary["peaks"] and (table["p_value"] == 1).all()


def test_genes_without_a_place_have_no_links(tmp_path, caplog):
    data = world(10)[0]
    data["rna"].var["chrom"] = ["" if g < 100 else chrom for g, chrom in enumerate(data["rna"].var["chrom"])]
    table, summary = run(tmp_path, data)
    assert summary["genes_without_tss"] == 100 and not set(table["gene"]) & set(data["rna"].var_names[:100])
    data["rna"].var["chrom"] = ""
    table, summary = run(tmp_path, data, "unplaced")
    assert list(table.columns) == COLUMNS and len(table) == 0 == summary["pairs"]
    assert "no links" in caplog.text


def test_genome_and_starts_are_used_where_given(tmp_path):
    import pysam

    data, peaks, _, _ = world(11)
    rng = np.random.default_rng(0)
    length = SPACING * (GENES // 4 + 2)
    with open(tmp_path / "genome.fa", "w") as file:
        for number in range(1, 5):
            file.write(f">chr{number}\n{rng.choice(list(b'ACGT'), length).astype(np.uint8).tobytes().decode()}\n")
    pysam.faidx(str(tmp_path / "genome.fa"))
    data["rna"].var["gene_id"] = data["rna"].var_names
    own = data["rna"].var[["gene_id", "chrom", "tss", "strand"]].reset_index(drop=True)
    # The gene also starts in what would be its farthest element.
    other = peaks["start"][:10].max()
    write_parquet(pd.concat([own, own.iloc[:1].assign(tss=other)]), tmp_path / "tss.parquet")
    table, summary = run(tmp_path, data, fasta=tmp_path / "genome.fa", tss=tmp_path / "tss.parquet")
    assert summary["null"]["matched_on"] == ["accessibility", "GC"] and summary["tss"] == GENES + 1
    promoters = parse_names(table.loc[(table["gene"] == "G0") & table["is_promoter"], "peak"])["start"]
    at_first, at_other = promoters.between(58_000, 60_500), promoters.between(other - 2000, other + 500)
    assert at_first.any() and at_other.any() and (at_first | at_other).all()


@pytest.mark.real_data
def test_promoters_of_real_genes_go_with_their_genes(real_data):
    """One library of mouse cortex: the null holds, and peaks of a gene's own promoter are the most associated."""
    from regulonformer.io.annotation import read_genes
    from regulonformer.io.matrix import read_counts
    from regulonformer.matrices.genes import place_genes

    counts = read_counts(real_data / "multiome/mop_snareseq/09A/outs/filtered_feature_bc_matrix.h5")
    genes = place_genes(counts.rna.var, read_genes(real_data / "references/tss/simba_mm10_genes.bed"))
    samples = np.repeat("09A", counts.rna.n_obs)
    data = multiome(counts.rna.X.toarray(), counts.atac.X.toarray(), genes, parse_names(counts.atac.var_names), samples)
    pairs, described = associate(data, parse_names(counts.atac.var_names))
    assert described["control"]["observed_over_expected"]["0.01"] == pytest.approx(1, abs=0.25)
    z = pairs.groupby("is_promoter")["z"].mean()
    assert z[True] > z[False] > 0
