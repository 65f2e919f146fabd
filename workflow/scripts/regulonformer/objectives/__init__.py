"""Objectives of pretraining, by name.

An objective draws all its randomness in `prepare(batch, generator)`, on the CPU and for the whole batch; what this
returns can be cut with `part(rows)` and moved with `to(device)`; `loss(model, prepared)` gives `LossTerms`.
"""

from regulonformer.errors import InputError

OBJECTIVES = ("masked", "values")


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
        from regulonformer.objectives.masked import MaskedConfig as Config
        from regulonformer.objectives.masked import MaskedModelling as Objective
    elif name == "values":
        from regulonformer.objectives.values import ValueConfig as Config
        from regulonformer.objectives.values import ValueModelling as Objective
    else:
        raise InputError("objective.name", f"unknown objective {name!r}", f"Known are {', '.join(OBJECTIVES)}")
    return Objective(Config.from_dict(settings), n_genes)
