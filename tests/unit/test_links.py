"""Links: distances by hand, planted links, and p-values that are uniform where there is nothing."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData
from scipy import sparse, stats

import link_peaks
from regulonformer.io.peaks import parse_names
from regulonformer.io.store import write_mudata
from regulonformer.prior import links, metacells

SETTINGS = {"window_bp": 100_000, "distance_decay_bp": 50_000, "metacell_size": 10, "null_peaks": 1000, "seed": 0}
N_CELLS, N_GENES, PEAKS_PER_GENE, N_CHROMOSOMES = 900, 60, 5, 3


def simulate(folder, planted=()):
    """Genes 1 Mb apart with a few peaks each; cells vary along hidden factors, planted pairs share one of their own."""
    rng = np.random.default_rng(0)
    chrom = [f"chr{1 + g % N_CHROMOSOMES}" for g in range(N_GENES)]
    tss = 1_000_000 * (1 + np.arange(N_GENES))
    var = pd.DataFrame(
        {"chrom": chrom, "tss": tss, "strand": ["+", "-"] * (N_GENES // 2)}, index=[f"G{g}" for g in range(N_GENES)]
    )
    starts = (tss[:, None] + np.linspace(-80_000, 80_000, PEAKS_PER_GENE).astype(int) - 250).ravel()
    names = [f"{chrom[i // PEAKS_PER_GENE]}-{start}-{start + 500}" for i, start in enumerate(starts)]
    types = rng.normal(size=(N_CELLS, 3))
    rna_rate = np.exp(0.5 * types @ rng.normal(size=(3, N_GENES)))
    atac_rate = 0.3 * np.exp(0.5 * types @ rng.normal(size=(3, len(names))))
    embedding = [types]
    for gene, peak in planted:
        own = rng.normal(size=N_CELLS)
        rna_rate[:, gene], atac_rate[:, peak] = np.exp(own), 0.5 * np.exp(own)
        embedding.append(own[:, None])
    rna = AnnData(sparse.csr_matrix(rng.poisson(rna_rate).astype(np.int32)), var=var)
    rna.obsm["X_pca"] = np.hstack(embedding)
    atac = AnnData(
        sparse.csr_matrix(rng.poisson(atac_rate).astype(np.int32)), var=parse_names(names).set_index(pd.Index(names))
    )
    data = MuData({"rna": rna, "atac": atac})
    data.obs["sample"] = np.where(np.arange(N_CELLS) < N_CELLS // 2, "A", "B")
    write_mudata(data, folder / "multiome.h5mu")
    return folder / "multiome.h5mu", names


def run(multiome, output, **changes):
    link_peaks.main(multiome=multiome, settings=SETTINGS | changes, output=output)
    return pd.read_parquet(output)


def test_distances_promoters_and_windows_by_hand():
    genes = pd.DataFrame(
        {"chrom": ["chr1", "chr1", "", "chr2"], "tss": [10_000, 10_000, -1, 500], "strand": ["+", "-", "", "+"]}
    )
    peaks = pd.DataFrame(
        {
            "chrom": ["chr1", "chr1", "chr1", "chr1", "chr3"],
            "start": [8_400, 10_499, 10_600, 14_800, 10_000],
            "end": [8_501, 10_699, 10_800, 15_202, 10_100],
        }
    )
    pairs = links.candidate_pairs(genes, peaks, 5000)
    forward, backward = (pairs[pairs["gene"] == gene].set_index("peak") for gene in (0, 1))
    assert forward["distance"].to_dict() == {0: -1550, 1: 599, 2: 700}
    assert forward["is_promoter"].to_dict() == {0: True, 1: True, 2: False}
    # On the reverse strand upstream lies to the right.
    assert backward["distance"].to_dict() == {0: 1550, 1: -599, 2: -700}
    assert backward["is_promoter"].to_dict() == {0: False, 1: True, 2: True}
    # 5,001 bp is beyond the window, chr3 has no gene, chr2 no peak, and an unplaced gene no pair.
    assert set(pairs["gene"]) == {0, 1}
    assert len(links.candidate_pairs(genes.iloc[2:], peaks, 5000)) == 0


def test_planted_link_has_the_lowest_p_value_of_its_gene(tmp_path):
    multiome, names = simulate(tmp_path, planted=[(7, 7 * PEAKS_PER_GENE + 4)])
    table = run(multiome, tmp_path / "links.parquet")
    own = table[table["gene"] == "G7"].set_index("peak")
    planted = names[7 * PEAKS_PER_GENE + 4]
    assert len(own) == PEAKS_PER_GENE
    assert own.loc[planted, "p_value"] < 0.01 and own.loc[planted, "correlation"] > 0.5
    assert own["p_value"].idxmin() == planted and own["score"].drop(planted).max() < 1
    # The gene lies on the reverse strand, the peak to its right.
    assert own.loc[planted, "distance"] == -80_000
    assert list(table.columns) == ["peak", "gene", "distance", "is_promoter", "correlation", "score", "p_value"]


@pytest.mark.parametrize("n_chromosomes", [3, 1])
def test_p_values_are_uniform_without_links(tmp_path, monkeypatch, n_chromosomes):
    monkeypatch.setattr(f"{__name__}.N_CHROMOSOMES", n_chromosomes)
    table = run(simulate(tmp_path)[0], tmp_path / "links.parquet")
    assert len(table) == N_GENES * PEAKS_PER_GENE
    assert stats.kstest(table["p_value"], "uniform").pvalue > 0.01
    assert 0.01 < (table["p_value"] < 0.05).mean() < 0.1


def test_same_seed_same_bytes(tmp_path):
    multiome, _ = simulate(tmp_path)
    one, two = run(multiome, tmp_path / "one.parquet"), run(multiome, tmp_path / "two.parquet")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    other = run(multiome, tmp_path / "other.parquet", seed=1, null_peaks=100)
    assert (one["p_value"] != other["p_value"]).any() and one.equals(two)


def test_p_values_without_unrelated_peaks_come_from_the_t_distribution():
    genes = pd.DataFrame({"chrom": ["chr1"], "tss": [1000], "strand": ["+"]})
    peaks = pd.DataFrame({"chrom": ["chr1"] * 2, "start": [900, 5000], "end": [1100, 5200]})
    rng = np.random.default_rng(0)
    profiles = metacells.standardise(rng.normal(size=(60, 3)), np.repeat("A", 60))
    pairs = links.candidate_pairs(genes, peaks, 10_000)
    pairs["correlation"] = links.pair_correlations(profiles[:2], profiles[2:], pairs)
    p_values, n_parametric = links.empirical_p_values(
        pairs,
        peaks,
        genes,
        profiles[:2],
        profiles[2:],
        np.ones(2),
        window_bp=10_000,
        null_peaks=100,
        n_free=58,
        rng=rng,
    )
    expected = [stats.pearsonr(profiles[i], profiles[2]).pvalue for i in range(2)]
    assert n_parametric == 2 and p_values == pytest.approx(expected, rel=1e-4)


def test_scores_fall_with_distance_and_p_value():
    score = links.link_scores(
        np.array([0, 50_000, 50_000, 0]), np.array([True, False, False, True]), np.array([1e-4, 1e-4, 0.5, 1]), 50_000
    )
    assert score[0] == 1 and score[1] == pytest.approx(np.exp(-0.5)) and score[2] < score[1]
    assert score[3] == pytest.approx(np.sqrt(links.LEAST_ASSOCIATION))


def test_metacells_are_even_pure_in_sample_and_fall_back_to_cells():
    rng = np.random.default_rng(0)
    samples = np.array(["A"] * 730 + ["B"] * 410)
    label = metacells.group_cells(rng.normal(size=(1140, 5)), samples, 20)
    sizes = np.bincount(label)
    assert sizes.min() >= 18 and sizes.max() <= 22
    assert all(len(set(samples[label == m])) == 1 for m in range(len(sizes)))
    assert sorted(metacells.group_cells(rng.normal(size=(40, 5)), np.repeat("A", 40), 20)) == list(range(40))


def test_sample_differences_do_not_correlate():
    rng = np.random.default_rng(0)
    sample = np.repeat(["A", "B"], 100)
    shift = np.where(sample == "A", 0, 5)[:, None]
    profiles = metacells.standardise(rng.normal(size=(200, 2)) + shift, sample)
    assert abs(profiles[0] @ profiles[1]) < 0.2
    assert not metacells.standardise(np.ones((50, 1)) * 3.3, np.repeat("A", 50)).any()
