"""Stages of a run: objectives that follow each other, each with its part of the steps and of the cells."""

from typing import NamedTuple

import numpy as np

from regulonformer.corpus.shards import Corpus
from regulonformer.errors import InputError
from regulonformer.objectives.base import Objective


class Stage(NamedTuple):
    """A part of the steps with an objective of its own: how many there are, the cells to train on, those to watch."""

    objective: Objective
    steps: int
    cells: np.ndarray
    watched: np.ndarray


def plan_stages(objective: Objective, corpus: Corpus, train_cells, validation_cells, steps: int) -> list[Stage]:
    """Divide the steps among the stages of an objective.

    Raises
    ------
    InputError
        If a stage needs cells with both modalities, and none of the training cells has them.
    """
    paired, cells = ~corpus.missing.any(1), [np.asarray(part) for part in (train_cells, validation_cells)]
    ends = np.rint(np.cumsum([share for _, share in objective.stages]) * steps).astype(int)
    stages = []
    for number, (part, n_steps) in enumerate(zip(objective.stages, np.diff(ends, prepend=0), strict=True), start=1):
        kept = [rows[paired[rows]] if part[0].paired else rows for rows in cells]
        if not len(kept[0]):
            problem = (
                f"stage {number} of the recipe ({part[0].title}) needs cells with RNA and accessibility: there are none"
            )
            fix = "Add a library of both, or choose a recipe that needs no pairs, such as regulon"
            raise InputError("pretrain.recipe", problem, fix)
        stages.append(Stage(part[0], int(n_steps), *kept))
    return stages
