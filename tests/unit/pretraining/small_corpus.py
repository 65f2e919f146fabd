"""A small corpus of two states, and a model on it."""

import numpy as np
import pandas as pd

from regulonformer.evaluate.ablation import (
    variant_edges,
)
from regulonformer.evaluate.count_predictors import Profile
from regulonformer.evaluate.masked_cells import masked_batches
from regulonformer.objectives import make_objective
from regulonformer.training.loop import VALIDATION_STREAM
from regulonformer.training.start import build_model

N_CELLS, N_GENES, N_TFS = 150, 60, 6
PRETRAIN = {
    "recipe": "tiny",
    "recipe_settings": {
        "model": {"width": 16, "heads": 2, "slots": 4, "layers": ["regulon", "explorer"]},
        "objective": {"name": "masked"},
    },
    "model": {},
    "steps": 10,
    "batch_cells": 16,
    "learning_rate": 3.0e-3,
    "holdout": "auto",
    "validate_steps": 5,
    "patience": 3,
    "precision": "float32",
    "seed": 0,
}
EVALUATE = {"bootstrap": 200, "confidence": 0.95, "pca_components": 10, "seed": 0}


def start(corpus, regulons, held, variant="prior"):
    """A model before its first step."""
    edges = variant_edges(variant, regulons, corpus.vocabulary, seed=0)
    return build_model(corpus, np.flatnonzero(~held), edges, PRETRAIN)


def hidden(corpus, cells):
    """Some cells, masked, as batches."""
    objective = make_objective(PRETRAIN["recipe_settings"]["objective"], N_GENES)
    return objective, list(masked_batches(objective, corpus, cells, 16, (0, VALIDATION_STREAM)))


def profiles(model):
    parts = (model.heads.gene_log_mean, model.heads.floor_log_dispersion)
    return [Profile(*(part[:, m].numpy().astype(float) for part in parts)) for m in range(2)]


def files(world):
    return {name: world / f"{name}{end}" for name, end in
            (("shards", ""), ("cells", ".parquet"), ("vocabulary", ".tsv"))}  # fmt: skip


def tidy(rows):
    """Scores as the tables hold them."""
    table = pd.DataFrame(rows, columns=["method", "seed", "metric", "value", "ci_low", "ci_high"])
    return table.assign(dataset="toy: hidden values of held-out cells", fold="pooled")
