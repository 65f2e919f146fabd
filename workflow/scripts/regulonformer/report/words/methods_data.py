"""Methods text of data and prior."""

from regulonformer.report.evidence import Evidence
from regulonformer.report.words.method import Method, settings_of


def workflow_method(evidence: Evidence, config: dict) -> Method:
    """What ran everything."""
    sentences = (
        "All steps were run by Regulonformer, a Snakemake workflow, from the outputs of Cell Ranger ARC to this page."
    )
    if (config.get("simulate") or {}).get("activate"):
        sentences = (
            "The libraries of this run are simulated, with a known regulatory network, and written in the layout "
            "of Cell Ranger ARC. "
            "They show that the workflow works; they say nothing about biology. "
        ) + sentences
    return Method("Workflow", sentences, ["snakemake"])


def what_is_missing(evidence: Evidence) -> list[str]:
    """Which libraries lack a modality, and what was left out for it."""
    summary = evidence.merge_summary or {}
    libraries, said = summary.get("libraries", {}), []
    left_out = {
        "rna": "in-silico perturbation and whatever compares the two modalities",
        "atac": "links of peaks to genes, motif sites and whatever compares the two modalities",
    }
    for modality, names in (summary.get("without") or {}).items():
        title = {"rna": "RNA", "atac": "ATAC"}[modality]
        said.append(
            "Unspliced counts stand in the place of accessibility, beside spliced ones in that of RNA."
            if summary.get("second_modality") == "unspliced"
            else f"{len(names)} of {len(libraries)} libraries have no {title} ({', '.join(names)}). To the model that "
            "modality of their cells is missing, which is something else than zero."
        )
        if len(names) == len(libraries):
            said.append(f"No library has {title}, so {left_out[modality]} were left out.")
    return said


def _has(evidence: Evidence, modality: str) -> bool:
    """Whether any library has a modality."""
    summary = evidence.merge_summary or {}
    lacking = (summary.get("without") or {}).get(modality)
    return not lacking or len(lacking) < len(summary["libraries"])


def quality_method(evidence: Evidence, config: dict) -> Method | None:
    """How barcodes were judged."""
    if not evidence.qc:
        return None
    cites = ["scanpy", "muon"]
    sentences = (
        "Counts of both modalities were read per library. RNA metrics were computed with scanpy and kept together "
        "with ATAC in MuData. "
        if _has(evidence, "rna") and _has(evidence, "atac")
        else "Counts were read per library and kept in MuData; RNA metrics were computed with scanpy. "
    )
    ingest = config.get("ingest") or {}
    if ingest.get("counts") == "recover":
        sentences += (
            "RNA counts were recovered from log-normalised values, by dividing what they are the logarithm of by its "
            "smallest value in each cell; ATAC values that are no counts were made 1 where above 0. "
        )
    if ingest.get("second_modality") == "unspliced":
        sentences += (
            "Spliced counts stand where RNA is named, and unspliced counts of the same genes in the place of "
            "accessibility. "
        )
    if any(record.get("fragments") for record in evidence.qc):
        sentences += "ATAC metrics were computed from the fragment files, indexed with tabix (pysam). "
        cites.append("pysam")
    wanted = (config.get("ingest") or {}).get("doublets")
    if wanted in (True, "rna"):
        sentences += "Doublets were scored with Scrublet on the RNA of the barcodes that passed all other limits. "
        cites.append("scrublet")
    if wanted in (True, "atac") and any(record.get("overlaps") for record in evidence.qc):
        sentences += (
            "Barcodes with more sites under three or more fragments than single cells of their depth were called "
            "doublets too: the signal is AMULET's, the test a negative binomial one. "
        )
        cites.append("amulet")
    return Method(
        "Quality control",
        sentences + "Barcodes outside the limits were removed and counted by reason.",
        cites,
        settings_of(config, "ingest"),
    )


def features_method(evidence: Evidence, config: dict) -> Method | None:
    """Peaks, counts and raw maps."""
    if evidence.peaks_summary is None and evidence.multiome is None:
        return None
    way = (evidence.peaks_summary or {}).get("method")
    ways = {
        "given": "All libraries had the same peaks, which were kept as given.",
        "merged": "The libraries' peaks were merged to one set of non-overlapping peaks of fixed width.",
        "none": "No library has ATAC, so there are no peaks.",
        "macs3": "Peaks were called from the fragments with MACS3 and merged to one non-overlapping set.",
    }
    sentences = ways.get(way, "One set of non-overlapping peaks was used for all libraries.")
    sentences += " Raw maps are UMAPs"
    if _has(evidence, "rna"):
        sentences += " of a PCA of log-normalised RNA"
    if _has(evidence, "atac"):
        sentences += " and" * _has(evidence, "rna") + (
            " of latent semantic indexing (TF-IDF and truncated SVD) of ATAC."
            " Gene accessibility is the sum of counts in the peaks at a gene's promoters"
        )
    sentences += "."
    return Method(
        "Peaks and matrices",
        sentences,
        ["pyranges", "umap"] + ["macs"] * (way == "macs3"),
        settings_of(config, "features"),
    )


def regulons_method(evidence: Evidence, config: dict) -> Method | None:
    """Links, regulons and how they were judged."""
    if evidence.regulons is None:
        return None
    reference, cites, sentences = config.get("reference") or {}, [], ""
    linked = _has(evidence, "atac")
    if reference.get("fasta") and linked:
        release = (config.get("regulons") or {}).get("jaspar_release", "JASPAR")
        sentences += f"Motifs of {release} (vertebrate CORE) were scanned in the peaks with lightmotif. "
        cites += ["jaspar", "lightmotif"]
    if linked:
        sentences += (
            "Each pair of a peak and a gene near it got the probability of a link, from its distance to the TSS and "
            "the association of accessibility and expression, which was compared with matched peaks that cannot be "
            "linked. "
        )
        cites += ["null", "eqtl"]
    sentences += (
        "A regulon joins a TF to its targets through the linked elements that carry its motif. "
        if reference.get("fasta") and linked
        else ""
    )
    sentences += "TF–target edges came from the network file that was given. " if reference.get("network") else ""
    sentences += (
        "The score of an edge is the probability that it is real, by a two-groups model of this support and the "
        "association of TF and gene. "
    )
    cites.append("two_groups")
    if evidence.regulon_activity is not None:
        sentences += (
            "The activity of a regulon in a cell is the weighted mean z-score of its targets' expression, and the area "
            "under the recovery curve of its activated targets. "
        )
        cites.append("aucell")
    if evidence.grn is not None:
        sentences += (
            "Links and regulons were judged beside simple methods and a shuffle of the regulons that keeps the number "
            "of edges of every TF and gene, with bootstrap intervals over TFs (links: over genes). "
        )
        cites += ["beeline", "rewiring"]
    return Method("Regulons", sentences.strip(), cites, settings_of(config, "regulons"))
