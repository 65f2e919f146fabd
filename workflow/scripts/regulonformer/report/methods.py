"""The methods text, generated from the settings and records of the run, with its citations."""

from dataclasses import dataclass

from regulonformer.model.config import LAYER_KINDS
from regulonformer.report.evidence import Evidence
from regulonformer.report.names import flatten, listed, number, plural, spoken

REFERENCES = {
    "snakemake": "Mölder F. et al. Sustainable data analysis with Snakemake. F1000Research 10:33 (2021).",
    "scanpy": (
        "Wolf F.A., Angerer P., Theis F.J. SCANPY: large-scale single-cell gene expression data analysis. Genome "
        "Biology 19:15 (2018)."
    ),
    "muon": "Bredikhin D., Kats I., Stegle O. MUON: multimodal omics analysis framework. Genome Biology 23:42 (2022).",
    "scrublet": (
        "Wolock S.L., Lopez R., Klein A.M. Scrublet: computational identification of cell doublets in single-cell "
        "transcriptomic data. Cell Systems 8:281–291 (2019)."
    ),
    "amulet": (
        "Thibodeau A. et al. AMULET: a novel read count-based method for effective multiplet detection from single "
        "nucleus ATAC-seq data. Genome Biology 22:252 (2021)."
    ),
    "pysam": (
        "Bonfield J.K. et al. HTSlib: C library for reading/writing high-throughput sequencing data. GigaScience "
        "10:giab007 (2021); used through pysam."
    ),
    "pyranges": (
        "Stovner E.B., Sætrom P. PyRanges: efficient comparison of genomic intervals in Python. Bioinformatics "
        "36:918–919 (2020)."
    ),
    "macs": "Zhang Y. et al. Model-based analysis of ChIP-Seq (MACS). Genome Biology 9:R137 (2008).",
    "umap": (
        "McInnes L., Healy J., Melville J. UMAP: uniform manifold approximation and projection for dimension "
        "reduction. arXiv:1802.03426 (2018)."
    ),
    "jaspar": (
        "Rauluseviciute I. et al. JASPAR 2024: 20th anniversary of the open-access database of transcription "
        "factor binding profiles. Nucleic Acids Research 52:D174–D182 (2024)."
    ),
    "lightmotif": (
        "Larralde M. LightMotif: a lightweight library for scanning sequences with position weight matrices. "
        "https://github.com/althonos/lightmotif."
    ),
    "null": (
        "Ma S. et al. Chromatin potential identified by shared single-cell profiling of RNA and chromatin. Cell "
        "183:1103–1116 (2020)."
    ),
    "two_groups": "Efron B. Microarrays, empirical Bayes and the two-groups model. Statistical Science 23:1–22 (2008).",
    "eqtl": (
        "Veyrieras J.-B. et al. High-resolution mapping of expression-QTLs yields insight into human gene regulation. "
        "PLoS Genetics 4:e1000214 (2008)."
    ),
    "aucell": (
        "Aibar S. et al. SCENIC: single-cell regulatory network inference and clustering. Nature Methods 14:1083–1086 "
        "(2017)."
    ),
    "beeline": (
        "Pratapa A. et al. Benchmarking algorithms for gene regulatory network inference from single-cell "
        "transcriptomic data. Nature Methods 17:147–154 (2020)."
    ),
    "rewiring": (
        "Maslov S., Sneppen K. Specificity and stability in topology of protein networks. Science 296:910–913 (2002)."
    ),
    "linformer": "Wang S. et al. Linformer: self-attention with linear complexity. arXiv:2006.04768 (2020).",
    "lora": "Hu E.J. et al. LoRA: low-rank adaptation of large language models. ICLR (2022); arXiv:2106.09685.",
    "peft": (
        "Mangrulkar S. et al. PEFT: state-of-the-art parameter-efficient fine-tuning methods. "
        "https://github.com/huggingface/peft (2022)."
    ),
    "gradients": (
        "Sundararajan M., Taly A., Yan Q. Axiomatic attribution for deep networks. ICML, PMLR 70:3319–3328 (2017); "
        "computed with Captum, arXiv:2009.07896."
    ),
}


# What pretraining hid and predicted, and what its floor is, by what the heads predict.
EXPRESSED = "A share of the genes that a cell shows in any modality was hidden, in RNA and accessibility at once, and "
HIDDEN = {
    "counts": (
        "Part of the RNA and accessibility counts of each cell was hidden, one of a gene or both, of silent genes too, "
        "and the model was trained to predict them with a negative binomial likelihood. "
    ),
    "values": f"{EXPRESSED}the model was trained to predict their log-normalised values with a Huber loss. ",
    "bins": f"{EXPRESSED}the model was trained to predict the bins of their log-normalised values (cross-entropy). ",
}
FLOORS = {
    "counts": "each gene's mean over the training cells",
    "values": "each gene's mean value over the training cells that show it",
    "bins": "the share of each of a gene's bins over the training cells that show it",
}


@dataclass
class Method:
    """One paragraph of the methods.

    Attributes
    ----------
    cites
        Keys of `REFERENCES`.
    settings
        Settings of the stage, in one line.
    """

    heading: str
    sentences: str
    cites: list[str]
    settings: str = ""


def methods(evidence: Evidence, config: dict) -> list[Method]:
    """Paragraphs for the stages that ran.

    Parameters
    ----------
    evidence
        Results of the run.
    config
        All settings of the run.
    """
    stages = [_workflow, _quality, _features, _regulons, _model, _pretraining, _finetuning, _evaluation, _explanation]
    return [paragraph for stage in stages if (paragraph := stage(evidence, config))]


def references(paragraphs: list[Method]) -> list[str]:
    """References cited, in the order of first mention."""
    return [REFERENCES[key] for key in dict.fromkeys(key for paragraph in paragraphs for key in paragraph.cites)]


def citation_numbers(paragraphs: list[Method]) -> dict[str, int]:
    """Number of each cited reference."""
    cited = dict.fromkeys(key for paragraph in paragraphs for key in paragraph.cites)
    return {key: position for position, key in enumerate(cited, start=1)}


def _settings(config: dict, section: str) -> str:
    """The settings of one section in words, so that the text is complete whatever keys come later."""
    flat = flatten(config.get(section) or {})
    return "; ".join(f"{spoken(key)} {number(value)}" for key, value in sorted(flat.items()) if value is not None)


def _workflow(evidence: Evidence, config: dict) -> Method:
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


def _quality(evidence: Evidence, config: dict) -> Method | None:
    if not evidence.qc:
        return None
    cites = ["scanpy", "muon"]
    sentences = (
        "Counts of both modalities were read per library. RNA metrics were computed with scanpy and kept together "
        "with ATAC in MuData. "
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
        _settings(config, "ingest"),
    )


def _features(evidence: Evidence, config: dict) -> Method | None:
    if evidence.peaks_summary is None and evidence.multiome is None:
        return None
    way = (evidence.peaks_summary or {}).get("method")
    ways = {
        "given": "All libraries had the same peaks, which were kept as given.",
        "merged": "The libraries' peaks were merged to one set of non-overlapping peaks of fixed width.",
        "macs3": "Peaks were called from the fragments with MACS3 and merged to one non-overlapping set.",
    }
    sentences = ways.get(way, "One set of non-overlapping peaks was used for all libraries.")
    sentences += (
        " Raw maps are UMAPs of a PCA of log-normalised RNA and of latent semantic indexing (TF-IDF and truncated "
        "SVD) of ATAC."
        " Gene accessibility is the sum of counts in the peaks at a gene's promoters."
    )
    return Method(
        "Peaks and matrices",
        sentences,
        ["pyranges", "umap"] + ["macs"] * (way == "macs3"),
        _settings(config, "features"),
    )


def _regulons(evidence: Evidence, config: dict) -> Method | None:
    if evidence.regulons is None:
        return None
    reference, cites, sentences = config.get("reference") or {}, [], ""
    if reference.get("fasta"):
        release = (config.get("regulons") or {}).get("jaspar_release", "JASPAR")
        sentences += f"Motifs of {release} (vertebrate CORE) were scanned in the peaks with lightmotif. "
        cites += ["jaspar", "lightmotif"]
    sentences += (
        "Each pair of a peak and a gene near it got the probability of a link, from its distance to the TSS and the "
        "association of accessibility and expression, which was compared with matched peaks that cannot be linked. "
    )
    cites += ["null", "eqtl"]
    sentences += (
        "A regulon joins a TF to its targets through the linked elements that carry its motif. "
        if reference.get("fasta")
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
    return Method("Regulons", sentences.strip(), cites, _settings(config, "regulons"))


def _model(evidence: Evidence, config: dict) -> Method | None:
    if evidence.pretrain_config is None:
        return None
    shape = evidence.pretrain_config["model"]
    layers = shape["layers"]
    counted = [plural(layers.count(kind), f"{kind} layer") for kind in dict.fromkeys(layers)]
    sentences = (
        "The model reads each gene of a cell as one token with its expression and its accessibility, transcription "
        "factors first. "
        f"It has {listed(counted)} of width {shape['width']} with {shape['heads']} heads; "
        "instead of every other gene, each gene attends to a small set of slots, as in Linformer: "
        + "; ".join(f"{kind} layers have {LAYER_KINDS[kind]}" for kind in dict.fromkeys(layers))
        + "."
    )
    if shape["linear_path"]:
        sentences += (
            " Principal components of the visible values of both modalities, fixed before training, pass through a "
            "learned linear layer and are added to the cell embedding."
        )
    return Method("Model", sentences, ["linformer"])


def held_out_libraries(evidence: Evidence) -> str:
    """Names of the libraries kept out of pretraining, as far as the run recorded them."""
    return listed((evidence.pretrain_run or {}).get("held_out", []))


def _pretraining(evidence: Evidence, config: dict) -> Method | None:
    if evidence.pretrain_metrics is None:
        return None
    record = evidence.pretrain_run or {}
    size, predicts = record.get("n_parameters"), evidence.pretrain_config["model"]["predicts"]
    sentences = HIDDEN[predicts]
    sentences += f"It has {number(size)} parameters. " if size else ""
    sentences += _seen_in_pretraining(evidence)
    sentences += f"The floor is the loss of predicting {FLOORS[predicts]}."
    return Method("Pretraining", sentences, [], _settings(config, "pretrain"))


def _seen_in_pretraining(evidence: Evidence) -> str:
    """What unlabelled cells the pretrained model knows: a reader must be able to judge what "held out" means."""
    if len(evidence.qc) == 1:
        return (
            "Pretraining saw the cells of the library except a part held out for validation, without any label. "
            "Cells whose labels are held out later were seen as measurements. "
        )
    names = held_out_libraries(evidence)
    kept_out = f"those held out for validation ({names})" if names else "those held out for validation"
    return (
        f"Pretraining saw the cells of all libraries except {kept_out}, without any label. That includes libraries "
        "whose labels are held out later: their measurements were seen, their labels were not. "
    )


def _finetuning(evidence: Evidence, config: dict) -> Method | None:
    records = [record for task in evidence.task_records.values() for record in task]
    if not records and not evidence.predictions:
        return None
    sentences = (
        "The pretrained encoder was adapted to each task with low-rank adapters (LoRA, by peft) and a "
        "classification head. "
    )
    trainable, total = _parameters(records)
    if trainable and total:
        sentences += (
            f"{number(trainable)} of {number(total)} parameters ({100 * trainable / total:.1f} %) were trained. "
        )
    linear = (config.get("finetune") or {}).get("linear_components")
    if linear:
        sentences += (
            "A linear path from PCA of RNA and LSI of accessibility, fitted on the training cells of each fold, "
            "runs beside the encoder; its logistic regression is where training starts. "
        )
    epochs = [record["best_epoch"] for record in records if "best_epoch" in record]
    if epochs:
        kept = sum(epoch == 0 for epoch in epochs)
        sentences += (
            f"Validation cells chose the epoch: {kept} of {len(epochs)} models kept that linear start, "
            "in the others training improved on it. "
        )
    return Method("Fine-tuning", sentences.strip(), ["lora", "peft"], _settings(config, "finetune"))


def _parameters(records: list[dict]) -> tuple[int | None, int | None]:
    """Trainable and total parameters of the first record that names both."""
    for record in records:
        numbers = {key: value for key, value in flatten(record).items() if isinstance(value, int) and "param" in key}
        trainable = next((value for key, value in numbers.items() if "train" in key), None)
        total = next((value for key, value in numbers.items() if "total" in key), None)
        if trainable and total:
            return trainable, total
    return None, None


def _evaluation(evidence: Evidence, config: dict) -> Method | None:
    if evidence.annotation is None:
        return None
    splits, settings = config.get("splits") or {}, config.get("evaluate") or {}
    unit, seeds = splits.get("group", "library"), splits.get("seeds") or []
    level = settings.get("confidence", 0.95)
    sentences = (
        f"Cells were divided into folds that keep each {unit} whole where there are several; the model and every "
        "baseline were trained on the same "
        "folds and judged on the same held-out cells. "
    )
    sentences += f"Model and baselines were run with {plural(len(seeds), 'seed')}. " if seeds else ""
    sentences += (
        f"Scores are computed over all held-out cells together, with {100 * level:.0f} % bootstrap intervals. "
        "We say that a method is ahead or behind only where the two intervals are apart, which is a strict rule, "
        "and that they tie where "
        "the intervals overlap."
    )
    return Method(
        "Evaluation",
        sentences,
        [],
        "; ".join(filter(None, [_settings(config, "splits"), _settings(config, "evaluate")])),
    )


def _explanation(evidence: Evidence, config: dict) -> Method | None:
    if not evidence.attribution:
        return None
    sentences = (
        "The contribution of each gene's RNA and accessibility to the score of a class was computed with "
        "integrated gradients on held-out cells. "
        "Completeness checks that the contributions of a cell add up to the change of its score."
    )
    return Method("Explanation", sentences, ["gradients"], _settings(config, "explain"))
