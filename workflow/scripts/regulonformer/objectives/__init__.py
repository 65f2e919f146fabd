"""Objectives of pretraining, by name.

An objective draws all its randomness in `prepare(batch, generator)`, on the CPU and for the whole batch; what this
returns can be cut with `part(rows)` and moved with `to(device)`; `loss(model, prepared)` gives `LossTerms`.
"""

from regulonformer.errors import InputError

OBJECTIVES = ("masked", "values", "contrast", "fusion", "dynamic")


def make_objective(settings: dict, n_genes: int):
    """Build the objective that a recipe names.

    Parameters
    ----------
    settings
        Block `objective` of a recipe: its `name` (`masked` if not given) and the settings of that objective.
    n_genes
        Genes N of the vocabulary.

    Raises
    ------
    InputError
        If the name or a setting is unknown, or a value out of range.
    """
    settings = dict(settings)
    name = settings.pop("name", "masked")
    if name == "masked":
        from regulonformer.objectives.masked import MaskedConfig, MaskedModelling

        return MaskedModelling(MaskedConfig.from_dict(settings), n_genes)
    if name == "values":
        from regulonformer.objectives.values import ValueConfig, ValueModelling

        return ValueModelling(ValueConfig.from_dict(settings), n_genes)
    if name == "contrast":
        from regulonformer.objectives.contrast import Contrast, ContrastConfig

        return Contrast(*ContrastConfig.split(settings), n_genes)
    if name == "fusion":
        from regulonformer.objectives.fusion import FusionConfig, Staged

        return Staged(*FusionConfig.split(settings), n_genes)
    if name == "dynamic":
        from regulonformer.objectives.dynamic import DynamicConfig, DynamicTokens

        return DynamicTokens(*DynamicConfig.split(settings), n_genes)
    raise InputError("objective.name", f"unknown objective {name!r}", f"Known are {', '.join(OBJECTIVES)}")
