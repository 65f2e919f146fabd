"""The examples on real data: K562 and PBMC as they are, MOp with three of its libraries and few steps."""

import gzip
import json
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import yaml

from regulonformer.io.store import read_mudata

pytestmark = pytest.mark.real_data


def run_example(checkout, name, real_data, change=lambda settings: None):
    """Run an example config, changed for a test, and return its results folder."""
    settings = yaml.safe_load((checkout.root / f"config/examples/{name}.yaml").read_text())
    change(settings)
    config = checkout.root / f"{name}.yaml"
    config.write_text(yaml.safe_dump(settings))
    checkout.snakemake("--configfile", config, timeout=900, REGULONFORMER_DATA=str(real_data))
    return checkout.root / "results" / name


def naive_counts(fragments, peaks, barcodes):
    """Fragments per cell and peak, one fragment and one peak at a time."""
    counts, wanted = Counter(), set(barcodes)
    with gzip.open(fragments, "rt") as lines:
        for line in lines:
            if line.startswith("#"):
                continue
            chrom, start, end, barcode, *_ = line.rstrip("\n").split("\t")
            if barcode in wanted:
                for peak_chrom, peak_start, peak_end in peaks:
                    if chrom == peak_chrom and int(start) < peak_end and int(end) > peak_start:
                        counts[barcode, f"{peak_chrom}-{peak_start}-{peak_end}"] += 1
    return counts


@pytest.mark.skipif(
    shutil.which("macs3") is None
    and subprocess.run([sys.executable, "-c", "import MACS3"], capture_output=True).returncode != 0,
    reason="MACS3 is not installed: make macs3",
)
def test_k562_calls_peaks_and_counts_as_a_naive_reference_does(checkout, real_data):
    results = run_example(checkout, "k562_chr22p", real_data)
    counted = read_mudata(results / "features/counts/k562.h5mu")
    atac = counted["atac"]
    bed = pd.read_csv(results / "features/peaks.bed", sep="\t", header=None)
    peaks = list(bed[[0, 1, 2]].itertuples(index=False, name=None))
    # This end of chr22 is mostly blacklisted; what is left is little, and what went is counted.
    summary = json.loads((results / "features/peaks.json").read_text())
    assert len(peaks) == summary["n_consensus"] >= 5
    assert summary["removed_blacklist"] > 0
    fragments = real_data / "multiome/k562_chr22p/outs/atac_fragments.tsv.gz"
    barcodes = counted.obs["barcode"].to_numpy()
    expected = naive_counts(fragments, peaks, barcodes)
    matrix = atac.X.tocoo()
    names = atac.var_names.to_numpy()
    found = {(barcodes[i], names[j]): n for i, j, n in zip(matrix.row, matrix.col, matrix.data, strict=True)}
    assert found == dict(expected)
    assert sum(found.values()) > 100
    assert (results / "report/report.html").is_file()


def test_pbmc_goes_through_at_full_width(checkout, real_data):
    tfs = (real_data / "references/tf_lists/scenicprotocol_allTFs_hg38.txt").read_text().splitlines()
    (checkout.root / "tfs.txt").write_text("\n".join(tfs[::8]))

    def judge_by_crispr(settings):
        # All genes and peaks, but an eighth of the TFs: regulons are built seven times.
        settings["reference"]["tfs"] = str(checkout.root / "tfs.txt")
        settings["pretrain"] |= {"steps": 4, "model": {"width": 16, "layers": ["regulon", "explorer"]}}
        settings["grn"]["elements"] = str(real_data / "references/EPCrisprBenchmark_ensemble_data_GRCh38.tsv.gz")

    results = run_example(checkout, "pbmc_40cells", real_data, judge_by_crispr)
    data = read_mudata(results / "features/multiome.h5mu")
    assert data["rna"].n_vars == 36_601
    assert data["atac"].n_vars == 108_377
    import anndata

    embedding = anndata.read_h5ad(results / "embed/regulon.h5ad")
    assert embedding.n_obs == 40
    assert np.isfinite(embedding.X).all()
    # Blood cells share peaks with the K562 of the benchmark. Of 40 cells distance is all that links rest on: they are
    # as good as distance, far above chance, and say so honestly.
    scores = pd.read_csv(results / "evaluate/grn.tsv", sep="\t")
    tested = scores[(scores["dataset"] == "pbmc_40cells: CRE-gene, tested elements") & (scores["metric"] == "auprc")]
    auprc = tested.set_index("method")["value"]
    assert auprc["regulonformer (regulons)"] > 0.9 * auprc["distance only"] > 2 * auprc["random"]
    levels = pd.read_csv(results / "evaluate/grn_reliability.tsv", sep="\t")
    assert 1000 < levels.loc[levels["dataset"].str.endswith("tested elements"), "pairs"].sum() < 10_356


def test_mop_is_judged_on_libraries_held_out(checkout, real_data):
    def shrink(settings):
        sheet = pd.read_csv(checkout.root / settings["samples"], sep="\t")
        settings["samples"] = str(checkout.root / "three.tsv")
        sheet.head(3).to_csv(settings["samples"], sep="\t", index=False)
        settings["pretrain"] |= {"steps": 20, "model": {"width": 16, "layers": ["regulon", "explorer"]}}
        settings["finetune"] = {"epochs": 1}
        settings["splits"]["seeds"] = [0]
        settings["explain"] = {"cells_per_class": 3, "steps": 8}
        settings["grn"] |= {"trees": False, "draws": 2}

    results = run_example(checkout, "mop_snareseq", real_data, shrink)
    table = pd.read_csv(results / "evaluate/annotation.tsv", sep="\t")
    pooled = table[(table["fold"] == "pooled") & (table["metric"] == "accuracy")].set_index("method")["value"]
    ours = pooled[pooled.index.str.startswith("regulonformer")].iloc[0]
    assert ours > pooled[pooled.index.str.contains("majority")].iloc[0]
    predictions = pd.concat(map(pd.read_parquet, results.glob("finetune/*/regulon/*/predictions.parquet")))
    assert predictions.groupby("sample")["fold"].nunique().eq(1).all()
    assert predictions["sample"].nunique() == 3
    assert (results / "report/report.html").is_file()
