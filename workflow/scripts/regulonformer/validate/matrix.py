"""Whether a count matrix is of one genome, with genes, cells and whole numbers, by its names and a sample of counts."""

import gzip
from pathlib import Path

import h5py
import numpy as np

from regulonformer.io.contents import as_counts
from regulonformer.io.matrix import MatrixHeader, read_header
from regulonformer.io.mex import find_mtx, is_mtx
from regulonformer.validate.bgzf import compression
from regulonformer.validate.findings import Findings

SAMPLED_PLACES, SAMPLED_COUNTS = 8, 4096
FIX = "Give filtered_feature_bc_matrix.h5 as Cell Ranger ARC writes it"


def judge_matrix(sample: dict, findings: Findings) -> tuple[MatrixHeader | None, int]:
    """Names of a matrix (None where unreadable), and how many counts are stored."""
    path, header, stored = sample["matrix"], None, 0
    with findings.reading("matrix.unreadable", path, FIX):
        header = read_header(path, sample.get("genome"))
    if header is None:
        return None, 0
    if not header.barcodes:
        findings.error("matrix.empty", path, "the matrix has no cells", "Leave this library out of the sample sheet")
    if not header.symbols:
        findings.error("matrix.no_genes", path, "the matrix has no genes", "Give the matrix with both modalities")
    if len(set(header.barcodes)) < len(header.barcodes):
        fix = "Give the matrix of one library per row"
        findings.error("matrix.duplicated_barcodes", path, "barcodes occur more than once", fix)
    if not header.peaks and not sample["fragments"]:
        fix = "Give the matrix with both modalities, or the column fragments"
        message = "the matrix has no peaks and the library has no fragment file"
        findings.error("matrix.no_atac", path, message, fix)
    for kind, n in sorted(header.other.items()):
        findings.note("matrix.other_features", path, f"{n:,} features are of type '{kind}'", "They are left out")
    _judge_genomes(path, header.genomes, sample.get("genome"), findings)
    with findings.reading("matrix.unreadable", path, FIX):
        stored, values = sample_counts(path)
        if header.barcodes and stored == 0:
            findings.error("matrix.no_counts", path, "the matrix holds no count", "Leave this library out")
    if stored:
        with findings.reading("matrix.not_counts", path, FIX):
            as_counts(path, values)
    return header, stored


def _judge_genomes(path, genomes: tuple[str, ...], chosen: str | None, findings: Findings) -> None:
    """A matrix of several genomes needs a choice."""
    if len(genomes) > 1 and chosen not in genomes:
        message = f"the matrix has several genomes: {', '.join(genomes)}"
        fix = "Name one of them in the column genome of the sample sheet"
        findings.error("matrix.several_genomes", path, message, fix)


def sample_counts(path) -> tuple[int, np.ndarray]:
    """How many counts a matrix stores, and some of them from places spread over the file."""
    if Path(path).is_dir() or is_mtx(path):
        return _sample_mtx(find_mtx(path) or path)
    stored, parts = 0, []
    with h5py.File(path) as file:
        for data in _count_arrays(file):
            stored += data.size
            flat = data if data.ndim == 1 else data[: max(1, SAMPLED_COUNTS // max(1, data.shape[1]))].ravel()
            step = max(1, len(flat) // SAMPLED_PLACES)
            parts += [flat[at : at + SAMPLED_COUNTS] for at in range(0, len(flat), step)]
    return stored, np.concatenate(parts).astype(float) if parts else np.empty(0)


def _count_arrays(file) -> list:
    """Arrays of counts in a 10x h5 of either version, an h5ad or an h5mu."""
    groups = [file[f"mod/{name}"] for name in file["mod"]] if "mod" in file else [file]
    found = []
    for group in groups:
        if key := next((key for key in ("layers/counts", "X") if key in group), None):
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
