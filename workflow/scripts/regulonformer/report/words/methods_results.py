"""Methods text of what was done with the model: judged, transferred, translated, explained, perturbed."""

from regulonformer.report.evidence import Evidence
from regulonformer.report.words.method import Method, settings_of
from regulonformer.report.words.names import plural


def evaluation_method(evidence: Evidence, config: dict) -> Method | None:
    """What was compared, on which cells, by which rule."""
    if evidence.annotation is None and evidence.regression is None:
        return None
    splits, settings = config.get("splits") or {}, config.get("evaluate") or {}
    unit, seeds = splits.get("group", "library"), splits.get("seeds") or []
    level = settings.get("confidence", 0.95)
    sentences = (
        f"Cells were divided into folds that keep each {unit} whole where there are several; the model and every "
        "baseline were trained on the same folds and judged on the same held-out cells. "
    )
    sentences += f"Model and baselines were run with {plural(len(seeds), 'seed')}. " if seeds else ""
    sentences += (
        f"Scores are computed over all held-out cells together, with {100 * level:.0f} % bootstrap intervals "
        "over cells and seeds. "
    )
    sentences += (
        "Methods are compared by the difference of their scores on the same resamples: ours is ahead or behind where "
        "the interval of the difference is clear of 0, and ties where it is not. "
        if evidence.differences is not None
        else ""
    )
    sentences += (
        "Where single scores alone have intervals, ahead and behind are said only where these are apart, which is a "
        "strict rule."
    )
    settings = filter(None, [settings_of(config, "splits"), settings_of(config, "evaluate")])
    return Method("Evaluation", sentences, [], "; ".join(settings))


def transfer_method(evidence: Evidence, config: dict) -> Method | None:
    """How cells without a label were named."""
    if not evidence.transferred:
        return None
    sentences = (
        "Cells without a label were named by the mean probability of the models of all folds. A label takes a "
        "confidence at which labels of held-out cells were right often enough, and a cell that lies further "
        "from all labelled cells than held-out cells do, by a conformal p-value, is new; both stay unknown "
        "otherwise."
    )
    return Method("Label transfer", sentences, ["selective", "conformal"])


def translation_method(evidence: Evidence, config: dict) -> Method | None:
    """How one modality was predicted from the other."""
    if evidence.translation is None:
        return None
    sentences = (
        "One modality of held-out cells was hidden and predicted from the other. Predictions are judged per "
        "peak and per gene across cells and per cell, beside the mean profile, nearest cells and linear maps "
        "fitted in the same folds."
    )
    return Method("Translation", sentences, [], settings_of(config, "translation"))


def embedding_method(evidence: Evidence, config: dict) -> Method | None:
    """How spaces were compared."""
    if evidence.embedding_scores is None:
        return None
    sentences = (
        "Spaces were scored by how well they keep cell types apart and mix libraries, with the metrics of scIB, beside "
        "linear and corrected spaces of the same cells."
    )
    return Method("Embedding", sentences, ["scib"])


def explanation_method(evidence: Evidence, config: dict) -> Method | None:
    """How contributions were computed."""
    if not evidence.attribution:
        return None
    sentences = (
        "The contribution of each gene's RNA and accessibility to the score of a class was computed with integrated "
        "gradients on held-out cells. Completeness checks that the contributions of a cell add up to the change of its "
        "score. "
    )
    sentences += (
        "Class-specific drivers were tested against labels permuted within folds, with false discovery rates by "
        "Benjamini and Hochberg; driver TFs by the joint evidence of their own contribution, that of the targets of "
        "their regulon, and attention to it. "
        if evidence.drivers or evidence.driver_tfs
        else ""
    )
    settings = filter(None, [settings_of(config, "explain"), settings_of(config, "drivers")])
    return Method("Explanation", sentences.strip(), ["gradients"], "; ".join(settings))


def perturbation_method(evidence: Evidence, config: dict) -> Method | None:
    """How TFs were perturbed in the model."""
    if evidence.perturbed_tfs is None:
        return None
    sentences = (
        "Every TF with a regulon was knocked out or over-expressed in single cells by changing its own value "
        "alone; the pretrained model embedded the cells again, and its heads predicted the expression of all "
        "genes. Changes were compared with those by genes that are no TFs and expressed as much. "
    )
    sentences += (
        "Where cells were perturbed in the experiment, predicted changes were compared with observed ones."
        if evidence.perturbation is not None
        else ""
    )
    return Method("Perturbation", sentences.strip(), ["geneformer"], settings_of(config, "perturbation"))
