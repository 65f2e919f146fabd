"""The section on the model: what it is made of, what it was trained on, and what training reached."""

from regulonformer.io.curves import of_hidden_entries
from regulonformer.report.blocks import Note, Section, Studio
from regulonformer.report.evidence import Evidence
from regulonformer.report.figures.pretraining import pretraining_curves, pretraining_floors
from regulonformer.report.tables.model import gain_table, model_table
from regulonformer.report.tables.pretraining import (
    ablation_items,
    ablation_table,
    floor_sentence,
    floor_table,
    weights_chosen_there,
)
from regulonformer.report.tables.recipes import gene_table, recipe_table
from regulonformer.report.words.findings import pretraining_gain


def model_section(evidence: Evidence, studio: Studio) -> Section:
    """Sizes and data, loss curves against their floor, loss beside simple predictors, variants."""
    section = Section(
        "model",
        "Model and training",
        (
            "What was pretrained, on what, and how well it fills in values that it does not see, in cells it was "
            "not trained on."
        ),
    )
    if evidence.pretrain_config and evidence.pretrain_run:
        section.blocks.append(model_table(evidence.pretrain_config, evidence.pretrain_run))
    metrics = evidence.pretrain_metrics
    if metrics is not None and not metrics.empty:
        metrics = of_hidden_entries(metrics)
        section.blocks += [
            studio.draw(
                pretraining_curves(metrics),
                "pretraining_curves",
                "Loss during training",
                caption=(
                    "Lower is better. The dashed line is what predicting each gene's mean costs: only below it has the "
                    "model learned more than averages. A blue curve that rises while the grey one falls means "
                    "overfitting."
                ),
                alt=(
                    "Masked loss of RNA and ATAC against training steps, training and held-out cells, with the "
                    "mean-profile floor."
                ),
                source="pretrain/*/metrics.tsv",
            ),
            gain_table(pretraining_gain(metrics)),
        ]
    section.blocks += _beside_simple_predictors(evidence, studio)
    return section


def _beside_simple_predictors(evidence: Evidence, studio: Studio) -> list:
    """Losses beside simple predictors, and variants of the model."""
    blocks = []
    if evidence.pretraining is not None and not evidence.pretraining.empty:
        sizes = (evidence.pretrain_config or {}).get("model", {})
        chosen_there = weights_chosen_there(evidence.pretrain_run)
        blocks += [
            floor_table(evidence.pretraining, sizes.get("predicts", "counts"), chosen_there),
            studio.draw(
                pretraining_floors(evidence.pretraining),
                "forest_pretraining",
                "Loss less that of our model",
                caption=(
                    "How much higher the loss of simple predictors is than ours, on the same hidden values; lines "
                    "are intervals. A point left of the line predicts better than our model, one whose interval "
                    "crosses it cannot be told apart. "
                )
                + floor_sentence(evidence.pretraining, chosen_there),
                alt="Loss of simple predictors less that of our model, with intervals, for RNA and ATAC.",
                source="evaluate/pretraining.tsv",
            ),
        ]
    if evidence.ablation is not None and not evidence.ablation.empty:
        items = ablation_items(evidence.ablation)
        blocks += [ablation_table(evidence.ablation)]
        blocks += [Note("What the parts are worth", items)] if items else []
    if evidence.recipes is not None and not evidence.recipes.empty:
        blocks.append(recipe_table(evidence.recipes))
    if evidence.genes is not None:
        blocks += [gene_table(evidence.genes, dataset) for dataset in evidence.genes["dataset"].unique()]
    return blocks
