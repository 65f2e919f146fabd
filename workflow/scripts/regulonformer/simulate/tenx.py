"""One simulated library in the files and folders of Cell Ranger ARC (`outs/`)."""

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pysam
from pyarrow import csv
from scipy import sparse

from regulonformer.simulate.fragments import Layout
from regulonformer.simulate.genome import GENOME_NAME

BARCODE_LENGTH = 16
MISSING_PEAKS = 0.04
BORDER_JITTER = 60
TSS_WINDOW = 1_000


def draw_barcodes(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw n different barcodes, sorted, with the suffix ``-1``."""
    barcodes: dict[str, None] = {}
    while len(barcodes) < n:
        letters = rng.choice(list("ACGT"), size=(n, BARCODE_LENGTH))
        barcodes.update(dict.fromkeys("".join(row) + "-1" for row in letters))
    return np.array(sorted(list(barcodes)[:n]))


def draw_peaks(rng: np.random.Generator, cres: pd.DataFrame) -> pd.DataFrame:
    """Peaks as one library sees them: borders move by up to 60 bp, a few peaks are missed."""
    seen = cres[rng.random(len(cres)) >= MISSING_PEAKS].reset_index(drop=True)
    jitter = rng.integers(-BORDER_JITTER, BORDER_JITTER + 1, (2, len(seen)))
    return seen[["chrom"]].assign(start=seen["start"] + jitter[0], end=seen["end"] + jitter[1])


def count_peaks(fragments: pd.DataFrame, peaks: pd.DataFrame, layout: Layout, n_barcodes: int) -> sparse.csr_array:
    """Count cut sites (both ends of each fragment) in sorted, disjoint peaks; barcodes x peaks, int32."""
    start = layout.linear(peaks["chrom"], peaks["start"])
    end = layout.linear(peaks["chrom"], peaks["end"])
    cuts = np.concatenate([fragments["start"], fragments["end"] - 1])
    barcode = np.concatenate([fragments["barcode"], fragments["barcode"]])
    peak = np.searchsorted(start, cuts, side="right") - 1
    inside = (peak >= 0) & (cuts < end[peak])
    ones = np.ones(inside.sum(), dtype=np.int32)
    return sparse.csr_array((ones, (barcode[inside], peak[inside])), shape=(n_barcodes, len(peaks)))


def write_matrix(path, rna: sparse.csr_array, atac: sparse.csr_array, genes, peaks, barcodes, sample: str) -> None:
    """Write the feature-barcode matrix as 10x HDF5, version 3 of the Cell Ranger layout.

    Parameters
    ----------
    rna, atac
        Counts, cells x genes and cells x peaks.
    genes
        Columns gene_id, symbol, chrom, start, end.
    peaks
        Columns chrom, start, end.
    barcodes
        One per cell, sorted.
    sample
        Name of the library, kept as an attribute.
    """
    counts = sparse.csr_array(sparse.hstack([rna, atac], format="csr"))
    counts.sort_indices()
    peak_names, gene_places = (
        t["chrom"] + ":" + t["start"].astype(str) + "-" + t["end"].astype(str) for t in (peaks, genes)
    )
    features = {
        "id": [*genes["gene_id"], *peak_names],
        "name": [*genes["symbol"], *peak_names],
        "feature_type": ["Gene Expression"] * len(genes) + ["Peaks"] * len(peaks),
        "genome": [GENOME_NAME] * (len(genes) + len(peaks)),
        "interval": [*gene_places, *peak_names],
        "_all_tag_keys": ["genome", "interval"],
    }
    with h5py.File(path, "w") as file:
        file.attrs.update(
            {
                "filetype": "matrix",
                "version": 2,
                "chemistry_description": "Single Cell Multiome ATAC + Gene Expression v1",
            }
        )
        file.attrs["library_ids"] = np.array([sample.encode()])
        file.attrs["original_gem_groups"] = np.array([1])
        matrix = file.create_group("matrix")
        columns = {
            "barcodes": np.array(barcodes, dtype="S"),
            "data": counts.data.astype(np.int32),
            "indices": counts.indices.astype(np.int64),
            "indptr": counts.indptr.astype(np.int64),
            "shape": np.array(counts.shape[::-1], dtype=np.int32),
        } | {f"features/{name}": np.array(values, dtype="S") for name, values in features.items()}
        for name, values in columns.items():
            matrix.create_dataset(name, data=values, compression="gzip", compression_opts=4)


def write_fragments(path, fragments: pd.DataFrame, layout: Layout, barcodes: np.ndarray, sample: str) -> None:
    """Write the fragments as BGZF text with its tabix index (``.tbi``).

    Parameters
    ----------
    path
        File to write, ``*.tsv.gz``.
    fragments
        As `fragments.draw_fragments` gives them.
    barcodes
        Barcode of each number in the column ``barcode``.
    """
    chrom = layout.chromosome(fragments["start"].to_numpy())
    offset = layout.starts[chrom]
    columns = {
        "chrom": _texts(chrom, layout.names),
        "start": pa.array(fragments["start"].to_numpy() - offset),
        "end": pa.array(fragments["end"].to_numpy() - offset),
        "barcode": _texts(fragments["barcode"].to_numpy(), barcodes),
        "reads": pa.array(fragments["reads"].to_numpy()),
    }
    text, options = (
        pa.BufferOutputStream(),
        csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none"),
    )
    csv.write_csv(pa.table(columns), text, options)
    # Level 4 takes a third of the time of the default, for a file a fifth larger.
    with pysam.BGZFile(str(path), "w4") as handle:
        handle.write(_header(layout, sample, "single-cell ATAC fragments").encode())
        handle.write(text.getvalue().to_pybytes())
    pysam.tabix_index(str(path), preset="bed", force=True)


def write_peaks(path, peaks: pd.DataFrame, layout: Layout, sample: str) -> None:
    """Write peaks as BED with the header comments of Cell Ranger ARC."""
    with open(path, "w") as handle:
        handle.write(_header(layout, sample, "ATAC peaks"))
        peaks.to_csv(handle, sep="\t", header=False, index=False, lineterminator="\n")


def barcode_metrics(
    rng: np.random.Generator,
    barcodes: np.ndarray,
    rna: sparse.csr_array,
    ambient: np.ndarray,
    fragments: pd.DataFrame,
    cut_sites: sparse.csr_array,
    tss: np.ndarray,
    peaks: tuple[np.ndarray, np.ndarray],
) -> pd.DataFrame:
    """Metrics of each barcode under the names of Cell Ranger ARC; cells come first, empty droplets after them.

    Parameters
    ----------
    rna
        Counts, cells x genes.
    ambient
        Profile of the ambient RNA, which is all that empty droplets hold.
    fragments
        With columns start, end, barcode, reads.
    cut_sites
        Cut sites in peaks, barcodes x peaks.
    tss
        Sorted TSS positions in the joined genome.
    peaks
        Sorted starts and ends of the peaks in the joined genome.
    """
    n, n_cells = len(barcodes), rna.shape[0]
    empty = rng.poisson(20 * ambient, (n - n_cells, len(ambient)))
    umis = np.concatenate([rna.sum(axis=1), empty.sum(axis=1)])
    expressed = np.concatenate([np.diff(rna.indptr), (empty > 0).sum(axis=1)])
    middle = (fragments["start"] + fragments["end"]).to_numpy() // 2
    near_tss = np.searchsorted(tss, middle + TSS_WINDOW) > np.searchsorted(tss, middle - TSS_WINDOW)
    in_peak = np.searchsorted(peaks[0], fragments["end"]) > np.searchsorted(peaks[1], fragments["start"], side="right")

    def per_barcode(weights=None) -> np.ndarray:
        return np.bincount(fragments["barcode"], weights=weights, minlength=n).astype(np.int64)

    reads, unique = per_barcode(fragments["reads"]), per_barcode()
    mitochondrial = rng.poisson(0.03 * reads)
    return pd.DataFrame(
        {
            "barcode": barcodes,
            "gex_barcode": barcodes,
            "atac_barcode": rng.permutation(draw_barcodes(rng, n)),
            "is_cell": (np.arange(n) < n_cells).astype(int),
            "excluded_reason": 0,
            "gex_raw_reads": umis + rng.poisson(3.0 * umis),
            "gex_umis_count": umis,
            "gex_genes_count": expressed,
            "atac_raw_reads": reads + mitochondrial,
            "atac_dup_reads": reads - unique,
            "atac_mitochondrial_reads": mitochondrial,
            "atac_fragments": unique,
            "atac_TSS_fragments": per_barcode(near_tss),
            "atac_peak_region_fragments": per_barcode(in_peak),
            "atac_peak_region_cutsites": cut_sites.sum(axis=1),
        }
    )


def _header(layout: Layout, sample: str, description: str) -> str:
    lines = [f"id={sample}", f"description={description}", "pipeline_name=simulate_multiome"]
    lines += [f"reference_version={GENOME_NAME}", *(f"primary_contig={name}" for name in layout.names)]
    return "".join(f"# {line}\n" for line in lines)


def _texts(codes: np.ndarray, names) -> pa.Array:
    """Text column from codes and their names."""
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(list(names))).cast(pa.string())
