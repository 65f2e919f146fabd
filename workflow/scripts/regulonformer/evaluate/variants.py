"""Encoders that fine-tuning is compared with: not pretrained, or pretrained with other regulons."""

import logging

import numpy as np

from regulonformer.corpus.sampler import hold_out
from regulonformer.evaluate.ablation import REFERENCE, variant_edges
from regulonformer.objectives import make_objective
from regulonformer.training.loop import Trainer
from regulonformer.training.settings import TrainSettings
from regulonformer.training.start import build_model

# Variants in words, as they stand in tables behind the name of the method.
VARIANTS = {
    "frozen": "frozen",
    "full": "full fine-tuning",
    "no_pretraining": "no pretraining",
    "rna": "RNA only",
    "atac": "ATAC only",
    "linear": "linear start only",
    "shuffled": "shuffled prior",
    "none": "no prior",
}
OTHER_PRIORS = ("shuffled", "none")


def variant_encoder(variant: str, corpus, regulons, pretrain: dict, gpu: bool = False):
    """Make the encoder of a variant that the pretrained model cannot stand for.

    Parameters
    ----------
    variant
        `no_pretraining`: the model as it is before its first step; `shuffled`, `none`: trained from regulons that
        `variant_edges` changes, with the settings, cells and seed of the pretrained model.
    corpus
        Cells.
    regulons
        Regulon table.
    pretrain
        Section `pretrain` with its recipe.
    gpu
        Train on the GPU of this process.

    Returns
    -------
    Regulonformer
        In evaluation mode, on the CPU.
    """
    held = hold_out(corpus.cells, pretrain["holdout"], pretrain["seed"])
    train, validation = np.flatnonzero(~held), np.flatnonzero(held)
    edges = variant_edges(
        variant if variant in OTHER_PRIORS else REFERENCE, regulons, corpus.vocabulary, pretrain["seed"]
    )
    model, _ = build_model(corpus, train, edges, pretrain)
    if variant in OTHER_PRIORS:
        objective = make_objective(pretrain["recipe_settings"]["objective"], model.n_genes)
        trainer = Trainer(model, objective, corpus, train, validation, TrainSettings.from_dict(pretrain), gpu=gpu)
        last = [row for row in trainer.run() if row["split"] == "validation"][-1]
        logging.info("pretrained with prior %s: %s", variant, last)
    return model.cpu().eval()
