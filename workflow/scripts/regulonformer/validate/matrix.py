"""Whether count matrices are of one genome, with features, cells and counts, by names and a sample of the counts."""

import gzip
from pathlib import Path

import h5py
import numpy as np

from regulonformer.io.contents import as_counts
from regulonformer.io.matrix import MatrixHeader, read_header
from regulonformer.io.mex import find_mtx, is_mtx
from regulonformer.validate.bgzf import compression
from regulonformer.validate.findings import Findings, some

SAMPLED_PLACES, SAMPLED_COUNTS = 8, 4096
FIX = "Give filtered_feature_bc_matrix.h5 as Cell Ranger writes it"
WITHOUT = {
    "rna": ("matrix.no_genes", "the library has no genes: it takes part with its ATAC alone"),
    "atac": ("matrix.no_atac", "the library has neither peaks nor fragments: it takes part with its RNA alone"),
}


def judge_matrix(
    sample: dict, findings: Findings, recover: bool = False, layers: tuple[str, ...] = ()
) -> tuple[MatrixHeader | None, int]:
    """Names in the matrix of a library, or in both (None where unreadable), and how many counts are stored.

    With `layers` these hold the counts, and the library needs no peaks.
    """
    # Of two files each gives one modality, of a single one the sheet says which.
    modality = "rna" if sample.get("peak_matrix") else sample.get("modality") or ""
    header, stored = _judge_file(sample["matrix"], sample, modality, findings, recover, layers)
    if sample.get("peak_matrix"):
        other, more = _judge_file(sample["peak_matrix"], sample, "atac", findings, recover)
        header, stored = _joined(header, other, sample, findings), stored + more
    if header is not None and not layers:
        header = _judge_modalities(header, sample, findings)
    return header, stored


def _joined(genes: MatrixHeader | None, peaks: MatrixHeader | None, sample, findings) -> MatrixHeader | None:
    """Genes of one file and peaks of the other, of the barcodes that both have."""
    if genes is None or peaks is None:
        return None
    known = set(peaks.barcodes)
    shared = [name for name in genes.barcodes if name in known]
    if not shared:
        message = f"no barcode is in the matrix of genes too (here {peaks.barcodes[0]!r}, there {genes.barcodes[0]!r})"
        findings.error("matrix.no_shared_cells", sample["peak_matrix"], message, "Write barcodes alike in both files")
    return genes._replace(barcodes=shared, peaks=peaks.peaks)


def _judge_modalities(header: MatrixHeader, sample: dict, findings: Findings) -> MatrixHeader:
    """What the library takes part with: what it has of what the sheet asks for. Says what it lacks."""
    path, wanted = sample["matrix"], sample.get("modality") or ""
    if wanted == "rna":
        header = header._replace(peaks=[])
    elif wanted == "atac":
        header = header._replace(gene_ids=[], symbols=[])
    lacks = [] if header.symbols else ["rna"]
    # Fragments alone make no library of ATAC: nothing says which barcodes are cells.
    lacks += [] if header.peaks or (sample["fragments"] and wanted != "atac") else ["atac"]
    if len(lacks) == 2 or wanted in lacks:
        what = {"rna": "genes", "atac": "peaks"}.get(wanted, "genes nor peaks")
        message = f"the library has {'no' if wanted else 'neither'} {what}"
        fix = "Give its matrix of genes or of peaks; the column modality says which of both counts"
        findings.error("matrix.no_modality", path, message, fix)
    elif lacks and not wanted:
        kept = "atac" if lacks == ["rna"] else "rna"
        fix = f"If that is meant, write {kept} into the column modality; else give the missing files"
        code, message = WITHOUT[lacks[0]]
        findings.warning(code, path, message, fix)
    return header


def _judge_file(
    path, sample: dict, modality: str, findings: Findings, recover: bool, layers: tuple[str, ...] = ()
) -> tuple[MatrixHeader | None, int]:
    """Names in one file (None where unreadable), and how many counts it stores."""
    header, stored = None, 0
    with findings.reading("matrix.unreadable", path, FIX):
        header = read_header(path, sample.get("genome"), modality)
    if header is None:
        return None, 0
    if not header.barcodes:
        findings.error("matrix.empty", path, "the matrix has no cells", "Leave this library out of the sample sheet")
    if len(set(header.barcodes)) < len(header.barcodes):
        fix = "Give the matrix of one library per row"
        findings.error("matrix.duplicated_barcodes", path, "barcodes occur more than once", fix)
    for kind, n in sorted(header.other.items()):
        findings.note("matrix.other_features", path, f"{n:,} features are of type '{kind}'", "They are left out")
    _judge_genomes(path, header.genomes, sample.get("genome"), findings)
    if lacking := _lacking(path, layers):
        fix = "Give an h5ad with layers spliced and unspliced, or set ingest/second_modality: accessibility"
        findings.error("matrix.no_layer", path, f"has no layers {some(lacking)}", fix)
        return header, 0
    with findings.reading("matrix.unreadable", path, FIX):
        stored, values = sample_counts(path, tuple(f"layers/{layer}" for layer in layers))
        if header.barcodes and stored == 0:
            findings.error("matrix.no_counts", path, "the matrix holds no count", "Leave this library out")
    # Whether other values can be brought back to counts is seen when they are read.
    if stored and not (recover and header.layout in ("h5ad", "h5mu")):
        with findings.reading("matrix.not_counts", path, FIX):
            as_counts(path, values)
    return header, stored


def _judge_genomes(path, genomes: tuple[str, ...], chosen: str | None, findings: Findings) -> None:
    """A matrix of several genomes needs a choice."""
    if len(genomes) > 1 and chosen not in genomes:
        message = f"the matrix has several genomes: {', '.join(genomes)}"
        fix = "Name one of them in the column genome of the sample sheet"
        findings.error("matrix.several_genomes", path, message, fix)


def _lacking(path, layers: tuple[str, ...]) -> list[str]:
    """Those layers that a matrix does not have; files other than h5ad have none."""
    if not h5py.is_hdf5(path):
        return list(layers)
    with h5py.File(path) as file:
        return [layer for layer in layers if f"layers/{layer}" not in file]


def sample_counts(path, keys: tuple[str, ...] = ()) -> tuple[int, np.ndarray]:
    """How many counts a matrix stores, and some of them from places spread over the file, or over its `keys`."""
    if Path(path).is_dir() or is_mtx(path):
        return _sample_mtx(find_mtx(path) or path)
    stored, parts = 0, []
    with h5py.File(path) as file:
        for data in _count_arrays(file, keys):
            stored += data.size
            flat = data if data.ndim == 1 else data[: max(1, SAMPLED_COUNTS // max(1, data.shape[1]))].ravel()
            step = max(1, len(flat) // SAMPLED_PLACES)
            parts += [flat[at : at + SAMPLED_COUNTS] for at in range(0, len(flat), step)]
    return stored, np.concatenate(parts).astype(float) if parts else np.empty(0)


def _count_arrays(file, keys: tuple[str, ...] = ()) -> list:
    """Arrays of counts in a 10x h5 of either version, an h5ad (of its matrices `keys`, if given) or an h5mu."""
    groups = [file[f"mod/{name}"] for name in file["mod"]] if "mod" in file else [file]
    found = []
    for group in groups:
        if keys:
            matrices = [group[key] for key in keys]
        elif key := next((key for key in ("layers/counts", "X") if key in group), None):
            matrices = [group[key]]
        else:
            matrices = [item for item in group.values() if isinstance(item, h5py.Group) and "indptr" in item]
        found += [item["data"] if isinstance(item, h5py.Group) else item for item in matrices]
    return found


def _sample_mtx(path) -> tuple[int, np.ndarray]:
    """The size line of a Matrix Market file and the counts that follow it."""
    with open(path) if compression(path) == "plain" else gzip.open(path, "rt") as handle:
        lines = (line for line in handle if not line.startswith("%"))
        stored = int(next(lines, "").split()[2])
        values = [float(line.split()[2]) for line, _ in zip(lines, range(SAMPLED_COUNTS), strict=False)]
    return stored, np.array(values)
