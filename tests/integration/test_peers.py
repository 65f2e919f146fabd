"""Counts and quality of fragments agree with SnapATAC2, which runs in an environment of its own (`make peers`)."""

import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from regulonformer.config.schema import check_settings, read_yaml
from regulonformer.features import count_fragments
from regulonformer.io.annotation import read_tss
from regulonformer.io.fragments import COLUMNS, MITOCHONDRIA, write_fragments
from regulonformer.io.peaks import merge_overlapping, read_bed
from regulonformer.quality.fragments import fragment_metrics

ROOT = Path(__file__).parents[2]
REAL = [
    "fragments/bpcells_mini_fragments.tsv.gz",
    "fragments/czi_fragments.tsv.gz",
    "fragments/snapatac2_fragments_clean.tsv.gz",
    "multiome/k562_chr22p/outs/atac_fragments.tsv.gz",
]


def write_gtf(tss: pd.DataFrame, path: Path) -> None:
    """Write a transcript of one base per start."""
    line = '{chrom}\tx\ttranscript\t{at}\t{at}\t.\t{strand}\t.\tgene_id "{i}"; gene_name "{i}"; transcript_id "{i}";\n'
    with open(path, "w") as handle:
        for i, (chrom, start, strand) in enumerate(tss[["chrom", "tss", "strand"]].itertuples(index=False)):
            handle.write(line.format(chrom=chrom, at=start + 1, strand=strand, i=i))


def by_snapatac2(peer, folder: Path, barcodes, peaks: pd.DataFrame, tss: pd.DataFrame, sizes) -> dict:
    """Counts by strategy, and metrics, as a table by barcode, of the fragments in the folder."""
    (folder / "barcodes.txt").write_text("\n".join(barcodes))
    (folder / "sizes.tsv").write_text("\n".join(f"{name}\t{size}" for name, size in sizes.items()))
    peaks.to_csv(folder / "peaks.bed", sep="\t", header=False, index=False)
    write_gtf(tss, folder / "tss.gtf")
    files = [folder / name for name in ("f.tsv.gz", "barcodes.txt", "peaks.bed", "sizes.tsv", "peer.npz")]
    command = [peer, ROOT / "benchmarks/peer_snapatac2.py", *files, "--gtf", folder / "tss.gtf", "--strategies"]
    subprocess.run([*command, "fragment", "insertion"], check=True, capture_output=True)
    with np.load(folder / "peer.npz") as found:
        names, result = list(found["barcodes"]), {}
        for strategy in ("fragment", "insertion"):
            parts = tuple(found[f"{strategy}_{part}"] for part in ("data", "indices", "indptr"))
            counts = sparse.csr_matrix(parts, shape=(len(names), len(peaks))).toarray()
            result[strategy] = pd.DataFrame(counts, index=names)
        metrics = {f"peer_{name}": found[name] for name in ("tsse", "frip", "n_fragment", "frac_dup")}
        return result | {"cells": pd.DataFrame(metrics, index=names)}


def assert_agreement(peer, folder: Path, peaks: pd.DataFrame, tss: pd.DataFrame, table: pd.DataFrame) -> None:
    """Compare counts and metrics of the fragments in a table."""
    write_fragments(table, folder / "f.tsv.gz")
    barcodes, sizes = sorted(table["barcode"].unique()), table.groupby("chrom")["end"].max() + 10_000
    theirs = by_snapatac2(peer, folder, barcodes, peaks, tss, sizes)
    order = list(theirs["cells"].index)
    assert sorted(order) == barcodes
    for strategy in ("fragment", "insertion"):
        counts = count_fragments(folder / "f.tsv.gz", peaks, order, strategy=strategy, threads=2)
        assert counts.sum() > 50
        np.testing.assert_array_equal(counts.toarray(), theirs[strategy].to_numpy())
    ours = fragment_metrics(folder / "f.tsv.gz", order, tss=tss, peaks=peaks).cells
    cells = ours.join(theirs["cells"])
    np.testing.assert_array_equal(cells["n_fragments"], cells["peer_n_fragment"])
    cells = cells[cells["n_fragments"] > 0]
    for name, other in (("tss_enrichment", "peer_tsse"), ("frip", "peer_frip")):
        assert cells[name].std() > 0
        assert np.corrcoef(cells[name], cells[other])[0, 1] > 0.99
        # More than asked for: the same definition gives the same values.
        np.testing.assert_allclose(cells[name], cells[other], rtol=1e-6)
    if not table["chrom"].isin(MITOCHONDRIA).any():  # they count duplicates of mitochondrial fragments too
        np.testing.assert_allclose(cells["duplication_fragments"], cells["peer_frac_dup"], atol=1e-9)


@pytest.mark.real_data
@pytest.mark.parametrize("name", REAL)
def test_real_fragments(peer, real_data, tmp_path, name):
    table = pd.read_csv(real_data / name, sep="\t", header=None, comment="#")
    table = table.set_axis(COLUMNS[: table.shape[1]], axis=1)
    # Every other run of overlapping fragments is a peak, shortened so that some cuts fall outside.
    peaks = merge_overlapping(table)
    peaks = peaks[peaks["end"] - peaks["start"] > 100].assign(start=lambda t: t["start"] + 60)[::2]
    tss = read_tss(real_data / "references/tss/simba_hg38_genes.bed")
    assert_agreement(peer, tmp_path, peaks[["chrom", "start", "end"]], tss, table)


def test_a_simulated_library(peer, tmp_path):
    import simulate_multiome

    schema = read_yaml(ROOT / "workflow/schemas/config.schema.yaml")
    settings = check_settings(read_yaml(ROOT / "tests/config/small.yaml"), schema, "small.yaml")["simulate"]
    simulate_multiome.main(root=tmp_path, samples=["d1"], settings=settings)
    outs = tmp_path / "d1/outs"
    table = pd.read_csv(outs / "atac_fragments.tsv.gz", sep="\t", header=None, comment="#", names=COLUMNS[:5])
    tss = read_tss(tmp_path / "reference/genes.gtf")
    assert_agreement(peer, tmp_path, read_bed(outs / "atac_peaks.bed")[["chrom", "start", "end"]], tss, table)
