"""One library: what its headers, index and samples say, and how libraries compare."""

from dataclasses import dataclass, field
from functools import reduce

import numpy as np
import pandas as pd

from regulonformer.io.library import UNSPLICED, VELOCITY_LAYERS, read_own_labels
from regulonformer.io.matrix import MatrixHeader
from regulonformer.io.peaks import with_chr
from regulonformer.validate.findings import Findings, some
from regulonformer.validate.fragments import FragmentSample, read_fragments
from regulonformer.validate.genes import judge_gene_names
from regulonformer.validate.labels import judge_barcode_metrics, judge_fragment_barcodes, judge_labels
from regulonformer.validate.matrix import judge_matrix
from regulonformer.validate.peaks import judge_order, largest_ends, read_given_peaks, read_matrix_peaks

# Libraries that share fewer of their genes were counted with different annotations.
FEW_SHARED = 0.9


@dataclass
class Library:
    """What is known of a library before any compute; parts are None or empty where they are absent or unreadable.

    Attributes
    ----------
    sample
        Row of the sample sheet.
    header
        Names in the matrix.
    stored
        Counts that the matrix stores.
    peaks
        chrom, start, end of the given peaks, else of the matrix.
    fragments
        Sample of the fragment file.
    labels
        Table of labels.
    own_labels
        File and table of cells of each matrix that has one.
    """

    sample: dict
    header: MatrixHeader | None = None
    stored: int = 0
    peaks: pd.DataFrame | None = None
    fragments: FragmentSample = field(default_factory=FragmentSample)
    labels: pd.DataFrame | None = None
    own_labels: list = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name in the sample sheet."""
        return self.sample["sample"]

    @property
    def peaks_file(self) -> str:
        """The file that names the peaks."""
        return self.sample["peaks"] or self.sample.get("peak_matrix") or self.sample["matrix"]

    @property
    def symbols(self) -> frozenset:
        """Gene symbols of the matrix."""
        return frozenset(self.header.symbols) if self.header else frozenset()

    @property
    def has_atac(self) -> bool:
        """Whether there are peaks, or fragments to call them from."""
        return bool(self.sample["fragments"]) or (self.peaks is not None and len(self.peaks) > 0)

    def peak_ends(self) -> dict[str, int]:
        """Chromosome -> largest end of a peak (bp)."""
        return {} if self.peaks is None else largest_ends(self.peaks)


def read_library(sample: dict, findings: Findings, ingest: dict | None = None) -> Library:
    """Judge the files of one library, each on its own and against the matrix; `ingest` is that section's settings."""
    library, matrices = Library(sample), (sample["matrix"], sample.get("peak_matrix"))
    ingest = ingest or {}
    layers = VELOCITY_LAYERS if ingest.get("second_modality") == UNSPLICED else ()
    library.header, library.stored = judge_matrix(sample, findings, ingest.get("counts") == "recover", layers)
    if library.header:
        with findings.reading("matrix.unreadable", sample["matrix"], "Write the table obs again"):
            library.own_labels = read_own_labels(*matrices, sample.get("modality", ""))
    barcodes = frozenset(library.header.barcodes) if library.header else frozenset()
    if library.header:
        judge_gene_names(sample["matrix"], library.header.gene_ids, library.header.symbols, findings)
    if library.header and library.header.peaks:
        names = library.header.peaks
        names = with_chr(names).tolist() if ingest.get("chromosomes") == "chr" else names
        library.peaks = read_matrix_peaks(names, matrices[1] or matrices[0], findings)
    if sample["peaks"]:
        library.peaks = read_given_peaks(sample["peaks"], findings)
    if library.peaks is not None:
        judge_order(library.peaks, library.peaks_file, findings)
    if sample["fragments"]:
        library.fragments = read_fragments(sample["fragments"], findings)
        judge_fragment_barcodes(sample["fragments"], library.fragments.barcodes, barcodes, findings)
    if sample["labels"]:
        library.labels = judge_labels(sample["labels"], sample["sample"], barcodes, findings)
    if sample["barcode_metrics"]:
        judge_barcode_metrics(sample["barcode_metrics"], barcodes, findings)
    return library


def judge_modalities(libraries: list[Library], by_peaks: bool, findings: Findings) -> None:
    """Whether the sheet says so where no library has genes, or none has peaks: runs beyond matrices are planned by it.

    Without peaks that matters where regulons are to come of them (`by_peaks`).
    """
    known = [library for library in libraries if library.header]
    undeclared = [library.name for library in known if not library.sample.get("modality")]
    if undeclared and not any(library.symbols for library in known):
        message = f"no library has genes; that is not said of {some(undeclared)}"
        fix = "Write atac into the column modality of each, so that the run leaves out what needs RNA"
        findings.error("genes.none", "sample sheet", message, fix)
    if undeclared and by_peaks and not any(library.has_atac for library in known):
        message = f"no library has peaks or fragments; that is not said of {some(undeclared)}"
        fix = "Write rna into the column modality of each, so that the run leaves out what needs ATAC"
        findings.error("peaks.none", "sample sheet", message, fix)


def compare_libraries(libraries: list[Library], findings: Findings) -> None:
    """Whether libraries have the same genes and peaks."""
    _compare_genes([library for library in libraries if library.symbols], findings)
    with_peaks = [library.peaks for library in libraries if library.peaks is not None and len(library.peaks)]
    # Hashes of the rows: a tenth of the memory of the rows.
    sets = [np.unique(pd.util.hash_pandas_object(peaks, index=False)) for peaks in with_peaks]
    if any(not np.array_equal(other, sets[0]) for other in sets[1:]):
        shared, every = (len(reduce(operation, sets)) for operation in (np.intersect1d, np.union1d))
        message = f"the peaks of the libraries differ: {shared:,} of {every:,} are in all {len(sets)}"
        findings.note("peaks.libraries_differ", "sample sheet", message, "Consensus peaks will be made of them")


def _compare_genes(libraries: list[Library], findings: Findings) -> None:
    if len(libraries) < 2:
        return
    shared = frozenset.intersection(*(library.symbols for library in libraries))
    fewest = min(libraries, key=lambda library: len(library.symbols & libraries[0].symbols) / len(library.symbols))
    most = max(len(library.symbols) for library in libraries)
    if len(shared) == most:
        return
    odd = sorted(fewest.symbols - libraries[0].symbols)
    message = f"{len(shared):,} genes are in all libraries, of {most:,} in the largest"
    message += f"; {fewest.name} alone against {libraries[0].name}: {some(odd)}" if odd else ""
    if not shared:
        fix = "Give libraries of one species, counted with one annotation"
        findings.error("genes.libraries_disjoint", "sample sheet", message, fix)
    elif len(shared) < FEW_SHARED * most:
        fix = "Count all libraries with one annotation; genes that a library lacks are left out or read as zero"
        findings.warning("genes.libraries_differ", "sample sheet", message, fix)
    else:
        findings.note("genes.libraries_differ", "sample sheet", message, "Nothing to do")
