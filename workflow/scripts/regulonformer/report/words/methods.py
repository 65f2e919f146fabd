"""The methods text, generated from the settings and records of the run, with its citations."""

from regulonformer.report.evidence import Evidence
from regulonformer.report.words.method import Method
from regulonformer.report.words.methods_data import features_method, quality_method, regulons_method, workflow_method
from regulonformer.report.words.methods_model import finetuning_method, model_method, pretraining_method
from regulonformer.report.words.methods_results import (
    embedding_method,
    evaluation_method,
    explanation_method,
    perturbation_method,
    transfer_method,
    translation_method,
)
from regulonformer.report.words.references import REFERENCES

STAGES = (
    workflow_method,
    quality_method,
    features_method,
    regulons_method,
    model_method,
    pretraining_method,
    finetuning_method,
    evaluation_method,
    transfer_method,
    translation_method,
    embedding_method,
    explanation_method,
    perturbation_method,
)


def methods(evidence: Evidence, config: dict) -> list[Method]:
    """Paragraphs for the stages that ran.

    Parameters
    ----------
    evidence
        Results of the run.
    config
        All settings of the run.
    """
    return [paragraph for stage in STAGES if (paragraph := stage(evidence, config))]


def references(paragraphs: list[Method]) -> list[str]:
    """References cited, in the order of first mention."""
    return [REFERENCES[key] for key in dict.fromkeys(key for paragraph in paragraphs for key in paragraph.cites)]


def citation_numbers(paragraphs: list[Method]) -> dict[str, int]:
    """Number of each cited reference."""
    cited = dict.fromkeys(key for paragraph in paragraphs for key in paragraph.cites)
    return {key: position for position, key in enumerate(cited, start=1)}
