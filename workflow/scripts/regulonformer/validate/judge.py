"""The verdict on all inputs of a run: every file on its own, then all together."""

from dataclasses import asdict

from regulonformer.gene_names import GeneNames
from regulonformer.io.gene_lists import read_aliases
from regulonformer.io.library import UNSPLICED
from regulonformer.validate.annotation import AnnotationHead, read_annotation_head
from regulonformer.validate.builds import judge_ends, judge_genome, thresholds
from regulonformer.validate.chromosomes import Naming, judge_naming
from regulonformer.validate.findings import Findings
from regulonformer.validate.fragments import extend_ends
from regulonformer.validate.genes import judge_annotation_genes, judge_network, judge_tfs
from regulonformer.validate.libraries import Library, compare_libraries, judge_modalities, read_library
from regulonformer.validate.peaks import largest_ends, read_intervals
from regulonformer.validate.perturbation import judge_perturbation
from regulonformer.validate.resources import judge_resources
from regulonformer.validate.tasks import judge_tasks
from regulonformer.validate.variants import judge_variants


def judge_inputs(
    samples: list[dict],
    reference: dict,
    tasks: dict,
    confidence: list[str],
    results=".",
    rules_mb: dict | None = None,
    splits: dict | None = None,
    perturbation: dict | None = None,
    ingest: dict | None = None,
    variants: dict | None = None,
    goal: str = "full",
) -> dict:
    """Check that libraries, reference and tasks are sound and fit together, from headers, indexes and samples alone.

    Parameters
    ----------
    samples
        Rows of the sample sheet as `regulonformer.config.sheet.read_samples` returns them.
    reference
        `annotation`, `fasta`, `network`, `tfs`, `aliases` and `blacklist`, each a path or None.
    tasks
        Task name to its block of the config.
    confidence
        DoRothEA classes that will be kept of the network.
    results
        Folder that the run writes to.
    rules_mb
        Rule -> memory that it asks for (MB).
    splits
        `group`, the column whose values are held out as a whole, and `folds`, at most; donor and 3 where not given.
    perturbation
        `column`, `control` and `group` of the section `perturbation`, and `states`; see `judge_perturbation`.
    ingest
        `counts`, `second_modality` and `chromosomes` of the section `ingest`.
    variants
        `file` and `group` of the section `variants`, and `states`; empty or None where there is no file.
    goal
        How far the run goes; matrices need neither genes nor peaks.

    Returns
    -------
    dict
        `findings` (level, code, file, message, fix), `samples` (sample, layout, barcodes, genes, peaks, counts) and
        `budget` (step, needed_mb, asked_mb).
    """
    findings = Findings()
    libraries = [read_library(sample, findings, ingest) for sample in samples]
    compare_libraries(libraries, findings)
    if goal != "matrices":
        velocity = (ingest or {}).get("second_modality") == UNSPLICED
        by_peaks = not velocity and bool(reference.get("fasta") or not reference.get("network"))
        judge_modalities(libraries, by_peaks, findings)
    _judge_reference(libraries, reference, confidence, findings)
    judge_tasks(libraries, tasks, splits or {"group": "donor", "folds": 3}, findings)
    if perturbation:
        judge_perturbation(libraries, perturbation, findings)
    if variants:
        judge_variants(libraries, variants, reference, findings)
    budget = judge_resources(libraries, results, rules_mb or {}, findings)
    told = list(dict.fromkeys(findings))
    return {
        "findings": [asdict(finding) for finding in told],
        "samples": [_describe(library) for library in libraries if library.header],
        "budget": budget,
    }


def _judge_reference(libraries: list[Library], reference: dict, confidence: list[str], findings: Findings) -> None:
    """Whether annotation, genome, blacklist, network and TFs fit the libraries."""
    annotation, fasta, blacklist = (reference.get(name) for name in ("annotation", "fasta", "blacklist"))
    lengths = judge_genome(fasta, findings) if fasta else None
    head = read_annotation_head(annotation, findings) if annotation else AnnotationHead()
    regions = read_intervals(blacklist, "blacklist", findings) if blacklist else None
    sources = [Naming(library.peaks_file, frozenset(library.peak_ends())) for library in libraries]
    sources += [Naming(library.sample["fragments"], _contigs(library)) for library in libraries]
    sources.append(Naming(fasta, frozenset(lengths or ())))
    sources.append(Naming(annotation, frozenset(head.ends), head.complete))
    sources.append(Naming(blacklist, frozenset(() if regions is None else regions["chrom"])))
    judge_naming(sources, _chosen_genomes(libraries), findings)
    extents = _extents(libraries, lengths, findings)
    if annotation:
        extents[annotation] = head.ends
    if regions is not None:
        extents[blacklist] = largest_ends(regions)
    judge_ends(extents, fasta, lengths, findings)
    genes = _genes(libraries, reference.get("aliases"), findings)
    if annotation and len(genes.symbols):
        matrix = libraries[0].sample["matrix"] if len(libraries) == 1 else "matrices"
        judge_annotation_genes(matrix, genes, annotation, head, findings)
    if reference.get("network") and len(genes.symbols):
        judge_network(reference["network"], genes, confidence, findings)
    if reference.get("tfs") and len(genes.symbols):
        judge_tfs(reference["tfs"], genes, findings)


def _genes(libraries: list[Library], aliases, findings: Findings) -> GeneNames:
    """Genes of all matrices, each once, under all their names."""
    headers = [library.header for library in libraries if library.header]
    pairs = dict.fromkeys(pair for header in headers for pair in zip(header.symbols, header.gene_ids, strict=True))
    table = None
    if aliases:
        with findings.reading("aliases.unreadable", aliases, "Give a table of aliases and symbols"):
            table = read_aliases(aliases)
    return GeneNames([symbol for symbol, _ in pairs], [gene_id for _, gene_id in pairs], table)


def _chosen_genomes(libraries: list[Library]) -> set[str]:
    """Genomes that the sheet chooses of matrices that hold several."""
    several = [library for library in libraries if library.header and len(library.header.genomes) > 1]
    return {library.sample["genome"] for library in several if library.sample["genome"] in library.header.genomes}


def _contigs(library: Library) -> frozenset:
    return frozenset(library.fragments.contigs) | frozenset(library.fragments.ends)


def _extents(libraries: list[Library], lengths, findings: Findings) -> dict:
    """Peak and fragment files -> chromosome -> largest end (bp)."""
    extents = {library.peaks_file: library.peak_ends() for library in libraries}
    for library in libraries:
        path = library.sample["fragments"]
        if path:
            if library.fragments.contigs and not findings.has_error(str(path)):
                with findings.reading("fragments.unreadable", path, "Copy or download the file again"):
                    extend_ends(path, library.fragments, thresholds(library.fragments.contigs, lengths))
            extents[path] = library.fragments.ends
    return extents


def _describe(library: Library) -> dict:
    header = library.header
    return {
        "sample": library.name,
        "layout": header.layout,
        "barcodes": len(header.barcodes),
        "genes": len(header.symbols),
        "peaks": 0 if library.peaks is None else len(library.peaks),
        "counts": library.stored,
    }
