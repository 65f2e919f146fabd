"""Cell metrics, filters and the ingest of one library."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from regulonformer.errors import InputError
from regulonformer.io.fragments import write_fragments
from regulonformer.io.store import read_json, read_mudata, read_parquet
from regulonformer.quality import cells as qc
from regulonformer.quality.fragments import fragment_metrics, tss_enrichment

SETTINGS = {
    "min_genes": 100, "max_pct_mito": 20, "min_fragments": 200, "min_peaks": 50, "min_tss_enrichment": 2.0,
    "max_nucleosome_signal": 4.0, "n_mads": 5, "doublets": True, "max_doublet_score": None, "seed": 0,
}  # fmt: skip


def rna_table(counts, names=None):
    names = names or [f"Gene{i}" for i in range(np.shape(counts)[1])]
    obs = pd.DataFrame(index=[f"cell{i}" for i in range(len(counts))])
    return anndata.AnnData(sparse.csr_matrix(np.asarray(counts, np.int32)), obs=obs, var=pd.DataFrame(index=names))


@pytest.mark.parametrize("prefix", ["mt-", "MT-"])
def test_rna_metrics_by_hand(prefix):
    rna = rna_table([[1, 0, 3], [0, 0, 0]], ["A", "MTOR", f"{prefix}Nd1"])
    metrics = qc.rna_metrics(rna)
    assert metrics.to_numpy().tolist() == [[4, 2, 75.0], [0, 0, 0.0]]
    assert list(rna.var.columns) == []


def fragments_file(tmp_path, rows):
    table = pd.DataFrame(rows, columns=["chrom", "start", "end", "barcode"])
    write_fragments(table, tmp_path / "f.tsv.gz")
    return tmp_path / "f.tsv.gz"


def test_fragment_metrics_by_hand(tmp_path):
    rows = [
        ("chr1", 1000, 1100, "A"),  # nucleosome-free, in the peak
        ("chr1", 1050, 1196, "A"),  # 146 bp: nucleosome-free, in the peak
        ("chr1", 3000, 3147, "A"),  # 147 bp: mononucleosomal
        ("chr1", 3000, 3294, "A"),  # 294 bp: neither
        ("chrM", 10, 60, "A"),
        ("chr7", 10, 400, "B"),  # a chromosome without peaks
        ("chr1", 1000, 1100, "other"),
    ]
    peaks = pd.DataFrame([("chr1", 1090, 1200), ("chr1", 1095, 1300)], columns=["chrom", "start", "end"])
    cells, summary = fragment_metrics(fragments_file(tmp_path, rows), ["A", "B", "C"], peaks=peaks)
    assert cells["n_fragments"].tolist() == [4, 1, 0]
    np.testing.assert_array_equal(cells["nucleosome_signal"], [0.5, np.nan, np.nan])
    np.testing.assert_array_equal(cells["frip"], [0.5, 0.0, np.nan])
    assert "tss_enrichment" not in cells
    assert (summary["total"], summary["in_cells"], summary["mitochondrial"]) == (7, 6, 1)
    assert sum(summary["lengths"]) == 5
    assert summary["lengths"][14] == 2  # 146 and 147 bp


def test_tss_enrichment_by_hand(tmp_path):
    # 22 cuts at the start itself; 20 cuts in the outer 100 bp; flank mean 20 / 200 = 0.1 per bp.
    rows = [("chr1", 10_000, 10_001, "A")] * 11 + [("chr1", 8_000 + i, 8_001 + i, "A") for i in range(10)]
    tss = pd.DataFrame({"chrom": ["chr1"], "tss": [10_000], "strand": ["+"]})
    cells, _ = fragment_metrics(fragments_file(tmp_path, rows), ["A", "B"], tss=tss)
    # Smoothed over 11 bp the summit is 22 / 11 = 2 per bp.
    np.testing.assert_allclose(cells["tss_enrichment"], [2 / (0.1 + 0.1), 0.0])


def test_tss_pile_up_follows_the_strand_and_reaches_2000_bp(tmp_path):
    rows = [("chr1", 10_100, 10_101, "A")]
    for strand, at in (("+", 2100), ("-", 1900)):
        tss = pd.DataFrame({"chrom": ["chr1"], "tss": [10_000], "strand": [strand]})
        _, summary = fragment_metrics(fragments_file(tmp_path, rows), ["A"], tss=tss)
        assert int(np.argmax(summary["tss_profile"])) * 10 == at
    far = pd.DataFrame({"chrom": ["chr1", "chr2"], "tss": [12_101, 10_100], "strand": ["+", "+"]})
    cells, _ = fragment_metrics(fragments_file(tmp_path, rows), ["A"], tss=far)
    assert cells["tss_enrichment"].tolist() == [0.0]


def test_flat_pile_up_has_no_enrichment():
    flat = sparse.csr_matrix(np.full((1, 4001), 10))
    np.testing.assert_allclose(tss_enrichment(flat), 10 / 10.1)


def test_mad_limits_by_hand():
    values = np.expm1([1.0, 2.0, 3.0, 4.0, 5.0])  # median 3, MAD 1 on the log scale
    low, high = qc.mad_limits(values, 1.0)
    scaled = 1 / 0.6744897501960817
    np.testing.assert_allclose(np.log1p([low, high]), [3 - scaled, 3 + scaled])
    assert qc.mad_limits(np.ones(5), 5) == (-np.inf, np.inf)
    assert qc.mad_limits(np.array([]), 5) == (-np.inf, np.inf)


def metrics_table(n=100):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "n_counts_rna": rng.lognormal(8, 0.3, n).astype(int),
            "n_genes": rng.lognormal(7, 0.2, n).astype(int),
            "pct_mito": 5.0,
            "n_fragments": rng.lognormal(8, 0.3, n).astype(int),
            "tss_enrichment": 8.0,
            "nucleosome_signal": 1.0,
        }
    )


def test_every_barcode_keeps_its_reasons():
    cells = metrics_table()
    cells.loc[0, "n_genes"] = 5
    cells.loc[1, ["pct_mito", "tss_enrichment"]] = [50, 1.0]
    cells.loc[2, "n_fragments"] = 10
    cells.loc[3, "nucleosome_signal"] = 9
    cells.loc[4, "n_counts_rna"] = 10_000_000
    cells.loc[5, "nucleosome_signal"] = np.nan
    reasons, limits = qc.flag_cells(cells, SETTINGS)
    assert reasons.iloc[0] == "low_genes"
    assert reasons.iloc[1] == "high_mito,low_tss"
    assert reasons.iloc[2] == "low_fragments"
    assert reasons.iloc[3] == "high_nucleosome"
    assert reasons.iloc[4] == "high_counts_rna"
    assert (reasons.iloc[5:] == "").all()
    assert limits["pct_mito"] == {"low": None, "high": 20}
    assert limits["n_genes"]["low"] >= 100
    assert limits["n_genes"]["high"] > cells["n_genes"].max()
    assert qc.count_reasons(reasons) == {
        "high_counts_rna": 1, "high_mito": 1, "high_nucleosome": 1, "low_fragments": 1, "low_genes": 1, "low_tss": 1,
    }  # fmt: skip


def test_null_switches_a_filter_off():
    cells = metrics_table().assign(pct_mito=90.0)
    off = dict.fromkeys(SETTINGS)
    reasons, limits = qc.flag_cells(cells, off)
    assert (reasons == "").all()
    assert limits == {}


def test_peaks_are_judged_only_without_fragments():
    cells = metrics_table().assign(n_peaks=1, n_counts_atac=1)
    reasons, _ = qc.flag_cells(cells, SETTINGS)
    assert (reasons == "").all()
    reasons, _ = qc.flag_cells(cells.drop(columns="n_fragments"), SETTINGS)
    assert (reasons == "low_peaks").all()


def two_types(rng, n=150, genes=200):
    """Two cell types and 15 sums of one cell of each."""
    rates = rng.gamma(0.5, 4.0, (2, genes))
    singles = np.concatenate([rng.poisson(rates[0], (n, genes)), rng.poisson(rates[1], (n, genes))])
    doublets = singles[:15] + singles[n : n + 15]
    return rna_table(np.concatenate([singles, doublets]))


def test_doublets_are_found_and_the_same_every_time():
    rna = two_types(np.random.default_rng(0))
    cells = qc.rna_metrics(rna)
    settings = dict.fromkeys(SETTINGS) | {"doublets": True, "seed": 0}
    first, second = qc.judge_cells(cells, rna, settings), qc.judge_cells(cells, rna, settings)
    pd.testing.assert_frame_equal(first.cells, second.cells)
    scores = first.cells["doublet_score"].to_numpy()
    assert scores[-15:].mean() > 3 * scores[:-15].mean()
    called = qc.judge_cells(cells, rna, settings | {"max_doublet_score": 0.15})
    assert (called.cells["reason"] == "doublet").sum() == (scores > 0.15).sum() > 0
    assert called.limits["doublet_score"] == {"low": None, "high": 0.15}


def test_doublets_of_few_cells_and_switched_off():
    rna = rna_table(np.random.default_rng(0).poisson(1, (20, 30)))
    cells = qc.rna_metrics(rna)
    few = qc.judge_cells(cells, rna, dict.fromkeys(SETTINGS) | {"doublets": True, "seed": 0})
    assert "fewer than 50 cells" in few.notes[0]
    assert "doublet_score" not in few.cells
    off = qc.judge_cells(cells, rna, dict.fromkeys(SETTINGS) | {"doublets": False})
    assert off.notes == ["doublets: switched off"]


def test_an_absurd_automatic_threshold_is_not_used():
    scores = np.linspace(0, 1, 100)
    assert qc._doublet_threshold(scores, None, 0.1)[0] is None
    assert qc._doublet_threshold(scores, None, None)[0] is None
    assert qc._doublet_threshold(scores, None, 0.95)[0] == 0.95
    assert qc._doublet_threshold(scores, 0.1, 0.95)[0] == 0.1


@pytest.mark.real_data
def test_ingest_of_a_real_library(real_data, tmp_path):
    import ingest_sample

    outs = real_data / "multiome/mop_snareseq/09A/outs"
    files = {f"output_{name}": tmp_path / name for name in ("mudata", "cells", "qc")}
    files["output_mudata"] = tmp_path / "09A.h5mu"
    arguments = {"matrix_h5": outs / "filtered_feature_bc_matrix.h5", "peaks": outs / "atac_peaks.bed"}
    arguments |= {"labels": real_data / "multiome/mop_snareseq/labels.tsv", "sample": {"sample": "09A", "age": "adult"}}
    settings = SETTINGS | {"min_genes": 30, "min_peaks": 20}
    ingest_sample.main(**arguments, settings=settings, **files)
    data, cells, verdict = (
        read_mudata(files["output_mudata"]),
        read_parquet(files["output_cells"]),
        read_json(files["output_qc"]),
    )
    assert len(cells) == verdict["cells_in"] == 813
    assert verdict["cells_kept"] == data.n_obs == (cells["reason"] == "").sum() > 700
    assert data["rna"].obs_names.tolist() == data["atac"].obs_names.tolist() == data.obs_names.tolist()
    assert (data.obs["cell_type_fine"] != "").all()
    assert (data.obs["n_genes"] == np.diff(data["rna"].X.indptr)).all()
    first = files["output_mudata"].read_bytes()
    ingest_sample.main(**arguments, settings=settings, **files)
    assert files["output_mudata"].read_bytes() == first
    with pytest.raises(InputError, match="no cell passes the filters"):
        ingest_sample.main(**arguments, settings=settings | {"min_genes": 100_000}, **files)
