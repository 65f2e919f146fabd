"""Judge the inputs of a run from headers, indexes and first lines, before any compute."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py

from regulonformer.config.sheet import FILES
from regulonformer.errors import InputError
from regulonformer.io.annotation import read_genes
from regulonformer.io.fragments import chromosomes
from regulonformer.io.metadata import read_labels
from regulonformer.io.peaks import normalise_names, parse_names, read_bed
from regulonformer.prior.network import fit_to_genes, read_network

ERROR, WARNING, NOTE = "error", "warning", "note"


@dataclass(frozen=True)
class Finding:
    """One thing a user should know about an input.

    Attributes
    ----------
    level
        `error` stops the run, `warning` may surprise later, `note` is only told.
    file, message, fix
        Where, what and what to do.
    """

    level: str
    file: str
    message: str
    fix: str

    @classmethod
    def from_error(cls, error: InputError) -> "Finding":
        """An error as a finding."""
        return cls(ERROR, error.where, error.problem, error.fix)

    def __str__(self) -> str:
        return f"{self.file}: {self.message}. {self.fix}."


@dataclass(frozen=True)
class Library:
    """What the headers of one library say."""

    name: str
    barcodes: frozenset
    symbols: frozenset
    peak_chromosomes: frozenset
    fragment_chromosomes: frozenset


def judge_inputs(samples: list[dict], reference: dict, tasks: dict, confidence: list[str]) -> dict:
    """Check that libraries, reference and tasks fit together.

    Parameters
    ----------
    samples
        Rows of the sample sheet as `regulonformer.config.sheet.read_samples` returns them.
    reference
        `annotation`, `fasta` and `network`, each a path or None.
    tasks
        Task name to its settings, of which `column` is checked.
    confidence
        DoRothEA classes that will be kept of the network.

    Returns
    -------
    dict
        `findings` (level, file, message, fix) and `samples` (name, barcodes, genes, labels matched).
    """
    findings, libraries, labels = [], [], []
    for sample in samples:
        try:
            library = read_library(sample)
            libraries.append(library)
            findings += _label_findings(sample, library, labels)
        except InputError as error:
            findings.append(Finding.from_error(error))
    findings += _chromosome_findings(samples, libraries, reference)
    findings += _network_findings(libraries, reference.get("network"), confidence)
    findings += _task_findings(samples, tasks, labels)
    counts = [{"sample": lib.name, "barcodes": len(lib.barcodes), "genes": len(lib.symbols)} for lib in libraries]
    return {"findings": [asdict(finding) for finding in findings], "samples": counts}


def read_library(sample: dict) -> Library:
    """Read the headers of one library.

    Raises
    ------
    InputError
        If the matrix is unreadable, or the library has neither peaks nor fragments.
    """
    path = sample["matrix_h5"]
    barcodes, symbols, peaks = _read_matrix_header(path)
    if not peaks and not sample["fragments"]:
        fix = "Give the matrix with both modalities, or the column fragments"
        raise InputError(path, "the matrix has no peaks and the library has no fragment file", fix)
    if not barcodes:
        raise InputError(path, "the matrix has no cells", "Leave this library out of the sample sheet")
    contigs = chromosomes(sample["fragments"]) if sample["fragments"] else []
    if sample["peaks"]:
        peak_chromosomes = set(read_bed(sample["peaks"])["chrom"])
    else:
        peak_chromosomes = set(parse_names(normalise_names(peaks), where=path)["chrom"])
    return Library(
        sample["sample"], frozenset(barcodes), frozenset(symbols), frozenset(peak_chromosomes), frozenset(contigs)
    )


def _read_matrix_header(path) -> tuple[list[str], list[str], list[str]]:
    """Barcodes, gene symbols and peak names of a 10x h5, without its counts."""
    try:
        with h5py.File(path) as file:
            matrix = file["matrix"]
            barcodes = matrix["barcodes"].asstr()[:].tolist()
            names = matrix["features/name"].asstr()[:]
            kinds = matrix["features/feature_type"].asstr()[:]
    except (OSError, KeyError) as error:
        fix = "Give filtered_feature_bc_matrix.h5 as Cell Ranger ARC writes it"
        raise InputError(path, f"not a 10x matrix ({str(error).splitlines()[0]})", fix) from None
    return barcodes, names[kinds == "Gene Expression"].tolist(), names[kinds == "Peaks"].tolist()


def _label_findings(sample: dict, library: Library, labels: list) -> Iterator[Finding]:
    """Whether the labels file belongs to this library."""
    if not sample["labels"]:
        return
    path = sample["labels"]
    table = read_labels(path)
    labels.append(table)
    prefix = f"{sample['sample']}_"
    known = library.barcodes | {prefix + barcode for barcode in library.barcodes}
    matched = table.index.isin(known).sum()
    if matched == 0:
        example, wanted = table.index[0] if len(table) else "", min(library.barcodes)
        ours = f"labels have {example!r}, the matrix {wanted!r}"
        problem = f"no label matches a barcode of sample '{sample['sample']}' ({ours})"
        raise InputError(path, problem, "Write the barcodes as the matrix has them, with the same prefix and suffix")
    unlabelled = len(library.barcodes) - matched
    if unlabelled > 0:
        message = f"{unlabelled} of {len(library.barcodes)} cells of sample '{sample['sample']}' have no label"
        yield Finding(NOTE, str(path), message, "They are embedded but not used for fine-tuning")


def _chromosome_findings(samples: list[dict], libraries: list[Library], reference: dict) -> Iterator[Finding]:
    """Whether peaks, fragments, annotation and genome name their chromosomes alike."""
    sources = {}
    try:
        if reference.get("annotation"):
            sources[reference["annotation"]] = set(read_genes(reference["annotation"])["chrom"])
    except InputError as error:
        yield Finding.from_error(error)
    if reference.get("fasta"):
        index = Path(reference["fasta"] + ".fai").read_text().splitlines()
        sources[reference["fasta"]] = {line.split("\t")[0] for line in index}
    by_name = {sample["sample"]: sample for sample in samples}
    for library in libraries:
        sample = by_name[library.name]
        files = {sample["peaks"] or sample["matrix_h5"]: library.peak_chromosomes}
        files[sample["fragments"]] = library.fragment_chromosomes
        for file, names in files.items():
            for source, source_names in sources.items():
                if names and not names & source_names:
                    yield _naming_error(file, names, source, source_names)


def _naming_error(file, names: set, source, source_names: set) -> Finding:
    """Two files whose chromosomes share no name."""
    ours, theirs = min(names), min(source_names)
    message = f"no chromosome in common with {source} ('{ours}' here, '{theirs}' there)"
    if {f"chr{name}" for name in names} & source_names or {name.removeprefix("chr") for name in names} & source_names:
        return Finding(
            ERROR, str(file), message, "Only the prefix 'chr' differs: use an annotation with the same naming"
        )
    return Finding(ERROR, str(file), message, "Use the annotation of the genome that the reads were mapped to")


def _network_findings(libraries: list[Library], network, confidence: list[str]) -> Iterator[Finding]:
    """Whether the network file speaks of the genes of the matrices."""
    if not network or not libraries:
        return
    genes = sorted(set().union(*(library.symbols for library in libraries)))
    try:
        edges, _ = read_network(network, confidence)
        fit_to_genes(edges, genes, network, keep_unmeasured_tfs=True)
    except InputError as error:
        yield Finding.from_error(error)


def _task_findings(samples: list[dict], tasks: dict, labels: list) -> Iterator[Finding]:
    """Whether every task's column exists and holds two classes or more."""
    values = {}
    for table in labels:
        for column in table.columns:
            values.setdefault(column, set()).update(table[column])
    for sample in samples:
        for column in set(sample) - {"genome", *FILES}:
            values.setdefault(column, set()).add(sample[column])
    for name, task in tasks.items():
        column = task["column"]
        if column not in values:
            message = f"tasks/{name}/column is '{column}', which neither labels nor sample sheet have"
            yield Finding(ERROR, "config", message, f"Choose one of {', '.join(sorted(values))}")
        elif len(values[column] - {""}) < 2:
            message = f"tasks/{name}/column is '{column}', which holds {sorted(values[column])} only"
            yield Finding(ERROR, "config", message, "A task needs at least two classes")
