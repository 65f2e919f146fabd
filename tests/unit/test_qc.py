"""Cell metrics, filters and the ingest of one library."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from regulonformer.errors import InputError
from regulonformer.io.metadata import RESERVED_COLUMNS
from regulonformer.io.store import read_json, read_mudata, read_parquet
from regulonformer.quality import cells as qc

ROOT = Path(__file__).parents[2]
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
    assert metrics["n_counts_rna"].tolist() == [4, 0] and metrics["n_genes"].tolist() == [2, 0]
    assert metrics["pct_mito"].tolist() == [75.0, 0.0] and metrics["pct_ribo"].tolist() == [0.0, 0.0]
    assert list(rna.var.columns) == []


def test_ribosomal_share_counts_proteins_of_the_ribosome_only():
    ribosomal = ["RPS6", "RPL10A", "Rpl36al", "RPLP0", "RPSA", "RPS4Y1", "rps27a", "RPL22L1", "RPS4X"]
    others = ["RPS6KA1", "RPS6KB2", "RPS19BP1", "MRPL12", "RPLX", "RPL3P4", "RPE65", "MRPS2"]
    rna = rna_table(
        [[2] * len(ribosomal) + [0] * len(others), [1] * (len(ribosomal) + len(others))], ribosomal + others
    )
    expected = [100.0, 100 * len(ribosomal) / (len(ribosomal) + len(others))]
    np.testing.assert_allclose(qc.rna_metrics(rna)["pct_ribo"], expected)


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


reason_metrics = st.fixed_dictionaries(
    {
        "n_counts_rna": st.integers(0, 20_000),
        "n_genes": st.integers(0, 5_000),
        "pct_mito": st.floats(0, 100),
        "pct_ribo": st.floats(0, 100),
        "n_fragments": st.integers(0, 20_000),
        "tss_enrichment": st.floats(0, 30),
        "frip": st.one_of(st.floats(0, 1), st.just(np.nan)),
        "blacklist_share": st.one_of(st.floats(0, 1), st.just(np.nan)),
        "duplication_fragments": st.one_of(st.floats(0, 1), st.just(np.nan)),
    }
)


@settings(deadline=None)
@given(
    st.lists(reason_metrics, min_size=1, max_size=60),
    st.one_of(st.none(), st.floats(0.5, 10)),
    st.dictionaries(st.sampled_from(["pct_mito", "frip", "n_genes"]), st.one_of(st.none(), st.floats(0.5, 5))),
)
def test_no_barcode_is_lost_and_every_verdict_follows_from_the_limits(rows, n_mads, outliers):
    cells = pd.DataFrame(rows)
    limits_given = {"max_pct_ribo": 40, "min_frip": 0.2, "max_blacklist_share": 0.1, "max_duplication": 0.8}
    reasons, limits = qc.flag_cells(cells, SETTINGS | limits_given | {"n_mads": n_mads, "outliers": outliers})
    assert reasons.index.equals(cells.index)
    beyond = np.zeros(len(cells), bool)
    for metric, cut in limits.items():
        assert set(cut) == {"low", "high"} and cut != {"low": None, "high": None}
        values = cells[metric].to_numpy(float)
        beyond |= (values < (-np.inf if cut["low"] is None else cut["low"])) | (
            values > (np.inf if cut["high"] is None else cut["high"])
        )
    # The limits that the report draws explain every verdict.
    assert ((reasons != "").to_numpy() == beyond).all()
    counts = qc.count_reasons(reasons)
    assert sum(counts.values()) == sum(len(reason.split(",")) for reason in reasons if reason)
    assert (reasons == "").sum() + (reasons != "").sum() == len(cells)


def test_a_metric_can_have_its_own_number_of_deviations():
    cells = metrics_table().assign(pct_mito=np.linspace(1, 5, 100))
    cells.loc[0, "pct_mito"] = 15.0
    assert (qc.flag_cells(cells, SETTINGS)[0] == "").all()
    reasons, limits = qc.flag_cells(cells, SETTINGS | {"outliers": {"pct_mito": 3}})
    assert reasons.iloc[0] == "high_mito" and (reasons.iloc[1:] == "").all()
    # Little mitochondrial RNA is no fault, and shares are judged as they are, not on the log scale.
    assert limits["pct_mito"]["low"] is None
    assert limits["pct_mito"]["high"] == pytest.approx(qc.mad_limits(cells["pct_mito"].to_numpy(), 3, log=False)[1])
    reasons, limits = qc.flag_cells(cells, SETTINGS | {"outliers": {"n_genes": None}})
    assert limits["n_genes"] == {"low": 100, "high": None}


def test_schema_knows_every_metric_and_every_limit():
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())["properties"]["ingest"]
    assert schema["properties"]["outliers"]["propertyNames"]["enum"] == [metric.name for metric in qc.METRICS]
    named = {setting for metric in qc.METRICS for setting in metric.settings.values() if setting}
    limits = {key for key in schema["properties"] if key.startswith(("min_", "max_")) and "doublet" not in key}
    assert named == limits


def test_every_cell_keeps_its_metrics_and_both_kinds_of_doublet():
    rng = np.random.default_rng(1)
    cells = metrics_table().assign(n_overlap_sites=0)
    cells["n_overlap_fragments"] = cells["n_fragments"]
    cells.loc[[3, 4], "n_overlap_sites"] = 80
    cells.loc[4, "n_genes"] = 5
    rna = rna_table(rng.poisson(1, (len(cells), 50)))
    judged = qc.judge_cells(cells, rna, SETTINGS | {"doublets": "atac", "max_doublet_qvalue": 0.01})
    pd.testing.assert_frame_equal(judged.cells[cells.columns], cells)
    assert judged.cells.loc[[3, 4], "reason"].tolist() == ["doublet_atac", "low_genes"]
    # Doublets are sought among the barcodes that passed everything else.
    assert np.isnan(judged.cells.loc[4, "doublet_qvalue"]) and judged.cells.loc[3, "doublet_qvalue"] < 0.01
    assert judged.limits["doublet_qvalue"] == {"low": 0.01, "high": None}


def test_every_column_that_the_ingest_writes_is_reserved():
    """Cells of the sample sheet and the labels must never take the name of a measurement."""
    assert {metric.name for metric in qc.METRICS} <= set(RESERVED_COLUMNS)


def test_labels_named_like_metrics_pass_the_ingest(tmp_path):
    """Seurat's or scanpy's metadata, handed in as labels, has columns of the same names."""
    import ingest_sample

    rng = np.random.default_rng(0)
    rna = rna_table(rng.poisson(1, (60, 50)))
    rna.write_h5ad(tmp_path / "s.h5ad")
    labels = pd.DataFrame({"barcode": rna.obs_names, "reason": "old", "cell": "x", "_index": "y", "n_genes": "7"})
    labels.to_csv(tmp_path / "labels.tsv", sep="\t", index=False)
    files = {"output_mudata": tmp_path / "s.h5mu", "output_cells": tmp_path / "c", "output_qc": tmp_path / "q"}
    settings = SETTINGS | {"min_genes": 5, "min_umis": 5, "doublets": False}
    sample = {"sample": "s", "frip": "0.2"}
    ingest_sample.main(
        matrix=tmp_path / "s.h5ad", labels=tmp_path / "labels.tsv", sample=sample, settings=settings, **files
    )
    cells, notes = read_parquet(files["output_cells"]), read_json(files["output_qc"])["notes"]
    assert set(cells["label_reason"]) == {"old"} and set(cells["label_n_genes"]) == {"7"}
    assert cells["n_genes"].max() > 7 and (cells["reason"] != "old").all() and set(cells["label_frip"]) == {"0.2"}
    assert sum("is stored as" in note for note in notes) == 5
    assert read_mudata(files["output_mudata"]).obs["label__index"].iloc[0] == "y"


@pytest.mark.real_data
def test_ingest_of_a_real_library(real_data, tmp_path):
    import ingest_sample

    outs = real_data / "multiome/mop_snareseq/09A/outs"
    files = {f"output_{name}": tmp_path / name for name in ("mudata", "cells", "qc")}
    files["output_mudata"] = tmp_path / "09A.h5mu"
    arguments = {"matrix": outs / "filtered_feature_bc_matrix.h5", "peaks": outs / "atac_peaks.bed"}
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
